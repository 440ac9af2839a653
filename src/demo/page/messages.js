// The stream of messages of the open conversation.

import { arrange, avatar, byId, el, icon } from './dom.js';
import { safeFragment, textFragment } from './safe_html.js';
import { clockTime, dateOf, dayKey, dayName, fullTime } from './times.js';

/** Messages of one sender within this time, in ms, stand together. */
const TOGETHER = 5 * 60 * 1000;
/** Closer to the lower edge than this, in pixels, counts as at the end. */
const AT_END = 48;

export class Messages {
  /** `on.older(conversation)` loads more history, `on.read()` when more was seen, `on.retry|edit|discard(item)`. */
  constructor(model, outbox, on) {
    this.model = model;
    this.outbox = outbox;
    this.on = on;
    this.log = byId('log');
    this.shown = null;
    this.elements = new Map();
    this.stuck = true;
    this.below = 0;
    byId('to-newest').append(icon('down'), el('span', {}));
    byId('to-newest').onclick = () => {
      this.toEnd();
      byId('composer-text').focus();
    };
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

  /** Whether somebody has scrolled away from the end, though the browser has not said so yet. */
  hasLeftEnd() {
    return this.stuck && !this.isAtEnd() && this.pinned === this.extent();
  }

  toEnd() {
    this.log.scrollTop = this.log.scrollHeight;
    this.pinned = this.extent();
    this.stuck = true;
    this.below = 0;
    this.updateJump();
  }

  scrolled() {
    this.stuck = this.isAtEnd();
    if (this.stuck) {
      this.below = 0;
      this.on.read();
    }
    this.updateJump();
    if (this.log.scrollTop < 80 && this.shown?.hasOlder && !this.loading) this.loadOlder();
  }

  updateJump() {
    const jump = byId('to-newest');
    jump.hidden = this.stuck;
    jump.lastChild.textContent = this.below ? `${this.below} new` : 'Newest';
  }

  async loadOlder() {
    this.loading = true;
    const fromEnd = this.log.scrollHeight - this.log.scrollTop;
    try {
      await this.on.older(this.shown);
    } catch {
      // The next look back tries again.
    }
    this.update();
    this.log.scrollTop = this.log.scrollHeight - fromEnd;
    this.loading = false;
  }

  /** Brings the stream into line with the model. */
  update() {
    const conversation = this.model.active;
    if (!conversation) return;
    const switched = this.shown !== conversation;
    if (switched) {
      this.elements.clear();
      this.shown = conversation;
      this.stuck = true;
      this.lastSeen = conversation.newestId;
    }
    // A whole history is nothing to be read out; single messages are.
    if (!switched && this.hasLeftEnd()) this.stuck = false;
    const many = switched || this.loading;
    this.log.setAttribute('aria-live', many ? 'off' : 'polite');
    const news = conversation.messages.filter((message) => message.id > this.lastSeen);
    this.lastSeen = Math.max(this.lastSeen, conversation.newestId);
    const rows = this.rows(conversation);
    arrange(this.log, rows);
    for (const [key, element] of this.elements) if (element.parentNode !== this.log) this.elements.delete(key);
    if (news.some((message) => message.sender_agent_id === this.model.me)) this.stuck = true;
    if (this.stuck) {
      this.toEnd();
      this.on.read();
    } else {
      this.below += news.length;
      this.updateJump();
    }
    if (many) requestAnimationFrame(() => this.log.setAttribute('aria-live', 'polite'));
  }

  rows(conversation) {
    const rows = [];
    const readers = this.readersByMessage(conversation);
    let before = null;
    let day = null;
    let separated = false;
    if (conversation.hasOlder) {
      rows.push(this.keep('older', '', () => el('button', {
        class: 'older', type: 'button', onclick: () => this.loadOlder(),
      }, 'Show earlier messages')));
    } else if (conversation.messages.length) {
      rows.push(this.keep('begin', conversation.title, () => this.beginning(conversation)));
    }
    for (const message of conversation.messages) {
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
        rows.push(this.keep('unread', '', () => el('div', { class: 'new', role: 'separator' }, el('span', {}, 'New'))));
      }
      const joins = before && before.sender === message.sender_agent_id && date - before.date < TOGETHER;
      rows.push(this.message(message, date, joins, readers.get(message.id) || []));
      before = { sender: message.sender_agent_id, date };
    }
    for (const item of this.outbox.of(conversation.key)) {
      const joins = before && before.sender === this.model.me && item.at - before.date < TOGETHER;
      rows.push(this.pending(item, joins));
      before = { sender: this.model.me, date: item.at };
    }
    if (!conversation.messages.length && !this.outbox.of(conversation.key).length) {
      rows.push(this.keep('empty', conversation.title, () => this.emptiness(conversation)));
    }
    return rows;
  }

