"""The doctor and a ledger in PostgreSQL: what the server must be, and that nothing of a file is asked for."""

import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import make_url, update

from reviewapp.doctor import CHECKS, OK, WARNING, WRONG, checks_of, examine, finding, ledger, machine, server
from reviewapp.doctor.finding import Server, ask
from reviewapp.prediction import utcnow
from reviewapp.release import Release
from reviewapp.store import Store
from reviewapp.tables import release_events

from .postgres import Postgres
from .test_doctor import GOOD, Examined

SAFE = {"fsync": "on", "full_page_writes": "on", "synchronous_commit": "on", "server_encoding": "UTF8"}
GOOD_SERVER = Server(15, "15.1", SAFE, standby=False, ahead=0.0, connections=97, encrypted=False)


@pytest.fixture
def url(postgres: Postgres, postgres_templates: dict[str, str]) -> Iterator[str]:
    made = postgres.database(postgres_templates["live"])
    yield made
    postgres.drop(made)


@pytest.fixture
def here(tmp_path: Path, release: Release, releases_root: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Examined]:
    instance = tmp_path / "instance"
    shutil.copytree(releases_root / str(release.id), instance / "releases" / str(release.id))
    instance.chmod(0o700)
    made = Examined(instance)
    yield made
    made.close()


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Let the server say something else of itself."""

    def change(settings: dict[str, str] | None = None, **more: Any) -> None:
        found = replace(GOOD_SERVER, settings=SAFE | (settings or {}), **more)
        monkeypatch.setattr(finding, "ask", lambda store, clock: found)

    return change


def test_where_all_is_right_every_check_says_so_and_none_asks_for_a_file(
    here: Examined, url: str, said: Callable[..., None]
) -> None:
    said()
    case = here.case(nginx=True, proxies=1, database_url=url)
    findings = examine(case)
    assert [one.check for one in findings] == [check.__name__ for check in checks_of(case)]
    assert [str(one) for one in findings if one.state != OK] == []
    assert {check.__name__ for check in set(CHECKS) - set(checks_of(case))} == {
        "sqlite", "disk", "space", "durability", "content",
    }  # fmt: skip


def test_the_server_is_asked_what_it_is(url: str, postgres: Postgres) -> None:
    found = ask(Store(url), utcnow)
    assert found.version >= 15
    assert found.shown.startswith(str(found.version))
    assert (found.standby, found.encrypted, found.durable) == (False, False, False)
    assert (found.settings["fsync"], found.settings["synchronous_commit"]) == ("off", "on")
    assert abs(found.ahead) < 5
    assert 200 - 10 < found.connections < 200
    assert ask(Store(url), lambda: utcnow() - timedelta(hours=1)).ahead == pytest.approx(3600, abs=5)


def test_a_server_that_does_not_answer_is_said_once(here: Examined, url: str) -> None:
    gone = str(make_url(url).set(host="127.0.0.1", port=1, password="secret").render_as_string(hide_password=False))
    findings = examine(here.case(database_url=gone))
    [wrong] = [one for one in findings if one.state == WRONG]
    assert (wrong.check, "cannot be reached" in wrong.said, "Connection refused" in wrong.said) == (
        "server",
        True,
        True,
    )
    assert not [one for one in findings if "secret" in str(one)]
    assert {one.check for one in findings if "Not looked at" in one.said} == {
        "schema", "times", "commits", "connections", "encoding", "server_clock", "transport", "digests", "live",
        "trigger", "uploads",
    }  # fmt: skip


def test_an_empty_database_has_no_ledger_yet_and_none_is_made(here: Examined, postgres: Postgres) -> None:
    url = postgres.database()
    assert here.found(ledger.schema, database_url=url) == [
        (WARNING, "There is no ledger yet (REVIEWAPP_DATABASE_URL)."),
    ]
    assert not Store(url).exists()
    postgres.drop(url)


def test_a_row_that_is_yet_to_come_is_found_there_too(here: Examined, url: str) -> None:
    store = Store(url)
    with store.writing() as connection:
        connection.execute(update(release_events).values(created_at="2999-01-01T00:00:00.000Z"))
    store.close()
    assert here.states(ledger.times, database_url=url) == [WRONG]


@pytest.mark.parametrize(
    ("check", "changes", "states"),
    [
        (server.server, {"version": 14, "shown": "14.9"}, [WRONG]),
        (server.server, {"standby": True}, [WRONG]),
        (server.commits, {"settings": {"fsync": "off"}}, [WRONG]),
        (server.commits, {"settings": {"synchronous_commit": "off"}}, [WRONG]),
        (server.commits, {"settings": {"synchronous_commit": "remote_apply"}}, [OK]),
        (server.commits, {"settings": {"full_page_writes": "off"}}, [WARNING]),
        (server.connections, {"connections": 31}, [WRONG]),
        (server.connections, {"connections": 32}, [OK]),
        (server.encoding, {"settings": {"server_encoding": "SQL_ASCII"}}, [WRONG]),
        (server.server_clock, {"ahead": 6}, [WRONG]),
        (server.server_clock, {"ahead": -6}, [WRONG]),
        (server.server_clock, {"ahead": -4}, [OK]),
        (server.transport, {}, [OK]),
    ],
)
def test_what_a_server_must_be_is_said(
    here: Examined, url: str, said: Callable[..., None], check: Any, changes: dict[str, Any], states: list[str]
) -> None:
    said(**changes)
    assert here.states(check, database_url=url) == states


@pytest.mark.parametrize(
    ("host", "query", "encrypted", "state"),
    [
        ("db.example.org", {}, False, WARNING),
        ("db.example.org", {}, True, WARNING),
        ("db.example.org", {"sslmode": "verify-full"}, True, OK),
        ("192.0.2.7", {"sslmode": "require"}, True, WARNING),
        ("localhost", {}, False, OK),
        ("::1", {}, False, OK),
        (None, {"host": "/run/postgresql"}, False, OK),
    ],
)
def test_what_goes_to_another_machine_is_to_be_encrypted_and_the_server_to_show_who_it_is(
    here: Examined, url: str, said: Callable[..., None], host: str | None, query: Any, encrypted: bool, state: str
) -> None:
    said(encrypted=encrypted)
    there = make_url(url).set(host=host).set(query=query).render_as_string(hide_password=False)
    assert here.states(server.transport, database_url=there) == [state]


def test_a_password_that_others_may_read_is_wrong(here: Examined, url: str) -> None:
    secret = url.replace("tests@", "tests:secret@")
    config = here.instance / "config.py"
    config.write_text(f"DATABASE_URL = {secret!r}\n")
    config.chmod(0o644)
    assert here.states(ledger.modes, database_url=secret) == [WRONG]
    config.chmod(0o600)
    assert here.states(ledger.modes, database_url=secret) == [OK]
    config.write_text("THREADS = 8\n")
    config.chmod(0o644)
    assert here.states(ledger.modes, database_url=secret) == [OK]


def test_more_threads_than_connections_are_said(here: Examined, url: str) -> None:
    assert here.states(machine.workers, GOOD, threads=10, database_url=url) == [OK]
    assert here.states(machine.workers, GOOD, threads=11, database_url=url) == [WARNING]
