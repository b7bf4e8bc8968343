"""History: every prediction, the story of each, and verdicts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from urllib.parse import urlencode

from flask import Response, redirect, request, url_for
from flask.typing import ResponseReturnValue

from .. import lookups
from ..bodies import verdict_fields, verdict_request
from ..contract import Contract
from ..errors import Flaw, InvalidInput, NotReady, ReleaseRefused
from ..export import KINDS, export
from ..field import Field
from ..filters import FILTERS, SORT, to_export
from ..finding import SORTS
from ..forms import Input, Mistake, inputs, mistakes, typed
from ..parts import parts
from ..prediction import Prediction
from ..protocol import query_texts, read_choices, stream, wants_json
from ..security import needs
from ..wording import SORT_WORDS, Story, answered, excerpt, how_sure
from .base import Json, done, page, show, show_mistakes, ui
from .judging import Judgement, completed, copies, judgement, questions, story

PAGING = {"newest": ("Newest", "Older"), "oldest": ("Oldest", "Newer")}  # the links to the first and the next page


@dataclass(frozen=True)
class HistoryPage:
    """A page of predictions in an order. `query` is what is asked for, `following` the cursor of the next page.

    Of the inputs, the first is the search, the second the order, the others are filters.
    """

    inputs: list[Input]
    query: Mapping[str, str]
    predictions: list[Prediction] = field(default_factory=list)
    following: str | None = None
    mistakes: list[Mistake] = field(default_factory=list)
    left_out: int = 0

    @property
    def rows(self) -> list[tuple[Prediction, str, str, str]]:
        """(prediction, beginning of its request, its answer, how sure that is)"""
        return [(one, excerpt(one.input), answered(one.output), how_sure(one.output)) for one in self.predictions]

    @property
    def sort(self) -> str:
        return self.query.get("sort", SORTS[0])

    @property
    def shown(self) -> str:
        """How many are shown, in which order, and whether there are more, as a sentence without its end."""
        n, rest = len(self.predictions), self.following is not None or "cursor" in self.query
        what = f"{n} of the predictions" if rest else f"{n} prediction{'s' * (n != 1)}"
        matching = "" if not self.asked else " that match" if rest or n != 1 else " that matches"
        return f"{what}{matching}, {SORT_WORDS[self.sort].lower()}"

    @property
    def paging(self) -> tuple[str, str]:
        return PAGING.get(self.sort, ("First page", "Next page"))

    @property
    def next_page(self) -> Mapping[str, str] | None:
        return None if self.following is None else {**self.query, "cursor": self.following}

    @property
    def first_page(self) -> Mapping[str, str]:
        return {name: value for name, value in self.query.items() if name != "cursor"}

    @property
    def exported(self) -> Mapping[str, str]:
        """The same filters and order for the whole of it."""
        return {name: value for name, value in self.query.items() if name not in ("cursor", "limit")}

    @property
    def asked(self) -> list[tuple[str, str]]:
        """(filter, value) of each that is set, as a person reads them."""
        named = {one.name: one for one in (self.inputs[0], *self.inputs[2:])}
        return [
            (named[name].field.label, dict(named[name].choices).get(value, value))
            for name, value in self.query.items()
            if name in named
        ]

    @property
    def narrowed(self) -> bool:
        """Whether a filter besides the search is set, or is mistaken."""
        return any(one.value or one.error for one in self.inputs[2:])

    def as_json(self) -> Json:
        return {"predictions": [one.as_record() for one in self.predictions], "next": self.following}


@dataclass(frozen=True)
class RecordPage:
    """The whole story of one prediction, and the form for a verdict where the reader may give one.

    `recorded` is the prediction as it was kept; the story may tell more of it.
    """

    recorded: Prediction
    story: Story
    judgement: Judgement | None
    snippets: Mapping[str, str]
    questions: list[tuple[str, str]]

    @property
    def mistakes(self) -> list[Mistake]:
        return self.judgement.mistakes if self.judgement else []

    @property
    def worked_out(self) -> list[str]:
        """What was not recorded, but worked out now."""
        now, then = self.story.prediction, self.recorded
        return [
            *(["the other option"] if then.comparison is None and now.comparison is not None else []),
            *(["what moved the answer"] if then.explanation is None and now.explanation is not None else []),
        ]

    def as_json(self) -> Json:
        return self.recorded.as_record()


@page("/history")
@needs("review")
def history() -> ResponseReturnValue:
    """Every prediction, with the API's own filters, orders and cursors, at an address that says no more than it must.

    A form sends every control; what says nothing is taken out of the address, so that it can be shared.
    """
    query = {name: value for name, value in request.args.items() if value and (name, value) != ("sort", SORTS[0])}
    if len(query) < len(request.args) and not wants_json() and not _twice():
        return redirect(f"{url_for('.history')}{'?' if query else ''}{urlencode(query)}", 303)

    def controls(flaws: Sequence[Flaw] = ()) -> list[Input]:
        drawn = inputs(_controls(), query, flaws, "/query", form="filter", blank="Any", compact=True)
        order = [("", SORT_WORDS[SORTS[0]]), *((name, SORT_WORDS[name]) for name in SORTS[1:])]
        return [replace(one, choices=order) if one.name == SORT.name else one for one in drawn]

    try:
        found, following = lookups.predictions()
    except InvalidInput as error:
        drawn = controls(error.errors)
        shown = HistoryPage(drawn, query, mistakes=mistakes(drawn, error.errors, "/query"))
        return show_mistakes("history.html", shown, error)
    left_out = len(lookups.to_be_judged())
    return show("history.html", HistoryPage(controls(), query, found, following, left_out=left_out))


def _twice() -> bool:
    return len(list(request.args.items(multi=True))) > len(request.args)


def _controls() -> list[Field]:
    """Return the search, the order and the filters, the one for the label with those of the live release to choose."""
    try:
        labels = parts.registry.adapter().contract.outcome.labels or None
    except NotReady:
        labels = None
    search, *others = FILTERS
    return [search, SORT, *(replace(one, seen_choices=labels) if one.name == "label" else one for one in others)]


@ui.get("/history.csv", defaults={"kind": "csv"})
@ui.get("/history.jsonl", defaults={"kind": "jsonl"})
@needs("review")
def export_history(kind: str) -> Response:
    """All that the page's address finds, as a file; it is sent while it is read."""
    filters, sort = to_export(query_texts())
    pieces = export(kind, parts.ledger, filters, sort, _contract(), lookups.to_be_judged())
    response = stream(pieces, KINDS[kind])
    response.headers["Content-Disposition"] = f'attachment; filename="predictions.{kind}"'
    return response


