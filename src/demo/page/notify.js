// Signs of unread messages while the window is not in front: desktop notifications, title and icon.

import { byId, icon, remember } from './dom.js';

const STORED = 'andrea-chat-notify';

export class Notifier {
  /** A click on a notification calls `open(conversation)`; `say(text)` shows a remark. */
  constructor(open, say) {
    this.open = open;
    this.say = say;
    this.count = -1;
    this.button = byId('notify');
    this.button.hidden = !('Notification' in window);
    this.button.append(icon('bell'));
    this.button.onclick = () => this.toggle();
    this.show();
  }

  get isOn() {
    return 'Notification' in window && Notification.permission === 'granted' && localStorage.getItem(STORED) === '1';
  }

  async toggle() {
    if (this.isOn) {
      remember(STORED, '0');
    } else if (await Notification.requestPermission() === 'granted') {
      remember(STORED, '1');
    } else {
      this.say('The browser does not allow notifications for this page.');
    }
    this.show();
  }

  show() {
    this.button.setAttribute('aria-pressed', String(this.isOn));
    this.button.title = `Desktop notifications: ${this.isOn ? 'on' : 'off'}`;
  }

  /** Notifies of another agent's message, unless the window is in front. */
  message(message, conversation) {
    if (!this.isOn || (!document.hidden && document.hasFocus())) return;
    const title = conversation.scope === 'channel' ? `${message.sender_name} in #${conversation.title}` : message.sender_name;
    const notification = new Notification(title, { body: message.body_text.slice(0, 200), tag: conversation.key, icon: '/icon.svg' });
    notification.onclick = () => {
      window.focus();
      this.open(conversation);
      notification.close();
    };
  }

  /** Updates title and icon of the window. */
  unread(count, where) {
    const title = `${count ? `(${count}) ` : ''}${where ? `${where} · ` : ''}Andrea chat`;
    if (document.title !== title) document.title = title;
    if (this.count === count) return;
    this.count = count;
    document.querySelector('link[rel="icon"]').href = count ? badge(count) : '/icon.svg';
  }
}

function badge(count) {
  const canvas = document.createElement('canvas');
  canvas.width = canvas.height = 64;
  const pen = canvas.getContext('2d');
  pen.fillStyle = '#0f766e';
  pen.beginPath();
  pen.roundRect(0, 0, 64, 64, 16);
  pen.fill();
  pen.fillStyle = '#fff';
  pen.font = `bold ${count > 99 ? 28 : 40}px sans-serif`;
  pen.textAlign = 'center';
  pen.textBaseline = 'middle';
  pen.fillText(count > 99 ? '99+' : String(count), 32, 35);
  return canvas.toDataURL();
}
