"""A replay finds on recorded data what the service found, and what another rule would have found instead."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from sqlalchemy import insert

from reviewapp import cli
from reviewapp.errors import UsageError
from reviewapp.ledger import Ledger
from reviewapp.monitoring import trigger_of
from reviewapp.parts import Parts
from reviewapp.policy import ALERT, PREVIOUS, Policy, RollbackRule
from reviewapp.prediction import Call, timestamp
from reviewapp.release import ReleaseId
from reviewapp.releaselog import ALERTED, BUILT, FELL_BACK, PROMOTED, ROLLED_BACK, ReleaseEvent
from reviewapp.replaying import AGES, Span, read_span, replay, tell_replay, terms
from reviewapp.reviews import Judged, Reviews, Said
from reviewapp.store import Store
from reviewapp.tables import release_events
from reviewapp.trigger import ABOVE, Trigger

from .conftest import Clock
from .test_ledger import prediction

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
ONE, TWO = ReleaseId("triage", 1, "sha256:one"), ReleaseId("triage", 2, "sha256:two")
RULE = RollbackRule(limit=0.2, minimum_verdicts=5, window_verdicts=20, cool_down_hours=0)
ALL = Span()


def at(hours: float) -> str:
    return timestamp(BEGIN + timedelta(hours=hours))


def event(kind: str, hours: float, release: ReleaseId = ONE, **figures: Any) -> ReleaseEvent:
    return ReleaseEvent(kind, release, "a reason", "ann", at(hours), figures=figures)


LIVE = [event(PROMOTED, 0, after=0), event(BUILT, 0)]


def given(kinds: Sequence[str], first: int = 1) -> list[Judged]:
    """Return answers, the nth made half an hour before n o'clock and judged then."""
    said = [Said(n, kind, None, None, "ann", at(n), blind=False) for n, kind in enumerate(kinds, first)]
    output = {"label": "a"}
    return [Judged(str(one.seq), output, True, False, "", said=(one,), number=one.seq) for one in said]


def before(time: str) -> int:
    """The number of the newest answer at a time, where they are made as `given` says."""
    return int((datetime.fromisoformat(time) - BEGIN) / timedelta(hours=1) + 0.5)


def fired(found: dict[str, Any]) -> list[tuple[str, int, int]]:
    return [(one["at"], one["n"], one["wrong"]) for term in found["terms"] for one in term["firings"]]


WRONG = ["disagree"] * 12


def test_the_figures_of_a_term_and_of_its_firing_are_told() -> None:
    found = replay(RULE, LIVE, ALL, lambda _: given(["agree", *WRONG]), before)
    [term] = found["terms"]
    assert (term["release"], term["answers_with"], term["from"], term["to"]) == (ONE.as_json(), "model", at(0), None)
    assert (term["verdicts"], term["wrong"], term["value"]) == (13, 12, 12 / 13)
    assert term["low"] < term["value"] < term["high"]
    assert fired(found) == [(at(6), 6, 5), (at(11), 5, 5)]  # the second begins anew
    first = term["firings"][0]
    assert first["evidence"] >= first["needed"] == pytest.approx(20)
    assert (first["action"], first["answers"]) == ("baseline", ONE.as_json())
    told = tell_replay(found)
    assert f"It would have fired at {at(6)}, after 6 verdicts, 5 wrong (evidence" in told
    assert "The rule would have fired 2 times" in told
    assert "the trigger did nothing" in told


def by_the_service(
    rule: RollbackRule, judged: Sequence[Judged], newest: Callable[[str], int]
) -> list[tuple[str, Trigger]]:
    """Return what the watch would do that looks after each verdict, with all that is known by then."""
    after, last, found = 0, None, []
    for seq, when in sorted((said.seq, said.created_at) for one in judged for said in one.said):
        until = [
            replace(one, said=tuple(said for said in one.said if said.seq <= seq))
            for one in judged
            if one.number > after and one.said[0].seq <= seq
        ]
        seen = trigger_of(rule, Reviews({}, 0, until))
        if seen.state == ABOVE:
            seen = trigger_of(rule, Reviews({}, 0, until), last)
        if seen.state == ABOVE:
            after, last = newest(when), when
            found.append((when, seen))
    return found


