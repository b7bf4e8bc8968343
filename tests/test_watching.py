"""The trigger is carried out: once, by whoever looks first, in all workers at once, and the ledger tells the story."""

import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from flask.testing import FlaskClient
from sqlalchemy import event as events
from sqlalchemy import insert, select

from reviewapp import intact
from reviewapp.adapter import ModelAdapter
from reviewapp.chain import linked
from reviewapp.errors import ReviewappError, StoreBusy
from reviewapp.factory import make_parts
from reviewapp.monitoring import monitor, tell_monitor
from reviewapp.parts import Parts
from reviewapp.policy import ALERT, PREVIOUS
from reviewapp.prediction import Call, timestamp, utcnow
from reviewapp.release import Release, ReleaseId
from reviewapp.releaselog import ALERTED, FELL_BACK, ROLLED_BACK
from reviewapp.tables import predictions, release_events, verdicts

from .verdicts import judge

pytestmark = pytest.mark.both


@pytest.fixture
def acts(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Let the rule of the live release be another one."""

    def change(**rule: Any) -> None:
        adapter = parts.registry.adapter()
        policy = adapter.release.policy
        changed = replace(policy, rollback=replace(policy.rollback, **rule))
        monkeypatch.setattr(adapter, "release", replace(adapter.release, policy=changed))

    return change


def answered(api: Any, example: dict[str, Any]) -> dict[str, Any]:
    made: dict[str, Any] = api("post", "/predictions", json={"input": example}).json
    return made


def test_a_trigger_that_fires_lets_the_baseline_answer_at_once_and_the_ledger_says_why(
    parts: Parts, api: Any, example: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    assert answered(api, example)["option"] == "model"
    judge(parts, "x" * 29)
    assert parts.watch.look() is None
    judge(parts, "x")
    with caplog.at_level(logging.ERROR, logger="reviewapp"):
        event = parts.watch.look()
    assert event is not None
    assert (event.kind, event.actor, event.id) == (FELL_BACK, "trigger", parts.registry.live())
    assert "30 of 30 audited answers of triage/1 were wrong" in event.reason
    assert event.reason in caplog.text
    assert event.figures["trigger"]["fired_at"] == 30
    assert (event.figures["metric"]["value"], event.figures["after"]) == (1.0, 31)
    assert parts.registry.events()[0] == event
    made = answered(api, example)
    assert (made["option"], made["comparison"]["option"]) == ("baseline", "model")
    assert api("get", "/releases", role="admin").json["releases"][0]["active"]
    intact.verify(parts.store)


def test_one_look_at_a_verdict_is_made_by_the_request_that_gives_it(
    parts: Parts, api: Any, example: dict[str, Any]
) -> None:
    judge(parts, "x" * 29 + ".")
    with parts.store.reading() as connection:
        last = connection.scalar(select(predictions.c.id).order_by(predictions.c.seq.desc()).limit(1))
    given = api("put", f"/predictions/{last}/verdict", json={"verdict": "disagree"}, role="review")
    assert given.status_code == 200
    assert answered(api, example)["option"] == "baseline"


def test_a_quiet_look_counts_no_predictions(parts: Parts) -> None:
    """However many there are, one more verdict costs the same: verdicts alone are read, and just the new ones."""
    judge(parts, "+" * 40 + "." * 40)
    asked: list[str] = []
    events.listen(parts.store.engine, "before_cursor_execute", lambda _c, _k, sql, *_: asked.append(sql))
    assert parts.watch.look() is None
    assert asked
    assert [sql for sql in asked if "count(" in sql.lower()] == []


def test_a_look_that_fails_costs_nobody_their_verdict(
    parts: Parts, api: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    judge(parts, ".")
    with parts.store.reading() as connection:
        last = connection.scalar(select(predictions.c.id))

    def busy() -> None:
        raise StoreBusy("The ledger is locked.")

    monkeypatch.setattr(parts.registry, "standing", busy)
    given = api("put", f"/predictions/{last}/verdict", json={"verdict": "disagree"}, role="review")
    assert given.status_code == 200
    assert "could not be looked at: The ledger is locked." in caplog.text


def test_many_who_look_at_once_fire_once(parts: Parts) -> None:
    """Each with a ledger of their own, as workers have."""
    judge(parts, "x" * 40)
    workers = [make_parts(parts.settings) for _ in range(4)]
    for worker in workers:
        worker.registry.adapter()
    with ThreadPoolExecutor(4) as pool:
        events = [one for one in pool.map(lambda worker: worker.watch.look(), workers) if one is not None]
    assert len(events) == 1
    assert [event.kind for event in parts.registry.events()].count(FELL_BACK) == 1
    for worker in workers:
        assert worker.registry.adapter().option == "baseline"
        worker.store.close()


def test_the_baseline_answers_by_its_own_threshold_and_the_model_is_asked_beside_it(
    parts: Parts, adapter: ModelAdapter, example: dict[str, Any]
) -> None:
    twin = adapter.answering("baseline")
    assert adapter.answering("model") is adapter
    assert twin.policy.threshold == adapter.release.evaluation["baseline_threshold"]
    assert adapter.policy.threshold == adapter.release.policy.threshold != twin.policy.threshold
    [fallen] = twin.predict([example], Call(dry_run=True))
    [model] = adapter.predict([example], Call(dry_run=True))
    [baseline] = adapter.predict([example], Call(dry_run=True), option="baseline")
    assert fallen.output == baseline.output
    assert fallen.comparison == {"option": "model", "output": model.output}
    assert (fallen.decision == "review") is (fallen.output["confidence"] < twin.policy.threshold)


def test_the_figures_begin_anew_for_what_answers_now_and_the_shadow_is_watched(parts: Parts, api: Any) -> None:
    judge(parts, "x" * 30)
    parts.watch.look()
    found = api("get", "/monitor", role="review").json
    assert found["answers_with"] == "baseline"
    assert (found["metric"]["verdicts"], found["metric"]["drawn"]) == (0, 0)
    assert (found["trigger"]["state"], found["trigger"]["fired_at"]) == ("above_limit", 30)
    assert found["trigger"]["fired"]["release"]["version"] == 1
    assert found["trigger"]["fired"]["metric"]["wrong"] == 30
    judge_baseline(parts, "++x-", model="bug")
    found = api("get", "/monitor", role="review").json
    assert (found["metric"]["verdicts"], found["metric"]["wrong"]) == (4, 2)
    # `access` was right twice, so `bug` was wrong; `x` says nothing of `bug`; corrected to `bug`, it was right
    assert (found["shadow"]["verdicts"], found["shadow"]["wrong"]) == (3, 2)
    assert parts.watch.look() is None


def judge_baseline(parts: Parts, signs: str, model: str) -> None:
    """As `judge` does, answers of the baseline beside which the model said something."""
    before = len(signs)
    judge(parts, signs)
    last = select(predictions.c.seq).order_by(predictions.c.seq.desc()).limit(before)
    beside = {"option": "model", "output": {"label": model, "confidence": 1.0, "probabilities": {model: 1.0}}}
    with parts.store.writing() as connection:
        numbers = list(connection.scalars(last))
        connection.execute(
            predictions.update().where(predictions.c.seq.in_(numbers)).values(option="baseline", comparison=beside)
        )


def test_a_promotion_of_the_same_release_lets_its_model_answer_again_and_begins_anew(
    parts: Parts, api: Any, example: dict[str, Any]
) -> None:
    judge(parts, "x" * 30)
    parts.watch.look()
    refused = api("post", "/releases/1/promote", json={}, role="admin")
    assert refused.status_code == 422
    moved = api("post", "/releases/1/promote", json={"reason": "the form sent wrong tiers; mended"}, role="admin")
    assert moved.status_code == 200
    assert answered(api, example)["option"] == "model"
    found = api("get", "/monitor", role="review").json
    assert (found["trigger"]["state"], found["trigger"]["fired"]) == ("too_few_verdicts", None)
    judge(parts, "x" * 40)
    assert parts.watch.look() is None  # it cools down for a day
    judge_after(parts, "x" * 40, hours=25)
    assert parts.watch.look() is not None


def judge_after(parts: Parts, signs: str, hours: float) -> None:
    """As `judge` does, some time from now."""
    judge(parts, signs.replace("x", "."))
    later = timestamp(utcnow() + timedelta(hours=hours))
    last = select(predictions.c.seq).order_by(predictions.c.seq.desc()).limit(len(signs))
    with parts.store.writing() as connection, linked(connection, "verdicts"):
        rows = [
            {"prediction_seq": seq, "verdict": "disagree", "reasons": [], "author": "ann", "created_at": later}
            for seq in connection.scalars(last)
        ]
        connection.execute(insert(verdicts), rows)


def test_the_previous_release_answers_where_the_policy_says_so(
    parts: Parts, moved: ReleaseId, acts: Callable[..., None], api: Any
) -> None:
    acts(action=PREVIOUS)
    judge(parts, "x" * 30)
    event = parts.watch.look()
    assert event is not None
    assert (event.kind, event.id.version, event.figures["release"]["version"]) == (ROLLED_BACK, 1, moved.version)
    assert event.differences
    adapter = parts.registry.adapter()
    assert (adapter.release.id.version, adapter.option) == (1, "model")
    found = api("get", "/monitor", role="review").json
    assert (found["release"]["version"], found["trigger"]["fired"]["release"]["version"]) == (1, moved.version)


def test_without_a_previous_release_or_where_it_does_not_load_the_baseline_answers(
    parts: Parts, acts: Callable[..., None]
) -> None:
    acts(action=PREVIOUS)
    judge(parts, "x" * 30)
    event = parts.watch.look()
    assert event is not None
    assert event.kind == FELL_BACK
    assert parts.registry.adapter().option == "baseline"


def test_another_release_is_not_held_back_by_the_cool_down_of_the_one_before(parts: Parts, narrower: Release) -> None:
    judge(parts, "x" * 30)
    assert parts.watch.look() is not None
    parts.registry.add(narrower, "test")
    parts.registry.promote(narrower.id.version, "better", "test", breaking=True)
    judge(parts, "x" * 30)
    event = parts.watch.look()
    assert event is not None
    assert event.concerns == narrower.id


def test_an_alert_changes_nothing_but_the_log_and_comes_again_after_it_has_cooled_down(
    parts: Parts, acts: Callable[..., None], api: Any
) -> None:
    acts(action=ALERT)
    judge(parts, "x" * 30)
    event = parts.watch.look()
    assert event is not None
    assert (event.kind, parts.registry.adapter().option) == (ALERTED, "model")
    assert api("get", "/monitor", role="review").json["trigger"]["state"] == "above_limit"
    judge(parts, "x" * 30)
    assert parts.watch.look() is None
    judge_after(parts, "x" * 30, hours=25)
    again = parts.watch.look()
    assert again is not None
    assert again.kind == ALERTED
    assert parts.registry.live() == event.id
    intact.verify(parts.store)


def test_a_roll_back_by_hand_after_the_trigger_goes_to_the_release_before(
    parts: Parts, moved: ReleaseId, api: Any
) -> None:
    judge(parts, "x" * 30)
    assert parts.watch.look() is not None
    assert parts.registry.adapter().option == "baseline"
    back = api("post", "/releases/rollback", json={"reason": "its labels are off"}, role="admin")
    assert (back.status_code, back.json["version"]) == (200, 1)
    adapter = parts.registry.adapter()
    assert (adapter.release.id.version, adapter.option) == (1, "model")


def test_a_figure_of_an_event_that_was_changed_is_found(parts: Parts) -> None:
    judge(parts, "x" * 30)
    parts.watch.look()
    intact.verify(parts.store)
    with parts.store.writing() as connection:
        connection.execute(
            release_events.update().where(release_events.c.kind == FELL_BACK).values(figures={"after": 1})
        )
    with pytest.raises(ReviewappError, match="changed after it was recorded"):
        intact.verify(parts.store)


def test_ready_stays_ready_after_the_trigger_fired(parts: Parts, page: FlaskClient) -> None:
    judge(parts, "x" * 30)
    parts.watch.look()
    assert page.get("/readyz").status_code == 200


def test_while_it_cools_down_the_monitor_says_that_it_does_nothing_although_the_verdicts_speak_against_the_model(
    parts: Parts, api: Any, page: FlaskClient
) -> None:
    judge(parts, "x" * 30)
    fired = parts.watch.look()
    assert fired is not None
    parts.registry.promote(1, "the cause was found", "ann")
    judge(parts, "x")
    trigger = api("get", "/monitor", role="review").json["trigger"]
    assert trigger["state"] == "too_few_verdicts"
    until = timestamp(datetime.fromisoformat(fired.created_at) + timedelta(hours=24))
    assert trigger["not_before"] == until
    assert "cooling down" in page.get("/monitor").text
    judge(parts, "x" * 39)
    assert parts.watch.look() is None
    trigger = api("get", "/monitor", role="review").json["trigger"]
    assert (trigger["state"], trigger["fired_at"], trigger["not_before"]) == ("above_limit", None, until)
    shown = page.get("/monitor").text
    assert "The verdicts speak against the limit, and the trigger does nothing yet." in shown
    assert "The trigger has fired" not in shown
    release, seen = parts.registry.adapter().release, parts.registry.standing()
    assert f"after {until}" in tell_monitor(monitor(release, parts.ledger, seen))


def test_once_it_has_cooled_down_on_good_verdicts_what_was_held_back_is_forgotten(parts: Parts) -> None:
    judge(parts, "x" * 30)
    assert parts.watch.look() is not None
    parts.registry.promote(1, "the cause was found", "ann")
    judge(parts, "x" * 30)
    judge(parts, "+" * 300)
    assert parts.watch.look() is None
    release, seen = parts.registry.adapter().release, parts.registry.standing()
    trigger = monitor(release, parts.ledger, seen, utcnow() + timedelta(hours=26))["trigger"]
    assert (trigger["state"], trigger["fired_at"], trigger["not_before"]) == ("within_limit", None, None)


def test_after_it_led_back_what_is_told_of_the_firing_is_of_the_release_it_fired_for(
    parts: Parts, moved: ReleaseId, acts: Callable[..., None]
) -> None:
    acts(action=PREVIOUS)
    judge(parts, "x" * 31)
    assert parts.watch.look() is not None
    release, seen = parts.registry.adapter().release, parts.registry.standing()
    told = tell_monitor(monitor(release, parts.ledger, seen))
    fired = f"for triage/{moved.version}, 31 of 31 wrong (rolled_back); for what answers now: waits for 30 verdicts"
    assert fired in told
    assert "None" not in told


def test_what_the_baseline_answers_to_the_end_of_a_file_says_nothing_of_the_model_that_answers_again(
    parts: Parts, api: Any
) -> None:
    judge(parts, "x" * 30)
    assert parts.watch.look() is not None
    before = parts.registry.adapter()
    parts.registry.promote(1, "the cause was found", "ann")
    made = before.predict([dict(row.input) for row in before.release.golden] * 20, Call(source="bulk", client="ann"))
    drawn = [one.id for one in made if one.audit]
    assert drawn
    for one in drawn:
        api("put", f"/predictions/{one}/verdict", json={"verdict": "disagree"}, role="review")
    found = api("get", "/monitor", role="review").json
    assert (found["answers_with"], found["metric"]["verdicts"], found["trigger"]["evidence"]) == ("model", 0, 0)
