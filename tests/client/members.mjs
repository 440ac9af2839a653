// Says what a client has for its users, sorted.
import { ChatClient } from '../../contrib/client/andrea-chat.js';

const client = new ChatClient({ token: 'none', url: 'ws://127.0.0.1:9/', WebSocket: class {} });
const names = [...Object.getOwnPropertyNames(ChatClient.prototype), ...Object.keys(client)];
process.stdout.write(names.sort().join(' '));
