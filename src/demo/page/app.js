// Where it begins: who am I, and what happens when something happens.

import { Composer } from './composer.js';
import { avatar, byId, el, icon, toast } from './dom.js';
import { Link } from './link.js';
import { Messages } from './messages.js';
import { Model, keyOf } from './model.js';
import { Outbox } from './outbox.js';
import { ServicePanel } from './panel.js';
import { getJson } from './server.js';
import { People, Sidebar } from './sidebar.js';
import { setServerTime } from './times.js';

/** While nobody answers, the page asks again after so long, in ms. */
const ASK_AGAIN = 2000;

/** Not every message of a quick talk needs a marker of its own: one is sent for what was read within this time, in ms. */
const MARK_AFTER = 200;

const pause = (time) => new Promise((done) => setTimeout(done, time));

/** Asks until there is an answer; `waiting(failure)` is told of each try that failed. */
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
  byId('pick-note').textContent = wanted ? `There is nobody called “${wanted}” here.` : '';
  byId('pick-list').replaceChildren(...agents.map((agent) => {
    const address = `/?as=${encodeURIComponent(agent.handle || agent.id)}`;
    return el('li', {},
      el('a', { class: 'pick-card', href: address }, avatar(agent), el('span', { class: 'pick-text' },
        el('strong', {}, agent.name),
        el('small', {}, [agent.handle ? `@${agent.handle}` : '', agent.role].filter(Boolean).join(' · ')))),
      el('a', {
        class: 'icon-button', href: address, target: '_blank', 'aria-label': `Open a window as ${agent.name}`, title: 'In a new window',
      }, icon('window')));
  }));
}

class Chat {
  constructor(me) {
    this.model = new Model(me);
    this.link = new Link(me, {
      event: (event) => this.event(event),
      live: (auth) => this.live(auth),
      state: () => this.linkChanged(),
    });
    this.outbox = new Outbox(this.model, this.link, {
      changed: (key) => { if (this.model.active?.key === key) this.updateSoon(); },
      refused: (item) => this.refused(item),
    });
    this.messages = new Messages(this.model, this.outbox, {
      older: (conversation) => this.loadOlder(conversation),
      read: () => this.markRead(),
      isLive: () => this.link.live,
      retry: (item) => this.outbox.retry(item),
      discard: (item) => this.outbox.remove(item),
      edit: (item) => {
        const conversation = this.model.conversations.get(item.key);
        if (this.composer.giveBack(conversation, item.body, '')) this.outbox.remove(item);
        else toast('Send or clear what is in the box first.');
      },
    });
    this.composer = new Composer(this.model, {
      send: (conversation, body) => this.outbox.add(conversation, body),
      typing: (conversation) => this.link.send({
        type: 'chat.typing', scope: conversation.scope,
        [conversation.scope === 'direct' ? 'thread_id' : 'channel_id']: conversation.id,
      }),
      draft: () => this.sidebar.update(),
    });
    this.sidebar = new Sidebar(this.model, (conversation) => this.open(conversation));
    this.people = new People(this.model, (handle) => this.composer.mention(handle));
    this.panel = new ServicePanel(me, () => this.link.check());
    this.marked = new Map();
    byId('switch').append(icon('switch'));
    byId('open-service').append(icon('pulse'));
    document.querySelector('.skip').onclick = (event) => {
      // Not by way of the address, which names the conversation.
      event.preventDefault();
      this.composer.focus();
    };
    byId('open-service').onclick = () => this.panel.open();
    byId('service').addEventListener('close', () => this.composer.focus());
    document.addEventListener('keydown', (event) => this.key(event));
    document.addEventListener('click', (event) => this.internalLink(event));
    document.addEventListener('visibilitychange', () => this.markRead());
    window.addEventListener('focus', () => this.markRead());
    window.addEventListener('hashchange', () => this.openAddressed());
    window.addEventListener('beforeunload', (event) => {
      if (this.outbox.items.length) event.preventDefault();
    });
    setInterval(() => this.tick(), 1000);
    this.start();
  }

