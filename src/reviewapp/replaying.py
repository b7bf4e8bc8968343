"""Replay: what a rollback rule would have done on what the ledger holds, looked at after each verdict at its time.

It goes through the terms in which a release answered with one option, and in each through the verdicts in their order,
also those that were changed later: what was held at a time is what was known by then. After a firing the evidence
begins anew with the predictions that came after it, as in the service (watching.py). What the release went on to answer
is as it was recorded: nobody knows what would have been said of the answers that another rule would have put in place.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from .errors import UsageError
from .evaluation import wilson
from .monitoring import cooled
from .policy import ALERT, BASELINE, PREVIOUS, RollbackRule
from .prediction import timestamp
from .release import ReleaseId
from .releaselog import ALERTED, BUILT, ReleaseEvent, option_of, way_back
from .reviews import Judged, rejects
from .trigger import Trigger, watch

AGES = "9999-12-31T23:59:59.999Z"  # the end of a span that is open
_DAY = re.compile(r"\d{4}-\d{2}-\d{2}")


@dataclass(frozen=True)
class Span:
    """From a time on and before another one, as the ledger writes times."""

    since: str = ""
    until: str = AGES

    def __contains__(self, at: str) -> bool:
        return self.since <= at < self.until

    def meets(self, other: Span) -> bool:
        return self.since < other.until and other.since < self.until


@dataclass(frozen=True)
class Term:
    """A release answered with `option` while `span` lasted: the predictions with a number above `after`, up to `last`.

    Moves of older versions tell no number; then the span alone counts. `before` is the release that a roll-back would
    have gone to.
    """

    id: ReleaseId
    option: str
    after: int
    last: int | None
    span: Span
    before: ReleaseId | None


@dataclass(frozen=True)
class Firing:
    """When a rule would have fired, the figures that led to it, and which option of which release would answer then."""

    at: str
    trigger: Trigger
    action: str
    release: ReleaseId


class _Change(NamedTuple):
    """With a verdict, what is held of an answer changed: `wrong` is None where it is no longer known."""

    seq: int
    at: str
    number: int
    wrong: bool | None


def read_span(text: str) -> Span:
    """Read FROM..TO: days or ISO times (without a zone: UTC), each of which may be left out; raise UsageError.

    A day is meant as a whole, whichever of the two it is; a time TO is the first that does not count.
    """
    first, dots, last = text.partition("..")
    if not dots:
        raise UsageError(f"A span is written FROM..TO, as in 2026-01-01..2026-01-31 or 2026-01-01.., not {text!r}.")
    span = Span(_time(first) if first else "", _time(last, whole_day=True) if last else AGES)
    if span.since >= span.until:
        raise UsageError(f"Nothing lies in {text}: FROM must be before TO.")
    return span


def _time(text: str, *, whole_day: bool = False) -> str:
    try:
        moment = datetime.fromisoformat(text)
        if whole_day and _DAY.fullmatch(text):
            moment += timedelta(days=1)
        return timestamp(moment if moment.tzinfo else moment.replace(tzinfo=UTC))
    except (ValueError, OverflowError):
        raise UsageError(f"{text!r} is neither a day (2026-01-31) nor a time (2026-01-31T12:00:00Z).") from None


def terms(log: Sequence[ReleaseEvent]) -> list[Term]:
    """Return the terms that a release log (newest first) tells of, the oldest first; an alert ends none."""
    moves = [event for event in reversed(log) if event.kind not in (BUILT, ALERTED)]
    found = []
    for i, event in enumerate(moves):
        way, end = way_back(moves[i::-1]), moves[i + 1] if i + 1 < len(moves) else None
        span = Span(event.created_at, AGES if end is None else end.created_at)
        after, last = event.figures.get("after", 0), None if end is None else end.figures.get("after")
        found.append(Term(event.id, option_of(event.kind), after, last, span, way[-2] if len(way) > 1 else None))
    return found


def replay(
    rule: RollbackRule,
    log: Sequence[ReleaseEvent],
    span: Span,
    judged: Callable[[ReleaseId], Sequence[Judged]],
    last_prediction: Callable[[str], int],
) -> dict[str, Any]:
    """Return what a rule would have done in a span, term by term, and what the trigger did do.

    `log` is the release log, newest first; `judged` gives the judged answers of a release, `last_prediction` the number
    of the newest prediction at a time.
    """
    told: list[dict[str, Any]] = []
    last: dict[ReleaseId, str] = {}  # of each release, when the rule fired last
    for term in terms(log):
        if not term.span.meets(span):
            continue
        changes = _changes(term, span, judged(term.id))
        fired = _firings(rule, term, changes, last_prediction, last.get(term.id)) if term.option == "model" else []
        if fired:
            last[term.id] = fired[-1].at
        told.append(_told(term, span, changes, fired))
    happened = [event.as_json() for event in reversed(log) if event.fired and event.created_at in span]
    between = {"from": span.since or None, "to": None if span.until == AGES else span.until}
    return {"span": between, "rule": asdict(rule), "terms": told, "happened": happened}


def _changes(term: Term, span: Span, judged: Sequence[Judged]) -> list[_Change]:
    """Return what became known of the audited answers of a term in a span, in the order of knowing."""
    found = []
    for one in judged:
        if not one.audit or one.option != term.option or one.number <= term.after:
            continue
        if term.last is not None and one.number > term.last:
            continue
        held: bool | None = None
        for said in one.said:
            wrong = rejects(said, one.output)
            at = said.created_at  # the verdict that ended the term may have been given in the same millisecond
            if wrong is not held and at in span and term.span.since <= at <= term.span.until:
                found.append(_Change(said.seq, at, one.number, wrong))
            held = wrong
    return sorted(found)


def _firings(
    rule: RollbackRule,
    term: Term,
    changes: Sequence[_Change],
    last_prediction: Callable[[str], int],
    fired_before: str | None,
) -> list[Firing]:
    """Return where a rule fires, looked at after each change."""
    fired = []
    known: dict[int, _Change] = {}  # by the prediction's number, in the order of knowing
    while changes:
        sizes = _take_in(known, changes)
        wrong = [bool(one.wrong) for one in known.values()]
        earliest = cooled(rule, [one.at for one in known.values()], fired_before)
        at = watch(rule, wrong, earliest).fired_at
        if at is None:
            changes = changes[len(sizes) :]
            continue
        look = next(i for i, size in enumerate(sizes) if size >= at)  # the first that saw so many
        seen, fired_before = watch(rule, wrong[: sizes[look]], earliest), changes[look].at
        action = BASELINE if rule.action == PREVIOUS and term.before is None else rule.action
        answers = term.before if action == PREVIOUS and term.before is not None else term.id
        fired.append(Firing(fired_before, seen, action, answers))
        newest = last_prediction(fired_before)
        changes = [one for one in changes[look + 1 :] if one.number > newest]
        known = {}
    return fired


def _take_in(known: dict[int, _Change], changes: Sequence[_Change]) -> list[int]:
    """Take changes into what is known, and return how much that is after each.

    It stops before the second that changes what is known already: up to there the later looks see what the earlier
    ones saw, and more, so that one look at all of it finds which of them fires first.
    """
    sizes: list[int] = []
    for one in changes:
        if sizes and one.number in known:
            break
        known.pop(one.number, None)
        if one.wrong is not None:
            known[one.number] = one
        sizes.append(len(known))
    return sizes


def _told(term: Term, span: Span, changes: Sequence[_Change], fired: Sequence[Firing]) -> dict[str, Any]:
    held = {one.number: one.wrong for one in changes}
    known = [wrong for wrong in held.values() if wrong is not None]
    n, wrong = len(known), sum(known)
    low, high = wilson(wrong, n)
    return {
        "release": term.id.as_json(),
        "answers_with": term.option,
        "from": max(term.span.since, span.since),
        "to": None if (until := min(term.span.until, span.until)) == AGES else until,
        "verdicts": n,
        "wrong": wrong,
        "value": wrong / n if n else None,
        "low": low,
        "high": high,
        "firings": [
            {"at": one.at, **one.trigger.as_json(), "action": one.action, "answers": one.release.as_json()}
            for one in fired
        ],
    }


def tell_replay(found: Mapping[str, Any]) -> str:
    """Return what `replay` found in words: a line for each term and each firing, then what happened."""
    rule, span = found["rule"], found["span"]
    lines = [
        f"From {span['from'] or 'the first verdict'} to {span['to'] or 'now'}, each verdict at its time. The rule: an "
        f"error rate above {rule['limit']:g}, with a confidence of {rule['confidence']:g} over windows of "
        f"{rule['window_verdicts']} verdicts, after {rule['minimum_verdicts']} or more."
    ]
    for term in found["terms"]:
        lines.append(_term_in_words(term))
        lines += [f"  {_firing_in_words(one)}" for one in term["firings"]]
    fired = sum(len(term["firings"]) for term in found["terms"])
    times = "once" if fired == 1 else f"{fired} times"
    lines.append(
        f"The rule would have fired {times}; what came after is as it was recorded."
        if fired
        else "The rule would not have fired."
    )
    lines += [f"What happened at {one['created_at']} ({one['event']}): {one['reason']}" for one in found["happened"]]
    if not found["happened"]:
        lines.append("What happened: the trigger did nothing in that time.")
    return "\n".join(lines)


def _term_in_words(term: Mapping[str, Any]) -> str:
    by = "" if term["answers_with"] == "model" else f", the {term['answers_with']}, of which the rule says nothing"
    told = f"{_name(term['release'])}{by}, {term['from']} to {term['to'] or 'now'}: {term['verdicts']} answers judged"
    if term["value"] is None:
        return f"{told}."
    rate = f"{term['value']:.3f} (95 % interval {term['low']:.3f} to {term['high']:.3f})"
    return f"{told}, {term['wrong']} of these wrong: {rate}."


def _firing_in_words(one: Mapping[str, Any]) -> str:
    would = {
        ALERT: "an alert, and nothing else",
        BASELINE: "the baseline would have answered from then on",
        PREVIOUS: f"{_name(one['answers'])} would have answered from then on",
    }[one["action"]]
    weight = f"evidence {min(one['evidence'], 1e6):.2f} of the {one['needed']:.0f} that it takes"
    return f"It would have fired at {one['at']}, after {one['n']} verdicts, {one['wrong']} wrong ({weight}): {would}."


def _name(release: Mapping[str, Any]) -> str:
    return f"{release['name']}/{release['version']}"
