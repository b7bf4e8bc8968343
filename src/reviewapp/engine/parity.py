"""Does the compiled engine answer as scikit-learn does? Asked once, when a release is built, and written into it.

The golden requests and ROWS generated ones go through both: texts of the table and odd ones, empty and very long text,
null wherever it is allowed, categories that no training saw, numbers at every limit. One label that differs, one figure
that is further off than TOLERANCE, one request that only one of the two can answer, and the engine is not used.
"""

from __future__ import annotations

import random
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace

from ..contract import Contract
from ..field import Field, Record, Value
from ..release import COMPILED, NATIVE, EngineChoice, Release
from ..samples import valid_record
from ..transformers import READ
from .engines import Compiled, Engine, Native
from .forms import Dense, NotCompiled

ROWS = 2000
CHUNK = 250
TOLERANCE = 1e-9  # of a share; of a value, measured against its own size
ODD = 0.15  # the share of values that are replaced by one at an edge


def with_engine(release: Release) -> Release:
    """Return the release with the engine that answers its requests; its golden requests must be there."""
    return replace(release, engine=choose(release))


def choose(release: Release) -> EngineChoice:
    """Return the compiled engine where it answers as scikit-learn does, else the native one, and why."""
    native = Native(release.model, release.contract)
    try:
        compiled = Compiled(release.model, release.contract, native)
        return compare(native, compiled, release)
    except NotCompiled as error:
        return EngineChoice(NATIVE, f"{error}.")


def compare(native: Engine, compiled: Engine, release: Release) -> EngineChoice:
    """Return what a comparison on the golden and the generated requests says of the second engine."""
    with warnings.catch_warnings():  # an encoder warns of every value that it has not seen
        warnings.simplefilter("ignore")
        return _compared(native, compiled, release)


def _compared(native: Engine, compiled: Engine, release: Release) -> EngineChoice:
    furthest, rows = 0.0, [row.input for row in release.golden]
    generated = odd_records(release.contract, rows, ROWS, random.Random(release.seed))  # noqa: S311 (no secret)
    asked = [*rows, *generated]
    labels = release.contract.outcome.task == "classification"
    for start in range(0, len(asked), CHUNK):
        chunk = asked[start : start + CHUNK]
        for one, other in _answers(native, compiled, chunk):
            if one is None or other is None:
                if one is other:
                    continue
                who = "only the compiled engine answers" if one is None else "the compiled engine does not answer"
                return EngineChoice(NATIVE, f"There is a request that {who}.")
            if one.shape != other.shape or (labels and (one.argmax(axis=1) != other.argmax(axis=1)).any()):
                return EngineChoice(NATIVE, "The compiled engine says another label to a request.")
            scale = 1.0 if labels else max(1.0, float(abs(one).max()))
            furthest = max(furthest, float(abs(one - other).max()) / scale)
            if not furthest <= TOLERANCE:
                return EngineChoice(NATIVE, f"The compiled engine is {furthest:.0e} off at a request.")
    return EngineChoice(COMPILED, "", len(asked), float(f"{furthest:.0e}"))


def _answers(
    native: Engine, compiled: Engine, records: Sequence[Record]
) -> Iterator[tuple[Dense | None, Dense | None]]:
    """Yield what both say to requests together, where neither fails, and what they say to each of them alone."""
    whole, together = _said(native, records), _said(compiled, records)
    if whole is not None and together is not None:
        yield whole, together
    for i, record in enumerate(records):
        one = _said(native, [record]) if whole is None else whole[i : i + 1]
        yield one, _said(compiled, [record])


def _said(engine: Engine, records: Sequence[Record]) -> Dense | None:
    try:
        return engine.figures(records)
    except NotCompiled:
        raise
    except Exception:  # whatever a part of an estimator raises means that it does not answer
        return None


def odd_records(contract: Contract, like: Sequence[Record], n: int, rng: random.Random) -> list[Record]:
    """Return requests that keep every hard rule, many of them at an edge of it, or with values no training saw."""
    edges = {field.name: _edges(field) for field in contract.fields}
    made = []
    for number in range(n):
        record = valid_record(contract, rng, like if number % 2 else ())
        for field in contract.fields:
            if edges[field.name] and rng.random() < ODD:
                record[field.name] = rng.choice(edges[field.name])
            elif field.kind == "text" and isinstance(record.get(field.name), str) and rng.random() < 0.5:
                words = str(record[field.name]).split()
                record[field.name] = " ".join(rng.choices(words, k=rng.randint(1, 2 * len(words)))) if words else ""
        made.append(record)
    return made


def _edges(field: Field) -> list[Value]:
    """Return values at the edges of what a field allows, and beyond what training saw."""
    found: list[Value] = [None] if field.nullable else []
    if field.kind in ("number", "integer"):
        low, high = field.limits
        numbers = [low, high, 0, -1, 1, field.seen_minimum, field.seen_maximum]
        if field.kind == "number":
            numbers += [-0.0, 1e-300, 0.1, 1 / 3, float(low) / 3, float(high) / 3]
        inside = [number for number in numbers if isinstance(number, (int, float)) and low <= number <= high]
        found += [int(number) if field.kind == "integer" else float(number) for number in inside]
    elif field.kind == "boolean":
        found += [True, False]
    elif field.kind == "category":
        found += field.choices or (*(field.seen_choices or ()), "", "\u2026", "Gr\u00f6\u00dfe \U0001f642")
    elif field.kind == "text":
        most = field.length_limit or READ + 100
        texts = ["", " ", "\t\n", "\u2026", "a", "A a", "\u6ce8\u6587 \U0001f642", "caf\u00e9 " * most, "x" * most]
        found += [text[:most] for text in texts]
    elif field.kind == "date":
        found += [limit for limit in (field.seen_minimum, field.seen_maximum) if limit is not None]
    return found