@pytest.mark.parametrize("seed", range(30))
def test_looking_back_is_looking_after_each_verdict_also_where_they_were_changed_or_taken_back(seed: int) -> None:
    rng, seqs = np.random.default_rng(seed), count(1)
    rule = replace(
        RULE, consecutive_failures=int(rng.integers(1, 3)), cool_down_hours=int(rng.choice([0, 6, 48])),
        minimum_verdicts=int(rng.choice([0, 5, 10])),
    )  # fmt: skip
    said: dict[int, list[Said]] = {}
    for hour in range(1, 121):
        again = rng.random() < 0.3
        number = int(rng.integers(max(1, hour - 15), hour + 1)) if again else hour
        kind = str(rng.choice(["agree", "disagree", "unsure", "withdrawn"], p=[0.5, 0.35, 0.05, 0.1]))
        one = Said(next(seqs), kind, None, None, "ann", at(hour), blind=False)
        said.setdefault(number, []).append(one)
    judged = [
        Judged(str(n), {"label": "a"}, bool(rng.random() < 0.9), False, "", said=tuple(all_said), number=n)
        for n, all_said in said.items()
    ]
    found = replay(rule, LIVE, ALL, lambda _: judged, before)
    audited = [one for one in judged if one.audit]
    service = by_the_service(rule, audited, before)
    assert [(one["at"], one["n"], one["wrong"], one["fired_at"]) for one in found["terms"][0]["firings"]] == [
        (when, one.n, one.wrong, one.fired_at) for when, one in service
    ]
    assert found["terms"][0]["verdicts"] == len(Reviews({}, 0, audited).known)


def test_some_of_those_changed_verdicts_did_matter() -> None:
    """A right answer taken back lets the wrong ones after it speak, at that time."""
    right = ["agree"] * 9
    judged = given([*right, *["disagree"] * 4])
    assert fired(replay(RULE, LIVE, ALL, lambda _: judged, before)) == []
    back = [
        replace(one, said=(*one.said, Said(100 + one.number, "withdrawn", None, None, "ann", at(20), blind=False)))
        for one in judged[:9]
    ]
    one_more = given(["disagree"], 200)
    found = replay(RULE, LIVE, ALL, lambda _: [*back, *judged[9:], *one_more], before)
    assert fired(found) == [(at(200), 5, 5)]


def test_a_stricter_rule_fires_earlier_and_a_laxer_one_not_at_all() -> None:
    judged = given(["agree", "disagree"] * 40)

    def first(**changes: Any) -> int | None:
        found = fired(replay(replace(RULE, **changes), LIVE, ALL, lambda _: judged, before))
        return found[0][1] if found else None

    assert (first(limit=0.05) or 99) < (first() or 0) < (first(confidence=0.999) or 99)
    assert first(limit=0.5) is None


def test_a_span_cuts_and_what_was_known_before_it_is_not_new() -> None:
    judged = given(["agree", *WRONG])
    again = Said(99, "disagree", None, None, "bob", at(8.5), blind=False)  # says the same of the fourth
    judged[3] = replace(judged[3], said=(*judged[3].said, again))
    found = replay(RULE, LIVE, Span(at(6), at(12)), lambda _: judged, before)
    assert (found["span"]["from"], found["span"]["to"]) == (at(6), at(12))
    [term] = found["terms"]
    assert (term["from"], term["to"], term["verdicts"], term["wrong"]) == (at(6), at(12), 6, 6)
    assert fired(found) == [(at(10), 5, 5)]
    assert replay(RULE, LIVE, Span(at(-9), at(-5)), lambda _: judged, before)["terms"] == []


