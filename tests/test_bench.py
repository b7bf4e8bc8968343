"""The bench: a short run of everything gives every goal a figure, and what a figure means is what is documented."""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from bench import __main__ as command
from bench import client, releases
from bench.goals import AT_MOST, Goal, goals, over
from bench.load import LoadFailed, load
from bench.measure import AT_MANY
from bench.results import BEGIN, END, FOLDER, goals_table, readme_part, runs_table, with_part
from bench.running import BY_HAND, OURS, check_alike

from reviewapp.evidence import pack
from reviewapp.evidence.pack import Pack, changed_files
from reviewapp.evidence.tables import Row

ROOT = Path(__file__).resolve().parent.parent


# ---- everything, once ---------------------------------------------------------------------------------------------


@pytest.mark.server
def test_a_short_run_gives_every_goal_a_figure_and_writes_whole_files(tmp_path: Path) -> None:
    readme = (ROOT / "README.md").read_text()
    words = ["--quick", "--rounds", "1", "--seconds", "0.15", "--load", "python"]
    assert command.main([*words, "--output", str(tmp_path / "out"), "--cache", str(tmp_path / "cache")]) == 0
    results = Pack.read(tmp_path / "out")
    assert list(changed_files(results.folder)) == []
    assert set(results.files) == {"goals.csv", "runs.csv", "bench.png", "manifest.json"}
    size = command.QUICK
    wanted = goals(["boosting", "own"], size["columns"], size["memory_workers"])
    assert [row["what"] for row in results.table("goals").rows] == [goal.what for goal in wanted]
    for row in results.table("goals").rows:
        assert math.isfinite(row["figure"]), row
        assert row["low"] <= row["figure"] <= row["high"], row
    runs = [row for row in results.table("runs").rows if row["figure"] is None]
    assert all(row["n"] > 0 and row["errors"] == 0 and 0 < row["p50"] <= row["p99"] for row in runs)
    about = results.manifest
    assert (about["quick"], about["generator"], about["rounds"], about["seconds"]) == (True, "python", 1, 0.15)
    assert set(about["releases"]) == {"triage", "boosting", "own"}
    assert about["machine"]["file_system"]
    assert about["source"] == pack.source_digest(ROOT)
    assert (ROOT / "README.md").read_text() == readme, "only a run that writes where the README looks changes it"
    assert list((tmp_path / "cache").glob("*/.*")) == [], "nothing half made is left behind"


def test_what_cannot_run_is_one_sentence(tmp_path: Path, capsys: Any, monkeypatch: Any) -> None:
    def fails(*_: Any, **__: Any) -> None:
        raise LoadFailed("the disk is gone")

    monkeypatch.setattr("bench.releases.served", fails)
    assert command.main(["--quick", "--output", str(tmp_path), "--cache", str(tmp_path / "cache")]) == 1
    assert capsys.readouterr().err.endswith("bench: the disk is gone\n")
    assert list(tmp_path.iterdir()) == []


