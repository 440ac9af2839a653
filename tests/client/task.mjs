// What a script of this folder is told by the test that starts it, and how it asks for what is to break.

import { createRequire } from 'node:module';
import { createInterface } from 'node:readline';
import { stdin, stdout } from 'node:process';

const lines = createInterface({ input: stdin })[Symbol.asyncIterator]();

/** A line of JSON on standard input. */
export const task = JSON.parse((await lines.next()).value);

/** That of Node.js 22, or the package's. */
export const WebSocket = globalThis.WebSocket ?? createRequire(`${task.modules}/package.json`)('ws');

export const say = (word) => stdout.write(`${word}\n`);

/** Says what the test is to do, and waits until it is done. */
export async function ask(word) {
  say(word);
  await lines.next();
}
