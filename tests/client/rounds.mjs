// Rounds of faults for the client of contrib/client in Node.js, and a long time away.

import { exit } from 'node:process';
import { ChatClient } from '../../contrib/client/andrea-chat.js';
import { Crowd, pause } from './crowd.js';
import { ask, say, task, WebSocket } from './task.mjs';

const make = (options) => new ChatClient({ url: task.url, ...options });

/** What breaks, as words to the caller, or a function of the round. */
const FAULTS = [['KILL'], ['TERM'], ['CUT'], ['CUT', 'CUT'], ['SLOW', 'EVEN'], ['SLOW', 'CUT', 'EVEN'], ['LOSE', 'FIND'], ['FREEZE', 'THAW'], []];

async function rounds() {
  const crowd = new Crowd(make, WebSocket, task.agents, task.conversations);
  await crowd.live();
  for (let round = 0; round < task.rounds; round += 1) {
    const saying = crowd.say(8);
    const words = FAULTS[Math.floor(Math.random() * FAULTS.length)];
    for (const word of words) {
      await pause(Math.random() * 150);
      await ask(word);
    }
    if (!words.length || Math.random() < 0.1) crowd.reload(round);
    await saying;
    try {
      await crowd.settle();
    } catch (error) {
      throw new Error(`round ${round}, ${words}: ${error.message}`);
    }
  }
  crowd.close();
  say(`SAID ${crowd.said.length}`);
}

/** More is missed than the service sends: all of it comes, or as much as one wants to read, and a word that it is not all. */
async function missed() {
  const [{ token }] = task.agents;
  const come = (options) => new Promise((done) => {
    const [heard, gaps] = [[], []];
    const client = make({ WebSocket, token, minDelay: 20, maxDelay: 100, ...options });
    client.on('message', ({ id }) => heard.push(id));
    client.on('gap', (gap) => gaps.push(gap));
    client.on('chat.resumed', ({ complete }) => gaps.push(complete));
    client.on('state', ({ state }) => {
      if (state !== 'live') return;
      const { afterId } = client;
      client.close();
      done({ heard, gaps, afterId });
    });
    client.connect();
  });
  const { afterId } = await come();
  await ask('WRITE');
  const { heard, gaps } = await come({ afterId });
  const part = await come({ afterId, maxMissed: 1500 });
  say(`HEARD ${JSON.stringify({ heard, gaps, part })}`);
}

const steps = { rounds, missed };
await steps[task.what]();
exit(0);
