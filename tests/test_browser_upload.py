"""The Upload page in a real browser: a bar that moves, results without script too, for everybody, nothing twice."""

import contextlib
import csv
import io
import random
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, Route, expect
from playwright.sync_api import TimeoutError as PlaywrightTimeoutError
from sqlalchemy import update

from reviewapp.config import load_settings
from reviewapp.factory import make_parts
from reviewapp.release import Release
from reviewapp.samples import valid_record
from reviewapp.tables import uploads
from reviewapp.triage import generator

from .browser import DESK, MARKS, PHONE, Open, flaws, tab_to, watched
from .page import as_csv
from .service import Service

pytestmark = MARKS
LONG = 3000  # rows: six chunks
EACH_FRAME = """
addEventListener("DOMContentLoaded", () => {
  const look = () => {
    const bar = document.querySelector("progress"), text = document.querySelector("#progress-text");
    const seen = JSON.parse(sessionStorage.getItem("seen") ?? "[]"), now = bar && `${bar.value}: ${text.textContent}`;
    if (now && seen.at(-1) !== now) sessionStorage.setItem("seen", JSON.stringify([...seen, now]));
    requestAnimationFrame(look);
  };
  look();
});
"""


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory, release: Release) -> Path:
    """A file of 60 rows, the third and the last with a mistake."""
    rng = random.Random(3)
    records = [valid_record(release.contract, rng, [row.input for row in release.golden]) for _ in range(60)]
    names = release.contract.names
    records = [{name: record.get(name) for name in names} for record in records]
    records[2]["channel"] = records[59]["channel"] = "<b>fax</b>"
    path = tmp_path_factory.mktemp("files") / "my requests.csv"
    path.write_text(as_csv(records), newline="")
    return path


