"""Rounds of faults for the client of contrib/client in Chromium, on an address of the demo that goes through a proxy.

The caller does what breaks, by the words of FAULTS.
"""

import pathlib
import random
import signal
import time

from windows import main, run_steps

FAULTS = [
    ["KILL"], ["TERM"], ["CUT"], ["CUT", "CUT"], ["SLOW", "EVEN"], ["SLOW", "CUT", "EVEN"], ["LOSE", "FIND"], ["FREEZE", "THAW"], [],
]
LIMIT_SECONDS = 1200
CROWD = pathlib.Path(__file__).resolve().parent.parent / "client/crowd.js"
# Agents 1 and 3 of the demo, the first in two windows; both are in the first channel and the first thread.
BEGIN = """
const done = arguments[arguments.length - 1];
const token = (agent) => async () => {
  const body = JSON.stringify({ agent });
  const answer = await fetch('/demo/token', { method: 'POST', headers: { 'Content-Type': 'application/json' }, body });
  return (await answer.json()).token;
};
import('/andrea-chat.js').then(async ({ ChatClient }) => {
  const agents = [1, 3, 1].map((id) => ({ id, token: token(id) }));
  window.crowd = new Crowd((options) => new ChatClient(options), WebSocket, agents, [{ channel_id: 1 }, { thread_id: 1 }]);
  await window.crowd.live();
  done('live');
}).catch((error) => done(String(error)));
"""
SETTLE = """
const done = arguments[arguments.length - 1];
window.saying.then(() => window.crowd.settle()).then(done, (error) => done(String(error)));
"""


def steps(windows, task, caller):
    (window,) = windows
    window.name = "the crowd"

    def run(script):
        return window.command("POST", "/execute/async", {"script": script, "args": []})

    def begin():
        signal.alarm(LIMIT_SECONDS)
        # The page itself stays at the choice of an agent.
        window.go("/?as=nobody-here")
        crowd = CROWD.read_text(encoding="utf-8").replace("\nexport ", "\n")
        found = run(crowd + BEGIN)
        if found != "live":
            raise ValueError(found)

    def rounds():
        said = 0
        for number in range(task["rounds"]):
            window.evaluate("(window.saying = window.crowd.say(8), 0)")
            words = random.choice(FAULTS)
            for word in words:
                # A fault comes at any moment of the talk.
                time.sleep(random.random() * 0.15)
                caller.ask(word, "DONE")
            if not words or random.random() < 0.1:
                window.evaluate("window.crowd.reload(arguments[0])", number)
            found = run(SETTLE)
            said += 8
            if found != said:
                raise ValueError(f"round {number}, {words}: {found}")
        print(f"SAID {said}", flush=True)

    return [("begin", begin), ("rounds", rounds)]


if __name__ == "__main__":
    main(lambda task, caller: run_steps(task, caller, 1, steps))
