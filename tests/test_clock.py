"""The machine's clock is put back an hour and forward a day: what came later stays later, and nothing fails."""

from typing import Any

import pytest
from flask.testing import FlaskClient

from reviewapp.parts import Parts
from reviewapp.release import Release

from .conftest import Clock

JUMPS = ({"hours": -1}, {"days": 1}, {"days": -1}, {"days": 30})


@pytest.fixture
def jumping(parts: Parts, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Clock:
    """One clock for all parts of the app, and for what is written down in somebody's name."""
    for one in (parts.ledger, parts.desk, parts.registry, parts.accounts, parts.accounts.attempts, parts.uploads):
        monkeypatch.setattr(one, "_clock", clock)
    monkeypatch.setattr(parts.registry.adapter(), "_clock", clock)
    for module in ("reviewapp.lookups", "reviewapp.ui.queue"):
        monkeypatch.setattr(f"{module}.utcnow", clock)
    return clock


@pytest.mark.parametrize("jump", JUMPS, ids=str)
def test_the_order_is_that_of_recording(
    api: Any, jumping: Clock, example: dict[str, Any], jump: dict[str, float]
) -> None:
    """Newest first is what was recorded last, page by page, whatever the clock said."""
    made = []
    for number in range(6):
        if number == 3:
            jumping.forward(**jump)
        made.append(api("post", "/predictions", json={"input": example}).json["id"])
    for sort, wanted in (("newest", made[::-1]), ("oldest", made)):
        found, cursor = [], ""
        while cursor is not None:
            page = api("get", f"/predictions?sort={sort}&limit=2{cursor and f'&cursor={cursor}'}", role="review").json
            found += [one["id"] for one in page["predictions"]]
            cursor = page["next"]
        assert found == wanted


@pytest.mark.parametrize("jump", JUMPS, ids=str)
def test_the_verdict_and_the_release_that_hold_are_the_last_ones(
    api: Any, parts: Parts, jumping: Clock, example: dict[str, Any], narrower: Release, jump: dict[str, float]
) -> None:
    made = api("post", "/predictions", json={"input": example}).json["id"]
    path = f"/predictions/{made}/verdict"
    assert api("put", path, json={"verdict": "agree"}, role="review").status_code == 200
    parts.registry.add(narrower, "test")
    parts.registry.promote(narrower.id.version, "narrower", "test", breaking=True)
    jumping.forward(**jump)
    assert api("put", path, json={"verdict": "unsure"}, role="review").json["verdict"]["verdict"] == "unsure"
    rolled_back = api("post", "/releases/rollback", json={"reason": "back"}, role="admin")
    assert rolled_back.status_code == 200
    assert api("get", "/releases/active").json["version"] == 1
    assert parts.registry.events()[0].kind == "rolled_back"
    assert api("delete", path, role="review").json["verdict"] is None


@pytest.mark.parametrize("jump", JUMPS, ids=str)
def test_no_page_and_no_route_fails(
    jumping: Clock, page: FlaskClient, api: Any, example: dict[str, Any], jump: dict[str, float]
) -> None:
    """A session that the jump ends leads to sign in; the queue, the monitor and retries go on."""
    waits = {"input": {**example, "open_tickets": 99}}
    key = {"Idempotency-Key": "one"}
    first = api("post", "/predictions", json=waits, headers=key).json["id"]
    leased = api("post", "/queue/next", role="review")
    assert leased.json["id"] == first
    jumping.forward(**jump)
    again = api("post", "/predictions", json=waits, headers=key)
    assert again.status_code == 201
    if jump != {"days": 30}:  # a key is remembered for a day
        assert again.json["id"] == first
    assert api("post", "/queue/next", role="review").status_code == 200
    judged = {"verdict": "unsure"}
    assert api("put", f"/predictions/{first}/verdict", json=judged, role="review").status_code == 200
    for path in ("/monitor", "/releases", "/releases/active", "/predictions", f"/predictions/{first}"):
        assert api("get", path, role="admin").status_code == 200, path
    statuses = {page.get(path).status_code for path in ("/", "/queue", "/history", "/monitor", "/releases", "/upload")}
    assert statuses == ({303} if jump.get("days", 0) > 0 else {200})
    for path in ("/livez", "/readyz"):
        assert page.get(path).status_code == 200