  /** The element for a key, made anew where its signature has changed. */
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

  /** Which agents have read up to which of the loaded messages. */
  readersByMessage(conversation) {
    const readers = new Map();
    for (const { id: agent } of conversation.members) {
      const marker = conversation.reads.get(agent) || 0;
      if (agent === this.model.me || !marker) continue;
      const last = conversation.messages.findLast((message) => message.id <= marker);
      // What somebody wrote himself he has read; his picture stands there already.
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
    const signature = JSON.stringify([message.id, message.edited_at, joins, readers.map((agent) => agent.id)]);
    if (row.signature === signature) return row;
    row.signature = signature;
    row.dataset.id = message.id;
    row.classList.toggle('joins', Boolean(joins));
    row.classList.remove('pending', 'failed');
    const { time, body, state, seen } = row.parts;
    if (row.bodyOf !== message) {
      row.bodyOf = message;
      const fragment = message.body_rendered_html === null ? textFragment(message.body_text) : safeFragment(message.body_rendered_html);
      body.replaceChildren(fragment);
      this.highlight(row, body, message);
      row.parts.bubble.dataset.time = clockTime(date);
      time.textContent = clockTime(date) + (message.edited_at ? ' · edited' : '');
      time.title = fullTime(date);
      time.dateTime = date.toISOString();
    }
    state.replaceChildren();
    seen.replaceChildren(...readers.slice(0, 6).map((agent) => {
      const picture = avatar(agent);
      picture.title = `${agent.name} has read this`;
      return picture;
    }), ...(readers.length ? [el('span', { class: 'sr' }, `Read by ${readers.map((agent) => agent.name).join(', ')}`)] : []));
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
        el('header', { class: 'message-head' }, el('span', { class: 'sender' }, own ? 'You' : senderName), parts.time),
        parts.bubble, parts.state, parts.seen));
    parts.bubble.append(parts.body);
    row.parts = parts;
    row.row = true;
    this.elements.set(key, row);
    return row;
  }

  /** Makes mentions readable at a glance, mine above all, and says what internal links lead to. */
  highlight(row, body, message) {
    const mine = this.model.agent(this.model.me).handle?.toLowerCase();
    for (const mention of body.querySelectorAll('.chat-mention')) {
      if (mine && mention.textContent === `@${mine}`) mention.classList.add('mine');
    }
    row.classList.toggle('mentions-me', this.model.mentionsMe(message));
    for (const link of body.querySelectorAll('.chat-internal-link')) {
      link.title = link.getAttribute('href').startsWith('#/kb/') ? 'Article of the knowledge base' : 'Ticket';
    }
  }

  pending(item, joins) {
    const key = `ref-${item.ref}`;
    const known = this.elements.get(key);
    const row = known?.row ? known : this.row(key, this.model.me, this.model.agent(this.model.me).name, true);
    const connected = this.on.isLive();
    const signature = JSON.stringify([item.state, joins, item.reason, connected]);
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
      state.replaceChildren(el('span', { class: 'reason' }, `Not sent. ${item.reason}`),
        act('Try again', this.on.retry), act('Edit', this.on.edit), act('Discard', this.on.discard));
    } else {
      state.replaceChildren(el('span', {}, connected ? 'Sending…' : 'Waits for the connection'));
    }
    return row;
  }
}
