"""Monitor in a real browser: every state of the trigger is for everybody, on a desk and on a phone."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, expect

from reviewapp.config import load_settings
from reviewapp.drift import BLOCK, ROUND, drift
from reviewapp.factory import make_parts
from reviewapp.release import Release

from .browser import DESK, MARKS, PHONE, Open, flaws
from .service import Service
from .verdicts import judge

pytestmark = MARKS


LOOKS: tuple[dict[str, Any], ...] = (
    {"viewport": DESK, "color_scheme": "light"},
    {"viewport": PHONE, "color_scheme": "dark"},
)


@pytest.fixture(scope="module")
def service(
    tmp_path_factory: pytest.TempPathFactory, release: Release, stocked: Callable[[Path], Path]
) -> Iterator[Service]:
    """A service of its own: at first nothing was judged."""
    with Service(stocked(tmp_path_factory.mktemp("monitor") / "instance"), release.contract) as running:
        yield running


def test_monitor_is_for_everybody_in_every_state(opened: Open, service: Service) -> None:
    parts = make_parts(load_settings({"instance": service.instance}, {}))
    found = []
    for signs, blind, says in (
        ("", "", "waits for 30 more verdicts"),
        ("." * 20, "", "No verdict on an audited answer yet"),
        ("+", "", "waits for 29 more verdicts"),
        (("+" * 15 + "-") * 20, "+" * 20 + "-" * 20, "The trigger is quiet"),
        ("x" * 200, "?", "The trigger has fired"),
    ):
        judge(parts, signs)
        judge(parts, blind, audit=False, blind=True)
        for look in LOOKS:
            with opened(**look) as page:
                page.goto("/monitor")
                expect(page.get_by_text(says)).to_be_visible()
                for details in page.locator("summary").all():
                    details.click()
                found += flaws(page)
    parts.store.close()
    assert found == []


def test_what_has_changed_in_the_requests_is_for_everybody(opened: Open, service: Service) -> None:
    parts = make_parts(load_settings({"instance": service.instance}, {}))
    judge(parts, "." * BLOCK)  # all of them the same
    found = drift(parts.registry.adapter().release, parts.ledger)
    parts.rounds.add(ROUND, -1.0, lambda: found)  # now, whatever the service has found: what it will find is the same
    parts.rounds.do_due()
    parts.store.close()
    for look in LOOKS:
        with opened(**look) as page:
            page.goto("/monitor")
            expect(page.get_by_text("differ from the table by more than chance explains")).to_be_visible()
            expect(page.get_by_role("table", name="What has changed").get_by_role("row")).to_have_count(
                5
            )  # the head, and four
            page.get_by_text("All that was compared").first.click()
            expect(page.get_by_role("table", name="All that was compared")).to_be_visible()
            assert flaws(page) == []


def test_a_picture_is_read_out_and_its_letters_are_large_enough_on_a_phone(opened: Open, service: Service) -> None:
    parts = make_parts(load_settings({"instance": service.instance}, {}))
    judge(parts, "+" * 12)
    parts.store.close()
    for look in LOOKS:
        with opened(**look) as page:
            page.goto("/monitor")
            expect(page.get_by_role("img", name="Share of audited answers found wrong")).to_be_visible()
            expect(page.get_by_role("img", name="Evidence against the limit")).to_be_visible()
            for letters in page.locator("svg text").all():
                box, picture = letters.bounding_box(), page.locator("svg.plot").first.bounding_box()
                assert box is not None
                assert picture is not None
                assert box["height"] >= 10
                assert picture["x"] <= box["x"]
                assert box["x"] + box["width"] <= picture["x"] + picture["width"] + 1


def test_who_may_not_review_is_not_led_to_it(browser: Browser, base: str, service: Service) -> None:
    made = service.token("sam", "submit")
    with browser.new_context(base_url=base) as context:
        page = context.new_page()
        page.goto("/sign-in")
        page.get_by_label("Token").fill(made)
        page.get_by_role("button", name="Sign in").click()
        expect(page.get_by_role("link", name="Try")).to_be_visible()
        expect(page.get_by_role("link", name="Monitor")).to_have_count(0)
