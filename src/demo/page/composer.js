// The message box: text, drafts, emoji, mentions, and the reason why a message was given back.

import { avatar, byId, el, icon, remember } from './dom.js';
import { EmojiPalette } from './emoji.js';

/** Minimum interval between typing events, in ms. */
const TYPING_EVERY = 1500;
/** From this share of the longest message on, the number of remaining characters is shown. */
const COUNT_FROM = 0.8;
const MAX_LINES_HEIGHT = 200;
/** Whether the browser fits the box to its text by itself, which saves a layout for each key. */
const FITS_BY_ITSELF = CSS.supports('field-sizing', 'content');

export class Composer {
  /** `on.send(conversation, body)`, `on.typing(conversation)`, `on.draft()` when a draft begins or ends. */
  constructor(model, on) {
    this.model = model;
    this.on = on;
    this.text = byId('composer-text');
    this.lastTyping = 0;
    this.mentions = { matches: [], chosen: 0, from: 0 };
    byId('composer-send').append(icon('send'));
    byId('emoji-button').append(icon('smile'));
    this.palette = new EmojiPalette((emoji) => this.insert(emoji), this.text);
    byId('composer').onsubmit = (event) => {
      event.preventDefault();
      this.submit();
    };
    this.text.addEventListener('input', () => this.changed(true));
    this.text.addEventListener('keydown', (event) => this.key(event));
    this.text.addEventListener('blur', () => this.closeMentions());
    window.addEventListener('resize', () => this.fit());
    this.text.addEventListener('click', () => this.lookForMention());
  }

  draftKey(conversation) {
    return `andrea-chat-draft-${this.model.me}-${conversation.key}`;
  }

  /** Restores the drafts of an earlier page. */
  restoreDrafts() {
    for (const conversation of this.model.conversations.values()) {
      conversation.draft ||= localStorage.getItem(this.draftKey(conversation)) || '';
    }
  }

  /** Sets the box up for the conversation that was opened. */
  open() {
    const conversation = this.model.active;
    byId('composer').hidden = !conversation.canPost;
    const note = byId('read-only');
    note.hidden = conversation.canPost;
    note.textContent = conversation.scope === 'channel'
      ? 'You can read this channel, but not write in it.'
      : `${conversation.title} is not active any more and cannot be written to.`;
    const name = conversation.scope === 'channel' ? `#${conversation.title}` : conversation.title;
    // An element, because a text area would cut its placeholder off without an ellipsis.
    byId('composer-empty').textContent = `Message ${name}`;
    this.text.setAttribute('aria-label', `Message to ${name}`);
    this.text.value = conversation.draft;
    this.palette.close();
    this.hint('');
    this.changed(false);
  }

  focus() {
    if (!byId('composer').hidden) this.text.focus();
  }

  key(event) {
    if (this.mentionKey(event)) {
      event.preventDefault();
    } else if (event.key === 'Enter' && !event.shiftKey && !event.isComposing) {
      event.preventDefault();
      this.submit();
    }
  }

  submit() {
    const body = this.text.value;
    const length = [...body.trim()].length;
    if (!length) return;
    if (length > this.model.maxLength) {
      this.hint(`This is too long: ${length} of ${this.model.maxLength} characters.`);
      return;
    }
    this.text.value = '';
    this.hint('');
    this.lastTyping = 0;
    this.changed(false);
    this.on.send(this.model.active, body);
    this.text.focus();
  }

  /** Called after every change of the text; `byHand` if the user typed it. */
  changed(byHand) {
    const conversation = this.model.active;
    if (!conversation) return;
    const value = this.text.value;
    const had = conversation.draft.trim() !== '';
    conversation.draft = value;
    remember(this.draftKey(conversation), value);
    if (had !== (value.trim() !== '')) this.on.draft();
    this.fit();
    byId('composer-send').disabled = !value.trim();
    const length = [...value.trim()].length;
    const count = byId('composer-count');
    count.hidden = length < this.model.maxLength * COUNT_FROM;
    count.textContent = String(this.model.maxLength - length);
    count.classList.toggle('over', length > this.model.maxLength);
    if (!byHand) return this.closeMentions();
    this.hint('');
    this.lookForMention();
    const now = Date.now();
    if (value.trim() && now - this.lastTyping > TYPING_EVERY) {
      this.lastTyping = now;
      this.on.typing(conversation);
    }
  }

