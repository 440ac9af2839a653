"""The browser client of docs/clients.md in Chromium, from a web server of its own."""

import functools
import http.server
import pathlib
import sys
import threading

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "browser"))

from windows import ENTER, main, run_steps  # noqa: E402

HEARD = "[...document.querySelectorAll('li')].some((line) => line.textContent.endsWith(args[0]))"


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


def steps(windows, task, caller):
    (window,) = windows
    window.name = "the document's client"
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=task["folder"]))
    threading.Thread(target=server.serve_forever, daemon=True).start()

    def talk():
        window.url = f"http://127.0.0.1:{server.server_port}"
        window.go(f"/chat.html#url={task['url']}&token={task['token']}")
        window.until("document.querySelector('output').value === 'live'")
        window.type("Hello from the browser" + ENTER, "input")
        window.until(HEARD, ": Hello from the browser")
        caller.ask("SAY Hello, browser", "DONE")
        window.until(HEARD, ": Hello, browser")

    return [("a talk", talk)]


if __name__ == "__main__":
    main(lambda task, caller: run_steps(task, caller, 1, steps))
