"""Accessibility: axe finds no violation in any state of the page; targets are large enough for a finger."""

import pathlib

from windows import LIVE, Failure, check_equal, main, run_steps

# With the rule for visible text that a label has to hold, which axe leaves off.
RUN = """
const done = arguments[arguments.length - 1];
const options = { rules: { 'label-content-name-mismatch': { enabled: true } }, resultTypes: ['violations'] };
axe.run(document, options).then(({ violations }) => done(violations.map(({ id, nodes }) => (
  `${id}: ${nodes.slice(0, 3).map(({ html, any }) => `${html.slice(0, 160)} (${any[0]?.message ?? ''})`).join(' | ')}`))),
(problem) => done([String(problem)]));
"""
SMALL = """[...document.querySelectorAll('button, a[href], input, select, textarea, [role=option]')].filter((e) => {
  const at = e.getBoundingClientRect();
  const inText = e.closest('.body, .skip');
  const labelled = e.closest('label')?.getBoundingClientRect();
  const width = Math.max(at.width, labelled?.width ?? 0);
  const height = Math.max(at.height, labelled?.height ?? 0);
  return e.checkVisibility() && !e.closest('[inert]') && !inText && at.width && (width < 44 || height < 44);
}).map((e) => `${e.outerHTML.slice(0, 120)} ${e.getBoundingClientRect().width}x${e.getBoundingClientRect().height}`)"""


