"""History: every prediction, the story of each, and verdicts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from flask import request, url_for
from flask.typing import ResponseReturnValue

from .. import lookups
from ..contract import Field
from ..errors import Flaw, InvalidInput, NotReady
from ..forms import Input, Mistake, inputs, mistakes, typed
from ..lookups import FILTERS
from ..parts import parts
from ..prediction import Prediction
from ..protocol import read_form
from ..schemas import verdict_fields, verdict_request
from ..security import client, needs
from ..wording import Story, answered, excerpt, how_sure
from .base import Json, done, page, show, show_mistakes, ui
from .judging import Judgement, copies, judgement, questions, story

HIDDEN = "hidden until you have judged it"


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
        return [
            (one, excerpt(one.input), *((HIDDEN, "") if one.hidden else (answered(one.output), how_sure(one.output))))
            for one in self.predictions
        ]

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
class RecordPage:
    """The whole story of one prediction, and the form for a verdict where the reader may give one."""

    story: Story
    judgement: Judgement | None
    snippets: Mapping[str, str]
    questions: list[tuple[str, str]]

    @property
    def mistakes(self) -> list[Mistake]:
        return self.judgement.mistakes if self.judgement else []

    def as_json(self) -> Json:
        return self.story.prediction.as_record()


@page("/history")
@needs("review")
def history() -> ResponseReturnValue:
    """Every prediction, newest first, with the API's own filters and cursors."""
    query = {name: value for name, value in request.args.items() if value}

    def controls(flaws: Sequence[Flaw] = ()) -> list[Input]:
        return inputs(_filters(), query, flaws, "/query", form="filter", blank="Any", compact=True)

    try:
        found, following = lookups.predictions()
    except InvalidInput as error:
        drawn = controls(error.errors)
        shown = HistoryPage(drawn, query, mistakes=mistakes(drawn, error.errors, "/query"))
        return show_mistakes("history.html", shown, error)
    return show("history.html", HistoryPage(controls(), query, found, following))


def _filters() -> list[Field]:
    """Return the API's filters, the one for the label with the labels of the live release to choose from."""
    try:
        labels = parts.registry.adapter().contract.outcome.labels or None
    except NotReady:
        labels = None
    return [replace(one, seen_choices=labels) if one.name == "label" else one for one in FILTERS]


@page("/history/<prediction_id>")
@needs("submit")
def show_record(prediction_id: str) -> ResponseReturnValue:
    """One prediction with its whole story."""
    return show("record.html", _record_page(lookups.prediction(prediction_id)))


@ui.post("/history/<prediction_id>/verdict")
@needs("review")
def give_verdict(prediction_id: str) -> ResponseReturnValue:
    """Append a verdict."""
    prediction = lookups.prediction(prediction_id)
    text = typed(verdict_fields(prediction.outcome), read_form(parts.settings.max_body))
    try:
        lookups.add_verdict(prediction_id, verdict_request(prediction.outcome, text=True).load(text))
    except InvalidInput as error:
        return show_mistakes("record.html", _record_page(prediction, text, error.errors), error)
    record = url_for(".show_record", prediction_id=prediction_id, _anchor="verdicts")
    undo = url_for(".withdraw_verdict", prediction_id=prediction_id)
    return done(record, "Your verdict is recorded.", undo)


@ui.post("/history/<prediction_id>/verdict/withdraw")
@needs("review")
def withdraw_verdict(prediction_id: str) -> ResponseReturnValue:
    """Take the verdict that holds back; the history keeps it."""
    parts.ledger.withdraw_verdict(prediction_id, client().name)
    record = url_for(".show_record", prediction_id=prediction_id, _anchor="verdicts")
    return done(record, "The verdict was taken back; the history keeps it.")


def _record_page(prediction: Prediction, text: dict[str, str] | None = None, flaws: Sequence[Flaw] = ()) -> RecordPage:
    judged = judgement(prediction, text, flaws)
    return RecordPage(story(prediction), judged, copies(prediction.input), questions(prediction))
