// Types of andrea-chat.js. The types of the events on the wire are in protocol.d.ts, made from contrib/asyncapi.yaml.

import type {
  AuthOk, CreatedDirect, CreatedInChannel, Error as ErrorEvent, Message, MessageDeleted, MessageUpdated, PresenceUpdated,
  ReadUpdated, Resumed, SomebodyTypes, UnreadConversation,
} from './protocol.js';

export type * from './protocol.js';

/** A conversation, named by one of the two ids. A message or an event works too. */
export type Conversation =
  | { channel_id: number; thread_id?: null }
  | { channel_id?: null; thread_id: number }
  | { channel_id: number | null; thread_id: number | null };

/** Codes of the service, then those of the client itself. */
export type ChatErrorCode =
  | ErrorEvent['code']
  | 'disconnected' | 'closed' | 'frame_refused' | 'other_agent' | 'discarded';

/** A request that failed. */
export class ChatError extends Error {
  constructor(code: ChatErrorCode, message: string);
  code: ChatErrorCode;
}

/** `localStorage`, `sessionStorage`, or anything else with these two functions. */
export interface QueueStorage {
  getItem(key: string): string | null;
  setItem(key: string, value: string): void;
}

/** Times are in milliseconds. */
export interface ChatOptions {
  /** A token, or a function that gets one for each connection. Without a token (`''`, `null`) the client closes. */
  token: string | (() => string | null | Promise<string | null>);
  /** URL of the chat; by default `/ws/chat` at the page's own origin. */
  url?: string;
  /** A WebSocket class, for a runtime that has none. */
  WebSocket?: new (url: string) => unknown;
  /** Keeps the queue across reloads of the page. */
  storage?: QueueStorage;
  /** Key of the queue in the storage; `andrea-chat-queue`. */
  storageKey?: string;
  /** Whether refused messages stay in the queue until `retry` or `discard`; default false. */
  keepFailed?: boolean;
  /** Id of the message after which to begin; without it, only new messages arrive. */
  afterId?: number;
  /** First pause before a new connection; 500. Each failure doubles it, and each pause is varied at random by half. */
  minDelay?: number;
  /** Longest pause before that variation; 30,000. */
  maxDelay?: number;
  /** After this time a connection counts as stable: its loss resets the count of failures; 10,000. */
  stableTime?: number;
  /** Time limit for each step on the way to `live`; 15,000. */
  connectTimeout?: number;
  /** Time limit for an answer, after which the connection is dropped; 15,000. */
  answerTimeout?: number;
  /** Silence of the service after which the client sends a ping; 25,000. */
  pingInterval?: number;
  /** Time limit for any answer to that ping; 10,000. */
  pongTimeout?: number;
  /** How long an id must be known, while connected, before the client resumes from it; 30,000. */
  settleTime?: number;
  /** Most missed messages to catch up on, when the service sends only the newest and the history has the rest; 10,000. */
  maxMissed?: number;
}

/**
 * - `idle`: before `connect()`
 * - `connecting`: on the way to a connection that has caught up
 * - `live`: connected, nothing is missing
  * - `waiting`: until `retryAt`, when it connects again
  * - `closed`: by `close()`, or for a permanent reason
 */
export type ChatState = 'idle' | 'connecting' | 'live' | 'waiting' | 'closed';

export interface StateEvent {
  state: ChatState;
  /** For people; empty if all is well. */
  reason: string;
  /** Why it is closed, else empty. */
  code: '' | 'closed' | 'deactivated' | 'unauthorized' | 'bad_url';
  /** Time of the next attempt, in milliseconds since 1970; 0 if there is none. */
  retryAt: number;
  /** Consecutive connections that failed or did not last for `stableTime`. */
  failures: number;
}

/** A message that the service has not answered yet. */
export interface QueuedMessage {
  ref: string;
  channel_id?: number;
  thread_id?: number;
  body: string;
  /** `waiting`: refused for a temporary reason, and sent again later. `checking`: being looked for in the history. */
  state: 'queued' | 'sent' | 'waiting' | 'checking' | 'failed';
  /** When `send` was called, in milliseconds since 1970. */
  at: number;
  error: { code: ChatErrorCode; message: string } | null;
}

/** Events for listeners: those of the service by their `type`, and the client's own. */
export interface ChatEvents {
  'auth.ok': AuthOk;
  'chat.channel.message.created': CreatedInChannel;
  'chat.direct.message.created': CreatedDirect;
  'chat.message.updated': MessageUpdated;
  'chat.message.deleted': MessageDeleted;
  'chat.typing': SomebodyTypes;
  'chat.read.updated': ReadUpdated;
  'chat.resumed': Resumed;
  'presence.updated': PresenceUpdated;
  /** An error that answers no request of this client. */
  error: ErrorEvent;
  /** A message of a channel or a direct thread; each comes once. */
  message: Message;
  /** More than `maxMissed` messages were missed: not all between the two ids have come. */
  gap: { after_id: number; before_id: number };
  state: StateEvent;
  queue: QueuedMessage[];
  /** A message of the queue was stored. */
  sent: QueuedMessage & { message: Message };
  /** A message of the queue was refused for good. */
  failed: QueuedMessage;
}

export class ChatClient {
  constructor(options: ChatOptions);
  readonly state: ChatState;
  readonly reason: string;
  readonly retryAt: number;
  readonly failures: number;
  /** The token's agent, once connected. */
  readonly agentId: number | null;
  /** Ids of the agents who are online. */
  readonly online: Set<number>;
  /** Messages that the service has not stored yet, oldest first; with `keepFailed` also refused ones. */
  readonly queue: QueuedMessage[];
  /** The id from which another client may resume: `new ChatClient({ afterId })`. It may get the last `settleTime` again. */
  readonly afterId: number | null;
  /** Calls `listener` for each event of this type; returns a function that removes the listener. */
  on<K extends keyof ChatEvents>(type: K, listener: (event: ChatEvents[K]) => void): () => void;
  connect(): void;
  /** Closes the connection until `connect()` is called again. The queue stays in the storage. */
  close(): void;
  /** While `waiting`, connects at once; while `live`, sends a ping. */
  check(): void;
  /** Sends a message, now or once there is a connection. Resolves to the stored message; rejects with a ChatError. */
  send(conversation: Conversation, body: string, options?: { ref?: string }): Promise<Message>;
  /** Sends a failed message again; needs `keepFailed`. */
  retry(ref: string): void;
  /** Removes a message from the queue. It may have been stored already. */
  discard(ref: string): void;
  /** Reports that the agent is typing. Call it for each key: at most one event a second is sent. */
  typing(conversation: Conversation): void;
  /** Moves the read marker and returns the one that the service has stored. */
  markRead(conversation: Conversation, id: number): Promise<number>;
  /** A page of messages, ascending by id: those before `before_id`, or the newest. */
  history(
    conversation: Conversation, page?: { before_id?: number; limit?: number },
  ): Promise<{ messages: Message[]; has_more: boolean }>;
  /** Messages that contain `query`, newest first. If `has_more`, pass `next_before_id` as `before_id` for the rest. */
  search(
    query: string,
    page?: { channel_id?: number; thread_id?: number; sender_agent_id?: number; before_id?: number; limit?: number },
  ): Promise<{ messages: Message[]; has_more: boolean; next_before_id: number | null }>;
  /** Unread counts and read markers of all conversations. */
  unread(): Promise<UnreadConversation[]>;
}

/** The `ref` that a message was sent with; null if there was none. */
export function refOf(message: Message): string | null;