def test_it_cools_down_between_its_own_firings_but_not_from_one_release_to_the_next() -> None:
    rule = replace(RULE, cool_down_hours=7)
    assert fired(replay(rule, LIVE, ALL, lambda _: given(WRONG), before)) == [(at(5), 5, 5), (at(12), 7, 7)]
    log = [event(PROMOTED, 5.6, TWO, after=5), *LIVE]
    found = replay(rule, log, ALL, lambda one: given(WRONG[:5]) if one == ONE else given(WRONG, 6), before)
    assert fired(found) == [(at(5), 5, 5), (at(10), 5, 5), (at(17), 7, 7)]


def test_each_release_counts_for_itself_and_only_while_it_answered() -> None:
    log = [event(PROMOTED, 8.6, TWO, after=8), *LIVE]
    late = Said(99, "disagree", None, None, "ann", at(30), blind=False)
    of_one = [*given(WRONG[:8]), Judged("9", {"label": "a"}, True, False, "", said=(late,), number=8)]
    of_two = given(["agree"] * 4, 9)
    found = replay(RULE, log, ALL, lambda one: of_one if one == ONE else of_two, before)
    told = [(one["release"]["version"], one["to"], one["verdicts"], one["wrong"]) for one in found["terms"]]
    assert told == [(1, at(8.6), 8, 8), (2, None, 4, 0)]


def test_the_rule_says_nothing_of_the_baseline_and_an_alert_ends_no_term() -> None:
    log = [
        event(FELL_BACK, 13, trigger={}, after=12),
        event(ALERTED, 5.5, trigger={}, after=5),
        *LIVE,
    ]
    late = [replace(one, option="baseline") for one in given(WRONG, 13)]
    of_a_file = [replace(one, number=one.number - 12) for one in late]  # which was under way when the model began
    found = replay(RULE, log, ALL, lambda _: [*given(WRONG), *of_a_file, *late], before)
    assert [(one["answers_with"], one["verdicts"]) for one in found["terms"]] == [("model", 12), ("baseline", 12)]
    assert fired(found) == [(at(5), 5, 5), (at(10), 5, 5)]
    assert [one["event"] for one in found["happened"]] == [ALERTED, FELL_BACK]
    assert f"What happened at {at(13)} (fell_back): a reason" in tell_replay(found)
    assert "the baseline, of which the rule says nothing" in tell_replay(found)


def test_it_says_what_would_have_answered() -> None:
    log = [event(PROMOTED, 5.6, TWO, after=5), *LIVE]
    rule = replace(RULE, action=PREVIOUS)
    found = replay(rule, log, ALL, lambda one: given(WRONG[:5]) if one == ONE else given(WRONG[:5], 6), before)
    first, second = (one["firings"][0] for one in found["terms"])
    assert (first["action"], first["answers"]) == ("baseline", ONE.as_json())  # there was none before it
    assert (second["action"], second["answers"]) == (PREVIOUS, ONE.as_json())
    assert "triage/1 would have answered from then on" in tell_replay(found)
    assert "The rule would have fired 2 times" in tell_replay(found)
    alert = replay(replace(RULE, action=ALERT), LIVE, ALL, lambda _: given(WRONG[:5]), before)
    assert "an alert, and nothing else" in tell_replay(alert)
    assert "The rule would have fired once" in tell_replay(alert)


def test_terms_follow_promotions_and_roll_backs() -> None:
    log = [
        event(ROLLED_BACK, 9, ONE, after=80), event(FELL_BACK, 7, TWO, trigger={}, after=70),
        event(PROMOTED, 4, TWO, after=40), *LIVE,
    ]  # fmt: skip
    told = [(one.id.version, one.option, one.after, one.before and one.before.version) for one in terms(log)]
    assert told == [(1, "model", 0, None), (2, "model", 40, 1), (2, "baseline", 70, 1), (1, "model", 80, None)]
    assert [one.span.until for one in terms(log)] == [at(4), at(7), at(9), AGES]
    assert terms([]) == []


