// What was written here and has not come back from the server. Nothing typed is lost: a message stays in this list,
// which survives a reload of the page, until the server has shown that it has it, or its writer has taken it back.
//
//   queued   waits for a connection, or for its turn
//   waiting  was refused for a reason that passes, and is sent again in a moment
//   sent     went over the present connection; its `ref` comes back in the answer
//   asking   its connection broke before an answer; the history is looked at before it is sent again
//   failed   the server refused it, or it was tried too often; its writer decides

import { postJson } from './server.js';

/** A service that lost a connection may still be storing what came over it; only then is the history the truth. */
const SETTLE = 1500;
/** The server answers within 5 s or says why not; after this the connection is taken for broken. */
const ANSWER_WITHIN = 15000;
const TRIES = 3;
const RETRY_AFTER = 2000;
/** Refusals that may be gone a moment later. */
const TEMPORARY = new Set(['rate_limited', 'database_unavailable', 'internal']);

/** What the server makes of a body before it stores it: trimmed, and with emoji for emoticons. */
async function storedForm(body) {
  try {
    return (await postJson('/demo/body-text', { body })).body_text;
  } catch (failure) {
    // Larger than such a request may be.
    if (failure.status === 400) return body.trim();
    throw failure;
  }
}

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

  /** Sends what waits, in the order written; what may have arrived already holds back what was written after it. */
  flush() {
    const held = new Set();
    for (const item of this.items) {
      if (item.state === 'asking' || item.state === 'waiting') held.add(item.key);
      if (item.state !== 'queued' || held.has(item.key)) continue;
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
      item.tries += 1;
      this.changed(item.key);
    }
  }

  /** The server has shown a message of mine. True where it answers one of these; then it carries that one's ref. */
  acknowledge(message, ref) {
    const item = this.items.find((one) => one.ref === ref);
    if (!item) return false;
    message.ref = item.ref;
    this.remove(item);
    return true;
  }

  connectionBroke() {
    for (const item of this.items) {
      if (item.state === 'sent') item.state = 'asking';
    }
    this.save();
  }

  /** A connection stands and the history is up to date. `loadOlder(conversation)` loads more of it. */
  async connectionStands(loadOlder) {
    this.flush();
    const socket = this.link.socket;
    const open = this.items.filter((item) => item.state === 'asking');
    if (!open.length) return;
    await new Promise((done) => setTimeout(done, SETTLE));
    for (const item of open) {
      if (this.link.socket !== socket || !this.link.live) return;
      if (item.state !== 'asking' || !this.items.includes(item)) continue;
      try {
        await this.decide(item, loadOlder);
      } catch {
        // The next connection asks again.
        return this.link.drop();
      }
    }
    this.flush();
  }

  /** Looks for an unanswered message in the history. */
  async decide(item, loadOlder) {
    const conversation = this.model.conversations.get(item.key);
    if (!conversation) return this.fail(item, 'You are not in this conversation any more.');
    while (conversation.hasOlder && conversation.messages[0].id > item.after) await loadOlder(conversation);
    const stored = await storedForm(item.body);
    const match = conversation.messages.find((message) => message.id > item.after
      && message.sender_agent_id === this.model.me && !message.ref && message.body_text === stored);
    if (match) {
      match.ref = item.ref;
      this.remove(item);
    } else if (item.tries >= TRIES) {
      this.fail(item, 'The connection broke each time.');
    } else {
      item.state = 'queued';
    }
    this.changed(item.key);
  }

  /** An `error` event that carries the ref of one of these. False where it is none of them. */
  refuse(event) {
    const item = this.items.find((one) => one.ref === event.ref);
    if (!item) return false;
    if (event.code === 'outcome_unknown') {
      item.state = 'asking';
      this.link.drop();
    } else if (TEMPORARY.has(event.code) && item.tries < TRIES) {
      item.state = 'waiting';
      setTimeout(() => { item.state = 'queued'; this.flush(); }, RETRY_AFTER * item.tries);
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
  }

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
