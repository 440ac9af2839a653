// The people of the open conversation, and the button that shows them.

import { avatar, byId, el, icon, remember } from './dom.js';

/** Most people that the list shows; the filter finds the others. */
const MOST = 60;

export class People {
  /** `on.mention(handle)`, `on.direct(agentId)`. */
  constructor(model, on) {
    this.model = model;
    this.on = on;
    this.filter = '';
    byId('people-toggle').onclick = () => this.show(byId('people').hidden);
    byId('people').addEventListener('keydown', (event) => {
      if (event.key === 'Escape') {
        this.show(false);
        byId('people-toggle').focus();
      }
    });
    byId('scrim').addEventListener('click', () => this.show(false));
    this.list = el('div', { class: 'people-list' });
    const filter = el('input', {
      type: 'search', class: 'people-filter', placeholder: 'Filter people', 'aria-label': 'Filter people', oninput: () => {
        this.filter = filter.value.trim().toLowerCase();
        this.update();
      },
    });
    byId('people').replaceChildren(
      el('header', { class: 'people-head' }, el('h2', {}, 'People'),
        el('button', {
          class: 'icon-button', type: 'button', 'aria-label': 'Hide the people', onclick: () => {
            this.show(false);
            byId('people-toggle').focus();
          },
        }, icon('close'))),
      filter, this.list);
    this.filterBox = filter;
    const beside = matchMedia('(min-width: 1101px)');
    const follow = () => this.show(beside.matches && localStorage.getItem('andrea-chat-people') !== '0', false);
    beside.addEventListener('change', follow);
    follow();
  }

  show(open, byHand = true) {
    byId('people').hidden = !open;
    document.body.classList.toggle('people-open', open);
    byId('people-toggle').setAttribute('aria-expanded', String(open));
    if (byHand && innerWidth > 1100) remember('andrea-chat-people', open ? '1' : '0');
  }

  update() {
    const conversation = this.model.active;
    if (!conversation) return;
    const shows = [conversation.members, this.model.agents, this.model.online, this.filter];
    if (shows.every((one, place) => one === this.shows?.[place])) return;
    this.shows = shows;
    const online = (id) => this.model.online.has(id);
    const people = conversation.members
      .map(({ id, canPost }) => ({ ...this.model.agent(id), canPost }))
      .filter((agent) => agent.is_active !== false)
      .sort((a, b) => online(b.id) - online(a.id) || a.name.localeCompare(b.name));
    const here = people.filter((agent) => online(agent.id));
    byId('people-toggle').replaceChildren(
      el('span', { class: 'stack', 'aria-hidden': 'true' }, ...people.slice(0, 3).map((agent) => avatar(agent))),
      el('span', { class: 'people-count' }, `${here.length} of ${people.length} online`));
    byId('people-toggle').title = 'Who is here';
    this.filterBox.hidden = people.length < 12;
    const fits = (agent) => `${agent.name} @${agent.handle ?? ''}`.toLowerCase().includes(this.filter);
    const found = people.filter(fits);
    const shown = found.slice(0, MOST);
    const group = (title, agents, of) => (agents.length ? [
      el('h3', {}, `${title} – ${of}`),
      el('ul', {}, ...agents.map((agent) => this.person(agent, online(agent.id)))),
    ] : []);
    this.list.replaceChildren(
      ...group('Online', shown.filter((agent) => online(agent.id)), found.filter((agent) => online(agent.id)).length),
      ...group('Offline', shown.filter((agent) => !online(agent.id)), found.filter((agent) => !online(agent.id)).length),
      ...(found.length > shown.length ? [el('p', { class: 'muted small' }, `${found.length - shown.length} more: use the filter.`)] : []));
  }

  person(agent, online) {
    const me = agent.id === this.model.me;
    const about = [agent.handle ? `@${agent.handle}` : '', agent.role === 'admin' ? 'admin' : '', agent.canPost ? '' : 'reads only'];
    const content = [avatar(agent, online), el('span', { class: 'person-text' },
      el('span', { class: 'person-name', dir: 'auto' }, agent.name, me ? el('small', {}, ' (you)') : null),
      el('small', {}, about.filter(Boolean).join(' · ')),
      el('span', { class: 'sr' }, online ? ', online' : ', offline'))];
    if (me) return el('li', { class: 'person' }, ...content);
    const canMention = agent.handle && this.model.active.canPost;
    const first = canMention
      ? el('button', { type: 'button', class: 'person', title: `Mention @${agent.handle}`, onclick: () => this.on.mention(agent.handle) }, ...content)
      : el('span', { class: 'person' }, ...content);
    return el('li', { class: 'person-row' }, first, el('button', {
      type: 'button', class: 'icon-button', title: `Message ${agent.name}`, 'aria-label': `Message ${agent.name}`,
      onclick: () => this.on.direct(agent.id),
    }, icon('chat')));
  }
}
