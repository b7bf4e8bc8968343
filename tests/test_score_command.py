"""`reviewapp score IN OUT`: goes on where it was, writes whole files, and leaves in the ledger what it is told to."""

import csv
import fcntl
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import fsspec
import pytest
from click.testing import CliRunner, Result
from sqlalchemy import select

from reviewapp import bulk, cli, proof
from reviewapp.adapter import ModelAdapter
from reviewapp.errors import ModelBroken, StoreBusy
from reviewapp.parts import Parts
from reviewapp.prediction import Call
from reviewapp.release import Release
from reviewapp.scoring import recording, run, work
from reviewapp.tables import scoring_chunks, scorings
from reviewapp.triage import generator

from .page import as_csv
from .test_examples import commands

ROWS = 12  # of a file; each file is a partition of its own at least


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Five files of rows, two of which are bad."""
    made = tmp_path / "in"
    made.mkdir()
    for number in range(5):
        records = [dict(one.record) for one in generator.generate(ROWS, number)]
        if number in (1, 3):
            records[4]["channel"] = "pigeon"
        (made / f"{number}.csv").write_text(as_csv(records))
    return made


@pytest.fixture
def score(parts: Parts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Result]]:
    """Run the command on the instance of `parts`, in this process."""
    monkeypatch.setattr(cli.scoring, "_parts", lambda: parts)

    def command(*words: object) -> Result:
        return CliRunner().invoke(cli.main, ["score", *map(str, words), "--workers", "1"])

    yield command
    work.forget()


def rows_of(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(path.read_bytes().decode(), newline="")))


def kept(parts: Parts, table: Any) -> list[dict[str, Any]]:
    with parts.store.reading() as connection:
        return [dict(row) for row in connection.execute(select(table)).mappings()]


def predictions(parts: Parts) -> list[Any]:
    return [one for page in parts.ledger.pages({}, "newest") for one in page]


@contextmanager
def broken_off(monkeypatch: pytest.MonkeyPatch, after: int) -> Iterator[list[int]]:
    """Let the run end after so many partitions; give the numbers of those that are asked for."""
    asked: list[int] = []

    def do(job: Any, part: Any, files: Any) -> Any:
        asked.append(part.number)
        if len(asked) > after:
            raise StoreBusy("Broken off.")
        return work.do(job, part, files)

    with monkeypatch.context() as patched:
        patched.setattr(run, "do", do)
        yield asked


def test_all_rows_of_a_folder_are_answered_in_order_and_counted_in_the_ledger(
    score: Callable[..., Result], parts: Parts, folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.csv"
    shown = score(folder, out)
    assert shown.exit_code == 1
    assert shown.stdout.startswith(f"{5 * ROWS} rows: {5 * ROWS - 2} answered, ")
    assert "2 of 60 rows have a problem; each says which in its place, and in out.problems.csv.\n" in shown.stderr
    adapter = parts.registry.adapter()
    alone = []
    for path in sorted(folder.iterdir()):
        rows = bulk.read(bulk.CSV_TYPE, path.read_bytes(), adapter.contract)
        answered = b"".join(bulk.answer(rows, adapter, Call(dry_run=True))).decode()
        alone += list(csv.DictReader(io.StringIO(answered, newline="")))
    found = rows_of(out)
    for row, one in zip(found, alone, strict=True):
        assert {**row, "confidence": ""} == {**one, "confidence": ""}
        assert row["confidence"] == one["confidence"] or abs(float(row["confidence"]) - float(one["confidence"])) < 1e-9
    bad = rows_of(tmp_path / "out.problems.csv")
    assert [(row["row"], row["problem"][:8]) for row in bad] == [("17", "channel:"), ("41", "channel:")]
    assert [number for number, row in enumerate(found, 1) if row["problem"]] == [17, 41]
    [counted] = kept(parts, scorings)
    labels = [row["prediction"] for row in found if row["prediction"]]
    assert counted["labels"] == {label: labels.count(label) for label in set(labels)}
    assert (counted["rows"], counted["predictions"], counted["problems"]) == (60, 58, 2)
    assert counted["review"] == sum(row["decision"] == "review" for row in found)
    assert (counted["codes"], counted["recorded"], counted["actor"]) == ({"not_a_choice": 2}, "summary", "command line")
    assert counted["release_digest"] == adapter.release.id.digest
    assert [Path(one["url"]).name for one in counted["files"]] == [f"{number}.csv" for number in range(5)]
    assert (predictions(parts), kept(parts, scoring_chunks)) == ([], [])
    assert sorted(path.name for path in tmp_path.glob("out*")) == ["out.csv", "out.problems.csv"]
    for number in (1, 3):  # mended, there is no file of bad rows any more
        (folder / f"{number}.csv").unlink()
    assert score(folder, out, "--record", "none").exit_code == 0
    assert len(rows_of(out)) == 3 * ROWS
    assert not (tmp_path / "out.problems.csv").exists()
    assert len(kept(parts, scorings)) == 1


def test_the_runs_that_the_ledger_has_counted_are_listed_the_newest_first(
    score: Callable[..., Result], parts: Parts, folder: Path, tmp_path: Path
) -> None:
    def listed(*words: str) -> list[str]:
        shown = CliRunner().invoke(cli.main, ["scorings", *words])
        assert shown.exit_code == 0
        return shown.stdout.splitlines()

    assert listed() == ["No run has been counted yet; `reviewapp score IN OUT` counts its answers."]
    said = [
        score(folder, tmp_path / name, "--record", mode).stdout
        for name, mode in (("a.csv", "summary"), ("b.csv", "all"))
    ]
    score(folder, tmp_path / "c.csv", "--record", "none")
    newest, oldest = listed()
    for line, words, name in ((newest, said[1], "b.csv"), (oldest, said[0], "a.csv")):
        assert f"  {parts.registry.adapter().release.id} model  {words.strip()}  " in line
        assert line.endswith(name)
    runs = list(map(json.loads, listed("--json")))
    assert [(one["recorded"], one["rows"], one["problems"]) for one in runs] == [("all", 60, 2), ("summary", 60, 2)]
    assert {one.request_id for one in predictions(parts)} == {runs[0]["id"]}


@pytest.mark.parametrize("mode", ["none", "all"])
def test_a_run_that_was_broken_off_goes_on_where_it_was(
    score: Callable[..., Result], parts: Parts, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    out, whole = tmp_path / "out.jsonl", tmp_path / "whole.jsonl"
    out.write_text("what was there before")
    with broken_off(monkeypatch, after=3):
        shown = score(folder, out, "--record", mode)
    assert (shown.exit_code, shown.stderr) == (1, "reviewapp: Broken off.\n")
    assert out.read_text() == "what was there before"
    with broken_off(monkeypatch, after=9) as asked:
        shown = score(folder, out, "--record", mode)
    assert asked == [3, 4]
    assert shown.stderr.startswith("A run that was broken off goes on.\n")
    *lines, last = map(json.loads, out.read_text().splitlines())
    assert last == {"summary": {"rows": 60, "predictions": 58, "problems": 2}}
    score(folder, whole, "--record", "none")

    def said(path: Path) -> list[Any]:  # single requests may be answered by another engine, to the last digits alike
        lines = path.read_text().splitlines()
        read = [json.loads(line, parse_float=lambda text: round(float(text), 9)) for line in lines]
        return [{name: one[name] for name in one if name not in ("id", "created_at", "problem")} for one in read]

    assert said(out) == said(whole)
    recorded = {one.id: one for one in predictions(parts)}
    assert list(recorded) == [line["id"] for line in lines if "id" in line][::-1] if mode == "all" else not recorded


def test_a_partition_that_is_done_again_is_not_recorded_again(
    score: Callable[..., Result], parts: Parts, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run is broken off when a partition is recorded and its file is not written: as by a kill at that moment."""
    monkeypatch.setattr(recording, "CHUNK", 5)
    out = tmp_path / "out.jsonl"

    def fails(*_: object) -> None:
        raise StoreBusy("Broken off.")

    with monkeypatch.context() as patched:
        patched.setattr(work, "write", fails)
        assert score(folder, out, "--record", "all").exit_code == 1
    first = predictions(parts)
    assert len(first) == ROWS
    assert [row["row"] for row in kept(parts, scoring_chunks)] == [1, 6, 11]
    assert score(folder, out, "--record", "all").exit_code == 1
    lines = [json.loads(line) for line in out.read_text().splitlines()[:-1]]
    recorded = {one.id: one for one in predictions(parts)}
    assert len(recorded) == len(predictions(parts)) == 58
    assert [line["id"] for line in lines[:ROWS]] == [one.id for one in reversed(first)]
    for line in (one for one in lines if "id" in one):
        one = recorded[line["id"]]
        assert (one.source, one.client) == ("bulk", "command line")
        assert one.as_json() == line
    assert kept(parts, scoring_chunks) == []
    assert kept(parts, scorings)[0]["recorded"] == "all"
    waiting = sum(bool(one.reasons) or one.audit for one in recorded.values())
    assert parts.desk.waiting("ann").left == waiting


