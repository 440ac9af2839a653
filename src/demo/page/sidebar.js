// The list of conversations, the people of the open one, and who I am.

import { arrange, avatar, byId, el, icon } from './dom.js';

export class Sidebar {
  constructor(model, choose) {
    this.model = model;
    this.choose = choose;
    this.entries = new Map();
    byId('drawer-open').append(icon('menu'));
    byId('drawer-close').append(icon('close'));
    byId('drawer-open').onclick = () => this.drawer(true);
    byId('drawer-close').onclick = () => this.drawer(false);
    byId('scrim').addEventListener('click', () => { if (this.isDrawerOpen()) this.drawer(false); });
    byId('sidebar').addEventListener('keydown', (event) => {
      if (event.key === 'Escape' && this.isDrawerOpen()) {
        event.stopPropagation();
        this.drawer(false);
      }
    });
    // Without the drawer's rules an open one would stay in the way of the keyboard.
    matchMedia('(max-width: 760px)').addEventListener('change', () => this.drawer(false, false));
    this.drawer(false, false);
  }

  isDrawerOpen() {
    return document.body.classList.contains('drawer-open');
  }

  /** Shows or hides the list where the window is narrow. */
  drawer(open, moveFocus = true) {
    const narrow = matchMedia('(max-width: 760px)').matches;
    document.body.classList.toggle('drawer-open', open);
    byId('drawer-open').setAttribute('aria-expanded', String(open));
    byId('sidebar').inert = narrow && !open;
    document.querySelector('.room').inert = narrow && open;
    if (moveFocus && narrow) (open ? byId('drawer-close') : byId('drawer-open')).focus();
  }

  update() {
    for (const [scope, list] of [['channel', byId('channels')], ['direct', byId('directs')]]) {
      const items = this.model.list(scope).map((conversation) => this.entry(conversation));
      if (!items.length) items.push(this.nothing(scope));
      arrange(list, items);
    }
    this.updateMe();
    this.updateOthers();
  }

  nothing(scope) {
    const key = `nothing-${scope}`;
    if (!this.entries.has(key)) {
      const text = scope === 'channel' ? 'You are in no channel.' : 'Nobody has written to you directly.';
      this.entries.set(key, el('li', { class: 'nothing' }, text));
    }
    return this.entries.get(key);
  }

  entry(conversation) {
    let entry = this.entries.get(conversation.key);
    if (!entry) {
      const button = el('button', {
        type: 'button', class: 'entry', 'data-key': conversation.key, onclick: () => this.choose(conversation),
      });
      entry = el('li', {}, button);
      this.entries.set(conversation.key, entry);
    }
    const { count, fresh } = conversation.unread(this.model.me);
    const mentioned = fresh.some((message) => this.model.mentionsMe(message));
    const other = conversation.scope === 'direct' ? this.model.agent(conversation.other) : null;
    const online = other && this.model.online.has(other.id);
    const active = this.model.active === conversation;
    const drafted = !active && conversation.draft.trim() !== '';
    const signature = JSON.stringify([conversation.title, count, mentioned, online, active, drafted, conversation.canPost]);
    if (entry.signature === signature) return entry;
    entry.signature = signature;
    const button = entry.firstChild;
    button.classList.toggle('unread', count > 0);
    if (active) button.setAttribute('aria-current', 'page');
    else button.removeAttribute('aria-current');
    const lead = other ? avatar(other, online) : icon(conversation.canPost ? 'hash' : 'lock');
    const remarks = [];
    if (other) remarks.push(online ? 'online' : 'offline');
    if (!conversation.canPost) remarks.push('read only');
    if (drafted) remarks.push('has a draft');
    if (count) remarks.push(`${count} unread${mentioned ? ', you are mentioned' : ''}`);
    button.replaceChildren(
      lead,
      el('span', { class: 'entry-name' }, conversation.title),
      drafted ? el('span', { class: 'entry-draft', 'aria-hidden': 'true' }, 'Draft') : '',
      count ? el('span', { class: mentioned ? 'badge mention' : 'badge', 'aria-hidden': 'true' },
        `${mentioned ? '@' : ''}${count > 99 ? '99+' : count}`) : '',
      el('span', { class: 'sr' }, remarks.length ? `, ${remarks.join(', ')}` : ''),
    );
    return entry;
  }

