"""Monitor: one plain sentence, pictures that say what is in the table behind them, and what to do where nothing is."""

import re
import time
from dataclasses import replace
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from reviewapp.errors import NotReady
from reviewapp.monitoring import POINTS, Point, monitor
from reviewapp.parts import Parts
from reviewapp.registry import Registry
from reviewapp.release import ReleaseId
from reviewapp.ui.plots import BOTTOM, LEFT, RIGHT, TOP, Plot, evidence_plot, share_plot

from .page import JSON, Page
from .verdicts import judge


def test_the_api_and_the_page_tell_the_figures_of_the_command(parts: Parts, page: FlaskClient, api: Any) -> None:
    judge(parts, "+" * 30 + "-x?.")
    judge(parts, "--", audit=False, blind=True)
    found = {**monitor(parts.registry.adapter().release, parts.ledger), "drift": None, "service": None}
    assert api("get", "/monitor", role="review").json == found
    twin = page.get("/monitor.json").json
    assert {name: twin[name] for name in found} == found
    assert twin["verdicts"] == {"drawn": 34, "agree": 30, "corrected": 1, "disagree": 1, "unsure": 1, "waiting": 1}
    assert (twin["series"][-1]["n"], twin["series"][-1]["wrong"]) == (32, 2)
    assert twin["reliance"]["blind"]["of"] == found["reliance"]["blind"]["of"] == 2
    assert page.get("/monitor", headers=JSON).json == twin


def test_every_state_of_the_trigger_is_what_the_api_describes(parts: Parts, api: Any) -> None:
    """The client holds each answer against the document."""
    states = []
    for more in ("", "." * 3, "+" * 40, "x" * 60):
        judge(parts, more)
        states.append(api("get", "/monitor", role="review").json["trigger"]["state"])
    assert states == ["too_few_verdicts", "too_few_verdicts", "within_limit", "above_limit"]


