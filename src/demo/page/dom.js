// Building blocks of the page: elements, icons, avatars. Text is only ever inserted as text, never as HTML.

export const byId = (id) => document.getElementById(id);

/** An element with attributes, listeners (`onclick`…) and children; `null` children are left out. */
export function el(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith('on')) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? '' : value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

const SVG = 'http://www.w3.org/2000/svg';

/** An icon of the sprite in index.html. */
export function icon(name) {
  const svg = document.createElementNS(SVG, 'svg');
  svg.setAttribute('class', 'icon');
  svg.setAttribute('aria-hidden', 'true');
  const use = document.createElementNS(SVG, 'use');
  use.setAttribute('href', `#i-${name}`);
  svg.append(use);
  return svg;
}

function initials(name) {
  const words = name.split(/\s+/u).filter((word) => /^[\p{L}\p{N}]/u.test(word));
  const letters = words.length > 1 ? [words[0], words[words.length - 1]] : words;
  return letters.map((word) => [...word][0]).join('').toUpperCase() || '?';
}

/** A round picture with an agent's initials; an agent always has the same colour. */
export function avatar(agent, online) {
  const picture = el('span', { class: online === undefined ? 'avatar' : 'avatar marked', 'aria-hidden': 'true' }, initials(agent.name));
  // 137 degrees (the golden angle) keep the hues of consecutive ids far apart.
  picture.style.setProperty('--hue', String((agent.id * 137 + 40) % 360));
  if (online !== undefined) picture.append(el('i', { class: online ? 'dot on' : 'dot' }));
  return picture;
}

/** Makes `wanted`, a list of elements, the children of `parent`. Elements that stay in place are not moved: they keep
 * their selection and layout, and are not announced again. */
export function arrange(parent, wanted) {
  const stays = new Set(wanted);
  for (const child of [...parent.children]) if (!stays.has(child)) child.remove();
  let place = parent.firstChild;
  for (const element of wanted) {
    if (element === place) place = place.nextSibling;
    else parent.insertBefore(element, place);
  }
}

/** Writes to the browser's storage, or removes what is there if `value` is empty. If the storage is full, the page goes
 * on without. */
export function remember(key, value) {
  try {
    if (value) localStorage.setItem(key, value);
    else localStorage.removeItem(key);
  } catch {
    // What is not stored lasts as long as the page.
  }
}

let toastTimer;

/** Shows a short remark at the lower edge for 4 s. */
export function toast(text) {
  const element = byId('toast');
  element.textContent = text;
  element.hidden = false;
  clearTimeout(toastTimer);
  toastTimer = setTimeout(() => { element.hidden = true; }, 4000);
}
