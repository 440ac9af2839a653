// What was written here and has not come back from the server. Nothing typed is lost: a message stays in this list,
// which survives a reload of the page, until the server has shown that it has it, or its writer has taken it back.
//
//   queued   waits for a connection, or for its turn
//   sent     went over the present connection; its `ref` comes back in the answer
//   waiting  was refused for a reason that passes, and is sent again in a moment
//   failed   the server refused it, or it was tried too often; its writer decides
//
// Where a connection breaks before the answer, the message is sent again with the same `ref`: the server keeps the
// `ref` beside the message and stores no second one, for a while. What is older than that while is looked for in the
// history first.

/** The server answers within 5 s or says why not; after this, in ms, the connection is taken for broken. */
const ANSWER_WITHIN = 15000;
/** For so long, in ms, the server is sure to recognise a `ref`. It does for 10 minutes; clocks may differ. */
const RECOGNISED_FOR = 8 * 60 * 1000;
const TRIES = 4;
const RETRY_AFTER = 2000;
/** Refusals that may be gone a moment later. */
const TEMPORARY = new Set(['rate_limited', 'database_unavailable', 'outcome_unknown', 'internal']);

export class Outbox {
  /** `on.changed(conversationKey)`, `on.refused(item)` for what its writer has to decide about. */
  constructor(model, link, on) {
    this.model = model;
    this.link = link;
    this.on = on;
    this.store = `andrea-chat-outbox-${model.me}`;
    this.items = [];
    try {
      this.items = JSON.parse(sessionStorage.getItem(this.store) || '[]');
    } catch {
      // What cannot be read cannot be sent.
    }
    for (const item of this.items) if (item.state === 'waiting') item.state = 'queued';
    this.connectionBroke();
    setInterval(() => this.checkAnswers(), 1000);
  }

  of(key) {
    return this.items.filter((item) => item.key === key);
  }

  /** Takes a message that was just written. */
  add(conversation, body) {
    this.items.push({
      // Not crypto.randomUUID: that is missing where the page is not loaded over a secure address.
      ref: Array.from(crypto.getRandomValues(new Uint32Array(3)), (part) => part.toString(36)).join('-'),
      key: conversation.key,
      body,
      state: 'queued',
      after: conversation.newestId,
      tries: 0,
      at: Date.now(),
    });
    this.changed(conversation.key);
    this.flush();
  }

  /** Sends what waits, in the order written: in each conversation one after the other, so that a refusal that passes,
   * or a connection that breaks, cannot change the order. */
  flush() {
    const held = new Set();
    for (const item of this.items) {
      if (item.state === 'failed' || held.has(item.key)) continue;
      held.add(item.key);
      if (item.state !== 'queued') continue;
      const conversation = this.model.conversations.get(item.key);
      if (!conversation) continue;
      const direct = conversation.scope === 'direct';
      const sent = this.link.send({
        type: direct ? 'chat.direct.message.send' : 'chat.channel.message.send',
        [direct ? 'thread_id' : 'channel_id']: conversation.id,
        body: item.body,
        ref: item.ref,
      });
      if (!sent) return;
      item.state = 'sent';
      item.sentAt = Date.now();
      item.firstSentAt ||= item.sentAt;
      item.tries += 1;
      this.changed(item.key);
    }
  }

  /** The server has shown messages of mine: those that wait here are done. */
  acknowledge(messages) {
    const shown = new Set(messages.map((message) => message.ref));
    const done = this.items.filter((item) => shown.has(item.ref));
    for (const item of done) this.remove(item);
    if (done.length) this.flush();
  }

  connectionBroke() {
    for (const item of this.items) {
      if (item.state !== 'sent') continue;
      item.state = 'queued';
      if (item.tries >= TRIES) this.fail(item, 'The connection broke each time.');
    }
    this.save();
  }

  /** A connection stands, and the newest history is known. `loadOlder(conversation)` loads more of it. */
  async connectionStands(loadOlder) {
    for (const item of [...this.items]) {
      const conversation = this.model.conversations.get(item.key);
      if (!conversation) {
        this.fail(item, 'You are not in this conversation any more.');
        continue;
      }
      if (!item.firstSentAt || Date.now() - item.firstSentAt < RECOGNISED_FOR) continue;
      while (conversation.hasOlder && conversation.messages[0].id > item.after) await loadOlder(conversation);
      this.acknowledge(conversation.messages);
    }
    this.flush();
  }

  /** An `error` event that carries the ref of one of these. False where it is none of them. */
  refuse(event) {
    const item = this.items.find((one) => one.ref === event.ref);
    if (!item) return false;
    if (TEMPORARY.has(event.code) && item.tries < TRIES) {
      item.state = 'waiting';
      setTimeout(() => {
        if (item.state === 'waiting') item.state = 'queued';
        this.flush();
      }, RETRY_AFTER * item.tries);
    } else {
      this.fail(item, event.message);
    }
    return true;
  }

  fail(item, reason) {
    item.state = 'failed';
    item.reason = reason;
    this.changed(item.key);
    this.on.refused(item);
    this.flush();
  }

  /** Its writer wants it sent after all. */
  retry(item) {
    item.state = 'queued';
    item.tries = 0;
    this.changed(item.key);
    this.flush();
  }

  remove(item) {
    this.items = this.items.filter((one) => one !== item);
    this.changed(item.key);
  }

  checkAnswers() {
    const late = Date.now() - ANSWER_WITHIN;
    if (this.items.some((item) => item.state === 'sent' && item.sentAt < late)) this.link.drop();
  }

  changed(key) {
    this.save();
    this.on.changed(key);
  }

  save() {
    try {
      sessionStorage.setItem(this.store, JSON.stringify(this.items));
    } catch {
      // Without room for it the list lives as long as the page.
    }
  }
}