def test_without_a_live_release_neither_has_anything_to_tell(
    page: FlaskClient, api: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none_live(self: Registry) -> None:
        raise NotReady("No release is live.", retry_after=10)

    monkeypatch.setattr(Registry, "adapter", none_live)
    assert api("get", "/monitor", role="review").status_code == 503
    assert page.get("/monitor").status_code == page.get("/monitor.json").status_code == 503


def test_the_state_of_the_trigger_is_one_plain_sentence(parts: Parts, page: FlaskClient) -> None:
    def text() -> str:
        return Page(page.get("/monitor").text).text

    assert "waits for 30 more verdicts on audited answers." in text()
    judge(parts, "+" * 28 + "??")
    assert "waits for 2 more verdicts" in text()
    judge(parts, "+")
    assert "waits for 1 more verdict on" in text()
    judge(parts, "+")
    assert "The trigger is quiet" in text()
    assert "0.0 % (95 % interval 0.0 % to 11.4 %): 0 of 30 judged" in text().replace("\u00a0", " ")
    judge(parts, "x" * 40)
    assert re.search(r"The trigger has fired: after \d+ verdicts", text())


@pytest.mark.parametrize(
    ("signs", "audit", "share", "says", "address"),
    [
        ("", True, None, "has not answered anything since it went live", "/"),
        ("..", False, None, "No automatic answer was drawn for a check yet", "/queue"),
        ("..", False, 0.0, "audit_share is 0", None),
        ("...", True, None, "No verdict on an audited answer yet: judge those that wait in the Queue", "/queue"),
        ("?", True, None, "No verdict on an audited answer yet", "/queue"),
    ],
)
def test_where_there_is_no_figure_yet_the_page_says_what_to_do(
    parts: Parts, page: FlaskClient, monkeypatch: pytest.MonkeyPatch, signs: str, audit: bool, share: float | None,
    says: str, address: str | None,
) -> None:  # fmt: skip
    judge(parts, signs, audit=audit)
    if share is not None:
        adapter = parts.registry.adapter()
        monkeypatch.setattr(
            adapter, "release", replace(adapter.release, policy=replace(adapter.release.policy, audit_share=share))
        )
    shown = Page(page.get("/monitor").text)
    assert says in shown.text
    assert address is None or shown.all("a", href=address)
    assert shown.all("svg") == []


def test_only_an_admin_is_led_to_the_roll_back_and_only_where_one_leads_back(
    app: Flask, page: FlaskClient, parts: Parts
) -> None:
    judge(parts, "x" * 40)
    first = Page(page.get("/monitor").text)
    assert first.title.startswith("Roll back")
    assert "no earlier release" in first.text
    assert first.all("a", href="/releases/rollback") == []
    reviewer = app.test_client()
    reviewer.post("/sign-in", data={"token": parts.accounts.create_token("ann", "review")})
    assert "no earlier release" in Page(reviewer.get("/monitor").text).text


def test_where_an_earlier_release_was_live_the_fired_trigger_leads_to_it(
    app: Flask, page: FlaskClient, parts: Parts, moved: ReleaseId
) -> None:
    judge(parts, "x" * 40)
    assert Page(page.get("/monitor").text).all("a", href="/releases/rollback")
    assert page.get("/releases/rollback").status_code == 200
    reviewer = app.test_client()
    reviewer.post("/sign-in", data={"token": parts.accounts.create_token("ann", "review")})
    shown = Page(reviewer.get("/monitor").text)
    assert shown.all("a", href="/releases/rollback") == []
    assert "An admin rolls back to triage/1" in shown.text


def test_the_page_says_what_the_trigger_did_and_leads_to_letting_the_model_answer_again(
    app: Flask, page: FlaskClient, parts: Parts
) -> None:
    judge(parts, "x" * 30)
    parts.watch.look()
    shown = Page(page.get("/monitor").text)
    assert "30 of 30 audited answers of triage/1 were wrong" in shown.text
    assert "The baseline answers. The model is only asked beside it." in shown.text
    assert "answering with its baseline" in shown.text
    assert shown.all("a", href="/releases/1/promote")
    for address in ("/", "/queue", "/history", "/releases", "/contract"):
        banner = Page(page.get(address).text).text
        assert "The trigger has fired for triage/1" in banner
        assert "the baseline answers in the model's place" in banner
    assert "The trigger has fired" not in app.test_client().get("/contract").text  # of somebody who is not known
    again = Page(page.get("/releases/1/promote").text)
    assert "Let the model of triage/1 answer again" in again.text
    [address] = [str(form["action"]) for form in again.all("form", method="post") if "promote" in str(form["action"])]
    for _ in range(2):  # a second click changes nothing
        assert page.post(address, data={"reason": "mended"}).status_code == 303
    assert [event.kind for event in parts.registry.events()][:2] == ["promoted", "fell_back"]
    assert "The trigger has fired" not in page.get("/").text


def test_an_earlier_release_that_answers_again_has_a_trigger_of_its_own(
    page: FlaskClient, parts: Parts, moved: ReleaseId, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapter = parts.registry.adapter()
    policy = replace(adapter.release.policy, rollback=replace(adapter.release.policy.rollback, action="previous"))
    monkeypatch.setattr(adapter, "release", replace(adapter.release, policy=policy))
    judge(parts, "x" * 30)
    parts.watch.look()
    found, shown = page.get("/monitor.json").json, Page(page.get("/monitor").text).text
    assert (found["trigger"]["state"], found["trigger"]["fired"]["event"]) == ("too_few_verdicts", "rolled_back")
    assert f"audited answers of {moved} were wrong" in shown
    assert "triage/1 answers in its place" in shown


def test_each_picture_has_a_text_and_a_table_that_say_the_same(parts: Parts, page: FlaskClient) -> None:
    judge(parts, ("+" * 9 + "-") * 30)
    shown, series = Page(page.get("/monitor").text), page.get("/monitor.json").json["series"]
    pictures = shown.all("svg", role="img")
    assert len(pictures) == len(shown.all("svg")) == len(shown.all("table")) - 1 == 2
    assert "after each of 300 verdicts: 10.0 % now, with a 95 % interval from 7.1 % to 13.9 %" in str(
        pictures[0]["aria-label"]
    )
    assert "0.142 now, of the 20 that it takes" in str(pictures[1]["aria-label"])
    assert len(series) <= POINTS
    assert len(shown.all("th", scope="row")) == 2 * len(series)  # every point of a picture is a row of its table
    for line in shown.all("polyline"):
        assert len(str(line["points"]).split()) == len(series)
    text = shown.text.replace("\u00a0", " ")
    for kind, n in (("agree", 270), ("corrected", 30), ("disagree", 0), ("unsure", 0)):
        assert re.search(rf"{kind} [^0-9]* {n} ", text), kind
    [link] = [str(a["href"]) for a in shown.all("a") if "verdict=corrected" in str(a["href"])]
    assert len(page.get(f"{link}&limit=200", headers=JSON).json["predictions"]) == 30


def test_what_people_go_by_is_told_with_both_kinds_and_asked_for_without(parts: Parts, page: FlaskClient) -> None:
    def text() -> str:
        return Page(page.get("/monitor").text).text.replace("\u00a0", " ")

    judge(parts, "+" * 45 + "-" * 5, audit=False)
    assert "Not known yet: 0 verdicts given blind, before the answer was shown, and 50 with the answer" in text()
    assert "Overridden 10.0 %" in text()
    judge(parts, "+", audit=False, blind=True)
    assert "cannot be told yet" in text()
    judge(parts, "+" * 20 + "-" * 29 + "?", audit=False, blind=True)
    moved = page.get("/monitor.json").json["reliance"]["difference"]
    assert moved["value"] == pytest.approx(45 / 50 - 21 / 50)
    interval = f"{100 * moved['low']:+.1f} to {100 * moved['high']:+.1f}"
    assert f"The difference is +48.0 points (95 % interval {interval})" in text()
    assert "Seeing the answer makes people agree with it more often" in text()
    assert "1 blind; they count in none" in text()


# ---- pictures ---------------------------------------------------------------------------------------------------


def places(written: str) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in (one.split(",") for one in written.split())]


def point(n: int, wrong: int, evidence: float = 1.0) -> Point:
    share = wrong / n
    return Point(n, "", wrong, share, max(0.0, share - 0.1), min(1.0, share + 0.1), evidence)


@pytest.mark.parametrize("limit", [0.001, 0.05, 0.2, 0.95])
@pytest.mark.parametrize("points", [[point(1, 1)], [point(1, 1), point(50, 2), point(100, 4)], [point(9, 9)]])
def test_a_picture_keeps_inside_its_field_and_shows_where_it_stands(points: list[Point], limit: float) -> None:
    drawn = share_plot(points, limit, None)
    low, high = (float(says.split()[0]) / 100 for _, says in (drawn.marks[0], drawn.marks[-1]))
    for x, y in (*places(drawn.line), *places(drawn.band), drawn.last):
        assert LEFT <= x <= RIGHT
        assert TOP <= y <= BOTTOM
    assert low == 0
    assert TOP < drawn.limit[0] < BOTTOM or limit > high - 0.1
    assert 2 <= len(drawn.marks) <= 6
    exact = BOTTOM - (BOTTOM - TOP) * points[-1].value / high
    assert drawn.last == (RIGHT, pytest.approx(exact, abs=0.06))


@pytest.mark.parametrize(
    ("evidence", "needed", "text"),
    [(0.5, 20.0, "0.5 now"), (45.0, 20.0, "45 now"), (1e9, 20.0, "over a million now"), (1e9, 1e7, "over a million")],
)
def test_evidence_is_drawn_on_a_scale_of_powers_with_what_it_takes(evidence: float, needed: float, text: str) -> None:
    drawn: Plot = evidence_plot([point(10, 1, 0.5), point(20, 9, evidence)], needed, 20 if evidence > needed else None)
    assert text in drawn.text
    assert ("fired at verdict 20" in drawn.text) is (drawn.fired is not None) is (evidence > needed)
    assert TOP < drawn.limit[0] < BOTTOM
    assert (drawn.last[1] < drawn.limit[0]) is (evidence > needed)
    assert 2 <= len(drawn.marks) <= 6
    assert all(TOP <= y <= BOTTOM for y, _ in drawn.marks)


# ---- speed ------------------------------------------------------------------------------------------------------


def test_thousands_of_predictions_do_not_make_it_slow(parts: Parts, page: FlaskClient) -> None:
    """A tenth of the size that the promise is made for, in all of its time: a machine under load must not fail it."""
    judge(parts, "." * 9000, audit=False)
    judge(parts, ("+" * 9 + "-") * 20 + "." * 800)
    page.get("/monitor")
    taken = []
    for _ in range(5):
        start = time.perf_counter()
        assert page.get("/monitor").status_code == 200
        taken.append(time.perf_counter() - start)
    assert min(taken) < 0.05
