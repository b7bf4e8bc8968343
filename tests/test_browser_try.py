"""Trying a request in a real browser: counting, dates, marks, what-if and copies, for everybody and without script."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from . import tables
from .browser import DESK, MARKS, PHONE, Open, flaws, watched
from .service import Service
from .test_browser import PATH, answer, answered

pytestmark = MARKS

LOOKS = pytest.mark.parametrize(
    ("viewport", "scheme"), [(DESK, "light"), (PHONE, "dark")], ids=["light on a desk", "dark on a phone"]
)


def under(page: Page, label: str) -> list[str]:
    """What stands under a text: what is seen, and what is read out."""
    return page.get_by_label(label).locator("xpath=following-sibling::p").all_text_contents()


# ---- counting ---------------------------------------------------------------------------------------------------


def test_a_text_is_counted_at_once_for_the_eye_and_after_a_pause_for_the_ear(opened: Open) -> None:
    with opened() as page:
        page.clock.install()
        page.goto("/")
        assert under(page, "Subject") == ["You have 200 characters left", ""]
        page.get_by_label("Subject").fill("x" * 80)
        assert under(page, "Subject") == ["You have 120 characters left", ""]
        page.clock.run_for(600)
        page.get_by_label("Subject").fill("x" * 199)
        page.clock.run_for(900)
        assert under(page, "Subject") == ["You have 1 character left", ""]
        page.clock.run_for(200)
        assert under(page, "Subject") == ["You have 1 character left"] * 2
        heard = page.get_by_label("Subject").locator("xpath=following-sibling::p[2]")
        expect(heard).to_have_attribute("aria-live", "polite")
        expect(page.get_by_label("Subject").locator("xpath=following-sibling::p[1]")).to_have_attribute(
            "aria-hidden", "true"
        )


@pytest.mark.parametrize(
    ("text", "left"),
    [("a\nb", 197), ("🙂" * 200, 0), ("🙂" * 201, -1), ("e\u0301", 198), ("x" * 212, -12), ("\t \n\n", 196)],
)
def test_characters_are_counted_as_the_server_counts_them(opened: Open, text: str, left: int) -> None:
    with opened() as page:
        page.goto("/?sample=1")
        page.get_by_label("Subject").fill(text)
        many = f"{abs(left)} character{'s' * (abs(left) != 1)}"
        assert under(page, "Subject")[0] == f"You have {many} {'left' if left >= 0 else 'too many'}"
        page.get_by_role("button", name="Ask for an answer").click()
        refused = page.get_by_role("link", name="Subject: This must have 200 characters or fewer.")
        expect(refused).to_have_count(int(left < 0))
        expect(page.get_by_label("Subject")).to_have_value(text)


def test_without_script_the_hint_says_the_limit(opened: Open) -> None:
    with opened(java_script_enabled=False) as page:
        page.goto("/")
        assert under(page, "Subject") == []
        expect(page.get_by_label("Subject")).to_have_accessible_description(re.compile("At most 200 characters"))


@LOOKS
def test_too_much_text_and_marked_words_are_for_everybody(opened: Open, viewport: Any, scheme: str) -> None:
    with opened(viewport=viewport, color_scheme=scheme) as page:
        page.goto("/?sample=1")
        page.get_by_label("Subject").fill("x" * 212)
        expect(page.get_by_text("You have 12 characters too many").first).to_be_visible()
        assert flaws(page) == []
        answer(page, 2)
        kinds = page.evaluate(
            "[...document.querySelectorAll('dd mark')].map(m => getComputedStyle(m).textDecorationStyle)"
        )
        assert set(kinds) == {"solid", "dotted"}
        assert flaws(page) == []


# ---- what if ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("script", [True, False], ids=["with script", "without script"])
def test_one_field_is_changed_and_changed_again_and_nothing_is_recorded(opened: Open, script: bool) -> None:
    def recorded(page: Page) -> int:
        shown = page.context.request.get("/history?limit=200", headers={"Accept": "application/json"})
        return len(shown.json()["predictions"])

    with opened(java_script_enabled=script) as page:
        answer(page, 2)
        before = recorded(page)
        page.get_by_role("link", name="Open tickets", exact=True).click()
        page.get_by_label("Open tickets").fill("many")
        page.get_by_role("button", name="See the answer").click()
        page.get_by_role("alert").get_by_role("link", name="Open tickets: This must be a whole number.").click()
        expect(page.get_by_label("Open tickets")).to_be_focused()
        page.get_by_label("Open tickets").fill("40")
        page.get_by_role("button", name="See the answer").click()
        expect(page.get_by_role("row", name=re.compile("^Open tickets differs .*40$"))).to_be_visible()
        expect(page.get_by_text("Nothing of this was recorded.")).to_be_visible()
        page.get_by_text("Change another field").click()
        page.get_by_role("link", name="Message").click()
        page.get_by_label("Message").fill("The page is down since this morning.")
        page.get_by_role("button", name="See the answer").click()
        expect(page.get_by_role("row", name=re.compile("^Message differs"))).to_be_visible()
        assert recorded(page) == before
        page.get_by_role("button", name="Ask for this for real").click()
        answered(page)
        expect(page.get_by_label("Message")).to_have_value("The page is down since this morning.")
        assert recorded(page) == before + 1


@LOOKS
def test_the_question_and_its_answers_are_for_everybody(opened: Open, viewport: Any, scheme: str) -> None:
    with opened(viewport=viewport, color_scheme=scheme) as page:
        answer(page, 4)
        page.get_by_role("link", name="Channel", exact=True).click()
        found = flaws(page)
        page.get_by_text("Change another field").click()
        found += flaws(page)
        page.get_by_label("chat").check()
        page.get_by_role("button", name="See the answer").click()
        found += flaws(page)
        page.goto(page.url.replace("channel", "open_tickets"))
        for value in ("40", "x"):
            page.get_by_label("Open tickets").fill(value)
            page.get_by_role("button", name="See the answer").click()
            found += flaws(page)
        page.goto(page.url.split("?")[0])
        found += flaws(page)
    assert found == []


# ---- copies -----------------------------------------------------------------------------------------------------

TEXT = "It's \"quoted\" $HOME `id` \\ !! \\n\n🙂 'grün' %s {0} <b>"


def test_copies_of_odd_text_are_answered_as_the_page_answered(
    opened: Open, service: Service, token: str, tmp_path: Path
) -> None:
    with opened() as page:
        page.goto("/?sample=4")
        page.get_by_label("Message").fill(TEXT)
        page.get_by_label("Not known").check()
        page.get_by_role("button", name="Ask for an answer").click()
        answered(page)
        command, script = page.locator("pre > code").all_text_contents()
        twin = page.context.request.get(page.url.split("#")[0], headers={"Accept": "application/json"}).json()
    environment = {"TOKEN": token, **PATH}
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, env=environment, cwd=tmp_path)
    first = json.loads(done.stdout)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    headers = {"Authorization": f"Bearer {token}"}
    found = service.call("GET", "/api/v1/predictions?source=api&limit=2", headers=headers)[1]["predictions"]
    assert [one["input"] for one in found] == [twin["input"]] * 2
    assert twin["input"]["body"] == TEXT
    assert first["output"] == twin["prediction"]["output"]


# ---- a table of its own -----------------------------------------------------------------------------------------

LONG = "Pneumonoultramicroscopicsilicovolcanoconiosis_at_admission"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service for a regression on a table of many columns: a day, a number with a unit, a name too long."""
    folder = tmp_path_factory.mktemp("built")
    rows = [
        [*row[:3], f"20{10 + n % 10}-0{1 + n % 9}-1{n % 10}", *[str(n % (7 + i)) for i in range(12)], row[3]]
        for n, row in enumerate(tables.values())
    ]
    names = ["a", "b", LONG, "opened", *[f"measure {i}" for i in range(12)], "price"]
    table = tables.write(folder / "prices.csv", names, rows)
    service = Service(folder / "instance")
    proposal = service.command("build", "--data", str(table), "--target", "price", "--review-contract", cwd=folder)
    assert proposal.returncode == 0, proposal.stderr
    path = folder / "contract.json"
    contract = json.loads(path.read_text())
    contract["properties"]["a"]["x-reviewapp-unit"] = "thousands of a quite long unit"
    path.write_text(json.dumps(contract))
    done = service.command("build", "--data", str(table), "--target", "price", "--contract", str(path))
    assert done.returncode == 0, done.stderr
    with service:
        yield service