  /** Makes the box as high as its text, up to a limit. */
  fit() {
    if (FITS_BY_ITSELF) return;
    this.text.style.height = 'auto';
    const height = this.text.scrollHeight;
    this.text.style.height = `${Math.min(height, MAX_LINES_HEIGHT)}px`;
    this.text.style.overflowY = height > MAX_LINES_HEIGHT ? 'auto' : 'hidden';
  }

  hint(text) {
    const hint = byId('composer-hint');
    hint.textContent = text;
    hint.hidden = !text;
  }

  /** Inserts text at the cursor. */
  insert(text) {
    this.text.setRangeText(text, this.text.selectionStart, this.text.selectionEnd, 'end');
    this.changed(true);
    this.text.focus();
  }

  mention(handle) {
    const before = this.text.value.slice(0, this.text.selectionStart);
    this.insert(`${before && !/\s$/.test(before) ? ' ' : ''}@${handle} `);
  }

  /** Puts an unsent message back into an empty box; returns false if the box is in use. */
  giveBack(conversation, body, reason) {
    if (conversation !== this.model.active) {
      if (conversation.draft.trim()) return false;
      conversation.draft = body;
      remember(this.draftKey(conversation), body);
      this.on.draft();
      return true;
    }
    if (this.text.value.trim()) return false;
    this.text.value = body;
    this.changed(false);
    this.hint(reason);
    this.text.focus();
    return true;
  }

  // Mentions: suggests people while an @ and a word are being typed.

  lookForMention() {
    const conversation = this.model.active;
    const before = this.text.value.slice(0, this.text.selectionStart);
    const found = /(?:^|[^A-Za-z0-9_])@([\w-]*)$/.exec(before);
    if (!found || !conversation) return this.closeMentions();
    const word = found[1].toLowerCase();
    const fits = (agent) => agent.handle.toLowerCase().startsWith(word)
      || agent.name.toLowerCase().split(/\s+/).some((part) => part.startsWith(word));
    const matches = conversation.members
      .map(({ id }) => this.model.agent(id))
      .filter((agent) => agent.handle && agent.is_active && agent.id !== this.model.me && fits(agent))
      .slice(0, 6);
    this.mentions = { matches, chosen: 0, from: before.length - found[1].length };
    this.showMentions();
  }

  showMentions() {
    const list = byId('mention-list');
    const { matches, chosen } = this.mentions;
    list.hidden = !matches.length;
    list.replaceChildren(...matches.map((agent, place) => el('li', {
      id: `mention-${agent.id}`, role: 'option', 'aria-selected': String(place === chosen),
      // Not onclick: the box would lose its focus first, and close the list.
      onmousedown: (event) => {
        event.preventDefault();
        this.takeMention(agent);
      },
    }, avatar(agent, this.model.online.has(agent.id)), el('span', {}, agent.name), el('small', {}, `@${agent.handle}`))));
    if (matches.length) this.text.setAttribute('aria-activedescendant', `mention-${matches[chosen].id}`);
    else this.text.removeAttribute('aria-activedescendant');
  }

  mentionKey(event) {
    const { matches, chosen } = this.mentions;
    if (!matches.length || event.altKey || event.isComposing) return false;
    if (event.key === 'ArrowDown' || event.key === 'ArrowUp') {
      const step = event.key === 'ArrowDown' ? 1 : matches.length - 1;
      this.mentions.chosen = (chosen + step) % matches.length;
      this.showMentions();
    } else if (event.key === 'Enter' && this.isWhole(matches[chosen])) {
      this.closeMentions();
      return false;
    } else if (event.key === 'Tab' || (event.key === 'Enter' && !event.shiftKey)) {
      this.takeMention(matches[chosen]);
    } else if (event.key === 'Escape') {
      this.closeMentions();
    } else {
      return false;
    }
    return true;
  }

  /** Whether the handle is complete already, so that Enter sends the message. */
  isWhole(agent) {
    const word = this.text.value.slice(this.mentions.from, this.text.selectionStart);
    return word.toLowerCase() === agent.handle.toLowerCase();
  }

  takeMention(agent) {
    this.text.setRangeText(`${agent.handle} `, this.mentions.from, this.text.selectionStart, 'end');
    this.changed(true);
    this.closeMentions();
  }

  closeMentions() {
    this.mentions = { matches: [], chosen: 0, from: 0 };
    this.showMentions();
  }
}
