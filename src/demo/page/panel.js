// The service panel: the status and controls of the chat service, like those of a helpdesk administrator.

import { byId, el, icon } from './dom.js';
import { getJson, postJson } from './server.js';
import { ageText, dateOf, fullTime } from './times.js';

const LOOK_EVERY = 1000;

const STATUS_TEXT = {
  running: 'Running', stopped: 'Stopped', stale: 'Stale', failed: 'Failed',
};

export class ServicePanel {
  /** Calls `running()` whenever a look finds the service running. */
  constructor(me, running) {
    this.me = me;
    this.running = running;
    this.dialog = byId('service');
    this.fields = new Map();
    this.dialog.addEventListener('close', () => clearInterval(this.timer));
    // Closes on a press outside; a click event could also come from a press inside.
    this.dialog.addEventListener('pointerdown', (event) => { if (event.target === this.dialog) this.dialog.close(); });
  }

  async open() {
    if (this.dialog.open) return;
    this.build();
    this.dialog.showModal();
    this.timer = setInterval(() => this.look(), LOOK_EVERY);
    await this.look();
  }

  build() {
    const button = (action, text, look) => el('button', {
      type: 'button', class: look, 'data-action': action, onclick: () => this.act(action),
    }, text);
    this.badge = el('span', { class: 'status-badge' }, '…');
    this.facts = el('dl', { class: 'facts' });
    this.answer = el('p', { class: 'answer', role: 'status' });
    this.note = el('p', { class: 'muted small' });
    this.form = el('form', { class: 'settings', onsubmit: (event) => this.save(event) });
    this.saved = el('p', { class: 'answer', role: 'status' });
    this.log = el('ul', { class: 'audit' });
    this.fields.clear();
    this.dialog.replaceChildren(
      el('header', { class: 'service-head' },
        el('h2', { id: 'service-title' }, 'Chat service'), this.badge,
        el('button', { type: 'button', class: 'icon-button', 'aria-label': 'Close', onclick: () => this.dialog.close() }, icon('close'))),
      el('div', { class: 'service-body' },
        el('section', { 'aria-label': 'Status' }, this.facts,
          el('div', { class: 'actions' }, button('start', 'Start', 'primary'), button('restart', 'Restart', 'plain'),
            button('stop', 'Stop', 'danger')),
          this.answer, this.note),
        el('section', { 'aria-labelledby': 'settings-title' }, el('h3', { id: 'settings-title' }, 'Settings'), this.form),
        el('section', { 'aria-labelledby': 'audit-title' }, el('h3', { id: 'audit-title' }, 'Recent requests'), this.log)),
    );
  }

  async look() {
    try {
      this.show(await getJson('/demo/service'));
    } catch (failure) {
      this.setBadge('stopped', 'No answer');
      this.dialog.classList.add('silent');
      for (const button of this.dialog.querySelectorAll('[data-action]')) button.disabled = true;
      this.answer.textContent = `${failure.message}. If the demo was ended, start it again where you started it.`;
      this.answer.dataset.silent = '1';
    }
  }

  setBadge(status, text) {
    this.badge.dataset.status = status;
    this.badge.textContent = text;
  }

