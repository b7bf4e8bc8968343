"""The part of Monitor that tells whether the requests have changed: drift.py's figures in plain words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..contract import Contract
from ..drift import NO_PROFILE, SAME, SIGNAL_WORDS, TOO_FEW, chance_words, moved_words


@dataclass(frozen=True)
class DriftRow:
    """A signal: what was looked at, among how many requests, how often chance alone does as much, what moved most."""

    field: str
    signal: str
    n: int
    chance: str
    moved: str
    alarm: bool


@dataclass(frozen=True)
class DriftPart:
    """What the last look at the requests found; None: nobody has looked yet."""

    found: Mapping[str, Any] | None
    contract: Contract

    @property
    def state(self) -> str:
        """What the last look says, in a sentence or two."""
        found = self.found
        if found is None:
            return "Nobody has looked yet. The service looks once a minute."
        if found["state"] == NO_PROFILE:
            return "Not known: this release does not keep how its table was spread. Build it again."
        if found["block"] is None:
            return (
                f"Too few requests to tell: {found['requests']:,} so far, and the first look takes {found['needed']:,}."
            )
        if found["state"] == TOO_FEW:
            n = found["block"]["n"]
            return f"Too few to tell: of the last {found['needed']:,} requests looked at, all but {n:,} were erased."
        if found["state"] == SAME:
            return "No: the last requests looked at are spread as the table was, as far as can be told."
        n = sum(one["alarm"] for one in found["signals"])
        what = "one thing differs" if n == 1 else f"{n} things differ"
        return f"Yes: in the last requests looked at {what} from the table by more than chance explains."

    @property
    def waiting(self) -> int:
        """How many requests came after the block that was looked at last."""
        block = self.found["block"] if self.found is not None else None
        return 0 if self.found is None or block is None else self.found["requests"] % self.found["needed"]

    @property
    def rows(self) -> list[DriftRow]:
        """All signals, those with an alarm first."""
        labels: dict[str | None, str] = {field.name: field.label for field in self.contract.fields}
        found = [
            DriftRow(
                labels.get(one["field"], "Answers"),
                SIGNAL_WORDS[one["signal"]],
                one["n"],
                "too few" if one["adjusted_p"] is None else chance_words(one["adjusted_p"]),
                "" if one["moved"] is None else moved_words(one),
                one["alarm"],
            )
            for one in (self.found or {"signals": []})["signals"]
        ]
        return sorted(found, key=lambda row: not row.alarm)
