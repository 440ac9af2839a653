// A small palette of emoji, for the keyboard as well as for the pointer.

import { byId, el } from './dom.js';

const COLUMNS = 8;

const EMOJI = [
  ['🙂', 'smiling'], ['😃', 'happy'], ['😂', 'tears of joy'], ['😉', 'winking'], ['😍', 'in love'], ['🤔', 'thinking'],
  ['😮', 'surprised'], ['😢', 'crying'],
  ['😕', 'confused'], ['😅', 'relieved'], ['😎', 'cool'], ['🙃', 'upside down'], ['😴', 'asleep'], ['🤯', 'mind blown'],
  ['🥳', 'celebrating'], ['🙈', 'not looking'],
  ['👍', 'thumbs up'], ['👎', 'thumbs down'], ['👏', 'clapping'], ['🙏', 'thank you'], ['👋', 'waving'], ['👀', 'looking'],
  ['💪', 'strong'], ['🤝', 'agreed'],
  ['❤️', 'heart'], ['🎉', 'party'], ['🔥', 'fire'], ['✅', 'done'], ['❌', 'no'], ['⚠️', 'warning'], ['❓', 'question'],
  ['💡', 'idea'],
  ['☕', 'coffee'], ['🍕', 'pizza'], ['🎂', 'cake'], ['🐛', 'bug'], ['🚀', 'rocket'], ['📎', 'paper clip'], ['📞', 'telephone'],
  ['⏰', 'alarm clock'],
];

export class EmojiPalette {
  /** Calls `choose(emoji)` with the choice; `home` gets the focus back. */
  constructor(choose, home) {
    this.home = home;
    this.button = byId('emoji-button');
    this.panel = byId('emoji');
    this.items = EMOJI.map(([emoji, name], place) => el('button', {
      type: 'button', 'aria-label': name, title: name, tabindex: place ? '-1' : '0',
      onclick: () => {
        this.close();
        choose(emoji);
      },
    }, emoji));
    this.panel.append(...this.items);
    this.panel.addEventListener('keydown', (event) => this.key(event));
    this.button.onclick = () => (this.panel.hidden ? this.open() : this.close(true));
    document.addEventListener('pointerdown', (event) => {
      if (!this.panel.contains(event.target) && !this.button.contains(event.target)) this.close();
    });
  }

  open() {
    this.panel.hidden = false;
    this.button.setAttribute('aria-expanded', 'true');
    this.focus(0);
  }

  close(goHome = false) {
    this.panel.hidden = true;
    this.button.setAttribute('aria-expanded', 'false');
    if (goHome) this.home.focus();
  }

  focus(place) {
    for (const item of this.items) item.tabIndex = -1;
    this.items[place].tabIndex = 0;
    this.items[place].focus();
  }

  key(event) {
    const place = this.items.indexOf(document.activeElement);
    const steps = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: COLUMNS, ArrowUp: -COLUMNS };
    if (event.altKey) return;
    if (event.key === 'Escape') this.close(true);
    else if (event.key === 'Tab') return this.close();
    else if (event.key === 'Home') this.focus(0);
    else if (event.key === 'End') this.focus(this.items.length - 1);
    else if (event.key in steps) {
      const next = place + steps[event.key];
      if (next >= 0 && next < this.items.length) this.focus(next);
    } else {
      return;
    }
    event.preventDefault();
    event.stopPropagation();
  }
}