def steps(windows, task, caller):
    zoe, aicha = windows
    axe = pathlib.Path(task["modules"], "node_modules/axe-core/axe.min.js").read_text(encoding="utf-8")

    def check(what, window=zoe):
        if not window.evaluate("Boolean(window.axe)"):
            window.command("POST", "/execute/sync", {"script": axe, "args": []})
        frames = "const done = arguments[0]; requestAnimationFrame(() => requestAnimationFrame(() => done()))"
        window.command("POST", "/execute/async", {"script": frames, "args": []})
        # Half-done transitions have half the contrast.
        window.evaluate("document.getAnimations().forEach((one) => one.finish && one.effect?.getComputedTiming().iterations !== Infinity && one.finish())")
        found = window.command("POST", "/execute/async", {"script": RUN, "args": []})
        if found:
            raise Failure(f"{what}: " + "; ".join(found))

    def themes(what):
        for scheme in ("light", "dark"):
            zoe.prefer(scheme)
            check(f"{what}, {scheme}")

    def picker():
        zoe.go("/?as=nobody-here")
        zoe.until("document.querySelectorAll('.pick-card').length === 5")
        themes("picker")

    def chat():
        aicha.open("aicha")
        zoe.open("zoe")
        themes("chat")
        zoe.choose("channel:2")
        zoe.evaluate("document.getElementById('people').hidden && document.getElementById('people-toggle').click()")
        themes("people")
        zoe.evaluate("document.querySelector('.mark-unread').click()")
        zoe.until("!document.getElementById('unread-bar').hidden")
        themes("unread")
        zoe.choose("channel:1")

    def overlays():
        zoe.evaluate("document.getElementById('open-switcher').click()")
        zoe.type("a", "#switcher input")
        zoe.until("document.querySelectorAll('#switcher li').length > 1")
        themes("switcher")
        zoe.evaluate("document.getElementById('switcher').close()")
        zoe.evaluate("document.getElementById('open-search').click()")
        zoe.type("the", "#search input")
        zoe.until("document.querySelectorAll('#search li').length > 1")
        themes("search")
        zoe.evaluate("document.getElementById('search').close()")
        zoe.evaluate("document.getElementById('open-service').click()")
        zoe.until("document.querySelector('.settings .field')")
        themes("service panel")
        zoe.evaluate("document.getElementById('service').close()")
        zoe.evaluate("document.getElementById('emoji-button').click()")
        themes("emoji")
        zoe.evaluate("document.getElementById('emoji-button').click()")
        zoe.type("@a")
        zoe.until("!document.getElementById('mention-list').hidden")
        themes("mentions")
        zoe.evaluate("document.getElementById('composer-text').value = ''")

    def empty():
        zoe.evaluate("document.getElementById('open-switcher').click()")
        zoe.type("sakura", "#switcher input")
        zoe.until("document.querySelectorAll('#switcher li').length === 1")
        zoe.evaluate("document.querySelector('#switcher li').click()")
        zoe.until("document.querySelector('#log .empty')")
        themes("an empty conversation")
        zoe.choose("channel:1")

    def narrow():
        for what, width, height in (("320 px", 320, 640), ("200 %", 640, 410)):
            zoe.resize(width, height, True)
            zoe.until("innerWidth === args[0]", width)
            themes(what)
            zoe.evaluate("document.getElementById('drawer-open').click()")
            themes(f"the list at {what}")
            zoe.evaluate("document.getElementById('drawer-close').click()")
        zoe.devtools("Emulation.setTouchEmulationEnabled", enabled=True)
        zoe.until("matchMedia('(pointer: coarse)').matches")
        for selector in (None, "#emoji-button", "#drawer-open", "#people-toggle", "#open-switcher", "#open-search", "#open-service"):
            if selector:
                zoe.evaluate("document.querySelector(arguments[0]).click()", selector)
            if selector == "#open-service":
                zoe.until("document.querySelector('.settings .field')")
            small = zoe.evaluate(SMALL)
            if small:
                raise Failure(f"too small for a finger ({selector}): {small}")
            zoe.evaluate("document.querySelector('dialog[open]')?.close()")
            zoe.evaluate("document.body.classList.contains('drawer-open') && document.getElementById('drawer-close').click()")
        zoe.devtools("Emulation.setTouchEmulationEnabled", enabled=False)
        zoe.resize(1280, 820)

    def forced():
        wanted = [{"name": "forced-colors", "value": "active"}, {"name": "prefers-reduced-motion", "value": "reduce"}]
        zoe.devtools("Emulation.setEmulatedMedia", features=wanted)
        check("forced colours")
        moving = "[...document.querySelectorAll('body *')].filter((e) => parseFloat(getComputedStyle(e).transitionDuration) > 0.001).length"
        check_equal("what moves where motion is reduced", zoe.evaluate(moving), 0)
        zoe.prefer("light")

    def away():
        caller.ask("DOWN", "DONE")
        zoe.until("document.getElementById('link-state').dataset.state !== 'live'")
        zoe.say("waits")
        zoe.until("document.querySelector('#log .pending')")
        themes("waiting")
        zoe.until("document.getElementById('link-state').dataset.state === 'offline'")
        themes("offline")
        caller.ask("UP", "DONE")
        zoe.until(LIVE)
        zoe.until_settled()
        zoe.evaluate("document.querySelector('[data-key=\"channel:2\"]').click()")

    def refused():
        """A message that the service refused and that has no box to go back to."""
        zoe.choose("channel:1")
        zoe.evaluate("document.getElementById('open-service').click()")
        zoe.until("document.querySelector('.settings .field')")
        zoe.evaluate("document.getElementById('setting-chat_max_message_length').value = '10'")
        zoe.click('.settings [type="submit"]')
        zoe.until("document.querySelector('.settings .answer').textContent === 'Saved.'")
        zoe.evaluate("document.getElementById('service').close()")
        for number in range(100):
            zoe.evaluate(
                "(() => { const box = document.getElementById('composer-text'); box.value = arguments[0];"
                " document.getElementById('composer').requestSubmit(); box.value = 'in use'; }).apply(null, arguments)",
                f"longer than ten characters {number}",
            )
            zoe.until("!document.querySelector('#log .pending')")
            if zoe.evaluate("Boolean(document.querySelector('#log .failed'))"):
                break
        zoe.until("document.querySelector('#log .failed')")
        themes("a refused message")

    return [
        ("picker", picker),
        ("chat", chat),
        ("overlays", overlays),
        ("empty", empty),
        ("narrow and large", narrow),
        ("forced colours", forced),
        ("waiting and offline", away),
        ("refused", refused),
    ]


if __name__ == "__main__":
    main(lambda task, caller: run_steps(task, caller, 2, steps))
