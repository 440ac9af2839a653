// The messages of the open conversation. Only a part of a long one is in the page: it moves as the reader scrolls, and
// follows the newest message while the reader is at the end.

import { arrange, avatar, byId, el, icon } from './dom.js';
import { showBody } from './body.js';
import { textFragment } from './safe_html.js';
import { clockTime, dateOf, dayKey, dayName, fullTime } from './times.js';

/** Messages of one sender within this time, in ms, stand together. */
const TOGETHER = 5 * 60 * 1000;
/** A reader within this distance of the lower edge, in pixels, is at the end. */
const AT_END = 48;
/** Messages that are in the page at once, and by how many that part moves. */
const PART = 80;
const STEP = 50;
/** How many more may gather at the end before the oldest are removed: each removal moves all others. */
const SLACK = 20;
/** Within this distance of an end of the part, in pixels, the part moves. */
const NEAR = 600;
/** Messages that are shown above the first unread one. */
const ABOVE_UNREAD = 20;
/** Most pictures of agents who have read up to a message. */
const READERS = 6;

export class Messages {
  /** `on.older(conversation)` loads more history; `on.seen()` is called when more was on the screen; further
   * `on.isWatched()`, `on.markAll()`, `on.markFrom(message)`, and `on.retry|edit|discard(item)`. */
  constructor(model, link, on) {
    this.model = model;
    this.link = link;
    this.on = on;
    this.log = byId('log');
    this.shown = null;
    this.elements = new Map();
    this.stuck = true;
    this.startId = 0;
    this.below = 0;
    byId('to-newest').append(icon('down'), el('span', {}));
    byId('to-newest').onclick = () => this.toNewest();
    byId('unread-jump').onclick = () => this.toNewest();
    byId('unread-mark').onclick = () => this.on.markAll();
    this.log.addEventListener('scroll', () => this.scrolled(), { passive: true });
    // A phone's keyboard, a longer message box or a rotated screen must not push the newest message out of sight.
    new ResizeObserver(() => { if (this.stuck && !this.hasLeftEnd()) this.toEnd(); }).observe(this.log);
  }

  isAtEnd() {
    return this.log.scrollHeight - this.log.scrollTop - this.log.clientHeight < AT_END;
  }

  extent() {
    return `${this.log.scrollHeight} ${this.log.clientHeight}`;
  }

  viewSize() {
    return `${this.log.clientWidth} ${this.log.clientHeight}`;
  }

  /** Whether the reader has scrolled away from the end, and the scroll event is still to come. */
  hasLeftEnd() {
    return this.stuck && !this.isAtEnd() && this.pinned === this.extent();
  }

  toNewest() {
    this.stuck = true;
    // Without this, the same messages at another position would look like a reader who has left the end.
    this.pinned = '';
    this.update();
    byId('composer-text').focus();
  }

  toEnd() {
    this.log.scrollTop = this.log.scrollHeight;
    this.pinned = this.extent();
    this.size = this.viewSize();
    this.stuck = true;
    this.below = 0;
    this.updateJump();
    this.lookSoon();
  }

  scrolled() {
    const { start, end } = this.part();
    const conversation = this.shown;
    if (!conversation) return;
    // After a resize the end has moved, not the reader.
    if (this.stuck && this.size !== this.viewSize()) return this.toEnd();
    this.stuck = end === conversation.messages.length && this.isAtEnd();
    if (this.stuck) this.below = 0;
    this.updateJump();
    this.lookSoon();
    const fromEnd = this.log.scrollHeight - this.log.scrollTop - this.log.clientHeight;
    if (this.log.scrollTop < NEAR && start > 0) this.move(start - STEP);
    else if (fromEnd < NEAR && end < conversation.messages.length) this.move(start + STEP);
    else if (this.log.scrollTop < 80 && conversation.hasOlder && !this.loading) this.loadOlder();
    return undefined;
  }

  move(start) {
    this.startId = this.shown.messages[Math.max(0, start)].id;
    this.update();
  }

  updateJump() {
    const jump = byId('to-newest');
    jump.hidden = this.stuck;
    jump.lastChild.textContent = this.below ? `${this.below} new` : 'Newest';
  }

  async loadOlder() {
    this.loading = true;
    try {
      await this.on.older(this.shown);
    } catch {
      // The next scroll to the top tries again.
    }
    this.update();
    this.loading = false;
  }

