#!/usr/bin/env python3
"""The server's page in a real browser: page_test.py ADDRESS [--shots FOLDER]

ADDRESS is that of a running `sepllm serve` (http://127.0.0.1:8080/) whose model has a chat template. Exit code 0: passed, 1: failed, 77: no
Chromium here. Uses the keyboard only, in light and in dark; --shots keeps pictures.
"""

import argparse
import sys
from pathlib import Path

import browser

HELD = "Number(document.getElementById('held').textContent.replace(/,/g, ''))"
STATE = "document.getElementById('state').textContent"
ANSWER = "[...document.querySelectorAll('.message.assistant p')].at(-1).textContent"


def check(condition, what):
    if not condition:
        raise AssertionError(what)


def contrast(page, element, background):
    """The contrast of two colours as WCAG 2 defines it."""
    def light(colour):
        parts = [int(p) / 255 for p in colour[colour.index("(") + 1:-1].split(",")[:3]]
        linear = [p / 12.92 if p <= .03928 else ((p + .055) / 1.055) ** 2.4 for p in parts]
        return .2126 * linear[0] + .7152 * linear[1] + .0722 * linear[2]
    a, b = light(page.eval(f"getComputedStyle({element}).color")), light(page.eval(f"getComputedStyle({background}).backgroundColor"))
    return (max(a, b) + .05) / (min(a, b) + .05)


def chat(page):
    check(page.eval("document.activeElement.id") == "text", "the text field has the focus at the start")
    page.wait("!document.getElementById('model').textContent.startsWith('connecting')")
    # Short and certain answers.
    page.eval("document.getElementById('max-tokens').value = 24; document.getElementById('temperature').value = 0")
    page.write("Tell me a story, please.")
    page.press("Enter", shift=True)
    page.write("A short one.")
    check(page.eval("document.getElementById('text').value").count("\n") == 1, "Shift+Enter begins a new line")
    page.press("Enter")
    page.wait(f"{STATE} === 'done'", 60)
    first = page.eval(ANSWER)
    check(first, "an answer came")
    check(page.eval(HELD) > 0, "the cache is shown")
    check(page.eval("document.getElementById('cache-text').textContent").count("tokens") == 1, "and said in words")
    check(page.eval("document.getElementById('tokens').getAttribute('aria-label')") == page.eval("document.getElementById('cache-text').textContent"),
          "the picture is described")
    page.write("And another one.")
    page.press("Enter")
    page.wait(f"{STATE} === 'done' && document.querySelectorAll('.message.assistant').length === 2", 60)
    check(not page.eval("document.getElementById('reused').textContent").startswith("0"), "the second turn reuses the first one's cache")
    second = page.eval(ANSWER)
    page.eval("document.getElementById('retry').click()")
    page.wait(f"{STATE} === 'done'", 60)
    check(page.eval(ANSWER) == second, "the greedy answer comes again")


def policies(page):
    # By keyboard: Tab from the list of settings, arrows within the radio buttons.
    page.eval("document.querySelector('input[name=policy]').focus()")
    for _ in range(3):
        page.press("ArrowDown")
    check(page.eval("policy()") == "sep-stream", "arrows choose the policy")
    check("fixed number" in page.eval("document.getElementById('policy-note').textContent"), "what it does is said")
    page.eval("document.getElementById('text').focus()")
    page.write("Go on. One, two, three; four.")
    page.press("Enter")
    page.wait(f"{STATE} === 'done'", 60)
    check(page.eval("lastReport.held.length") > 0, "the report says what is held")


def stopping(page):
    page.eval("document.getElementById('max-tokens').value = 100000")
    page.eval("document.getElementById('text').focus()")
    page.write("Count for ever.")
    n = page.eval("document.querySelectorAll('.message.assistant').length")
    page.press("Enter")
    page.wait(f"document.querySelectorAll('.message.assistant').length === {n + 1}")
    page.press("Escape")
    page.wait(f"{STATE} === 'stopped' || {STATE} === 'done'")
    check(page.eval("document.getElementById('stop').disabled"), "nothing is left to stop")
    page.eval("document.getElementById('fresh').click()")
    check(page.eval("document.querySelectorAll('.message').length") == 0, "a new conversation is empty")


def faults(page):
    page.eval("document.getElementById('max-tokens').value = 8; document.getElementById('temperature').value = -1")
    page.write("This cannot be.")
    page.press("Enter")
    page.wait(f"{STATE} === 'the answer failed'")
    check("temperature" in page.eval("document.querySelector('.fault').textContent"), "the server's error is shown")
    check(page.eval("document.getElementById('text').value") == "This cannot be.", "and the text is not lost")


def run(address, shots):
    for dark in (False, True):
        page = browser.Browser(dark=dark)
        try:
            page.open(address)
            chat(page)
            for element in ("document.body", "document.getElementById('cache-text')", "document.getElementById('model')"):
                ratio = contrast(page, element, "document.body")
                check(ratio >= 4.5, f"contrast of {element}: {ratio:.2f}")
            if shots:
                page.screenshot(shots / ("dark.png" if dark else "light.png"))
            if not dark:
                policies(page)
                stopping(page)
                names = page.accessible()
                for role in ("textbox", "button", "radio", "spinbutton", "combobox"):
                    unnamed = [n for n in names if n[0] == role and not n[1]]
                    check(not unnamed, f"a {role} has no name")
                check(("log", "Conversation") in names, "the conversation is a log")
                expected_faults = len(page.faults)
                faults(page)
                check(len(page.faults) <= expected_faults + 1, "nothing but the refused request is an error")
                check(expected_faults == 0, f"errors in the browser: {page.faults}")
            outside = [url for url in page.requests if not url.startswith((address, "data:", "about:"))]
            check(not outside, f"requests to elsewhere: {outside}")
        finally:
            page.close()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("address")
    parser.add_argument("--shots", type=Path)
    a = parser.parse_args()
    if browser.find() is None:
        print("skipped: there is no Chromium here (Debian's package chromium)")
        sys.exit(77)
    try:
        run(a.address, a.shots)
    except (AssertionError, TimeoutError, RuntimeError, ConnectionError) as e:
        sys.exit(f"page_test: {e}")
    print("the page works: chat, cache, policies, stop, errors, names for screen readers, light and dark")


if __name__ == "__main__":
    main()
