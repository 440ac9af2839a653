// Entry point: picks the agent, and connects the events of client and page with the parts of the page.

import { Composer } from './composer.js';
import { avatar, byId, el, icon, remember, toast } from './dom.js';
import { Search, Switcher } from './finder.js';
import { Link } from './link.js';
import { Messages } from './messages.js';
import { Model, keyOf } from './model.js';
import { Notifier } from './notify.js';
import { ServicePanel } from './panel.js';
import { People } from './people.js';
import { getJson, postJson } from './server.js';
import { Sidebar } from './sidebar.js';
import { setServerTime } from './times.js';

/** Interval between retries while the server does not answer, in ms. */
const ASK_AGAIN = 2000;

/** Read markers are sent at most once in this time, in ms: a quick exchange needs no marker for each message. */
const MARK_AFTER = 200;
/** Messages in one page of history, and the most that are loaded to reach the first unread one or a search result. */
const PAGE = 200;
const REACH = 10000;
/** Agents that the list to pick from shows; the filter finds the others. */
const PICKED = 60;

const pause = (time) => new Promise((done) => setTimeout(done, time));

/** Asks until there is an answer; calls `waiting(failure)` after each failed attempt. */
async function insist(path, waiting) {
  for (;;) {
    try {
      return await getJson(path);
    } catch (failure) {
      waiting(failure);
      await pause(ASK_AGAIN);
    }
  }
}

function waits(failure) {
  byId('pick').hidden = false;
  byId('pick-note').textContent = `${failure.message}. Trying again…`;
}

async function begin() {
  const wanted = new URLSearchParams(location.search).get('as');
  const { agents } = await insist('/demo/state', waits);
  const active = agents.filter((agent) => agent.is_active);
  const named = (agent) => [agent.handle, agent.name, agent.name.split(' ')[0], String(agent.id)]
    .some((name) => name?.toLowerCase() === wanted?.toLowerCase());
  const me = active.find(named);
  if (me) new Chat(me.id);
  else pick(active, wanted);
}

function pick(agents, wanted) {
  byId('pick').hidden = false;
  byId('pick-note').textContent = wanted ? `There is no agent called “${wanted}” here.` : '';
  const filter = byId('pick-filter');
  filter.hidden = agents.length < 12;
  const show = () => {
    const word = filter.value.trim().toLowerCase();
    const found = agents.filter((agent) => `${agent.name} @${agent.handle ?? ''}`.toLowerCase().includes(word));
    byId('pick-list').replaceChildren(...found.slice(0, PICKED).map(card));
    if (word || found.length > PICKED) {
      byId('pick-note').textContent = `${found.length} of ${agents.length} agents${found.length > PICKED ? `, ${PICKED} are shown` : ''}`;
    }
  };
  filter.oninput = show;
  show();
}

function card(agent) {
  const address = `/?as=${encodeURIComponent(agent.handle || agent.id)}`;
  return el('li', {},
    el('a', { class: 'pick-card', href: address }, avatar(agent), el('span', { class: 'pick-text' },
      el('strong', { dir: 'auto' }, agent.name),
      el('small', {}, [agent.handle ? `@${agent.handle}` : '', agent.role].filter(Boolean).join(' · ')))),
    el('a', {
      class: 'icon-button', href: address, target: '_blank', 'aria-label': `Open a window as ${agent.name}`, title: 'In a new window',
    }, icon('window')));
}

