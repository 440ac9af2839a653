// Client of Andrea Helpdesk's internal chat: one file without dependencies. README.md explains its use, andrea-chat.d.ts
// all types, options, methods and events, and contrib/asyncapi.yaml the protocol.
//
// Listeners get each message once, in the order of the ids within its conversation. After a lost connection the client
// asks for what it missed, from an id that it has known for `settleTime`, because ids can become visible out of order.
// A sent message stays in the queue until it is answered. If resent, it has the same `ref`, which the service recognises.

/** Times in ms. */
const DEFAULTS = {
  token: null, afterId: null, maxMissed: 10000,
  storage: null, storageKey: 'andrea-chat-queue', keepFailed: false,
  minDelay: 500, maxDelay: 30000, stableTime: 10000, settleTime: 30000,
  connectTimeout: 15000, answerTimeout: 15000, pingInterval: 25000, pongTimeout: 10000,
};

/** How long to trust that the service recognises a `ref`: it does for 10 minutes, minus 2 for delays. */
const RECOGNISED_FOR = 8 * 60 * 1000;
const TYPING_INTERVAL = 1000;
const TICK = 1000;
/** The largest page of `chat.history`. */
const PAGE = 200;
const CREATED = new Set(['chat.channel.message.created', 'chat.direct.message.created']);
/** Temporary refusals, after which the message is sent again. */
const TEMPORARY = new Set(['rate_limited', 'database_unavailable', 'outcome_unknown', 'internal', 'disconnected']);
/** Close codes that blame a frame of this client. */
const FAULTS = new Set([1002, 1003, 1007, 1009]);
/** Shortest pause after a close code, in multiples of `minDelay`. */
const PAUSES = { 1001: 2, 1008: 60, 1011: 2, 1013: 2, 4408: 2 };
/** Refused tokens in a row after which the client gives up. */
const TOKENS_TRIED = 3;

/** A request that failed; andrea-chat.d.ts lists the values of `code`. */
export class ChatError extends Error {
  constructor(code, message) {
    super(message);
    Object.assign(this, { name: 'ChatError', code });
  }
}

/** The members that name a conversation, taken from `{ channel_id }`, `{ thread_id }`, a message or an event. */
function place({ channel_id: channel, thread_id: thread }) {
  return channel ? { scope: 'channel', channel_id: channel } : { scope: 'direct', thread_id: thread };
}

const keyOf = (conversation) => Object.values(place(conversation)).join(':');

/** The `ref` that a message was sent with; the service keeps it with the message. */
export function refOf(message) {
  try {
    const { ref } = JSON.parse(message.metadata_json) ?? {};
    return ref === undefined ? null : String(ref);
  } catch {
    return null;
  }
}

/** An answer without the members that identify the request. */
const contents = ({ type, ref, scope, channel_id, thread_id, ...found }) => found;

/** A new `ref`. Those of one agent must be unique for 10 minutes, while the service recognises them. */
const newRef = () => `${Date.now().toString(36)}-${Math.random().toString(36).slice(2)}`;

export class ChatClient {
  #options;
  #listeners = new Map();
  #socket = null;
  #attempt = null;
  #timers = {};
  #refusedTokens = 0;
  #liveSince = 0;
  #heard = 0;
  #pinged = 0;
  #questions = new Map();
  #promises = new Map();
  #typed = new Map();
  #queue = { agent: null, items: [] };
  /** The client resumes from this id: every message up to it is known and settled. Null before the first connection. */
  #floor;
  /** Id of the newest message from before this client; listeners get no message up to it. */
  #start;
  #newest = 0;
  /** Known ids that are not settled yet, and when they came. */
  #known = new Map();
  /** Events that arrive while the client catches up; null otherwise. */
  #held = null;
  #wake = () => { if (!globalThis.document?.hidden) this.check(); };