def test_only_what_was_built_of_other_code_is_thrown_away(tmp_path: Path) -> None:
    for name in ("0123456789abcdef", "fedcba9876543210", "mine"):
        (tmp_path / name / "triage").mkdir(parents=True)
    served = releases.served(tmp_path / "0123456789abcdef", (), rows=1, batch=1, told=lambda step: None)
    assert list(served) == ["triage"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0123456789abcdef", "mine"]


# ---- from the runs to the goals -----------------------------------------------------------------------------------


def run(server: str, number: int, rate: float, **changes: Any) -> Row:
    row = {"release": "triage", "server": server, "what": AT_MANY, "round": number, "n": 9, "errors": 0, "p50": 1.0}
    return row | {"rows_per_second": rate, "p99": 2.0, "figure": None} | changes


RATIO = over("triage", AT_MANY, (OURS, "rows_per_second"), (BY_HAND, "rows_per_second"))
RUNS = [
    *(run(OURS, number, rate) for number, rate in ((2, 60.0), (1, 20.0), (3, 90.0))),
    *(run(BY_HAND, number, rate) for number, rate in ((1, 10.0), (2, 10.0), (3, 10.0))),
    run(OURS, 1, 1.0, what="1 connection"),
    run(OURS, 1, 1.0, release="own"),
]


def test_a_ratio_is_made_round_by_round_and_stated_as_median_with_its_spread() -> None:
    assert RATIO(RUNS) == [2.0, 6.0, 9.0]
    row = Goal("rate", RATIO, must=6, aim=12).row(RUNS)
    assert (row["figure"], row["low"], row["high"], row["reached"]) == (6.0, 2.0, 9.0, "must")


@pytest.mark.parametrize(
    ("sense", "must", "aim", "reached"),
    [
        ("≥", 6.1, 12, "no"),
        ("≥", 6, None, "must"),
        ("≥", 4, 6, "aim"),
        ("≤", 5.9, 2, "no"),
        (AT_MOST, 6, 2, "must"),
        (AT_MOST, 8, 6, "aim"),
        (AT_MOST, None, None, ""),
    ],
)
def test_a_goal_is_reached_on_its_own_side(sense: str, must: float | None, aim: float | None, reached: str) -> None:
    assert Goal("rate", RATIO, sense, must, aim).row(RUNS)["reached"] == reached


def test_the_goal_of_growth_is_the_added_time_not_the_factor() -> None:
    def one(release: str, server: str, p50: float) -> Row:
        return run(server, 1, 1.0, release=release, what="1 connection", p50=p50)

    runs = [
        *(one(name, OURS, p50) for name, p50 in (("narrow", 1.0), ("wide", 4.0))),
        *(one(name, "bare pipeline", p50) for name, p50 in (("narrow", 4.0), ("wide", 10.0))),
    ]
    difference, quotient = [goal for goal in goals([], ("narrow", "wide"), (2,)) if "growth" in goal.what]
    assert difference.figures(runs) == [0.5]
    assert difference.must == 1
    assert quotient.figures(runs) == [1.6]
    assert quotient.must is None


# ---- the load generator of our own ----------------------------------------------------------------------------------


@contextmanager
def answering(*statuses: int) -> Iterator[int]:
    """A server that answers with these statuses in turn, the last one again and again; gives its port."""
    turn = list(statuses)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(turn.pop(0) if len(turn) > 1 else turn[0])
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *_: Any) -> None:
            """Not onto the terminal."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


@pytest.fixture
def bodies(tmp_path: Path) -> Path:
    path = tmp_path / "bodies.jsonl"
    path.write_text('{"input": {"a": "é"}}\n{"input": {}}\n')
    return path


def test_answers_are_counted_until_there_are_enough(bodies: Path) -> None:
    with answering(201) as port:
        report = load("python", port, "/predict", bodies, "secret", connections=2, seconds=0.0, least=5)
    assert report.n >= 5
    assert report.errors == 0
    assert 0 < report.p50 <= report.p99


@pytest.mark.parametrize("status", [302, 404, 503])
def test_an_answer_that_is_not_2xx_ends_the_bench(bodies: Path, status: int) -> None:
    with answering(201, 201, status) as port, pytest.raises(LoadFailed, match="1 requests failed, 2 were answered"):
        load("python", port, "/predict", bodies, "", connections=1, seconds=5.0)


def test_a_slow_answer_counts_for_the_requests_that_it_held_up() -> None:
    assert client.corrected([1.0, 1.5, 2.0], 1.0) == [1.0, 1.5, 2.0]
    assert client.corrected([1.0, 4.5], 1.0) == [1.0, 4.5, 3.5, 2.5, 1.5]


@pytest.mark.parametrize("theirs", [{"yes": 0.3, "no": 0.7}, {"yes": 0.25, "no": 0.7, "perhaps": 0.05}])
def test_a_server_that_answers_otherwise_is_not_compared(bodies: Path, theirs: dict[str, float]) -> None:
    def server(answer: Any) -> Any:
        release = SimpleNamespace(bodies=bodies, name="own")
        return SimpleNamespace(name="one", release=release, ask=lambda body: answer)

    mine = {"yes": 0.25, "no": 0.75}
    ours = server({"output": {"probabilities": mine}})
    check_alike(ours, server({"probabilities": mine}), 2)
    with pytest.raises(LoadFailed, match="one answers"):
        check_alike(ours, server({"probabilities": theirs}), 2)


# ---- what lies in the repository ------------------------------------------------------------------------------------


def test_the_committed_results_are_of_a_whole_run_and_unchanged() -> None:
    results = Pack.read(FOLDER)
    assert list(changed_files(FOLDER)) == []
    assert results.manifest["quick"] is False, "run `make bench`"
    assert results.manifest["rounds"] >= 3


def test_the_table_of_the_readme_is_made_of_the_goals(tmp_path: Path) -> None:
    """That the README holds it as it is made is a test of the made files."""
    facts = json.loads((FOLDER / "manifest.json").read_text())
    made = Goal("rate", RATIO, must=6, aim=12)
    missed = Goal("other", RATIO, must=7)
    information = Goal("commit", lambda runs: [141.2, 150.9, 20.0], unit="µs")
    tables = [goals_table(RUNS, [made, missed, information]), runs_table(RUNS)]
    kept = {name: facts[name] for name in ("quick", "machine", "date", "rounds", "seconds", "generator", "workers")}
    results = pack.write(tmp_path, {**kept, "long": 1_000_000, "batch": 1000}, tables, {}, [])
    part = readme_part(results)
    assert "| rate | **6.00** | 2.00 – 9.00 | ≥ 6 | ≥ 12 | must |\n" in part
    assert "| other | **6.00** | 2.00 – 9.00 | ≥ 7 | – | **no** |\n" in part
    assert "| commit | **141 µs** | 20.0 µs – 151 µs | – | – | – |\n" in part
    assert with_part(f"above\n{BEGIN}old\n{END}below\n", part) == f"above\n{BEGIN}{part}{END}below\n"


def test_the_evidence_beside_it_is_written_without_touching_it(tmp_path: Path) -> None:
    inner = tmp_path / "bench" / "goals.csv"
    inner.parent.mkdir()
    inner.write_text("kept")
    pack.write(tmp_path, {}, [], {}, [])
    assert inner.read_text() == "kept"
    assert list(changed_files(tmp_path)) == []
