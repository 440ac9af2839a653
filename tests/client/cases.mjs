// What the client does in one situation each. `task.what` names it; the test does what is asked of it to the real service.

import assert from 'node:assert/strict';
import { exit } from 'node:process';
import { ChatClient, refOf } from '../../contrib/client/andrea-chat.js';
import { counted, pause, Storage } from './crowd.js';
import { ask, say, task, WebSocket } from './task.mjs';

/** Where nothing listens. */
const NOWHERE = 'ws://127.0.0.1:1/ws/chat';
const [channel, thread] = task.conversations;
const [{ token }, other] = task.agents;

/** A client with a WebSocket class of its own, which counts, and tells the test what is sent. */
function make(options = {}) {
  class Sockets extends counted(WebSocket) {
    send(text) {
      say(`FRAME ${text}`);
      super.send(text);
    }
  }
  const client = new ChatClient({ url: task.url, WebSocket: Sockets, token, minDelay: 20, maxDelay: 50, ...options });
  return { client, Sockets };
}

/** The next event of this type, and of this state where it is one of state. */
const next = (client, type, state) => new Promise((done) => {
  const off = client.on(type, (event) => {
    if (state && event.state !== state) return;
    off();
    done(event);
  });
});

async function live(options) {
  const made = make(options);
  const reached = next(made.client, 'state', 'live');
  made.client.connect();
  await reached;
  return made;
}

/** How long it would wait after each of so many failures; `check` cuts every wait short. */
function pauses(options, count) {
  return new Promise((done) => {
    const { client } = make({ url: NOWHERE, ...options });
    const found = [];
    client.on('state', ({ state, retryAt }) => {
      if (state !== 'waiting') return;
      found.push(retryAt - Date.now());
      if (found.length < count) client.check();
      else done(client.close() ?? found);
    });
    client.connect();
  });
}

