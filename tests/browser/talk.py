"""Agents in windows of their own talk: presence, typing, unread counts, mentions, read markers, links, hostile messages.

Where the task names a folder for pictures, the page is left there as pictures for the README.
"""

import pathlib

from windows import ENTER, LIVE, SHIFT, Failure, check_equal, main, run_steps

HOSTILE = [
    "<script>window.injected = 'script'</script>",
    "<img src=injected onerror=\"window.injected = 'image'\">",
    "<a href=\"javascript:window.injected='link'\">click</a> javascript:window.injected='text'",
    "</div></article></body><b>broken <i>html & \"quotes' `back` &lt;b&gt; <!-- <![CDATA[",
    "<svg/onload=window.injected='svg'><math><mtext></p><style>*{display:none}</style>",
]
LAST = "[...document.querySelectorAll('#log .message')].at(-1)"


def badge(window, key):
    return window.evaluate("document.querySelector(`[data-key='${arguments[0]}'] .badge`)?.textContent ?? ''", key)


def until_badge(window, key, text):
    window.until("(document.querySelector(`[data-key='${args[0]}'] .badge`)?.textContent ?? '') === args[1]", key, text)


def steps(windows, task, _caller):
    zoe, aicha, joerg = windows

    def pick():
        zoe.name = "zoe"
        zoe.go("/?as=nobody-here")
        zoe.until("document.querySelectorAll('.pick-card').length === 5")
        if "nobody-here" not in zoe.evaluate("document.getElementById('pick-note').textContent"):
            raise Failure("the page does not say that it knows no such agent")
        zoe.click('.pick-card[href="/?as=zoe"]')
        zoe.until(LIVE)
        aicha.open("AÏCHA")
        check_equal("who I am", aicha.evaluate("document.querySelector('#me strong').textContent"), "Aïcha Benali")

    def presence():
        online = "[...document.querySelectorAll('#people .person')].some((p) => p.textContent.includes(args[0]) && p.querySelector('.dot.on'))"
        zoe.until(online, "Aïcha")
        zoe.until("document.querySelector('[data-key=\"direct:1\"] .dot.on')")
        zoe.until("document.querySelector('.people-count').textContent === '2 of 5 online'")
        joerg.open("joerg")
        zoe.until(online, "Jörg")
        joerg.command("POST", "/url", {"url": "about:blank"})
        zoe.until(f"!({online})", "Jörg")

    def typing():
        aicha.type("Good")
        zoe.until("document.getElementById('typing').textContent === 'Aïcha is typing'")
        aicha.say(" news, @zoe :)")
        for window in (zoe, aicha):
            window.until_shown("Good news, @zoe 🙂")
        zoe.until("document.getElementById('typing').textContent === ''")
        check_equal("the text that was sent is gone", aicha.evaluate("document.getElementById('composer-text').value"), "")
        check_equal("my own message stands apart", aicha.evaluate(f"{LAST}.classList.contains('own')"), True)
        check_equal("another's does not", zoe.evaluate(f"{LAST}.classList.contains('own')"), False)
        check_equal("I am mentioned", zoe.evaluate(f"{LAST}.classList.contains('mentions-me')"), True)
        check_equal("the mention", zoe.evaluate(f"{LAST}.querySelector('.chat-mention.mine').textContent"), "@zoe")
        aicha.until(f"{LAST}.querySelector('.seen .avatar')?.title === 'Zoë Marchetti has read this'")

    def unread():
        zoe.choose("channel:3")
        aicha.say("one")
        aicha.say("two @zoe")
        until_badge(zoe, "channel:1", "@2")
        zoe.until("document.title.startsWith('(')")
        zoe.choose("channel:1")
        until_badge(zoe, "channel:1", "")
        zoe.until("document.querySelector('#log .new')")
        # Not read before its reader looks.
        zoe.evaluate("document.hasFocus = () => false")
        aicha.say("three")
        until_badge(zoe, "channel:1", "1")
        zoe.evaluate("delete document.hasFocus")
        zoe.evaluate("window.dispatchEvent(new Event('focus'))")
        until_badge(zoe, "channel:1", "")
        # What was read in one window is read in all of that agent's.
        joerg.open("zoe")
        check_equal("unread after a new start", badge(joerg, "channel:1"), "")
        joerg.command("POST", "/url", {"url": "about:blank"})

    def direct():
        for window in (zoe, aicha):
            window.choose("direct:1")
        aicha.say("Only for you")
        zoe.until_shown("Only for you")
        for window in (zoe, aicha):
            window.choose("channel:1")
        check_equal("a direct message in the channel", "Only for you" in zoe.texts(), False)

    def times():
        script = """
            const done = arguments[arguments.length - 1];
            import('/times.js').then(({ clockTime }) => done(clockTime(new Date(2026, 4, 1, 9, 11))), (problem) => done(String(problem)));
        """
        found = zoe.command("POST", "/execute/async", {"script": script, "args": []})
        check_equal("a time of the morning", found.replace("\u202f", " "), "9:11 AM")

    def lines():
        aicha.type("first line")
        aicha.press(SHIFT, ENTER)
        aicha.say("second line")
        zoe.until_shown("first line\nsecond line")
        check_equal("line breaks", zoe.evaluate(f"{LAST}.querySelectorAll('br').length"), 1)

    def links():
        aicha.say("see https://example.com/a?b=1&c=2, ticket #2 and kb:vpn-setup")
        zoe.until(f"{LAST}.querySelectorAll('a').length === 3")
        outer = zoe.evaluate(f"(({{ href, target, rel }}) => ({{ href, target, rel }}))({LAST}.querySelector('a'))")
        expected = {"href": "https://example.com/a?b=1&c=2", "target": "_blank", "rel": "noopener noreferrer"}
        check_equal("a link", outer, expected)
        address = zoe.evaluate("location.href")
        zoe.click("#log .message:last-child .chat-internal-link")
        zoe.until("document.getElementById('toast').textContent.includes('opens ticket #HD-2026-02-05-11')")
        check_equal("address after a link into the helpdesk", zoe.evaluate("location.href"), address)

    def hostile():
        for body in HOSTILE:
            aicha.say(body)
            for window in (zoe, aicha):
                window.until_shown(body)
        foreign = "#log .body :not(a, br, span.chat-mention), #log .body [onerror], #log .body [onload], #log .body [style]"
        for window in (zoe, aicha):
            check_equal("what ran", window.evaluate("window.injected ?? null"), None)
            check_equal("elements that messages made", window.evaluate("document.querySelectorAll(arguments[0]).length", foreign), 0)
            bad = "[...document.querySelectorAll('#log .body a')].filter((a) => !/^(https?:|#\\/)/.test(a.getAttribute('href'))).length"
            check_equal("links with another scheme", window.evaluate(bad), 0)

    def long_talk():
        """More than a page begins with, and faster than the service lets anybody be."""
        texts = [f"number {number}" for number in range(80)]
        aicha.say_all(texts)
        zoe.until_shown(texts[-1])
        aicha.until_settled()
        for window in (zoe, aicha):
            check_equal("order", [text for text in window.texts() if text.startswith("number")], texts)
        zoe.command("POST", "/refresh", {})
        zoe.until(LIVE)
        zoe.until("document.querySelector('#log .older')")
        check_equal("messages at first", len(zoe.texts()), 50)
        zoe.evaluate("document.getElementById('log').scrollTo(0, 0)")
        zoe.until_shown(texts[0])
        check_equal("order", [text for text in zoe.texts() if text.startswith("number")], texts)
        in_view = (
            "(() => { const log = document.getElementById('log').getBoundingClientRect();"
            " const row = [...document.querySelectorAll('#log .body')].find((b) => b.innerText === arguments[0]);"
            " const at = row.getBoundingClientRect(); return at.bottom > log.top && at.top < log.bottom; })"
        )
        check_equal("what was in view still is", zoe.evaluate(f"{in_view}.apply(null, arguments)", "number 30"), True)
        aicha.say("and one more")
        zoe.until("!document.getElementById('to-newest').hidden")
        zoe.until("document.getElementById('to-newest').textContent === '1 new'")
        zoe.click("#to-newest")
        zoe.until("document.getElementById('to-newest').hidden")
        zoe.until(f"{in_view}.apply(null, args)", "and one more")

    def walls():
        """The two walls behind the server's own escaping hold without it."""
        script = """
            const done = arguments[arguments.length - 1];
            const html = `<img src=x onerror="window.injected='onerror'"><a href="javascript:alert(1)" onclick=x>a</a>`
              + `<script>window.injected='script'<\\/script><span class="chat-mention" style="color:red" onmouseover=x>@b</span>`
              + `<a href="https://example.com/" onclick=x style=x target=_top>c</a><a href="#/tickets/7">t</a><iframe></iframe>`;
            import('/safe_html.js').then(({ safeFragment }) => {
              const box = document.createElement('div');
              box.append(safeFragment(html));
              document.body.append(box);
              const seen = [...box.querySelectorAll('*')].map((e) => e.tagName + ' ' + e.getAttributeNames().sort());
              box.remove();
              const inline = document.createElement('script');
              try { inline.textContent = "window.injected = 'inline'"; } catch { /* Trusted types. */ }
              document.head.append(inline);
              let refused = false;
              try { document.createElement('div').innerHTML = '<b>x</b>'; } catch { refused = true; }
              done({ seen, refused, injected: window.injected ?? null });
            }, (problem) => done(String(problem)));
        """
        found = aicha.command("POST", "/execute/async", {"script": script, "args": []})
        check_equal("elements", found["seen"], ["SPAN class", "A href,rel,target", "A class,href"])
        check_equal("innerHTML is refused", found["refused"], True)
        check_equal("what ran", found["injected"], None)
        # These were meant to be complained of.
        aicha.command("POST", "/se/log", {"type": "browser"})

    def pictures():
        folder = task.get("pictures")
        zoe.until("document.getElementById('toast').hidden")
        for name, width, height, mobile, scheme in (
            ("chat-light", 1280, 800, False, "light"),
            ("chat-dark", 1280, 800, False, "dark"),
            ("chat-phone", 390, 800, True, "light"),
        ):
            zoe.prefer(scheme)
            zoe.resize(width, height, mobile)
            zoe.until("innerWidth === args[0]", width)
            picture = zoe.picture()
            check_equal("kind of picture", picture[:8], b"\x89PNG\r\n\x1a\n")
            scale = 2 if mobile else 1
            check_equal("width of the picture", int.from_bytes(picture[16:20], "big"), width * scale)
            if folder:
                (pathlib.Path(folder) / f"{name}.png").write_bytes(picture)

    def scene():
        """Something worth a picture, in a channel without the noise of the steps before."""
        zoe.choose("channel:3")
        aicha.choose("channel:3")
        aicha.say("I can take it after lunch, @zoe. Is it this model? https://example.com/laptops?size=14&ram=32")
        zoe.until_shown("I can take it after lunch, @zoe. Is it this model? https://example.com/laptops?size=14&ram=32")
        zoe.say("That one, thank you <3")
        aicha.until_shown("That one, thank you ❤️")
        zoe.until(f"{LAST}.querySelector('.seen .avatar')")
        aicha.type("Then")
        zoe.until("document.getElementById('typing').textContent !== ''")

    return [
        ("pick who you are", pick),
        ("presence", presence),
        ("typing and mentions", typing),
        ("unread counts", unread),
        ("direct messages", direct),
        ("times", times),
        ("line breaks", lines),
        ("links", links),
        ("hostile messages", hostile),
        ("a long talk", long_talk),
        ("walls behind the server", walls),
        ("a scene", scene),
        ("pictures", pictures),
    ]


if __name__ == "__main__":
    main(lambda task, caller: run_steps(task, caller, 3, steps))
