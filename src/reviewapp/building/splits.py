"""Which rows are learned from, which calibrate, and which only test; nothing is ever chosen on the test part."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from .. import dates
from ..errors import UsageError
from .kinds import date_formats, is_number, kind_of
from .oddities import probable_markers, rows_in_words
from .rows import Labelled
from .table import Table

CALIBRATE, TEST = 0.16, 0.2  # of the rows; the rest trains
FEWEST_OF_A_LABEL = 6  # rows, so that each part has one and the training part several
FEWEST_TO_TRAIN = 4  # rows of a label in the training part
FEWEST_ROWS = 50
PARTS = ("train", "calibrate", "test")


def without_rare(rows: Labelled, labels: Sequence[str]) -> Labelled:
    """Return the rows whose label is among `labels` and frequent enough for every part; what is put aside is noted."""
    counts = Counter(rows.answers)
    unknown = sorted(set(counts) - set(labels))
    rare = sorted((label for label in labels if counts[label] < FEWEST_OF_A_LABEL), key=lambda label: counts[label])
    notes = []
    if unknown:
        n = sum(counts[label] for label in unknown)
        notes.append(
            f"{n:,} rows have a label that the contract does not name ({_named(unknown)}); they are put aside."
        )
    if rare:
        told = ", ".join(f"{label!r} ({counts[label]})" for label in rare[:10])
        more = f" and {len(rare) - 10} more" if len(rare) > 10 else ""
        notes.append(
            f"Labels with fewer than {FEWEST_OF_A_LABEL} rows cannot be learned and tested; put aside: {told}{more}."
        )
    aside = {*unknown, *rare}
    return rows.only([i for i, answer in enumerate(rows.answers) if answer not in aside], *notes)


def _named(labels: Sequence[str]) -> str:
    return ", ".join(map(repr, labels[:10])) + (" …" if len(labels) > 10 else "")


def check_rows(rows: Labelled) -> None:
    """Raise UsageError where there is too little to learn from."""
    if len(rows) < FEWEST_ROWS:
        aside = f" {' '.join(rows.notes)}" if rows.notes else ""
        raise UsageError(f"There are {len(rows)} rows to learn from, and {FEWEST_ROWS} are needed at least.{aside}")


def shuffled(answers: Sequence[str], stratify: bool, seed: int) -> dict[str, list[int]]:
    """Return the rows of each part, drawn at random; stratified, every label is in each part."""
    rng = np.random.default_rng(seed)
    groups: dict[str, list[int]] = {}
    for i, answer in enumerate(answers):
        groups.setdefault(answer if stratify else "", []).append(i)
    parts: dict[str, list[int]] = {part: [] for part in PARTS}
    for group in groups.values():
        drawn = rng.permutation(group).tolist()
        test, calibrate = max(1, round(TEST * len(drawn))), max(1, round(CALIBRATE * len(drawn)))
        parts["test"] += drawn[:test]
        parts["calibrate"] += drawn[test : test + calibrate]
        parts["train"] += drawn[test + calibrate :]
    return {part: sorted(rows) for part, rows in parts.items()}


def in_time(moments: Sequence[float]) -> dict[str, list[int]]:
    """Return the rows of each part: the earliest train, the latest test."""
    order = np.argsort(np.asarray(moments), kind="stable").tolist()
    test, calibrate = round(TEST * len(order)), round(CALIBRATE * len(order))
    train = len(order) - test - calibrate
    return {"train": order[:train], "calibrate": order[train : train + calibrate], "test": order[train + calibrate :]}


def known_labels(rows: Labelled, parts: dict[str, list[int]]) -> tuple[Labelled, dict[str, list[int]]]:
    """Return rows and parts without the labels that the training part, the earliest rows, hardly shows."""
    counts = Counter(rows.answers[i] for i in parts["train"])
    late = sorted({label for label in set(rows.answers) if counts[label] < FEWEST_TO_TRAIN})
    if not late:
        return rows, parts
    note = f"Labels with fewer than {FEWEST_TO_TRAIN} rows in the earliest part are put aside: {_named(late)}."
    kept = [i for i, answer in enumerate(rows.answers) if answer not in late]
    place = {old: new for new, old in enumerate(kept)}
    return rows.only(kept, note), {part: [place[i] for i in chosen if i in place] for part, chosen in parts.items()}


def moments_of(table: Table, column: str, rows: Labelled, missing: Sequence[str]) -> tuple[Labelled, list[float]]:
    """Return the rows that have a time, and their times as numbers; raise UsageError where a column tells no order."""
    by_line = dict(zip(table.lines, table.columns[column], strict=True))
    cells = [by_line[line] for line in rows.lines]
    nothing = {None, *missing, *probable_markers([cell for cell in cells if cell is not None])}
    kept = [i for i, cell in enumerate(cells) if cell not in nothing]
    times = [str(cells[i]).strip() for i in kept]
    without = len(rows) - len(kept)
    notes = [f"Put aside: {rows_in_words(without)} without {column!r} (--time)."] if without else []
    if times and all(map(is_number, times)):
        return rows.only(kept, *notes), [float(cell) for cell in times]
    kind = kind_of(times) if times else None
    if kind is None or kind.name != "date":
        ways = date_formats(times[:1])
        odd = "" if not ways else ", or not all in one way"
        raise UsageError(f"--time names {column!r}, whose values are neither numbers nor dates{odd}.")
    first = dates.parse("1970-01-01", dates.ISO_DATE)
    return rows.only(kept, *notes), [(dates.parse(cell, kind.date_format) - first).total_seconds() for cell in times]
