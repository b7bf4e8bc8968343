"""A prediction in words: what the pages say of an answer, so that templates only place it.

Every sentence says what the figures say and no more; a person who judges an answer shall not be talked into it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .contract import Contract
from .errors import pointer
from .field import Field, Record, Value
from .marking import Piece, mark, shortened
from .policy import LOW_CONFIDENCE, OPTIONS_DISAGREE, OUTSIDE_SEEN, WIDE_INTERVAL, Policy
from .prediction import Prediction, differ
from .samples import as_text

OPTION_WORDS = {"baseline": "Baseline", "model": "Model"}
VERDICT_WORDS = {
    "agree": "Agree: the answer is right",
    "corrected": "Corrected: I know the right answer",
    "disagree": "Disagree: it is wrong, the right answer is not known",
    "unsure": "Unsure: I cannot tell",
}
WAITING = {  # why a record waits for a person
    LOW_CONFIDENCE: "The model was not sure enough",
    WIDE_INTERVAL: "The interval is too wide",
    OUTSIDE_SEEN: "A value outside of what training saw",
    OPTIONS_DISAGREE: "Model and baseline disagree",
    "audit": "Drawn by lot for a check",
}
SORT_WORDS = {
    "newest": "Newest first",
    "oldest": "Oldest first",
    "least_sure": "Least sure first",
    "most_sure": "Most sure first",
}
_LIKELY = (  # from this confidence on, in words
    (0.99, "almost certainly right"),
    (0.9, "very likely right"),
    (0.75, "likely right"),
    (0.5, "more likely right than wrong"),
    (0.0, "more likely wrong than right"),
)
_ADVICE = {  # what to do next; of several reasons the first one that holds
    OUTSIDE_SEEN: "Check the value named below. If it is right, decide without the model: it has seen nothing like it.",
    LOW_CONFIDENCE: "Read the request and decide yourself; take the answer for no more than a hint.",
    WIDE_INTERVAL: "Estimate it yourself; take the value for no more than a hint.",
    OPTIONS_DISAGREE: "Read the request and decide yourself which of the two answers is right.",
}
_DECIDED = {"auto": "May be used as it is", "review": "A person must look"}
_BECAUSE = {
    LOW_CONFIDENCE: "low confidence",
    WIDE_INTERVAL: "wide interval",
    OUTSIDE_SEEN: "a value not seen in training",
    OPTIONS_DISAGREE: "the options disagree",
}
MEASURES = {  # what is shown of an evaluation: its name there, its title, and how it is written ("": any number)
    "n": ("Requests", ",.0f"),
    "accuracy": ("Accuracy", ".3f"),
    "macro_f1": ("Macro-F1", ".3f"),
    "brier": ("Brier (0–2, less is better)", ".3f"),
    "mean_absolute_error": ("Mean absolute error", ""),
    "r2": ("R²", ".3f"),
    "coverage": ("Coverage of intervals", ".3f"),
    "mean_width": ("Mean width of intervals", ""),
    "referred": ("Share to a person", ".3f"),
    "cost_per_100": ("Cost of 100", ",.1f"),
}
BLANK = "leaving it empty (or, where that is not allowed, the example of the contract)"
NOT_A_SUM = "Measured by changing one field at a time; together they need not add up."
LABELS = 6  # so many labels are shown one by one, the others together
WORDS = 6  # of a text, so many are shown one by one
CELL = 160  # characters of a value that is shown beside another one
BEFORE = 40  # of them, so many before what differs
AUTO_ADVICE = "Nothing needs to be done. If you see that it is wrong, say so below: that is how mistakes come to light."
DIFFER_ADVICE = "The other option differs, and the policy goes by this one. If you see that it is wrong, say so below."


def percent(share: float) -> str:
    """Return a probability as people write it; never 100 % or 0 %, which would say that it cannot be otherwise."""
    if share > 0.99:
        return "over 99\u00a0%"
    if share < 0.01:
        return "under 1\u00a0%"
    return f"{share * 100:.0f}\u00a0%"


def signed(number: float, decimals: int = 2) -> str:
    """Return a figure with its sign, as it is typeset."""
    return f"{number:+,.{decimals}f}".replace("-", "−")


def number(value: float) -> str:
    """Return a number of any size to four digits, without an exponent where it is large."""
    return f"{value:{',.0f' if abs(value) >= 1000 else '.4g'}}".replace("-", "−")


def measured(name: str, value: float) -> str:
    """Return a figure of an evaluation as it is written."""
    form = MEASURES[name][1]
    return f"{value:{form}}".replace("-", "−") if form else number(value)


def automatic_rule(policy: Policy) -> str:
    """Return which answers go to a person for not being sure enough, as a sentence without its end."""
    if policy.coverage is None:
        return f"Answers below a confidence of {100 * policy.threshold:.1f} % go to a person"
    intervals = f"Intervals are made to hold the true value in {100 * policy.coverage:g} % of requests"
    if policy.widest_interval is None:
        return intervals
    return f"{intervals}; answers with one wider than {number(policy.widest_interval)} go to a person"


def excerpt(record: Record | None, length: int = 90) -> str:
    """Return the beginning of a request on one line."""
    if record is None:
        return "(erased)"
    text = " · ".join(" ".join(as_text(value).split()) for value in record.values() if value not in (None, ""))
    return text if len(text) <= length else text[: length - 1] + "…"


@dataclass(frozen=True)
class Effect:
    """What one field or word adds to the answer. `x` and `width` place its bar in a picture from -100 to 100.

    `pieces` are the text of the field, with the terms that moved the answer marked; empty where there is none.
    """

    label: str
    amount: float
    x: float
    width: float
    terms: list[Effect] = field(default_factory=list)
    decimals: int = 2
    pieces: list[Piece] = field(default_factory=list)

    @property
    def figure(self) -> str:
        return signed(self.amount, self.decimals)


@dataclass(frozen=True)
class Effects:
    """What moved the answer, the strongest first, and what the figures mean; `sides` are the words for + and −."""

    meaning: str
    sum: str
    fields: list[Effect]
    sides: tuple[str, str] = ("", "")


@dataclass(frozen=True)
class Story:
    """One prediction as the pages tell it. `answers` are (option, what it says), the baseline first.

    `shares` are (what, the figure of each option): probabilities by label, or the interval of a value.
    """

    prediction: Prediction
    decision: str
    advice: str
    confidence: str
    answers: list[tuple[str, str]]
    differ: bool
    shares: list[tuple[str, list[str]]]
    warnings: list[tuple[str, str]]
    request: list[tuple[str, str]]
    effects: Effects | None


def tell(prediction: Prediction, contract: Contract | None = None, policy: Policy | None = None) -> Story:
    """Return the story of a prediction; `contract` gives the fields their labels, also where it is a later one.

    `policy` is that of the prediction's own release, where that is known.
    """
    labels = {one.name: one.label for one in contract.fields} if contract else {}
    unit = contract.outcome.unit if contract else ""
    outputs = {prediction.option: prediction.output}
    if prediction.comparison is not None:
        outputs[prediction.comparison["option"]] = prediction.comparison["output"]
    options = [(OPTION_WORDS[name], outputs[name]) for name in OPTION_WORDS if name in outputs]
    differing = len(options) == 2 and differ(options[0][1], options[1][1])
    advice = [words for reason, words in _ADVICE.items() if reason in prediction.reasons]
    return Story(
        prediction=prediction,
        decision=_decision(prediction, policy),
        advice=[*advice, DIFFER_ADVICE if differing else AUTO_ADVICE][0],
        confidence=_confidence(prediction) if "label" in prediction.output else _reach(prediction, unit, policy),
        answers=[(name, answered(output, unit)) for name, output in options],
        differ=differing,
        shares=_shares(options),
        warnings=_warnings(prediction, labels),
        request=[(labels.get(name, name), _value(value)) for name, value in (prediction.input or {}).items()],
        effects=None if prediction.explanation is None else _effects(prediction, prediction.explanation, labels),
    )


@dataclass(frozen=True)
class Change:
    """One answer beside the former one. `rows` are (what, the former, the changed, whether they differ).

    `shares` are the probabilities of both by label.
    """

    summary: str
    rows: list[tuple[str, str, str, bool]]
    shares: list[tuple[str, list[str]]]


def tell_change(former: Prediction, changed: Prediction, field: Field, unit: str = "") -> Change:
    """Return how the answer to a request changes where one field of it does; both predictions hold their request."""
    values = [_value((one.input or {}).get(field.name)) for one in (former, changed)]
    answers = [answered(one.output, unit) for one in (former, changed)]
    rows = [(field.label, *_beside(*values)), (OPTION_WORDS[changed.option], *answers)]
    sure = "Confidence" if "label" in changed.output else "Interval"
    rows += [(sure, how_sure(former.output), how_sure(changed.output)), ("Decision", _short(former), _short(changed))]
    others = [one.comparison for one in (former, changed) if one.comparison is not None]
    if len(others) == 2:
        one, other = (answered(said["output"], unit) for said in others)
        rows.append((OPTION_WORDS[others[1]["option"]], one, other))
    same = answers[0] == answers[1]
    both_labels = "label" in former.output and "label" in changed.output
    return Change(
        summary=f"The answer stays {answers[0]}." if same else f"{answers[1]} instead of {answers[0]}.",
        rows=[(what, before, after, before != after) for what, before, after in rows],
        shares=_shares([("", former.output), ("", changed.output)]) if both_labels else [],
    )


def _short(prediction: Prediction) -> str:
    """Return a decision in few words, to stand beside another."""
    reasons = ", ".join(_BECAUSE[reason] for reason in prediction.reasons)
    return _DECIDED[prediction.decision] + (f": {reasons}" if reasons else "")


def _beside(*values: str) -> tuple[str, ...]:
    """Return values to stand beside each other: of long ones what begins shortly before they differ."""
    shortest = min(map(len, values))
    alike = next((at for at in range(shortest) if len({one[at] for one in values}) > 1), shortest)
    start = max(0, alike - BEFORE) if max(map(len, values)) > CELL and len(set(values)) > 1 else 0
    return tuple("…" * (start > 0) + one[start : start + CELL] + "…" * (len(one) > start + CELL) for one in values)


def answered(output: Mapping[str, Any], unit: str = "") -> str:
    """Return what an option says: its label, or its value."""
    return output["label"] if "label" in output else figure(output["value"], output) + (f" {unit}" if unit else "")


def how_sure(output: Mapping[str, Any]) -> str:
    """Return how far an output is to be relied on, in a word or two: its confidence, or its interval."""
    return percent(output["confidence"]) if "label" in output else _interval(output)


def figure(number: float, output: Mapping[str, Any]) -> str:
    """Return a number of an output with the digits that its interval leaves meaningful."""
    width = output["high"] - output["low"] or abs(output["value"]) or 1.0
    digits = max(0, 2 - math.floor(math.log10(width)))
    shown = f"{number:,.{min(digits, 12)}f}".replace("-", "−")
    return shown.removeprefix("−") if not shown.strip("−0.,") else shown


def _interval(output: Mapping[str, Any]) -> str:
    return f"{figure(output['low'], output)} to {figure(output['high'], output)}"


def _shares(options: Sequence[tuple[str, dict[str, Any]]]) -> list[tuple[str, list[str]]]:
    """Return the figures below the answers: the likeliest labels, the others together; or the intervals."""
    if "label" not in options[0][1]:
        return [("Interval", [_interval(output) for _, output in options])]
    shares = [output["probabilities"] for _, output in options]
    ranked = sorted(shares[-1], key=lambda label: -max(share.get(label, 0.0) for share in shares))
    shown = ranked if len(ranked) <= LABELS + 1 else ranked[:LABELS]
    rows = [(label, [percent(share[label]) if label in share else "–" for share in shares]) for label in shown]
    rest = ranked[len(shown) :]
    if rest:
        sums = [percent(sum(share.get(label, 0.0) for label in rest)) for share in shares]
        rows.append((f"{len(rest)} other labels", sums))
    return rows


def _value(value: Value) -> str:
    if value is None or isinstance(value, bool):
        return {None: "not known", True: "Yes", False: "No"}[value]
    return as_text(value)


def _decision(prediction: Prediction, policy: Policy | None) -> str:
    if prediction.decision == "auto":
        drawn = " It was drawn by lot for a person to check all the same." if prediction.audit else ""
        return f"This answer may be used as it is.{drawn}"
    asked, widest = "", ""
    if policy is not None:
        asked = f" (the policy asks for {percent(policy.threshold)})"
        if policy.widest_interval is not None:
            widest = f" (the policy allows a width of {number(policy.widest_interval)})"
    words = {
        LOW_CONFIDENCE: f"the {prediction.option} is not confident enough{asked}",
        WIDE_INTERVAL: f"the interval of the {prediction.option} is too wide{widest}",
        OUTSIDE_SEEN: "a value lies outside of what training saw",
        OPTIONS_DISAGREE: "the model and the baseline disagree",
    }
    return f"A person must look at this, because {', and '.join(words[reason] for reason in prediction.reasons)}."


def _reach(prediction: Prediction, unit: str, policy: Policy | None) -> str:
    """Return what the interval of a value means."""
    output = prediction.output
    of_100 = "most" if policy is None or policy.coverage is None else f"about {100 * policy.coverage:.0f} of 100"
    subject = f"The {prediction.option} expects {_interval(output)}{f' {unit}' if unit else ''}"
    if OUTSIDE_SEEN in prediction.reasons:
        return f"{subject}, but do not rely on this interval: it was not tested on values like these."
    return f"{subject}: {of_100} such intervals hold the true value."


def _confidence(prediction: Prediction) -> str:
    share = prediction.output["confidence"]
    subject = f"The {prediction.option} is {percent(share)} confident"
    words = next(words for least, words in _LIKELY if share >= least)
    if OUTSIDE_SEEN in prediction.reasons:
        return f"{subject}, but do not rely on this figure: it was not tested on values like these."
    of_100 = "more than 99" if share > 0.99 else f"about {share * 100:.0f}"
    return f"{subject}, {words}: of 100 answers given with this confidence, {of_100} should be right."


def _warnings(prediction: Prediction, labels: Mapping[str, str]) -> list[tuple[str, str]]:
    by_pointer = {pointer("input", name): label for name, label in labels.items()}
    return [(by_pointer.get(w["pointer"], w["pointer"]), w["detail"]) for w in prediction.warnings]


def _effects(prediction: Prediction, explanation: Mapping[str, Any], labels: Mapping[str, str]) -> Effects:
    fields, output = explanation["fields"], prediction.output
    largest = max((abs(shown["contribution"]) for shown in _all(fields)), default=0.0) or 1.0
    of_value = explanation["scale"] == "value"
    decimals = min(12, max(0, 2 - math.floor(math.log10(largest)))) if of_value else 2  # a value has its own size

    def effect(label: str, amount: float, terms: Sequence[Effect] = (), pieces: Sequence[Piece] = ()) -> Effect:
        width = round(100 * abs(amount) / largest, 1)
        return Effect(label, amount, -width if amount < 0 else 0.0, width, list(terms), decimals, list(pieces))

    drawn = []
    for shown in fields:
        ranked = shown.get("terms", ())
        terms = [effect(term["term"], term["contribution"]) for term in ranked[:WORDS]]
        if len(ranked) > WORDS:
            rest = sum(term["contribution"] for term in ranked[WORDS:])
            terms.append(effect("all other words", shown["other_terms"] + rest))
        pieces = _marked((prediction.input or {}).get(shown["field"]), ranked)
        drawn.append(effect(labels.get(shown["field"], shown["field"]), shown["contribution"], terms, pieces))
    if of_value:
        return _effects_on_value(explanation, output, drawn)
    label = explanation["label"]
    if explanation["method"] == "linear":
        against = explanation["against"]
        total = explanation["intercept"] + sum(shown["contribution"] for shown in fields)
        odds = f"{math.exp(min(total, 700)):,.1f} to 1"
        return Effects(
            meaning=f"What speaks for {label} (+) and for {against}, the next best (−). Exact: the model adds it up.",
            sum=f"Start {signed(explanation['intercept'])}, with all of the above {signed(total)} in log-odds: that is "
            f"{odds} for {label}.",
            fields=drawn,
            sides=(f"speaks for {label}", f"speaks for {against}"),
        )
    probability = percent(output["probabilities"][label])
    return Effects(
        meaning=f"How much each field adds to the probability of {label} ({probability}), against {BLANK}.",
        sum=NOT_A_SUM,
        fields=drawn,
    )


def _marked(value: Value, terms: Sequence[Mapping[str, Any]]) -> list[Piece]:
    """Return a text with the terms of its explanation marked; nothing where none of them is found in it."""
    pieces = mark(value, [(term["term"], term["contribution"]) for term in terms]) if isinstance(value, str) else []
    return shortened(pieces) if any(piece.amount for piece in pieces) else []


def _effects_on_value(explanation: Mapping[str, Any], output: Mapping[str, Any], drawn: list[Effect]) -> Effects:
    value = figure(output["value"], output)
    if explanation["method"] == "linear":
        start = figure(explanation["intercept"], output)
        return Effects(
            meaning="What each field adds to the value or takes from it. Exact: the model adds it up.",
            sum=f"Start {start}, with all of the above {value}.",
            fields=drawn,
            sides=("adds to the value", "takes from it"),
        )
    return Effects(
        meaning=f"How much each field adds to the value ({value}), against {BLANK}.",
        sum=NOT_A_SUM,
        fields=drawn,
    )


def _all(fields: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    return [*fields, *(term for shown in fields for term in shown.get("terms", ()))]
