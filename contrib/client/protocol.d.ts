// Made from contrib/asyncapi.yaml: what goes over the wire. Not to be edited; a test holds it to the document, and
// writes it anew: ANDREA_TEST_WRITE=1 cargo test --test main client::types_follow

/** An agent. */
export type AgentId = number;

/** One of the two ids is enough to name the conversation. Where both are there, `scope` decides. */
export interface AskHistory {
  /** Only messages with smaller ids; without it the newest. */
  before_id?: OptionalId;
  channel_id?: OptionalId;
  /** How many at most; 200 where it is more. Fewer come, with `has_more`, where they would be more bytes than may wait for a socket. */
  limit?: Id;
  ref?: OptionalRef;
  scope?: OptionalScope;
  thread_id?: OptionalId;
  type: 'chat.history';
}

/** At most one of the two ids is needed. Where `scope` is there it says which one, and that one is required. */
export interface AskSearch {
  /** Only messages with smaller ids; without it the newest. */
  before_id?: OptionalId;
  channel_id?: OptionalId;
  /** How many at most; 100 where it is more. */
  limit?: Id;
  /** What to look for, 2 to 100 characters after trimming. `%` and `_` mean themselves. */
  query: string;
  ref?: OptionalRef;
  scope?: OptionalScope;
  /** Only what this agent said. */
  sender_agent_id?: OptionalId;
  thread_id?: OptionalId;
  type: 'chat.search';
}

export interface AskUnread {
  ref?: OptionalRef;
  type: 'chat.unread';
}

export interface Auth {
  /** The newest message that the client has, 0 for none; asks for those since. Passed over by a renewal. */
  after_id?: number | string;
  ref?: OptionalRef;
  /** A JWT of the helpdesk. */
  token: string;
  type: 'auth';
}

export interface AuthFailed {
  message: 'Invalid or expired token' | 'Agent token required' | 'Agent account not found or inactive' | 'This connection belongs to another agent' | 'Authenticate before sending chat events';
  ref?: Ref;
  type: 'auth.failed';
}

export interface AuthOk {
  agent_id: AgentId;
  /** The newest message there is, in any conversation. */
  last_id: Marker;
  /** The agent's name. */
  name: string;
  /** Who is online now, ascending, this agent included. */
  online_agent_ids: AgentId[];
  ref?: Ref;
  role: 'admin' | 'agent';
  type: 'auth.ok';
}

/** Plain text. Blanks, tabs, line ends, U+0000 and U+000B around it are cut off, and something has to be left. Emoticons become emoji. `@handle`, `#1024` (a ticket), `kb:slug` (an article) and `http://` or `https://` become links in the HTML. At most `chat_max_message_length` characters (4000 unless set otherwise) after the emoticons. */
export type Body = string;

/** The channel, where it is one. */
export type ChannelIdOrNull = number | null;

export interface CreatedDirect {
  message: Message;
  ref?: Ref;
  type: 'chat.direct.message.created';
}

export interface CreatedInChannel {
  message: Message;
  ref?: Ref;
  type: 'chat.channel.message.created';
}

export interface Error {
  /** For programs. */
  code: 'invalid_event' | 'unsupported_type' | 'chat_disabled' | 'cannot_post' | 'message_empty' | 'message_too_long' | 'message_too_large' | 'no_channel_access' | 'no_thread_access' | 'recipient_inactive' | 'channel_id_required' | 'thread_id_required' | 'invalid_query' | 'rate_limited' | 'too_many_connections' | 'database_unavailable' | 'outcome_unknown' | 'internal';
  /** For people. Each code has its own sentence. */
  message: string;
  ref?: Ref;
  type: 'error';
}

export interface Found {
  /** Whether there are older messages that were not looked at. */
  has_more: boolean;
  /** Descending by id; deleted ones are left out. */
  messages: Message[];
  /** The `before_id` with which to go on; null where everything was looked at. */
  next_before_id: number | null;
  ref?: Ref;
  type: 'chat.search';
}

export interface History {
  channel_id: ChannelIdOrNull;
  /** Whether there are older ones. */
  has_more: boolean;
  /** Ascending by id; deleted ones are left out. */
  messages: Message[];
  ref?: Ref;
  scope: Scope;
  thread_id: ThreadIdOrNull;
  type: 'chat.history';
}

/** The id of a channel, a thread or a message, as it comes in. */
export type Id = number | string;

/** The id of a message, or 0 for none. */
export type Marker = number;

