"""The service goes away under open pages and comes back: nothing that was written is lost, or there twice.

Asks the caller to RESTART (in good order), KILL (as a crash does) and start again, to FREEZE, or to take it DOWN and UP.
"""

from windows import LIVE, TEXT, Failure, check_equal, main, run_steps


def check_once(window, texts):
    found = [text for text in window.texts() if text in texts]
    check_equal(f"messages in {window.name}'s window", found, texts)


def steps(windows, _task, caller):
    zoe, aicha = windows

    def begin():
        zoe.open("zoe")
        aicha.open("aicha")
        zoe.choose("channel:3")
        zoe.type("half a thought")
        zoe.choose("channel:1")
        zoe.until("document.querySelector('[data-key=\"channel:3\"] .entry-draft')")

    def restart():
        zoe.type("not yet said")
        caller.ask("RESTART", "DONE")
        for window in windows:
            window.until(LIVE)
        check_equal("text in the box", zoe.evaluate("document.getElementById('composer-text').value"), "not yet said")
        zoe.say("")
        aicha.until_shown("not yet said")
        zoe.say("after the restart")
        aicha.until_shown("after the restart")

    def crash():
        texts = [f"crash {number}" for number in range(20)]
        # As fast as the page can; the crash comes somewhere in between.
        zoe.say_all(texts)
        caller.ask("KILL", "DONE")
        for window in windows:
            window.until(LIVE)
        zoe.until_settled()
        for window in windows:
            window.until_shown(texts[-1])
            check_once(window, texts)

    def lost_on_the_way():
        """Sent over a connection that broke before anybody read it."""
        caller.ask("FREEZE", "DONE")
        zoe.say("unread so far")
        zoe.until("document.querySelector('#log .pending')")
        caller.ask("KILL", "DONE")
        zoe.until(LIVE)
        zoe.until_settled()
        for window in windows:
            window.until_shown("unread so far")
            check_once(window, ["unread so far"])

    def answer_lost():
        """Stored, but the answer never came."""
        zoe.evaluate(
            """(() => {
              const Real = WebSocket;
              window.WebSocket = class extends Real {
                set onmessage(hear) { super.onmessage = (event) => { if (!window.deaf) hear(event); }; }
              };
              window.WebSocket.OPEN = Real.OPEN;
            })()"""
        )
        caller.ask("RESTART", "DONE")
        for window in windows:
            window.until(LIVE)
        zoe.evaluate("window.deaf = true")
        zoe.say("the answer to this was lost")
        aicha.until_shown("the answer to this was lost")
        check_equal("still waits", zoe.evaluate("document.querySelectorAll('#log .pending').length"), 1)
        caller.ask("KILL", "DONE")
        zoe.evaluate("window.deaf = false")
        aicha.until(LIVE)
        zoe.until(LIVE)
        zoe.until_settled()
        zoe.say("and after that")
        for window in windows:
            window.until_shown("and after that")
            check_once(window, ["the answer to this was lost", "and after that"])

    def away():
        caller.ask("DOWN", "DONE")
        zoe.until("document.getElementById('link-state').dataset.state === 'reconnecting'")
        texts = ["written while it was away", "and a second one"]
        for text in texts:
            zoe.say(text)
        zoe.until("document.querySelectorAll('#log .pending').length === 2")
        state = zoe.evaluate("document.querySelector('#log .pending .state').textContent")
        check_equal("what is said about it", state, "Waits for the connection")
        zoe.until("document.getElementById('link-state').dataset.state === 'offline'")
        if "waits here" not in zoe.evaluate("document.getElementById('banner').textContent"):
            raise Failure("the page does not say that it is offline")
        caller.ask("UP", "DONE")
        aicha.until(LIVE)
        zoe.until(LIVE)
        zoe.until_settled()
        for window in windows:
            window.until_shown(texts[-1])
            check_once(window, texts)
        check_equal("the banner is gone", zoe.evaluate("document.getElementById('banner').hidden"), True)

    def reload():
        caller.ask("DOWN", "DONE")
        zoe.until("document.getElementById('link-state').dataset.state !== 'live'")
        zoe.say("survives a reload")
        zoe.until("document.querySelector('#log .pending')")
        zoe.type("and so does this")
        caller.ask("UP", "DONE")
        zoe.command("POST", "/refresh", {})
        zoe.until(LIVE)
        aicha.until(LIVE)
        aicha.until_shown("survives a reload")
        zoe.until_settled()
        check_once(zoe, ["survives a reload"])
        check_equal("text in the box", zoe.evaluate("document.getElementById('composer-text').value"), "and so does this")
        zoe.choose("channel:3")
        check_equal("text in the other box", zoe.evaluate("document.getElementById('composer-text').value"), "half a thought")

    def complete():
        zoe.choose("channel:1")
        aicha.choose("channel:1")
        zoe.until(f"{TEXT}.length > 30")
        check_equal("what both windows show", zoe.texts(), aicha.texts())

    return [
        ("begin", begin),
        ("restart in good order", restart),
        ("crash", crash),
        ("lost on the way", lost_on_the_way),
        ("the answer is lost", answer_lost),
        ("away for a while", away),
        ("reload with something unsent", reload),
        ("both windows agree", complete),
    ]


if __name__ == "__main__":
    main(lambda task, caller: run_steps(task, caller, 2, steps))