  constructor(options) {
    const { WebSocket, location } = globalThis;
    const url = `${location?.origin.replace(/^http/, 'ws')}/ws/chat`;
    const given = Object.entries(options).filter(([, value]) => value !== undefined);
    this.#options = { ...DEFAULTS, ...Object.fromEntries(given) };
    this.#options.url ||= url;
    if (!this.#options.WebSocket && !WebSocket) throw new Error('This runtime has no WebSocket; hand one in: new ChatClient({ WebSocket, … })');
    this.#floor = this.#start = this.#options.afterId;
    this.state = 'idle';
    this.reason = '';
    this.retryAt = 0;
    this.failures = 0;
    this.agentId = null;
    this.online = new Set();
    this.#restore();
  }

  get queue() { return this.#queue.items; }
  get afterId() {
    this.#settleKnown();
    return this.#floor;
  }

  on(type, listener) {
    const all = this.#listeners.get(type) ?? new Set();
    this.#listeners.set(type, all.add(listener));
    return () => all.delete(listener);
  }

  // --- the connection ------------------------------------------------------------------------

  connect() {
    if (this.state !== 'idle' && this.state !== 'closed') return;
    globalThis.addEventListener?.('online', this.#wake);
    globalThis.document?.addEventListener('visibilitychange', this.#wake);
    this.failures = this.#refusedTokens = 0;
    this.#open();
  }

  close() {
    this.#end('closed', 'closed by the program');
  }

  check() {
    if (this.state === 'waiting') this.#open();
    else if (this.state === 'live' && !this.#pinged && this.#write({ type: 'ping' })) this.#pinged = Date.now();
  }

  async #open() {
    clearTimeout(this.#timers.retry);
    const attempt = this.#attempt = {};
    this.#expectProgress();
    this.#become('connecting', this.reason);
    let token;
    try {
      token = await (typeof this.#options.token === 'function' ? this.#options.token() : this.#options.token);
    } catch (error) {
      if (attempt === this.#attempt) this.#lost(0, `no token: ${error.message}`);
      return;
    }
    if (attempt !== this.#attempt) return;
    if (!token) {
      this.#end('unauthorized', 'there is no token');
      return;
    }
    try {
      this.#socket = new (this.#options.WebSocket ?? globalThis.WebSocket)(this.#options.url);
    } catch (error) {
      this.#end('bad_url', error.message);
      return;
    }
    const socket = this.#socket;
    const current = () => socket === this.#socket;
    socket.onopen = () => {
      if (!current()) return;
      this.#held = this.#floor === null ? null : [];
      socket.send(JSON.stringify({ type: 'auth', token, ...(this.#held && { after_id: this.#floor }) }));
    };
    socket.onmessage = ({ data }) => { if (current()) this.#receive(JSON.parse(data)); };
    socket.onclose = ({ code, reason }) => { if (current()) this.#lost(code, reason); };
    // A close event follows, but not in Node 22 if the connection was never open.
    socket.onerror = () => { if (current() && socket.readyState === 0) this.#drop('no connection'); };
  }

  /** Until the client has caught up, it drops a connection that makes no progress for `connectTimeout`. */
  #expectProgress() {
    clearTimeout(this.#timers.connect);
    this.#timers.connect = setTimeout(() => this.#drop('no answer in time'), this.#options.connectTimeout);
  }

  /** Gives the connection up without waiting for the peer's close. */
  #drop(reason) {
    const socket = this.#socket;
    this.#lost(0, reason);
    socket?.close();
  }

  #lost(code, reason) {
    const { token } = this.#options;
    this.#disconnected(code);
    // A listener may have closed the client.
    if (this.state === 'closed') return;
    if (code === 4403) this.#end('deactivated', 'this agent was deactivated');
    else if (code === 4401 && (++this.#refusedTokens >= TOKENS_TRIED || typeof token !== 'function')) {
      this.#end('unauthorized', this.reason || 'the token was refused');
    } else this.#retryLater(code, reason);
  }

  #retryLater(code, reason) {
    const { minDelay, maxDelay, stableTime } = this.#options;
    this.failures = this.#liveSince && Date.now() - this.#liveSince >= stableTime ? 1 : this.failures + 1;
    this.#liveSince = 0;
    const least = minDelay * (PAUSES[code] ?? 1);
    const pause = Math.max(least, Math.min(maxDelay, minDelay * 2 ** Math.min(this.failures - 1, 20)));
    // Random, because all clients lose a service at the same moment.
    const delay = pause * (0.5 + Math.random());
    this.retryAt = Date.now() + delay;
    this.#timers.retry = setTimeout(() => this.#open(), delay);
    this.#become('waiting', reason || this.reason || (code ? `closed with ${code}` : ''));
  }

  #end(code, reason) {
    this.#socket?.close(1000);
    this.#disconnected(0);
    globalThis.removeEventListener?.('online', this.#wake);
    globalThis.document?.removeEventListener('visibilitychange', this.#wake);
    for (const ref of [...this.#promises.keys()]) this.#takePromise(ref).reject(new ChatError('closed', `not sent yet: ${reason}`));
    this.retryAt = 0;
    this.#become('closed', reason, code);
  }

  /** Cleans up after a connection: rejects the open questions, and queues unanswered messages again. */
  #disconnected(code) {
    this.#settleKnown();
    this.#socket = this.#attempt = this.#held = null;
    clearTimeout(this.#timers.retry);
    clearTimeout(this.#timers.connect);
    clearInterval(this.#timers.tick);
    for (const { reject } of this.#questions.values()) reject(new ChatError('disconnected', 'the connection was lost'));
    this.#questions.clear();
    for (const item of this.#queue.items) {
      if (item.state === 'checking') item.state = 'queued';
      if (item.state !== 'sent') continue;
      item.state = 'queued';
      if (FAULTS.has(code) && ++item.faults > 1) this.#fail(item, 'frame_refused', 'the service refuses this message');
    }
    this.#save();
  }

  #become(state, reason = '', code = '') {
    Object.assign(this, { state, reason });
    this.#emit('state', { state, reason, code, retryAt: this.retryAt, failures: this.failures });
  }

  /** Once a second while there is a connection. */
  #tick() {
    const now = Date.now();
    const { answerTimeout, pingInterval, pongTimeout } = this.#options;
    const sent = this.#queue.items.filter(({ state }) => state === 'sent');
    if ([...sent, ...this.#questions.values()].some(({ sent_at: at }) => now - at > answerTimeout)) {
      this.#drop('no answer');
    } else if (this.#pinged && now - this.#pinged > pongTimeout) {
      this.#drop('no sign of life');
    } else {
      if (now - this.#heard > pingInterval) this.check();
      for (const item of this.#queue.items) if (item.state === 'waiting' && item.due <= now) item.state = 'queued';
      this.#flush();
    }
  }

  #write(event) {
    if (this.#socket?.readyState !== 1) return false;
    this.#socket.send(JSON.stringify(event));
    return true;
  }

  // --- what comes in -------------------------------------------------------------------------

  #receive(event) {
    this.#heard = Date.now();
    this.#pinged = 0;
    if (this.state !== 'live') this.#expectProgress();
    const question = event.ref !== undefined && this.#questions.get(event.ref);
    if (question) {
      this.#questions.delete(event.ref);
      if (event.type === 'error') question.reject(new ChatError(event.code, event.message));
      else question.resolve(event);
      // The answer to a read marker is also an event for listeners.
      if (event.type !== 'chat.read.updated') return;
    }
    if (event.type === 'auth.ok') this.#authenticated(event);
    else if (event.type === 'auth.failed') this.reason = event.message;
    else if (event.type === 'chat.resumed') this.#catchUp(event);
    else if (this.#held) this.#held.push(event);
    else this.#handle(event);
  }

  #authenticated(event) {
    const socket = this.#socket;
    this.#refusedTokens = 0;
    this.agentId = event.agent_id;
    this.online = new Set(event.online_agent_ids);
    this.#newest = Math.max(this.#newest, event.last_id);
    this.#timers.tick = setInterval(() => this.#tick(), TICK);
    this.#claimQueue();
    this.#emit('auth.ok', event);
    // A listener may have closed the client.
    if (this.#held || socket !== this.#socket) return;
    this.#floor = this.#start = event.last_id;
    this.#live();
  }

  #live() {
    clearTimeout(this.#timers.connect);
    this.#liveSince = Date.now();
    this.retryAt = 0;
    this.#become('live');
    this.#flush();
  }

  /** Called when all missed events have arrived, or only the newest of them if `complete` is false. */
  async #catchUp({ complete }) {
    const socket = this.#socket;
    const missed = this.#held;
    if (!missed) return;
    const isCreated = ({ type }) => CREATED.has(type);
    let [older, gap] = [[], null];
    if (!complete) {
      const held = this.#held = [];
      try {
        ({ older, gap } = await this.#fill(missed.filter(isCreated)));
      } catch (error) {
        // If the connection was lost, the next one asks again.
        if (socket === this.#socket) this.#drop(`cannot catch up: ${error.message}`);
        return;
      }
      if (socket !== this.#socket) return;
      missed.push(...held);
    }
    this.#held = null;
    const created = new Map([...older, ...missed.filter(isCreated)].map((event) => [event.message.id, event]));
    const inOrder = [...created.values()].sort((a, b) => a.message.id - b.message.id);
    for (const event of [...inOrder, ...missed.filter((one) => !isCreated(one))]) {
      // A listener may have closed the client; then the next connection asks again.
      if (socket !== this.#socket) return;
      this.#handle(event);
    }
    this.#emit('chat.resumed', { type: 'chat.resumed', last_id: this.#newest, complete: !gap });
    if (gap) this.#emit('gap', gap);
    if (socket === this.#socket) this.#live();
  }

  /** Reads from the history the missed messages that were not sent: those between the floor and the oldest sent one. */
  async #fill(sent) {
    const floor = this.#floor;
    const oldest = sent.length ? Math.min(...sent.map(({ message }) => message.id)) : undefined;
    const { conversations } = await this.#ask({ type: 'chat.unread' });
    const older = [];
    let gap = null;
    for (const conversation of conversations) {
      for await (const messages of this.#pages(conversation, oldest)) {
        const fresh = messages.filter(({ id }) => id > floor);
        if (fresh.length && sent.length + older.length >= this.#options.maxMissed) {
          gap = { after_id: floor, before_id: oldest ?? this.#newest + 1 };
          break;
        }
        older.push(...fresh.map((message) => ({ type: `chat.${message.message_scope}.message.created`, message })));
        if (fresh.length < messages.length) break;
      }
    }
    return { older, gap };
  }

  /** The history of a conversation, the newest page first. */
  async* #pages(conversation, before) {
    for (let [oldest, more] = [before, true]; more;) {
      const { messages, has_more: hasMore } = await this.history(conversation, { before_id: oldest, limit: PAGE });
      yield messages;
      oldest = messages[0]?.id;
      more = hasMore && oldest !== undefined;
    }
  }

  #handle(event) {
    if (CREATED.has(event.type)) this.#created(event);
    else if (event.type === 'error' && this.#refused(event)) return;
    else if (event.type !== 'pong') {
      if (event.type === 'presence.updated') this.online[event.online ? 'add' : 'delete'](event.agent_id);
      this.#emit(event.type, event);
    }
  }

  #created(event) {
    const { message } = event;
    const own = message.sender_agent_id === this.agentId;
    const ref = own ? event.ref ?? refOf(message) : null;
    const answered = ref !== null && this.#queue.items.some((item) => item.ref === ref);
    // A queue from the storage may get an answer about a message from before this client, which listeners must not get.
    const old = answered && message.id <= this.#start;
    if (!this.#known.has(message.id) && !old) {
      this.#known.set(message.id, Date.now());
      this.#newest = Math.max(this.#newest, message.id);
      this.#settleKnown();
      this.#emit(event.type, event);
      this.#emit('message', message);
    }
    if (answered) this.#stored(ref, message);
  }

  /** Moves the floor up to the ids that have been known for `settleTime`. Only while live: otherwise messages that became
   * visible during the absence are missing, and known ones may be sent again. */
  #settleKnown() {
    if (this.state !== 'live') return;
    const settled = this.#heard - this.#options.settleTime;
    for (const [id, at] of this.#known) {
      if (at > settled) break;
      this.#floor = Math.max(this.#floor, id);
      this.#known.delete(id);
    }
  }

  #emit(type, event) {
    for (const listener of this.#listeners.get(type) ?? []) {
      try {
        listener(event);
      } catch (error) {
        // Rethrown outside: an exception in one listener must not cost the others the event.
        setTimeout(() => { throw error; });
      }
    }
  }

  // --- questions -----------------------------------------------------------------------------

  async #ask(event) {
    for (let tries = 1; ; tries += 1) {
      try {
        return await new Promise((resolve, reject) => {
          const ref = newRef();
          if (!this.#write({ ...event, ref })) reject(new ChatError('disconnected', 'there is no connection'));
          else this.#questions.set(ref, { resolve, reject, sent_at: Date.now() });
        });
      } catch (error) {
        if (error.code !== 'rate_limited' || tries === 5) throw error;
        await new Promise((done) => { setTimeout(done, TICK * tries); });
      }
    }
  }

  async history(conversation, { before_id: before, limit } = {}) {
    return contents(await this.#ask({ type: 'chat.history', ...place(conversation), before_id: before, limit }));
  }

  async search(query, page = {}) {
    return contents(await this.#ask({ ...page, type: 'chat.search', query }));
  }

  async unread() {
    return (await this.#ask({ type: 'chat.unread' })).conversations;
  }

  async markRead(conversation, id) {
    const event = { type: 'chat.read', ...place(conversation), last_read_message_id: id };
    return (await this.#ask(event)).last_read_message_id;
  }

  typing(conversation) {
    const key = keyOf(conversation);
    if (Date.now() - (this.#typed.get(key) ?? 0) < TYPING_INTERVAL) return;
    if (this.state === 'live' && this.#write({ type: 'chat.typing', ...place(conversation) })) this.#typed.set(key, Date.now());
  }

  // --- the queue -----------------------------------------------------------------------------

  send(conversation, body, { ref = newRef() } = {}) {
    const { scope, ...id } = place(conversation);
    this.#queue.items.push({
      ref, ...id, body, state: 'queued', tries: 0, faults: 0, at: Date.now(), after: 0, first_sent_at: 0, error: null,
    });
    const answer = new Promise((resolve, reject) => { this.#promises.set(ref, { resolve, reject }); });
    // Avoids an unhandled rejection in a program that listens to `failed` instead of awaiting the answer.
    answer.catch(() => {});
    this.#typed.delete(keyOf(conversation));
    this.#changed();
    return answer;
  }

  retry(ref) {
    const item = this.#queue.items.find((one) => one.ref === ref && one.state === 'failed');
    if (!item) return;
    Object.assign(item, { state: 'queued', tries: 0, faults: 0, error: null });
    this.#changed();
  }

  discard(ref) {
    this.#queue.items = this.#queue.items.filter((item) => item.ref !== ref);
    this.#takePromise(ref)?.reject(new ChatError('discarded', 'taken out of the queue'));
    this.#changed();
  }

  /** Sends the queue, one message at a time in each conversation, so that neither a refusal nor a lost connection changes
   * the order. A message that may have caused a disconnect is sent alone. */
  #flush() {
    if (this.state !== 'live') return;
    const busy = new Set();
    for (const item of this.#queue.items) {
      if (item.state === 'failed' || busy.has(keyOf(item))) continue;
      busy.add(keyOf(item));
      const onTheWay = this.#queue.items.filter(({ state }) => state === 'sent');
      if (item.state !== 'queued' || (onTheWay.length && (item.faults || onTheWay.some(({ faults }) => faults)))) continue;
      if (item.first_sent_at && Date.now() - item.first_sent_at > RECOGNISED_FOR) this.#lookUp(item);
      else this.#transmit(item);
    }
  }

  #transmit(item) {
    const { scope, ...id } = place(item);
    if (!this.#write({ type: `chat.${scope}.message.send`, ...id, body: item.body, ref: item.ref })) return;
    item.state = 'sent';
    item.sent_at = Date.now();
    if (!item.first_sent_at) Object.assign(item, { first_sent_at: item.sent_at, after: this.#newest });
    this.#changed();
  }

  /** The service may no longer know the `ref`: looks in the history for the message, and sends it if it is not there. */
  async #lookUp(item) {
    item.state = 'checking';
    try {
      for await (const messages of this.#pages(item)) {
        const found = messages.find((message) => message.sender_agent_id === this.agentId && refOf(message) === item.ref);
        if (found) {
          this.#stored(item.ref, found);
          return;
        }
        if (messages[0]?.id <= item.after) break;
      }
      item.first_sent_at = 0;
      if (item.state === 'checking' && this.#queue.items.includes(item)) this.#transmit(item);
    } catch (error) {
      this.#refused({ ref: item.ref, code: error.code, message: error.message });
    }
  }

  /** Handles an `error` event; returns false if it answers nothing in the queue. */
  #refused({ ref, code, message }) {
    const item = this.#queue.items.find((one) => one.ref === ref);
    if (!item) return false;
    if (TEMPORARY.has(code)) {
      item.tries += 1;
      const due = Date.now() + Math.min(this.#options.maxDelay, TICK * 2 ** Math.min(item.tries - 1, 10));
      Object.assign(item, { state: 'waiting', error: { code, message }, due });
    } else {
      this.#fail(item, code, message);
    }
    this.#changed();
    return true;
  }

  #fail(item, code, message) {
    Object.assign(item, { state: 'failed', error: { code, message } });
    if (!this.#options.keepFailed) this.#queue.items = this.#queue.items.filter((one) => one !== item);
    this.#takePromise(item.ref)?.reject(new ChatError(code, message));
    this.#emit('failed', { ...item });
  }

  /** The service has stored this message: takes it out of the queue. */
  #stored(ref, message) {
    const item = this.#queue.items.find((one) => one.ref === ref);
    // It was discarded while the client looked for it, or by a listener of its message.
    if (!item) return;
    this.#queue.items = this.#queue.items.filter((one) => one !== item);
    this.#takePromise(ref)?.resolve(message);
    this.#emit('sent', { ...item, message });
    this.#changed();
  }

  /** Takes the promise that `send` returned for a message, so that it is settled only once. */
  #takePromise(ref) {
    const promise = this.#promises.get(ref);
    this.#promises.delete(ref);
    return promise;
  }

  #changed() {
    this.#save();
    this.#emit('queue', this.#queue.items);
    this.#flush();
  }

  #save() {
    try {
      this.#options.storage?.setItem(this.#options.storageKey, JSON.stringify(this.#queue));
    } catch {
      // If the storage is full, the queue lasts as long as the client.
    }
  }

  #restore() {
    try {
      const { agent = null, items = [] } = JSON.parse(this.#options.storage?.getItem(this.#options.storageKey)) ?? {};
      this.#queue = { agent, items };
    } catch {
      // A queue that cannot be parsed is dropped.
    }
    for (const item of this.#queue.items) if (item.state !== 'failed') item.state = 'queued';
  }

  /** A queue from the storage belongs to the agent who wrote it: for another agent, its messages fail. */
  #claimQueue() {
    const { agent, items } = this.#queue;
    this.#queue.agent = this.agentId;
    if (agent === null || agent === this.agentId) return;
    for (const item of [...items]) this.#fail(item, 'other_agent', `agent ${agent} wrote this`);
    this.#changed();
  }
}
