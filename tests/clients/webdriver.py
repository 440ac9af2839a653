"""Chromium, driven over the WebDriver protocol with nothing but Python's standard library, and the one who called.

Takes the programs to use from ANDREA_TEST_CHROMIUM and ANDREA_TEST_CHROMEDRIVER.
"""

import contextlib
import json
import os
import queue
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import urllib.error
import urllib.request

EVENT_LIMIT_SECONDS = 60
# A first start of Chromium on a busy machine takes its time.
WEBDRIVER_LIMIT_SECONDS = 120
SCRIPT_LIMIT_SECONDS = 300

CHROMIUM_ARGUMENTS = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-extensions",
    # Both windows are to run at full speed, though only one can be in front.
    "--disable-background-timer-throttling",
    "--disable-renderer-backgrounding",
    "--disable-backgrounding-occluded-windows",
    # Nothing but this machine can be reached, whatever a message asks for.
    "--no-proxy-server",
    "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1",
]


class Failure(Exception):
    """Something went otherwise than it should."""


def check_equal(what, found, expected):
    if found != expected:
        raise Failure(f"{what}: expected {expected!r}, found {found!r}")


class Browser:
    """One Chromium with its driver and a profile of its own; gone without trace after `quit`."""

    def __init__(self):
        self.folder = tempfile.mkdtemp(prefix="andrea-browser-")
        self.driver = self.session = self.address = None

    def start_driver(self):
        """Starts the driver; sets its address, or returns what it said before it ended."""
        # In a process group of its own, so that the driver and the browser can be ended together.
        self.driver = subprocess.Popen(
            [os.environ["ANDREA_TEST_CHROMEDRIVER"], "--port=0", f"--log-path={self.folder}/driver.log"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
            env={**os.environ, "HOME": self.folder, "TMPDIR": self.folder},
        )
        said = []
        for line in self.driver.stdout:
            said.append(line)
            if "started successfully on port" in line:
                self.address = f"http://127.0.0.1:{int(line.rsplit('port', 1)[1].strip(' .' + chr(10)))}"
                break
        return "".join(said)

    def start(self):
        # The driver looks for a port that is free for IPv6, and ends where another program has the same one for IPv4.
        for _ in range(10):
            said = self.start_driver()
            if self.address or "port not available" not in said:
                break
            self.driver.wait()
        if not self.address:
            raise Failure(f"the WebDriver ended and said: {said}")
        profile = os.path.join(self.folder, "profile")
        options = {
            "binary": os.environ["ANDREA_TEST_CHROMIUM"],
            "args": [*CHROMIUM_ARGUMENTS, f"--user-data-dir={profile}"],
        }
        capabilities = {
            "browserName": "chrome",
            "goog:chromeOptions": options,
            "goog:loggingPrefs": {"browser": "ALL"},
            "timeouts": {"script": EVENT_LIMIT_SECONDS * 1000, "pageLoad": EVENT_LIMIT_SECONDS * 1000},
        }
        self.session = self.call("POST", "/session", {"capabilities": {"alwaysMatch": capabilities}})["sessionId"]

    def call(self, method, path, body=None):
        """One WebDriver command; returns its value."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            self.address + path, data=data, method=method, headers={"Content-Type": "application/json; charset=utf-8"}
        )
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(request, timeout=WEBDRIVER_LIMIT_SECONDS) as answer:
                return json.load(answer)["value"]
        except urllib.error.HTTPError as refusal:
            value = json.load(refusal)["value"]
            raise Failure(
                f"WebDriver {method} {path}: {value['error']}: {value['message'].splitlines()[0]}"
            ) from None

    def command(self, method, path, body=None):
        return self.call(method, f"/session/{self.session}{path}", body)

    def quit(self):
        with contextlib.suppress(Exception):
            if self.session:
                self.call("DELETE", f"/session/{self.session}")
        if self.driver:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.driver.pid, signal.SIGKILL)
            self.driver.wait()
        # Processes of the browser that are ending may still write there for a moment.
        deadline = time.monotonic() + EVENT_LIMIT_SECONDS
        while os.path.exists(self.folder) and time.monotonic() < deadline:
            shutil.rmtree(self.folder, ignore_errors=True)
            time.sleep(0.02)


class Caller:
    """The test program that gives the task and restarts the service. The browser must not outlive it."""

    def __init__(self):
        self.lines = queue.SimpleQueue()
        self.farewell = None
        # Both come here, whatever the main thread is waiting for.
        signal.signal(signal.SIGALRM, self._interrupt)
        signal.alarm(SCRIPT_LIMIT_SECONDS)
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self):
        for line in sys.stdin:
            self.lines.put(line.strip())
        self.farewell = "the caller has gone"
        signal.pthread_kill(threading.main_thread().ident, signal.SIGALRM)

    def _interrupt(self, *_):
        raise Failure(self.farewell or f"not done after {SCRIPT_LIMIT_SECONDS} s")

    def next_line(self):
        return self.lines.get()

    def ask(self, word, answer):
        """Has the caller do something, and waits until it is done."""
        print(word, flush=True)
        check_equal(f"answer to {word}", self.next_line(), answer)


def main(run):
    """Runs a script on the task that the caller gives, and exits with what `run(task, caller)` returns."""
    sys.stderr = sys.stdout  # A traceback is to stand where the caller looks.
    try:
        caller = Caller()
        result = run(json.loads(caller.next_line()), caller)
        sys.stdout.flush()
    except BrokenPipeError:
        result = 1
    except Exception:
        traceback.print_exc()
        result = 1
        sys.stdout.flush()
    # Not by way of the interpreter's end: the thread that listens holds on to standard input.
    os._exit(result)