class Chat {
  constructor(me) {
    this.model = new Model(me);
    this.link = new Link(me, { live: () => this.live(), state: () => this.linkChanged() });
    this.client = this.link.client;
    this.listen();
    const { client } = this;
    this.messages = new Messages(this.model, this.link, {
      older: (conversation) => this.loadOlder(conversation),
      seen: () => this.markRead(),
      isWatched: () => this.isWatched(),
      markAll: () => this.markAll(),
      markFrom: (message) => this.markUnread(message),
      retry: (item) => client.retry(item.ref),
      discard: (item) => client.discard(item.ref),
      edit: (item) => {
        if (this.composer.giveBack(this.model.active, item.body, '')) client.discard(item.ref);
        else toast('Send or clear what is in the box first.');
      },
    });
    this.composer = new Composer(this.model, {
      send: (conversation, body) => client.send(conversation.place, body),
      typing: (conversation) => client.typing(conversation.place),
      draft: () => this.sidebar.update(),
    });
    this.sidebar = new Sidebar(this.model, (conversation) => this.open(conversation));
    const direct = (agent) => this.openDirect(agent);
    this.people = new People(this.model, { mention: (handle) => this.composer.mention(handle), direct });
    this.switcher = new Switcher(this.model, { open: (conversation) => this.open(conversation), direct });
    this.search = new Search(this.model, {
      search: (query, page) => client.search(query, page), go: (message) => this.goTo(message),
    });
    this.notifier = new Notifier((conversation) => this.open(conversation), toast);
    this.panel = new ServicePanel(me, () => this.link.live || client.check());
    this.marked = new Map();
    byId('switch').append(icon('switch'));
    byId('open-service').append(icon('pulse'));
    byId('open-switcher').prepend(icon('find'));
    byId('open-search').append(icon('search'));
    byId('new-direct').append(icon('plus'));
    byId('open-switcher').onclick = byId('new-direct').onclick = () => this.switcher.open();
    byId('open-search').onclick = () => this.search.open();
    document.querySelector('.skip').onclick = (event) => {
      // Not by following the link: the fragment of the address names the conversation.
      event.preventDefault();
      this.composer.focus();
    };
    byId('open-service').onclick = () => this.panel.open();
    for (const id of ['service', 'switcher', 'search']) byId(id).addEventListener('close', () => this.composer.focus());
    document.addEventListener('keydown', (event) => this.key(event));
    document.addEventListener('click', (event) => this.internalLink(event));
    document.addEventListener('visibilitychange', () => this.messages.lookSoon());
    window.addEventListener('focus', () => this.messages.lookSoon());
    window.addEventListener('hashchange', () => this.openAddressed());
    window.addEventListener('beforeunload', (event) => {
      if (client.queue.length) event.preventDefault();
    });
    setInterval(() => this.tick(), 1000);
    this.start();
  }

  /** Subscribes to the client's events. */
  listen() {
    const { client } = this;
    for (const type of ['chat.channel.message.created', 'chat.direct.message.created']) {
      client.on(type, ({ message, ref }) => this.created(message, ref));
    }
    for (const type of ['chat.message.updated', 'chat.message.deleted']) {
      client.on(type, (event) => {
        this.model.change(event);
        this.updateSoon();
      });
    }
    client.on('chat.typing', (event) => {
      if (event.agent_id !== this.model.me) this.model.of(event)?.noteTyping(event.agent_id, Date.now());
      this.typing();
    });
    client.on('chat.read.updated', (event) => {
      this.model.of(event)?.mark(event.agent_id, event.last_read_message_id);
      this.updateSoon();
    });
    client.on('presence.updated', () => {
      this.model.online = new Set(client.online);
      this.updateSoon();
    });
    client.on('error', (event) => { if (event.code !== 'rate_limited') toast(event.message); });
    client.on('queue', () => this.updateSoon());
    client.on('failed', (item) => this.refused(item));
  }

  async start() {
    this.load(await insist(this.statePath(), waits));
    this.composer.restoreDrafts();
    byId('pick').hidden = true;
    byId('chat').hidden = false;
    if (!this.openAddressed()) this.open(this.first());
    this.client.connect();
  }

  statePath() {
    return `/demo/state?agent=${this.model.me}`;
  }

  load(state) {
    setServerTime(state.server_time);
    this.model.load(state);
    if (this.model.active) this.model.active = this.model.conversations.get(this.model.active.key) || null;
    for (const [key, id] of Object.entries(this.markedUnread())) {
      const conversation = this.model.conversations.get(key);
      if (conversation && conversation !== this.model.active) conversation.markedFrom = id;
    }
  }

  // Conversations

  openAddressed() {
    const found = /^#\/(channel|direct)\/(\d+)$/.exec(location.hash);
    const conversation = found && this.model.conversations.get(keyOf(found[1], Number(found[2])));
    if (conversation && conversation !== this.model.active) this.open(conversation);
    return Boolean(conversation);
  }

