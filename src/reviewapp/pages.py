"""One small dataclass a page: all that its template shows, and `as_json`, the same for programs."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .accounts import Client
from .contract import Contract, Field, Record
from .difference import Difference
from .evidence.pack import TABLE, Pack
from .forms import Input, Mistake, limits_in_words
from .prediction import Prediction
from .registry import ReleaseEvent, by_version, way_back
from .release import Golden, Release, ReleaseId
from .samples import as_text
from .wording import MEASURES, Story, answered, automatic_rule, excerpt, how_sure, measured

Json = dict[str, Any]
SHOWN_VALUES = 60  # of an open list the page shows so many; the contract itself has all


@dataclass(frozen=True)
class Judgement:
    """The form for a verdict; `mistakes` are those of what was sent last."""

    inputs: list[Input]
    mistakes: list[Mistake] = field(default_factory=list)


@dataclass(frozen=True)
class TryPage:
    """A form for a request and, once it was sent, the answer. `record` is what the form is filled with."""

    contract: Contract
    inputs: list[Input]
    samples: Sequence[Golden]
    next_random: int
    record: Record | None = None
    mistakes: list[Mistake] = field(default_factory=list)
    story: Story | None = None
    judgement: Judgement | None = None
    snippets: Mapping[str, str] = field(default_factory=dict)

    @property
    def sample_links(self) -> list[tuple[int, str, str]]:
        """(number, title, beginning) of each sample."""
        return [(number, one.title, excerpt(one.input, 70)) for number, one in enumerate(self.samples, 1)]

    def as_json(self) -> Json:
        return {
            "contract": self.contract.as_json(),
            "samples": [{"title": one.title, "input": one.input} for one in self.samples],
            "input": self.record,
            "prediction": None if self.story is None else self.story.prediction.as_record(),
        }


@dataclass(frozen=True)
class RecordPage:
    """The whole story of one prediction, and the form for a verdict where the reader may give one."""

    story: Story
    judgement: Judgement | None
    snippets: Mapping[str, str]

    @property
    def mistakes(self) -> list[Mistake]:
        return self.judgement.mistakes if self.judgement else []

    def as_json(self) -> Json:
        return self.story.prediction.as_record()


@dataclass(frozen=True)
class HistoryPage:
    """Predictions, newest first. `query` is the filter in use, `older` the query of the page after this one."""

    inputs: list[Input]
    query: Mapping[str, str]
    predictions: list[Prediction] = field(default_factory=list)
    following: str | None = None
    mistakes: list[Mistake] = field(default_factory=list)

    @property
    def rows(self) -> list[tuple[Prediction, str, str, str]]:
        """(prediction, beginning of its request, its answer, how sure that is)"""
        return [(one, excerpt(one.input), answered(one.output), how_sure(one.output)) for one in self.predictions]

    @property
    def older(self) -> Mapping[str, str] | None:
        return None if self.following is None else {**self.query, "cursor": self.following}

    @property
    def newest(self) -> Mapping[str, str]:
        return {name: value for name, value in self.query.items() if name != "cursor"}

    @property
    def filtered(self) -> bool:
        return bool(set(self.query) - {"cursor", "limit"})

    def as_json(self) -> Json:
        return {"predictions": [one.as_record() for one in self.predictions], "next": self.following}


@dataclass(frozen=True)
class ContractPage:
    """The reference: every field with its limits, what comes out, and requests to copy."""

    contract: Contract
    example: Record
    snippets: Mapping[str, str]

    @property
    def example_text(self) -> str:
        return json.dumps({"input": self.example}, indent=2, ensure_ascii=False)

    @property
    def rows(self) -> list[tuple[Field, str, str, str]]:
        """(field, hard limits, what training saw, example) in words."""
        return [(one, _rule(one), _seen(one), as_text(one.example)) for one in self.contract.fields]

    def as_json(self) -> Json:
        return self.contract.as_json()


@dataclass(frozen=True)
class ReleasesPage:
    """What answers now (`release`, and `active` for programs), what else there is, and how that came about.

    `problem` says why nothing answers, or why the live release is not the one that does.
    """

    release: Release | None
    active: Json | None
    problem: str | None
    releases: list[Json]
    events: list[ReleaseEvent]

    @property
    def rows(self) -> list[tuple[Json, bool]]:
        """(release, whether its version names it, so that it can be promoted) of each one."""
        named = {version: one.digest for version, one in by_version(self.events).items()}
        return [(one, not one["active"] and named.get(one["version"]) == one["digest"]) for one in self.releases]

    @property
    def earlier(self) -> ReleaseId | None:
        """The release that a roll-back leads to, where there is one."""
        way = way_back(self.events)
        return way[-2] if len(way) > 1 else None

    @property
    def rule(self) -> str:
        return automatic_rule(self.release.policy) if self.release else ""

    @property
    def measures(self) -> list[str]:
        return [MEASURES[name][0] for name in self._measured]

    @property
    def figures(self) -> list[tuple[str, str, list[tuple[str, str]]]]:
        """(part of the data, option, (measure, figure) of each measure) of the evaluation."""
        return [
            (part.replace("_", " "), option, _figures(found, self._measured))
            for part, options in self._results.items()
            for option, found in options.items()
        ]

    @property
    def _results(self) -> Mapping[str, Mapping[str, Json]]:
        return self.release.evaluation.get("results", {}) if self.release else {}

    @property
    def _measured(self) -> list[str]:
        """The measures that the evaluation has of any option."""
        there = {name for options in self._results.values() for found in options.values() for name in found}
        return [name for name in MEASURES if name in there]

    def as_json(self) -> Json:
        return {
            "active": self.active,
            "problem": self.problem,
            "releases": self.releases,
            "events": [event.as_json() for event in self.events],
        }


@dataclass(frozen=True)
class MovePage:
    """What a promotion, or a roll-back (`back`), changes from `live` to `target`, and the form that does it."""

    back: bool
    live: ReleaseId | None
    target: ReleaseId
    differences: Sequence[Difference]
    inputs: list[Input]
    mistakes: list[Mistake] = field(default_factory=list)

    @property
    def title(self) -> str:
        return f"{'Roll back to' if self.back else 'Promote'} {self.target}"

    @property
    def breaking(self) -> bool:
        return any(one.breaking for one in self.differences)

    def as_json(self) -> Json:
        return {
            "live": None if self.live is None else self.live.as_json(),
            "target": self.target.as_json(),
            "differences": [one.as_json() for one in self.differences],
            "breaking": self.breaking,
        }


@dataclass(frozen=True)
class EvidencePage:
    """The evidence pack. `problem` says why there is none, or why it must be read with care."""

    pack: Pack | None
    problem: str | None
    longest: int = 45  # rows of a table that is shown; of a longer one there is the file alone

    @property
    def data(self) -> str:
        """What the labelled requests are."""
        data = self._data
        if data.get("kind") == TABLE:
            rows = data["parts"]
            return (
                f"the labelled requests are rows of {data['file']} that no option was fitted on: {rows['test']:,} that "
                f"only test, and {rows['calibrate']:,} that calibrated what it says"
            )
        return f"the data are {data['kind']}" if data else ""

    @property
    def command(self) -> str:
        """What measures all of it."""
        return f"reviewapp evidence{self._table}" if self._table else "make evidence"

    @property
    def check(self) -> str:
        """What measures it again and compares."""
        return f"reviewapp evidence --check{self._table}"

    @property
    def _table(self) -> str:
        data = self._data
        return f" --data {shlex.quote(data['file'])}" if data.get("kind") == TABLE else ""

    @property
    def _data(self) -> Mapping[str, Any]:
        return self.pack.manifest["data"] if self.pack else {}

    def as_json(self) -> Json:
        if self.pack is None:
            return {"problem": self.problem, "manifest": None, "tables": {}}
        tables = {table.name: list(table.rows) for table in self.pack.tables.values()}
        return {"problem": self.problem, "manifest": self.pack.manifest, "tables": tables}


@dataclass(frozen=True)
class SignInPage:
    """The form for a token. `next` is the page to go to afterwards."""

    client: Client | None
    next: str = ""
    error: str = ""

    @property
    def mistakes(self) -> list[Mistake]:
        return [Mistake("token", "Token", self.error)] if self.error else []

    def as_json(self) -> Json:
        return {"client": None if self.client is None else vars(self.client)}


def _rule(one: Field) -> str:
    if one.kind == "boolean":
        rule = "true or false."
    elif one.choices is not None:
        rule = f"One of {', '.join(one.choices)}."
    else:
        rule = limits_in_words(one) or "Any text."
    absent = "" if one.required else ", or left out"
    return f"{rule} May be null{absent}: not known." if one.nullable else f"{rule} Required."


def _seen(one: Field) -> str:
    if one.seen_choices is not None:
        more = len(one.seen_choices) - SHOWN_VALUES
        return ", ".join(one.seen_choices[:SHOWN_VALUES]) + (f" and {more:,} more" if more > 0 else "")
    if one.seen_minimum is None:
        return ""
    what = " characters" if one.kind == "text" else ""
    return f"{one.seen_minimum} to {one.seen_maximum}{what}"


def _figures(found: Mapping[str, Any], names: Sequence[str]) -> list[tuple[str, str]]:
    return [(MEASURES[name][0], measured(name, found[name]) if name in found else "–") for name in names]
