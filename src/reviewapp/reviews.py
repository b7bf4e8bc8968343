"""What people said of the answers of one release: rows just wide enough to count with, read through indexes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from sys import intern
from types import MappingProxyType
from typing import Any, NamedTuple

import orjson
from sqlalchemy import Connection, Integer, case, func, select, type_coerce

from .prediction import DECISIONS, Verdict
from .release import ReleaseId
from .sqlwords import member, number, unsought
from .tables import predictions, verdicts


class Said(NamedTuple):
    """A verdict without its words. `seq` numbers all verdicts in the order in which they were given."""

    seq: int
    verdict: str
    label: str | None
    value: float | None
    author: str
    created_at: str
    blind: bool


@dataclass(frozen=True, slots=True)
class Judged:
    """A prediction with its verdicts, the oldest first; there is one at least.

    `output` holds what a verdict is held against: `label`, or `low` and `high`; so does `shadow`, what the model said
    beside an answer of the baseline. `referred`: it went to a person. `asker` is who sent the request, and had its
    answer. `number` is the prediction's.
    """

    id: str
    output: Mapping[str, Any]
    audit: bool
    referred: bool
    asker: str
    option: str = "model"
    shadow: Mapping[str, Any] | None = None
    said: tuple[Said, ...] = ()
    number: int = 0

    @property
    def holds(self) -> str | None:
        """The kind of the verdict that holds, or None where it was taken back."""
        last = self.said[-1].verdict
        return None if last == "withdrawn" else last

    @property
    def wrong(self) -> bool | None:
        """Whether the answer is held to be wrong now; None where nobody could tell."""
        return rejects(self.said[-1], self.output)

    @property
    def shadow_wrong(self) -> bool | None:
        """Whether the model's answer in the shadow is held to be wrong; None where that is not known."""
        last, shadow = self.said[-1], self.shadow
        if shadow is None or self.wrong is None:
            return None
        if "label" not in shadow:
            return None if last.value is None else rejects(last, shadow)
        if last.verdict == "corrected":
            return rejects(last, shadow)
        same = shadow["label"] == self.output["label"]
        if last.verdict == "agree":
            return not same
        return True if same else None

    @property
    def since(self) -> Said:
        """The verdict from which on the answer was held to be what it is held to be now."""
        first = self.said[-1]
        if len(self.said) == 1:  # as of nearly all, of which there may be very many
            return first
        for one in reversed(self.said):
            if rejects(one, self.output) is not self.wrong:
                break
            first = one
        return first


@dataclass(frozen=True)
class Reviews:
    """How many predictions each decision has, how many automatic ones were `drawn` for a check, and what was judged."""

    predictions: dict[str, int]
    drawn: int
    judged: list[Judged]

    def of(self, option: str) -> Reviews:
        """Return these with what was judged of an option's answers alone.

        A file that was under way when another option began to answer is answered by the former one to its end.
        """
        return replace(self, judged=[one for one in self.judged if one.option == option])

    @cached_property
    def known(self) -> list[tuple[str, bool]]:
        """(when that became known, whether it was wrong) of each judged audited answer, in the order of knowing."""
        return [(at, wrong) for at, wrong, drawn in self.known_of_all if drawn]

    @cached_property
    def known_of_all(self) -> list[tuple[str, bool, bool]]:
        """(when that became known, whether it was wrong, whether the answer was audited, else it went to a person)."""
        found = [(one.since, one.wrong, one.audit) for one in self.judged if one.audit or one.referred]
        return [(since.created_at, wrong, drawn) for since, wrong, drawn in sorted(found) if wrong is not None]


def rejects(given: Verdict | Said, output: Mapping[str, Any]) -> bool | None:
    """Return whether a verdict says that an output is wrong; None where it does not say.

    A correction agrees after all where it names the label that was given, or a value inside the interval.
    """
    if given.verdict in ("unsure", "withdrawn"):
        return None
    if given.verdict != "corrected":
        return given.verdict == "disagree"
    if given.value is None:
        return bool(output.get("label") != given.label)
    return not output["low"] <= given.value <= output["high"]


