"""Stages: each one's own time, in a header, and nothing outside of a request."""

import re
from collections.abc import Callable
from typing import Any

from reviewapp import stages
from reviewapp.stages import STAGES, begin, server_timing, stage


def timing(header: str) -> dict[str, float]:
    return {name: float(value) for name, value in re.findall(r"(\w+);dur=([\d.]+)", header)}


def test_a_stage_is_charged_without_the_stages_inside_it(monkeypatch: Any) -> None:
    now = [0.0]
    monkeypatch.setattr(stages, "perf_counter", lambda: now[0])
    begin()
    with stage("predict"):
        now[0] += 1
        with stage("record"):
            now[0] += 10
        now[0] += 2
    now[0] += 100
    header = server_timing()
    assert header is not None
    assert timing(header) == {"parse": 0, "validate": 0, "predict": 3000, "record": 10000, "render": 0, "total": 113000}


def test_an_answer_of_the_api_says_where_its_time_went(api: Callable[..., Any], example: dict[str, Any]) -> None:
    taken = timing(api("post", "/predictions", json={"input": example}).headers["Server-Timing"])
    assert set(taken) == {*STAGES, "total"}
    assert all(taken[name] > 0 for name in STAGES)
    assert sum(taken[name] for name in STAGES) < taken["total"]


def test_who_is_refused_at_the_door_learns_no_times(api: Callable[..., Any]) -> None:
    assert "Server-Timing" not in api("post", "/predictions", role=None, json={}).headers
