"""The system's own browser, driven by Playwright; every page is watched for what it must not do."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
ARGUMENTS = [  # no sandbox, because tests may run as root; nothing that calls out by itself
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip


def executable() -> str | None:
    """Return the path of a browser that is installed here, or None."""
    return next((path for path in map(shutil.which, NAMES) if path), None)


MARKS = [  # CI installs a browser, and fails where a test was skipped
    pytest.mark.server,
    pytest.mark.browser,
    pytest.mark.skipif(executable() is None, reason="no browser is installed here; `apt install chromium` brings one"),
]
Open = Callable[..., AbstractContextManager[Page]]
PHONE, DESK = {"width": 320, "height": 700}, {"width": 1440, "height": 900}
_EXPECTED = "the server responded with a status of 4"  # the browser's own note on a page that is a mistake


@contextmanager
def started() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable(), args=ARGUMENTS)
        yield browser
        browser.close()


@contextmanager
def watched(browser: Browser, base: str, **options: Any) -> Iterator[Page]:
    """Open a page; fail at the end where script failed, a dialog came up or a request left the host."""
    context = browser.new_context(base_url=base, **options)
    context.set_default_timeout(15_000)
    page, seen = context.new_page(), []
    page.on("console", lambda m: seen.append(m.text) if m.type == "error" and _EXPECTED not in m.text else None)
    page.on("pageerror", lambda error: seen.append(str(error)))
    page.on("dialog", lambda dialog: (seen.append(f"dialog: {dialog.message}"), dialog.dismiss()))
    context.on("request", lambda request: None if request.url.startswith(base) else seen.append(request.url))
    yield page
    context.close()
    assert seen == []


def tab_to(page: Page, selector: str, key: str = "Tab") -> None:
    """Press a key until the focus is where it is wanted; at each stop it must be seen."""
    page.wait_for_load_state()
    for _ in range(80):
        page.keyboard.press(key)
        if page.evaluate("document.activeElement === document.body"):
            continue  # between the end of the page and its beginning the focus is the browser's own
        seen = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert seen != "none", page.evaluate("document.activeElement.outerHTML")
        if page.evaluate("wanted => document.activeElement.matches(wanted)", selector):
            return
    raise AssertionError(f"{selector} cannot be reached by {key}")


def flaws(page: Page) -> list[str]:
    """Return what is wrong with a page as it stands: what axe-core finds, and whether it scrolls sideways."""
    page.wait_for_load_state()  # with its style: a click may have led here a moment ago
    found = [
        f"{page.url} {violation['id']}: {node['html'][:200]}"
        for violation in Axe().run(page).response["violations"]
        for node in violation["nodes"]
    ]
    if page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth"):
        found.append(f"{page.url} scrolls sideways")
    return found
