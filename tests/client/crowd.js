// Clients that talk while the service breaks, and what has to hold afterwards: each message reached each of them once,
// in the order of the ids of its conversation, and is answered to its sender. Runs in Node.js and in Chromium.

/** Patience with a service that is started again on a busy machine, in ms. */
const LIMIT = 55000;
const FAST = {
  minDelay: 20, maxDelay: 300, connectTimeout: 5000, answerTimeout: 5000, pingInterval: 1000, pongTimeout: 1000,
};

export const pause = (time) => new Promise((done) => { setTimeout(done, time); });

export class Storage {
  items = new Map();
  getItem(key) { return this.items.get(key) ?? null; }
  setItem(key, value) { this.items.set(key, value); }
}

/** A WebSocket class that counts its sockets, and how many of them are open or on the way there at once. */
export function counted(Base) {
  const open = (socket) => socket.readyState <= Base.OPEN;
  return class Counted extends Base {
    static count = 0;
    static atOnce = 0;
    static sockets = [];

    constructor(url) {
      super(url);
      Counted.count += 1;
      Counted.sockets = [...Counted.sockets.filter(open), this];
      Counted.atOnce = Math.max(Counted.atOnce, Counted.sockets.length);
    }
  };
}

export class Member {
  constructor(make, WebSocket, agent) {
    this.make = make;
    this.WebSocket = counted(WebSocket);
    this.agent = agent;
    this.storage = new Storage();
    this.heard = [];
    this.faults = [];
    this.start();
  }

  start(afterId) {
    const { agent: { token }, WebSocket, storage } = this;
    this.client = this.make({ ...FAST, token, WebSocket, storage, storageKey: 'queue', afterId });
    this.client.on('message', (message) => this.heard.push(message));
    this.client.on('sent', ({ body, message }) => {
      if (message.body_text !== body) this.faults.push(`${body} was answered with ${message.body_text}`);
    });
    this.client.on('failed', ({ body, error }) => this.faults.push(`${body} was refused: ${error.code}`));
    this.client.on('gap', (gap) => this.faults.push(`a gap: ${JSON.stringify(gap)}`));
    this.client.connect();
  }

  /** As a page that is loaded again: nothing is left but the storage and what was shown. */
  reload() {
    this.client.close();
    this.start(this.heard.length ? Math.max(...this.heard.map(({ id }) => id)) : this.client.afterId ?? undefined);
  }
}

export class Crowd {
  /** `make(options)` is a new client, `WebSocket` the class of its sockets; `agents` have `id` and `token`; all of them are in all `conversations`. */
  constructor(make, WebSocket, agents, conversations) {
    this.members = agents.map((agent) => new Member(make, WebSocket, agent));
    this.conversations = conversations;
    this.said = [];
  }

  async live() {
    await this.#until(() => this.members.every(({ client }) => client.state === 'live'), 'not all are connected');
  }

  /** Says so much, at random moments. */
  async say(count) {
    for (let n = 0; n < count; n += 1) {
      const member = this.members[Math.floor(Math.random() * this.members.length)];
      const conversation = this.conversations[Math.floor(Math.random() * this.conversations.length)];
      const body = `message ${this.said.length}`;
      this.said.push({ body, member, conversation });
      member.client.send(conversation, body);
      // As a page does that is looked at again.
      if (Math.random() < 0.3) member.client.check();
      await pause(Math.random() * 30);
    }
  }

  reload(which) {
    this.members[which % this.members.length].reload();
  }

  /** Waits until all is said, and looks at what was heard. */
  async settle() {
    const settled = ({ client, heard }) => client.state === 'live' && !client.queue.length && heard.length >= this.said.length;
    await this.#until(() => this.members.every((member) => settled(member) || member.faults.length), 'not all was heard');
    // What came twice may come a moment later.
    await pause(20);
    for (const { agent, heard, faults, WebSocket } of this.members) {
      if (WebSocket.atOnce > 1) throw new Error(`agent ${agent.id} had ${WebSocket.atOnce} sockets at once`);
      if (faults.length) throw new Error(`agent ${agent.id}: ${faults}`);
      const bodies = heard.map(({ body_text: body }) => body);
      if (new Set(bodies).size !== bodies.length) throw new Error(`agent ${agent.id} heard something twice: ${bodies}`);
      if (bodies.length !== this.said.length) throw new Error(`agent ${agent.id} heard ${bodies.length} of ${this.said.length}`);
      for (const conversation of this.conversations) {
        const here = heard.filter((one) => (conversation.channel_id ? one.channel_id : one.thread_id));
        const ids = here.map(({ id }) => id);
        if (ids.some((id, n) => n && id < ids[n - 1])) throw new Error(`agent ${agent.id} heard out of order: ${ids}`);
        for (const member of this.members) {
          const mine = this.said.filter((one) => one.member === member && one.conversation === conversation);
          const heardOfMine = here.map(({ body_text: body }) => body).filter((body) => mine.some((one) => one.body === body));
          if (String(heardOfMine) !== String(mine.map(({ body }) => body))) {
            throw new Error(`not in the order in which agent ${member.agent.id} said it: ${heardOfMine}`);
          }
        }
      }
    }
    return this.said.length;
  }

  async #until(holds, complaint) {
    const end = Date.now() + LIMIT;
    while (!holds()) {
      if (Date.now() > end) {
        const seen = this.members.map(({ agent, client, heard }) => (
          `agent ${agent.id}: ${client.state} ${client.reason}, ${heard.length} heard, queue ${JSON.stringify(client.queue)}`));
        throw new Error(`${complaint} of ${this.said.length}: ${seen.join('; ')}`);
      }
      await pause(5);
    }
  }

  close() {
    for (const { client } of this.members) client.close();
  }
}