const cases = {
  async one_socket() {
    const { client, Sockets } = make();
    client.check();
    client.connect();
    client.connect();
    client.check();
    // Its socket is open, and the client not live yet.
    client.on('auth.ok', () => {
      client.connect();
      client.check();
    });
    client.on('state', ({ state }) => {
      if (state !== 'waiting') return;
      client.connect();
      client.check();
      client.check();
    });
    await next(client, 'state', 'live');
    for (let cut = 0; cut < 3; cut += 1) {
      client.check();
      const again = next(client, 'state', 'live');
      await ask('CUT');
      await again;
      // By now the try that `check` anticipated would have been due.
      await pause(100);
    }
    client.close();
    client.connect();
    client.close();
    client.connect();
    await next(client, 'state', 'live');
    await pause(100);
    assert.equal(Sockets.atOnce, 1);
    assert.equal(Sockets.count, 5, 'one at the start, one after each cut, one after close');
  },

  async slow_tokens() {
    const given = [];
    const { client, Sockets } = make({ token: () => new Promise((done) => { given.push(done); }) });
    client.connect();
    client.close();
    client.connect();
    await pause(0);
    const reached = next(client, 'state', 'live');
    for (const give of given) give(token);
    await reached;
    await pause(100);
    assert.deepEqual([given.length, Sockets.count], [2, 1]);
  },

  async pauses() {
    const first = (await Promise.all(Array.from({ length: 60 }, () => pauses({ minDelay: 10000 }, 1)))).flat();
    const [least, most] = [Math.min(...first), Math.max(...first)];
    assert.ok(least > 4000 && most <= 15000, `${least} to ${most}`);
    assert.ok(most - least > 5000, `clients come back in one moment: ${least} to ${most}`);
    const later = await pauses({ minDelay: 10000, maxDelay: 300000 }, 8);
    for (const [failure, found] of later.entries()) {
      const middle = Math.min(300000, 10000 * 2 ** failure);
      assert.ok(found > middle * 0.4 && found <= middle * 1.5, `${failure}: ${found}`);
    }
  },

  async crowded() {
    await live();
    const { client } = make({ minDelay: 1000 });
    client.connect();
    const { retryAt } = await next(client, 'state', 'waiting');
    assert.ok(retryAt - Date.now() > 20000, 'after a close with 1008 it comes back at once');
  },

  async refused_tokens() {
    let asked = 0;
    const closed = async (options) => {
      const { client, Sockets } = make(options);
      client.connect();
      const { code, reason } = await next(client, 'state', 'closed');
      return [code, reason, Sockets.count];
    };
    const bad = () => { asked += 1; return 'no token'; };
    assert.deepEqual(await closed({ token: bad }), ['unauthorized', 'Invalid or expired token', 3]);
    assert.equal(asked, 3);
    assert.deepEqual(await closed({ token: 'no token' }), ['unauthorized', 'Invalid or expired token', 1]);
    assert.deepEqual(await closed({ token: () => '' }), ['unauthorized', 'there is no token', 0]);
    await live({ token: () => { asked += 1; return asked < 6 ? 'no token' : token; } });
    assert.equal(asked, 6);
  },

  async deactivated() {
    const { client, Sockets } = await live({ token: other.token });
    const closed = next(client, 'state', 'closed');
    await ask('DEACTIVATE');
    assert.equal((await closed).code, 'deactivated');
    assert.equal(Sockets.count, 1);
  },

  async dead_connection() {
    // Frozen, the service takes the connection and says nothing.
    const slow = make({ connectTimeout: 1000 });
    await ask('FREEZE');
    slow.client.connect();
    assert.equal((await next(slow.client, 'state', 'waiting')).reason, 'no answer in time');
    await ask('THAW');
    await next(slow.client, 'state', 'live');
    for (const [options, reason] of [
      [{ pingInterval: 100, pongTimeout: 1000 }, 'no sign of life'],
      [{ answerTimeout: 1000 }, 'no answer'],
    ]) {
      const { client } = await live(options);
      await ask('LOSE');
      const waiting = next(client, 'state', 'waiting');
      const stored = client.send(channel, reason);
      assert.equal((await waiting).reason, reason);
      await ask('FIND');
      assert.equal((await stored).body_text, reason);
      client.close();
    }
  },

  async late_rows() {
    const heard = [];
    const { client } = await live({ settleTime: 300 });
    client.on('message', ({ body_text: body }) => {
      heard.push(body);
      if (body === 'early') client.close();
    });
    const closed = next(client, 'state', 'closed');
    // Its id is smaller than that of the other, which is committed before it.
    await ask('BEGIN late');
    await ask('WRITE early');
    await closed;
    await ask('COMMIT');
    // Away for longer than an id takes to settle: while it is away no id does.
    await pause(400);
    const reached = next(client, 'state', 'live');
    client.connect();
    await reached;
    assert.deepEqual(heard, ['early', 'late']);
  },

  async queue_in_storage() {
    const storage = new Storage();
    const kept = () => JSON.parse(storage.getItem('andrea-chat-queue')).items.map(({ body }) => body);
    const away = make({ url: NOWHERE, storage }).client;
    away.connect();
    const closed = assert.rejects(away.send(channel, 'one'), { code: 'closed' });
    away.send(channel, 'two');
    assert.deepEqual(kept(), ['one', 'two']);
    away.close();
    await closed;

    // What is on the way is in the storage before.
    const unsaved = [];
    class Watched extends WebSocket {
      send(text) {
        const { body } = JSON.parse(text);
        if (body && !kept().includes(body)) unsaved.push(body);
        super.send(text);
      }
    }
    const { client } = make({ storage, WebSocket: Watched });
    const heard = [];
    client.on('message', ({ body_text: body }) => heard.push(body));
    client.connect();
    await client.send(channel, 'three');
    assert.deepEqual(heard, ['one', 'two', 'three']);
    assert.deepEqual([unsaved, kept()], [[], []]);
    client.close();
    client.send(channel, 'four');

    // Another agent of this browser does not send it.
    const stranger = make({ storage, token: other.token }).client;
    const failed = next(stranger, 'failed');
    stranger.connect();
    assert.deepEqual([(await failed).body, (await failed).error.code, kept()], ['four', 'other_agent', []]);
  },

  async long_unanswered() {
    const storage = new Storage();
    const { client: first } = await live();
    const stored = await first.send(channel, 'stored', { ref: 'stored' });
    const away = make({ url: NOWHERE, storage }).client;
    for (const ref of ['stored', 'not stored']) away.send(channel, ref, { ref });
    // As if both had been sent so long ago that the service does not know their refs any more.
    const queue = JSON.parse(storage.getItem('andrea-chat-queue'));
    for (const item of queue.items) Object.assign(item, { first_sent_at: Date.now() - 9 * 60 * 1000, after: stored.id - 1 });
    storage.setItem('andrea-chat-queue', JSON.stringify(queue));
    const sent = [];
    class Watched extends WebSocket {
      send(text) {
        const { body } = JSON.parse(text);
        if (body) sent.push(body);
        super.send(text);
      }
    }
    const { client } = make({ storage, WebSocket: Watched });
    const answers = [];
    client.on('sent', ({ body, message }) => answers.push([body, message.id]));
    client.connect();
    await client.send(channel, 'new');
    assert.deepEqual(sent, ['not stored', 'new']);
    assert.deepEqual(answers[0], ['stored', stored.id]);
    assert.deepEqual(answers.map(([body]) => body), ['stored', 'not stored', 'new']);
  },

  async discarded_while_checking() {
    const storage = new Storage();
    const { client: first } = await live();
    const stored = await first.send(channel, 'stored', { ref: 'stored' });
    const away = make({ url: NOWHERE, storage }).client;
    away.send(channel, 'stored', { ref: 'stored' });
    const queue = JSON.parse(storage.getItem('andrea-chat-queue'));
    Object.assign(queue.items[0], { first_sent_at: Date.now() - 9 * 60 * 1000, after: stored.id - 1 });
    storage.setItem('andrea-chat-queue', JSON.stringify(queue));
    class Watched extends WebSocket {
      send(text) {
        super.send(text);
        if (JSON.parse(text).type === 'chat.history') client.discard('stored');
      }
    }
    const { client } = make({ storage, WebSocket: Watched });
    const answers = [];
    client.on('sent', ({ ref, body }) => answers.push([ref, body]));
    client.connect();
    // The history is answered before this.
    await client.send(channel, 'new', { ref: 'new' });
    // A listener may do it when the message has just come.
    client.on('message', (message) => client.discard(refOf(message)));
    await assert.rejects(client.send(channel, 'unwanted'), { code: 'discarded' });
    assert.deepEqual(answers, [['new', 'new']]);
    assert.deepEqual(client.queue, []);
  },

  async every_event() {
    const { client } = await live();
    const { id } = await client.send(channel, 'a needle');
    await client.send(thread, 'a second one');
    client.typing(channel);
    client.check();
    assert.equal((await client.history(channel, { limit: 1 })).messages[0].id, id);
    assert.equal((await client.search('needle', channel)).messages[0].id, id);
    assert.equal(await client.markRead(channel, id), id);
    assert.ok((await client.unread()).some((one) => one.channel_id === channel.channel_id));
  },

  async too_quick() {
    const { client } = await live();
    const said = Array.from({ length: 12 }, (_, number) => `message ${number}`);
    const heard = [];
    let refusals = 0;
    client.on('message', ({ body_text: body }) => heard.push(body));
    client.on('queue', (queue) => { refusals += queue.filter(({ state }) => state === 'waiting').length; });
    const answers = [];
    for (const body of said) {
      answers.push(client.send(channel, body));
      await pause(60);
    }
    await Promise.all(answers);
    assert.deepEqual(heard, said);
    assert.ok(refusals, 'none was refused');
  },

  async refused_messages() {
    const { client } = await live({ keepFailed: true });
    await assert.rejects(client.send({ channel_id: 999 }, 'not here'), { name: 'ChatError', code: 'cannot_post' });
    const [{ ref }] = client.queue;
    const refused = next(client, 'failed');
    client.retry(ref);
    assert.equal((await refused).ref, ref);
    client.discard(ref);
    const message = await client.send(thread, 'here', { ref: 'mine' });
    assert.deepEqual([client.queue, refOf(message)], [[], 'mine']);
    await assert.rejects(client.history({ channel_id: 999 }), { code: 'no_channel_access' });
  },

  async closed_by_a_listener() {
    const { client: speaker } = await live();
    const { id } = await speaker.send(channel, 'one');
    await speaker.send(channel, 'two');
    for (const [type, state] of [['state', 'connecting'], ['auth.ok'], ['message'], ['chat.resumed'], ['state', 'live']]) {
      const { client } = make({ afterId: id - 1, connectTimeout: state === 'connecting' ? 100 : undefined });
      const states = [];
      client.on(type, (event) => { if (!state || event.state === state) client.close(); });
      client.on('state', (event) => states.push(event.state));
      const closed = next(client, 'state', 'closed');
      client.connect();
      await closed;
      await pause(200);
      assert.equal(client.state, 'closed', `closed at ${type}, then ${states}`);
    }
  },
};

// Nothing here takes long.
setTimeout(() => { throw new Error(`${task.what} did not end`); }, 120000);
await cases[task.what]();
exit(0);
