"""Queue: what waits for a person, one record at a time, and the verdict on it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC
from typing import Any

from flask import redirect, url_for
from flask.typing import ResponseReturnValue

from .. import lookups
from ..bodies import NOT_HERE, NOTE, verdict_fields, verdict_request
from ..desk import Lease, Waiting
from ..errors import Conflict, Flaw, InvalidInput, pointer
from ..forms import Input, Mistake, inputs, mistakes, typed
from ..parts import parts
from ..prediction import Prediction, utcnow
from ..protocol import read_choices, wants_json
from ..reviews import rejects
from ..security import client, needs
from ..wording import WAITING, Story, answered, how_sure
from .base import Json, done, page, show, show_mistakes, ui
from .judging import completed, reasons, story

KEYS = 9  # so many labels have a button and a key each; of more there is a list


@dataclass(frozen=True)
class QueuePage:
    """What waits and, once it is opened, one record with the form for its verdict.

    `story` tells the record that was `recorded`; where the lease is blind, its answers are not shown. `last` is the
    prediction that the reader judged last. `lost` is what they had typed about a record that is not theirs any more.
    """

    waiting: Waiting
    judged: int
    last: str | None
    lease: Lease | None = None
    recorded: Prediction | None = None
    story: Story | None = None
    inputs: list[Input] = field(default_factory=list)
    reasons: Sequence[tuple[str, bool]] = ()
    mistakes: list[Mistake] = field(default_factory=list)
    lost: str = ""

    @property
    def labels(self) -> Sequence[str]:
        """The labels that have a button each."""
        labels = self.story.prediction.outcome.labels if self.story else ()
        return labels if len(labels) <= KEYS else ()

    @property
    def by_reason(self) -> list[tuple[str, int]]:
        """(why, how many) of what waits, in words."""
        return [(WAITING.get(why, why), n) for why, n in self.waiting.by_reason.items()]

    @property
    def blind(self) -> bool:
        """Whether the answers are hidden from the reader."""
        return self.lease is not None and self.lease.blind

    def as_json(self) -> Json:
        return {
            "waiting": self.waiting.as_json(),
            "judged_today": self.judged,
            "last": self.last,
            "lease": None if self.lease is None else vars(self.lease),
            "prediction": self.recorded and self.recorded.as_record(),
            "reason_options": [reason for reason, _ in self.reasons],
        }


@page("/queue")
@needs("review")
def queue() -> ResponseReturnValue:
    """What waits; the record that the reader has before them, where there is one."""
    return show("queue.html", _queue_page())


@ui.post("/queue/next")
@needs("review")
def open_next() -> ResponseReturnValue:
    """Give the reader the next record."""
    read_choices(parts.settings.max_body)
    lookups.next_in_queue()
    return redirect(url_for(".queue"), 303)


@ui.post("/queue/<prediction_id>/verdict")
@needs("review")
def judge(prediction_id: str) -> ResponseReturnValue:
    """Record a verdict and open the next record."""
    prediction = lookups.prediction(prediction_id, hidden=True)
    fields = verdict_fields(prediction.outcome)
    sent, chosen = read_choices(parts.settings.max_body, "reasons")
    text = typed(fields, sent)
    try:
        judged = lookups.add_verdict_in_turn(prediction_id, _verdict(prediction, text, chosen))
    except InvalidInput as error:
        return show_mistakes("queue.html", _queue_page(text, chosen, error.errors), error)
    except Conflict as error:
        lost = QueuePage(
            parts.desk.waiting(client().name), _judged(), parts.desk.last(client().name),
            mistakes=[Mistake(None, "This record", error.detail)], lost=text.get(NOTE.name, ""),
        )  # fmt: skip
        return show_mistakes("queue.html", lost, error)
    lookups.next_in_queue()
    return done(url_for(".queue"), _recorded(judged), url_for(".undo", prediction_id=prediction_id))


@ui.post("/queue/<prediction_id>/skip")
@needs("review")
def skip(prediction_id: str) -> ResponseReturnValue:
    """Put the record behind all others and open the next one."""
    read_choices(parts.settings.max_body)
    try:
        parts.desk.skip(prediction_id, client().name)
    except Conflict:
        if wants_json():
            raise
        return redirect(url_for(".queue"), 303)  # skipped already: a second click
    found = lookups.next_in_queue()
    alone = found is not None and found[0].prediction_id == prediction_id
    said = "Skipped, but nothing else waits that nobody else has." if alone else "Skipped: it comes back last."
    return done(url_for(".queue"), said)


@ui.post("/queue/<prediction_id>/undo")
@needs("review")
def undo(prediction_id: str) -> ResponseReturnValue:
    """Take the reader's verdict back and give them the record again."""
    read_choices(parts.settings.max_body)
    if lookups.prediction(prediction_id, hidden=True).verdict is None:
        return done(url_for(".queue"), "There is no verdict of yours to take back.")
    taken_back = lookups.take_back_in_turn(prediction_id)
    again = " Judge the record again." if taken_back.decision == "review" or taken_back.audit else ""
    return done(url_for(".queue"), f"Your verdict was taken back.{again}")


