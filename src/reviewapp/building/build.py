"""Build a release from a table: read, infer the contract, split, choose, calibrate, evaluate, write."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from .. import estimators
from .. import release as releases
from ..adapter import ModelAdapter
from ..calibration import CalibratedClassifier, IntervalRegressor
from ..engine.parity import with_engine
from ..errors import ModelBroken, ReleaseRefused, UntrustedTypes, UsageError
from ..frames import to_frame
from ..golden import with_golden
from ..policy import BASELINE, LAST_DIGITS, Policy, RollbackRule
from ..proof import Proofs
from ..release import Release
from ..releasestore import Place
from ..rulelist import RuleList
from ..trust import TrustedTypes
from . import given
from .candidates import FOLDS, MANY_CLASSES, candidates, choose, fit
from .card import card, described
from .figures import evaluate, own_threshold, with_profile
from .infer import Asked
from .rows import Labelled
from .simple import simple_baseline, with_margin
from .subject import Subject, subject
from .trials import check_answers, check_labels, narrowed

SEED = 20260131
GOLDEN = 18  # beside the samples
STEPS = 5 + 2 * FOLDS  # at most so many are told to `progress`
Progress = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Order:
    """What `reviewapp build` was asked for; None: not said.

    Costs share one unit, `widest_interval` has the target's.
    """

    data: Path
    asked: Asked
    name: str | None = None
    contract: Path | None = None
    pipeline: str | None = None
    baseline: str | None = None
    trust: tuple[str, ...] = ()
    cost_wrong: float = 10.0
    cost_review: float = 2.0
    coverage: float = 0.9
    widest_interval: float | None = None
    audit_share: float = 0.1
    blind_share: float = 0.1
    rollback_action: str = BASELINE
    reason: tuple[str, ...] = ()


@dataclass(frozen=True)
class Built:
    """The release as it lies there, and what a person should know of how it came about."""

    release: Release
    notes: tuple[str, ...]


def build(order: Order, root: Path | Place, trust: TrustedTypes, progress: Progress = lambda step: None) -> Built:
    """Build a release below `root`; the same call on the same machine makes the same digest each time.

    Raises UsageError with one sentence where the table, the pipeline and what was asked do not go together; nothing is
    written then.
    """
    _check_numbers(order)
    np.random.seed(SEED)
    trusted = (*trust.names(), *order.trust)
    progress("read")
    pipeline = None if order.pipeline is None else given.load_given(order.pipeline, "--pipeline", trusted)
    baseline = None if order.baseline is None else given.load_given(order.baseline, "--baseline", trusted)
    of_table = subject(order.data, order.asked, order.name, order.contract, SEED, pipeline)
    with threadpool_limits(1):  # with more threads the sums of a fit depend on how many there are
        model, choice, notes = _model(pipeline, of_table, progress)
        fitted = {"The model" if pipeline is None else "--pipeline": model}
        if baseline is not None:
            fitted["--baseline"], more = _given(baseline, of_table, "--baseline")
            notes += more
        progress("calibrate")
        contract, told = narrowed(fitted, of_table.contract, of_table.records)
        of_table, notes = replace(of_table, contract=contract), [*notes, *told]
        coverage, lowered = _coverage(order.coverage, of_table)
        options = {name: _calibrated(one, of_table, coverage, name, notes) for name, one in fitted.items()}
        rules = None if baseline is not None else _rules(of_table, coverage)
        needed: set[str] = set()
        model, *others = [_as_stored(one, name, trusted, needed) for name, one in options.items()]
        notes = [*of_table.notes, *notes, *lowered, *_at_the_limit(order, coverage, of_table)]
        progress("evaluate")
        try:
            release = _release(replace(order, coverage=coverage), of_table, model, rules or others[0], choice, notes)
        except ModelBroken as error:
            raise UsageError(f"What was built does not answer rows of the table: {error.detail}") from None
    progress("write")
    folders = {name: given.folder_of(name) for name in order.trust if name in needed}
    try:
        written = releases.write(release, root, partial(Proofs(trust.instance).demand_with, folders))
    except ReleaseRefused as error:
        raise UsageError(f"What was built would not be accepted by a service: {error.detail}") from None
    except OSError as error:
        raise UsageError(f"The release cannot be written below {root}: {error.strerror}.") from None
    trust.add(folders)
    return Built(written, tuple(notes))


def _check_numbers(order: Order) -> None:
    if not (0 < order.cost_review < order.cost_wrong and math.isfinite(order.cost_wrong)):
        raise UsageError(
            f"--cost-review ({order.cost_review:g}) must lie above 0 and below --cost-wrong ({order.cost_wrong:g}): "
            "else everything, or nothing, would go to a person."
        )
    if not 0.5 <= order.coverage <= 0.99:  # not-a-number is no number of any range
        raise UsageError(f"--coverage is {order.coverage:g}, and must lie from 0.5 to 0.99.")
    if order.widest_interval is not None and not (order.widest_interval >= 0 and math.isfinite(order.widest_interval)):
        raise UsageError(f"--widest-interval is {order.widest_interval:g}, and must be a number, 0 or more.")


# ---- both options -----------------------------------------------------------------------------------------------


def _model(pipeline: Any, of: Subject, progress: Progress) -> tuple[Any, dict[str, Any] | None, list[str]]:
    """Return the fitted estimator, how it was chosen (None where it was given), and notes."""
    train = of.parts["train"]
    frame = to_frame(of.contract, train.records)
    if pipeline is None:
        found = candidates(of.contract, len(train), SEED)
        name, choice = choose(found, frame, train.answers, SEED, progress)
        progress(f"fit {name}")
        alone = f"With more than {MANY_CLASSES} labels only the linear candidate is tried: boosted trees take minutes."
        return fit(found[name], frame, np.asarray(train.answers)), choice, [alone] if len(found) == 1 else []
    progress("fit")
    model, notes = _given(pipeline, of, "--pipeline")
    return model, None, notes


def _given(estimator: Any, of: Subject, option: str) -> tuple[Any, list[str]]:
    """Return the caller's estimator, fitted, with one job, and found to answer rows of the table; and notes."""
    given.check_task(estimator, of.contract.outcome.task, option)
    notes = []
    if given.is_fitted(estimator):
        notes.append(f"{option} came fitted: if it was fitted on rows of this table, the figures flatter it.")
    else:
        train = of.parts["train"]
        seeded = given.seeded(estimator, SEED)
        frame = to_frame(of.contract, train.records)
        estimator, warned = given.fit(seeded, frame, given.typed(train.answers), option)
        notes += warned
    estimator = given.one_job(given.best_of(estimator, option))
    check_answers(estimator, of.contract, of.records, option)
    return estimator, notes