@pytest.fixture(scope="module")
def long(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("files") / "long.csv"
    path.write_text(as_csv([one.record for one in generator.generate(LONG, 8)]), newline="")
    return path


def send(page: Page, file: Path) -> None:
    page.goto("/upload")
    page.get_by_label("File").set_input_files(file)
    page.get_by_role("button", name="Answer this file").click()


def recorded(page: Page) -> int:
    """How many rows of the upload that is shown are recorded, and that none is there twice."""
    table = page.context.request.get(f"{page.url.split('?')[0]}/answers.csv").text()
    ids = [row["prediction_id"] for row in csv.DictReader(io.StringIO(table, newline="")) if row["prediction_id"]]
    assert len(ids) == len(set(ids))
    return len(ids)


@pytest.mark.parametrize("script", [True, False], ids=["with script", "without script"])
def test_from_a_file_to_the_file_with_answers(opened: Open, few: Path, script: bool, tmp_path: Path) -> None:
    with opened(java_script_enabled=script) as page:
        page.goto("/")
        page.get_by_role("link", name="Upload").click()
        page.get_by_label("File").set_input_files(few)
        page.get_by_role("button", name="Answer this file").click()
        expect(page.locator(".decision", has_text="60 rows checked: ")).to_be_visible()
        expect(page.get_by_role("heading", level=1)).to_have_text("my requests.csv")
        expect(page.locator("dl")).to_contain_text("Answered58")
        page.get_by_role("link", name="Next rows").click()
        expect(page.locator("tbody tr").last).to_contain_text("60")
        page.get_by_role("link", name="show them").click()
        expect(page.get_by_role("heading", name="Rows with a problem")).to_be_visible()
        expect(page.locator("table.cards tbody tr")).to_have_count(2)
        expect(page.locator("table.cards")).to_contain_text("channel: This must be one of the allowed values")
        with page.expect_download() as download:
            page.get_by_role("link", name="Download the file with its answers").click()
        assert download.value.suggested_filename == "my_requests-answers.csv"
        download.value.save_as(tmp_path / "out.csv")
        with (tmp_path / "out.csv").open(newline="") as out:
            rows = list(csv.DictReader(out))
        assert [number for number, row in enumerate(rows) if row["problem"]] == [2, 59]
        page.get_by_role("link", name="Show all rows").click()
        page.locator("table.cards a").first.click()
        expect(page.get_by_role("heading", name="One prediction")).to_be_visible()
        expect(page.get_by_text(rows[0]["prediction_id"])).to_be_visible()


def test_a_bar_moves_while_the_rows_are_answered(opened: Open, long: Path) -> None:
    with opened() as page:
        page.add_init_script(EACH_FRAME)
        send(page, long)
        expect(page.locator(".decision", has_text="3,000 rows checked: ")).to_be_visible()
        seen = page.evaluate("JSON.parse(sessionStorage.getItem('seen'))")
        assert seen[0] == "0: 0 of 3,000 rows"
        moved = [int(one.split(":")[0]) for one in seen]
        assert moved == sorted(moved)
        assert len(set(moved) - {0, LONG}) >= 2, seen
        assert "1500: 1,500 of 3,000 rows" in seen
        assert recorded(page) == LONG


def test_who_leaves_goes_on_later_and_two_tabs_do_no_harm(opened: Open, long: Path) -> None:
    with opened() as page:
        send(page, long)
        expect(page.locator("#progress-text")).not_to_have_text("0 of 3,000 rows")
        page.goto("/upload")
        expect(page.get_by_text("unfinished, up to row").first).to_be_visible()
        second = page.context.new_page()
        for tab in (page, second):
            tab.goto("/upload")
        for tab in (page, second):
            tab.get_by_role("link", name="long.csv").first.click(no_wait_after=True)
        for tab in (page, second):
            expect(tab.locator(".decision", has_text="3,000 rows checked: ")).to_be_visible()
        assert recorded(page) == LONG


def test_a_second_click_makes_no_second_upload(opened: Open, few: Path) -> None:
    def uploaded(page: Page) -> int:
        return len(page.context.request.get("/upload.json").json()["uploads"])

    for script in (True, False):
        with opened(java_script_enabled=script) as page:
            page.goto("/upload")
            before = uploaded(page)
            page.get_by_label("File").set_input_files(few)
            page.get_by_role("button", name="Answer this file").dblclick(no_wait_after=True)
            page.wait_for_url("**/upload/*")
            while page.get_by_role("button", name="Continue").is_visible():
                page.get_by_role("button", name="Continue").click()
            expect(page.locator(".decision", has_text="60 rows checked: ")).to_be_visible()
            assert uploaded(page) == before + 1
            assert recorded(page) == 58


def test_where_it_stops_the_page_says_so_and_can_go_on(opened: Open, few: Path) -> None:
    with opened() as page:
        page.route("**/continue", lambda route: route.fulfill(status=409, json={"detail": "The ledger is locked."}))
        send(page, few)
        expect(page.get_by_role("alert")).to_contain_text("The ledger is locked.")
        expect(page.get_by_role("button", name="Continue")).to_be_visible()
        page.unroute("**/continue")
        page.get_by_role("button", name="Continue").click()
        expect(page.locator(".decision", has_text="60 rows checked: ")).to_be_visible()
        assert recorded(page) == 58


def choose(page: Page, file: Path) -> None:
    """Choose a file by keyboard; a browser under load may let the first key go by without opening its dialog."""
    tab_to(page, "#file")
    for patience in (3000, 3000, 15_000):
        with contextlib.suppress(PlaywrightTimeoutError):
            with page.expect_file_chooser(timeout=patience) as chooser:
                page.keyboard.press("Enter")
            chooser.value.set_files(file)
            return
    raise AssertionError("the file's dialog does not open by keyboard")


def test_the_keyboard_alone_is_enough(opened: Open, few: Path) -> None:
    with opened() as page:
        page.goto("/upload")
        choose(page, few)
        tab_to(page, "main form button")
        page.keyboard.press("Enter")
        expect(page.locator(".decision", has_text="60 rows checked: ")).to_be_visible()
        tab_to(page, "dd a[href*='only=problems']")
        page.keyboard.press("Enter")
        expect(page.get_by_role("heading", name="Rows with a problem")).to_be_visible()
        tab_to(page, "p > a[href$='answers.csv']")
        with page.expect_download():
            page.keyboard.press("Enter")


def test_a_file_that_is_too_large_gets_its_page(opened: Open, tmp_path: Path) -> None:
    path = tmp_path / "large.csv"
    path.write_bytes(b"subject\n" + b"x" * (33 << 20))
    with opened() as page:
        send(page, path)
        expect(page.get_by_role("alert")).to_contain_text("The body may have 33,554,432 bytes at most.")
        page.get_by_role("alert").get_by_role("link").click()
        expect(page.get_by_label("File")).to_be_focused()


@pytest.mark.parametrize(
    ("viewport", "scheme"), [(DESK, "light"), (PHONE, "dark")], ids=["light on a desk", "dark on a phone"]
)
def test_every_state_is_for_everybody(
    browser: Browser, base: str, service: Service, few: Path, viewport: Any, scheme: str, tmp_path: Path
) -> None:
    token = service.token(f"new {scheme}", "admin")
    wrong, odd = tmp_path / "wrong.csv", tmp_path / f"{'x' * 190} \u202e<b>.csv"
    wrong.write_text("subject,colour\n")
    odd.write_text(few.read_text().replace("<b>fax</b>", "x" * 10_000 + " \u202eleft <script>alert(1)</script>"))
    found: list[str] = []

    def no_answer(route: Route) -> None:
        """Leave the script waiting, as a slow service does."""

    with watched(browser, base, viewport=viewport, color_scheme=scheme) as page:
        page.goto("/sign-in")
        page.get_by_label("Token").fill(token)
        page.get_by_role("button", name="Sign in").click()
        page.goto("/upload")
        found += flaws(page)
        for file in (None, wrong):
            if file:
                page.get_by_label("File").set_input_files(file)
            page.get_by_role("button", name="Answer this file").click()
            expect(page.get_by_role("alert")).to_be_visible()
            found += flaws(page)
        page.route("**/continue", no_answer)
        send(page, odd)
        expect(page.get_by_text("0 of 60 rows")).to_be_visible()
        found += flaws(page)
        page.route("**/continue", lambda route: route.fulfill(status=409, json={"detail": "The ledger is locked."}))
        page.reload()
        expect(page.get_by_role("button", name="Continue")).to_be_visible()
        found += flaws(page)
        address = page.url
        page.unroute_all()
        change_release(service, address, "sha256:other")
        page.reload()
        expect(page.get_by_text("This file was answered in part.")).to_be_visible()
        found += flaws(page)
        change_release(service, address, None)
        page.reload()
        expect(page.locator(".decision", has_text="60 rows checked: ")).to_be_visible()
        found += flaws(page)
        for name in ("Next rows", "show them"):
            page.get_by_role("link", name=name).click()
            found += flaws(page)
        page.goto("/upload")
        found += flaws(page)
    assert found == []


def change_release(service: Service, address: str, digest: str | None) -> None:
    """Let an upload be one that another release began, or that the live one did."""
    parts = make_parts(load_settings({"instance": service.instance}, {}))
    live = parts.registry.live()
    assert live is not None
    with parts.store.writing() as connection:
        this = update(uploads).where(uploads.c.id == address.rpartition("/")[2])
        connection.execute(this.values(release_digest=digest or live.digest))
    parts.store.close()
