"""Monitor: the error rate against its limit over time, the trigger, and how far people go by the answer they see."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from flask.typing import ResponseReturnValue

from .. import lookups
from ..monitoring import Point, course, kinds, monitored
from ..parts import parts
from ..release import Release, ReleaseId
from ..releaselog import ALERTED, FELL_BACK, ROLLED_BACK, ReleaseEvent, Standing, way_back
from ..reviews import Reviews
from ..security import needs
from ..trigger import ABOVE, TOO_FEW, evidence_words
from .base import Json, page, show
from .drifting import DriftPart
from .plots import Plot, evidence_plot, share_plot
from .serving import ServicePart

KINDS = {  # of verdicts: what they say of the answer
    "agree": "it is right",
    "corrected": "the right answer is another, or lies in the interval",
    "disagree": "it is wrong, the right answer is not known",
    "unsure": "cannot tell; counts as no verdict",
}


@dataclass(frozen=True)
class MonitorPage:
    """What is known of the live release. `found` is the document of `GET /api/v1/monitor`.

    `seen` is what answers since when, `kinds` are the verdicts on audited answers, `course` the figure over time;
    `earlier` is where a roll-back leads.
    """

    release: Release
    seen: Standing
    found: Json
    kinds: dict[str, int]
    course: list[Point]
    service: ServicePart
    drift: DriftPart
    earlier: ReleaseId | None

    @property
    def fired(self) -> bool:
        trigger = self.found["trigger"]
        return bool(trigger["state"] == ABOVE or trigger["fired"] is not None)

    @property
    def state(self) -> str:
        """The state of the trigger in one sentence."""
        trigger = self.found["trigger"]
        told = self._own_state if self.seen.fired is None else _story(self.seen.fired)
        if trigger["not_before"] is None:
            return told
        held = " The verdicts speak against what answers now." if trigger["state"] == ABOVE and self.seen.fired else ""
        return (
            f"{told}{held} It fired before, and is cooling down: it does not act again before the first verdict after "
            f"{_minute(trigger['not_before'])}."
        )

    @property
    def _own_state(self) -> str:
        trigger, metric = self.found["trigger"], self.found["metric"]
        if trigger["state"] == ABOVE and trigger["fired_at"] is None:
            return "The verdicts speak against the limit, and the trigger does nothing yet."
        if trigger["state"] == ABOVE:  # the look that carries it out is under way
            return (
                f"The trigger has fired: after {trigger['fired_at']:,} verdicts it was clear that more than "
                f"{100 * trigger['limit']:g} % of the automatic answers are wrong."
            )
        if trigger["state"] == TOO_FEW:
            more = trigger["minimum_verdicts"] - metric["verdicts"]
            return f"The trigger waits for {more:,} more verdict{'s' if more > 1 else ''} on audited answers."
        return "The trigger is quiet: the verdicts do not speak against the limit."

    @property
    def todo(self) -> str | None:
        """Why there is no figure yet: `nothing` was answered, none is drawn (`never`, or `not yet`), or all `wait`."""
        if self.course:
            return None
        if self.found["referred"]["predictions"] == 0:
            return "nothing"
        if self.found["metric"]["drawn"] == 0:
            return "not yet" if self.release.policy.audit_share else "never"
        return "wait"

    @property
    def kind_rows(self) -> list[tuple[str, str, int]]:
        """(kind of verdict, what it says, how many)"""
        return [(kind, words, self.kinds[kind]) for kind, words in KINDS.items()]

    @property
    def fallen_back(self) -> bool:
        """Whether the baseline answers in the model's place."""
        return self.seen.option != "model"

    @property
    def shares(self) -> Plot:
        return share_plot(self.course, self.found["trigger"]["limit"], self.fired_at)

    @property
    def evidence(self) -> Plot:
        return evidence_plot(self.course, self.found["trigger"]["needed"], self.fired_at)

    @property
    def fired_at(self) -> int | None:
        """After which of the verdicts that are shown it fired."""
        at: int | None = self.found["trigger"]["fired_at"] if self.seen.fired is None else None
        return at

    @property
    def influence(self) -> str:
        """What the difference between verdicts in sight and blind ones says."""
        moved = self.found["reliance"]["difference"]
        if moved is None:
            return ""
        if moved["low"] > 0:
            return "Seeing the answer makes people agree with it more often than they would by themselves."
        if moved["high"] < 0:
            return "Seeing the answer makes people go against it more often than they would by themselves."
        return "That is no more than chance may do: that seeing the answer moves people cannot be told yet."

    def percent(self, share: float) -> str:
        return f"{100 * share:.1f}\u00a0%"

    def interval(self, share: Json) -> str:
        return f"95\u00a0% interval {self.percent(share['low'])} to {self.percent(share['high'])}"

    def points(self, value: float) -> str:
        return f"{100 * value:+.1f}".replace("-", "−")

    def weight(self, evidence: float) -> str:
        return evidence_words(evidence)

    def as_json(self) -> Json:
        series: list[dict[str, Any]] = [one.as_json() for one in self.course]
        return {**self.found, "verdicts": self.kinds, "series": series}


@page("/monitor")
@needs("review")
def show_monitor() -> ResponseReturnValue:
    """Where the live release stands against its limit."""
    release, seen = parts.registry.adapter().release, parts.registry.standing()
    if seen is None or seen.id != release.id:  # the live one does not load, and another answers in its place
        seen = Standing(release.id)
    return show("monitor.html", _monitor_page(release, parts.ledger.reviews(release.id, seen.after), seen))


def _story(event: ReleaseEvent) -> str:
    """Return what the trigger did, and what is to be done now."""
    then = {
        FELL_BACK: "The model is only asked beside it. Find the cause; then let the model answer again, roll back, or "
        "promote a better release.",
        ROLLED_BACK: "Find the cause before another one is promoted.",
        ALERTED: "Nothing else has changed.",
    }
    return f"{_minute(event.created_at)}: {event.reason} {then[event.kind]}"


def _minute(at: str) -> str:
    return f"{at[:16].replace('T', ' ')} UTC"


def _monitor_page(release: Release, reviews: Reviews, seen: Standing) -> MonitorPage:
    found = monitored(release, reviews, seen) | {
        "drift": lookups.drift(release),
        "service": parts.minutes.service(),
    }
    fired_at = found["trigger"]["fired_at"] if seen.fired is None else None  # else verdicts count anew since then
    stop = seen.fired is not None or found["trigger"]["state"] == ABOVE
    way = way_back(parts.registry.events()) if stop else []
    return MonitorPage(
        release=release,
        seen=seen,
        found=found,
        kinds=kinds(reviews),
        course=course(release.policy.rollback, reviews.of(seen.option), fired_at),
        service=ServicePart(found["service"]),
        drift=DriftPart(found["drift"], release.contract),
        earlier=way[-2] if len(way) > 1 else None,
    )