  /** The conversation to open if the address names none: the oldest channel in which this agent may post. */
  first() {
    const all = this.model.inOrder();
    return all.filter((one) => one.scope === 'channel' && one.canPost).sort((a, b) => a.id - b.id)[0] || all[0];
  }

  open(conversation) {
    if (!conversation) {
      byId('room-title').textContent = 'No conversations';
      byId('room-about').textContent = 'You are in no channel yet.';
      byId('composer').hidden = true;
      return this.updateAll();
    }
    if (this.model.active) this.model.active.unreadFrom = 0;
    this.model.active = conversation;
    this.noteUnread(conversation);
    if (conversation.markedFrom) this.markUnread(null);
    this.reachUnread(conversation);
    history.replaceState(null, '', `${location.search}#/${conversation.scope}/${conversation.id}`);
    const channel = conversation.scope === 'channel';
    byId('room-title').textContent = channel ? `# ${conversation.title}` : conversation.title;
    byId('log').setAttribute('aria-label', `Messages in ${conversation.title}`);
    if (this.sidebar.isDrawerOpen()) this.sidebar.drawer(false);
    this.composer.open();
    this.updateAll();
    this.sidebar.reveal(conversation);
    // Not on a touch screen, where the keyboard would cover the conversation.
    if (matchMedia('(hover: hover)').matches) this.composer.focus();
  }

  /** Puts the line "New" above the first unread message, unless it is set already. */
  noteUnread(conversation) {
    const { fresh } = conversation.unread(this.model.me);
    if (!conversation.unreadFrom && fresh.length) conversation.unreadFrom = fresh[0].id;
  }

  async loadOlder(conversation) {
    const before = conversation.messages[0]?.id;
    const { messages, has_more: hasMore } = await this.client.history(conversation.place, { before_id: before, limit: PAGE });
    for (const message of messages) conversation.add(message);
    conversation.hasOlder = hasMore;
  }

  /** Loads older messages until this one is loaded, or `REACH` are; returns whether it is. */
  async reach(conversation, id) {
    while (conversation.hasOlder && conversation.messages[0].id > id && conversation.messages.length < REACH) {
      await this.loadOlder(conversation);
    }
    return conversation.messages.length > 0 && conversation.messages[0].id <= id;
  }

  /** Loads the first unread message if it is older than what is loaded. */
  async reachUnread(conversation) {
    const marker = conversation.reads.get(this.model.me) || 0;
    const isFar = conversation.unreadBeyond && conversation.hasOlder && conversation.messages[0].id > marker + 1;
    if (!isFar || !this.link.live) return;
    try {
      await this.reach(conversation, marker + 1);
    } catch {
      return;
    }
    conversation.unreadBeyond = 0;
    conversation.version += 1;
    if (this.model.active !== conversation) return;
    conversation.unreadFrom = 0;
    this.noteUnread(conversation);
    this.messages.place();
    this.updateAll();
  }

  /** Opens the conversation of a search result and shows it. */
  async goTo(message) {
    const conversation = this.model.of(message);
    if (!conversation) return;
    this.open(conversation);
    try {
      if (!await this.reach(conversation, message.id)) toast('This message is too far back to be shown here.');
      else if (this.model.active === conversation) this.messages.goToMessage(message.id);
    } catch (failure) {
      toast(failure.message);
    }
  }

  /** Opens the direct conversation with an agent, and creates it if there is none. */
  async openDirect(agent) {
    let conversation = this.model.directWith(agent);
    if (!conversation) {
      try {
        await postJson('/demo/threads', { agent: this.model.me, with: agent });
        this.load(await getJson(this.statePath()));
      } catch (failure) {
        toast(failure.message);
        return;
      }
      conversation = this.model.directWith(agent);
    }
    this.open(conversation);
  }

  about() {
    const conversation = this.model.active;
    if (!conversation) return;
    const online = this.model.online.has(conversation.other) ? 'online' : 'offline';
    const text = conversation.scope === 'channel' ? conversation.about : [conversation.about, online].filter(Boolean).join(' · ');
    if (byId('room-about').textContent !== text) byId('room-about').textContent = text;
  }

