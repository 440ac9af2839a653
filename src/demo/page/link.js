// The socket: a fresh token for every connection, reconnection, and a look at whether the peer still answers.

import { postJson } from './server.js';

/** The protocol's fixed pause between two tries, in ms. */
const RECONNECT = 5000;
/** After a connection that had stood, the first try comes sooner; spread out, because all windows do the same. */
const FIRST_RETRY = [300, 800];
/** A browser does not see the server's pings, so it sends its own: how often, and how long the answer may take. */
const PING_EVERY = 25000;
const PONG_WITHIN = 10000;
/** Failed tries in a row after which the state is called offline. */
const OFFLINE_AFTER = 3;

export class Link {
  /** `on.event(event)`, `on.live(auth)` after each authentication, `on.state()` when `state` has changed. */
  constructor(agent, on) {
    this.agent = agent;
    this.on = on;
    this.state = 'connecting';
    this.reason = '';
    this.socket = null;
    this.failures = 0;
    this.nextTry = 0;
    this.everLive = false;
    this.ended = false;
    this.timers = {};
    this.questions = new Map();
    this.asked = 0;
    window.addEventListener('online', () => this.check());
    document.addEventListener('visibilitychange', () => { if (!document.hidden) this.check(); });
  }

  get live() {
    return this.state === 'live';
  }

  /** Sends an event; false where there is nobody to send it to. */
  send(event) {
    if (!this.live || this.socket.readyState !== WebSocket.OPEN) return false;
    this.socket.send(JSON.stringify(event));
    return true;
  }

  /** Sends an event and waits for the answer that carries its `ref`. */
  ask(event) {
    return new Promise((resolve, reject) => {
      this.asked += 1;
      const ref = `ask-${this.asked}`;
      if (!this.send({ ...event, ref })) {
        reject(new Error('There is no connection'));
        return;
      }
      this.questions.set(ref, { resolve, reject });
    });
  }

  async connect() {
    clearTimeout(this.timers.retry);
    if (this.socket || this.connecting || this.ended) return;
    this.connecting = true;
    let token;
    try {
      ({ token } = await postJson('/demo/token', { agent: this.agent }));
    } catch (failure) {
      this.connecting = false;
      if (failure.status === 404) return this.end('This agent is not active any more.');
      return this.failed();
    }
    this.connecting = false;
    const scheme = location.protocol === 'https:' ? 'wss' : 'ws';
    const socket = new WebSocket(`${scheme}://${location.host}/ws/chat`);
    this.socket = socket;
    socket.onopen = () => socket.send(JSON.stringify({ type: 'auth', token }));
    socket.onmessage = (frame) => { if (socket === this.socket) this.receive(JSON.parse(frame.data)); };
    socket.onclose = (close) => { if (socket === this.socket) this.closed(close.code); };
  }

  receive(event) {
    clearTimeout(this.timers.pong);
    if (event.type === 'auth.ok') {
      this.failures = 0;
      this.everLive = true;
      this.timers.ping = setInterval(() => this.check(), PING_EVERY);
      this.become('live');
      this.on.live(event);
    } else if (this.questions.has(event.ref)) {
      const { resolve, reject } = this.questions.get(event.ref);
      this.questions.delete(event.ref);
      if (event.type === 'error') reject(new Error(event.message));
      else resolve(event);
    } else if (event.type !== 'pong') {
      this.on.event(event);
    }
  }

  /** Asks the peer for a sign of life, or tries at once where there is no connection. */
  check() {
    if (this.ended) return;
    if (!this.live) {
      if (!this.socket) this.connect();
      return;
    }
    this.send({ type: 'ping' });
    clearTimeout(this.timers.pong);
    this.timers.pong = setTimeout(() => this.drop(), PONG_WITHIN);
  }

  /** Gives the connection up without waiting for the peer to agree. */
  drop() {
    const socket = this.socket;
    if (!socket) return;
    this.closed(0);
    socket.close();
  }

  closed(code) {
    const stood = this.live;
    this.socket = null;
    for (const { reject } of this.questions.values()) reject(new Error('The connection broke'));
    this.questions.clear();
    clearInterval(this.timers.ping);
    clearTimeout(this.timers.pong);
    if (code === 4403) return this.end('This agent was deactivated.');
    if (stood) {
      this.become('reconnecting');
      const [least, most] = FIRST_RETRY;
      return this.retryIn(least + Math.random() * (most - least));
    }
    this.failed();
  }

  failed() {
    this.failures += 1;
    const offline = this.failures >= OFFLINE_AFTER || !navigator.onLine;
    this.become(offline ? 'offline' : this.everLive ? 'reconnecting' : 'connecting');
    this.retryIn(RECONNECT);
  }

  retryIn(pause) {
    this.nextTry = Date.now() + pause;
    clearTimeout(this.timers.retry);
    this.timers.retry = setTimeout(() => this.connect(), pause);
    this.on.state();
  }

  end(reason) {
    this.ended = true;
    this.reason = reason;
    this.become('offline');
  }

  become(state) {
    this.state = state;
    this.on.state();
  }
}