def _coverage(asked: float, of: Subject) -> tuple[float, list[str]]:
    """Return the coverage that the calibration rows can show: n of them no more than n / (n + 1)."""
    n = len(of.parts["calibrate"])
    possible = n / (n + 1)
    if of.contract.outcome.labels or asked <= possible:
        return asked, []
    return possible, [f"{n} calibration rows can show a coverage of {possible:.3f} at most, so that is what is stated."]


def _calibrated(estimator: Any, of: Subject, coverage: float, option: str, notes: list[str]) -> Any:
    """Return the fitted estimator with calibrated probabilities, or intervals; add what is odd to the notes."""
    rows, outcome = of.parts["calibrate"], of.contract.outcome
    frame = to_frame(of.contract, rows.records)
    if not outcome.labels:
        return IntervalRegressor(estimator, coverage, outcome.minimum, outcome.maximum).fit(frame, rows.answers)
    names = given.names_of_classes(estimator, outcome.labels, option)
    strange = sorted(set(names.values()) - set(outcome.labels))
    if strange:
        raise UsageError(f"{option} answers {strange[0]!r}, too, which is no label of the contract.")
    notes += check_labels(estimator, names, frame, option)
    return CalibratedClassifier(estimator, list(names.values()), list(names)).fit(frame, rows.answers)


def _rules(of: Subject, coverage: float) -> RuleList:
    train, rows = of.parts["train"], of.parts["calibrate"]
    rules = simple_baseline(of.contract, train.records, train.answers, SEED)
    return rules if rules.labels else with_margin(rules, of.contract, rows.records, rows.answers, coverage)


