"""Build the default release: generate, split by time, fit, calibrate, choose the threshold, evaluate, write."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax
from sklearn.compose import ColumnTransformer
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from threadpoolctl import threadpool_limits

from .. import release as releases
from ..building.figures import evaluate, own_threshold, with_profile
from ..contract import Contract, Outcome
from ..engine.parity import with_engine
from ..evaluation import figures
from ..field import Field
from ..frames import to_frame
from ..golden import with_golden
from ..policy import Policy, RollbackRule, choose_threshold
from ..release import Release
from ..releasestore import Place
from ..rules import RuleTable
from . import generator
from .generator import CHANNELS, LABELS, TIERS, Example

NAME = "triage"
SEED = 20260131
PARTS = {"train": 6000, "calibrate": 2000, "test": 2000}  # one stream, split in order of time
DRIFTED = 2000  # requests after the stated change of the world
GOLDEN = 18  # beside the samples
COST_WRONG, COST_REVIEW = 10.0, 2.0  # units: a wrong queue costs five looks by a person
STEPS = ("generate", "fit", "calibrate", "evaluate", "write")


def build(root: Path | Place, progress: Callable[[str], None] = lambda step: None) -> Release:
    """Build the triage release below `root` and return it; the same machine makes the same digest each time."""
    progress("generate")
    parts = examples()
    contract = _contract(parts["train"])
    progress("fit")
    with threadpool_limits(1):  # with more threads the sums of a fit depend on how many there are
        model = _pipeline().fit(_frame(contract, parts["train"]), _labels(parts["train"]))
    progress("calibrate")
    calibration = _frame(contract, parts["calibrate"])
    temperature = _scale_to_temperature(model, calibration, _labels(parts["calibrate"]))
    rules = resources.files(__package__).joinpath("rules.csv").read_text(encoding="utf-8")
    baseline = RuleTable.from_csv(rules, contract).calibrated(calibration, _labels(parts["calibrate"]))
    policy = _policy(model, calibration, _labels(parts["calibrate"]))
    progress("evaluate")
    release = releases.draft(contract, policy, model, baseline, SEED)
    release = replace(release, evaluation=_evaluation(release, parts, temperature))
    release = with_profile(release, {name: [dict(example.record) for example in parts[name]] for name in PARTS})
    progress("write")
    records = [dict(example.record) for example in parts["test"]]
    # what no example shows: the missing value, empty and very long text, text of other scripts
    odd = [
        {**records[0], "customer_tier": None},
        {**records[1], "subject": "", "body": ""},
        {**records[2], "body": "Größe 注文 مرحبا 🙂 " * 200},
    ]
    whole = with_engine(with_golden(release, records, [*records[:GOLDEN], *odd]))
    return releases.write(replace(whole, card=_card(whole)), root)


def examples() -> dict[str, list[Example]]:
    """Return the labelled requests by part: train, calibrate and test in order of time, and the later drift."""
    stream = generator.generate(sum(PARTS.values()), SEED)
    parts: dict[str, list[Example]] = {}
    start = 0
    for name, size in PARTS.items():
        parts[name] = stream[start : start + size]
        start += size
    parts["later_drift"] = generator.generate(DRIFTED, SEED + 1, drifted=True)
    return parts


def _contract(train: Sequence[Example]) -> Contract:
    def seen(name: str, measure: Callable[[Any], Any] = lambda value: value) -> dict[str, Any]:
        values = [measure(example.record[name]) for example in train]
        return {"seen_minimum": min(values), "seen_maximum": max(values)}

    return Contract(
        name=NAME,
        title="Which queue should this support request go to?",
        description="A support request as it comes in. The data behind this release are synthetic.",
        fields=(
            Field(name="subject", kind="text", title="Subject", max_length=200, example="Double charge in May",
                  description="The subject line, or a short title of the call.", **seen("subject", len)),
            Field(name="body", kind="text", title="Message", max_length=4000,
                  description="The whole message, or the notes taken on the telephone.",
                  example="Hello, we were charged twice for the same month. Please refund the last payment.",
                  **seen("body", len)),
            Field(name="channel", kind="category", title="Channel", choices=CHANNELS, example="email",
                  description="How the request came in."),
            Field(name="customer_tier", kind="category", title="Customer tier", choices=TIERS, example="pro",
                  required=False, nullable=True, description="The customer's plan, where it is known."),
            Field(name="open_tickets", kind="integer", title="Open tickets", minimum=0, example=1,
                  description="Tickets of this customer that are open now.", **seen("open_tickets")),
            Field(name="account_age_days", kind="integer", title="Age of the account", unit="days", minimum=0,
                  example=420, description="Days since the account was made.", **seen("account_age_days")),
            Field(name="has_attachment", kind="boolean", title="Has an attachment", example=False,
                  description="Whether a file came with the request."),
        ),
        outcome=Outcome(name="queue", title="Queue", labels=LABELS),
    )  # fmt: skip


def _pipeline() -> Pipeline:
    def words() -> TfidfVectorizer:
        return TfidfVectorizer(sublinear_tf=True, min_df=3, ngram_range=(1, 2))

    features = ColumnTransformer(
        [
            ("subject", words(), "subject"),
            ("body", words(), "body"),
            ("categories", OneHotEncoder(handle_unknown="ignore"), ["channel", "customer_tier"]),
            ("numbers", StandardScaler(), ["open_tickets", "account_age_days"]),
            ("flags", "passthrough", ["has_attachment"]),
        ]
    )
    return Pipeline([("features", features), ("classifier", LogisticRegression(C=3.0, max_iter=2000))])


def _scale_to_temperature(model: Pipeline, frame: pd.DataFrame, labels: Sequence[str]) -> float:
    """Calibrate in place and return the temperature (Guo et al. 2017), fitted on data not used for fitting.

    Dividing a logistic regression's coefficients by the temperature is the same as dividing its scores, so the
    calibrated model is linear still and its explanation stays exact.
    """
    scores, classes = model.decision_function(frame), list(model.classes_)
    actual = np.array([classes.index(label) for label in labels])

    def loss(log_temperature: float) -> float:
        shares = log_softmax(scores / np.exp(log_temperature), axis=1)
        return -float(shares[np.arange(len(actual)), actual].mean())

    temperature = float(np.exp(minimize_scalar(loss, bounds=(-3, 3), method="bounded", options={"xatol": 1e-9}).x))
    model[-1].coef_ /= temperature
    model[-1].intercept_ /= temperature
    return temperature


def _policy(model: Pipeline, frame: pd.DataFrame, labels: Sequence[str]) -> Policy:
    shares = model.predict_proba(frame)
    right = model.classes_[shares.argmax(axis=1)] == np.asarray(labels)
    threshold = choose_threshold(shares.max(axis=1), right.tolist(), COST_WRONG, COST_REVIEW)
    above_this_a_person_is_cheaper = RollbackRule(limit=COST_REVIEW / COST_WRONG)
    return Policy(
        cost_wrong=COST_WRONG, cost_review=COST_REVIEW, threshold=threshold, rollback=above_this_a_person_is_cheaper
    )


def _evaluation(release: Release, parts: dict[str, list[Example]], temperature: float) -> dict[str, Any]:
    labels = _labels(parts["calibrate"])
    own = own_threshold(release, "baseline", [example.record for example in parts["calibrate"]], labels)
    found, differences = {}, {}
    for name in ("test", "later_drift"):
        labels = _labels(parts[name])
        oracle = np.array([list(generator.oracle_probabilities(e.intent).values()) for e in parts[name]])
        found[name], differences[name] = evaluate(release, [example.record for example in parts[name]], labels, own)
        found[name]["oracle"] = figures(labels, oracle, LABELS, release.policy)
    return {
        "data": {
            "kind": "synthetic",
            "seed": SEED,
            "split": "in order of time",
            "parts": {**PARTS, "later_drift": DRIFTED},
            "label_error": generator.LABEL_ERROR,
            "shares_of_intents": generator.SHARES,
            "later_shares_of_intents": generator.DRIFT_SHARES,
            "later_share_of_new_wordings": generator.DRIFT_NEW_WORDS,
        },
        "temperature": temperature,
        "chosen_on": {"temperature": "calibrate", "threshold": "calibrate", "rules": "calibrate"},
        "model": "TF-IDF and logistic regression, calibrated by one temperature",
        "results": found,
        "baseline_threshold": own,
        "differences": differences["test"],
    }


def _card(release: Release) -> str:
    """Return the model card: every figure is taken from the evaluation and the policy."""
    results, policy = release.evaluation["results"], release.policy
    rows = [
        f"| {part.replace('_', ' ')} | {option} | {f['n']} | {f['accuracy']:.3f} | {f['macro_f1']:.3f} "
        f"| {f['brier']:.3f} | {f['referred']:.3f} | {f['cost_per_100']:.0f} |"
        for part, options in results.items()
        for option, f in options.items()
    ]
    data = release.evaluation["data"]
    fields = ", ".join(f"`{field.name}` ({field.kind})" for field in release.contract.fields)
    return "\n".join(
        [
            f"# {release.contract.title}",
            "",
            "**Intended use.** Proposes a queue for a support request; a person decides where the policy says so.",
            "**Not for** anything else: the data are synthetic, no real request was seen in training.",
            "",
            f"**Input.** {fields}. **Output.** One of {', '.join(LABELS)}, with probabilities.",
            "",
            "**Options.** `model`: TF-IDF of subject and body, one-hot categories and scaled numbers into a logistic "
            f"regression, calibrated by one temperature ({release.evaluation['temperature']:.3f}). `baseline`: keyword "
            "rules (`rules.csv`), as confident as they were right. `oracle`: knows the hidden intent, so it is the "
            f"upper bound; it is wrong where the label is (stated labelling error {data['label_error']:.0%}).",
            "",
            f"**Policy.** A wrong answer costs {policy.cost_wrong:g}, a look by a person {policy.cost_review:g}. "
            f"Answers below a confidence of {policy.threshold:.3f} go to a person; the threshold was chosen on the "
            f"calibration part. Of the answers above it {policy.audit_share:.0%} are drawn by lot for a person to "
            f"check; once more than {policy.rollback.limit:.0%} of them are found wrong, "
            f"{policy.rollback.consequence}.",
            "",
            f"**Engine.** {release.engine.in_words()}",
            "",
            "**Figures** (parts in order of time; nothing was tuned on `test` or `later drift`).",
            "",
            "| part | option | n | accuracy | macro-F1 | Brier (0–2) | referred | cost of 100 |",
            "|---|---|--:|--:|--:|--:|--:|--:|",
            *rows,
            "",
            f"**Data.** {sum(data['parts'].values()):,} synthetic requests, seed {data['seed']}: several intents in "
            "one request, quoted threads, boilerplate, typing errors, telephone notes, labels imbalanced 40 to 1. "
            "`later drift` has other shares of the intents and wordings unknown before.",
            "",
        ]
    )


def _frame(contract: Contract, examples: Sequence[Example]) -> pd.DataFrame:
    return to_frame(contract, [example.record for example in examples])


def _labels(examples: Sequence[Example]) -> list[str]:
    return [example.label for example in examples]
