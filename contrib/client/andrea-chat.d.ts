// Types of andrea-chat.js. What goes over the wire is in protocol.d.ts, which is made from contrib/asyncapi.yaml.

import type {
  AuthOk, CreatedDirect, CreatedInChannel, Error as ErrorEvent, Message, MessageDeleted, MessageUpdated, PresenceUpdated,
  ReadUpdated, Resumed, SomebodyTypes, UnreadConversation,
} from './protocol.js';

export type * from './protocol.js';

/** What names a conversation: one of the two ids. A message or an event serves as well. */
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

/** `localStorage` and `sessionStorage` are such, and anything else with these two functions. */
export interface QueueStorage {
  getItem(key: string): string | null;
  setItem(key: string, value: string): void;
}

/** Times are in milliseconds. */
export interface ChatOptions {
  /** A token, or a function that gets one for each connection. None (`''`, `null`) ends the client. */
  token: string | (() => string | null | Promise<string | null>);
  /** Where the chat is. In a browser: `/ws/chat` of the page's own address. */
  url?: string;
  /** A WebSocket class, where the runtime has none. */
  WebSocket?: new (url: string) => unknown;
  /** Keeps the queue over a reload of the page. */
  storage?: QueueStorage;
  /** Under which name. */
  storageKey?: string;
  /** Whether refused messages stay in the queue until `retry` or `discard`; false. */
  keepFailed?: boolean;
  /** Begin with what came after this message; without it, with what comes from now on. */
  afterId?: number;
  /** The first pause before a new connection; 500. Each failure doubles it, and all are spread out. */
  minDelay?: number;
  /** The longest pause; 30,000. */
  maxDelay?: number;
  /** A connection that has stood for so long is no failure; 10,000. */
  stableTime?: number;
  /** For the next sign of progress on the way to `live`; 15,000. */
  connectTimeout?: number;
  /** For an answer, before the connection is given up; 15,000. */
  answerTimeout?: number;
  /** A service that has been silent for so long is asked for a sign of life; 25,000. */
  pingInterval?: number;
  /** For that sign; 10,000. */
  pongTimeout?: number;
  /** How long an id has to be known, while connected, before the client resumes from it; 30,000. */
  settleTime?: number;
  /** How many missed messages are read from the history, where the service sends only the newest; 10,000. */
  maxMissed?: number;
}

/**
 * - `idle`: before `connect()`
 * - `connecting`: on the way to a connection that has caught up
 * - `live`: connected, nothing is missing
 * - `waiting`: for `retryAt`, then it connects again
 * - `closed`: by `close()`, or for a reason that does not pass
 */
export type ChatState = 'idle' | 'connecting' | 'live' | 'waiting' | 'closed';

export interface StateEvent {
  state: ChatState;
  /** For people; empty where all is well. */
  reason: string;
  /** Why it is closed, else empty. */
  code: '' | 'closed' | 'deactivated' | 'unauthorized' | 'bad_url';
  /** When the next try is, in milliseconds since 1970; 0 where there is none. */
  retryAt: number;
  /** Connections in a row that failed, or did not stand for `stableTime`. */
  failures: number;
}

/** A message that the service has not answered yet. */
export interface QueuedMessage {
  ref: string;
  channel_id?: number;
  thread_id?: number;
  body: string;
  /** `waiting` was refused for a reason that passes; `checking` is looked for in the history. */
  state: 'queued' | 'sent' | 'waiting' | 'checking' | 'failed';
  /** When `send` was called, in milliseconds since 1970. */
  at: number;
  error: { code: ChatErrorCode; message: string } | null;
}

/** What listeners can be told of: the events of the service by their `type`, and some of the client's own. */
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
  /** An error that answers nothing of this client's. */
  error: ErrorEvent;
  /** A message of either kind, each once. */
  message: Message;
  /** More than `maxMissed` was missed: not all of what lies between the two ids came. */
  gap: { after_id: number; before_id: number };
  state: StateEvent;
  queue: QueuedMessage[];
  /** A message out of the queue is stored. */
  sent: QueuedMessage & { message: Message };
  /** A message out of the queue was refused for good. */
  failed: QueuedMessage;
}

export class ChatClient {
  constructor(options: ChatOptions);
  readonly state: ChatState;
  readonly reason: string;
  readonly retryAt: number;
  readonly failures: number;
  /** Who the token is for, once connected. */
  readonly agentId: number | null;
  /** Who is online. */
  readonly online: Set<number>;
  /** What was sent and is not answered yet, oldest first. */
  readonly queue: QueuedMessage[];
  /** Where another client may go on: `new ChatClient({ afterId })`. It may get again what came within `settleTime`. */
  readonly afterId: number | null;
  /** Calls `listener` for each event of this type; returns a function that ends that. */
  on<K extends keyof ChatEvents>(type: K, listener: (event: ChatEvents[K]) => void): () => void;
  connect(): void;
  /** Ends the connection for good. What is in the queue stays in the storage. */
  close(): void;
  /** Tries at once where there is no connection; otherwise asks the service for a sign of life. */
  check(): void;
  /** Sends a message, now or once there is a connection. The stored message, or a ChatError where it is refused. */
  send(conversation: Conversation, body: string, options?: { ref?: string }): Promise<Message>;
  /** Sends a message again that had failed. */
  retry(ref: string): void;
  /** Takes a message out of the queue. It may have been stored already. */
  discard(ref: string): void;
  /** Says that the agent types; call it for each key, one a second goes out. */
  typing(conversation: Conversation): void;
  /** Moves the read marker; the marker that the service has stored. */
  markRead(conversation: Conversation, id: number): Promise<number>;
  /** A page of older messages, ascending: those before `before_id`, or the newest. */
  history(
    conversation: Conversation, page?: { before_id?: number; limit?: number },
  ): Promise<{ messages: Message[]; has_more: boolean }>;
  /** Messages whose text holds `query`, newest first; where `has_more` is true go on with `next_before_id` as `before_id`. */
  search(
    query: string,
    page?: { channel_id?: number; thread_id?: number; sender_agent_id?: number; before_id?: number; limit?: number },
  ): Promise<{ messages: Message[]; has_more: boolean; next_before_id: number | null }>;
  /** Unread counts and read markers of all conversations. */
  unread(): Promise<UnreadConversation[]>;
}

/** The `ref` that a message was sent with; null where there was none. */
export function refOf(message: Message): string | null;