class Reader:
    """Reads the reviews of the release that is asked for, and remembers them: verdicts are only ever added.

    So each verdict is read once by a process, however often one looks. What is remembered is never changed in place:
    threads may share a reader.
    """

    def __init__(self) -> None:
        self._known: _Known | None = None

    def read(self, connection: Connection, release: ReleaseId, after: int = 0) -> Reviews:
        """Return the reviews of a release's answers after the prediction of a number.

        That is one pass over an index, then the verdicts that are new.
        """
        *by_decision, drawn = connection.execute(_counts(release, after)).one()
        counts = {decision: n for decision, n in zip(DECISIONS, by_decision, strict=True) if n}
        return Reviews(counts, drawn or 0, self.judged(connection, release, after))

    def judged(self, connection: Connection, release: ReleaseId, after: int = 0) -> list[Judged]:
        """Return what was judged of a release's answers after the prediction of a number; only new verdicts are read.

        How many predictions there are is not counted, which takes the longer the more there are.
        """
        known = self._read_on(connection, release)
        return [one for number, one in known.items() if number > after]

    def _read_on(self, connection: Connection, release: ReleaseId) -> Mapping[int, Judged]:
        known = self._known
        if known is None or known.digest != release.digest or not known.still_last(connection):
            known = _Known(release.digest)
        last, judged = known.last, dict(known.judged)
        for row in connection.execute(_verdicts(release, last[0])):
            prediction_seq, prediction_id, label, low, high, audit, decision, client, option, shadow, *words = row
            given = Said(*words)
            given = given._replace(verdict=intern(given.verdict), label=_once(given.label), author=intern(given.author))
            before = judged.get(prediction_seq)
            if before is None:
                output = {"low": low, "high": high} if label is None else _labelled(label)
                asker, beside = intern(client), _shadow(shadow)
                referred = decision == "review"
                before = Judged(
                    prediction_id, output, audit, referred, asker, intern(option), beside, number=prediction_seq
                )
            judged[prediction_seq] = replace(before, said=(*before.said, given))
            last = given.seq, given.created_at
        self._known = _Known(release.digest, last, judged)
        return judged


@dataclass(frozen=True)
class _Known:
    """What was read before: up to which verdict (its number and time), and what was judged, by the prediction's seq."""

    digest: str
    last: tuple[int, str] = (0, "")
    judged: Mapping[int, Judged] = field(default_factory=dict)

    def still_last(self, connection: Connection) -> bool:
        """Whether that verdict is still there; it is not where a backup was put in the ledger's place."""
        seq, given_at = self.last
        return seq == 0 or connection.scalar(select(verdicts.c.created_at).where(verdicts.c.seq == seq)) == given_at


def _once(text: str | None) -> str | None:
    """Return the one copy there is of a text that comes again and again: a process keeps many verdicts."""
    return None if text is None else intern(text)


@lru_cache(maxsize=1000)
def _labelled(label: str) -> Mapping[str, Any]:
    """Return the one output with a label."""
    return MappingProxyType({"label": label})


def _shadow(text: str | None) -> Mapping[str, Any] | None:
    """Return what a verdict is held against, of the model's output beside an answer of the baseline."""
    if text is None:
        return None
    output = orjson.loads(text)
    return _labelled(output["label"]) if "label" in output else {"low": output["low"], "high": output["high"]}


def _counts(release: ReleaseId, after: int) -> Any:
    """How many there are of each decision, and how many were drawn for a check: one pass through one index."""
    kept = predictions.c
    counts = [func.count().filter(kept.decision == decision) for decision in DECISIONS]
    drawn = func.sum(type_coerce(kept.audit, Integer))
    return select(*counts, drawn).where(kept.release_digest == release.digest, kept.seq > after)


def _verdicts(release: ReleaseId, after: int) -> Any:
    """The verdicts on a release's predictions that came after the verdict of a number, in the order they were given.

    SQLite must not start at the release's predictions, of which there are many more than verdicts.
    """
    kept, given = predictions.c, verdicts.c
    of_release = unsought(kept.release_digest) == release.digest
    low, high = (case((kept.label.is_(None), number(kept.output, name))) for name in ("low", "high"))
    beside = case((kept.option == "baseline", member(kept.comparison, "output")))
    return (
        select(
            kept.seq, kept.id, kept.label, low, high, kept.audit, kept.decision, kept.client, kept.option, beside,
            given.seq, given.verdict, given.label, given.value, given.author, given.created_at, given.blind,
        )
        .join_from(verdicts, predictions, kept.seq == given.prediction_seq)
        .where(given.seq > after, of_release)
        .order_by(given.seq)
    )  # fmt: skip
