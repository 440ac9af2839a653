// The body of a message as this page shows it: its HTML, pasted logs in monospace, long ones folded.

import { el } from './dom.js';
import { safeFragment, textFragment } from './safe_html.js';

/** Lines of a long message that are shown at first. */
const FOLDED = 12;
/** Fewest lines of a text that counts as a log. */
const LOG_LINES = 4;
/** How lines of logs, traces and configuration begin: a time, a level, an indentation, a prompt, a stack frame. */
const LOG_LINE = /^\s*(\[?\d{4}-\d\d-\d\d|\[?\d\d:\d\d(:\d\d)?|\w{3} +\d+ \d\d:\d\d|\[?(ERROR|WARN(ING)?|INFO|DEBUG|TRACE|FATAL|NOTICE)\b|at \S|#\d|[$>#] |\d+\.\d+\.\d+\.\d+ )|^( {2,}|\t)\S|[{};]\s*$/;

function isLog(lines) {
  const like = lines.filter((line) => LOG_LINE.test(line)).length;
  return lines.length >= LOG_LINES && like * 2 >= lines.length;
}

/** Fills `body` with a message. `mine` is the reader's own handle. */
export function showBody(body, message, mine) {
  body.className = 'body';
  if (message.deleted_at) {
    body.replaceChildren('This message was deleted.');
    return;
  }
  const html = message.body_rendered_html;
  body.replaceChildren(html === null ? textFragment(message.body_text) : safeFragment(html));
  for (const mention of body.querySelectorAll('.chat-mention')) {
    if (mine && mention.textContent === `@${mine.toLowerCase()}`) mention.classList.add('mine');
  }
  for (const link of body.querySelectorAll('.chat-internal-link')) {
    link.title = link.getAttribute('href').startsWith('#/kb/') ? 'Article of the knowledge base' : 'Ticket';
  }
  const lines = message.body_text.split('\n');
  body.classList.toggle('is-log', isLog(lines));
  body.nextElementSibling?.remove();
  if (message.edited_at) body.append(el('small', { class: 'edited' }, ' (edited)'));
  if (lines.length <= FOLDED) return;
  body.classList.add('folded');
  const label = `Show all ${lines.length} lines`;
  const button = el('button', {
    type: 'button', class: 'link-button unfold', 'aria-expanded': 'false', onclick: () => {
      const folded = body.classList.toggle('folded');
      button.textContent = folded ? label : 'Show less';
      button.setAttribute('aria-expanded', String(!folded));
    },
  }, label);
  body.after(button);
}