  /** The range of messages that are in the page. */
  part() {
    const { messages } = this.shown ?? { messages: [] };
    const last = Math.max(0, messages.length - PART);
    const start = Math.min(this.shown?.indexOf(this.startId) ?? 0, last);
    if (!this.stuck) return { start, end: Math.min(messages.length, start + PART) };
    return { start: last - start > SLACK ? last : start, end: messages.length };
  }

  /** Sets the position: at the first unread message, if there is one, else at the end. */
  place() {
    const conversation = this.shown;
    this.stuck = !conversation.unreadFrom;
    this.startId = 0;
    this.below = 0;
    if (this.stuck) return;
    const first = conversation.indexOf(conversation.unreadFrom);
    this.startId = conversation.messages[Math.max(0, first - ABOVE_UNREAD)]?.id ?? 0;
    this.goTo = '.new';
  }

  /** Scrolls to a message, which must be loaded, and highlights it. */
  goToMessage(id) {
    const at = this.shown.indexOf(id);
    this.stuck = false;
    this.startId = this.shown.messages[Math.max(0, at - ABOVE_UNREAD)].id;
    this.goTo = `[data-id="${id}"]`;
    this.update();
    this.log.querySelector(`[data-id="${id}"]`)?.classList.add('found');
  }

  /** The first row on the screen, and its distance from the upper edge. */
  anchor() {
    const top = this.log.getBoundingClientRect().top;
    for (const row of this.log.children) {
      const place = row.getBoundingClientRect();
      if (place.bottom > top && row.dataset.id) return { row, offset: place.top - top };
    }
    return null;
  }

  /** Updates the rows from the model. */
  update() {
    const conversation = this.model.active;
    if (!conversation) return;
    const switched = this.shown !== conversation;
    if (switched) {
      this.elements.clear();
      this.shown = conversation;
      this.lastSeen = conversation.newestId;
      this.place();
    }
    // Further down, aria-live is off for a whole history: screen readers should announce only single messages.
    if (!switched && this.hasLeftEnd()) this.stuck = false;
    if (!this.stuck && !this.startId) this.startId = conversation.messages[this.part().start]?.id ?? 0;
    const many = switched || this.loading || Boolean(this.goTo);
    this.log.setAttribute('aria-live', many ? 'off' : 'polite');
    const news = conversation.messages.slice(conversation.indexOf(this.lastSeen + 1));
    this.lastSeen = Math.max(this.lastSeen, conversation.newestId);
    if (news.some((message) => message.sender_agent_id === this.model.me)) this.stuck = true;
    const waits = this.link.waiting(conversation).length;
    if (waits > (switched ? waits : this.waited)) this.stuck = true;
    this.waited = waits;
    const anchor = this.stuck || switched || this.goTo ? null : this.anchor();
    arrange(this.log, this.rows(conversation));
    for (const [key, element] of this.elements) if (element.parentNode !== this.log) this.elements.delete(key);
    if (anchor?.row.isConnected) {
      const moved = anchor.row.getBoundingClientRect().top - this.log.getBoundingClientRect().top - anchor.offset;
      if (moved) this.log.scrollTop += moved;
    }
    if (this.goTo) {
      const target = this.log.querySelector(this.goTo);
      this.goTo = null;
      if (target) this.log.scrollTop += target.getBoundingClientRect().top - this.log.getBoundingClientRect().top - 70;
      this.stuck = this.part().end === conversation.messages.length && this.isAtEnd();
    }
    this.startId = conversation.messages[this.part().start]?.id ?? 0;
    if (this.stuck) {
      this.toEnd();
    } else {
      this.below += news.length;
      this.updateJump();
      this.lookSoon();
    }
    this.updateBar();
    if (many) requestAnimationFrame(() => this.log.setAttribute('aria-live', 'polite'));
  }

  // What has been on the screen

  lookSoon() {
    if (this.lookIsDue) return;
    this.lookIsDue = true;
    requestAnimationFrame(() => {
      this.lookIsDue = false;
      this.look();
    });
  }