  /** Updates the page once after the current event, however often it is called. */
  updateSoon() {
    if (this.updateIsDue) return;
    this.updateIsDue = true;
    queueMicrotask(() => {
      this.updateIsDue = false;
      this.updateAll();
    });
  }

  updateAll() {
    this.about();
    this.sidebar.update();
    this.people.update();
    this.messages.update();
    this.typing();
    this.title();
  }

  title() {
    this.notifier.unread(this.model.unreadInAll(), this.model.active?.title);
  }

  // Events of the client

  /** After each connection. The client catches up on messages; markers, edits and new conversations come with the state. */
  async live() {
    this.model.online = new Set(this.client.online);
    for (let state = null; !state && this.link.live;) {
      try {
        state = await getJson(this.statePath());
        this.load(state);
      } catch {
        await pause(ASK_AGAIN);
      }
    }
    this.marked.clear();
    if (this.model.active && !this.isWatched()) this.noteUnread(this.model.active);
    if (this.model.active) this.reachUnread(this.model.active);
    this.updateAll();
  }

  async created(message, ref) {
    let conversation = this.model.of(message);
    if (!conversation) {
      // Another agent has just begun it. All its messages share one request.
      this.reload ??= getJson(this.statePath()).then((state) => this.load(state)).finally(() => { this.reload = null; });
      try {
        await this.reload;
      } catch {
        return;
      }
      conversation = this.model.of(message);
      if (!conversation) return;
    }
    if (ref) message.ref = String(ref);
    conversation.add(message);
    conversation.typing.delete(message.sender_agent_id);
    const isOwn = message.sender_agent_id === this.model.me;
    if (!isOwn) this.notifier.message(message, conversation);
    if (conversation === this.model.active && !this.isWatched()) this.noteUnread(conversation);
    this.updateSoon();
  }

  refused(item) {
    const conversation = this.model.conversations.get(item.thread_id ? keyOf('direct', item.thread_id) : keyOf('channel', item.channel_id));
    const reason = `Not sent: ${item.error.message}`;
    if (conversation?.canPost && this.composer.giveBack(conversation, item.body, reason)) {
      this.client.discard(item.ref);
      if (conversation !== this.model.active) toast(`${conversation.title}: ${reason}`);
    }
  }

  linkChanged() {
    // During a short loss the last known presence is the best guess; offline, nothing is known.
    if (this.link.state === 'offline') this.model.online = new Set();
    if (this.model.active) this.updateSoon();
    this.showLink();
  }

  // Reading

  isWatched() {
    return !document.hidden && document.hasFocus() && !document.querySelector('dialog[open]');
  }

  markRead() {
    if (this.markIsDue) return;
    this.markIsDue = true;
    setTimeout(() => {
      this.markIsDue = false;
      const conversation = this.model.active;
      if (conversation && !conversation.markedFrom) this.sendMark(conversation, conversation.readTo(this.model.me));
    }, MARK_AFTER);
  }

  /** Marks the whole open conversation as read, at the reader's request. */
  markAll() {
    const conversation = this.model.active;
    this.markUnread(null);
    for (const message of conversation.messages) conversation.seen.add(message.id);
    conversation.unreadBeyond = 0;
    this.sendMark(conversation, conversation.newestId);
    this.messages.toNewest();
  }

  sendMark(conversation, id) {
    const marker = Math.max(conversation.reads.get(this.model.me) || 0, this.marked.get(conversation.key) || 0);
    if (!this.link.live || id <= marker) return;
    this.marked.set(conversation.key, id);
    // A marker that is lost with the connection may be sent again over the next one.
    this.client.markRead(conversation.place, id).catch(() => this.marked.delete(conversation.key));
  }

  markedUnread() {
    try {
      return JSON.parse(localStorage.getItem(`andrea-chat-unread-${this.model.me}`)) ?? {};
    } catch {
      return {};
    }
  }

  /** Marks the open conversation unread from a message on, only in this browser: the stored marker never moves back.
   * Without a message, removes that mark. */
  markUnread(message) {
    const conversation = this.model.active;
    conversation.markedFrom = message?.id ?? 0;
    conversation.version += 1;
    if (message) conversation.unreadFrom = message.id;
    const all = { ...this.markedUnread(), [conversation.key]: message?.id };
    remember(`andrea-chat-unread-${this.model.me}`, JSON.stringify(all));
    this.updateSoon();
  }