@LOOKS
def test_many_fields_of_a_table_are_asked_and_answered_for_everybody(
    browser: Browser, built: Service, viewport: Any, scheme: str
) -> None:
    base = f"http://127.0.0.1:{built.port}"
    made = built.token("ann", "review")
    with watched(browser, base, viewport=viewport, color_scheme=scheme) as page:
        page.goto("/sign-in")
        page.get_by_label("Token").fill(made)
        page.get_by_role("button", name="Sign in").click()
        expect(page).to_have_url(f"{base}/")
        found = flaws(page)
        page.goto("/?sample=1")
        day = page.get_by_label("opened")
        expect(day).to_have_attribute("type", "date")
        expect(page.locator(".unit")).to_have_text("thousands of a quite long unit")
        day.fill("2015-06-07")
        page.get_by_label("a", exact=True).fill("x")
        page.get_by_role("button", name="Ask for an answer").click()
        expect(day).to_have_value("2015-06-07")
        found += flaws(page)
        page.get_by_label("a", exact=True).fill("3")
        page.get_by_role("button", name="Ask for an answer").click()
        page.get_by_text("What the other").click()
        page.get_by_text("Choose one of 16 fields").click()
        found += flaws(page)
        page.get_by_role("link", name=LONG).click()
        found += flaws(page)
        page.get_by_role("link", name="this request").click()
        found += flaws(page)
        page.get_by_text("Choose one of 16 fields").click()
        page.get_by_role("link", name="opened").click()
        expect(page.get_by_label("opened")).to_have_value("2015-06-07")
        page.get_by_label("opened").fill("2001-02-03")
        page.get_by_role("button", name="See the answer").click()
        expect(page.get_by_role("row", name="opened differs")).to_contain_text("2001-02-03")
        found += flaws(page)
    assert found == []
