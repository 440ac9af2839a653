// The data of the page: agents, conversations, messages, markers. Uses neither DOM nor socket.

import { refOf } from './andrea-chat.js';

const alphabet = new Intl.Collator();

export const keyOf = (scope, id) => `${scope}:${id}`;

/** How long an agent counts as typing after the last typing event, in ms. */
const TYPING_FOR = 4500;

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
    // Number of unread messages that are older than the loaded ones.
    this.unreadBeyond = 0;
    // Id of the first unread message when the conversation was opened, 0 for none.
    this.unreadFrom = 0;
    // Id of the message from which it was marked unread, only in this browser; 0 for none.
    this.markedFrom = 0;
    // Ids of the messages after the marker that have been on the screen.
    this.seen = new Set();
    // Changes with the messages, to invalidate what is derived from them.
    this.version = 0;
  }

  /** The id as the protocol and the client name it. */
  get place() {
    return this.scope === 'direct' ? { thread_id: this.id } : { channel_id: this.id };
  }

  get newestId() {
    return this.messages.length ? this.messages[this.messages.length - 1].id : 0;
  }

  /** The index of the first message with this id or a larger one. */
  indexOf(id) {
    let [low, high] = [0, this.messages.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.messages[middle].id < id) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  /** Adds a message in the order of ids; returns false if it is known already. */
  add(message) {
    message.ref ??= refOf(message);
    const place = message.id > this.newestId ? this.messages.length : this.indexOf(message.id);
    if (this.messages[place]?.id === message.id) return false;
    this.messages.splice(place, 0, message);
    this.version += 1;
    return true;
  }

  /** Adds the server's newest messages. Keeps the older known ones unless there may be a gap between the two. */
  merge(messages, hasOlder) {
    const known = (id) => this.messages[this.indexOf(id)]?.id === id;
    const connects = !hasOlder || messages.some(({ id }) => known(id));
    const isEmpty = !this.messages.length;
    if (!connects) this.messages = this.messages.filter((message) => messages.length && message.id > messages[messages.length - 1].id);
    if (!hasOlder || !connects || isEmpty) this.hasOlder = hasOlder;
    for (const message of messages) this.add(message);
    this.version += 1;
  }

  /** The id up to which this agent has read, as this browser shows it. */
  marker(me) {
    const stored = this.reads.get(me) || 0;
    return this.markedFrom ? Math.min(stored, this.markedFrom - 1) : stored;
  }

  unread(me) {
    const marker = this.marker(me);
    const signature = `${marker} ${this.version} ${this.unreadBeyond}`;
    if (this.unreadOf !== signature) {
      const fresh = this.messages.slice(this.indexOf(marker + 1))
        .filter((message) => message.sender_agent_id !== me && !message.deleted_at);
      const reachesBack = this.messages.length > 0 && marker >= this.messages[0].id;
      this.unreadOf = signature;
      this.unreadIs = { count: fresh.length + (reachesBack ? 0 : this.unreadBeyond), fresh };
    }
    return this.unreadIs;
  }

  /** The id to which the marker may move: it skips no message of others that has not been on the screen. */
  readTo(me) {
    const marker = this.reads.get(me) || 0;
    let last = marker;
    if (this.hasOlder && this.messages.length && marker < this.messages[0].id) return last;
    for (let at = this.indexOf(marker + 1); at < this.messages.length; at += 1) {
      const message = this.messages[at];
      if (message.sender_agent_id !== me && !message.deleted_at && !this.seen.has(message.id)) break;
      last = message.id;
    }
    return last;
  }

  /** Ids of the agents who are typing now. */
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

  /** Takes over the response of GET /demo/state. */
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
        // The server counted when it answered. Messages that came live since then are loaded, and count as `fresh`.
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

  /** Takes over a message that was edited, or notes that one was deleted. */
  change(event) {
    const conversation = this.of(event.message || event);
    const id = event.message?.id || event.message_id;
    const place = conversation?.indexOf(id) ?? -1;
    const known = conversation?.messages[place];
    if (known?.id !== id) return;
    const gone = { deleted_at: event.deleted_at, body_text: '', body_rendered_html: null };
    conversation.messages[place] = { ...known, ...(event.message || gone) };
    conversation.version += 1;
  }

  /** The conversation that an event or a message names. */
  of(event) {
    const scope = event.scope || event.message_scope;
    return this.conversations.get(keyOf(scope, scope === 'direct' ? event.thread_id : event.channel_id));
  }

  /** Channels by name, direct messages by the newest message. */
  list(scope) {
    const byTitle = (a, b) => alphabet.compare(a.title, b.title);
    const order = scope === 'direct' ? (a, b) => b.newestId - a.newestId || byTitle(a, b) : byTitle;
    return [...this.conversations.values()].filter((conversation) => conversation.scope === scope).sort(order);
  }

  /** The direct conversation with an agent, if there is one. */
  directWith(agent) {
    return [...this.conversations.values()].find((one) => one.scope === 'direct' && one.other === agent);
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
    let sum = 0;
    for (const one of this.conversations.values()) sum += one.unread(this.me).count;
    return sum;
  }
}
