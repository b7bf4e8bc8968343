"""How the rows of the table were spread that a release was built from: what later requests are held against (drift.py).

Of each field, and of the model's answers, a release keeps how many rows fell into which bin, and no row. Bins are made
from the training part: deciles of numbers, dates and lengths, with what lies below and above all of them; the most
frequent categories. Of texts the words are kept that FEWEST rows use, so that none is one person's.

The rows that are counted are those kept apart from the training. Bins that were made from the very rows that are
counted fit these better than any others: with deciles, and 1,000 rows against 500 of the same kind, a test at 1 % said
that they differ in 2 %, with 50 rows in 6 %. And which words are new can only be seen on rows kept apart.
"""

from __future__ import annotations

import math
import re
import sys
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np

from .contract import Contract
from .errors import ReleaseRefused
from .field import Field, Record, Value
from .manifest import PROFILE

VALUES, LENGTH, UNSEEN, MISSING, ANSWERS = "values", "length", "unseen_words", "missing", "answers"
SIGNALS = (VALUES, LENGTH, UNSEEN, MISSING, ANSWERS)
FEWEST = 5  # rows that show a category or a word that is kept, and rows in a bin of numbers
QUANTILES = 10
MOST_VALUES = 50  # of a category that have a bin of their own
MOST_WORDS = 5_000  # of a field
WORDS_SIZE = 100_000  # bytes of the words of all fields together
LARGEST = sys.float_info.max
MOST_ROWS = 10**8  # in a bin; more is no table
EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 (a table's dates have no zone)
_WORD = re.compile(r"\b\w\w+\b")  # as scikit-learn's vectorisers find words where nothing else is asked for
_GIVEN, _NOT_GIVEN = "given", "missing"

Bins = tuple[float, ...] | tuple[str, ...]
Measured = float | str | None


@dataclass(frozen=True)
class Signal:
    """One thing about requests, or, without a `field`, about answers, and how many rows of the table fell in each bin.

    Texts as `bins` are categories; all other values share the last count. Numbers e₁ < … < eₖ part the line into
    (-∞, e₁], (e₁, e₂], …, (eₖ, ∞). So there is one count more than bins.
    """

    field: str | None
    name: str
    bins: Bins
    counts: tuple[int, ...]

    def count(self, measured: Sequence[Measured]) -> list[int]:
        """Return how many values fall in each bin; None is no value."""
        found = [0] * (len(self.bins) + 1)
        for value in measured:
            if value is not None:
                found[self._place(value)] += 1
        return found

    @cached_property
    def _place(self) -> Callable[[Any], int]:
        """What gives the number of a value's bin."""
        if isinstance(self.bins[0], str):
            places = {one: i for i, one in enumerate(self.bins)}
            return lambda value: places.get(value, len(places))
        return lambda value: bisect_left(self.bins, value)

    def as_json(self) -> dict[str, Any]:
        return {"field": self.field, "signal": self.name, "bins": list(self.bins), "counts": list(self.counts)}


@dataclass(frozen=True)
class Profile:
    """The signals of a release, in the contract's order, and the words that are known, by text field."""

    signals: tuple[Signal, ...]
    words: Mapping[str, frozenset[str]]

    @classmethod
    def of(
        cls,
        contract: Contract,
        parts: Mapping[str, Sequence[Record]],
        outputs: Mapping[str, Sequence[Mapping[str, Any]]],
    ) -> Profile:
        """Return the profile of a table: of its rows by part (train, calibrate, test), and the answers to the last two.

        A signal that the rows are too few for is left out. What the training rows cannot show, the share of new words
        and the answers, is counted in the test part, in bins made from the part to calibrate with.
        """
        texts = [field.name for field in contract.fields if field.kind == "text"]
        words = {name: _words(parts["train"], name, WORDS_SIZE // len(texts)) for name in texts}
        apart = [*parts["calibrate"], *parts["test"]]
        found = []
        for field in contract.fields:
            for name in _names(field):
                measure = _measure(field, name, words.get(field.name, frozenset()))
                made, counted = (parts["calibrate"], parts["test"]) if name == UNSEEN else (parts["train"], apart)
                bins = _bins(name, [measure(record.get(field.name)) for record in made])
                found.append(_signal(field.name, name, bins, [measure(record.get(field.name)) for record in counted]))
        first, answers = ([_answer(output) for output in outputs[part]] for part in ("calibrate", "test"))
        found.append(_signal(None, ANSWERS, contract.outcome.labels or _bins(ANSWERS, first), answers))
        return cls(tuple(signal for signal in found if signal is not None), words)

    def counts(
        self, contract: Contract, records: Sequence[Record], outputs: Sequence[Mapping[str, Any]]
    ) -> list[list[int]]:
        """Return, for each signal, how many of these requests and answers fall in each of its bins."""
        fields = {field.name: field for field in contract.fields}
        answers = [_answer(output) for output in outputs]
        found = []
        for signal in self.signals:
            if signal.field is None:
                found.append(signal.count(answers))
                continue
            measure = _measure(fields[signal.field], signal.name, self.words.get(signal.field, frozenset()))
            found.append(signal.count([measure(record.get(signal.field)) for record in records]))
        return found

    def as_json(self) -> dict[str, Any]:
        """Return the document that is stored as `profile.json`."""
        return {
            "signals": [signal.as_json() for signal in self.signals],
            "words": {name: " ".join(sorted(words)) for name, words in self.words.items()},
        }

    @classmethod
    def from_json(cls, document: Any, contract: Contract) -> Profile:
        """Read `profile.json` beside its contract; raise ReleaseRefused saying what is wrong, and where."""
        if not isinstance(document, dict) or set(document) != {"signals", "words"}:
            raise ReleaseRefused(f"{PROFILE} must hold just signals and words.")
        signals, words = document["signals"], document["words"]
        texts = {field.name for field in contract.fields if field.kind == "text"}
        if not isinstance(words, dict) or set(words) != texts or not all(isinstance(w, str) for w in words.values()):
            raise ReleaseRefused(f"{PROFILE}, words, must hold a text for each text field of the contract.")
        if not isinstance(signals, list):
            raise ReleaseRefused(f"{PROFILE}, signals, must be a list.")
        kinds = _kinds(contract)
        found = []
        for number, one in enumerate(signals):
            try:
                signal = _read(one, kinds)
            except ValueError as error:
                raise ReleaseRefused(f"{PROFILE}, signals/{number}: {error}") from None
            del kinds[signal.field, signal.name]  # none may come twice
            found.append(signal)
        return cls(tuple(found), {name: frozenset(text.split()) for name, text in words.items()})


def moment(seconds: float) -> datetime:
    """Return the date that a bin of a date's values begins or ends with."""
    return EPOCH + timedelta(seconds=seconds)


# ---- what is measured -------------------------------------------------------------------------------------------


def _names(field: Field) -> Iterator[str]:
    """Yield the signals of a field."""
    yield from (LENGTH, UNSEEN) if field.kind == "text" else (VALUES,)
    if field.nullable or not field.required:
        yield MISSING


def _measure(field: Field, name: str, words: frozenset[str]) -> Callable[[Value], Measured]:
    """Return what measures a value of a field for a signal; it gives None for what the signal says nothing of."""
    if name == MISSING:
        return lambda value: _NOT_GIVEN if value is None else _GIVEN
    of = _BY_KIND[field.kind] if name == VALUES else None
    if name == LENGTH:
        return lambda value: None if value is None else float(len(str(value)))
    if name == UNSEEN:
        return lambda value: None if value is None else _unseen(str(value), words)
    if of is not None:
        return lambda value: None if value is None else of(value)
    return lambda value: None if value is None else (field.parse_date(str(value)) - EPOCH).total_seconds()


_BY_KIND: Mapping[str, Callable[[Any], float | str] | None] = {
    "number": float,
    "integer": float,
    "boolean": lambda value: "true" if value else "false",
    "category": str,
    "date": None,
}


def _unseen(text: str, words: frozenset[str]) -> float | None:
    """Return the share of a text's words that are not among those known; None of a text without words."""
    found = _WORD.findall(text.lower())
    return sum(word not in words for word in found) / len(found) if found else None


def _answer(output: Mapping[str, Any]) -> float | str:
    return str(output["label"]) if "label" in output else float(output["value"])


# ---- making bins ------------------------------------------------------------------------------------------------


def _signal(field: str | None, name: str, bins: Bins, counted: Sequence[Measured]) -> Signal | None:
    """Return the signal with the counts of these values; None where there is nothing to count, or no bin for it."""
    if not bins or all(value is None for value in counted):
        return None
    return Signal(field, name, bins, tuple(Signal(field, name, bins, ()).count(counted)))


def _bins(name: str, seen: Sequence[Measured]) -> Bins:
    """Return bins for the values of a signal, made of these; none where they are too few."""
    values = [value for value in seen if value is not None]
    if name == MISSING:
        return (_NOT_GIVEN,)
    if not values:
        return ()
    if isinstance(values[0], str):
        return _frequent([str(value) for value in values])
    numbers = [float(value) for value in values]
    return _shares(numbers) if name == UNSEEN else _parts(numbers)


def _frequent(values: Sequence[Any]) -> tuple[str, ...]:
    counts = Counter(values)
    return tuple(
        sorted((one for one, n in counts.items() if n >= FEWEST), key=lambda one: (-counts[one], one))[:MOST_VALUES]
    )


def _shares(values: Sequence[float]) -> tuple[float, ...]:
    """Return what parts shares: nothing, which is a bin of its own, from the deciles of those above it."""
    return (0.0, *_quantiles([value for value in values if value > 0]))


def _parts(values: Sequence[float]) -> tuple[float, ...]:
    """Return the deciles of values, and what parts them from all that lies below and above."""
    inner = _quantiles(values)
    low, high = min(values), max(values)
    return tuple(sorted({math.nextafter(low, -math.inf), *inner, high})) if inner else ()


def _quantiles(values: Sequence[float]) -> tuple[float, ...]:
    """Return values that part the others into up to QUANTILES bins of FEWEST at least; those that are equal are one."""
    parts = min(QUANTILES, len(values) // FEWEST)
    if parts < 2:
        return ()
    shares = np.arange(1, parts) / parts
    return tuple(np.unique(np.quantile(values, shares, method="inverted_cdf")).tolist())


def _words(records: Sequence[Record], name: str, size: int) -> frozenset[str]:
    """Return the words that FEWEST rows use, the most frequent first, as many as go into so many bytes."""
    rows: Counter[str] = Counter()
    for record in records:
        rows.update(set(_WORD.findall(str(record.get(name) or "").lower())))
    kept = []
    frequent = sorted((word for word, n in rows.items() if n >= FEWEST), key=lambda word: (-rows[word], word))
    for word in frequent[:MOST_WORDS]:
        size -= len(word.encode()) + 1
        if size < 0:
            break
        kept.append(word)
    return frozenset(kept)


# ---- reading ----------------------------------------------------------------------------------------------------


def _kinds(contract: Contract) -> dict[tuple[str | None, str], type]:
    """Return which signals a contract can have, and of which type their bins are."""
    kinds: dict[tuple[str | None, str], type] = {
        (field.name, name): str if name == MISSING or field.kind in ("boolean", "category") else float
        for field in contract.fields
        for name in _names(field)
    }
    return {**kinds, (None, ANSWERS): str if contract.outcome.labels else float}


def _read(one: Any, kinds: Mapping[tuple[str | None, str], type]) -> Signal:
    """Return a signal of the document; raise ValueError saying what is wrong."""
    if not isinstance(one, dict) or set(one) != {"field", "signal", "bins", "counts"}:
        raise ValueError("it must hold just field, signal, bins and counts.")
    field, name, bins, counts = one["field"], one["signal"], one["bins"], one["counts"]
    if not isinstance(field, str | None) or not isinstance(name, str) or (field, name) not in kinds:
        raise ValueError(f"the contract has no {name!r} of {field!r}, or it came before.")
    if not isinstance(bins, list) or not bins or not isinstance(counts, list) or len(counts) != len(bins) + 1:
        raise ValueError("bins must be a list that is not empty, and counts one that has one more.")
    if not all(type(n) is int and 0 <= n <= MOST_ROWS for n in counts) or not 0 < sum(counts) <= MOST_ROWS:
        raise ValueError(f"counts must be whole numbers, 0 or more, and together from 1 to {MOST_ROWS:,}.")
    if kinds[field, name] is str:
        if not all(isinstance(value, str) for value in bins) or len(set(bins)) < len(bins):
            raise ValueError("bins must be different texts.")
        return Signal(field, name, tuple(bins), tuple(counts))
    numbers = [float(value) for value in bins if type(value) in (int, float) and abs(value) <= LARGEST]
    if len(numbers) < len(bins) or any(a >= b for a, b in pairwise(numbers)):
        raise ValueError("bins must be numbers, each above the one before.")
    return Signal(field, name, tuple(numbers), tuple(counts))
