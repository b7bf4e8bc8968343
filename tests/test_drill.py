"""The roll-back drill on real gunicorn with four workers, under load: no request fails, none is answered stale."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from reviewapp.accounts import ROLES
from reviewapp.adapter import ModelAdapter
from reviewapp.evidence.drill import REASON, drill
from reviewapp.evidence.examples import Example
from reviewapp.evidence.running import Trial
from reviewapp.evidence.tables import Row
from reviewapp.release import Release
from reviewapp.triage import generator

from .page import Page
from .service import Service

pytestmark = pytest.mark.server
WORKERS = 4


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, stocked: Callable[[Path], Path]) -> Iterator[Service]:
    with Service(stocked(tmp_path_factory.mktemp("drill") / "instance"), REVIEWAPP_WORKERS=str(WORKERS)) as running:
        yield running


@pytest.fixture(scope="module")
def trial(service: Service, release: Release) -> Trial:
    tokens = {role: service.token(role, role) for role in ROLES}
    examples = [Example(one.record, one.label) for one in generator.generate(300, 3)]
    drifted = [Example(one.record, one.label) for one in generator.generate(2000, 4, drifted=True)]
    return Trial(
        release=release, adapter=ModelAdapter(release), examples={"test": [*examples, *drifted]}, seed=1,
        service=service, headers={role: {"Authorization": f"Bearer {token}"} for role, token in tokens.items()},
        memo=Path(), quick=True,
    )  # fmt: skip


@dataclass
class Seen:
    """What was seen while the baseline answered."""

    options: list[str] = field(default_factory=list)
    ready: list[int] = field(default_factory=list)
    banner: str = ""
    monitor: Any = None


@pytest.fixture(scope="module")
def drilled(trial: Trial) -> tuple[dict[str, Row], Seen]:
    seen = Seen()

    def look() -> None:
        seen.options = answers(trial)
        seen.ready = [trial.service.call("GET", "/readyz", fresh=True)[0] for _ in range(2 * WORKERS)]
        seen.banner = Page(get(trial, "/monitor", Accept="text/html")).text
        seen.monitor = get(trial, "/api/v1/monitor")

    [table] = drill(trial, look)
    return {row["step"]: row for row in table.rows}, seen


@pytest.fixture(scope="module")
def steps(drilled: tuple[dict[str, Row], Seen]) -> dict[str, Row]:
    return drilled[0]


def answers(trial: Trial) -> list[str]:
    """Which option answers on many connections, so in every worker."""
    body, found = {"input": dict(trial.examples["test"][0].record)}, []
    for _ in range(8 * WORKERS):
        _, made, _ = trial.service.call("POST", "/api/v1/predictions", body, dict(trial.headers["submit"]), fresh=True)
        found.append(made["option"])
    return found


def get(trial: Trial, path: str, **headers: str) -> Any:
    return trial.service.call("GET", path, headers={**trial.headers["admin"], **headers})[1]


def test_no_request_fails_and_none_is_answered_by_what_no_longer_answers(steps: dict[str, Row]) -> None:
    """How long each step took is in the evidence (drill.csv), which the same drill makes."""
    assert {step: (row["failed"], row["stale"]) for step, row in steps.items()} == dict.fromkeys(steps, (0, 0))
    assert all(steps[step]["requests"] > 0 for step in ("before", "break to detect", "fallen back", "recovered"))
    assert steps["break to detect"]["verdicts"] == 29  # the policy's minimum is 30


def test_the_ledger_tells_the_story_and_is_whole(service: Service, trial: Trial, steps: dict[str, Row]) -> None:
    events = get(trial, "/releases.json")["events"]
    assert [(one["event"], one["actor"]) for one in events][:2] == [("promoted", "admin"), ("fell_back", "trigger")]
    assert events[0]["reason"] == REASON
    assert events[1]["figures"]["trigger"]["fired_at"] == 30
    after = events[1]["figures"]["after"]
    assert after > 0
    assert service.command("verify", "--ledger").returncode == 0
    fallen = get(trial, "/api/v1/predictions?option=baseline&limit=200")["predictions"]
    assert fallen
    assert all(one["comparison"]["option"] == "model" for one in fallen)


def test_while_the_baseline_answers_all_workers_do_are_ready_and_the_pages_say_so(
    drilled: tuple[dict[str, Row], Seen],
) -> None:
    _, seen = drilled
    assert set(seen.options) == {"baseline"}
    assert set(seen.ready) == {200}
    assert "The trigger has fired for triage/1" in seen.banner
    assert "30 of 30 audited answers of triage/1 were wrong" in seen.banner
    assert (seen.monitor["answers_with"], seen.monitor["trigger"]["state"]) == ("baseline", "above_limit")


def test_the_requests_that_drifted_meanwhile_are_found(service: Service, steps: dict[str, Row]) -> None:
    told = service.command("monitor", "--json")
    assert json.loads(told.stdout)["drift"]["state"] == "moved"
    assert told.returncode == 0  # no trigger stands fired


def test_every_worker_answers_with_the_model_again_and_the_pages_say_nothing_of_a_trigger_any_more(
    trial: Trial, steps: dict[str, Row]
) -> None:
    assert set(answers(trial)) == {"model"}
    assert get(trial, "/api/v1/monitor")["trigger"]["fired"] is None
    assert "The trigger has fired" not in Page(get(trial, "/releases", Accept="text/html")).text
