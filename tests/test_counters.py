"""What is counted by all workers together: nothing is lost or stuck, whatever ends a worker, and nothing grows."""

import ast
import logging
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from reviewapp import counters as counting
from reviewapp.counters import BOUNDS, CODES, OTHER, SLOTS, Counters, Layout
from reviewapp.errors import ReviewappError
from reviewapp.stages import STAGES

ROUTES = [("/a", "GET"), ("/a", "POST"), ("/livez", "GET"), ("/upload", "POST")]


def made(folder: Path, slow: float = 0.1) -> Counters:
    counters = Counters(folder, slow)
    counters.lay_out(ROUTES)
    return counters


@pytest.fixture
def counters(tmp_path: Path) -> Iterator[Counters]:
    found = made(tmp_path / "instance")
    yield found
    found.close()


def count(counters: Counters, route: str = "/a", method: str = "GET", status: int = 200, total: float = 0.002) -> None:
    counters.enter()
    counters.answered(route, method, status, (), total)


# ---- one process ----------------------------------------------------------------------------------------------------


def test_requests_are_counted_by_route_method_and_status(counters: Counters) -> None:
    count(counters)
    count(counters)
    count(counters, method="POST", status=201)
    assert counters.totals().requests == {("/a", "GET", "200"): 2, ("/a", "POST", "201"): 1}


def test_what_nobody_foresaw_is_counted_as_other(counters: Counters) -> None:
    count(counters, "/b/c", "GET", 404)
    count(counters, "/b/d", "BREW", 418)
    assert counters.totals().requests == {(OTHER, "GET", "404"): 1, (OTHER, OTHER, OTHER): 1}


def test_each_stage_that_ran_and_the_whole_are_in_their_histograms(counters: Counters) -> None:
    counters.enter()
    counters.answered("/a", "GET", 200, (0.0, 0.00005, 0.3, 0.0, 20.0), 20.4)
    stages = counters.totals().stages
    assert list(stages) == [*STAGES, "total"]
    assert sum(stages["parse"].counts) == sum(stages["record"].counts) == 0
    assert stages["validate"].counts[0] == 1  # a bound is in its own bucket, as Prometheus has it
    assert stages["predict"].counts[BOUNDS.index(0.5)] == 1
    assert stages["render"].counts[-1] == stages["total"].counts[-1] == 1
    assert stages["total"].seconds == 20.4
    assert stages["predict"].cumulative()[-1] == ("+Inf", 1.0)
    assert dict(stages["predict"].cumulative())["0.25"] == 0.0


def test_the_objectives_are_about_people_and_scripts_and_the_time_of_files_is_left_out(counters: Counters) -> None:
    count(counters, "/livez", total=9)
    count(counters, "/nothing", status=404)
    count(counters, "/upload", "POST", total=9)
    count(counters, status=422)
    count(counters, status=500, total=9)
    served = counters.totals().served
    assert (served.requests, served.failures, served.rejected, served.slow) == (3, 1, 1, 1)
    assert sum(served.latency) == 2


def test_an_answer_is_slow_from_the_objective_on(counters: Counters) -> None:
    for total in (0.0999, 0.1, 0.1001):
        count(counters, total=total)
    assert counters.totals().served.slow == 1


def test_what_the_worker_answers_by_itself_counts_as_failed_only_where_it_is(counters: Counters) -> None:
    counters.without_the_app(501, failed=False)
    counters.without_the_app(503, failed=True)
    found = counters.totals()
    assert found.requests == {(OTHER, OTHER, "501"): 1, (OTHER, OTHER, "503"): 1}
    assert (found.served.requests, found.served.failures) == (1, 1)


def test_a_request_is_in_flight_until_it_ends(counters: Counters) -> None:
    counters.enter()
    counters.enter()
    counters.answered("/a", "GET", 200, (), 0.1)
    assert counters.totals().in_flight == 1
    counters.leave()
    assert counters.totals().in_flight == 0


def test_the_rest_is_counted_too(counters: Counters) -> None:
    counters.refused(["missing", "too_small", "missing", "made_up"])
    counters.committed(0.0004)
    counters.dropped(7)
    found = counters.totals()
    assert {code: n for code, n in found.rejected.items() if n} == {"missing": 1, "too_small": 1, OTHER: 1}
    assert (sum(found.commits.counts), found.commits.seconds, found.dropped) == (1, 0.0004, 7)


def test_threads_lose_no_count(counters: Counters) -> None:
    def work() -> None:
        for _ in range(5000):
            count(counters)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert counters.totals().requests == {("/a", "GET", "200"): 40_000}
    assert counters.totals().in_flight == 0


def test_a_command_that_has_no_routes_counts_nothing_and_makes_no_file(tmp_path: Path) -> None:
    counters = Counters(tmp_path)
    counters.committed(1.0)
    counters.refused(["missing"])
    counters.without_the_app(503, failed=True)
    counters.open()
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(RuntimeError, match="lay_out"):
        counters.totals()


# ---- many processes -------------------------------------------------------------------------------------------------

WORKER = """
import sys, time, pathlib
sys.path.insert(0, sys.argv[2])
from tests.test_counters import count, made
counters = made(pathlib.Path(sys.argv[1]))
for _ in range(int(sys.argv[3])):
    count(counters)
counters.enter()
print(counters._slot, flush=True)
sys.stdin.read()
"""


