// The server renders bodies and escapes them, and the page's policy lets no inline script run. This is the third
// wall: only the elements that the renderer knows get into the page, with only the attributes that it writes.

const policy = window.trustedTypes?.createPolicy('andrea-message', { createHTML: (html) => html });

const INTERNAL = /^#\/(tickets\/\d{1,20}|kb\/[a-z0-9][a-z0-9-]{0,120})$/;
const MAX_DEPTH = 8;

/** The HTML of a message as a fragment of known elements; what is unknown is shown as the text that it is. */
export function safeFragment(html) {
  // Parsed in a document of its own, without a window: nothing in it runs, and nothing is fetched.
  const parsed = new DOMParser().parseFromString(policy ? policy.createHTML(html) : html, 'text/html');
  const fragment = document.createDocumentFragment();
  copy(parsed.body, fragment, 0);
  return fragment;
}

/** Plain text as a fragment, for what the server has not rendered yet. */
export function textFragment(text) {
  const fragment = document.createDocumentFragment();
  fragment.append(text);
  return fragment;
}

function copy(from, to, depth) {
  let afterBreak = false;
  for (const node of from.childNodes) {
    if (node.nodeType === Node.TEXT_NODE) {
      // The renderer writes the line break itself behind its <br>; blanks are kept here, so that one would show too.
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