def test_a_row_at_which_the_model_failed_before_fails_again(
    parts: Parts, folder: Path, tmp_path: Path, score: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = next(iter(rows_of(folder / "0.csv")))["body"]
    outputs = ModelAdapter.outputs

    def failing(self: ModelAdapter, option: str, records: Any) -> Any:
        if any(record["body"] == bad for record in records):
            raise ModelBroken("The model failed on a valid request.")
        return outputs(self, option, records)

    monkeypatch.setattr(ModelAdapter, "outputs", failing)
    monkeypatch.setattr(ModelAdapter, "check_golden", lambda self: None)
    with monkeypatch.context() as patched:
        patched.setattr(work, "write", lambda *_: 1 / 0)
        assert isinstance(score(folder / "0.csv", tmp_path / "out.csv", "--record", "all").exception, ZeroDivisionError)
    score(folder / "0.csv", tmp_path / "out.csv", "--record", "all")
    found = rows_of(tmp_path / "out.csv")
    assert [bool(row["problem"]) for row in found] == [True] + [False] * (ROWS - 1)
    assert len(predictions(parts)) == ROWS - 1


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda folder: (folder / "0.csv").write_text((folder / "1.csv").read_text()), "another input"),
        (lambda folder: shutil.copy(folder / "0.csv", folder / "9.csv"), "another input"),
        (lambda folder: ["--option", "baseline"], "another option"),
        (lambda folder: ["--record", "all"], "another record mode"),
    ],
)
def test_a_run_of_something_else_begins_anew_and_says_so(
    score: Callable[..., Result], folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    change: Callable[[Path], Any], said: str,
) -> None:  # fmt: skip
    with broken_off(monkeypatch, after=3):
        score(folder, tmp_path / "out.csv")
    words = change(folder)
    with broken_off(monkeypatch, after=9) as asked:
        shown = score(folder, tmp_path / "out.csv", *(words if isinstance(words, list) else []))
    assert shown.stderr.startswith(f"A run that was broken off was of {said}: this one begins anew.\n")
    assert asked == list(range(len(list(folder.iterdir()))))