def worker(folder: Path, requests: int) -> subprocess.Popen[str]:
    """A process that has answered so many requests and has one more in flight."""
    root = str(Path(__file__).parent.parent)
    command = [sys.executable, "-c", WORKER, str(folder), root, str(requests)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def slot_of(process: subprocess.Popen[str]) -> int:
    assert process.stdout is not None
    return int(process.stdout.readline())


def end(process: subprocess.Popen[str], how: int) -> None:
    process.send_signal(how)
    process.communicate(timeout=20)


def test_killed_workers_lose_no_count_leave_nothing_in_flight_and_have_successors_in_their_rows(tmp_path: Path) -> None:
    workers = [worker(tmp_path, 1000) for _ in range(3)]
    assert sorted(slot_of(one) for one in workers) == [0, 1, 2]
    [file] = tmp_path.glob("metrics.*.bin")
    size = file.stat().st_size
    reader = made(tmp_path)
    assert reader.totals().in_flight == 3
    for one in workers:
        end(one, signal.SIGKILL)
    assert reader.totals().requests == {("/a", "GET", "200"): 3000}
    assert reader.totals().in_flight == 0
    again = [worker(tmp_path, 10) for _ in range(3)]
    assert sorted(slot_of(one) for one in again) == [0, 1, 2]
    assert reader.totals().requests == {("/a", "GET", "200"): 3030}
    assert reader.totals().in_flight == 3
    for one in again:
        end(one, signal.SIGTERM)
    assert [path.name for path in tmp_path.iterdir()] == [file.name]
    assert file.stat().st_size == size
    reader.close()


def test_a_child_counts_in_a_row_of_its_own(counters: Counters) -> None:
    count(counters)
    child = os.fork()
    if child == 0:
        try:
            count(counters)
        finally:
            os._exit(int(counters._slot != 1))
    assert os.waitpid(child, 0)[1] == 0
    count(counters)
    assert counters.totals().requests == {("/a", "GET", "200"): 3}


# ---- the file -------------------------------------------------------------------------------------------------------


def test_a_restart_goes_on_from_what_was_counted(tmp_path: Path) -> None:
    for n in (1, 2, 3):
        counters = made(tmp_path)
        count(counters)
        assert counters.totals().requests == {("/a", "GET", "200"): n}
        counters.close()


def test_counts_of_another_version_are_removed(tmp_path: Path) -> None:
    (tmp_path / "metrics.0123456789ab.bin").write_bytes(b"old")
    (tmp_path / "metrics.txt").write_text("somebody's own")
    counters = made(tmp_path)
    counters.open()
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        f"metrics.{Layout(ROUTES).digest}.bin",
        "metrics.txt",
    ]
    assert Layout([*ROUTES, ("/b", "GET")]).digest != Layout(ROUTES).digest
    assert Layout(reversed(ROUTES)).digest == Layout(ROUTES).digest
    counters.close()


def test_a_row_that_a_crash_of_the_machine_spoilt_begins_anew(tmp_path: Path, counters: Counters) -> None:
    layout = Layout(ROUTES)
    folder = tmp_path / "instance"
    folder.mkdir()
    (folder / f"metrics.{layout.digest}.bin").write_bytes(b"\xff" * layout.row)  # no numbers at all
    count(counters)
    assert counters.totals().requests == {("/a", "GET", "200"): 1}


def test_the_file_is_its_owners_alone_and_takes_no_room_for_workers_that_never_were(counters: Counters) -> None:
    count(counters)
    [file] = counters._folder.iterdir()
    found = file.stat()
    assert found.st_mode & 0o777 == 0o600
    assert found.st_size == SLOTS * Layout(ROUTES).row
    assert found.st_blocks * 512 <= 4 * Layout(ROUTES).row


@pytest.mark.parametrize("how", ["a file in the place of the folder", "a full disk"])
def test_without_a_file_one_process_counts_in_memory_and_says_so_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, how: str
) -> None:
    if how == "a full disk":
        monkeypatch.setattr(os, "pwrite", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    else:
        (tmp_path / "instance").write_text("")
    counters = made(tmp_path / "instance")
    with caplog.at_level(logging.WARNING, "reviewapp"):
        for _ in range(3):
            count(counters)
    assert counters.totals().requests == {("/a", "GET", "200"): 3}
    assert [record.getMessage().split(":")[0] for record in caplog.records] == [
        "what /metrics tells of requests is kept in memory alone"
    ]


# ---- names that the code knows --------------------------------------------------------------------------------------


def documented_codes() -> set[str]:
    text = (Path(__file__).parent.parent / "docs" / "problems.md").read_text(encoding="utf-8")
    [told] = re.findall(r"^Codes of `errors`:(.*?)\nCodes of", text, re.DOTALL | re.MULTILINE)
    return set(re.findall(r"`(\w+)`", told))


def codes_of_the_source() -> set[str]:
    """Each text that a call in the source gives in the place of the code of a mistake."""
    places = {"Flaw": 1, "Broken": 0, "_refused": 0, "_header_flaw": 1}
    found: set[str] = set()
    for path in Path(counting.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in places:
                for given in node.args[places[node.func.id] :][:1]:
                    if isinstance(given, ast.Constant):
                        found.add(given.value)
    return found


def test_every_code_of_a_mistake_is_documented_and_has_its_own_count() -> None:
    assert codes_of_the_source() <= documented_codes() == set(counting.FLAWS)
    assert len(codes_of_the_source()) > 15


def test_every_kind_of_refusal_and_every_status_has_its_own_count() -> None:
    kinds: list[type[ReviewappError]] = [ReviewappError]
    for kind in kinds:
        kinds += kind.__subclasses__()
    ours = [kind for kind in kinds if kind.__module__ == "reviewapp.errors"]
    assert {kind.slug for kind in ours if 400 <= kind.status < 500} == set(counting.PROBLEMS)
    assert {int(kind.status) for kind in ours} <= set(counting.STATUSES)
    assert len(CODES) == len(set(CODES))
