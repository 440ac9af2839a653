// Requests to the page's own server.

/** A request that was refused or not answered; then `status` is 0. */
export class ServerFailure extends Error {
  constructor(status, answer) {
    super(answer?.error || (status ? `The server answered ${status}` : 'The server does not answer'));
    this.status = status;
    this.answer = answer;
  }
}

const TIMEOUT = 10000;

async function ask(path, options) {
  let response;
  let answer = null;
  try {
    response = await fetch(path, { ...options, cache: 'no-store', signal: AbortSignal.timeout(TIMEOUT) });
    answer = await response.json();
  } catch (cause) {
    if (!response || response.ok) throw new ServerFailure(0, null, { cause });
  }
  if (!response.ok) throw new ServerFailure(response.status, answer);
  return answer;
}

export const getJson = (path) => ask(path, {});

export const postJson = (path, body) => ask(path, {
  method: 'POST',
  headers: { 'Content-Type': 'application/json' },
  body: JSON.stringify(body),
});
