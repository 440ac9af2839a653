// The page's connection: the client of contrib/client with tokens of the page's own server, and the page's words for its
// states.

import { ChatClient } from './andrea-chat.js';
import { postJson } from './server.js';

/** Failures in a row after which the state is called offline. */
const OFFLINE_AFTER = 3;
/** This is the user's own machine, so no crowd comes back at once: the longest pause between two tries, in ms. */
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
    // Tries in a row that came to nothing.
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

  /** What waits to be sent to a conversation. */
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