  /** A demo is more fun in two windows. */
  updateOthers() {
    const others = [...this.model.agents.values()].filter((agent) => agent.is_active && agent.id !== this.model.me);
    const signature = JSON.stringify(others);
    if (this.othersSignature === signature) return;
    this.othersSignature = signature;
    byId('others').replaceChildren(el('span', {}, 'Second window as'), ...others.slice(0, 4).map((agent) => el('a', {
      href: `/?as=${encodeURIComponent(agent.handle || agent.id)}`,
      target: '_blank', title: agent.name, 'aria-label': `Open a second window as ${agent.name}`,
    }, avatar(agent))));
  }

  updateMe() {
    const me = this.model.agent(this.model.me);
    const online = this.model.online.has(me.id);
    const signature = JSON.stringify([me, online]);
    if (this.mySignature === signature) return;
    this.mySignature = signature;
    byId('me').replaceChildren(avatar(me, online), el('span', { class: 'me-text' },
      el('strong', {}, me.name), el('small', {}, me.handle ? `@${me.handle}` : me.role)));
  }
}

/** The panel with the people of the open conversation, and the button that shows it. */
export class People {
  constructor(model, mention) {
    this.model = model;
    this.mention = mention;
    byId('people-toggle').onclick = () => this.show(byId('people').hidden);
    byId('people').addEventListener('keydown', (event) => {
      if (event.key === 'Escape') {
        this.show(false);
        byId('people-toggle').focus();
      }
    });
    byId('scrim').addEventListener('click', () => this.show(false));
    const beside = matchMedia('(min-width: 1101px)');
    const follow = () => this.show(beside.matches && localStorage.getItem('andrea-chat-people') !== '0', false);
    beside.addEventListener('change', follow);
    follow();
  }

  show(open, remember = true) {
    byId('people').hidden = !open;
    document.body.classList.toggle('people-open', open);
    byId('people-toggle').setAttribute('aria-expanded', String(open));
    if (remember && innerWidth > 1100) localStorage.setItem('andrea-chat-people', open ? '1' : '0');
  }

  update() {
    const conversation = this.model.active;
    if (!conversation) return;
    const online = (id) => this.model.online.has(id);
    const people = conversation.members
      .map(({ id, canPost }) => ({ ...this.model.agent(id), canPost }))
      .filter((agent) => agent.is_active !== false)
      .sort((a, b) => online(b.id) - online(a.id) || a.name.localeCompare(b.name));
    const signature = JSON.stringify([conversation.key, people, people.map((agent) => online(agent.id))]);
    if (this.signature === signature) return;
    this.signature = signature;
    const here = people.filter((agent) => online(agent.id));
    const stack = el('span', { class: 'stack', 'aria-hidden': 'true' },
      ...people.slice(0, 3).map((agent) => avatar(agent)));
    byId('people-toggle').replaceChildren(stack,
      el('span', { class: 'people-count' }, `${here.length} of ${people.length} online`));
    byId('people-toggle').title = 'Who is here';
    const group = (title, agents) => (agents.length ? [
      el('h3', {}, `${title} – ${agents.length}`),
      el('ul', {}, ...agents.map((agent) => this.person(agent, online(agent.id)))),
    ] : []);
    byId('people').replaceChildren(
      el('header', { class: 'people-head' }, el('h2', {}, 'People'),
        el('button', {
          class: 'icon-button', type: 'button', 'aria-label': 'Hide the people', onclick: () => {
            this.show(false);
            byId('people-toggle').focus();
          },
        }, icon('close'))),
      ...group('Online', here),
      ...group('Offline', people.filter((agent) => !online(agent.id))),
    );
  }

  person(agent, online) {
    const me = agent.id === this.model.me;
    const about = [agent.handle ? `@${agent.handle}` : '', agent.role === 'admin' ? 'admin' : '', agent.canPost ? '' : 'reads only'];
    const content = [avatar(agent, online), el('span', { class: 'person-text' },
      el('span', { class: 'person-name' }, agent.name, me ? el('small', {}, ' (you)') : null),
      el('small', {}, about.filter(Boolean).join(' · ')),
      el('span', { class: 'sr' }, online ? ', online' : ', offline'))];
    if (me || !agent.handle || !this.model.active.canPost) return el('li', { class: 'person' }, ...content);
    return el('li', {}, el('button', {
      type: 'button', class: 'person', title: `Mention @${agent.handle}`, onclick: () => this.mention(agent.handle),
    }, ...content));
  }
}