def _as_stored(estimator: Any, option: str, trusted: Sequence[str], needed: set[str]) -> Any:
    """Return the estimator as a release gives it back, so that what is evaluated is what will answer.

    Adds the types to `needed` that somebody must trust.
    """
    try:
        packed = estimators.dump(estimator)
    except Exception as error:  # an estimator of the caller's own can hold anything
        raise UsageError(f"{option} cannot be kept as a skops file: {given.said(error)}") from None
    needed |= set(estimators.untrusted(packed))
    try:
        return estimators.load(packed, option, trusted)
    except UntrustedTypes as error:
        raise UsageError(f"{error.detail}{given.trust_hint(error.types)}") from None


# ---- the release ------------------------------------------------------------------------------------------------


def _release(
    order: Order, of: Subject, model: Any, baseline: Any, choice: dict[str, Any] | None, notes: Sequence[str]
) -> Release:
    costs = Policy(
        cost_wrong=order.cost_wrong,
        cost_review=order.cost_review,
        rollback=RollbackRule(limit=order.cost_review / order.cost_wrong, action=order.rollback_action),
        audit_share=order.audit_share,
        blind_share=order.blind_share,
    )
    if order.reason:
        costs = replace(costs, reason_options=order.reason)
    plain = releases.draft(of.contract, costs, model, baseline, SEED)
    calibrate, test = of.parts["calibrate"], of.parts["test"]
    release = replace(plain, policy=_policy(order, plain, calibrate))
    labels = of.contract.outcome.labels
    own = own_threshold(release, "baseline", calibrate.records, calibrate.answers) if labels else None
    results, differences = evaluate(release, test.records, test.answers, own)
    release = replace(
        release,
        evaluation={
            "data": {
                "kind": "table",
                "file": order.data.name,
                "sha256": of.sha256,
                "split": f"in order of {of.time}" if of.time is not None else "at random",
                "time": of.time,
                "parts": {part: len(rows) for part, rows in of.parts.items()},
            },
            "chosen_on": {"threshold": "calibrate", "calibration": "calibrate", "candidate": "train"},
            "model": described(choice),
            "choice": choice,
            "results": {"test": results},
            "baseline_threshold": own,
            "differences": differences,
        },
    )
    nothing = {one.name: None for one in of.contract.fields if one.nullable}
    odd = [{**test.records[0], **nothing}] if nothing else []
    release = with_profile(release, {part: rows.records for part, rows in of.parts.items()})
    whole = with_engine(with_golden(release, test.records, [*test.records[:GOLDEN], *odd]))
    return replace(whole, card=card(whole, notes))


def _at_the_limit(order: Order, coverage: float, of: Subject) -> list[str]:
    """Return a note where intervals that do what they say would in time fire the trigger all the same."""
    limit = order.cost_review / order.cost_wrong
    if of.contract.outcome.labels or 1 - coverage < limit * (1 - LAST_DIGITS):
        return []
    return [
        f"Intervals that hold {coverage:.3g} of the values are wrong in {1 - coverage:.3g}, and the trigger takes more "
        f"than {limit:.3g} (--cost-review / --cost-wrong) for too much: it may fire although nothing is wrong. Take a "
        "larger --coverage, or other costs."
    ]


def _policy(order: Order, release: Release, rows: Labelled) -> Policy:
    if release.contract.outcome.task == "classification":
        return replace(release.policy, threshold=own_threshold(release, "model", rows.records, rows.answers))
    widest = order.widest_interval
    if widest is None:  # an interval as wide as the baseline's says no more than the baseline does
        outputs = ModelAdapter(release).outputs("baseline", rows.records)
        widest = _rounded_up(np.median([said["high"] - said["low"] for said in outputs]))
    return replace(
        release.policy, coverage=order.coverage, widest_interval=widest, primary_metric="mean_absolute_error"
    )


def _rounded_up(width: float) -> float:
    """Return a width with three digits, so that equal intervals do not differ from it by their last one."""
    if width <= 0:
        return 0.0
    step = 10.0 ** (math.floor(math.log10(width)) - 2)
    return float(f"{math.ceil(width / step) * step:.6g}")
