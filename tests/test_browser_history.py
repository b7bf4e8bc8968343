"""History in a real browser: search, order, filters and files, with and without script, on desk and phone."""

import csv
import io
import json
import re
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import expect

from .browser import DESK, MARKS, PHONE, Open, flaws
from .service import Service

pytestmark = MARKS

HOSTILE = "\"><script>alert(1)</script>'&\u202e=1+1🙂 " + "x" * 100


@pytest.fixture(scope="module")
def made(service: Service, token: str) -> list[str]:
    """Five predictions, the last one with its other option and explanation, and a verdict on the first."""
    headers, ids = {"Authorization": f"Bearer {token}"}, []
    for number in range(5):
        record = {"subject": f"Refund {number}", "body": f"{HOSTILE} invoice", "channel": "web",
                  "customer_tier": None, "open_tickets": 50 * number, "account_age_days": 1,
                  "has_attachment": True}  # fmt: skip
        body = {"input": record, "reference": f"{HOSTILE} {number}"}
        path = "/api/v1/predictions" + ("?compare=1&explain=1" if number == 4 else "")
        ids.append(service.call("POST", path, body, headers)[1]["id"])
    service.call("PUT", f"/api/v1/predictions/{ids[0]}/verdict", {"verdict": "agree", "note": HOSTILE}, headers)
    return ids


@pytest.mark.parametrize("script", [True, False], ids=["with script", "without script"])
def test_a_search_is_narrowed_ordered_shared_and_taken_along(
    opened: Open,
    base: str,
    made: list[str],
    script: bool,
    tmp_path: Path,
) -> None:
    with opened(java_script_enabled=script) as page:
        page.goto("/history")
        page.get_by_label("Search").fill("refun invoice")
        page.get_by_label("Order").select_option("Oldest first")
        page.get_by_role("button", name="Show these").first.click()
        expect(page).to_have_url(f"{base}/history?q=refun+invoice&sort=oldest")
        expect(page.get_by_text("5 predictions that match, oldest first.")).to_be_visible()
        expect(page.get_by_role("row").nth(1)).to_contain_text("Refund 0")
        page.get_by_text("Filter", exact=True).click()
        page.get_by_label("Verdict").select_option("none")
        page.get_by_label("Answer").fill("billing")
        page.get_by_label("Answer").fill("")
        page.get_by_role("button", name="Show these").last.click()
        expect(page).to_have_url(f"{base}/history?q=refun+invoice&sort=oldest&verdict=none")
        expect(page.get_by_text("4 predictions that match")).to_be_visible()
        assert page.title().startswith("Filtered: History")
        files = {}
        for name, kind in (("CSV", "csv"), ("JSON Lines", "jsonl")):
            with page.expect_download() as download:
                page.get_by_role("link", name=name, exact=True).click()
            assert download.value.suggested_filename == f"predictions.{kind}"
            download.value.save_as(tmp_path / kind)
            files[kind] = (tmp_path / kind).read_bytes().decode()
        rows = list(csv.DictReader(io.StringIO(files["csv"], newline="")))
        assert (
            [row["id"] for row in rows] == [json.loads(line)["id"] for line in files["jsonl"].splitlines()] == made[1:]
        )
        page.get_by_role("link", name="Show all").click()
        expect(page).to_have_url(f"{base}/history")
        page.get_by_role("button", name="Show these").first.click()
        expect(page).to_have_url(f"{base}/history")


@pytest.mark.parametrize(
    ("viewport", "scheme"), [(DESK, "light"), (PHONE, "dark")], ids=["light on a desk", "dark on a phone"]
)
def test_every_state_of_the_history_is_for_everybody(
    opened: Open,
    made: list[str],
    viewport: Any,
    scheme: str,
) -> None:
    with opened(viewport=viewport, color_scheme=scheme) as page:
        found = []
        for path in ("/history", "/history?q=%25&sort=least_sure", "/history?verdict=agree&release=1&audit=false",
                     f"/history?q={'y' * 190}", "/history?sort=oldest&limit=2", "/history?cursor=o1&sort=newest",
                     "/history?since=x&until=y&sort=z", "/history?sort=oldest&cursor=o999999999", "/history?q=+",
                     f"/history/{made[0]}", f"/history/{made[4]}"):  # fmt: skip
            page.goto(path)
            found += flaws(page)
            for summary in page.locator("summary").all():
                summary.click()
            found += flaws(page)
        page.goto("/history?sort=oldest&limit=2")
        page.get_by_role("link", name="Newer").click()
        found += flaws(page)
        page.get_by_role("link", name="Oldest").click()
        expect(page).to_have_url(re.compile("limit=2$"))
    assert found == []


def test_a_record_says_what_was_recorded_and_what_is_worked_out_now(
    opened: Open,
    made: list[str],
) -> None:
    with opened() as page:
        page.goto(f"/history/{made[0]}")
        expect(page.get_by_text("Worked out now by the same release, not recorded")).to_be_visible()
        expect(page.get_by_role("columnheader", name="Baseline")).to_be_visible()
        expect(page.get_by_role("heading", name="What moved the answer")).to_be_visible()
        page.goto(f"/history/{made[4]}")
        expect(page.get_by_text("Worked out now")).to_have_count(0)