  async start() {
    this.load(await insist(this.statePath(), waits));
    this.composer.restoreDrafts();
    byId('pick').hidden = true;
    byId('chat').hidden = false;
    if (!this.openAddressed()) this.open(this.first());
    this.link.connect();
  }

  statePath() {
    return `/demo/state?agent=${this.model.me}`;
  }

  load(state) {
    setServerTime(state.server_time);
    this.model.load(state);
    if (this.model.active) this.model.active = this.model.conversations.get(this.model.active.key) || null;
  }

  // Conversations

  openAddressed() {
    const found = /^#\/(channel|direct)\/(\d+)$/.exec(location.hash);
    const conversation = found && this.model.conversations.get(keyOf(found[1], Number(found[2])));
    if (conversation && conversation !== this.model.active) this.open(conversation);
    return Boolean(conversation);
  }

  /** What is opened where the address says nothing: the oldest place in which I have a say. */
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
    history.replaceState(null, '', `${location.search}#/${conversation.scope}/${conversation.id}`);
    const channel = conversation.scope === 'channel';
    byId('room-title').textContent = channel ? `# ${conversation.title}` : conversation.title;
    byId('log').setAttribute('aria-label', `Messages in ${conversation.title}`);
    if (this.sidebar.isDrawerOpen()) this.sidebar.drawer(false);
    this.composer.open();
    this.updateAll();
    // On a touch screen the keyboard would cover what was opened.
    if (matchMedia('(hover: hover)').matches) this.composer.focus();
  }

  /** Where the line "New" stands in an open conversation. */
  noteUnread(conversation) {
    const { fresh } = conversation.unread(this.model.me);
    if (!conversation.unreadFrom && fresh.length) conversation.unreadFrom = fresh[0].id;
  }

  async loadOlder(conversation) {
    const { messages, has_more: hasMore } = await this.link.ask({
      type: 'chat.history',
      scope: conversation.scope,
      [conversation.scope === 'direct' ? 'thread_id' : 'channel_id']: conversation.id,
      before_id: conversation.messages[0].id,
    });
    for (const message of messages) conversation.add(message);
    conversation.hasOlder = hasMore;
  }

  about() {
    const conversation = this.model.active;
    if (!conversation) return;
    const online = this.model.online.has(conversation.other) ? 'online' : 'offline';
    const text = conversation.scope === 'channel' ? conversation.about : [conversation.about, online].filter(Boolean).join(' · ');
    if (byId('room-about').textContent !== text) byId('room-about').textContent = text;
  }

  /** Shows what has changed, once for all that this event changes. */
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
    const unread = this.model.unreadInAll();
    const where = this.model.active ? `${this.model.active.title} · ` : '';
    document.title = `${unread ? `(${unread}) ` : ''}${where}Andrea chat`;
  }

  // What the socket says

  async live(auth) {
    this.model.online = new Set(auth.online_agent_ids);
    const socket = this.link.socket;
    try {
      const state = await getJson(this.statePath());
      if (this.link.socket !== socket) return;
      this.load(state);
    } catch {
      return this.link.drop();
    }
    for (const conversation of this.model.conversations.values()) this.outbox.acknowledge(conversation.messages);
    this.marked.clear();
    if (this.model.active && document.hidden) this.noteUnread(this.model.active);
    this.updateAll();
    try {
      await this.outbox.connectionStands((conversation) => this.loadOlder(conversation));
    } catch {
      this.link.drop();
    }
  }

  event(event) {
    switch (event.type) {
      case 'chat.channel.message.created':
      case 'chat.direct.message.created':
        return this.created(event.message, event.ref);
      case 'chat.message.updated':
      case 'chat.message.deleted':
        this.model.change(event);
        return this.updateSoon();
      case 'chat.typing': {
        const conversation = this.model.of(event);
        if (event.agent_id !== this.model.me) conversation?.noteTyping(event.agent_id, Date.now());
        return this.typing();
      }
      case 'chat.read.updated':
        this.model.of(event)?.mark(event.agent_id, event.last_read_message_id);
        return this.updateSoon();
      case 'presence.updated':
        if (event.online) this.model.online.add(event.agent_id);
        else this.model.online.delete(event.agent_id);
        return this.updateSoon();
      case 'error':
        if (!this.outbox.refuse(event) && event.code !== 'rate_limited') toast(event.message);
        return undefined;
      default:
        return undefined;
    }
  }

  created(message, ref) {
    const conversation = this.model.of(message);
    if (!conversation) return;
    if (ref) message.ref = String(ref);
    conversation.add(message);
    if (message.sender_agent_id === this.model.me) this.outbox.acknowledge([message]);
    conversation.typing.delete(message.sender_agent_id);
    if (conversation === this.model.active && !this.isWatched()) this.noteUnread(conversation);
    this.updateSoon();
  }

  refused(item) {
    const conversation = this.model.conversations.get(item.key);
    const reason = `Not sent: ${item.reason}`;
    if (conversation?.canPost && this.composer.giveBack(conversation, item.body, reason)) {
      this.outbox.remove(item);
      if (conversation !== this.model.active) toast(`${conversation.title}: ${reason}`);
    }
  }

  linkChanged() {
    if (!this.link.live) this.outbox?.connectionBroke();
    // For a moment the last that was known is the best guess; after that it is none.
    if (this.link.state === 'offline') this.model.online = new Set();
    if (this.model.active) this.updateSoon();
    this.showLink();
  }

  // Reading

  isWatched() {
    return !document.hidden && document.hasFocus() && this.messages.stuck;
  }

  markRead() {
    if (this.markIsDue || !this.isWatched()) return;
    this.markIsDue = true;
    setTimeout(() => {
      this.markIsDue = false;
      this.sendMark();
    }, MARK_AFTER);
  }

  sendMark() {
    const conversation = this.model.active;
    if (!conversation || !this.link.live || !this.isWatched()) return;
    const newest = conversation.newestId;
    const marker = Math.max(conversation.reads.get(this.model.me) || 0, this.marked.get(conversation.key) || 0);
    if (newest <= marker) return;
    const sent = this.link.send({
      type: 'chat.read', scope: conversation.scope,
      [conversation.scope === 'direct' ? 'thread_id' : 'channel_id']: conversation.id,
      last_read_message_id: newest,
    });
    if (sent) this.marked.set(conversation.key, newest);
  }

  // What is shown beside

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
    // Told once, not every second: only the number of seconds changes.
    if (!banner.firstChild || banner.dataset.reason !== reason) {
      banner.dataset.reason = reason;
      banner.replaceChildren(
        el('span', {}, reason || 'No connection to the chat service. What you write waits here and goes out when it is back.'),
        ...(ended ? [] : [
          el('span', { class: 'banner-count', 'aria-hidden': 'true' }),
          el('button', { type: 'button', class: 'link-button', onclick: () => this.link.check() }, 'Try now'),
          el('button', { type: 'button', class: 'link-button', onclick: () => this.panel.open() }, 'Service panel'),
        ]));
    }
    const count = banner.querySelector('.banner-count');
    if (count) count.textContent = seconds ? `Next try in ${seconds} s` : 'Trying…';
  }

  // Keyboard and links

  key(event) {
    if (byId('service').open || byId('chat').hidden) return;
    if (event.altKey && !event.ctrlKey && !event.metaKey && (event.key === 'ArrowUp' || event.key === 'ArrowDown')) {
      event.preventDefault();
      const step = event.key === 'ArrowDown' ? 1 : -1;
      const all = this.model.inOrder();
      const list = event.shiftKey ? all.filter((one) => one === this.model.active || one.unread(this.model.me).count) : all;
      if (list.length > 1) this.open(list[(list.indexOf(this.model.active) + step + list.length) % list.length]);
    } else if (event.key === 'Escape' && !this.messages.stuck) {
      this.messages.toEnd();
    }
  }

  internalLink(event) {
    const link = event.target.closest?.('.chat-internal-link');
    if (!link) return;
    event.preventDefault();
    toast(`In the helpdesk this opens ${link.textContent.replace(/\s+/g, ' ')}.`);
  }
}

begin();
