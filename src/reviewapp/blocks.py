"""The requests of a release, cut into blocks in the order in which they were recorded, read through an index."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from sqlalchemy import Connection, func, select

from .field import Record
from .release import ReleaseId
from .tables import predictions


class Asked(NamedTuple):
    """A recorded request with its answer. `input` is None where it was erased."""

    created_at: str
    input: Record | None
    option: str
    output: Mapping[str, Any]
    comparison: Mapping[str, Any] | None = None

    @property
    def model_output(self) -> Mapping[str, Any] | None:
        """What the model said, by itself or beside the baseline; None where it was not asked."""
        if self.option == "model":
            return self.output
        beside = self.comparison
        return None if beside is None or beside["option"] != "model" else dict(beside["output"])


@dataclass(frozen=True)
class Block:
    """A full block of a release that has recorded so many `requests`, or, without a `number`, the want of one.

    Blocks are numbered from 0 on and share no request: to look at each as it fills is to look at no request twice.
    """

    size: int
    requests: int
    number: int | None = None
    rows: Sequence[Asked] = ()


def read_block(
    connection: Connection, release: ReleaseId, size: int, number: int | None = None, known: int | None = None
) -> Block:
    """Return the last full block of a release, or the one of a number; without rows where it is not full yet.

    A block of the number that is `known` already is returned without its rows, too: they would be the same.
    """
    kept = predictions.c
    of_release = kept.release_digest == release.digest
    requests = connection.scalar(select(func.count()).select_from(predictions).where(of_release)) or 0
    wanted = requests // size - 1 if number is None else number
    if not 0 <= wanted < requests // size:
        return Block(size, requests)
    if wanted == known:
        return Block(size, requests, wanted)
    numbers = select(kept.seq).where(of_release).order_by(kept.seq).limit(size).offset(wanted * size)
    asked = select(kept.created_at, kept.input, kept.option, kept.output, kept.comparison)
    rows = [Asked(*row) for row in connection.execute(asked.where(kept.seq.in_(numbers)).order_by(kept.seq))]
    return Block(size, requests, wanted, rows)