  show(status) {
    this.dialog.classList.remove('silent');
    if (this.answer.dataset.silent) {
      delete this.answer.dataset.silent;
      this.answer.textContent = '';
    }
    if (status.effective_status === 'running') this.running();
    this.setBadge(status.effective_status, STATUS_TEXT[status.effective_status] || status.effective_status);
    const age = status.heartbeat_age === null ? 'never' : `${ageText(Math.max(0, status.heartbeat_age))} ago`;
    const facts = [
      ['Recorded status', status.recorded_status],
      ['Process', status.pid ? `${status.pid}${status.pid_alive ? '' : ' (gone)'}` : '–'],
      ['Heartbeat', age],
      ['Started', status.started_at ? fullTime(dateOf(status.started_at)) : '–'],
      ['Address', status.address],
      ['Connections', `${status.connections}, ${status.online_agents} ${status.online_agents === 1 ? 'agent' : 'agents'}`],
      ['Managed by', status.mode === 'cron' ? 'the supervisor (mode cron)' : 'a service manager (mode external)'],
      ['Requested', status.requested.length ? status.requested.join(', ') : 'nothing'],
    ];
    const texts = facts.flat().join('\n');
    if (this.facts.dataset.texts !== texts) {
      this.facts.dataset.texts = texts;
      this.facts.replaceChildren(...facts.map(([name, value]) => el('div', {}, el('dt', {}, name), el('dd', {}, value))));
    }
    // Buttons without effect are disabled. In external mode all are enabled, and the answer names the service manager.
    const stopped = status.mode === 'cron' && ['stopped', 'failed'].includes(status.effective_status);
    const running = status.mode === 'cron' && status.effective_status === 'running';
    for (const button of this.dialog.querySelectorAll('[data-action]')) {
      button.disabled = button.dataset.action === 'start' ? running : stopped;
    }
    this.note.textContent = status.mode === 'cron'
      ? 'The buttons set flags; the supervisor acts on them. In an install it looks once a minute, here once a second.'
      : 'In this mode nothing is started or stopped from here: that is the service manager’s part.';
    this.showSettings(status.settings);
    this.log.replaceChildren(...(status.audit.length
      ? status.audit.map((row) => el('li', {}, el('code', {}, row.action), el('span', { class: 'muted' }, fullTime(dateOf(row.created_at)))))
      : [el('li', { class: 'muted' }, 'Nothing yet.')]));
  }

  showSettings(settings) {
    if (!this.fields.size) {
      for (const setting of settings) this.fields.set(setting.key, this.field(setting));
      this.form.append(...[...this.fields.values()].map((field) => field.row),
        el('div', { class: 'actions' }, el('button', { type: 'submit', class: 'primary' }, 'Save'), this.saved));
    }
    for (const { key, value } of settings) {
      const field = this.fields.get(key);
      if (!field) continue;
      // A field that is being edited is not overwritten.
      if (read(field.input) === field.stored) write(field.input, value);
      field.stored = value;
    }
  }

  field(setting) {
    const id = `setting-${setting.key}`;
    const describedby = `${id}-error`;
    let input;
    if (setting.kind === 'boolean') {
      input = el('input', { id, type: 'checkbox', class: 'switch', role: 'switch', 'aria-describedby': describedby });
    } else if (setting.kind === 'choice') {
      input = el('select', { id, 'aria-describedby': describedby }, ...setting.choices.map((choice) => el('option', { value: choice }, choice)));
    } else {
      input = el('input', {
        id, type: 'text', spellcheck: 'false', 'aria-describedby': describedby,
        inputmode: setting.kind === 'integer' ? 'numeric' : null,
      });
    }
    write(input, setting.value);
    const error = el('p', { id: describedby, class: 'field-error', hidden: true });
    const row = el('div', { class: `field ${setting.kind}` },
      el('label', { for: id }, setting.label, setting.note ? el('small', {}, setting.note) : null), input, error);
    return { row, input, error, stored: setting.value };
  }

  async save(event) {
    event.preventDefault();
    const values = {};
    for (const [key, field] of this.fields) {
      field.error.hidden = true;
      field.input.removeAttribute('aria-invalid');
      if (read(field.input) !== field.stored) values[key] = read(field.input);
    }
    if (!Object.keys(values).length) {
      this.saved.textContent = 'Nothing was changed.';
      return;
    }
    try {
      await postJson('/demo/service/settings', { agent: this.me, values });
      this.saved.textContent = 'Saved.';
      for (const [key, value] of Object.entries(values)) this.fields.get(key).stored = value;
      await this.look();
    } catch (failure) {
      this.saved.textContent = failure.status === 422 ? 'Nothing was saved.' : failure.message;
      let first = true;
      for (const [key, text] of Object.entries(failure.answer?.errors || {})) {
        const field = this.fields.get(key);
        field.error.textContent = text;
        field.error.hidden = false;
        field.input.setAttribute('aria-invalid', 'true');
        if (first) field.input.focus();
        first = false;
      }
    }
  }

  async act(action) {
    try {
      const answer = await postJson(`/demo/service/${action}`, { agent: this.me });
      this.answer.textContent = answer.message;
    } catch (failure) {
      this.answer.textContent = failure.message;
    }
    await this.look();
  }
}

const read = (input) => (input.type === 'checkbox' ? (input.checked ? '1' : '0') : input.value.trim());

function write(input, value) {
  if (input.type === 'checkbox') input.checked = value === '1';
  else input.value = value;
}