@pytest.mark.parametrize(
    ("text", "since", "until"),
    [
        ("2026-01-01..2026-01-31", "2026-01-01T00:00:00.000Z", "2026-02-01T00:00:00.000Z"),  # the day as a whole
        ("2026-01-01..2026-01-01", "2026-01-01T00:00:00.000Z", "2026-01-02T00:00:00.000Z"),
        ("2026-01-01T08:00..2026-01-01T09:00:00Z", "2026-01-01T08:00:00.000Z", "2026-01-01T09:00:00.000Z"),
        ("2026-01-01T01:00+01:00..", "2026-01-01T00:00:00.000Z", AGES),
        ("..2026-02-01", "", "2026-02-02T00:00:00.000Z"),
        ("..", "", AGES),
    ],
)
def test_a_span_is_days_or_times_and_may_be_open(text: str, since: str, until: str) -> None:
    assert read_span(text) == Span(since, until)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("2026-01-01", "FROM..TO"),
        ("", "FROM..TO"),
        ("2026-02-01..2026-01-01", "FROM must be before TO"),
        ("2026-01-01T08:00..2026-01-01T08:00", "FROM must be before TO"),
        ("yesterday..", "'yesterday' is neither a day"),
        ("2026-01-01...2026-02-01", "'.2026-02-01' is neither"),
        ("..9999-12-31", "'9999-12-31' is neither"),
    ],
)
def test_a_span_that_is_none_is_named(text: str, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        read_span(text)


def test_the_newest_prediction_at_a_time_is_the_last_one_made_by_then(store: Store, clock: Clock) -> None:
    ledger = Ledger(store, clock)
    assert ledger.last_prediction(timestamp(clock())) == 0
    times = []
    for _ in range(3):
        clock.forward(minutes=1)
        times.append(timestamp(clock()))
        ledger.add_predictions([prediction(clock), prediction(clock)], Call())
    assert [ledger.last_prediction(time) for time in times] == [2, 4, 6]


# ---- the service's own ledger -----------------------------------------------------------------------------------


@pytest.fixture
def recorded(parts: Parts, api: Any, example: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Let people judge answers, and change their mind, until the trigger fires; return its event."""
    monkeypatch.setattr(Policy, "audited", lambda self, prediction_id: True)
    rng, ids = np.random.default_rng(3), []
    for _ in range(120):
        ids.append(api("post", "/predictions", json={"input": example}).json["id"])
        verdicts = [(ids[-1], "disagree" if rng.random() < 0.45 else "agree")]
        if rng.random() < 0.2:
            verdicts.append((str(rng.choice(ids)), str(rng.choice(["agree", "disagree", "unsure"]))))
        for prediction_id, kind in verdicts:
            api("put", f"/predictions/{prediction_id}/verdict", json={"verdict": kind}, role="review")
        if parts.registry.events()[0].fired:
            break
    return [one.as_json() for one in parts.registry.events() if one.fired]


@pytest.fixture
def run(parts: Parts) -> Callable[..., Result]:
    names = {"REVIEWAPP_INSTANCE": parts.settings.instance, "REVIEWAPP_RELEASES": parts.settings.releases}
    environment = {name: str(value) for name, value in names.items()}
    environment["REVIEWAPP_DATABASE_URL"] = parts.settings.database_url

    def command(*words: str, **settings: str) -> Result:
        return CliRunner().invoke(cli.main, ["monitor", *words], env={**environment, **settings})

    return command


def test_the_own_rule_over_the_own_ledger_fires_where_the_service_did(
    parts: Parts, recorded: list[dict[str, Any]], run: Callable[..., Result], tmp_path: Path
) -> None:
    [happened] = recorded
    kept = parts.store.path.read_bytes()
    shown = run("--replay", "..", "--json")
    assert shown.exit_code == 0
    found = json.loads(shown.stdout)
    assert found["happened"] == [happened]
    model, baseline = found["terms"]
    [firing] = model["firings"]
    really = happened["figures"]["trigger"]
    assert {name: firing[name] for name in really} == pytest.approx(really)
    assert (model["answers_with"], baseline["answers_with"], baseline["verdicts"]) == ("model", "baseline", 0)
    # a stricter rule, from a file
    policy = parts.registry.adapter().release.policy
    strict = replace(policy, rollback=replace(policy.rollback, limit=0.05, minimum_verdicts=5))
    (tmp_path / "policy.json").write_text(json.dumps(strict.as_json()))
    told = run("--replay", "..", "--policy", str(tmp_path / "policy.json"))
    assert told.exit_code == 0
    assert "The rule: an error rate above 0.05" in told.stdout
    stricter = json.loads(run("--replay", "..", "--policy", str(tmp_path / "policy.json"), "--json").stdout)
    assert stricter["terms"][0]["firings"][0]["n"] < firing["n"]
    assert parts.store.path.read_bytes() == kept


def test_the_rule_of_the_live_release_is_simulated_on_requests_as_its_evaluation_expects_them(
    parts: Parts, run: Callable[..., Result]
) -> None:
    shown = run("--simulate", "--months", "20")
    assert shown.exit_code == 0
    seen = parts.registry.adapter().release.evaluation["results"]["test"]["model"]
    assert f"without a person ({1 - seen['referred']:.3f})" in " ".join(shown.stdout.split())


@pytest.mark.parametrize("words", [["--simulate"], ["--replay", ".."]])
def test_a_live_release_that_does_not_load_is_said_and_a_policy_of_its_own_does_without(
    run: Callable[..., Result], words: list[str], tmp_path: Path
) -> None:
    nowhere = {"REVIEWAPP_RELEASES": str(tmp_path / "nowhere")}
    shown = run(*words, **nowhere)
    assert (shown.exit_code, "triage/1 does not load: " in shown.stderr) == (2, True)
    policy = Policy(cost_wrong=10, cost_review=2, rollback=RULE)
    (tmp_path / "policy.json").write_text(json.dumps(policy.as_json()))
    assert run("--replay", "..", "--policy", str(tmp_path / "policy.json"), **nowhere).exit_code == 0


def test_an_event_of_an_older_version_tells_no_number_and_all_of_its_time_counts(parts: Parts) -> None:
    with parts.store.writing() as connection:
        connection.execute(insert(release_events).values(
            kind=PROMOTED, reason="old", actor="ann", created_at=at(0), breaking=False, differences=[], figures=None,
            **ONE.as_json(),
        ))  # fmt: skip
    [*_, last] = terms(parts.registry.events())
    assert (last.id, last.after) == (ONE, 0)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--replay", "x"], "FROM..TO"),
        (["--replay", "..", "--simulate"], "either --replay or --simulate"),
        (["--policy", "FILE"], "--policy is of --replay and --simulate"),
        (["--replay", "..", "--seed", "3"], "--months and --seed are of --simulate"),
        (["--months", "30"], "--months and --seed are of --simulate"),
        (["--replay", "..", "--policy", "FILE"], "policy.json must be an object with just"),
        (["--simulate", "--policy", "BROKEN"], "broken.json: "),
        (["--simulate", "--policy", "none.json"], "does not exist"),
    ],
)
def test_wrong_use_is_said_in_a_sentence(
    run: Callable[..., Result], words: list[str], says: str, tmp_path: Path
) -> None:
    (tmp_path / "file.json").write_text('{"limit": 0.2}')
    (tmp_path / "broken.json").write_text('{"limit": 0.2')
    files = {"FILE": str(tmp_path / "file.json"), "BROKEN": str(tmp_path / "broken.json")}
    shown = run(*(files.get(word, word) for word in words))
    assert (shown.exit_code, says in shown.stderr, shown.stdout) == (2, True, "")
