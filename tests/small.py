"""A release made of any estimator, in memory: for tests of what the default model does not show."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from reviewapp.contract import Contract
from reviewapp.policy import Policy, RollbackRule
from reviewapp.release import Release, ReleaseId, libraries_here
from reviewapp.rules import Rule, RuleTable

RULE = RollbackRule(limit=0.2)


def small_release(contract: Contract, model: Any, **changes: Any) -> Release:
    values: dict[str, Any] = {
        "id": ReleaseId(contract.name, 1, "sha256:none"),
        "contract": contract,
        "policy": Policy(cost_wrong=10, cost_review=2, threshold=0.6, rollback=RULE),
        "model": model,
        "baseline": RuleTable([Rule(contract.outcome.labels[0], "*", "", 3, 4)], contract)
        if contract.outcome.labels
        else None,
        "golden": (),
        "evaluation": {},
        "card": "",
        "seed": 0,
        "libraries": libraries_here(),
    }
    return Release(**{**values, **changes})


def with_limit(release: Release, maximum: int | None, name: str = "triage") -> Release:
    """Return the default release with another largest number of open tickets, perhaps under another name."""
    fields = tuple(
        replace(field, maximum=maximum) if field.name == "open_tickets" else field for field in release.contract.fields
    )
    return replace(release, contract=replace(release.contract, name=name, fields=fields))
