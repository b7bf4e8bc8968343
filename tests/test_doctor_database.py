"""The doctor where the ledger lies in PostgreSQL: each check finds what is wrong there, and changes nothing."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from reviewapp.config import load_settings
from reviewapp.doctor import CHECKS, Case, ledger
from reviewapp.factory import make_parts
from reviewapp.release import Release

from .postgres import Postgres


@pytest.fixture
def url(postgres: Postgres, postgres_templates: dict[str, str]) -> Iterator[str]:
    made = postgres.database(postgres_templates["live"])
    yield made
    postgres.drop(made)


def found(check: Callable[[Case], Any], tmp_path: Path, url: str) -> tuple[str, str]:
    parts = make_parts(load_settings({"instance": tmp_path, "database_url": url}, {}))
    [one] = check(Case(parts))
    parts.store.close()
    return one.state, one.said


def changed(url: str, command: str) -> None:
    with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute(command)


def test_all_checks_are_made_on_a_ledger_in_postgresql(
    tmp_path: Path, url: str, releases_root: Path, release: Release
) -> None:
    (tmp_path / "instance").mkdir(mode=0o700)
    environment = {
        "REVIEWAPP_INSTANCE": str(tmp_path / "instance"),
        "REVIEWAPP_DATABASE_URL": url,
        "REVIEWAPP_RELEASES": str(releases_root),
    }
    words = [sys.executable, "-m", "reviewapp", "doctor"]
    told = subprocess.run(words, env={**os.environ, **environment}, capture_output=True, text=True)
    assert told.stderr == ""
    names = [line[8:].partition(":")[0].replace(" ", "_") for line in told.stdout.splitlines()]
    assert set(names) == {check.__name__ for check in CHECKS}
    assert f"The live release {release.id} loads" in told.stdout
    assert "ok      disk: The ledger lies in postgresql+psycopg://" in told.stdout


def test_a_server_that_may_forget_what_it_acknowledged_is_named(tmp_path: Path, url: str) -> None:
    state, said = found(ledger.durability, tmp_path, url)
    assert (state, said) == ("wrong", "PostgreSQL has fsync = off: a lost machine loses rows.")  # the tests' own has


def test_a_ledger_of_another_version_or_none_is_told_and_left_alone(
    tmp_path: Path, url: str, postgres: Postgres
) -> None:
    state, said = found(ledger.schema, tmp_path, url)
    assert (state, said[-32:]) == ("ok", "with the schema of this version.")
    changed(url, "UPDATE alembic_version SET version_num = '9999'")
    assert found(ledger.schema, tmp_path, url)[0] == "warning"
    assert found(ledger.times, tmp_path, url)[1].startswith("Not looked at")
    empty = postgres.database()
    assert found(ledger.schema, tmp_path, empty) == ("warning", "There is no ledger in the database yet.")
    with psycopg.connect(empty.replace("+psycopg", "")) as connection:
        assert connection.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'").fetchone() == (0,)


def test_a_server_that_is_not_there_is_wrong(tmp_path: Path) -> None:
    state, _ = found(ledger.schema, tmp_path, "postgresql+psycopg://nobody@127.0.0.1:1/nothing")
    assert state == "wrong"


def test_a_row_that_is_yet_to_come_is_found(tmp_path: Path, url: str) -> None:
    assert found(ledger.times, tmp_path, url)[0] == "ok"
    changed(url, "UPDATE release_events SET created_at = '2126-01-31T12:00:00.123Z'")
    assert found(ledger.times, tmp_path, url)[0] == "wrong"
