"""The service panel: what it shows, its settings, and its buttons in both modes."""

from windows import LIVE, Failure, check_equal, main, run_steps

STATUS = "document.querySelector('.status-badge').dataset.status"
FACT = (
    "[...document.querySelectorAll('.facts div')].find((d) => d.querySelector('dt').textContent === args[0])"
    "?.querySelector('dd').textContent"
)


def fact(window, name):
    return window.evaluate(FACT.replace("args", "arguments"), name)


def open_panel(window):
    window.click("#open-service")
    window.until("document.querySelector('.settings .field')")


def close_panel(window):
    window.evaluate("document.getElementById('service').close()")


def set_field(window, key, value):
    window.evaluate("document.getElementById(`setting-${arguments[0]}`).value = arguments[1]", key, value)


def save(window, answer):
    window.click('.settings [type="submit"]')
    window.until("document.querySelector('.settings .answer').textContent === args[0]", answer)


def press(window, action, status):
    window.until("!document.querySelector(`[data-action='${args[0]}']`).disabled", action)
    window.click(f'[data-action="{action}"]')
    window.until(f"({STATUS}) === args[0]", status)


def steps(windows, task, _caller):
    zoe, aicha = windows

    def shows():
        zoe.open("zoe")
        aicha.open("aicha")
        open_panel(zoe)
        zoe.until(f"({STATUS}) === 'running'")
        check_equal("recorded status", fact(zoe, "Recorded status"), "running")
        check_equal("process", fact(zoe, "Process"), str(task["pid"]))
        zoe.until(f"({FACT}) === '2, 2 agents'", "Connections")
        if fact(zoe, "Address") not in task["url"]:
            raise Failure(f"address {fact(zoe, 'Address')}, but the page is at {task['url']}")
        if not fact(zoe, "Heartbeat").endswith(" s ago"):
            raise Failure(f"heartbeat {fact(zoe, 'Heartbeat')}")

    def settings():
        error = "(document.getElementById(`setting-${args[0]}-error`).textContent)"
        for key, value, words in (
            ("chat_websocket_port", "70000", "1 to 65535"),
            ("chat_websocket_host", "http://helpdesk.example", "host name"),
        ):
            before = zoe.evaluate("document.getElementById(`setting-${arguments[0]}`).value", key)
            set_field(zoe, key, value)
            save(zoe, "Nothing was saved.")
            zoe.until(f"{error}.includes(args[1])", key, words)
            set_field(zoe, key, before)
        set_field(zoe, "chat_websocket_port", "8123")
        save(zoe, "Saved.")
        close_panel(zoe)
        open_panel(zoe)
        check_equal("the port", zoe.evaluate("document.getElementById('setting-chat_websocket_port').value"), "8123")

    def refused():
        """What the service refuses comes back into the box, with the reason."""
        set_field(zoe, "chat_max_message_length", "10")
        save(zoe, "Saved.")
        close_panel(zoe)
        # The service looks at its settings again within seconds; until then it takes the message.
        for number in range(100):
            zoe.say(f"longer than ten characters {number}")
            zoe.until_settled()
            if zoe.evaluate("document.getElementById('composer-text').value"):
                break
        hint = zoe.evaluate("document.getElementById('composer-hint').textContent")
        check_equal("the reason", hint, "Not sent: Message cannot exceed 10 characters")
        zoe.evaluate("document.getElementById('composer-text').select()")
        zoe.say("short")
        aicha.until_shown("short")
        check_equal("the hint is gone", zoe.evaluate("document.getElementById('composer-hint').hidden"), True)
        open_panel(zoe)
        set_field(zoe, "chat_max_message_length", "4000")
        save(zoe, "Saved.")

    def stop():
        # From now on the page's own tries come to nothing: it has to be the panel that brings the connection back.
        zoe.evaluate("(() => { const real = setTimeout; window.setTimeout = (act, time, ...more) => (time < 100 ? real(act, time, ...more) : 0);"
                     " window.realTimeout = real; })()")
        press(zoe, "stop", "stopped")
        check_equal("process", fact(zoe, "Process"), "–")
        for window in windows:
            window.until(f"!({LIVE})")
        close_panel(zoe)
        zoe.say("said while it was stopped")
        zoe.until("document.querySelector('#log .pending')")

    def start():
        open_panel(zoe)
        press(zoe, "start", "running")
        for window in windows:
            window.until(LIVE)
            window.until_shown("said while it was stopped")
        zoe.until_settled()
        zoe.evaluate("(window.setTimeout = window.realTimeout, 0)")

    def restart():
        started = fact(zoe, "Started")
        zoe.until("!document.querySelector('[data-action=restart]').disabled")
        zoe.click('[data-action="restart"]')
        # To the second; a restart within the second of the start before would look like none.
        zoe.until(f"({FACT}) !== args[1] && ({STATUS}) === 'running'", "Started", started)
        zoe.until(f"({FACT}) === 'nothing'", "Requested")
        for window in windows:
            window.until(LIVE)

    def external():
        set_field(zoe, "chat_websocket_management_mode", "external")
        save(zoe, "Saved.")
        zoe.until(f"({FACT}).includes('external')", "Managed by")
        zoe.click('[data-action="stop"]')
        zoe.until("document.querySelector('.service .answer').textContent.includes('service manager')")
        zoe.until(
            "document.querySelector('.audit code').textContent === args[0]", "chat_websocket_stop_requested_external"
        )
        check_equal("status", zoe.evaluate(STATUS), "running")
        check_equal("requested", fact(zoe, "Requested"), "nothing")
        check_equal("the chat", aicha.evaluate(LIVE), True)
        set_field(zoe, "chat_websocket_management_mode", "cron")
        save(zoe, "Saved.")
        actions = zoe.evaluate("[...document.querySelectorAll('.audit code')].map((code) => code.textContent)")
        actions = [action for action in actions if action != "chat_websocket_settings_updated"]
        check_equal(
            "the log of requests",
            actions,
            [f"chat_websocket_{what}" for what in ("stop_requested_external", "restart_requested", "start_requested", "stop_requested")],
        )

    return [
        ("what it shows", shows),
        ("settings", settings),
        ("refused", refused),
        ("stop", stop),
        ("start", start),
        ("restart", restart),
        ("external mode", external),
    ]


if __name__ == "__main__":
    main(lambda task, caller: run_steps(task, caller, 2, steps))
