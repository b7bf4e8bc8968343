"""Releases: what answers now, and the moves to another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from flask import url_for
from flask.typing import ResponseReturnValue

from .. import lookups
from ..bodies import BREAKING, MOVE_REASON, move_request, promote_request
from ..difference import Difference
from ..errors import BreakingChange, Conflict, Flaw, InvalidInput, NotReady, ReleaseRefused, ReviewappError, pointer
from ..filters import option
from ..forms import Input, Mistake, inputs, mistakes, typed
from ..parts import parts
from ..protocol import read_form, read_query
from ..registry import BREAKING_CHANGE
from ..release import Release, ReleaseId, read_evaluation, read_policy
from ..releaselog import ReleaseEvent, by_version, way_back
from ..security import client, needs
from ..wording import MEASURES, automatic_rule, measured
from .base import Json, done, page, show, show_mistakes, ui

MOVE_OPTIONS = (
    option("live", "text", "Live", "The digest of the release that was live when the page was shown.", max_length=71),
    option("target", "text", "Target", "The digest of the release to move to.", max_length=71),
)


@dataclass(frozen=True)
class ReleasesPage:
    """What answers now (`release`, and `active` for programs), what else there is, and how that came about.

    `fallen_back`: its baseline does, in the model's place. `problem` says why nothing answers, or why the live release
    is not the one that does.
    """

    release: Release | None
    active: Json | None
    problem: str | None
    releases: list[Json]
    events: list[ReleaseEvent]
    fallen_back: bool = False

    @property
    def rows(self) -> list[tuple[Json, bool]]:
        """(release, whether its version names it, so that it can be promoted) of each one."""
        named = {version: one.digest for version, one in by_version(self.events).items()}
        return [
            (one, (not one["active"] or self.fallen_back) and named.get(one["version"]) == one["digest"])
            for one in self.releases
        ]

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
    """What a promotion, or a roll-back (`back`), changes from `live` to `target`, and the form that does it.

    `figures` are (what, now, then) of the policy where it changes, and of the model on each one's own test data.
    """

    back: bool
    live: ReleaseId | None
    target: ReleaseId
    differences: Sequence[Difference]
    figures: Sequence[tuple[str, str, str]]
    inputs: list[Input]
    mistakes: list[Mistake] = field(default_factory=list)

    @property
    def title(self) -> str:
        if self.target == self.live:
            return f"Let the model of {self.target} answer again"
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
            "figures": [dict(zip(("what", "now", "then"), one, strict=True)) for one in self.figures],
        }


@page("/releases")
@needs("submit")
def show_releases() -> ResponseReturnValue:
    """What answers now, or why nothing does, and how that came about."""
    try:
        release, active, problem = parts.registry.adapter().release, lookups.active_release(), parts.registry.problem()
    except NotReady as error:
        release, active, problem = None, None, error.detail
    shown = ReleasesPage(
        release, active, problem, lookups.releases(), parts.registry.events(), lookups.answers_with() == "baseline"
    )
    return show("releases.html", shown)


@page("/releases/<int:version>/promote")
@needs("admin")
def confirm_promotion(version: int) -> ResponseReturnValue:
    """What the promotion of a version changes, and the form that does it."""
    return show("move.html", _promotion(version))


@ui.post("/releases/<int:version>/promote")
@needs("admin")
def promote(version: int) -> ResponseReturnValue:
    """Let another version answer from now on."""
    text = typed((MOVE_REASON, BREAKING), read_form(parts.settings.max_body))
    if _done_before():
        return _moved(parts.registry.live())
    try:
        reason, breaking = promote_request(text=True).load(text)
        live = parts.registry.promote(version, reason, client().name, breaking).id
    except (InvalidInput, BreakingChange) as error:
        return show_mistakes("move.html", _promotion(version, text, error), error)
    return _moved(live)


@page("/releases/rollback")
@needs("admin")
def confirm_roll_back() -> ResponseReturnValue:
    """What a roll-back changes, and the form that does it."""
    return show("move.html", _roll_back())


@ui.post("/releases/rollback")
@needs("admin")
def roll_back() -> ResponseReturnValue:
    """Let the release that was live before answer again."""
    text = typed((MOVE_REASON,), read_form(parts.settings.max_body))
    if _done_before():
        return _moved(parts.registry.live())
    try:
        live = parts.registry.roll_back(move_request(text=True).load(text), client().name).id
    except InvalidInput as error:
        return show_mistakes("move.html", _roll_back(text, error.errors), error)
    return _moved(live)


def _done_before() -> bool:
    """Whether the move that the page showed has been made, as it has on a second click; raise Conflict after another.

    A roll-back leads to the release before whatever is live: without this, two clicks would go two steps back.
    """
    shown, live = read_query(MOVE_OPTIONS), parts.registry.live()
    digest = None if live is None else live.digest
    if shown["live"] is None or shown["live"] == digest:
        again = digest is not None and shown["target"] == digest  # the live release, so that its model answers again
        return again and lookups.answers_with() == "model"
    if shown["target"] == digest:
        return True
    raise Conflict(f"{live} is live now, which the page did not show yet; look at the releases again.")


def _moved(live: ReleaseId | None) -> ResponseReturnValue:
    return done(url_for(".show_releases"), f"{live} answers from now on.")


def _promotion(version: int, text: dict[str, str] | None = None, error: ReviewappError | None = None) -> MovePage:
    target, found = parts.registry.compare(version)
    fields, flaws = [MOVE_REASON], list(error.errors) if isinstance(error, InvalidInput) else []
    if any(one.breaking for one in found):
        fields.append(replace(BREAKING, required=True, nullable=False))  # here it must be answered
        if isinstance(error, BreakingChange) or (text is not None and not text.get(BREAKING.name)):
            flaws.append(Flaw(pointer(BREAKING.name), BREAKING_CHANGE, "Say yes if the callers are ready for this."))
    drawn = inputs(fields, text, flaws, form="move")
    return _move_page(False, target, found, drawn, mistakes(drawn, flaws))


def _roll_back(text: dict[str, str] | None = None, flaws: Sequence[Flaw] = ()) -> MovePage:
    target, found = parts.registry.compare_back()
    drawn = inputs([MOVE_REASON], text, flaws, form="move")
    return _move_page(True, target, found, drawn, mistakes(drawn, flaws))


def _move_page(
    back: bool, target: ReleaseId, found: Sequence[Difference], drawn: list[Input], wrong: list[Mistake]
) -> MovePage:
    live = parts.registry.live()
    return MovePage(back, live, target, found, _what_changes(live, target), drawn, wrong)


def _what_changes(live: ReleaseId | None, target: ReleaseId) -> list[tuple[str, str, str]]:
    """Return what the policy changes, and how the models did, of the live release and the target beside each other."""
    now, then = _stated(live), _stated(target)
    names = [name for name in then | now if name in _MEASURED or now.get(name) != then.get(name)]
    return [(name, now.get(name, "–"), then.get(name, "–")) for name in names]


def _stated(release: ReleaseId | None) -> dict[str, str]:
    """Return the policy and the test figures of a release in words; nothing of one that cannot be read."""
    if release is None:
        return {}
    try:
        folder = parts.registry.folder(release)
        policy, evaluation = read_policy(folder, release.digest), read_evaluation(folder, release.digest)
    except (ReleaseRefused, NotReady):
        return {}
    figures = evaluation.get("results", {}).get("test", {}).get("model", {})
    rule = policy.rollback
    return {
        **{MEASURES[name][0]: measured(name, figures[name]) for name in MEASURES if name in figures},
        "Goes to a person": automatic_rule(policy),
        "Costs of a wrong answer and of a look": f"{policy.cost_wrong:g} and {policy.cost_review:g}",
        "Drawn by lot for a check": f"{100 * policy.audit_share:g} %",
        "Judged blind": f"{100 * policy.blind_share:g} %",
        "Reasons offered": "; ".join(policy.reason_options) or "none",
        "Rolled back above": f"{100 * rule.limit:g} % wrong, after {rule.minimum_verdicts} verdicts or more",
    }


_MEASURED = {title for title, _ in MEASURES.values()}


def _figures(found: Mapping[str, Any], names: Sequence[str]) -> list[tuple[str, str]]:
    return [(MEASURES[name][0], measured(name, found[name]) if name in found else "–") for name in names]