def _verdict(prediction: Prediction, text: dict[str, str], chosen: Sequence[str]) -> dict[str, Any]:
    """Return the verdict that was sent, checked. A label that the answer gave agrees with it."""
    right = verdict_fields(prediction.outcome)[1].name
    body: dict[str, Any] = {**text, "reasons": list(chosen)}
    if text.get(right) and not text.get("verdict"):  # the button of a label says no more than that
        body["verdict"] = "corrected"
    values = verdict_request(prediction.outcome, text=True).load(body)
    if prediction.hidden and values["verdict"] in ("agree", "disagree"):
        raise InvalidInput([Flaw(pointer("verdict"), NOT_HERE, "Give your own answer first.")])
    if values["verdict"] == "corrected" and values[right] == prediction.output.get("label"):
        return {**values, "verdict": "agree", right: None}
    return values


def _queue_page(
    text: dict[str, str] | None = None, chosen: Sequence[str] = (), flaws: Sequence[Flaw] = ()
) -> QueuePage:
    reader = client().name
    waiting, last, lease = parts.desk.waiting(reader), parts.desk.last(reader), parts.desk.held(reader)
    if lease is None:
        return QueuePage(waiting, _judged(), last)
    prediction = lookups.prediction(lease.prediction_id, hidden=True)
    if text is None:
        text, chosen = _taken_back(prediction, reader)
    told = story(prediction if prediction.hidden else completed(prediction))
    _, right, note = verdict_fields(prediction.outcome)
    listed = right.kind == "number" or len(prediction.outcome.labels) > KEYS
    drawn = inputs([right, note] if listed else [note], text, flaws, form="verdict", blank="No label", compact=listed)
    offered = reasons(chosen)
    return QueuePage(waiting, _judged(), last, lease, prediction, told, drawn, offered, mistakes(drawn, flaws))


def _taken_back(prediction: Prediction, reader: str) -> tuple[dict[str, str], Sequence[str]]:
    """Return note and reasons of the reader's own verdict that was just taken back: they need not be written anew."""
    given = prediction.verdicts[-2:]
    if [one.author for one in given] != [reader, reader] or given[-1].verdict != "withdrawn":
        return {}, ()
    return {NOTE.name: given[0].note or ""}, given[0].reasons


def _judged() -> int:
    """Return how many verdicts the reader has given today (in UTC, as every time of the ledger)."""
    midnight = utcnow().replace(hour=0, minute=0, second=0, microsecond=0, tzinfo=UTC)
    return parts.desk.judged(client().name, midnight)


def _recorded(judged: Prediction) -> str:
    """Return what was recorded in words; after a blind verdict, also what the options say."""
    given = judged.verdict
    if given is None:
        return "Recorded."
    said = given.right if given.right is not None else given.verdict
    if not given.blind:
        return f"Recorded: {said}."
    sure = f"{answered(judged.output)} ({how_sure(judged.output)})"
    other = judged.comparison and f", the {judged.comparison['option']} {answered(judged.comparison['output'])}"
    same = rejects(given, judged.output) is False
    yours = "your answer agrees with the one" if same else f"{said}. It is another answer than the one"
    return f"Recorded: {yours} of the {judged.option}, {sure}{other or ''}."
