"""Promoting and rolling back on the pages: first what it changes, then a reason, and a yes where callers break."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from reviewapp import release as releases
from reviewapp.parts import Parts
from reviewapp.release import Release, ReleaseId
from reviewapp.wording import MEASURES

from .page import JSON, Page

pytestmark = pytest.mark.both

BREAKS = "The largest value is 100 and was not limited."
READY = "Callers are ready for this"


@pytest.fixture
def path(parts: Parts, narrower: Release) -> str:
    """Where a release that breaks callers can be promoted."""
    parts.registry.add(narrower, "test")
    return f"/releases/{narrower.id.version}/promote"


MEASURE_TITLES = [title for title, _ in MEASURES.values()]


def links(page: FlaskClient) -> list[str]:
    return [
        str(a["href"]) for a in Page(page.get("/releases").text).all("a") if str(a["href"]).startswith("/releases/")
    ]


def test_the_releases_page_leads_to_every_move_that_there_is(
    page: FlaskClient, parts: Parts, path: str, narrower: Release, release: Release
) -> None:
    assert links(page) == [path]  # the live one cannot be promoted, and there is nothing to roll back to
    parts.registry.promote(narrower.id.version, "x", "x", breaking=True)
    assert links(page) == ["/releases/rollback", f"/releases/{release.id.version}/promote"]
    text = Page(page.get("/releases").text).text
    assert f"Promote {release.id}" in text
    assert f"Roll back to {release.id}" in text


def test_who_is_no_admin_sees_no_way_to_move(app: Flask, parts: Parts, path: str) -> None:
    client = app.test_client()
    client.post("/sign-in", data={"token": parts.accounts.create_token("bob", "review")})
    assert client.get("/releases").status_code == 200
    assert links(client) == []
    for where in (path, "/releases/rollback"):
        assert client.get(where).status_code == client.post(where, data={"reason": "x"}).status_code == 403


def test_a_promotion_says_first_what_it_changes(
    page: FlaskClient, path: str, release: Release, narrower: Release
) -> None:
    shown = Page(page.get(path).text)
    for words in (f"Promote {narrower.id}", f"Live now {release.id}", f"Then {narrower.id}", "This breaks callers",
                  f"/input/open_tickets : {BREAKS} breaks callers", READY, "Reason"):  # fmt: skip
        assert words in shown.text, words
    assert [a["name"] for a in (*shown.all("textarea"), *shown.all("input"))] == ["reason", "breaking", "breaking"]
    assert [a["href"] for a in shown.all("a", **{"aria-current": "page"})] == ["/releases"]
    twin = page.get(path, headers=JSON).json
    figures = {one["what"]: (one["now"], one["then"]) for one in twin.pop("figures")}
    model = release.evaluation["results"]["test"]["model"]
    assert figures["Accuracy"] == (f"{model['accuracy']:.3f}",) * 2  # narrower was made of the live one
    assert set(figures) <= set(MEASURE_TITLES)  # of the policy nothing changes
    assert twin == {
        "live": release.id.as_json(),
        "target": narrower.id.as_json(),
        "differences": [{"pointer": "/input/open_tickets", "detail": BREAKS, "breaking": True}],
        "breaking": True,
    }


def test_a_reason_and_a_yes_promote_and_the_log_keeps_both(
    page: FlaskClient, parts: Parts, path: str, narrower: Release
) -> None:
    response = page.post(path, data={"reason": "a <b>stricter</b> desk", "breaking": "true"})
    assert (response.status_code, response.headers["Location"]) == (303, "/releases")
    event = parts.registry.events()[0]
    assert (event.id, event.kind, event.actor, event.breaking) == (narrower.id, "promoted", "owner", True)
    text = Page(page.get("/releases").text).text
    for words in (f"What answers now: {narrower.id}", "a <b>stricter</b> desk", BREAKS, "which breaks callers"):
        assert words in text
    assert page.get("/releases", headers=JSON).json["events"][0]["differences"][0]["detail"] == BREAKS


@pytest.mark.parametrize(
    ("sent", "says"),
    [
        ({}, ["Reason: This is required.", f"{READY}: Say yes if the callers are ready for this."]),
        ({"reason": " "}, ["Reason: A reason is needed; it is kept in the log.", f"{READY}: Say yes if"]),
        ({"reason": "typed"}, [f"{READY}: Say yes if the callers are ready for this."]),
        ({"reason": "typed", "breaking": ""}, [f"{READY}: Say yes if the callers are ready for this."]),
        ({"reason": "typed", "breaking": "false"}, [f"{READY}: Say yes if the callers are ready for this."]),
        ({"reason": "typed", "breaking": "perhaps"}, [f"{READY}: This must be true or false."]),
        ({"reason": "x" * 501, "breaking": "true"}, ["Reason: This must have 500 characters or fewer."]),
        ({"reason": "typed", "breaking": "true", "more": "1"}, ["more: The contract knows no member of this name."]),
    ],
)
def test_a_mistake_stands_by_the_field_and_on_top_and_nothing_moves(
    page: FlaskClient, parts: Parts, path: str, release: Release, sent: dict[str, str], says: list[str]
) -> None:
    response = page.post(path, data=sent)
    right = (
        sent.get("breaking") in (None, "", "false") and sent.get("reason", " ").strip()
    )  # but for what it would break
    assert response.status_code == (409 if right else 422)
    shown = Page(response.text)
    assert shown.title.startswith("Mistakes: Promote")
    for words in says:
        assert words in shown.text
    assert len([a for _, a in shown.elements if a.get("class") == "mistake"]) == len(says) - ("more" in sent)
    ids = {a.get("id") for _, a in shown.elements}
    anchors = [str(a["href"])[1:] for a in shown.all("a") if str(a["href"]).startswith("#move-")]
    assert len(anchors) == len(says) - ("more" in sent)
    assert set(anchors) <= ids
    assert sent.get("reason", "") in shown.raw_text  # what was typed stays
    assert parts.registry.live() == release.id


def test_programs_get_the_problem_itself(page: FlaskClient, path: str) -> None:
    refused = page.post(path, data={"reason": "x"}, headers=JSON)
    assert (refused.status_code, refused.json["type"]) == (409, "/problems/breaking-change")
    assert [error["pointer"] for error in refused.json["errors"]] == ["/input/open_tickets"]
    assert page.post(path, data={}, headers=JSON).json["type"] == "/problems/invalid-input"


def test_a_promotion_that_breaks_nobody_asks_for_a_reason_alone(
    page: FlaskClient, parts: Parts, moved: ReleaseId, release: Release
) -> None:
    path = f"/releases/{release.id.version}/promote"
    shown = Page(page.get(path).text)
    assert "Nothing that breaks callers." in shown.text
    assert READY not in shown.text
    assert page.get(path, headers=JSON).json["breaking"] is False
    assert page.post(path, data={}).status_code == 422
    assert page.post(path, data={"reason": "wider"}).status_code == 303
    assert parts.registry.live() == release.id


def test_a_roll_back_says_what_it_changes_and_asks_for_a_reason_alone(
    page: FlaskClient, parts: Parts, moved: ReleaseId, release: Release
) -> None:
    path = "/releases/rollback"
    shown = Page(page.get(path).text)
    for words in (f"Roll back to {release.id}", f"Live now {moved}", "not limited and was 100"):
        assert words in shown.text
    assert page.get(path, headers=JSON).json["target"] == release.id.as_json()
    mistake = page.post(path, data={"reason": ""})
    assert (mistake.status_code, "Reason: A reason is needed" in Page(mistake.text).text) == (422, True)
    assert page.post(path, data={}, headers=JSON).json["errors"][0]["pointer"] == "/reason"
    assert parts.registry.live() == moved
    done = page.post(path, data={"reason": "too strict"})
    assert (done.status_code, done.headers["Location"]) == (303, "/releases")
    event = parts.registry.events()[0]
    assert (event.id, event.kind, event.reason, event.actor) == (release.id, "rolled_back", "too strict", "owner")


def test_a_roll_back_that_breaks_callers_says_so_and_goes_through(
    page: FlaskClient, parts: Parts, moved: ReleaseId, release: Release
) -> None:
    parts.registry.promote(release.id.version, "wider", "x")
    shown = Page(page.get("/releases/rollback").text)
    assert "This breaks callers" in shown.text
    assert READY not in shown.text
    assert page.post("/releases/rollback", data={"reason": "an emergency"}).status_code == 303
    assert (parts.registry.live(), parts.registry.events()[0].breaking) == (moved, True)


def test_where_there_is_nothing_to_move_to_it_is_said(page: FlaskClient, parts: Parts) -> None:
    for method in (page.get, page.post):
        response: Any = method("/releases/rollback", **({"data": {"reason": "x"}} if method == page.post else {}))
        assert response.status_code == 409
        assert "There is no earlier release to roll back to." in Page(response.text).text
    assert page.get("/releases/rollback", headers=JSON).json["type"] == "/problems/conflict"
    assert page.get("/releases/999/promote").status_code == 404
    assert page.post("/releases/999/promote", data={"reason": "x"}).status_code == 404
    assert page.get("/releases/one/promote").status_code == 404


def test_a_promotion_says_what_the_policy_changes(
    page: FlaskClient, parts: Parts, release: Release, releases_root: Path
) -> None:
    policy = replace(release.policy, cost_wrong=20, blind_share=0.5, reason_options=("<i>odd</i>",))
    other = releases.write(replace(release, policy=policy), releases_root)
    parts.registry.add(other, "test")
    shown = Page(page.get(f"/releases/{other.id.version}/promote").text)
    for words in ("Costs of a wrong answer and of a look 10 and 2 20 and 2", "Judged blind 10 % 50 %", "<i>odd</i>"):
        assert words in shown.text
    assert "Drawn by lot for a check" not in shown.text
    (parts.registry.folder(other.id) / "policy.json").write_text("{}")
    assert "Judged blind 10 % –" in Page(page.get(f"/releases/{other.id.version}/promote").text).text


def action(page: FlaskClient, path: str) -> str:
    """Return where the form of a move is sent."""
    [sent] = [str(a["action"]) for a in Page(page.get(path).text).all("form") if str(a["action"]).startswith(path)]
    return sent


def test_a_second_click_moves_nothing_further(
    page: FlaskClient, parts: Parts, release: Release, moved: ReleaseId
) -> None:
    forth = action(page, f"/releases/{release.id.version}/promote")
    for _ in range(2):
        assert page.post(forth, data={"reason": "back"}).status_code == 303
    assert parts.registry.live() == release.id
    once = action(page, "/releases/rollback")
    for _ in range(2):
        response = page.post(once, data={"reason": "again"})
        assert (response.status_code, response.headers["Location"]) == (303, "/releases")
        assert parts.registry.live() == moved
        assert f"{moved} answers from now on." in Page(page.get("/releases").text).text
    assert [event.kind for event in parts.registry.events()][:3] == ["rolled_back", "promoted", "promoted"]
    late = action(page, f"/releases/{release.id.version}/promote").replace(moved.digest[7:], "older")
    late = page.post(late.replace(release.id.digest[7:], "other"), data={"reason": "late"})
    assert late.status_code == 409
    assert f"{moved} is live now, which the page did not show yet" in Page(late.text).text
