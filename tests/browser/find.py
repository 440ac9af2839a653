"""Finding: the quick switcher, new direct messages, the search; desktop notifications; and what makes a day easier."""

import contextlib
import pathlib
import sqlite3

from windows import DOWN, ENTER, ESCAPE, UP, Failure, check_equal, main, run_steps

CONTROL, END, HOME = "\ue009", "\ue010", "\ue011"
FOCUS = "document.activeElement.id || document.activeElement.dataset.key"
LOG = "\n".join(f"2026-05-01 09:30:{n:02} ERROR worker {n} failed" for n in range(30))


def steps(windows, task, caller):
    zoe, sakura = windows

    def switcher():
        zoe.open("zoe")
        sakura.open("sakura")
        zoe.press(CONTROL, "k")
        zoe.until("document.getElementById('switcher').open")
        zoe.type("hard", "#switcher input")
        zoe.until("document.querySelectorAll('#switcher li').length === 1")
        zoe.press(ENTER)
        zoe.until("document.getElementById('room-title').textContent === '# Hardware'")
        zoe.until(f"({FOCUS}) === 'composer-text'")

    def new_direct():
        zoe.press(CONTROL, "k")
        zoe.type("sakura", "#switcher input")
        zoe.until("document.querySelector('#switcher li')?.textContent.includes('new direct message')")
        zoe.press(ENTER)
        zoe.until("document.getElementById('room-title').textContent === '渡辺さくら'")
        zoe.say("The first word between us")
        sakura.until("document.querySelector('#directs .badge')?.textContent === '1'")
        first = "document.querySelector('#directs .entry-name').textContent"
        zoe.until(f"{first} === '渡辺さくら'")
        sakura.click("#directs .entry")
        sakura.until_shown("The first word between us")

    def search():
        sakura.say("The needle is in this haystack, 50% sure")
        zoe.until_shown("The needle is in this haystack, 50% sure")
        zoe.choose("channel:1")
        zoe.click("#open-search")
        for query, count in (("NEEDLE", 1), ("50%", 1), ("5_%", 0), ("printer", 1)):
            zoe.evaluate("document.querySelector('#search input').value = ''")
            zoe.type(query, "#search input")
            zoe.until("document.querySelectorAll('#search li').length === args[0] && /found/.test(document.getElementById('search-note').textContent)", count)
        zoe.evaluate("document.querySelector('#search input').value = ''")
        zoe.type("needle", "#search input")
        zoe.until("document.querySelector('#search li')?.textContent.includes('needle')")
        zoe.press(ENTER)
        zoe.until("document.querySelector('#log .found')?.textContent.includes('needle')")

    def late_answers():
        """The answer to an earlier search replaces nothing, and two clicks ask for older messages once."""
        zoe.choose("channel:1")
        for text in ("straw one", "straw two", "straw three"):
            zoe.say(text)
        zoe.until_settled()
        # Searches wait until they are let go, and one finds a message at a time.
        zoe.evaluate(
            """(() => {
              const { send } = WebSocket.prototype;
              Object.assign(window, { held: [], answers: 0, unhold: () => { WebSocket.prototype.send = send; } });
              WebSocket.prototype.send = function (text) {
                if (!text.includes('chat.search')) return send.call(this, text);
                this.hears ??= this.addEventListener('message', ({ data }) => { if (data.includes('chat.search')) window.answers += 1; }) ?? true;
                return window.held.push(() => send.call(this, text.replace('{', '{"limit":1,')));
              };
            })()"""
        )
        shown = "document.querySelectorAll('#search li').length"
        note = "document.getElementById('search-note').textContent"

        def look_for(query):
            zoe.evaluate(
                """(() => {
                  const input = document.querySelector('#search input');
                  input.value = arguments[0];
                  input.dispatchEvent(new Event('input'));
                }).apply(null, arguments)""",
                query,
            )

        zoe.click("#open-search")
        look_for("needle")
        zoe.until("window.held.length === 1")
        zoe.click("#search-here")
        zoe.until("window.held.length === 2")
        zoe.evaluate("window.held[1]()")
        zoe.until(f"{note} === 'Nothing was found.'")
        zoe.evaluate("window.held[0]()")
        zoe.until("window.answers === 2")
        check_equal("what only this conversation has", zoe.evaluate(f"[{shown}, {note}]"), [0, "Nothing was found."])
        look_for("straw")
        zoe.until("window.held.length === 3")
        zoe.evaluate("window.held[2]()")
        zoe.until(f"{shown} === 1 && !document.getElementById('search-more').hidden")
        zoe.click("#search-more")
        zoe.click("#search-more")
        zoe.evaluate("window.held.slice(3).forEach((go) => go())")
        zoe.until("window.answers === window.held.length")
        check_equal("searches and what they found", zoe.evaluate(f"[window.held.length, {shown}]"), [4, 2])
        zoe.evaluate("window.unhold()")
        zoe.click("#search-more")
        zoe.until(f"{shown} === 3")
        zoe.click("#search-here")
        zoe.press(ESCAPE)
        zoe.until("!document.getElementById('search').open")
        zoe.click("#directs .entry")
        zoe.until("document.getElementById('room-title').textContent === '渡辺さくら'")

    def notifications():
        zoe.evaluate(
            """(() => {
              window.notes = [];
              window.Notification = class {
                static permission = 'default';
                static async requestPermission() { return Notification.permission = 'granted'; }
                constructor(title, { body }) { window.notes.push(`${title}: ${body}`); }
              };
            })()"""
        )
        zoe.click("#notify")
        zoe.until("document.getElementById('notify').getAttribute('aria-pressed') === 'true'")
        sakura.say("seen at once")
        zoe.until_shown("seen at once")
        zoe.evaluate("document.hasFocus = () => false")
        sakura.say("not seen")
        zoe.until("window.notes.length === 1")
        check_equal("the notification", zoe.evaluate("window.notes"), ["渡辺さくら: not seen"])
        zoe.evaluate("delete document.hasFocus")
        zoe.click("#notify")
        zoe.until("document.getElementById('notify').getAttribute('aria-pressed') === 'false'")

    def keyboard():
        zoe.evaluate("document.querySelector('[data-key=\"channel:1\"]').focus()")
        for key, expected in ((DOWN, "channel:3"), (UP, "channel:1"), (HOME, "channel:2"), (END, "direct:1")):
            zoe.press(key)
            zoe.until(f"({FOCUS}) === args[0]", expected)
        zoe.evaluate("document.activeElement.blur()")
        zoe.press("h")
        zoe.until("document.getElementById('composer-text').value === 'h'")
        zoe.press(ESCAPE)

    def drafts():
        zoe.choose("channel:3")
        zoe.type("a draft that stays")
        zoe.evaluate("sessionStorage.clear()")
        zoe.open("zoe")
        zoe.choose("channel:3")
        check_equal("the draft", zoe.evaluate("document.getElementById('composer-text').value"), "a draft that stays")
        zoe.evaluate("document.getElementById('composer-text').value = ''")
        zoe.type(" ")

    def logs():
        zoe.choose("channel:1")
        zoe.evaluate(
            "(() => { document.getElementById('composer-text').value = arguments[0];"
            " document.getElementById('composer').requestSubmit(); }).apply(null, arguments)",
            LOG,
        )
        last = "[...document.querySelectorAll('#log .body')].at(-1)"
        zoe.until(f"{last}.classList.contains('is-log') && {last}.classList.contains('folded')")
        lines = f"{last}.getBoundingClientRect().height / parseFloat(getComputedStyle({last}).lineHeight)"
        if zoe.evaluate(lines) > 13.5:
            raise Failure(f"a folded log has {zoe.evaluate(lines)} lines")
        zoe.click("#log .unfold")
        zoe.until(f"!{last}.classList.contains('folded')")

    def changes():
        """What other programs edit and delete is shown as such."""
        zoe.say("to be edited")
        zoe.say("to be deleted")
        zoe.until_settled()
        with contextlib.closing(sqlite3.connect(pathlib.Path(task["data"]) / "chat.sqlite")) as database, database:
            database.execute(
                "UPDATE chat_messages SET body_text = 'was edited', body_rendered_html = 'was edited', edited_at = datetime('now')"
                " WHERE body_text = 'to be edited'"
            )
            database.execute("UPDATE chat_messages SET deleted_at = datetime('now') WHERE body_text = 'to be deleted'")
        zoe.until_shown("was edited (edited)")
        zoe.until_shown("This message was deleted.")

    def close_together():
        zoe.say("one")
        zoe.say("two")
        zoe.until_settled()
        gap = (
            "(() => { const [a, b] = [...document.querySelectorAll('#log .message')].slice(-2).map((row) => row.getBoundingClientRect());"
            " return b.top - a.bottom; })()"
        )
        if zoe.evaluate(gap) > 4:
            raise Failure(f"messages of one sender stand {zoe.evaluate(gap)} px apart")

    def full_storage():
        zoe.choose("channel:1")
        zoe.evaluate(
            """(() => {
              const { send } = WebSocket.prototype;
              const { setItem } = Storage.prototype;
              Storage.prototype.setItem = () => { throw new DOMException('it is full', 'QuotaExceededError'); };
              // The service refuses what goes to a channel that is not there.
              WebSocket.prototype.send = function (text) { send.call(this, text.replace(/"channel_id":1\\b/, '"channel_id":999')); };
              document.getElementById('composer-text').value = 'given back';
              document.getElementById('composer').requestSubmit();
              document.querySelector('[data-key="channel:3"]').click();
              WebSocket.prototype.send = send;
              window.empty = () => { Storage.prototype.setItem = setItem; };
            })()"""
        )
        zoe.until("document.querySelector('[data-key=\"channel:1\"] .entry-draft')")
        zoe.until("!document.getElementById('toast').hidden")
        zoe.choose("channel:1")
        check_equal("the box", zoe.evaluate("document.getElementById('composer-text').value"), "given back")
        check_equal("unsent", zoe.evaluate("document.querySelectorAll('#log .pending, #log .failed').length"), 0)
        zoe.evaluate("[...document.querySelectorAll('#log .mark-unread')].at(-1).click()")
        zoe.until("document.querySelector('[data-key=\"channel:1\"] .badge')?.textContent > 0")
        zoe.evaluate("window.empty()")

    return [
        ("quick switcher", switcher),
        ("a new direct message", new_direct),
        ("search", search),
        ("late answers of the search", late_answers),
        ("desktop notifications", notifications),
        ("keys", keyboard),
        ("drafts", drafts),
        ("pasted logs", logs),
        ("edited and deleted", changes),
        ("close together", close_together),
        ("full storage", full_storage),
    ]


if __name__ == "__main__":
    main(lambda task, caller: run_steps(task, caller, 2, steps))