def _contract() -> Contract | None:
    try:
        return parts.registry.contract()
    except (NotReady, ReleaseRefused):  # what was answered can be read also while nothing answers
        return None


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
    sent, chosen = read_choices(parts.settings.max_body, "reasons")
    text = typed(verdict_fields(prediction.outcome), sent)
    try:
        values = verdict_request(prediction.outcome, text=True).load({**text, "reasons": chosen})
    except InvalidInput as error:
        return show_mistakes("record.html", _record_page(prediction, text, error.errors, chosen), error)
    lookups.add_verdict(prediction_id, values)
    record = url_for(".show_record", prediction_id=prediction_id)
    undo = url_for(".withdraw_verdict", prediction_id=prediction_id)
    return done(record, "Your verdict is recorded.", undo)


@ui.post("/history/<prediction_id>/verdict/withdraw")
@needs("review")
def withdraw_verdict(prediction_id: str) -> ResponseReturnValue:
    """Take the verdict that holds back; the history keeps it."""
    lookups.withdraw_verdict(prediction_id)
    record = url_for(".show_record", prediction_id=prediction_id)
    return done(record, "The verdict was taken back; the history keeps it.")


def _record_page(
    prediction: Prediction,
    text: dict[str, str] | None = None,
    flaws: Sequence[Flaw] = (),
    chosen: Sequence[str] = (),
) -> RecordPage:
    judged, told = judgement(prediction, text, flaws, chosen), story(completed(prediction))
    return RecordPage(prediction, told, judged, copies(prediction.input), questions(prediction))
