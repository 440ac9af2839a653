// Building blocks of the page: elements, icons, avatars. Text only ever goes in as text.

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

/** An icon out of the sprite in index.html. */
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
  // Far apart for ids that follow each other.
  picture.style.setProperty('--hue', String((agent.id * 137 + 40) % 360));
  if (online !== undefined) picture.append(el('i', { class: online ? 'dot on' : 'dot' }));
  return picture;
}

/** Brings the children of `parent` into line with `wanted`, a list of elements, moving as few as possible: what
 * stays where it is keeps its selection and its layout, and is not announced again. */
export function arrange(parent, wanted) {
  const stays = new Set(wanted);
  for (const child of [...parent.children]) if (!stays.has(child)) child.remove();
  let place = parent.firstChild;
  for (const element of wanted) {
    if (element === place) place = place.nextSibling;
    else parent.insertBefore(element, place);
  }
}

let toastTimer;

/** A short remark at the lower edge. */
export function toast(text) {
  const element = byId('toast');
  element.textContent = text;
  element.hidden = false;
  clearTimeout(toastTimer);
  toastTimer = setTimeout(() => { element.hidden = true; }, 4000);
}
