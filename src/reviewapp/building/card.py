"""What a build tells people: the release's card, the table at the end, and the report on an inferred contract."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..release import Release
from ..rulelist import RuleList
from ..wording import MEASURES, automatic_rule, measured, number
from .subject import Subject

SHOWN_NOTES = 20
SHOWN_LABELS = 30


def card(release: Release, notes: Sequence[str]) -> str:
    """Return the model card: every figure is taken from the evaluation and the policy."""
    contract, evaluation = release.contract, release.evaluation
    data, outcome = evaluation["data"], contract.outcome
    fields = ", ".join(f"`{one.name}` ({one.kind})" for one in contract.fields)
    said = f"One of {', '.join(outcome.labels)}" if outcome.labels else "A value with an interval"
    parts = ", ".join(f"{n:,} {part}" for part, n in data["parts"].items())
    return "\n".join(
        [
            f"# {contract.title}",
            "",
            f"**Intended use.** Predicts `{outcome.name}` for requests like the rows of {data['file']}; a person "
            "decides where the policy says so. **Not for** requests of another origin.",
            "",
            f"**Input.** {fields}. **Output.** {said}.",
            "",
            f"**Options.** `model`: {evaluation['model']}. `baseline`: {_baseline(release.baseline)}",
            "",
            f"**Policy.** {_policy(release)}",
            "",
            f"**Engine.** {release.engine.in_words()}",
            "",
            "**Figures** on the test part, which nothing was chosen on; in brackets 95 % intervals. Each option goes "
            "to a person below the confidence that costs it least on the calibration part.",
            "",
            "| | baseline | model |",
            "|---|--:|--:|",
            *(f"| {title} | {baseline} | {model} |" for title, baseline, model in figures(evaluation)),
            "",
            f"{difference(evaluation)}",
            "",
            *_by_label(evaluation),
            f"**Data.** {data['file']} (SHA-256 {data['sha256']}), split {data['split']}: {parts}.",
            "",
            *(f"- {note}" for note in notes),
            "",
        ]
    )


def described(choice: Mapping[str, Any] | None) -> str:
    """Return what the model is and why it was taken; `choice` is None for one that was given."""
    if choice is None:
        return "the pipeline that was given, calibrated"
    by = choice["by"].replace("_", " ")
    tried = ", ".join(
        f"{name} {number(one[choice['by']])} ± {number(one[choice['by'] + '_deviation'])}"
        for name, one in choice["candidates"].items()
    )
    failed = "".join(f"; {name} cannot be fitted to it: {why}" for name, why in choice["failed"].items())
    return f"{choice['chosen']}, calibrated ({by} in {choice['folds']} folds of the training part: {tried}{failed})"


def figures(evaluation: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Return (measure, baseline, model) of the test part, with intervals where there are any."""
    options = evaluation["results"]["test"]
    return [
        (title, _figure(options["baseline"], name), _figure(options["model"], name))
        for name, (title, _) in MEASURES.items()
        if name in options["model"]
    ]


def difference(evaluation: Mapping[str, Any]) -> str:
    """Return in a sentence whether the model beats the other ways to answer the same rows."""
    found = evaluation["differences"]
    title = MEASURES[found[0]["of"]][0].lower()
    shown = [{name: measured(one["of"], one[name]) for name in ("value", "low", "high")} for one in found]
    against = [
        f"{f['value']} ({f['low']} to {f['high']}) against {one['against']}"
        for f, one in zip(shown, found, strict=True)
    ]
    worse = [one["against"] for one in found if one["low"] > 0]
    open_ = [one["against"] for one in found if one["low"] <= 0 <= one["high"]]
    if worse:
        verdict = f"The model is worse than {' and '.join(worse)}"
    elif open_:
        verdict = f"The test part cannot tell the model from {' and '.join(open_)}"
    else:
        verdict = f"The model is better than {' and '.join(one['against'] for one in found)}"
    return f"{verdict}. Difference in {title}, on the same rows: {', '.join(against)}."


