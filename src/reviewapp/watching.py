"""The watch: it looks at the rule of the live release after each verdict and every so often, and carries it out.

However many workers look, a rule fires once: the event is written only if what answers is still what was looked at, by
whoever has the turn to write (registry.py). Each worker reads with every request what answers, so all follow at once.
"""

from __future__ import annotations

import logging
from dataclasses import replace

from .errors import ReviewappError
from .ledger import Ledger
from .monitoring import monitored, trigger_of
from .registry import Registry
from .releaselog import FELL_BACK, ROLLED_BACK, ReleaseEvent
from .reviews import Reviews
from .trigger import ABOVE, evidence_words

log = logging.getLogger("reviewapp")
EVERY_SECONDS = 60.0  # a look that no verdict has caused: where a worker was killed between the verdict and its own


class Watch:
    """Looks at the rule of the live release, and carries out what it asks for."""

    def __init__(self, registry: Registry, ledger: Ledger) -> None:
        self._registry, self._ledger = registry, ledger

    def after_verdict(self) -> None:
        """Look; what fails is logged, for the verdict is kept, and the next look will come."""
        try:
            self.look()
        except ReviewappError as error:
            log.warning("the rollback rule could not be looked at: %s", error.detail)

    def go_round(self) -> None:
        """Look; whatever fails is raised."""
        self.look()

    def look(self) -> ReleaseEvent | None:
        """Return the event that the rule has led to, None where it is quiet or somebody else was faster."""
        seen = self._registry.standing()
        if seen is None or seen.option != "model":
            return None
        release = self._registry.adapter().release
        if release.id != seen.id:  # the live one does not load, and another answers in its place
            return None
        rule = release.policy.rollback
        reviews = Reviews({}, 0, self._ledger.judged(release.id, seen.after)).of(seen.option)  # none are counted
        found = trigger_of(rule, reviews)
        if found.state == ABOVE:
            found = trigger_of(rule, reviews, seen.fired_before)
        if found.state != ABOVE:
            return None
        counted = replace(self._ledger.reviews(release.id, seen.after), judged=reviews.judged)
        metric = monitored(release, counted, seen)["metric"]
        figures = {"release": release.id.as_json(), "trigger": found.as_json(), "metric": metric}
        judged = (
            f"{found.wrong} of {found.n} audited answers of {release.id} were wrong, and the limit is {rule.limit:g}; "
            f"evidence {evidence_words(found.evidence)} of the {found.needed:.3g} that it takes"
        )

        def reason(kind: str) -> str:
            done = {FELL_BACK: " The baseline answers.", ROLLED_BACK: " The release before it answers."}
            return f"The trigger fired: {judged}.{done.get(kind, ' Roll back.')}"

        event = self._registry.fire(rule.action, seen, reason, figures)
        if event is not None:
            log.error("%s", event.reason)
        return event