def test_another_release_begins_anew(
    score: Callable[..., Result], parts: Parts, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    narrower: Release,
) -> None:  # fmt: skip
    with broken_off(monkeypatch, after=3):
        score(folder, tmp_path / "out.csv")
    parts.registry.add(narrower, "test")
    parts.registry.promote(narrower.id.version, "narrower", "test", breaking=True)
    assert "was of another release: this one begins anew." in score(folder, tmp_path / "out.csv").stderr


def test_a_file_that_changes_meanwhile_ends_the_run(
    score: Callable[..., Result], folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def do(job: Any, part: Any, files: Any) -> Any:
        if part.number == 4:
            with (folder / "0.csv").open("a") as file:
                file.write("more\n")
        return work.do(job, part, files)

    monkeypatch.setattr(run, "do", do)
    shown = score(folder, tmp_path / "out.csv")
    assert (shown.exit_code, (tmp_path / "out.csv").exists()) == (2, False)
    assert shown.stderr.endswith(f"{folder} has changed while it was answered; run it again.\n")


def test_a_change_that_leaves_the_size_is_seen_too(
    score: Callable[..., Result], folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def do(job: Any, part: Any, files: Any) -> Any:
        if part.number == 4:
            (folder / "0.csv").write_bytes((folder / "0.csv").read_bytes()[:-2] + b"s\n")
        return work.do(job, part, files)

    monkeypatch.setattr(run, "do", do)
    shown = score(folder, tmp_path / "out.csv")
    assert shown.stderr.endswith(f"{folder} has changed while it was answered; run it again.\n")


def test_a_file_that_ends_early_meanwhile_is_named(
    score: Callable[..., Result], folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def do(job: Any, part: Any, files: Any) -> Any:
        file = folder / "1.csv"
        file.write_bytes(file.read_bytes().splitlines(keepends=True)[0] + b'"')
        return work.do(job, part, files)

    monkeypatch.setattr(run, "do", do)
    shown = score(folder, tmp_path / "out.csv")
    assert shown.exit_code == 2
    assert "1.csv cannot be read at row 13 or in the 12 rows from there on" in shown.stderr


@pytest.mark.parametrize("out", ["1.csv", "link.csv", "a.csv", "./1.csv"])
def test_no_file_of_requests_is_overwritten(
    score: Callable[..., Result], folder: Path, out: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "a.problems.csv").write_bytes((folder / "0.csv").read_bytes())  # it would go, as nothing in it is wrong
    (folder / "link.csv").symlink_to("1.csv")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    monkeypatch.chdir(folder)
    alone = folder / ("a.problems.csv" if out == "a.csv" else "1.csv")
    for given in (folder, alone, folder / "*.csv"):
        shown = score(given, out)
        assert shown.exit_code == 2
        assert "is one of the files to answer, and would be overwritten: give OUT another name." in shown.stderr
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_what_a_run_keeps_beside_out_is_not_answered(score: Callable[..., Result], folder: Path) -> None:
    assert score(folder / "**", folder / "out.csv").exit_code == 1
    (folder / "out.csv").unlink()
    (folder / "out.problems.csv").unlink()
    (folder / "out.csv.parts").mkdir()
    (folder / "out.csv.parts" / "000001.old.csv").write_text("what a run left\n")
    assert score(folder / "**", folder / "out.csv").stdout.startswith("60 rows")
    assert score(folder / "out.csv.p*" / "*.csv", folder / "out.csv").exit_code == 2


def test_a_file_that_no_run_wrote_is_not_taken_away(score: Callable[..., Result], folder: Path, tmp_path: Path) -> None:
    (tmp_path / "out.csv.parts").mkdir()
    for name in ("run.json", "000001.12345678.answers", "notes.txt"):
        (tmp_path / "out.csv.parts" / name).write_text("{")
    shown = score(folder, tmp_path / "out.csv")
    assert (shown.exit_code, len(list((tmp_path / "out.csv.parts").iterdir()))) == (2, 3)
    assert "notes.txt is from no run, and this folder is to be emptied: move it, or rename OUT." in shown.stderr


def test_a_promotion_meanwhile_leaves_the_name_of_what_answered(
    score: Callable[..., Result], folder: Path, tmp_path: Path, parts: Parts, release: Release, narrower: Release,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    def do(job: Any, part: Any, files: Any) -> Any:
        if part.number == 2:
            parts.registry.promote(narrower.id.version, "narrower", "test", breaking=True)
        return work.do(job, part, files)

    monkeypatch.setattr(run, "do", do)
    parts.registry.add(narrower, "test")
    assert score(folder, tmp_path / "out.csv").exit_code == 1
    [row] = kept(parts, scorings)
    assert (row["release_version"], row["release_digest"]) == (release.id.version, release.id.digest)


def test_a_file_that_ends_in_tsv_is_parted_by_tabs(score: Callable[..., Result], folder: Path, tmp_path: Path) -> None:
    score(folder, tmp_path / "out.tsv")
    score(folder, tmp_path / "out.csv")
    with (tmp_path / "out.tsv").open(newline="") as tabs, (tmp_path / "out.csv").open(newline="") as commas:
        assert list(csv.reader(tabs, delimiter="\t")) == list(csv.reader(commas))
    assert (tmp_path / "out.problems.tsv").read_text().startswith('"row"\t"subject"\t')


def test_addresses_of_fsspec_are_read_and_written(score: Callable[..., Result], folder: Path) -> None:
    memory = fsspec.filesystem("memory")
    for path in folder.iterdir():
        memory.pipe_file(f"/score/in/{path.name}", path.read_bytes())
    shown = score("memory://score/in/*.csv", "memory://score/out.parquet")
    assert "60 rows" in shown.stdout
    assert sorted(memory.ls("/score", detail=False)) == [
        "/score/in",
        "/score/out.parquet",
        "/score/out.problems.parquet",
    ]
    memory.rm("/score", recursive=True)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["{in}", "{tmp}/out.txt"], "must be told by its ending"),
        (["{in}", "{tmp}/folder.csv"], "folder.csv is a folder; name a file."),
        (["{in}", "nowhere://a.csv"], "nowhere://a.csv cannot be written"),
        (["{in}", "{tmp}/out.csv", "--output", "{tmp}/b"], "Say OUT or --output, not both."),
        (["{in}", "{tmp}/out.csv", "--dry-run", "--record", "all"], "--dry-run records nothing"),
        (["{in}"], "need OUT"),
        (
            ["{in}", "{tmp}/out.csv", "--record", "all", "--scheduler", "tcp://127.0.0.1:1"],
            "The ledger is an SQLite file",
        ),
        (["{in}", "{tmp}/held.csv"], "Another run writes"),
        (["{in}", "{tmp}/out.csv", "--scheduler", "somewhere"], "There is no Dask scheduler at somewhere: Invalid url"),
    ],
)
def test_wrong_use_is_one_sentence(
    score: Callable[..., Result], folder: Path, tmp_path: Path, words: list[str], said: str
) -> None:
    (tmp_path / "folder.csv").mkdir()
    (tmp_path / "held.csv.parts").mkdir()
    lock = os.open(tmp_path / "held.csv.parts", os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_EX)
    shown = score(*(word.format(**{"in": folder, "tmp": tmp_path}) for word in words))
    os.close(lock)
    assert (shown.exit_code, shown.stdout) == (2, "")
    assert said in shown.stderr
    assert shown.stderr.count("\n") == 1


def test_without_the_libraries_it_says_which_extra_brings_them(
    score: Callable[..., Result], folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "reviewapp.scoring.run")
    monkeypatch.setitem(sys.modules, "fsspec", None)
    for name in ("folder", "inputs", "work"):
        monkeypatch.delitem(sys.modules, f"reviewapp.scoring.{name}")
    shown = score(folder, tmp_path / "out.csv")
    assert (shown.exit_code, shown.stderr) == (
        2,
        "reviewapp: This needs more libraries: pip install 'reviewapp[bulk]'.\n",
    )


# ---- processes of their own -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def instance(tmp_path_factory: pytest.TempPathFactory, live_database: Path, proven: Path) -> Path:
    made = tmp_path_factory.mktemp("score") / "instance"
    made.mkdir()
    shutil.copy(live_database, made / "reviewapp.sqlite3")
    shutil.copytree(proven, made / proof.FOLDER)
    return made


@pytest.fixture
def command(instance: Path, releases_root: Path) -> Callable[..., "subprocess.Popen[str]"]:
    def start(*words: object, **options: Any) -> "subprocess.Popen[str]":
        environment = {
            **os.environ, "REVIEWAPP_INSTANCE": str(instance), "REVIEWAPP_RELEASES": str(releases_root)
        }  # fmt: skip
        line = [sys.executable, "-m", "reviewapp", "score", *map(str, words)]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        return subprocess.Popen(line, env=environment, text=True, **pipes, **options)

    return start


def test_a_cluster_of_two_workers_that_runs_already_gives_the_answers_of_this_process(
    command: Callable[..., "subprocess.Popen[str]"], score: Callable[..., Result], folder: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    dask = Path(sys.executable).with_name("dask")
    where = tmp_path / "scheduler.json"
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    scheduler = subprocess.Popen(
        [
            dask,
            "scheduler",
            "--host",
            "127.0.0.1",
            "--port",
            "0",
            "--dashboard-address",
            "127.0.0.1:0",
            "--scheduler-file",
            where,
        ],
        **quiet,
    )
    workers = [
        subprocess.Popen(
            [dask, "worker", "--scheduler-file", where, "--host", "127.0.0.1", "--nthreads", "1", "--no-dashboard",
             "--no-nanny", "--local-directory", tmp_path / str(number)], **quiet,
        )
        for number in range(2)
    ]  # fmt: skip
    try:
        from distributed import Client

        with Client(scheduler_file=str(where), set_as_default=False) as client:
            client.wait_for_workers(2, timeout=60)
            address = client.scheduler.address
        monkeypatch.chdir(tmp_path)  # the workers run in another folder
        with command(folder, "cluster.csv", "--scheduler", address) as process:
            said, errors = process.communicate()
        assert (process.returncode, errors.count("Traceback")) == (1, 0), errors
        assert said.startswith("60 rows: 58 answered")
    finally:
        for process in (*workers, scheduler):
            process.terminate()
            process.wait(60)
    score(folder, tmp_path / "here.csv")
    assert (tmp_path / "cluster.csv").read_bytes() == (tmp_path / "here.csv").read_bytes()


def test_a_scheduler_that_is_not_there_is_named(
    score: Callable[..., Result], folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import distributed

    def refused(*_: object, **__: object) -> None:
        raise OSError("Timed out trying to connect.")

    monkeypatch.setattr(distributed, "Client", refused)
    shown = score(folder, tmp_path / "out.csv", "--scheduler", "tcp://127.0.0.1:1")
    assert shown.exit_code == 2
    assert shown.stderr == "reviewapp: There is no Dask scheduler at tcp://127.0.0.1:1: Timed out trying to connect.\n"


def test_the_lines_of_the_documentation_work(instance: Path, releases_root: Path, tmp_path: Path) -> None:
    document = Path(__file__).resolve().parent.parent / "docs" / "scoring.md"
    environment = {
        **os.environ, "REVIEWAPP_INSTANCE": str(instance), "REVIEWAPP_RELEASES": str(releases_root),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }  # fmt: skip
    said = [
        subprocess.run(["bash", "-c", line], cwd=tmp_path, env=environment, text=True, capture_output=True, check=True)
        for line in commands(document.read_text())
    ]
    assert said[1].stdout.startswith("2 rows: 1 answered")
    assert said[2].stdout.count("This must be one of the allowed values (email, web") == 2


def test_ctrl_c_is_said_in_a_line_whatever_runs(
    command: Callable[..., "subprocess.Popen[str]"], folder: Path, tmp_path: Path
) -> None:
    for number in range(5, 60):
        shutil.copy(folder / f"{number % 5}.csv", folder / f"{number:02}.csv")
    process = command(folder, tmp_path / "out.csv", "--workers", "2", start_new_session=True)
    while process.poll() is None and not list((tmp_path / "out.csv.parts").glob("*.answers")):
        time.sleep(0.005)  # until the workers are at it
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to all of them
    _, errors = process.communicate()
    assert errors.strip() == "Aborted!"


def test_a_run_that_is_killed_records_each_row_once(
    command: Callable[..., "subprocess.Popen[str]"], instance: Path, folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.jsonl"
    for number in range(5, 20):
        shutil.copy(folder / f"{number % 5}.csv", folder / f"{number:02}.csv")
    process = command(folder, out, "--record", "all", "--workers", "1")
    assert process.stderr is not None
    while process.poll() is None and not list(Path(f"{out}.parts").glob("*.answers")):
        time.sleep(0.005)  # until the first file is written
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not out.exists()
    with command(folder, out, "--record", "all", "--workers", "2") as process:
        said, errors = process.communicate()
    assert "A run that was broken off goes on." in errors
    ids = [one["id"] for one in map(json.loads, out.read_text().splitlines()) if "id" in one]
    assert said.startswith(f"{20 * ROWS} rows: {len(ids)} answered")
    exported = subprocess.run(
        [sys.executable, "-m", "reviewapp", "export", "--format", "jsonl"], text=True, capture_output=True,
        env={**os.environ, "REVIEWAPP_INSTANCE": str(instance)}, check=True,
    )  # fmt: skip
    recorded = [json.loads(line)["id"] for line in exported.stdout.splitlines()]
    assert sorted(recorded) == sorted(ids)
