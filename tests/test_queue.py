"""The review queue through both doors: one record at a time, blind where the lot says so, and what is typed stays."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from reviewapp import lookups
from reviewapp.parts import Parts
from reviewapp.policy import Policy
from reviewapp.release import Release

from .page import JSON, Page, form

pytestmark = pytest.mark.both


@pytest.fixture
def wait(api: Any, example: dict[str, Any]) -> Callable[..., list[str]]:
    """Ask for answers that a person must look at; return their ids in order."""

    def ask(n: int = 1, **changes: Any) -> list[str]:
        outside = [{**example, "open_tickets": 100 + number, **changes} for number in range(n)]
        made = [api("post", "/predictions?compare=true&explain=true", json={"input": one}).json for one in outside]
        assert all(one["decision"] == "review" for one in made)
        return [one["id"] for one in made]

    return ask


@pytest.fixture
def policy(release: Release, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Policy]:
    """Let the live release have another policy."""

    def change(**changes: Any) -> Policy:
        changed = replace(release.policy, **changes)
        monkeypatch.setattr(lookups, "policy", lambda: changed)
        return changed

    return change


@pytest.fixture(autouse=True)
def nothing_blind(policy: Callable[..., Policy]) -> None:
    """The lot would fall differently in each run: what a test says of blind records it asks for."""
    policy(blind_share=0.0)


def opened(page: FlaskClient) -> Page:
    """Press the button that opens the next record."""
    assert page.post("/queue/next").status_code == 303
    return Page(page.get("/queue").text)


def before(parts: Parts) -> str | None:
    """Return what the owner has before them."""
    lease = parts.desk.held("owner")
    return None if lease is None else lease.prediction_id


def judge(page: FlaskClient, prediction_id: str, **sent: Any) -> Any:
    return page.post(f"/queue/{prediction_id}/verdict", data=sent)


def verdict(parts: Parts, prediction_id: str) -> dict[str, Any]:
    found = parts.ledger.prediction(prediction_id).as_record()["verdict"]
    return {name: value for name, value in found.items() if value and name not in ("author", "created_at")}


# ---- the page ---------------------------------------------------------------------------------------------------


def test_an_empty_queue_says_what_to_do(page: FlaskClient, wait: Any, auth: Any, app: Flask) -> None:
    shown = Page(page.get("/queue").text)
    assert "Nothing waits for a person. Try a request" in shown.text
    assert shown.all("progress", max="1", value="0")
    wait()
    assert "Open the next record" in Page(page.get("/queue").text).text
    app.test_client().post("/api/v1/queue/next", headers=auth("review", "bob"))
    shown = Page(page.get("/queue").text)
    assert "All that waits is with other reviewers now." in shown.text
    assert "1 left (1 with other reviewers now)" in shown.text


def test_looking_at_the_queue_leases_nothing(page: FlaskClient, wait: Any, parts: Parts) -> None:
    wait(2)
    page.get("/queue")
    assert parts.desk.held("owner") is None
    assert "A value outside of what training saw: 2" in Page(page.get("/queue").text).text


def test_a_verdict_opens_the_next_record_and_says_what_was_recorded(
    page: FlaskClient, parts: Parts, wait: Any, release: Release
) -> None:
    first, second = wait(2)
    shown = opened(page)
    assert "A person must look at this" in shown.text
    assert "0 judged by you today, 2 left" in shown.text
    assert tuple(a["value"] for a in shown.all("button", name="label")) == release.contract.outcome.labels
    assert judge(page, first, verdict="agree", note="").status_code == 303
    assert before(parts) == second
    shown = Page(page.get("/queue").text)
    assert "Recorded: agree. Undo" in shown.text
    assert "1 judged by you today, 1 left" in shown.text
    assert "Recorded" not in Page(page.get("/queue").text).text  # it is said once
    judge(page, second, verdict="unsure", note="Who knows?", reasons=["Several answers fit"])
    assert verdict(parts, second) == {"verdict": "unsure", "note": "Who knows?", "reasons": ["Several answers fit"]}
    assert "Nothing waits for a person." in Page(page.get("/queue").text).text


def test_the_button_of_a_label_agrees_or_corrects(page: FlaskClient, parts: Parts, wait: Any) -> None:
    first, second = wait(2)
    said = parts.ledger.prediction(first).output["label"]
    other = "other" if said != "other" else "bug"
    opened(page)
    judge(page, first, label=said, note="")
    judge(page, second, label=other, note="")
    assert verdict(parts, first) == {"verdict": "agree"}
    assert verdict(parts, second) == {"verdict": "corrected", "label": other}


def test_a_mistake_keeps_the_record_and_what_was_typed(page: FlaskClient, parts: Parts, wait: Any) -> None:
    [only] = wait()
    opened(page)
    for sent, said in (
        ({}, "verdict: This is required."),
        ({"label": "nonsense"}, "label: This must be one of the allowed values."),
        ({"verdict": "agree", "label": "bug"}, "Only the verdict 'corrected' takes a label."),
        ({"verdict": "agree", "note": "x" * 2001}, "Note: This must have 2000 characters or fewer."),
        ({"verdict": "agree", "more": "1"}, "more: The contract knows no member of this name."),
    ):
        response = judge(page, only, **{"note": "typed", "reasons": ["Several answers fit"], **sent})
        shown = Page(response.text)
        assert response.status_code == 422
        assert said in shown.text
        assert shown.title == "Mistakes: A record of the queue – reviewapp"
        assert sent.get("note", "typed") in shown.raw_text
        assert [a["value"] for a in shown.all("input", name="reasons") if "checked" in a] == ["Several answers fit"]
    assert parts.ledger.prediction(only).verdict is None
    assert parts.desk.held("owner") is not None


def test_a_second_click_and_the_back_button_do_no_harm(page: FlaskClient, parts: Parts, wait: Any) -> None:
    first, second, third = wait(3)
    opened(page)
    for _ in range(3):
        assert judge(page, first, verdict="agree", note="").status_code == 303
    assert len(parts.ledger.prediction(first).verdicts) == 1
    assert before(parts) == second
    for _ in range(2):  # the second one finds it skipped already
        assert page.post(f"/queue/{second}/skip").status_code == 303
    assert before(parts) == third
    judge(page, first, verdict="unsure", note="")  # from the page before, looked at again: a change of mind
    assert [one.verdict for one in parts.ledger.prediction(first).verdicts] == ["agree", "unsure"]
    assert before(parts) == third


def test_a_record_that_went_to_another_reviewer_is_not_judged_twice(
    app: Flask, page: FlaskClient, parts: Parts, wait: Any, auth: Any
) -> None:
    [only] = wait()
    opened(page)
    parts.desk.skip(only, "owner")
    bob = app.test_client()
    assert bob.post("/api/v1/queue/next", headers=auth("review", "bob")).json["id"] == only
    response = judge(page, only, verdict="unsure", note="My <b>long</b> thoughts")
    shown = Page(response.text)
    assert response.status_code == 409
    assert "This record is with another reviewer now; nothing of yours was recorded." in shown.text
    assert "My <b>long</b> thoughts" in shown.text
    bob.put(f"/api/v1/predictions/{only}/verdict", json={"verdict": "agree"}, headers=auth("review", "bob"))
    response = judge(page, only, verdict="unsure", note="")
    assert "bob has judged this record in the meantime" in Page(response.text).text
    assert [one.author for one in parts.ledger.prediction(only).verdicts] == ["bob"]
    assert page.post(f"/queue/{only}/undo").status_code == 409  # it is not the owner's to undo


def test_undo_gives_the_record_back(page: FlaskClient, parts: Parts, wait: Any) -> None:
    first, _ = wait(2)
    opened(page)
    judge(page, first, verdict="agree", note="")
    shown = Page(page.get("/queue").text)
    undo = [str(a["action"]) for a in shown.all("form") if str(a["action"]).endswith("/undo")]
    assert undo == [f"/queue/{first}/undo"] * 2  # in the message, and below for later
    for _ in range(2):
        assert page.post(undo[0]).status_code == 303
    assert before(parts) == first
    assert [one.verdict for one in parts.ledger.prediction(first).verdicts] == ["agree", "withdrawn"]
    assert "0 judged by you today" in Page(page.get("/queue").text).text


def test_what_was_written_on_a_verdict_comes_back_with_its_record(page: FlaskClient, wait: Any) -> None:
    [only] = wait()
    opened(page)
    judge(page, only, verdict="unsure", note="a long thought", reasons=["Several answers fit"])
    page.post(f"/queue/{only}/undo")
    shown = Page(page.get("/queue").text)
    assert "a long thought" in shown.raw_text
    assert [a["value"] for a in shown.all("input", name="reasons") if "checked" in a] == ["Several answers fit"]


def test_skipping_the_only_record_says_so(page: FlaskClient, wait: Any) -> None:
    [only] = wait()
    opened(page)
    page.post(f"/queue/{only}/skip")
    assert "Skipped, but nothing else waits that nobody else has." in Page(page.get("/queue").text).text


def test_programs_see_the_same(page: FlaskClient, wait: Any, api: Any) -> None:
    [only] = wait()
    twin = page.get("/queue.json").json
    assert twin["waiting"] == {"left": 1, "with_others": 0, "by_reason": {"outside_seen": 1}}
    assert (twin["lease"], twin["prediction"]) == (None, None)
    opened(page)
    twin = page.get("/queue", headers=JSON).json
    assert twin["prediction"] == api("get", f"/predictions/{only}").json
    assert twin["lease"]["prediction_id"] == only
    assert judge(page, only, verdict="nonsense").status_code == 422
    sent = page.post(f"/queue/{only}/verdict", data={"verdict": "nonsense"}, headers=JSON)
    assert sent.content_type == "application/problem+json"


def test_reasons_are_those_of_the_policy(page: FlaskClient, wait: Any, policy: Any) -> None:
    policy(blind_share=0.0, reason_options=("<b>odd</b>", "x" * 100))
    wait()
    shown = opened(page)
    assert [a["value"] for a in shown.all("input", name="reasons")] == ["<b>odd</b>", "x" * 100]
    assert not shown.all("b")
    policy(blind_share=0.0, reason_options=())
    assert "Why (optional)" not in Page(page.get("/queue").text).text


# ---- blind ------------------------------------------------------------------------------------------------------


def test_a_blind_record_is_hidden_everywhere_until_its_verdict(
    page: FlaskClient, wait: Any, policy: Any, parts: Parts, release: Release
) -> None:
    policy(blind_share=1.0)
    [only] = wait(subject="A subject to be found")
    shown = opened(page)
    said = parts.ledger.prediction(only).output["label"]
    assert "Your own answer first" in shown.text
    assert "What moved the answer" not in shown.text
    assert "confident" not in shown.text
    assert not shown.all("button", name="verdict", value="agree")
    assert page.get(f"/history/{only}").status_code == page.get(f"/?prediction={only}").status_code == 409
    hidden = page.get("/queue.json").json["prediction"]
    assert {"output", "decision", "comparison", "explanation", "verdict"} & set(hidden) == set()
    for query in ("", "?label=" + said, "?sort=least_sure", "?q=subject&decision=review"):
        assert page.get(f"/history.json{query}").json == {"predictions": [], "next": None}
        for kind in ("csv", "jsonl"):
            assert only not in page.get(f"/history.{kind}{query}").text
    listed = Page(page.get("/history").text).text
    assert "1 of your records is left out, because you are to judge it blind in the queue" in listed
    judge(page, only, label=said, note="")
    assert verdict(parts, only) == {"verdict": "agree", "blind": True}
    assert only in page.get("/history.csv").text
    text = Page(page.get("/queue").text).text
    assert f"Recorded: your answer agrees with the one of the model, {said} (" in text
    assert page.get(f"/history/{only}").status_code == 200


def test_after_a_blind_verdict_both_answers_are_told(page: FlaskClient, wait: Any, policy: Any, parts: Parts) -> None:
    policy(blind_share=1.0)
    [only] = wait()
    opened(page)
    made = parts.ledger.prediction(only)
    other = "other" if made.output["label"] != "other" else "bug"
    for sent in ({"verdict": "agree"}, {"verdict": "disagree"}):
        response = judge(page, only, **sent)
        assert "Give your own answer first." in Page(response.text).text
    judge(page, only, label=other, note="")
    text = Page(page.get("/queue").text).text
    assert f"Recorded: {other}. It is another answer than the one of the model, {made.output['label']} (" in text
    assert made.comparison is not None
    assert f"the baseline {made.comparison['output']['label']}." in text
    assert verdict(parts, only) == {"verdict": "corrected", "label": other, "blind": True}


def test_as_many_are_blind_as_the_policy_says(policy: Any) -> None:
    drawn = policy(blind_share=0.25)
    blind = [drawn.blind(str(number)) for number in range(4000)]
    audited = [replace(drawn, audit_share=0.25).audited(str(number)) for number in range(4000)]
    assert abs(sum(blind) / 4000 - 0.25) < 0.03
    both = sum(one and other for one, other in zip(blind, audited, strict=True))
    assert abs(both / 4000 - 0.0625) < 0.02  # one lot says nothing of the other


# ---- the API ----------------------------------------------------------------------------------------------------


def test_the_api_leases_skips_and_ends_with_204(api: Any, wait: Any) -> None:
    first, second = wait(2)
    got = api("post", "/queue/next", role="review").json
    assert (got["id"], got["blind"], got["left"]) == (first, False, 2)
    assert got["leased_until"] > got["created_at"]
    assert api("post", "/queue/next", role="admin").json["id"] == second  # another reviewer
    assert api("post", f"/queue/{first}/skip", role="review").json == {
        "left": 2, "with_others": 1, "by_reason": {"outside_seen": 2},
    }  # fmt: skip
    again = api("post", f"/queue/{first}/skip", role="review")
    assert again.status_code == 409
    assert "POST /api/v1/queue/next leases one" in again.json["detail"]
    for role, made in (("review", first), ("admin", second)):
        assert api("post", "/queue/next", role=role).json["id"] == made
        api("put", f"/predictions/{made}/verdict", role=role, json={"verdict": "agree"})
    assert api("post", "/queue/next", role="review").status_code == 204
    assert api("post", "/queue/nothing/skip", role="review").status_code == 409


def test_the_api_hides_the_options_of_a_blind_record(api: Any, wait: Any, policy: Any) -> None:
    policy(blind_share=1.0)
    [only] = wait()
    got = api("post", "/queue/next", role="review").json
    assert got["blind"] is True
    assert {"output", "decision", "reasons", "comparison", "explanation"} & set(got) == set()
    assert api("get", f"/predictions/{only}", role="review").json["blind"] is True
    assert "output" in api("get", f"/predictions/{only}", role="admin").json  # to others it is as ever
    kept = api("put", f"/predictions/{only}/verdict", role="review", json={"verdict": "corrected", "label": "bug"}).json
    assert kept["verdict"]["blind"] is True
    assert kept["output"]["label"]


def test_what_waits_can_be_judged_while_nothing_answers(page: FlaskClient, wait: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(lookups, "policy", lambda: None)
    [only] = wait()
    assert "Why (optional)" not in opened(page).text
    assert judge(page, only, verdict="agree", note="").status_code == 303


def test_an_own_request_can_wait_too(page: FlaskClient, release: Release, example: dict[str, Any]) -> None:
    page.post("/", data=form(release.contract, {**example, "open_tickets": 99}))
    assert "1 left" in Page(page.get("/queue").text).text
