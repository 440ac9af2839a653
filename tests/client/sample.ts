// Compiled, never run: what the types allow and what they refuse.
import {
  ChatClient, ChatError, refOf, type ChatEvents, type Message, type ServerEvent,
} from '../../contrib/client/andrea-chat.js';

/** What answers a question of the client's own, and what its own events are. */
type Answers = 'auth.failed' | 'pong' | 'chat.history' | 'chat.search' | 'chat.unread';
type Own = 'message' | 'gap' | 'state' | 'queue' | 'sent' | 'failed';
/** All else that the service sends can be listened to, as what it is, and nothing else can. */
type Told = { [E in ServerEvent as E['type'] extends Answers ? never : E['type']]: E };
type Same<A, B> = [A] extends [B] ? ([B] extends [A] ? true : false) : false;
const everything: Same<Told, Omit<ChatEvents, Own>> = true;
void everything;

const client = new ChatClient({ token: async () => 'a token', url: 'ws://127.0.0.1:8090/ws/chat', minDelay: 100 });
const off: () => void = client.on('message', (message) => {
  const text: string = message.body_text;
  const place: number | null = message.thread_id ?? message.channel_id;
  client.typing(message);
  void client.markRead(message, message.id);
  void [text, place, refOf(message)];
});
client.on('chat.typing', ({ agent_name }) => agent_name.toUpperCase());
client.on('chat.message.deleted', (event) => {
  // @ts-expect-error: what was said is not repeated.
  void event.message;
});
client.on('state', ({ state }) => {
  if (state === 'closed') off();
  // @ts-expect-error: there is no such state.
  if (state === 'open') off();
});
client.on('error', ({ code }) => {
  if (code === 'rate_limited') off();
  // @ts-expect-error: there is no such code.
  if (code === 'too_fast') off();
});
// @ts-expect-error: there is no such event.
client.on('chat.unheard_of', () => {});
// @ts-expect-error: a conversation is named by its id.
void client.send('general', 'Hello');
client.send({ channel_id: 3 }, 'Hello').then((message: Message) => message.id, (error: ChatError) => error.code);
client.history({ thread_id: 9 }, { limit: 20 }).then(({ messages, has_more }) => has_more && messages[0].created_at);
client.unread().then(([first]) => first.last_read_message_id);
