"""The review queue in a real browser: by keyboard alone, by two people at once, without script, for everybody."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from reviewapp import release as releases
from reviewapp.adapter import ModelAdapter
from reviewapp.registry import Registry
from reviewapp.release import Release
from reviewapp.store import Store

from .browser import DESK, MARKS, PHONE, Open, flaws, watched
from .service import Service

pytestmark = MARKS


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, release: Release) -> Iterator[Service]:
    """A service whose first release asks for no blind verdicts, and whose second one asks for nothing else."""
    instance = tmp_path_factory.mktemp("queue") / "instance"
    root = instance / "releases"
    store = Store(f"sqlite:///{instance / 'reviewapp.sqlite3'}")
    registry = Registry(root, store, ModelAdapter)
    for share in (0.0, 1.0):
        changed = replace(release, policy=replace(release.policy, blind_share=share))
        registry.add(releases.write(changed, root), "test")
    store.close()
    with Service(instance, release.contract) as running:
        yield running


def wait(page: Page, n: int, what: str = "A queue record") -> None:
    """Let requests wait for a person: what training did not see goes to one."""
    for number in range(n):
        page.goto("/?sample=1")
        page.get_by_label("Subject").fill(f"{what} {number}")
        page.get_by_label("Open tickets").fill(str(100 + number))
        page.get_by_role("button", name="Ask for an answer").click()
        expect(page.get_by_text("A person must look at this")).to_be_visible()


def left(page: Page) -> int:
    words = page.locator("label[for=progress]").inner_text()
    return int(words.split(" today, ")[1].split(" left")[0])


def press(page: Page, key: str) -> None:
    """Press a key that leads to another page, and wait for it."""
    with page.expect_navigation(wait_until="load"):
        page.keyboard.press(key)


def test_ten_records_by_keyboard_alone(opened: Open, base: str) -> None:
    with opened() as page:
        wait(page, 10)
        page.goto("/queue")
        there = left(page)
        press(page, "ArrowRight")
        record = page.get_by_role("heading", name="The request")
        expect(record).to_be_visible()
        for done, key in enumerate(["a", "u", "d", "1", "2", "3", "4", "5", "6"], 1):
            press(page, key)
            expect(page.get_by_role("status").filter(has_text="Recorded: ")).to_be_visible()
            assert left(page) == there - done
        page.keyboard.press("n")
        expect(page.get_by_label("Note")).to_be_focused()
        page.keyboard.type("a note with 1 and u in it: no key works here")
        page.keyboard.press("Escape")
        press(page, "u")
        assert left(page) == there - 10
        press(page, "z")
        assert left(page) == there - 9
        expect(page.get_by_text("Your verdict was taken back.")).to_be_visible()
        press(page, "ArrowRight")
        expect(page.get_by_text("Skipped")).to_be_visible()
        press(page, "ArrowLeft")
        expect(page.get_by_role("heading", name="One prediction")).to_be_visible()
        press(page, "ArrowRight")
        expect(page).to_have_url(f"{base}/queue")


def test_single_keys_can_be_switched_off_and_stay_off(opened: Open) -> None:
    with opened() as page:
        wait(page, 1)
        page.goto("/queue")
        press(page, "ArrowRight")
        there = left(page)
        expect(page.locator("kbd").first).to_be_visible()
        page.keyboard.press("?")
        page.get_by_label("Single keys work on this page").uncheck()
        expect(page.locator(".choose kbd").first).to_be_hidden()
        page.keyboard.press("a")
        page.reload()
        page.keyboard.press("u")
        page.wait_for_timeout(200)
        page.reload()
        assert left(page) == there
        page.locator("#keys summary").click()
        page.get_by_label("Single keys work on this page").check()
        press(page, "u")
        assert left(page) == there - 1


def test_two_people_at_once_never_have_the_same_record(
    opened: Open, browser: Browser, base: str, service: Service
) -> None:
    bob = service.token("bob", "review")
    with opened() as ann, watched(browser, base) as other:
        wait(ann, 4, "For two")
        other.goto("/sign-in")
        other.get_by_label("Token").fill(bob)
        other.get_by_role("button", name="Sign in").click()
        seen = []
        for page in (ann, other):
            page.goto("/queue")
            press(page, "ArrowRight")
        for _ in range(2):
            both = [page.locator("form[action$='/verdict']").get_attribute("action") for page in (ann, other)]
            assert both[0] != both[1]
            seen += both
            for page in (ann, other):
                press(page, "u")
        assert len(set(seen)) == 4


@pytest.mark.parametrize("script", [True, False], ids=["with script", "without script"])
def test_a_record_can_be_judged_skipped_and_undone(opened: Open, script: bool) -> None:
    with opened(java_script_enabled=script) as page:
        wait(page, 3)
        page.goto("/queue")
        if page.get_by_role("button", name="Open the next record").is_visible():
            page.get_by_role("button", name="Open the next record").click()
        there = left(page)
        page.get_by_label("Several answers fit").check()
        page.get_by_label("Note").fill("seen twice")
        page.get_by_role("button", name="billing").click()
        expect(page.get_by_text("Recorded: ")).to_be_visible()
        assert left(page) == there - 1
        page.get_by_role("status").get_by_role("button", name="Undo").click()
        expect(page.get_by_text("Your verdict was taken back.")).to_be_visible()
        assert left(page) == there
        page.get_by_role("button", name="Skip").click()
        expect(page.get_by_text("Skipped: it comes back last.")).to_be_visible()
        page.go_back()
        page.go_forward()
        expect(page.locator("kbd").first).to_be_visible(visible=script)
        page.get_by_role("button", name="Unsure").dblclick()
        expect(page.get_by_text("Recorded: unsure.")).to_be_visible()
        assert left(page) == there - 1


@pytest.mark.parametrize(
    ("viewport", "scheme"), [(DESK, "light"), (PHONE, "dark")], ids=["light on a desk", "dark on a phone"]
)
def test_the_queue_is_for_everybody_in_every_state(opened: Open, viewport: Any, scheme: str) -> None:
    with opened(viewport=viewport, color_scheme=scheme) as page:
        wait(page, 2, "W" * 150)
        found = []
        page.goto("/queue")
        found += flaws(page)
        if page.get_by_role("button", name="Open the next record").is_visible():
            page.get_by_role("button", name="Open the next record").click()
        page.keyboard.press("?")
        page.locator("summary", has_text="What moved").click()
        found += flaws(page)
        page.get_by_label("Note").fill("n" * 2001)
        page.get_by_role("button", name="Agree").click()
        expect(page.get_by_role("alert")).to_be_visible()
        found += flaws(page)
        page.get_by_label("Note").fill("")
        page.get_by_role("button", name="Agree").click()
        found += flaws(page)
        while page.get_by_role("button", name="Unsure").is_visible():
            with page.expect_navigation(wait_until="load"):  # until then no button is there to be seen
                page.get_by_role("button", name="Unsure").click()
        expect(page.get_by_text("Nothing waits for a person.").or_(page.get_by_text("All that waits"))).to_be_visible()
        found += flaws(page)
    assert found == []


def test_a_blind_record_shows_the_options_after_the_own_answer(
    opened: Open, service: Service, release: Release
) -> None:
    service.command("promote", "2", "--reason", "all of the queue is judged blind")
    sender = service.token("sender", "submit")
    record = {**release.samples[0].input, "open_tickets": 100, "subject": "Somebody else's"}
    headers = {"Authorization": f"Bearer {sender}"}
    with opened() as page:
        page.goto("/queue")
        while page.get_by_role("button", name="Unsure").or_(page.get_by_role("button", name="Open")).first.is_visible():
            press(page, "u" if page.get_by_role("button", name="Unsure").is_visible() else "ArrowRight")
        assert service.call("POST", "/api/v1/predictions?compare=true", {"input": record}, headers)[0] == 201
        page.reload()
        press(page, "ArrowRight")
        expect(page.get_by_role("heading", name="Your own answer first")).to_be_visible()
        assert flaws(page) == []
        expect(page.get_by_text("confident")).to_have_count(0)
        page.keyboard.press("a")  # there is nothing yet that one could agree with
        press(page, "6")
        expect(page.get_by_role("status")).to_contain_text("of the model")
    service.command("rollback", "--reason", "back")
