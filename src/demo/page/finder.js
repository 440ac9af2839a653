// The quick switcher (Ctrl+K), which finds a conversation or an agent by a few letters, and the search in messages.

import { avatar, byId, el, icon } from './dom.js';
import { dateOf, fullTime } from './times.js';

const MOST = 30;
/** Pause after the last key before a search, in ms. */
const SEARCH_AFTER = 250;

/** A field with a list of choices below it, in a dialog. */
class Chooser {
  constructor(id) {
    this.dialog = byId(id);
    this.input = this.dialog.querySelector('input');
    this.list = this.dialog.querySelector('[role="listbox"]');
    this.choices = [];
    this.chosen = 0;
    this.input.addEventListener('input', () => this.changed());
    this.input.addEventListener('keydown', (event) => this.key(event));
    this.dialog.addEventListener('pointerdown', (event) => { if (event.target === this.dialog) this.dialog.close(); });
  }

  open() {
    if (this.dialog.open) return;
    this.input.value = '';
    this.dialog.showModal();
    this.input.focus();
    this.changed();
  }

  /** Shows the choices, each with `element` (a list of nodes) and `take()`. */
  show(choices) {
    this.choices = choices;
    this.list.hidden = !choices.length;
    this.list.replaceChildren(...choices.map(({ element, take }, place) => {
      const choose = () => { if (this.chosen !== place) this.mark(place); };
      return el('li', { role: 'option', id: `${this.dialog.id}-${place}`, onclick: () => this.take(take), onpointermove: choose }, ...element);
    }));
    this.mark(0);
  }

  mark(chosen) {
    this.chosen = chosen;
    [...this.list.children].forEach((option, place) => option.setAttribute('aria-selected', String(place === this.chosen)));
    const option = this.list.children[this.chosen];
    option?.scrollIntoView({ block: 'nearest' });
    if (option) this.input.setAttribute('aria-activedescendant', option.id);
    else this.input.removeAttribute('aria-activedescendant');
    this.input.setAttribute('aria-expanded', String(Boolean(option)));
  }

  key(event) {
    const last = this.choices.length - 1;
    const to = {
      ArrowDown: this.chosen === last ? 0 : this.chosen + 1, ArrowUp: this.chosen ? this.chosen - 1 : last,
    }[event.key];
    if (to !== undefined && last >= 0) {
      event.preventDefault();
      this.mark(to);
    } else if (event.key === 'Enter' && !event.isComposing) {
      event.preventDefault();
      const choice = this.choices[this.chosen];
      if (choice) this.take(choice.take);
    }
  }

  take(action) {
    this.dialog.close();
    action();
  }
}

/** The quick switcher. */
export class Switcher extends Chooser {
  /** `on.open(conversation)`, `on.direct(agentId)`. */
  constructor(model, on) {
    super('switcher');
    this.model = model;
    this.on = on;
  }

  changed() {
    const words = this.input.value.trim().toLowerCase().split(/\s+/).filter(Boolean);
    const fits = (text) => words.every((word) => text.toLowerCase().includes(word.replace(/^[#@]/, '')));
    const me = this.model.me;
    const conversations = [...this.model.conversations.values()]
      .filter((one) => one !== this.model.active && fits(`${one.title} ${one.about}`))
      .sort((a, b) => (b.unread(me).count > 0) - (a.unread(me).count > 0) || b.newestId - a.newestId)
      .map((one) => ({ element: this.conversation(one), take: () => this.on.open(one) }));
    const people = words.length ? [...this.model.agents.values()]
      .filter((agent) => agent.is_active && agent.id !== me && !this.model.directWith(agent.id) && fits(`${agent.name} ${agent.handle ?? ''}`))
      .map((agent) => ({ element: this.person(agent), take: () => this.on.direct(agent.id) })) : [];
    const all = [...conversations, ...people];
    this.show(all.slice(0, MOST));
    byId('switcher-note').textContent = all.length ? '' : 'Nothing here has this name.';
  }

  conversation(one) {
    const other = one.scope === 'direct' ? this.model.agent(one.other) : null;
    const { count } = one.unread(this.model.me);
    return [other ? avatar(other, this.model.online.has(other.id)) : icon(one.canPost ? 'hash' : 'lock'),
      el('span', { class: 'choice-name', dir: 'auto' }, one.title),
      el('small', {}, count ? `${count} unread` : other ? 'direct message' : 'channel')];
  }

  person(agent) {
    return [avatar(agent, this.model.online.has(agent.id)), el('span', { class: 'choice-name', dir: 'auto' }, agent.name),
      el('small', {}, 'new direct message')];
  }
}

/** The search in messages. */
export class Search extends Chooser {
  /** `on.search(query, page)` asks the service; `on.go(message)` shows a message. */
  constructor(model, on) {
    super('search');
    this.model = model;
    this.on = on;
    this.note = byId('search-note');
    /** The search whose answer is awaited; a late answer to any other counts no more. */
    this.underWay = null;
    byId('search-here').addEventListener('change', () => this.changed());
    byId('search-more').onclick = () => { if (!this.underWay) this.find(this.next); };
  }

  open() {
    byId('search-here-name').textContent = this.model.active ? `Only in ${this.model.active.title}` : '';
    super.open();
  }

  changed() {
    clearTimeout(this.timer);
    this.underWay = null;
    this.found = [];
    this.show([]);
    byId('search-more').hidden = true;
    const length = [...this.input.value.trim()].length;
    this.note.textContent = length === 1 ? 'At least two letters.' : '';
    if (length >= 2) this.timer = setTimeout(() => this.find(undefined), SEARCH_AFTER);
  }

  async find(before) {
    const request = this.underWay = {};
    const query = this.input.value.trim();
    const here = byId('search-here').checked && this.model.active ? this.model.active.place : {};
    this.note.textContent = 'Searching…';
    let answer, failure;
    try {
      answer = await this.on.search(query, { ...here, before_id: before });
    } catch (error) {
      failure = error;
    }
    if (request !== this.underWay) return;
    this.underWay = null;
    if (failure) {
      this.note.textContent = failure.message;
      return;
    }
    this.found = [...(before ? this.found : []), ...answer.messages];
    this.next = answer.next_before_id;
    byId('search-more').hidden = !answer.has_more;
    const chosen = before ? this.chosen : 0;
    this.show(this.found.map((message) => ({ element: this.result(message), take: () => this.on.go(message) })));
    this.mark(chosen);
    this.note.textContent = this.found.length ? `${this.found.length}${answer.has_more ? ' or more' : ''} found`
      : answer.has_more ? 'Nothing among the newest; there are older messages.' : 'Nothing was found.';
  }

  result(message) {
    const where = this.model.of(message);
    const title = where ? (where.scope === 'channel' ? `#${where.title}` : where.title) : '';
    return [el('span', { class: 'result' },
      el('small', { class: 'result-head' }, `${message.sender_name} · ${title} · ${fullTime(dateOf(message.created_at))}`),
      el('span', { class: 'result-text', dir: 'auto' }, message.body_text.slice(0, 300)))];
  }
}
