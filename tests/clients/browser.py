"""Two windows of Chromium, two agents: they chat, survive a restart of the service, and cannot inject each other.

Chromium is driven over the WebDriver protocol; only Python's standard library is used. Reads its task as one line of
JSON from standard input (third_party_clients.rs writes it), and the programs to use from ANDREA_TEST_CHROMIUM and
ANDREA_TEST_CHROMEDRIVER. Writes the line RESTART when the service is to be restarted on the same port, and goes on once
it reads the line RESTARTED. Exits 0 if all went well; otherwise 1, after a message that says what did not, and what
both windows had received.

Every wait is for an event, with a limit.
"""

import contextlib
import http.server
import json
import pathlib
import threading
import urllib.parse

from webdriver import Browser, Failure, check_equal, main

HOSTILE_BODY = (
    "<script>window.injected = 'script'</script>"
    "<img src=injected onerror=\"window.injected = 'image'\">"
    " \"double\" 'single' `back` &amp; </span></li> <a href=\"javascript:window.injected='link'\">x</a>"
)


class PageServer:
    """Serves page.html from a port of its own, as an application's web server would, and notes every path asked for."""

    def __init__(self):
        page = pathlib.Path(__file__).with_name("page.html").read_bytes()
        self.paths = paths = []

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                paths.append(self.path)
                found = self.path == "/"
                self.send_response(200 if found else 404)
                self.send_header("Content-Type", "text/html; charset=utf-8")
                self.send_header("Content-Length", str(len(page) if found else 0))
                self.end_headers()
                self.wfile.write(page if found else b"")

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.origin = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


class Window:
    """One agent's window."""

    def __init__(self, browser, handle, page, task, agent):
        self.browser, self.handle, self.agent, self.name = browser, handle, agent, agent["name"]
        setup = {
            "url": task["url"],
            "token": agent["token"],
            "agent_id": agent["id"],
            "channel_id": task["channel_id"],
        }
        self.command("POST", "/url", {"url": f"{page.origin}/#{urllib.parse.quote(json.dumps(setup))}"})
        found = self.command("POST", "/element", {"using": "css selector", "value": "#body"})
        (self.input,) = found.values()

    def command(self, method, path, body=None):
        self.browser.command("POST", "/window", {"handle": self.handle})
        return self.browser.command(method, path, body)

    def evaluate(self, expression, *arguments):
        return self.command("POST", "/execute/sync", {"script": f"return {expression};", "args": list(arguments)})

    def until(self, condition, *arguments):
        """Waits until the JavaScript `condition` holds in the page; `args` in it are the arguments."""
        script = f"const args = arguments; until(() => {condition}, args[args.length - 1]);"
        try:
            self.command("POST", "/execute/async", {"script": script, "args": list(arguments)})
        except Failure as failure:
            raise Failure(
                f"{self.name}'s window waited in vain for: {condition} {list(arguments)}: {failure}"
            ) from None

    def type(self, text):
        self.command("POST", f"/element/{self.input}/value", {"text": text})

    def until_shown(self, body):
        """Waits for a message whose text, as a person reads it, is this."""
        self.until("[...document.querySelectorAll('.body')].some((shown) => shown.textContent === args[0])", body)


ENTER = "\ue007"


def chat(first, second):
    for window in (first, second):
        window.until("state.auths === 1")
        check_equal("name shown", window.evaluate("element('who').textContent"), window.name)
    first.until(
        "state.received.some((e) => e.type === 'presence.updated' && e.agent_id === args[0] && e.online)",
        second.agent["id"],
    )

    for writer, reader in ((first, second), (second, first)):
        body = f"Hello, this is {writer.name}: ä 🙂"
        # As slowly as the driver types, but key by key: each is a typing event.
        writer.type("Hello")
        reader.until("element('typing').textContent === args[0] + ' is typing'", writer.name)
        # The driver has no keys for an emoji.
        writer.evaluate("element('body').value = arguments[0]", body)
        writer.type(ENTER)
        for window in (writer, reader):
            window.until_shown(body)
        writer.until("element('read').textContent.startsWith(args[0] + ' read ')", reader.agent["id"])
        marker = writer.evaluate(
            "state.received.filter((e) => e.type === 'chat.read.updated').at(-1).last_read_message_id"
        )
        newest = writer.evaluate("state.received.filter((e) => e.message).at(-1).message.id")
        check_equal("read marker", marker, newest)


def restart(first, second, caller):
    caller.ask("RESTART", "RESTARTED")
    for window in (first, second):
        window.until("state.auths === 2")
        check_equal(f"first close code in {window.name}'s window", window.evaluate("state.closes[0]"), 1001)
    first.type("after the restart" + ENTER)
    for window in (first, second):
        window.until_shown("after the restart")


def injection(first, second, page):
    first.type(HOSTILE_BODY + ENTER)
    for window in (first, second):
        window.until_shown(HOSTILE_BODY)
        # The counter-test: inserted unescaped, this does run, and whatever the message had started would have by then.
        window.evaluate("element('control').innerHTML = '<img src=control onerror=\"state.images += 1; changed()\">'")
        window.until("state.images === 1")
        check_equal(f"what ran in {window.name}'s window", window.evaluate("window.injected || null"), None)
        check_equal(
            "elements made by messages",
            window.evaluate("document.querySelectorAll('#messages :not(li, b, span.body)').length"),
            0,
        )
    asked_for = set(page.paths) - {"/favicon.ico"}
    check_equal("paths that the windows asked for", asked_for, {"/", "/control"})


def link(first, second):
    address = "https://example.test/page?one=1&two=%22#three"
    first.type(f"see ({address}), please" + ENTER)
    for window in (first, second):
        window.until("document.querySelector('#messages a')")
        window.evaluate("window.link = document.querySelector('#messages a')")
        found = window.evaluate(
            "{ href: link.href, target: link.target, rel: link.rel, textContent: link.textContent }"
        )
        expected = {"href": address, "target": "_blank", "rel": "noopener noreferrer", "textContent": address}
        check_equal("link", found, expected)


def run(task, caller):
    page = PageServer()
    browser = Browser()
    windows = []
    step = "start of the browser"
    try:
        browser.start()
        handles = [
            browser.command("GET", "/window"),
            browser.command("POST", "/window/new", {"type": "window"})["handle"],
        ]
        for handle, agent in zip(handles, task["agents"]):
            windows.append(Window(browser, handle, page, task, agent))
            windows[-1].until("state.auths === 1")
        for step, action in (
            ("chat", lambda: chat(*windows)),
            ("injection", lambda: injection(*windows, page)),
            ("link", lambda: link(*windows)),
            ("restart", lambda: restart(*windows, caller)),
        ):
            action()
            print(f"browser: {step}: as expected", flush=True)
        return 0
    except (Failure, OSError, KeyError, ValueError) as failure:
        print(f'browser: FAILED at "{step}": {type(failure).__name__}: {failure}')
        for window in windows:
            with contextlib.suppress(Failure, OSError):
                seen = window.evaluate("state")
                print(f"  {window.name}: closes {seen['closes']}, received {len(seen['received'])} events, the last:")
                for event in seen["received"][-12:]:
                    print(f"    {json.dumps(event, ensure_ascii=False)[:400]}")
        return 1
    finally:
        browser.quit()


if __name__ == "__main__":
    main(run)
