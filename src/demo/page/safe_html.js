// The third defence, after the server, which escapes bodies, and the page's policy, which forbids inline scripts: only
// the elements that the renderer produces get into the page, with only the attributes that it writes.

const policy = window.trustedTypes?.createPolicy('andrea-message', { createHTML: (html) => html });

const INTERNAL = /^#\/(tickets\/\d{1,20}|kb\/[a-z0-9][a-z0-9-]{0,120})$/;
const MAX_DEPTH = 8;

/** The HTML of a message as a fragment of known elements; unknown ones are shown as text. */
export function safeFragment(html) {
  // Parsed into a document without a window, in which no script runs and nothing is fetched.
  const parsed = new DOMParser().parseFromString(policy ? policy.createHTML(html) : html, 'text/html');
  const fragment = document.createDocumentFragment();
  copy(parsed.body, fragment, 0);
  return fragment;
}

/** Plain text as a fragment, for text that the server has not rendered. */
export function textFragment(text) {
  const fragment = document.createDocumentFragment();
  fragment.append(text);
  return fragment;
}

function copy(from, to, depth) {
  let afterBreak = false;
  for (const node of from.childNodes) {
    if (node.nodeType === Node.TEXT_NODE) {
      // The renderer writes a line feed after each <br>. The page keeps white space, so it would show as a second break.
      to.append(afterBreak ? node.data.replace(/^(\r\n|\n\r|\n|\r)/, '') : node.data);
      afterBreak = false;
    } else if (node.nodeType === Node.ELEMENT_NODE) {
      const known = depth < MAX_DEPTH ? knownElement(node) : null;
      if (known) {
        copy(node, known, depth + 1);
        to.append(known);
      } else {
        to.append(node.outerHTML);
      }
      afterBreak = node.tagName === 'BR';
    }
  }
}

function knownElement(node) {
  switch (node.tagName) {
    case 'BR':
      return document.createElement('br');
    case 'SPAN': {
      if (node.className !== 'chat-mention') return null;
      const mention = document.createElement('span');
      mention.className = 'chat-mention';
      return mention;
    }
    case 'A': {
      const href = node.getAttribute('href') || '';
      const link = document.createElement('a');
      if (INTERNAL.test(href)) {
        link.className = 'chat-internal-link';
      } else if (/^https?:\/\//i.test(href)) {
        link.target = '_blank';
        link.rel = 'noopener noreferrer';
      } else {
        return null;
      }
      link.setAttribute('href', href);
      return link;
    }
    default:
      return null;
  }
}
