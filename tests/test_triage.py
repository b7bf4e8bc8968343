"""The default model: its data are seeded and honest about their limits, and its figures lie where they must."""

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from reviewapp.bodies import prediction_request
from reviewapp.release import Release
from reviewapp.samples import valid_record
from reviewapp.triage import generator
from reviewapp.triage.build import PARTS


def test_the_same_seed_makes_the_same_requests_and_another_seed_others() -> None:
    assert generator.generate(50, 1) == generator.generate(50, 1)
    assert generator.generate(50, 1) != generator.generate(50, 2)


def test_every_generated_request_keeps_the_contract(release: Release) -> None:
    request = prediction_request(release.contract)
    for example in generator.generate(500, 3) + generator.generate(500, 4, drifted=True):
        assert request.load({"input": example.record})[0] == example.record


def test_the_stated_shares_hold() -> None:
    examples = generator.generate(20_000, 5)
    wrong = sum(example.label != example.intent for example in examples) / len(examples)
    assert wrong == pytest.approx(generator.LABEL_ERROR, abs=0.005)
    intents = Counter(example.intent for example in examples)
    assert intents["billing"] / intents["outage"] == pytest.approx(40, rel=0.3)
    assert sum(generator.SHARES.values()) == pytest.approx(1)
    assert sum(generator.DRIFT_SHARES.values()) == pytest.approx(1)
    quoted = sum("> You wrote" in str(example.record["body"]) for example in examples)
    assert quoted > 1000
    assert any(example.record["customer_tier"] is None for example in examples)


def test_the_model_lies_clearly_between_baseline_and_oracle(release: Release) -> None:
    figures = release.evaluation["results"]["test"]
    assert figures["baseline"]["accuracy"] + 0.1 < figures["model"]["accuracy"] < figures["oracle"]["accuracy"] - 0.03
    assert figures["baseline"]["macro_f1"] + 0.1 < figures["model"]["macro_f1"] < figures["oracle"]["macro_f1"] - 0.03
    assert figures["oracle"]["brier"] < figures["model"]["brier"] - 0.03 < figures["baseline"]["brier"] - 0.1
    assert figures["oracle"]["accuracy"] == pytest.approx(1 - generator.LABEL_ERROR, abs=0.02)
    assert figures["model"]["n"] == PARTS["test"]


def test_the_later_drift_hurts_and_is_reported_apart(release: Release) -> None:
    results = release.evaluation["results"]
    assert results["later_drift"]["model"]["accuracy"] < results["test"]["model"]["accuracy"] - 0.05


def test_the_card_gives_the_figures_of_the_evaluation(release: Release) -> None:
    for part, options in release.evaluation["results"].items():
        for option, figures in options.items():
            row = f"| {part.replace('_', ' ')} | {option} | {figures['n']} | {figures['accuracy']:.3f} |"
            assert row in release.card
    assert f"{release.policy.threshold:.3f}" in release.card


def test_the_contract_is_the_one_that_was_promised(release: Release) -> None:
    document = release.contract.as_json()
    assert document["required"] == [
        "subject", "body", "channel", "open_tickets", "account_age_days", "has_attachment",
    ]  # fmt: skip
    properties = document["properties"]
    assert properties["subject"]["maxLength"] == 200
    assert properties["body"]["maxLength"] == 4000
    assert properties["channel"]["enum"] == ["email", "web", "phone", "chat"]
    assert properties["customer_tier"]["enum"] == ["free", "pro", "enterprise", None]
    assert properties["open_tickets"]["minimum"] == properties["account_age_days"]["minimum"] == 0
    assert document["x-reviewapp-output"]["labels"] == ["billing", "access", "bug", "outage", "feature", "other"]


def test_the_same_build_gives_the_same_digest_whatever_the_hash_seed(tmp_path: Path, release: Release) -> None:
    program = "import sys, pathlib, reviewapp.triage.build as b; print(b.build(pathlib.Path(sys.argv[1])).id.digest)"
    other = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "other")],
        env={**os.environ, "PYTHONHASHSEED": "12345"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert other.stdout.strip() == release.id.digest


def test_requests_made_from_the_contract_are_answered(release: Release, adapter, rng) -> None:  # type: ignore[no-untyped-def]
    from reviewapp.prediction import Call

    made = adapter.predict([valid_record(release.contract, rng) for _ in range(100)], Call())
    assert {prediction.output["label"] for prediction in made} <= set(generator.LABELS)
