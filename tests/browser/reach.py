"""The page at phone width, and with the keyboard alone."""

from windows import ALT, DOWN, ENTER, ESCAPE, RIGHT, SHIFT, TAB, UP, Failure, check_equal, main, run_steps

FOCUS = "document.activeElement.id || document.activeElement.dataset.key || document.activeElement.className"


def box(window, selector):
    return window.evaluate(
        "(({ left, right, top, bottom, width, height }) => ({ left, right, top, bottom, width, height }))"
        "(document.querySelector(arguments[0]).getBoundingClientRect())",
        selector,
    )


def check_within(window, selector):
    inside, width = box(window, selector), window.evaluate("innerWidth")
    if inside["left"] < 0 or inside["right"] > width or not inside["width"]:
        raise Failure(f"{selector} reaches from {inside['left']} to {inside['right']} in a window of {width}")


def steps(windows, _task, _caller):
    phone, desk = windows

    def narrow():
        phone.resize(360, 740, True)
        phone.open("aicha")
        check_equal("scrolls sideways", phone.evaluate("document.scrollingElement.scrollWidth > innerWidth"), False)
        for selector in (".room-head", "#log", "#composer", "#composer-send", "#people-toggle"):
            check_within(phone, selector)
        if phone.evaluate("document.getElementById('sidebar').inert") is not True:
            raise Failure("the hidden list can be reached by the keyboard")
        for selector in ("#drawer-open", "#composer-send", "#emoji-button", "#people-toggle"):
            size = box(phone, selector)
            if size["width"] < 32 or size["height"] < 32:
                raise Failure(f"{selector} is too small for a finger: {size}")

    def choose_narrow(key):
        phone.click("#drawer-open")
        phone.until("document.getElementById('sidebar').getBoundingClientRect().left === 0")
        phone.choose(key)
        phone.until("!document.body.classList.contains('drawer-open')")

    def drawer():
        phone.click("#drawer-open")
        phone.until("getComputedStyle(document.getElementById('sidebar')).visibility === 'visible'")
        phone.until(f"({FOCUS}) === 'drawer-close'")
        phone.press(ESCAPE)
        phone.until("!document.body.classList.contains('drawer-open')")
        phone.until(f"({FOCUS}) === 'drawer-open'")
        choose_narrow("channel:3")
        phone.say("from a phone with a word that is too long for it: " + "x" * 200)
        phone.until_settled()
        check_equal("scrolls sideways", phone.evaluate("document.scrollingElement.scrollWidth > innerWidth"), False)

    def other_sizes():
        """A window of another size, or a keyboard on the screen, leaves the reader at the newest message."""
        choose_narrow("channel:1")
        for width, height in ((740, 360), (320, 640), (360, 400), (360, 740)):
            phone.resize(width, height, True)
            phone.until("innerWidth === args[0]", width)
            phone.until("(({ scrollHeight, scrollTop, clientHeight }) => scrollHeight - scrollTop - clientHeight < 48)(document.getElementById('log'))")
            phone.until("document.getElementById('to-newest').hidden")

    def overlays():
        phone.click("#emoji-button")
        check_within(phone, "#emoji")
        phone.click('#emoji [aria-label="rocket"]')
        phone.until("document.getElementById('composer-text').value === '🚀'")
        phone.click("#people-toggle")
        check_within(phone, "#people")
        phone.press(ESCAPE)
        phone.evaluate("document.getElementById('scrim').click()")
        phone.until("document.getElementById('people').hidden")

    def keyboard():
        desk.open("zoe")
        desk.evaluate("document.activeElement.blur()")
        order = []
        for _ in range(14):
            desk.press(TAB)
            order.append(desk.evaluate(FOCUS))
            shown = desk.evaluate(
                "(() => { const s = getComputedStyle(document.activeElement); "
                "return s.outlineStyle !== 'none' || document.activeElement.id === 'composer-text'; })()"
            )
            check_equal(f"visible focus on {order[-1]}", shown, True)
        stops = ["skip", "open-switcher", "open-search", "channel:2", "channel:1", "channel:3", "new-direct", "direct:1"]
        check_equal("the first stops", order[: len(stops)], stops)
        desk.evaluate("document.querySelector('.skip').focus()")
        desk.press(ENTER)
        desk.until(f"({FOCUS}) === 'composer-text'")
        for keys, key in (
            ((ALT, DOWN), "channel:3"),
            ((ALT, DOWN), "direct:1"),
            ((ALT, UP), "channel:3"),
            # Only to those with something new.
            ((ALT, SHIFT, UP), "channel:2"),
        ):
            desk.press(*keys)
            desk.until("document.querySelector(`[data-key='${args[0]}']`).hasAttribute('aria-current')", key)
            desk.until(f"({FOCUS}) === 'composer-text'")

    def emoji_and_mentions():
        desk.choose("channel:1")
        desk.evaluate("document.getElementById('emoji-button').focus()")
        desk.press(ENTER)
        desk.until("!document.getElementById('emoji').hidden")
        for key in (RIGHT, DOWN):
            desk.press(key)
        check_equal("the emoji", desk.evaluate("document.activeElement.getAttribute('aria-label')"), "relieved")
        desk.press(ENTER)
        desk.until("document.getElementById('composer-text').value === '😅'")
        desk.type(" @j")
        desk.until("!document.getElementById('mention-list').hidden")
        desk.press(ENTER)
        desk.until("document.getElementById('composer-text').value === '😅 @joerg '")
        desk.press(ENTER)
        desk.until_shown("😅 @joerg")

    def panel():
        desk.evaluate("document.getElementById('open-service').focus()")
        desk.press(ENTER)
        desk.until("document.getElementById('service').open && document.querySelector('.settings .field')")
        check_equal("focus stays in the panel", desk.evaluate("document.getElementById('service').contains(document.activeElement)"), True)
        desk.press(ESCAPE)
        desk.until("!document.getElementById('service').open")

    def names():
        """Whatever can be used says what it is, to those who do not see it."""
        for window in windows:
            nameless = window.evaluate(
                "[...document.querySelectorAll('button, a, input, textarea, select')].filter((e) => "
                "!(e.getAttribute('aria-label') || e.textContent.trim() || e.labels?.length)).map((e) => e.outerHTML)"
            )
            check_equal("controls without a name", nameless, [])
            roles = window.evaluate("[document.getElementById('log').getAttribute('role'), document.getElementById('log').ariaLive]")
            check_equal("the stream of messages", roles, ["log", "polite"])

    def read_out():
        """A conversation that is opened is not read out message by message; one that comes later is."""
        desk.evaluate(
            """(() => {
              window.readOut = [];
              const log = document.getElementById('log');
              new MutationObserver((changes) => {
                const added = changes.flatMap((change) => [...change.addedNodes]).filter((node) => node.matches?.('.message'));
                if (added.length && log.ariaLive === 'polite') window.readOut.push(...added.map((row) => row.querySelector('.body').innerText));
              }).observe(log, { childList: true });
            })()"""
        )
        desk.choose("channel:3")
        desk.choose("channel:1")
        phone.evaluate("document.getElementById('composer-text').select()")
        phone.say("read this out")
        desk.until("window.readOut.length > 0")
        check_equal("what is read out", desk.evaluate("window.readOut"), ["read this out"])

    return [
        ("phone width", narrow),
        ("drawer", drawer),
        ("other sizes", other_sizes),
        ("overlays", overlays),
        ("keyboard", keyboard),
        ("emoji and mentions by keyboard", emoji_and_mentions),
        ("panel by keyboard", panel),
        ("names for controls", names),
        ("what is read out", read_out),
    ]


if __name__ == "__main__":
    main(lambda task, caller: run_steps(task, caller, 2, steps))
