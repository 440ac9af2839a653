// The list of conversations, and the agent's own entry. Only the visible part of a long list is in the page.

import { arrange, avatar, byId, el, icon } from './dom.js';

/** Up to this many conversations, the whole list is in the page. */
const WHOLE = 60;
/** Entries above and below the visible part that are in the page too. */
const BESIDE = 8;

export class Sidebar {
  constructor(model, choose) {
    this.model = model;
    this.choose = choose;
    this.entries = new Map();
    this.lists = document.querySelector('.lists');
    byId('drawer-open').append(icon('menu'), el('span', { id: 'menu-badge', class: 'badge', 'aria-hidden': 'true', hidden: true }));
    byId('drawer-close').append(icon('close'));
    byId('drawer-open').onclick = () => this.drawer(true);
    byId('drawer-close').onclick = () => this.drawer(false);
    byId('scrim').addEventListener('click', () => { if (this.isDrawerOpen()) this.drawer(false); });
    byId('sidebar').addEventListener('keydown', (event) => this.key(event));
    this.lists.addEventListener('scroll', () => this.update(), { passive: true });
    new ResizeObserver(() => this.update()).observe(this.lists);
    byId('unread-above').onclick = () => this.reveal(this.nearest(-1));
    byId('unread-below').onclick = () => this.reveal(this.nearest(1));
    // A wide window has no drawer: one that stayed open would keep the conversation inert.
    matchMedia('(max-width: 760px)').addEventListener('change', () => this.drawer(false, false));
    this.drawer(false, false);
  }

  isDrawerOpen() {
    return document.body.classList.contains('drawer-open');
  }

  /** Shows or hides the list in a narrow window. */
  drawer(open, moveFocus = true) {
    const narrow = matchMedia('(max-width: 760px)').matches;
    document.body.classList.toggle('drawer-open', open);
    byId('drawer-open').setAttribute('aria-expanded', String(open));
    byId('sidebar').inert = narrow && !open;
    document.querySelector('.room').inert = narrow && open;
    if (moveFocus && narrow) (open ? byId('drawer-close') : byId('drawer-open')).focus();
  }