  // Typing line and connection state

  tick() {
    this.typing();
    if (!this.link.live) this.showLink();
  }

  typing() {
    const ids = this.model.active?.typists(Date.now()) || [];
    const names = ids.map((id) => this.model.agent(id).name.split(' ')[0]);
    const line = byId('typing');
    const text = names.length === 0 ? ''
      : names.length === 1 ? `${names[0]} is typing`
        : names.length === 2 ? `${names[0]} and ${names[1]} are typing` : `${names.length} people are typing`;
    if (line.dataset.text === text) return;
    line.dataset.text = text;
    line.replaceChildren(...(text ? [el('span', { class: 'dots', 'aria-hidden': 'true' }, el('i'), el('i'), el('i')), text] : []));
  }

  showLink() {
    const { state, reason, ended } = this.link;
    const words = { live: 'Live', connecting: 'Connecting', reconnecting: 'Reconnecting', offline: 'Offline' };
    const pill = byId('link-state');
    if (pill.dataset.state !== state) {
      pill.dataset.state = state;
      pill.replaceChildren(el('i', {}), el('span', {}, words[state]));
    }
    const banner = byId('banner');
    const seconds = Math.max(0, Math.ceil((this.link.nextTry - Date.now()) / 1000));
    const show = state === 'offline';
    banner.hidden = !show;
    if (!show) return;
    // Rebuilt only for a new reason, so that screen readers do not repeat it every second with the countdown.
    if (!banner.firstChild || banner.dataset.reason !== reason) {
      banner.dataset.reason = reason;
      banner.replaceChildren(
        el('span', {}, reason || 'No connection to the chat service. What you write waits here and goes out when it is back.'),
        ...(ended ? [] : [
          el('span', { class: 'banner-count', 'aria-hidden': 'true' }),
          el('button', { type: 'button', class: 'link-button', onclick: () => this.client.check() }, 'Try now'),
          el('button', { type: 'button', class: 'link-button', onclick: () => this.panel.open() }, 'Service panel'),
        ]));
    }
    const count = banner.querySelector('.banner-count');
    if (count) count.textContent = seconds ? `Next try in ${seconds} s` : 'Trying…';
  }

  // Keyboard and links

  key(event) {
    if (byId('chat').hidden || document.querySelector('dialog[open]')) return;
    const { key, altKey, shiftKey } = event;
    const command = event.ctrlKey || event.metaKey;
    const act = (action) => {
      event.preventDefault();
      action();
    };
    if (command && !altKey && key.toLowerCase() === 'k') return act(() => this.switcher.open());
    if (command && !altKey && shiftKey && key.toLowerCase() === 'f') return act(() => this.search.open());
    if (command) return undefined;
    if (altKey && (key === 'ArrowUp' || key === 'ArrowDown')) return act(() => this.step(key === 'ArrowDown' ? 1 : -1, shiftKey));
    if (altKey && key.toLowerCase() === 'u') {
      const last = this.model.active?.messages.findLast((message) => message.sender_agent_id !== this.model.me && !message.deleted_at);
      return last && act(() => this.markUnread(last));
    }
    if (key === 'Escape' && !this.messages.stuck) return this.messages.toNewest();
    // A key typed anywhere goes to the message box.
    const isTyping = key.length === 1 && key !== ' ' && !altKey && !event.isComposing;
    if (isTyping && !event.target.closest('input, textarea, select, [contenteditable]')) this.composer.focus();
    return undefined;
  }

  step(step, onlyUnread) {
    const all = this.model.inOrder();
    const list = onlyUnread ? all.filter((one) => one === this.model.active || one.unread(this.model.me).count) : all;
    if (list.length > 1) this.open(list[(list.indexOf(this.model.active) + step + list.length) % list.length]);
  }

  internalLink(event) {
    const link = event.target.closest?.('.chat-internal-link');
    if (!link) return;
    event.preventDefault();
    toast(`In the helpdesk this opens ${link.textContent.replace(/\s+/g, ' ')}.`);
  }
}

begin();
