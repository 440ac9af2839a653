"""What counts as read: only what was on the screen, without a gap; and what leads to it."""

import contextlib
import pathlib
import random
import sqlite3

from windows import LIVE, Failure, check_equal, main, run_steps

COUNT = 60
TEXT = "{} has a line\nand a second one\nand a third"
# Ids whose lower edge is in the view of the log.
VISIBLE = (
    "(() => { const log = document.getElementById('log').getBoundingClientRect();"
    " return [...document.querySelectorAll('#log [data-id]')].filter((row) => { const at = row.getBoundingClientRect();"
    " return at.bottom > log.top && at.bottom <= log.bottom + 1; }).map((row) => Number(row.dataset.id)); })()"
)
BADGE = "(document.querySelector(`[data-key='channel:1'] .badge`)?.textContent ?? '')"


def steps(windows, task, caller):
    zoe, aicha = windows
    path = pathlib.Path(task["data"]) / "chat.sqlite"

    def rows(query):
        with contextlib.closing(sqlite3.connect(path)) as database:
            return database.execute(query).fetchall()

    def marker():
        return rows("SELECT last_read_message_id FROM chat_message_reads WHERE agent_id = 1 AND channel_id = 1")[0][0]

    def unread_ids():
        return [id for (id,) in rows("SELECT id FROM chat_messages WHERE channel_id = 1 AND sender_agent_id = 3 ORDER BY id")][-COUNT:]

    def arrive():
        zoe.open("zoe")
        aicha.open("aicha")
        zoe.choose("channel:3")
        aicha.say_all([TEXT.format(f"number {n}") for n in range(COUNT)])
        aicha.until_settled()
        zoe.until(f"{BADGE} === '{COUNT}'")
        zoe.until("document.title.startsWith('(')")
        zoe.until("document.querySelector('link[rel=icon]').href.startsWith('data:image/png')")

    def opens_at_the_first():
        ids = unread_ids()
        zoe.choose("channel:1")
        zoe.until(f"({VISIBLE}).includes(args[0])", ids[0])
        if ids[-1] in zoe.evaluate(VISIBLE):
            raise Failure("60 messages fit on the screen")
        zoe.until("!document.getElementById('unread-bar').hidden")
        text = zoe.evaluate("document.getElementById('unread-text').textContent")
        if " new since " not in text:
            raise Failure(f"the bar says {text!r}")

    def only_what_was_seen():
        """Whatever way through the messages, the marker passes over none that was not on the screen."""
        ids = unread_ids()
        seen = set(zoe.evaluate(VISIBLE))
        for _ in range(25):
            zoe.evaluate(
                "document.getElementById('log').scrollBy(0, arguments[0])", random.choice([-400, -150, 120, 250, 400, 900])
            )
            zoe.command("POST", "/execute/async", {
                "script": "const done = arguments[0]; requestAnimationFrame(() => requestAnimationFrame(() => done()))", "args": [],
            })
            seen |= set(zoe.evaluate(VISIBLE))
            prefix = [id for place, id in enumerate(ids) if all(one in seen for one in ids[: place + 1])]
            if marker() > (prefix[-1] if prefix else ids[0] - 1):
                raise Failure(f"the marker is at {marker()}, seen without a gap up to {prefix[-1:]}")
        if marker() < ids[0]:
            raise Failure("nothing was marked read")

    def jump():
        ids = unread_ids()
        before = len([id for id in ids if id > marker()])
        if before:
            zoe.evaluate("document.getElementById('unread-jump').click()")
            zoe.until(f"({VISIBLE}).includes(args[0])", ids[-1])
        left = zoe.evaluate(f"Number({BADGE} || 0)")
        if left:
            zoe.until("!document.getElementById('unread-bar').hidden")
            zoe.evaluate("document.getElementById('unread-mark').click()")
        zoe.until(f"{BADGE} === ''")
        zoe.until("document.getElementById('unread-bar').hidden")
        aicha.until("document.querySelector('#log [data-id=\"' + args[0] + '\"] .seen .avatar')?.title.startsWith('Zoë')", ids[-1])
        check_equal("the marker", marker(), ids[-1])

    def by_hand():
        """Marked unread in this browser alone."""
        ids = unread_ids()
        zoe.evaluate("document.querySelector(`[data-id='${arguments[0]}'] .mark-unread`).click()", ids[-3])
        zoe.until(f"{BADGE} === '3'")
        check_equal("the stored marker", marker(), ids[-1])
        zoe.choose("channel:3")
        zoe.command("POST", "/refresh", {})
        zoe.until(LIVE)
        zoe.until(f"{BADGE} === '3'")
        zoe.choose("channel:1")
        zoe.until(f"{BADGE} === ''")

    def phone():
        zoe.choose("channel:3")
        zoe.resize(390, 800, True)
        aicha.say("for the phone")
        badge = "Number(document.getElementById('menu-badge').textContent)"
        zoe.until(f"{badge} >= 1 && !document.getElementById('menu-badge').hidden")
        zoe.until(f"document.getElementById('drawer-open').getAttribute('aria-label').includes(`${{{badge}}} unread`)")

    return [
        ("60 unread", arrive),
        ("opens at the first unread", opens_at_the_first),
        ("only what was seen", only_what_was_seen),
        ("jump to the newest", jump),
        ("marked unread by hand", by_hand),
        ("a mark on the menu button", phone),
    ]


if __name__ == "__main__":
    main(lambda task, caller: run_steps(task, caller, 2, steps))