  /** Arrow keys, Home and End move between the entries. */
  key(event) {
    if (event.key === 'Escape' && this.isDrawerOpen()) {
      event.stopPropagation();
      this.drawer(false);
      return;
    }
    const key = event.target.dataset?.key;
    if (!key || event.altKey || event.ctrlKey || event.metaKey) return;
    const all = this.model.inOrder();
    const at = all.findIndex((one) => one.key === key);
    const to = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: all.length - 1 }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    if (!all[to]) return;
    this.reveal(all[to]);
    this.entries.get(all[to].key)?.firstChild.focus();
  }

  update() {
    if (!this.model.conversations.size && !this.model.agents.size) return;
    const { scrollTop, clientHeight } = this.lists;
    this.above = [];
    this.below = [];
    for (const [scope, list] of [['channel', byId('channels')], ['direct', byId('directs')]]) {
      const all = this.model.list(scope);
      const height = list.querySelector('.entry')?.offsetHeight || 36;
      const top = list.offsetTop;
      let [from, to] = [0, all.length];
      if (this.model.conversations.size > WHOLE) {
        from = Math.min(all.length, Math.max(0, Math.floor((scrollTop - top) / height) - BESIDE));
        to = Math.min(all.length, Math.max(from, Math.ceil((scrollTop + clientHeight - top) / height) + BESIDE));
      }
      list.style.paddingTop = `${from * height}px`;
      list.style.paddingBottom = `${(all.length - to) * height}px`;
      const items = all.slice(from, to).map((conversation, n) => this.entry(conversation, from + n + 1, all.length));
      if (!all.length) items.push(this.nothing(scope));
      arrange(list, items);
      all.forEach((conversation, n) => {
        if (!conversation.unread(this.model.me).count) return;
        if (top + (n + 0.5) * height < scrollTop) this.above.push(conversation);
        else if (top + (n + 0.5) * height > scrollTop + clientHeight) this.below.push(conversation);
      });
    }
    for (const [key, element] of this.entries) if (!element.isConnected) this.entries.delete(key);
    for (const [id, list] of [['unread-above', this.above], ['unread-below', this.below]]) {
      byId(id).hidden = !list.length || !clientHeight;
      byId(id).textContent = `${list.length} more unread`;
    }
    this.updateMe();
    this.updateOthers();
    const count = this.model.unreadInAll();
    byId('menu-badge').hidden = !count;
    byId('menu-badge').textContent = count > 99 ? '99+' : String(count);
    byId('drawer-open').setAttribute('aria-label', `Show the list of conversations${count ? `, ${count} unread` : ''}`);
  }

  nearest(direction) {
    return direction < 0 ? this.above.at(-1) : this.below[0];
  }

  /** Scrolls the list until this entry is in view. */
  reveal(conversation) {
    if (!conversation) return;
    const list = byId(conversation.scope === 'channel' ? 'channels' : 'directs');
    const height = list.querySelector('.entry')?.offsetHeight || 36;
    const top = list.offsetTop + this.model.list(conversation.scope).indexOf(conversation) * height;
    const { scrollTop, clientHeight } = this.lists;
    if (top < scrollTop) this.lists.scrollTop = top - height;
    else if (top + height > scrollTop + clientHeight) this.lists.scrollTop = top + 2 * height - clientHeight;
    this.update();
  }

  nothing(scope) {
    const key = `nothing-${scope}`;
    if (!this.entries.has(key)) {
      const text = scope === 'channel' ? 'You are in no channel.' : 'No direct messages yet.';
      this.entries.set(key, el('li', { class: 'nothing' }, text));
    }
    return this.entries.get(key);
  }

  entry(conversation, place, count) {
    let entry = this.entries.get(conversation.key);
    if (!entry) {
      const button = el('button', {
        type: 'button', class: 'entry', 'data-key': conversation.key,
        onclick: () => this.choose(this.model.conversations.get(conversation.key)),
      });
      entry = el('li', {}, button);
      this.entries.set(conversation.key, entry);
    }
    const { count: unread, fresh } = conversation.unread(this.model.me);
    const mentioned = fresh.some((message) => this.model.mentionsMe(message));
    const other = conversation.scope === 'direct' ? this.model.agent(conversation.other) : null;
    const online = other && this.model.online.has(other.id);
    const active = this.model.active === conversation;
    const drafted = !active && conversation.draft.trim() !== '';
    const signature = JSON.stringify([conversation.title, unread, mentioned, online, active, drafted, conversation.canPost, place, count]);
    if (entry.signature === signature) return entry;
    entry.signature = signature;
    entry.setAttribute('aria-posinset', place);
    entry.setAttribute('aria-setsize', count);
    const button = entry.firstChild;
    button.classList.toggle('unread', unread > 0);
    button.title = conversation.title;
    if (active) button.setAttribute('aria-current', 'page');
    else button.removeAttribute('aria-current');
    const lead = other ? avatar(other, online) : icon(conversation.canPost ? 'hash' : 'lock');
    const remarks = [];
    if (other) remarks.push(online ? 'online' : 'offline');
    if (!conversation.canPost) remarks.push('read only');
    if (drafted) remarks.push('has a draft');
    if (unread) remarks.push(`${unread} unread${mentioned ? ', you are mentioned' : ''}`);
    button.replaceChildren(
      lead,
      el('span', { class: 'entry-name', dir: 'auto' }, conversation.title),
      drafted ? el('span', { class: 'entry-draft', 'aria-hidden': 'true' }, 'Draft') : '',
      unread ? el('span', { class: mentioned ? 'badge mention' : 'badge', 'aria-hidden': 'true' },
        `${mentioned ? '@' : ''}${unread > 99 ? '99+' : unread}`) : '',
      el('span', { class: 'sr' }, remarks.length ? `, ${remarks.join(', ')}` : ''),
    );
    return entry;
  }

  /** A demo is more fun in two windows. */
  updateOthers() {
    const others = [...this.model.agents.values()].filter((agent) => agent.is_active && agent.id !== this.model.me).slice(0, 4);
    const signature = JSON.stringify(others);
    if (this.othersSignature === signature) return;
    this.othersSignature = signature;
    byId('others').replaceChildren(el('span', {}, 'Second window as'), ...others.map((agent) => el('a', {
      href: `/?as=${encodeURIComponent(agent.handle || agent.id)}`, target: '_blank', title: agent.name,
    }, avatar(agent), el('span', { class: 'sr' }, `${agent.name}, in a second window`))));
  }

  updateMe() {
    const me = this.model.agent(this.model.me);
    const online = this.model.online.has(me.id);
    const signature = JSON.stringify([me, online]);
    if (this.mySignature === signature) return;
    this.mySignature = signature;
    byId('me').replaceChildren(avatar(me, online), el('span', { class: 'me-text' },
      el('strong', { dir: 'auto', title: me.name }, me.name), el('small', {}, me.handle ? `@${me.handle}` : me.role)));
  }
}