  /** Notes the messages whose lower end is on the screen. */
  look() {
    const conversation = this.shown;
    if (!conversation || conversation !== this.model.active || !this.on.isWatched()) return;
    const marker = conversation.reads.get(this.model.me) || 0;
    if (conversation.newestId <= marker) return;
    const { top, bottom } = this.log.getBoundingClientRect();
    for (const row of this.log.children) {
      const id = Number(row.dataset.id || 0);
      if (id <= marker || conversation.seen.has(id)) continue;
      const place = row.getBoundingClientRect();
      if (place.bottom > top && place.bottom <= bottom + 1) conversation.seen.add(id);
    }
    this.on.seen();
  }

  /** Shows how many messages are unread, and since when. */
  updateBar() {
    const conversation = this.shown;
    const { count, fresh } = conversation?.unread(this.model.me) ?? { count: 0 };
    const bar = byId('unread-bar');
    bar.hidden = !count || conversation !== this.model.active;
    if (bar.hidden) return;
    const since = fresh.length ? ` since ${clockTime(dateOf(fresh[0].created_at))}` : '';
    const text = `${count} new${since}`;
    if (byId('unread-text').textContent !== text) byId('unread-text').textContent = text;
  }

  // Rows

  rows(conversation) {
    const rows = [];
    const { start, end } = this.part();
    const part = conversation.messages.slice(start, end);
    const readers = this.readersByMessage(conversation, part);
    let before = null;
    let day = null;
    let separated = false;
    if (start === 0 && conversation.hasOlder) {
      rows.push(this.keep('older', '', () => el('button', {
        class: 'older', type: 'button', onclick: () => this.loadOlder(),
      }, 'Show earlier messages')));
    } else if (start === 0 && conversation.messages.length) {
      rows.push(this.keep('begin', conversation.title, () => this.beginning(conversation)));
    }
    for (const message of part) {
      const date = dateOf(message.created_at);
      if (dayKey(date) !== day) {
        day = dayKey(date);
        before = null;
        const name = dayName(date);
        rows.push(this.keep(`day-${day}`, name, () => el('div', { class: 'day', role: 'separator' }, el('span', {}, name))));
      }
      if (!separated && conversation.unreadFrom && message.id >= conversation.unreadFrom
        && message.sender_agent_id !== this.model.me) {
        separated = true;
        before = null;
        if (message.id === conversation.unreadFrom) {
          rows.push(this.keep('unread', '', () => el('div', { class: 'new', role: 'separator' }, el('span', {}, 'New'))));
        }
      }
      const joins = before && before.sender === message.sender_agent_id && date - before.date < TOGETHER;
      rows.push(this.message(message, date, joins, readers.get(message.id) || []));
      before = { sender: message.sender_agent_id, date };
    }
    const waiting = end === conversation.messages.length ? this.link.waiting(conversation) : [];
    for (const item of waiting) {
      const joins = before && before.sender === this.model.me && item.at - before.date < TOGETHER;
      rows.push(this.pending(item, joins));
      before = { sender: this.model.me, date: item.at };
    }
    if (!conversation.messages.length && !waiting.length) {
      rows.push(this.keep('empty', conversation.title, () => this.emptiness(conversation)));
    }
    return rows;
  }

  /** The element for a key, recreated if its signature has changed. */
  keep(key, signature, make) {
    const known = this.elements.get(key);
    if (known && known.signature === signature) return known;
    const element = make();
    element.signature = signature;
    this.elements.set(key, element);
    return element;
  }

  beginning(conversation) {
    const direct = conversation.scope === 'direct';
    return el('p', { class: 'begin' }, direct
      ? `This is the beginning of your talk with ${conversation.title}.`
      : `This is the beginning of #${conversation.title}.`);
  }

  emptiness(conversation) {
    const direct = conversation.scope === 'direct';
    return el('div', { class: 'empty' }, icon('chat'),
      el('h2', {}, direct ? `Say hello to ${conversation.title}` : `Nothing was said in #${conversation.title} yet`),
      el('p', {}, conversation.canPost ? 'Your message will be the first one here.' : 'Here you can read, not write.'));
  }

  /** For each of these messages, the agents who have read up to it. */
  readersByMessage(conversation, part) {
    const readers = new Map();
    if (!part.length) return readers;
    for (const { id: agent } of conversation.members) {
      const marker = conversation.reads.get(agent) || 0;
      if (agent === this.model.me || marker < part[0].id) continue;
      const last = conversation.messages[conversation.indexOf(marker + 1) - 1];
      // Not below an agent's own message, which has its picture already.
      if (!last || last.sender_agent_id === agent) continue;
      readers.set(last.id, [...(readers.get(last.id) || []), this.model.agent(agent)]);
    }
    return readers;
  }