/** A row of `chat_messages`, and two columns of its sender. */
export interface Message {
  /** The body as HTML that is safe to show. */
  body_rendered_html: string | null;
  /** The body, trimmed and with emoji for emoticons. */
  body_text: string;
  channel_id: ChannelIdOrNull;
  created_at: Time;
  deleted_at: TimeOrNull;
  deleted_by_agent_id: number | null;
  edited_at: TimeOrNull;
  id: MessageId;
  message_scope: Scope;
  /** The text of a JSON object of the sender's making. Of a message that was sent with a `ref` it holds that `ref`. */
  metadata_json: string | null;
  sender_agent_id: AgentId;
  /** What others mention the sender by, without the `@`. */
  sender_chat_handle: string | null;
  /** The sender's name when the message was written, or read for this event. */
  sender_name: string;
  thread_id: ThreadIdOrNull;
}

/** What was said is not repeated. */
export interface MessageDeleted {
  channel_id: ChannelIdOrNull;
  deleted_at: Time;
  deleted_by_agent_id: number | null;
  message_id: MessageId;
  scope: Scope;
  thread_id: ThreadIdOrNull;
  type: 'chat.message.deleted';
}

/** A message. Of two messages of one conversation the later one has the larger id. */
export type MessageId = number;

export interface MessageUpdated {
  message: Message;
  type: 'chat.message.updated';
}

export type OptionalId = Id;

/** Comes back in the answer. */
export type OptionalRef = Ref;

/** Which of the two ids counts. */
export type OptionalScope = 'channel' | 'direct';

export interface Ping {
  ref?: OptionalRef;
  type: 'ping';
}

export interface Pong {
  ref?: Ref;
  /** Seconds since 1970. */
  time: number;
  type: 'pong';
}

export interface PresenceUpdated {
  agent_id: AgentId;
  online: boolean;
  type: 'presence.updated';
}

export interface Read {
  channel_id?: OptionalId;
  /** The newest message that was read. */
  last_read_message_id?: Id;
  ref?: OptionalRef;
  scope?: OptionalScope;
  thread_id?: OptionalId;
  type: 'chat.read';
}

export interface ReadUpdated {
  agent_id: AgentId;
  channel_id: ChannelIdOrNull;
  last_read_message_id: Marker;
  ref?: Ref;
  scope: Scope;
  thread_id: ThreadIdOrNull;
  type: 'chat.read.updated';
}

/** The `ref` of an event, unchanged. */
export type Ref = string | number;

export interface Resumed {
  /** False where older messages were missed that were not sent; `chat.history` has them. */
  complete: boolean;
  /** Everything up to this message was sent, or more was missed than is sent. */
  last_id: Marker;
  type: 'chat.resumed';
}

/** Whether it is a channel or a direct thread of two agents. */
export type Scope = 'channel' | 'direct';

export interface SendDirect {
  body: Body;
  ref?: OptionalRef;
  thread_id: Id;
  type: 'chat.direct.message.send';
}

export interface SendToChannel {
  body: Body;
  channel_id: Id;
  ref?: OptionalRef;
  type: 'chat.channel.message.send';
}

export interface SomebodyTypes {
  agent_id: AgentId;
  agent_name: string;
  channel_id: ChannelIdOrNull;
  scope: Scope;
  thread_id: ThreadIdOrNull;
  type: 'chat.typing';
}

/** The direct thread, where it is one. */
export type ThreadIdOrNull = number | null;

/** A time by the clock of the database, in the time zone of its sessions, as the database writes it. */
export type Time = string;

export type TimeOrNull = Time | null;

export interface Typing {
  channel_id?: OptionalId;
  ref?: OptionalRef;
  scope?: OptionalScope;
  thread_id?: OptionalId;
  type: 'chat.typing';
}

export interface Unread {
  /** All channels that the agent is a member of, then all the agent's threads, each ascending by id. */
  conversations: UnreadConversation[];
  ref?: Ref;
  type: 'chat.unread';
}

export interface UnreadConversation {
  channel_id: ChannelIdOrNull;
  last_read_message_id: Marker;
  scope: Scope;
  thread_id: ThreadIdOrNull;
  /** How many messages of others came after the marker, among the newest 1000 of the conversation; deleted ones do not count. */
  unread: number;
}

/** What clients may send. */
export type ClientEvent =
  | AskHistory
  | AskSearch
  | AskUnread
  | Auth
  | Ping
  | Read
  | SendDirect
  | SendToChannel
  | Typing;

/** What the service sends. */
export type ServerEvent =
  | AuthFailed
  | AuthOk
  | CreatedDirect
  | CreatedInChannel
  | Error
  | Found
  | History
  | MessageDeleted
  | MessageUpdated
  | Pong
  | PresenceUpdated
  | ReadUpdated
  | Resumed
  | SomebodyTypes
  | Unread;
