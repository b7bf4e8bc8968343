"""The requests that a release carries: golden ones with the answers they must get, some of them samples to click.

A sample is a golden request with a title: what the page offers to try has been answered right before it is offered.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from .adapter import ModelAdapter
from .field import Record
from .prediction import differ
from .release import Golden, Release
from .samples import outside_record

CLEAR, CLEAR_TOO = "A clear one", "Another clear one"
UNKNOWN = "One with something unknown"
DIFFERENT = "One that model and baseline see differently"
HARD = "A hard one"
OUTSIDE = "One outside of what training saw"
TITLES = (CLEAR, CLEAR_TOO, UNKNOWN, DIFFERENT, HARD)


def with_golden(release: Release, records: Sequence[Record], more: Sequence[Record] = ()) -> Release:
    """Return the release with golden requests: its samples, chosen from records kept apart, then `more` of any kind."""
    chosen = samples(release, records)
    titles = [*chosen, *([""] * len(more))]
    inputs = [*chosen.values(), *more]
    model, baseline = _answers(release, inputs)
    rows = zip(inputs, model, baseline, titles, strict=True)
    return replace(release, golden=tuple(Golden(i, {"model": m, "baseline": b}, title) for i, m, b, title in rows))


def samples(release: Release, records: Sequence[Record]) -> dict[str, Record]:
    """Return six requests to show a person, by title; fewer where the records do not hold such ones.

    Titles say what kind of request it is and nothing of the answer: whoever tries it shall judge for themselves.
    """
    model, baseline = _answers(release, records)
    found: dict[str, int] = {HARD: min(range(len(records)), key=lambda i: sureness(model[i]))}
    for i, record in enumerate(records):
        if release.policy.reasons(model[i], outside_seen=False, disagree=False):
            continue
        if any(value in (None, "") for value in record.values()):
            found.setdefault(UNKNOWN, i)
        elif differ(model[i], baseline[i]):  # the one where the baseline, too, is most confident
            best = found.setdefault(DIFFERENT, i)
            if sureness(baseline[i]) > sureness(baseline[best]):
                found[DIFFERENT] = i
        elif CLEAR not in found:
            found[CLEAR] = i
        elif differ(model[i], model[found[CLEAR]]):
            found.setdefault(CLEAR_TOO, i)
        else:
            found.setdefault(OUTSIDE, i)  # a third one, to be moved
    chosen = {title: dict(records[found[title]]) for title in TITLES if title in found}
    outside = outside_record(release.contract, records[found.get(OUTSIDE, 0)])
    return chosen if outside is None else chosen | {OUTSIDE: outside}


def sureness(output: Mapping[str, Any]) -> float:
    """Return by what outputs of one option are ranked: the confidence, or how narrow the interval is."""
    return float(output["confidence"] if "confidence" in output else output["low"] - output["high"])


def _answers(release: Release, records: Sequence[Record]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    adapter = ModelAdapter(release)
    return adapter.outputs("model", records), adapter.outputs("baseline", records)