def summary(release: Release, notes: Sequence[str]) -> str:
    """Return what `reviewapp build` prints: what was built, and how good each option is."""
    evaluation = release.evaluation
    rows = [("", "baseline", "model"), *figures(evaluation)]
    widths = [max(len(row[i]) for row in rows) for i in range(3)]
    table = [f"  {row[0]:<{widths[0]}}  {row[1]:>{widths[1]}}  {row[2]:>{widths[2]}}" for row in rows]
    parts = ", ".join(f"{n:,} {part}" for part, n in evaluation["data"]["parts"].items())
    lines = [f"Note: {note}" for note in notes[:SHOWN_NOTES]]
    if len(notes) > SHOWN_NOTES:
        lines.append(f"Note: {len(notes) - SHOWN_NOTES} more are in the card of the release.")
    lines += [f"Rows: {parts}. Model: {evaluation['model']}.", *table, difference(evaluation)]
    lines += _short_of(release)
    if isinstance(release.baseline, RuleList):
        lines += ["The baseline, as rules:", *(f"  {line}" for line in release.baseline.in_words())]
    return "\n".join(lines)


def _short_of(release: Release) -> list[str]:
    """Return a line where the intervals of the test part hold the truth less often than is stated."""
    low_high = release.evaluation["results"]["test"]["model"]["intervals"].get("coverage")
    stated = release.policy.coverage
    if stated is None or low_high is None or low_high[1] >= stated:
        return []
    return [f"Careful: the intervals hold the true value less often than the {stated:.3g} that is stated."]


def report(of: Subject) -> str:
    """Return the report on a contract that was inferred: what became of each column, and why."""
    lines = [f"# The contract of {of.contract.name}", "", *(f"- {note}" for note in of.notes), ""]
    if of.drops:
        options = " ".join(f"--drop {name!r}" for name in of.drops)
        lines += [f"Probably to leave out: `{options}`", ""]
    lines += ["| column | kind | missing | different | why | look at |", "|---|---|--:|--:|---|---|"]
    for one in of.columns:
        missing = f"{one.missing:,} ({one.missing / of.rows:.1%})" if one.missing else "0"
        cells = [repr(one.name), one.kind or "left out", missing, f"{one.different:,}", one.why]
        lines.append("| " + " | ".join(_cell(text) for text in [*cells, "; ".join((*one.notes, *one.hints))]) + " |")
    return "\n".join([*lines, ""])


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _figure(found: Mapping[str, Any], name: str) -> str:
    shown = measured(name, found[name])
    if name not in found["intervals"]:
        return shown
    low, high = found["intervals"][name]
    return f"{shown} ({measured(name, low)} to {measured(name, high)})"


def _baseline(baseline: Any) -> str:
    if not isinstance(baseline, RuleList):
        return "the one that was given, calibrated."
    return "rules.\n\n" + "\n".join(f"- {line}" for line in baseline.in_words())


def _policy(release: Release) -> str:
    policy = release.policy
    costs = f"A wrong answer costs {policy.cost_wrong:g}, a look by a person {policy.cost_review:g}."
    return (
        f"{costs} {automatic_rule(policy)}, and so do requests with a value that training did not see; this was chosen "
        f"on the calibration part. Of the other answers "
        f"{policy.audit_share:.0%} are drawn by lot for a person to check; once more than "
        f"{policy.rollback.limit:.0%} of them are found wrong, {policy.rollback.consequence}."
    )


def _by_label(evaluation: Mapping[str, Any]) -> list[str]:
    by_label = evaluation["results"]["test"]["model"].get("by_label")
    if by_label is None:
        return []
    shown = list(by_label.items())[:SHOWN_LABELS]
    more = (
        [f"{len(by_label) - len(shown)} more labels are in evaluation.json.", ""] if len(by_label) > len(shown) else []
    )
    return [
        "| label (model) | rows | precision | recall | F1 |",
        "|---|--:|--:|--:|--:|",
        *(
            f"| {_cell(label)} | {one['n']} | {one['precision']:.3f} | {one['recall']:.3f} | {one['f1']:.3f} |"
            for label, one in shown
        ),
        "",
        *more,
    ]
