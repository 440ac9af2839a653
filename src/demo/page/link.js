// The page's connection: the client of contrib/client, with tokens from the page's own server. Translates its states
// into the page's.

import { ChatClient } from './andrea-chat.js';
import { postJson } from './server.js';

/** Failures in a row after which the state is offline. */
const OFFLINE_AFTER = 3;
/** Longest pause between two attempts, in ms. Short, because on the user's own machine no crowd reconnects at once. */
const LONGEST_PAUSE = 5000;

const ENDED = {
  deactivated: 'This agent was deactivated.',
  unauthorized: 'This agent is not active any more.',
};

export class Link {
  /** `on.live()` after each connection, `on.state()` when `state` may have changed. */
  constructor(agent, on) {
    this.everLive = false;
    this.code = '';
    // Failed attempts in a row.
    this.missed = 0;
    this.client = new ChatClient({
      token: () => token(agent),
      storage: sessionStorage,
      storageKey: `andrea-chat-queue-${agent}`,
      keepFailed: true,
      maxDelay: LONGEST_PAUSE,
    });
    this.client.on('state', ({ state, code }) => {
      this.code = code;
      if (state === 'live') this.everLive = true;
      this.missed = { live: 0, waiting: this.missed + 1 }[state] ?? this.missed;
      on.state();
      if (state === 'live') on.live();
    });
  }

  get live() { return this.client.state === 'live'; }

  get ended() { return this.client.state === 'closed'; }

  get reason() { return ENDED[this.code] ?? ''; }

  get nextTry() { return this.client.retryAt; }

  get state() {
    if (this.live) return 'live';
    if (this.ended || this.missed >= OFFLINE_AFTER || !navigator.onLine) return 'offline';
    return this.everLive ? 'reconnecting' : 'connecting';
  }

  /** The queued messages for a conversation. */
  waiting(conversation) {
    return this.client.queue.filter((item) => (
      conversation.scope === 'direct' ? item.thread_id === conversation.id : item.channel_id === conversation.id));
  }
}

async function token(agent) {
  try {
    return (await postJson('/demo/token', { agent })).token;
  } catch (failure) {
    if (failure.status === 404) return null;
    throw failure;
  }
}
