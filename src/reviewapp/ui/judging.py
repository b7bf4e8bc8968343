"""What the pages that show an answer share: its story, the form for a verdict, copies of the request."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from flask import request

from .. import lookups, snippets
from ..adapter import difference
from ..bodies import verdict_fields
from ..errors import Flaw, ModelBroken, NotReady
from ..field import Record
from ..forms import Input, Mistake, control_names, inputs, mistakes
from ..parts import parts
from ..prediction import Call, Prediction
from ..security import client
from ..wording import VERDICT_WORDS, Story, tell


@dataclass(frozen=True)
class Judgement:
    """The form for a verdict; `mistakes` are those of what was sent last, `reasons` (reason, whether it was chosen)."""

    inputs: list[Input]
    mistakes: list[Mistake] = field(default_factory=list)
    reasons: Sequence[tuple[str, bool]] = ()


def story(prediction: Prediction) -> Story:
    try:
        release = parts.registry.adapter().release
    except NotReady:  # what was answered can be read, and judged, also while nothing answers
        return tell(prediction)
    policy = release.policy_of(prediction.option) if release.id == prediction.release else None
    return tell(prediction, release.contract, policy)


def completed(prediction: Prediction) -> Prediction:
    """Return a prediction with the other option and the explanation, worked out now where they were not recorded.

    That is done, and nothing is recorded, where the same release answers now and still answers the same; else the
    record is returned as it is.
    """
    if prediction.input is None or (prediction.comparison is not None and prediction.explanation is not None):
        return prediction
    try:
        adapter = parts.registry.adapter()
        if adapter.release.id != prediction.release:
            return prediction
        [again] = adapter.predict(
            [prediction.input], Call(dry_run=True), option=prediction.option, compare=True, explain=True
        )
    except (NotReady, ModelBroken):
        return prediction
    if difference(prediction.output, again.output) is not None:
        return prediction
    return replace(
        prediction,
        comparison=prediction.comparison or again.comparison,
        explanation=prediction.explanation or again.explanation,
    )


def judgement(
    prediction: Prediction,
    text: dict[str, str] | None = None,
    flaws: Sequence[Flaw] = (),
    chosen: Sequence[str] = (),
) -> Judgement | None:
    """Return the form for a verdict, or None for who may not give one."""
    if not client().may("review"):
        return None
    drawn = inputs(
        verdict_fields(prediction.outcome), text, flaws, form="verdict", blank="No other", words=VERDICT_WORDS
    )
    return Judgement(drawn, mistakes(drawn, flaws), reasons(chosen))


def reasons(chosen: Sequence[str] = ()) -> list[tuple[str, bool]]:
    """Return the reasons that the policy offers for a verdict, and whether each was chosen."""
    rules = lookups.policy()
    return [(reason, reason in chosen) for reason in (rules.reason_options if rules else ())]


def questions(prediction: Prediction) -> list[tuple[str, str]]:
    """Return (label, what a form calls it) of each field that one can ask "what if" about; none where nothing can."""
    try:
        contract = parts.registry.adapter().contract
    except NotReady:
        return []
    if prediction.input is None or set(prediction.input) != set(contract.names):  # of a release with other fields
        return []
    fields = contract.fields
    return [(field.label, name) for field, name in zip(fields, control_names(fields), strict=True)]


def copies(record: Record | None) -> dict[str, str]:
    """Return the request as programs send it, by the name of the language."""
    if record is None:
        return {}
    base, token = request.url_root.rstrip("/"), parts.settings.auth == "token"
    return {
        "curl": snippets.curl(base, record, snippets.TOKEN if token else None),
        "Python": snippets.python(base, record, token=token),
    }
