"""Windows on the demo's page, for the scripts beside this file. Every wait is for an event in the page, with a limit."""

import base64
import contextlib
import json
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "clients"))

from webdriver import Browser, Failure, check_equal, main  # noqa: E402, F401

ENTER, ESCAPE, TAB = "\ue007", "\ue00c", "\ue004"
ALT, SHIFT, UP, DOWN, RIGHT = "\ue00a", "\ue008", "\ue013", "\ue015", "\ue014"

# Calls back once the condition holds: now, or after some change of the page. What changes without a trace in the
# document (focus, sizes) is looked at ten times a second.
UNTIL = """
const done = arguments[arguments.length - 1];
const args = arguments;
const holds = () => %s;
let observer, timer;
const look = () => {
  let found;
  try { found = holds(); } catch (problem) { found = false; }
  if (!found) return;
  observer?.disconnect();
  clearInterval(timer);
  done(true);
};
observer = new MutationObserver(look);
observer.observe(document, { subtree: true, childList: true, attributes: true, characterData: true });
timer = setInterval(look, 100);
look();
"""

# What a message is to a reader, and the last message of the open conversation.
TEXT = "[...document.querySelectorAll('#log .body')].map((body) => body.innerText)"
LIVE = "document.getElementById('link-state').dataset.state === 'live'"


class Window:
    """One window of the browser, as one agent uses it."""

    def __init__(self, browser, handle, url, width=1280, height=820, mobile=False):
        self.browser, self.handle, self.url, self.name = browser, handle, url, "nobody"
        self.resize(width, height, mobile)
        # In a headless browser only one window could have the focus.
        self.devtools("Emulation.setFocusEmulationEnabled", enabled=True)

    def command(self, method, path, body=None):
        self.browser.command("POST", "/window", {"handle": self.handle})
        return self.browser.command(method, path, body)

    def devtools(self, command, **parameters):
        return self.command("POST", "/goog/cdp/execute", {"cmd": command, "params": parameters})

    def resize(self, width, height, mobile=False):
        self.devtools(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=2 if mobile else 1,
            mobile=mobile,
        )

    def prefer(self, scheme):
        """Light or dark; and without motion, so that a picture shows no half of one."""
        wanted = {"prefers-color-scheme": scheme, "prefers-reduced-motion": "reduce"}
        features = [{"name": name, "value": value} for name, value in wanted.items()]
        self.devtools("Emulation.setEmulatedMedia", features=features)

    def open(self, name):
        """Opens the page as this agent and waits until the chat is live."""
        self.name = name
        self.go(f"/?as={name}")
        self.until(LIVE)

    def go(self, path):
        self.command("POST", "/url", {"url": self.url.rstrip("/") + path})

    def evaluate(self, expression, *arguments):
        return self.command("POST", "/execute/sync", {"script": f"return {expression};", "args": list(arguments)})

    def until(self, condition, *arguments):
        try:
            self.command("POST", "/execute/async", {"script": UNTIL % condition, "args": list(arguments)})
        except Failure as failure:
            raise Failure(
                f"{self.name}'s window waited in vain for: {condition} {list(arguments)}: {failure}"
            ) from None

    def element(self, selector):
        (reference,) = self.command("POST", "/element", {"using": "css selector", "value": selector}).values()
        return reference

    def click(self, selector):
        self.command("POST", f"/element/{self.element(selector)}/click", {})

    def type(self, text, selector="#composer-text"):
        self.command("POST", f"/element/{self.element(selector)}/value", {"text": text})

    def press(self, *keys):
        """Presses keys where the focus is; all but the last are held meanwhile."""
        down = [{"type": "keyDown", "value": key} for key in keys]
        up = [{"type": "keyUp", "value": key} for key in reversed(keys)]
        self.command("POST", "/actions", {"actions": [{"type": "key", "id": "keyboard", "actions": down + up}]})

    def choose(self, key):
        """Opens a conversation, such as channel:1."""
        self.click(f'[data-key="{key}"]')
        self.until("document.querySelector(`[data-key='${args[0]}']`).hasAttribute('aria-current')", key)

    def say(self, text):
        self.type(text + ENTER)

    def say_all(self, texts):
        """As fast as the page can."""
        self.evaluate(
            """(() => {
              const box = document.getElementById('composer-text');
              for (const text of arguments[0]) {
                box.value = text;
                document.getElementById('composer').requestSubmit();
              }
            }).apply(null, arguments)""",
            texts,
        )

    def until_shown(self, text):
        self.until(f"{TEXT}.includes(args[0])", text)

    def texts(self):
        return self.evaluate(TEXT)

    def until_settled(self):
        """Everything that was written here is with the server."""
        self.until("!document.querySelector('#log .pending, #log .failed')")

    def picture(self):
        return base64.b64decode(self.command("GET", "/screenshot"))


def run_steps(task, caller, count, steps, **size):
    """Opens `count` windows and does `steps(windows, task, caller)`, pairs of a name and what to do."""
    browser = Browser()
    windows = []
    step = "start of the browser"
    try:
        browser.start()
        handles = [browser.command("GET", "/window")]
        handles += [browser.command("POST", "/window/new", {"type": "window"})["handle"] for _ in range(count - 1)]
        windows = [Window(browser, handle, task["url"], **size) for handle in handles]
        for step, action in steps(windows, task, caller):
            action()
            print(f"page: {step}: as expected", flush=True)
        check_nothing_blocked(windows)
        return 0
    except (Failure, OSError, KeyError, ValueError) as failure:
        print(f'page: FAILED at "{step}": {type(failure).__name__}: {failure}')
        for window in windows:
            with contextlib.suppress(Failure, OSError):
                print(f"  {window.name}: {window.evaluate('document.body.innerText')[-1500:]!r}")
                print(f"  console: {json.dumps(console(window), ensure_ascii=False)[-1500:]}")
        return 1
    finally:
        browser.quit()


def console(window):
    return [entry["message"] for entry in window.command("POST", "/se/log", {"type": "browser"})]


def check_nothing_blocked(windows):
    """The page's own code must not break the page's own policy, nor throw."""
    for window in windows:
        for message in console(window):
            # A connection that breaks is an error to the browser, not to the page.
            if "WebSocket connection" not in message and "Failed to load resource" not in message:
                raise Failure(f"{window.name}'s window complained: {message}")
