"""Try: a form made from the contract and, once it was sent, the answer."""

from __future__ import annotations

import hashlib
import random
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from flask import g, redirect, url_for
from flask.typing import ResponseReturnValue

from .. import lookups
from ..adapter import ModelAdapter
from ..contract import Contract
from ..errors import Conflict, Flaw, InvalidInput, NotFound
from ..field import Record
from ..filters import option
from ..forms import Input, Mistake, as_typed, inputs, mistakes, typed
from ..parts import parts
from ..prediction import Call, IdempotencyKey, Prediction
from ..protocol import read_form, read_query, request_id
from ..release import Golden
from ..samples import valid_record
from ..schemas import form_schema
from ..security import client, needs
from ..wording import Story, excerpt
from .base import Json, page, show, show_mistakes, ui
from .judging import Judgement, copies, judgement, questions, story

TRY_OPTIONS = (
    option("prediction", "text", "Prediction", "Show this one.", max_length=100),
    option("sample", "integer", "Sample", "Fill in this one.", minimum=1),
    option("random", "integer", "Random", "Fill in a random valid request made from this seed.", minimum=0),
)
SUBMIT_OPTIONS = (option("once", "text", "Once", "The number of the form: it is answered once.", max_length=100),)
PATIENCE = 10.0  # seconds that a second click waits for the answer to the first


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
    once: str = field(default_factory=lambda: secrets.token_urlsafe(12))
    questions: list[tuple[str, str]] = field(default_factory=list)

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


@page("/")
@needs("submit")
def try_it() -> ResponseReturnValue:
    """The form, empty or filled with a sample, a random request, or a recorded one, whose answer it then shows."""
    adapter, query = parts.registry.adapter(), read_query(TRY_OPTIONS)
    if query["prediction"] is not None:
        return show("try.html", _try_page(adapter, prediction=lookups.prediction(query["prediction"])))
    record: Record | None = None
    if query["sample"] is not None:
        samples = adapter.release.samples
        if query["sample"] > len(samples):
            raise NotFound(f"There is no such sample; this release has {len(samples)}.")
        record = samples[query["sample"] - 1].input
    if query["random"] is not None:
        like = [row.input for row in adapter.release.golden]
        record = valid_record(adapter.contract, random.Random(query["random"]), like)  # noqa: S311 (no secret)
    return show("try.html", _try_page(adapter, record, seed=query["random"] or 0))


@ui.post("/")
@needs("submit")
def submit() -> ResponseReturnValue:
    """Answer a submitted form, then show it at an address of its own."""
    adapter = parts.registry.adapter()
    text = typed(adapter.contract.fields, read_form(parts.settings.max_body))
    try:
        record = form_schema(adapter.contract).load(text, "/input")
    except InvalidInput as error:
        return show_mistakes("try.html", _try_page(adapter, text=text, flaws=error.errors), error)
    [made] = _answer_once(adapter, record)
    return redirect(url_for(".try_it", prediction=made.id, _anchor="answer"), 303)


def _answer_once(adapter: ModelAdapter, record: Record) -> list[Prediction]:
    """Return the recorded answer; a second click on the button of the same form gets the first one's."""
    call = Call(source="form", client=client().name, request_id=request_id())
    form = read_query(SUBMIT_OPTIONS)["once"]
    if form is None:
        return adapter.predict([record], call, compare=True, explain=True)
    fingerprint = hashlib.sha256(g.body).hexdigest()
    key = IdempotencyKey(client().name, f"form {form} {fingerprint}", fingerprint)
    ends = time.monotonic() + PATIENCE
    while True:
        try:
            with parts.ledger.claim(key) as answered:
                if answered is not None:
                    return answered
                return adapter.predict([record], replace(call, key=key), compare=True, explain=True)
        except Conflict:  # the first click is being answered
            if time.monotonic() > ends:
                raise
            time.sleep(0.05)


def _try_page(
    adapter: ModelAdapter,
    record: Record | None = None,
    *,
    text: dict[str, str] | None = None,
    flaws: Sequence[Flaw] = (),
    prediction: Prediction | None = None,
    seed: int = 0,
) -> TryPage:
    if prediction is not None:
        record = prediction.input
    text = as_typed(record or {}) if text is None else text
    drawn = inputs(adapter.contract.fields, text, flaws, "/input", form="request")
    return TryPage(
        contract=adapter.contract,
        inputs=drawn,
        samples=adapter.release.samples,
        next_random=seed + 1,
        record=record,
        mistakes=mistakes(drawn, flaws, "/input"),
        story=story(prediction) if prediction else None,
        judgement=judgement(prediction) if prediction else None,
        snippets=copies(prediction.input) if prediction else {},
        questions=questions(prediction) if prediction else [],
    )
