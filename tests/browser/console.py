"""What the browser's console says of WebSockets that do not come about."""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "clients"))

from webdriver import Browser, Failure, main  # noqa: E402

TRY = """
const done = arguments[1];
new WebSocket(arguments[0]).onclose = (event) => done(event.code);
"""


def try_all(task, _caller):
    browser = Browser()
    try:
        browser.start()
        browser.command("POST", "/url", {"url": task["page"]})
        for case in task["cases"]:
            browser.command("POST", "/execute/async", {"script": TRY, "args": [case["url"]]})
        said = [line["message"] for line in browser.command("POST", "/se/log", {"type": "browser"})]
        for case in task["cases"]:
            if not any(f"'{case['url']}'" in line and case["words"] in line for line in said):
                raise Failure(f"no {case['words']!r} of {case['url']} in\n" + "\n".join(said))
        return 0
    finally:
        browser.quit()


if __name__ == "__main__":
    main(try_all)
