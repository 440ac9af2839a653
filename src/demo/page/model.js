// What the page knows: agents, conversations, messages, markers. No element of the page and no socket in here.

export const keyOf = (scope, id) => `${scope}:${id}`;

/** How long somebody counts as typing after his last keystroke, in ms. */
const TYPING_FOR = 4500;

/** The `ref` that a message was sent with; the server keeps it with the message. */
function refOf(message) {
  try {
    return String(JSON.parse(message.metadata_json)?.ref ?? '');
  } catch {
    return '';
  }
}

/** One channel or direct thread as one agent sees it. */
class Conversation {
  constructor(scope, id) {
    this.scope = scope;
    this.id = id;
    this.key = keyOf(scope, id);
    this.messages = [];
    this.hasOlder = false;
    this.reads = new Map();
    this.typing = new Map();
    this.draft = '';
    // Unread messages that are older than what is loaded.
    this.unreadBeyond = 0;
    // The first unread message at the time when the conversation was opened.
    this.unreadFrom = 0;
  }

  get newestId() {
    return this.messages.length ? this.messages[this.messages.length - 1].id : 0;
  }

  /** Adds a message where it belongs; false where it is known already. */
  add(message) {
    message.ref ??= refOf(message);
    let place = this.messages.length;
    while (place > 0 && this.messages[place - 1].id > message.id) place -= 1;
    if (place > 0 && this.messages[place - 1].id === message.id) return false;
    this.messages.splice(place, 0, message);
    return true;
  }

  /** What the server has in place of what was known; messages that reach further back are kept where no gap is left. */
  merge(messages, hasOlder) {
    const connects = !hasOlder || this.messages.some((known) => messages.some((fresh) => fresh.id === known.id));
    const old = new Map(this.messages.map((message) => [message.id, message]));
    if (!connects) {
      this.messages = this.messages.filter((message) => messages.length && message.id > messages[messages.length - 1].id);
    }
    if (!hasOlder || !connects || !old.size) this.hasOlder = hasOlder;
    for (const message of messages) this.add(old.get(message.id) || message);
  }

  unread(me) {
    const marker = this.reads.get(me) || 0;
    const fresh = this.messages.filter((message) => message.id > marker && message.sender_agent_id !== me);
    const reachesBack = this.messages.length > 0 && marker >= this.messages[0].id;
    return { count: fresh.length + (reachesBack ? 0 : this.unreadBeyond), fresh };
  }

  /** Ids of those who type now, without `me`. */
  typists(now) {
    for (const [agent, until] of this.typing) if (until <= now) this.typing.delete(agent);
    return [...this.typing.keys()];
  }

  noteTyping(agent, now) {
    this.typing.set(agent, now + TYPING_FOR);
  }

  mark(agent, id) {
    if (id > (this.reads.get(agent) || 0)) this.reads.set(agent, id);
  }
}

export class Model {
  constructor(me) {
    this.me = me;
    this.agents = new Map();
    this.conversations = new Map();
    this.online = new Set();
    this.active = null;
    this.maxLength = 4000;
  }

  agent(id) {
    return this.agents.get(id) || { id, name: `Agent ${id}`, handle: null, role: 'agent' };
  }

  /** Takes over GET /demo/state. */
  load(state) {
    this.maxLength = state.max_message_length;
    this.agents = new Map(state.agents.map((agent) => [agent.id, agent]));
    const seen = new Set();
    for (const [scope, rows] of [['channel', state.channels], ['direct', state.threads]]) {
      for (const row of rows) {
        const conversation = this.conversations.get(keyOf(scope, row.id)) || new Conversation(scope, row.id);
        seen.add(conversation.key);
        this.conversations.set(conversation.key, conversation);
        this.describe(conversation, row);
        conversation.merge(row.messages.map((event) => event.message), row.has_older);
        for (const { agent_id: agent, last_read_message_id: id } of row.reads) conversation.mark(agent, id);
        conversation.unreadBeyond = 0;
        const loaded = conversation.unread(this.me).fresh.length;
        // The count is of the time of the answer; what came live since then is loaded too and counts by itself.
        conversation.unreadBeyond = Math.max(0, row.unread - loaded);
      }
    }
    for (const key of this.conversations.keys()) if (!seen.has(key)) this.conversations.delete(key);
  }

  describe(conversation, row) {
    if (conversation.scope === 'channel') {
      conversation.title = row.name;
      conversation.about = row.description || '';
      conversation.canPost = row.can_post;
      conversation.members = row.members.map((member) => ({ id: member.agent_id, canPost: member.can_post }));
      return;
    }
    conversation.other = row.agent_ids.find((id) => id !== this.me);
    const other = this.agent(conversation.other);
    conversation.title = other.name;
    conversation.about = other.handle ? `@${other.handle}` : '';
    conversation.canPost = other.is_active !== false;
    conversation.members = row.agent_ids.map((id) => ({ id, canPost: true }));
  }

  /** Takes over a message that was edited, or takes out one that was deleted. */
  change(event) {
    const conversation = this.of(event.message || event);
    const id = event.message?.id || event.message_id;
    const place = conversation?.messages.findIndex((message) => message.id === id) ?? -1;
    if (place < 0) return;
    if (event.message) conversation.messages[place] = { ...event.message, ref: conversation.messages[place].ref };
    else conversation.messages.splice(place, 1);
  }

  /** The conversation that an event or a message names. */
  of(event) {
    const scope = event.scope || event.message_scope;
    return this.conversations.get(keyOf(scope, scope === 'direct' ? event.thread_id : event.channel_id));
  }

  list(scope) {
    return [...this.conversations.values()]
      .filter((conversation) => conversation.scope === scope)
      .sort((a, b) => a.title.localeCompare(b.title));
  }

  /** All conversations in the order in which they are shown. */
  inOrder() {
    return [...this.list('channel'), ...this.list('direct')];
  }

  /** Whether a message names me. */
  mentionsMe(message) {
    const handle = this.agent(this.me).handle;
    if (!handle || message.sender_agent_id === this.me) return false;
    const escaped = handle.toLowerCase().replace(/[.*+?^${}()|[\]\\]/g, '\\$&');
    return new RegExp(`<span class="chat-mention">@${escaped}</span>`).test(message.body_rendered_html || '');
  }

  unreadInAll() {
    return [...this.conversations.values()].reduce((sum, one) => sum + one.unread(this.me).count, 0);
  }
}
