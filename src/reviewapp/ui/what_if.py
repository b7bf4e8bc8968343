"""What if one field were different? The answer to the changed request beside the former one; nothing is recorded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from flask.typing import ResponseReturnValue

from .. import lookups
from ..adapter import ModelAdapter
from ..bodies import prediction_request
from ..contract import Contract
from ..errors import Flaw, InvalidInput, NotFound, pointer
from ..field import Field, Record, Value
from ..filters import option
from ..forms import Input, Mistake, as_typed, control_names, inputs, mistakes, typed
from ..parts import parts
from ..prediction import Call, Prediction
from ..protocol import read_form, read_query, request_id
from ..schemas import MISSING, RecordSchema, form_schema
from ..security import client, needs
from ..wording import Change, Story, answered, how_sure, tell, tell_change
from .base import Json, page, show, show_mistakes, ui
from .judging import questions

WHAT_IF_OPTIONS = (option("field", "text", "Field", "The field to change, by the name that its form sends."),)
RECORDED, COMPUTED, REFUSED = "recorded", "computed", "refused"  # where the former answer comes from


@dataclass(frozen=True)
class WhatIfPage:
    """One field of a recorded request to change and, once that was sent, the answers before and after.

    `former` is the answer compared with: the recorded one or, where another release answers now, what that one says to
    the unchanged request. `origin` says which; where the release refuses the unchanged request, it is the recorded one.
    """

    recorded: Prediction
    contract: Contract
    questions: list[tuple[str, str]]
    asked: Field | None = None
    input: Input | None = None
    mistakes: list[Mistake] = field(default_factory=list)
    former: Prediction | None = None
    changed: Prediction | None = None
    origin: str = RECORDED
    story: Story | None = None

    @property
    def value(self) -> Value:
        """The value that the answer shown is for."""
        record = (self.changed or self.recorded).input or {}
        return None if self.asked is None else record.get(self.asked.name)

    @property
    def answer(self) -> str:
        """The recorded answer, and how sure it is."""
        return f"{answered(self.recorded.output, self.contract.outcome.unit)} ({how_sure(self.recorded.output)})"

    @property
    def note(self) -> str:
        """What is to be known of the former answer where another release answers now."""
        if self.changed is None or self.origin == RECORDED:
            return ""
        then, now = self.recorded.release, self.changed.release
        if self.origin == COMPUTED:
            return f"{then} gave the recorded answer. {now} answers now: both answers below are its own."
        return (
            f"{then} gave the recorded answer, which stands below. {now} answers now, and does not take the request "
            "unchanged."
        )

    @property
    def change(self) -> Change | None:
        if self.asked is None or self.former is None or self.changed is None:
            return None
        return tell_change(self.former, self.changed, self.asked, self.contract.outcome.unit)

    @property
    def to_send(self) -> dict[str, str]:
        """The changed request as the form on Try sends it; empty where a form cannot say the same."""
        if self.changed is None or self.changed.input is None:
            return {}
        names = control_names(self.contract.fields)
        sent = dict(zip(names, as_typed(self.changed.input).values(), strict=True))
        try:
            read = form_schema(self.contract).load(typed(self.contract.fields, sent), "/input")
        except InvalidInput:
            return {}
        return sent if read == self.changed.input else {}

    def as_json(self) -> Json:
        former = self.former or self.recorded
        return {
            "former": former.as_json() | {"id": None if self.origin == COMPUTED else former.id, "input": former.input},
            "changed": self.changed and self.changed.as_json() | {"id": None, "input": self.changed.input},
            "field": self.asked and self.asked.name,
            "value": self.value,
        }


@page("/what-if/<prediction_id>")
@needs("submit")
def what_if(prediction_id: str) -> ResponseReturnValue:
    """Choose a field of a recorded request, or change the one that was chosen."""
    adapter, recorded = parts.registry.adapter(), _recorded(prediction_id)
    return show("what_if.html", _page(adapter, recorded, _asked(adapter.contract)))


@ui.post("/what-if/<prediction_id>")
@needs("submit")
def ask_what_if(prediction_id: str) -> ResponseReturnValue:
    """Answer the request with one field changed, and keep nothing of it."""
    adapter, recorded = parts.registry.adapter(), _recorded(prediction_id)
    contract, asked = adapter.contract, _asked(adapter.contract)
    if asked is None:
        raise InvalidInput([Flaw(pointer("query", "field"), MISSING.code, MISSING.detail)])
    text = typed(contract.fields, read_form(parts.settings.max_body))
    try:
        _check_alone(text, asked)
        value = RecordSchema([asked], text=True, missing=contract.missing).load(text, "/input")
        changed, _ = prediction_request(contract).load({"input": {**(recorded.input or {}), **value}})
    except InvalidInput as error:
        return show_mistakes("what_if.html", _page(adapter, recorded, asked, text, error.errors), error)
    shown = _page(adapter, recorded, asked, as_typed(changed))
    return show("what_if.html", _answered(adapter, shown, changed))


def _recorded(prediction_id: str) -> Prediction:
    found = lookups.prediction(prediction_id)
    if found.input is None:
        raise NotFound("The request of this prediction was erased, so it cannot be answered again.")
    return found


def _asked(contract: Contract) -> Field | None:
    """Return the field that the query names as a form would, or None where it names none."""
    name = read_query(WHAT_IF_OPTIONS)["field"]
    if name is None:
        return None
    known = dict(zip(control_names(contract.fields), contract.fields, strict=True))
    if name not in known:
        raise NotFound("The contract knows no field of this name.")
    return known[name]


def _check_alone(text: Mapping[str, str], asked: Field) -> None:
    detail = "Only the field that the address names can be changed here."
    others = [Flaw(pointer("input", name), "not_allowed_here", detail) for name in text if name != asked.name]
    if others:
        raise InvalidInput(others)


def _page(
    adapter: ModelAdapter,
    recorded: Prediction,
    asked: Field | None,
    text: dict[str, str] | None = None,
    flaws: Sequence[Flaw] = (),
) -> WhatIfPage:
    fields = adapter.contract.fields
    text = as_typed(recorded.input or {}) if text is None else text
    drawn = [one for one in inputs(fields, text, flaws, "/input", form="request") if one.field is asked]
    return WhatIfPage(
        recorded=recorded,
        contract=adapter.contract,
        questions=questions(recorded),
        asked=asked,
        input=drawn[0] if drawn else None,
        mistakes=mistakes(drawn, flaws, "/input"),
    )


def _answered(adapter: ModelAdapter, shown: WhatIfPage, changed: Record) -> WhatIfPage:
    """Return the page with the answer to the changed request, and with the former answer to compare it with."""
    recorded = shown.recorded
    try:
        unchanged, _ = prediction_request(adapter.contract).load({"input": recorded.input})
        records = [unchanged, changed]
    except InvalidInput:  # another release answers now, and its contract is narrower
        records = [changed]
    call = Call(source="form", client=client().name, request_id=request_id(), dry_run=True)
    *before, after = adapter.predict(records, call, option=recorded.option, compare=True)
    if recorded.release == adapter.release.id:
        former, origin = replace(recorded, comparison=recorded.comparison or before[0].comparison), RECORDED
    else:
        former, origin = (before[0], COMPUTED) if before else (recorded, REFUSED)
    after = replace(after, audit=False)  # nothing is recorded, so nothing is drawn for a check
    story = tell(after, adapter.contract, adapter.release.policy_of(after.option))
    return replace(shown, former=former, changed=after, origin=origin, story=story)