  message(message, date, joins, readers) {
    const own = message.sender_agent_id === this.model.me;
    // A message that was pending here keeps its element, so that it does not flicker.
    const key = message.ref ? `ref-${message.ref}` : `id-${message.id}`;
    const known = this.elements.get(key);
    const row = known?.row ? known : this.row(key, message.sender_agent_id, message.sender_name, own);
    const signature = `${message.id} ${message.edited_at} ${message.deleted_at} ${joins} ${readers.map((agent) => agent.id)}`;
    if (row.signature === signature) return row;
    row.signature = signature;
    row.dataset.id = message.id;
    row.classList.toggle('joins', Boolean(joins));
    row.classList.remove('pending', 'failed');
    const { time, body, state, seen } = row.parts;
    if (row.bodyOf !== message) {
      row.bodyOf = message;
      showBody(body, message, this.model.agent(this.model.me).handle);
      row.classList.toggle('deleted', Boolean(message.deleted_at));
      row.classList.toggle('mentions-me', this.model.mentionsMe(message));
      row.dataset.time = clockTime(date);
      time.textContent = clockTime(date);
      time.title = fullTime(date);
      time.dateTime = date.toISOString();
    }
    state.replaceChildren();
    seen.replaceChildren(...readers.slice(0, READERS).map((agent) => {
      const picture = avatar(agent);
      picture.title = `${agent.name} has read this`;
      return picture;
    }), ...(readers.length > READERS ? [el('small', {}, `+${readers.length - READERS}`)] : []),
    ...(readers.length ? [el('span', { class: 'sr' }, `Read by ${readers.slice(0, 20).map((agent) => agent.name).join(', ')}`)] : []));
    return row;
  }

  row(key, senderId, senderName, own) {
    const sender = { ...this.model.agent(senderId), name: senderName };
    const parts = {
      time: el('time', { class: 'time' }),
      bubble: el('div', { class: 'bubble' }),
      body: el('div', { class: 'body', dir: 'auto' }),
      state: el('div', { class: 'state' }),
      seen: el('div', { class: 'seen' }),
    };
    const row = el('article', { class: own ? 'message own' : 'message' },
      avatar(sender),
      el('div', { class: 'message-main' },
        el('header', { class: 'message-head' },
          el('span', { class: 'sender', dir: 'auto' }, senderName), own ? el('small', {}, '(you)') : null, parts.time),
        parts.bubble, parts.state, parts.seen));
    parts.bubble.append(parts.body);
    if (!own) {
      row.append(el('button', {
        type: 'button', class: 'mark-unread', tabindex: '-1', title: 'Mark unread from here (Alt+U: the last message)',
        'aria-label': 'Mark unread from here', onclick: () => { if (row.bodyOf) this.on.markFrom(row.bodyOf); },
      }, icon('unread')));
    }
    row.parts = parts;
    row.row = true;
    this.elements.set(key, row);
    return row;
  }

  pending(item, joins) {
    const key = `ref-${item.ref}`;
    const known = this.elements.get(key);
    const row = known?.row ? known : this.row(key, this.model.me, this.model.agent(this.model.me).name, true);
    const signature = JSON.stringify([item.state, joins, item.error, this.link.live]);
    if (row.signature === signature) return row;
    row.signature = signature;
    row.classList.toggle('joins', Boolean(joins));
    row.classList.toggle('pending', item.state !== 'failed');
    row.classList.toggle('failed', item.state === 'failed');
    const { time, body, state } = row.parts;
    body.replaceChildren(textFragment(item.body));
    time.textContent = clockTime(new Date(item.at));
    if (item.state === 'failed') {
      const act = (text, action) => el('button', { type: 'button', class: 'link-button', onclick: () => action(item) }, text);
      state.replaceChildren(el('span', { class: 'reason' }, `Not sent. ${item.error.message}`),
        act('Try again', this.on.retry), act('Edit', this.on.edit), act('Discard', this.on.discard));
    } else {
      state.replaceChildren(el('span', {}, this.link.live ? 'Sending…' : 'Waits for the connection'));
    }
    return row;
  }
}
