"""`reviewapp verify --ledger` and `reviewapp purge`: one clear sentence, the promised exit codes."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from pysqlite3 import dbapi2

from reviewapp import cli
from reviewapp.cli import main
from reviewapp.ledger import Ledger
from reviewapp.prediction import Call
from reviewapp.store import Store

from .conftest import Clock
from .test_ledger import prediction


@pytest.fixture
def file(tmp_path: Path, empty_database: Path) -> Path:
    (tmp_path / "instance").mkdir()
    return Path(shutil.copy(empty_database, tmp_path / "instance" / "reviewapp.sqlite3"))


@pytest.fixture
def ids(file: Path, clock: Clock) -> list[str]:
    """The ids of three predictions of two days, two of them of ann's."""
    store, made = Store(f"sqlite:///{file}"), []
    for client in ("ann", "bob", "ann"):
        made.append(prediction(clock, client=client))
        Ledger(store, clock).add_predictions(made[-1:], Call())
        clock.forward(days=1)
    store.close()
    return [one.id for one in made]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Result]]:
    opened: list[Any] = []
    make_parts = cli.group.make_parts

    def making(settings: Any) -> Any:
        opened.append(make_parts(settings))
        return opened[-1]

    monkeypatch.setattr(cli.group, "make_parts", making)
    environment = {"REVIEWAPP_INSTANCE": str(tmp_path / "instance")}
    yield lambda *words: CliRunner().invoke(main, words, env=environment)
    for parts in opened:
        parts.store.close()


def test_a_whole_ledger_is_counted_and_its_newest_link_is_one_to_note(
    run: Callable[..., Result], ids: list[str]
) -> None:
    shown = run("verify", "--ledger")
    assert (shown.exit_code, shown.stderr) == (0, "")
    counted, newest = shown.stdout.splitlines()
    assert counted == ("The ledger is whole: 3 predictions, 0 verdicts, 0 release events, 0 purges in 3 commits.")
    assert run("verify", "--ledger", "--since", newest.rpartition(" ")[2]).exit_code == 0


def test_a_ledger_that_was_changed_ends_with_1_and_one_sentence(
    run: Callable[..., Result], ids: list[str], file: Path
) -> None:
    newest = run("verify", "--ledger").stdout.split()[-1]
    connection = dbapi2.connect(file)
    connection.execute("UPDATE predictions SET decision = 'review' WHERE seq = 2")
    connection.commit()
    changed = run("verify", "--ledger")
    assert (changed.exit_code, changed.stdout) == (1, "")
    assert changed.stderr == f"reviewapp: Prediction 2 ({ids[1]}): changed after it was recorded (link 2).\n"
    connection.execute("UPDATE predictions SET decision = 'auto' WHERE seq = 2")
    connection.execute("DELETE FROM predictions WHERE seq = 3")
    connection.execute("DELETE FROM links WHERE seq = 3")
    connection.commit()
    connection.close()
    assert run("verify", "--ledger").exit_code == 0  # a tail that was cut off shows only against what was noted
    cut = run("verify", "--ledger", "--since", newest)
    assert (cut.exit_code, cut.stdout) == (1, "")
    assert cut.stderr.startswith(f"reviewapp: Link {newest} is not in the chain: ")


@pytest.mark.parametrize(
    "words, said",
    [
        ([], "Name a release folder or say --ledger, one of both."),
        (["1", "--ledger"], "Name a release folder or say --ledger, one of both."),
        (["1", "--since", "0" * 64], "--since goes with --ledger."),
        (
            ["--ledger", "--since", "newest"],
            "--since takes the newest link as an earlier run of this command printed it",
        ),
    ],
)
def test_wrong_use_of_verify_ends_with_2(
    run: Callable[..., Result], ids: list[str], words: list[str], said: str
) -> None:
    shown = run("verify", *words)
    assert (shown.exit_code, shown.stdout) == (2, "")
    assert shown.stderr.startswith(f"reviewapp: {said}")


def test_where_there_is_no_ledger_none_is_made(run: Callable[..., Result], tmp_path: Path) -> None:
    shown = run("verify", "--ledger")
    assert (shown.exit_code, shown.stderr) == (2, "reviewapp: There is no ledger yet (REVIEWAPP_DATABASE_URL).\n")
    assert not (tmp_path / "instance").exists()


def test_a_purge_says_how_many_it_erases_and_a_dry_run_erases_none(run: Callable[..., Result], ids: list[str]) -> None:
    why = ("--reason", "they asked for it")
    assert run("purge", "--client", "ann", *why, "--dry-run").stdout == "2 predictions would be erased.\n"
    assert run("purge", "--client", "ann", "--before", "2026-02-02", *why, "--dry-run").stdout.startswith(
        "1 prediction "
    )
    assert run("purge", ids[0], ids[1], *why).stdout == "2 predictions erased.\n"
    assert run("purge", "--client", "ann", *why).stdout == "1 prediction erased.\n"
    assert run("purge", "--client", "ann", *why).stdout == "0 predictions erased.\n"
    assert "3 predictions, 0 verdicts, 0 release events, 2 purges in 5 commits" in run("verify", "--ledger").stdout


@pytest.mark.parametrize(
    "words, said",
    [
        (["--reason", "x"], "Say what to erase: ids of predictions, or --before DATE, --client NAME or both of these."),
        (["--client", "ann", "--reason", " "], "A reason is needed; it is kept in the ledger."),
        (["nothing", "--reason", "x"], "There is no prediction with the id nothing; nothing was erased."),
        (["--client", "ann"], "Missing option '--reason'"),
        (["--before", "May", "--reason", "x"], "'May' does not match the format '%Y-%m-%d'"),
    ],
)
def test_wrong_use_of_purge_ends_with_2_and_erases_nothing(
    run: Callable[..., Result], ids: list[str], words: list[str], said: str
) -> None:
    shown = run("purge", *words)
    assert (shown.exit_code, shown.stdout) == (2, "")
    assert said in shown.stderr
    assert "0 purges" in run("verify", "--ledger").stdout
