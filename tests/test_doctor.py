"""The doctor: each check finds what is wrong, says what to do, and is content with what is right."""

import json
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from sqlalchemy import insert, update

from reviewapp import sqlite
from reviewapp.cli import main
from reviewapp.config import load_settings
from reviewapp.doctor import (
    CHECKS,
    OK,
    WARNING,
    WRONG,
    Case,
    Facts,
    checks_of,
    examine,
    ledger,
    machine,
    releases,
    setup,
)
from reviewapp.factory import make_parts
from reviewapp.prediction import timestamp, utcnow
from reviewapp.release import Release
from reviewapp.tables import predictions, release_events, uploads

from .small import with_limit
from .test_staging import killed_in
from .test_store import RECORDED, older_store
from .verdicts import judge

ROOT = Path(__file__).resolve().parent.parent
NGINX = "".join(
    (ROOT / "deploy" / "nginx" / f"reviewapp{name}.conf").read_text()
    for name in ("", "/limits", "/problems", "/proxy", "/locations")
)
GOOD = Facts(
    sqlite=(3, 53, 4), user=1000, open_files=65536, cores=2, environment={},
    mounts="22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n",
)  # fmt: skip


class Examined:
    """An instance that is as it should be, until a test changes it."""

    def __init__(self, instance: Path) -> None:
        self.instance, self.nginx = instance, instance.parent / "nginx.conf"
        self._opened: list[Any] = []
        self.nginx.write_text(NGINX)

    def case(self, facts: Facts = GOOD, nginx: bool = False, **settings: Any) -> Case:
        given = {"instance": self.instance, "workers": 2, **settings}
        parts = make_parts(load_settings(given, {}))
        self._opened.append(parts)
        return Case(parts, facts, [self.nginx] if nginx else [])

    def found(self, check: Callable[..., Any], *given: Any, **more: Any) -> list[tuple[str, str]]:
        """Return what a check finds; all that is not OK says what to do, or that it was not looked at."""
        findings = list(check(self.case(*given, **more)))
        assert findings
        assert all(one.state == OK or one.do or "Not looked at" in one.said for one in findings)
        return [(one.state, one.said) for one in findings]

    def states(self, check: Callable[..., Any], *given: Any, **more: Any) -> list[str]:
        return [state for state, _ in self.found(check, *given, **more)]

    @property
    def ledger(self) -> Path:
        return self.instance / "reviewapp.sqlite3"

    def close(self) -> None:
        for parts in self._opened:
            parts.store.close()


@pytest.fixture
def here(tmp_path: Path, live_database: Path, release: Release, releases_root: Path) -> Iterator[Examined]:
    instance = tmp_path / "instance"
    shutil.copytree(releases_root / str(release.id), instance / "releases" / str(release.id))
    instance.chmod(0o700)
    shutil.copy(live_database, instance / "reviewapp.sqlite3")
    (instance / "reviewapp.sqlite3").chmod(0o600)
    made = Examined(instance)
    yield made
    made.close()


@pytest.fixture
def nothing(tmp_path: Path) -> Iterator[Examined]:
    made = Examined(tmp_path / "none")
    yield made
    made.close()


def test_where_all_is_right_every_check_says_so(here: Examined) -> None:
    findings = examine(here.case(nginx=True, proxies=1))
    assert [one.check for one in findings] == [check.__name__ for check in checks_of(here.case())]
    assert [str(one) for one in findings if one.state != OK] == []


def test_where_nothing_is_yet_nothing_is_made_and_nothing_wrong(nothing: Examined) -> None:
    findings = examine(nothing.case())
    assert {one.state for one in findings} == {OK, WARNING}
    assert not nothing.instance.exists()
    assert len([one for one in findings if "no ledger" in one.said]) == 8


def test_the_command_ends_with_1_where_something_is_wrong(here: Examined, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(*words: str) -> Any:
        return CliRunner().invoke(main, ["doctor", *words], env={"REVIEWAPP_INSTANCE": str(here.instance)})

    monkeypatch.delenv("GUNICORN_CMD_ARGS", raising=False)
    good = run("--nginx", str(here.nginx))
    assert (good.exit_code, good.stderr) == (0, "")
    assert len(good.stdout.splitlines()) >= len(checks_of(here.case()))
    assert all(re.match(r"(ok|warning) +[a-z ]+: .*\.", line) for line in good.stdout.splitlines())
    here.ledger.chmod(0o644)
    assert run().exit_code == 1
    told = json.loads(run("--json").stdout)
    wrong = {(one["check"], one["do"]) for one in told if one["state"] == WRONG}
    assert ("modes", f"chmod 600 {here.ledger}") in wrong
    assert {check for check, _ in wrong} == {"modes"}
    assert [one["do"] for one in told if one["check"] == "schema"] == [None]
    assert run("--nginx", "no-such-file").exit_code == 2


def test_the_page_names_every_check() -> None:
    page = (ROOT / "docs" / "upkeep.md").read_text(encoding="utf-8")
    named = re.findall(r"^\| ([a-z ]+) \|", page.partition("## Doctor")[2].partition("## A backup")[0], re.MULTILINE)
    assert named[1:] == [check.__name__.replace("_", " ") for check in CHECKS]


# ---- the machine --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("version", "state"),
    [((3, 6, 23), OK), ((3, 7, 0), WRONG), ((3, 40, 1), WRONG), ((3, 51, 2), WRONG), ((3, 51, 3), OK)],
)
def test_a_library_with_the_wal_reset_bug_is_wrong(here: Examined, version: tuple[int, ...], state: str) -> None:
    assert here.states(machine.sqlite, replace(GOOD, sqlite=version)) == [state]


def test_libraries_are_those_that_are_asked_for(here: Examined, monkeypatch: pytest.MonkeyPatch) -> None:
    def with_version(name: str, version: str | None) -> list[tuple[str, str]]:
        found = replace(GOOD, installed=lambda one: version if one == name else GOOD.installed(one))
        return here.found(machine.libraries, found)

    assert with_version("gunicorn", "27.0.0") == [(WRONG, "gunicorn is 27.0.0.")]
    assert with_version("pysqlite3", None) == [(WRONG, "pysqlite3 is not there.")]
    assert with_version("scikit-learn", "1.10.0") == [(WRONG, "scikit-learn is 1.10.0.")]
    [(state, said)] = with_version("werkzeug", "3.9.9")
    assert (state, "werkzeug 3.9.9 (tested with" in said) == (WARNING, True)
    assert here.states(machine.libraries, replace(GOOD, python="3.10.9")) == [WRONG]
    monkeypatch.setattr(machine.places, "checkout", lambda: None)
    assert with_version("werkzeug", "3.9.9")[0][0] == OK
    assert GOOD.installed("no-such-library") is None


def test_root_is_warned_of(here: Examined) -> None:
    assert here.states(machine.user, replace(GOOD, user=0)) == [WARNING]
    assert here.states(machine.user) == [OK]


def test_a_clock_that_was_never_set_is_wrong(here: Examined) -> None:
    assert here.states(machine.clock, replace(GOOD, clock=lambda: utcnow().replace(year=2025))) == [WRONG]
    assert here.states(machine.clock, replace(GOOD, clock=lambda: utcnow().replace(year=2026))) == [OK]


@pytest.mark.parametrize(("files", "state"), [(255, WRONG), (256, WARNING), (1024, WARNING), (1152, OK)])
def test_too_few_open_files_are_said(here: Examined, files: int, state: str) -> None:
    assert here.states(machine.open_files, replace(GOOD, open_files=files)) == [state]


@pytest.mark.parametrize(
    ("workers", "threads", "states"),
    [
        (2, 8, [OK]), (8, 32, [OK]), (1, 8, [WARNING]), (9, 8, [WARNING]), (2, 1, [WARNING]), (2, 33, [WARNING]),
        (1, 1, [WARNING, WARNING]),
    ],
)  # fmt: skip
def test_odd_numbers_of_workers_and_threads_are_said(
    here: Examined, workers: int, threads: int, states: list[str]
) -> None:
    assert here.states(machine.workers, workers=workers, threads=threads) == states


# ---- the settings -------------------------------------------------------------------------------------------------


def test_an_address_that_others_reach_is_said_and_wrong_with_a_trusted_proxy(here: Examined) -> None:
    assert here.states(setup.address, bind="0.0.0.0:8000") == [WARNING]
    assert here.states(setup.address, bind="unix:/run/reviewapp.sock") == [OK]
    assert here.states(setup.proxies, bind="0.0.0.0:8000", proxies=1) == [WRONG]
    assert here.states(setup.proxies, hosts=("triage.example.org",)) == [WARNING]
    assert here.states(setup.proxies, hosts=("triage.example.org",), proxies=1) == [OK]
    assert here.states(setup.proxies) == [OK]


def test_sign_in_that_is_off_is_said(here: Examined) -> None:
    assert here.states(setup.sign_in, auth="off") == [WARNING]
    assert here.states(setup.sign_in) == [OK]


def test_a_control_socket_is_wrong_however_it_is_opened(here: Examined, monkeypatch: pytest.MonkeyPatch) -> None:
    assert here.states(setup.control_socket) == [OK]
    assert here.states(setup.control_socket, replace(GOOD, environment={"GUNICORN_CMD_ARGS": "--reload"})) == [WRONG]
    monkeypatch.setattr(setup, "gunicorn_settings", lambda settings: {"control_socket_disable": False})
    assert here.states(setup.control_socket) == [WRONG]


@pytest.mark.parametrize(
    ("old", "new", "states"),
    [
        ("", "", [OK]),
        ("client_max_body_size 32m;", "client_max_body_size 1m;", [WRONG]),
        ("client_max_body_size 32m;", "# client_max_body_size 32m;", [WRONG]),  # nginx's own default is 1 MiB
        ("client_max_body_size 32m;", "client_max_body_size 33554432;", [OK]),
        ("client_max_body_size 32m;", "client_max_body_size 32m; client_max_body_size 16K;", [WRONG]),
        ("client_max_body_size 32m;", "client_max_body_size 0;", [WARNING]),
        ("client_body_timeout 5s;", "client_body_timeout 1m;", [WARNING]),
        ("client_header_timeout 5s;", "", [WARNING]),
        ("client_header_timeout 5s;", "client_header_timeout 5000ms;", [OK]),
        ("proxy_set_header X-Forwarded-Prefix", "proxy_set_header X-Other", [WRONG]),
    ],
)
def test_a_proxy_that_does_not_fit_the_settings_is_said(here: Examined, old: str, new: str, states: list[str]) -> None:
    here.nginx.write_text(here.nginx.read_text().replace(old, new))
    assert here.states(setup.nginx, nginx=True, proxies=1) == states


def test_headers_of_a_proxy_that_is_not_trusted_do_not_count(here: Examined) -> None:
    here.nginx.write_text("client_max_body_size 32m; client_header_timeout 5; client_body_timeout 5;")
    assert here.states(setup.nginx, nginx=True) == [OK]
    assert here.states(setup.nginx, nginx=True, proxies=1) == [WRONG]


# ---- the ledger ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "state"),
    [("ext4", OK), ("xfs", OK), ("nfs4", WRONG), ("cifs", WRONG), ("fuse.sshfs", WRONG), ("tmpfs", WARNING)],
)
def test_a_disk_over_the_network_is_wrong(here: Examined, kind: str, state: str) -> None:
    mounts = GOOD.mounts + f"30 22 0:40 / {here.instance.parent} rw - {kind} server:/x rw\n"
    assert here.states(ledger.disk, replace(GOOD, mounts=mounts)) == [state]
    elsewhere = GOOD.mounts + f"30 22 0:40 / {here.instance}x rw - nfs server:/x rw\n"
    assert here.states(ledger.disk, replace(GOOD, mounts=elsewhere)) == [OK]


def test_names_of_mounts_are_read_as_the_system_writes_them(tmp_path: Path) -> None:
    folder = tmp_path / "a b"
    assert ledger.file_system(folder, f"30 22 0:40 / {tmp_path}/a\\040b rw - nfs x rw\n") == "nfs"
    assert ledger.file_system(folder, "") == ""


def test_mounts_are_read_where_there_are_any(monkeypatch: pytest.MonkeyPatch) -> None:
    assert ledger.file_system(Path("/"), Facts().mounts)
    monkeypatch.setattr(Path, "read_text", lambda *given, **more: Path("/no/such/file").stat())
    assert Facts().mounts == ""


@pytest.mark.parametrize(("free", "state"), [(99 << 20, WRONG), (200 << 20, WARNING), (2 << 30, OK)])
def test_a_disk_that_fills_up_is_said(here: Examined, monkeypatch: pytest.MonkeyPatch, free: int, state: str) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: shutil._ntuple_diskusage(0, 0, free))  # type: ignore[attr-defined]
    assert here.states(ledger.space) == [state]


def test_what_others_may_read_or_change_is_said(here: Examined) -> None:
    def state(name: str, mode: int) -> list[str]:
        path = here.instance / name
        before = path.stat().st_mode if path.exists() else 0o600
        path.touch()
        path.chmod(mode)
        try:
            return here.states(ledger.modes)
        finally:
            path.chmod(before)

    assert state("reviewapp.sqlite3", 0o640) == [WRONG]
    assert state("reviewapp.sqlite3-wal", 0o604) == [WRONG]
    assert state("kept.tar", 0o644) == [WRONG]
    assert state("trusted_types.json", 0o644) == [OK]
    assert state("config.py", 0o664) == [WRONG]
    assert state("", 0o755) == [WARNING]
    assert state("", 0o720) == [WRONG]
    assert state("reviewapp.sqlite3", 0o600) == [OK]


def test_a_schema_of_another_version_is_said_and_left_as_it_is(here: Examined, nothing: Examined) -> None:
    assert here.states(ledger.schema) == [OK]
    with here.case().parts.store.writing() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    here.close()
    assert here.states(ledger.schema) == [WRONG]
    assert {one.state for one in examine(here.case()) if "Not looked at" in one.said} == {WARNING}
    nothing.instance.mkdir()
    older_store(f"sqlite:///{nothing.ledger}", "0002").close()
    before = nothing.ledger.read_bytes()
    assert nothing.states(ledger.schema) == [WARNING]
    examine(nothing.case())
    assert nothing.ledger.read_bytes() == before


def test_a_ledger_that_is_opened_less_durably_is_wrong(here: Examined, monkeypatch: pytest.MonkeyPatch) -> None:
    assert here.states(ledger.durability) == [OK]
    here.close()
    for pragmas in (("journal_mode=WAL", "synchronous=NORMAL"), ("journal_mode=DELETE", "synchronous=FULL")):
        monkeypatch.setattr(sqlite, "DURABLE", pragmas)
        assert here.states(ledger.durability) == [WRONG]
        here.close()


def test_a_damaged_ledger_is_wrong(here: Examined) -> None:
    assert here.states(ledger.content) == [OK]
    content = bytearray(here.ledger.read_bytes())
    content[4096 * 2 :] = b"\xff" * (len(content) - 4096 * 2)
    here.ledger.write_bytes(content)
    assert here.states(ledger.content) == [WRONG]
    here.ledger.write_bytes(b"no database" * 1000)
    assert here.states(ledger.content) == [WRONG]
    assert here.found(ledger.schema)[0][0] == WRONG
    assert {one.check for one in examine(here.case()) if one.state == WRONG} == {"schema", "content"}


def test_a_clock_behind_the_newest_row_is_wrong(here: Examined) -> None:
    assert here.states(ledger.times) == [OK]
    with here.case().parts.store.writing() as connection:
        late = timestamp(utcnow() + timedelta(minutes=1))
        recorded = {**RECORDED, "created_at": late, "id": "1", "decision": "auto"}
        for name in ("input", "output", "reasons", "warnings"):
            recorded[name] = json.loads(recorded[name])
        connection.execute(insert(predictions).values(**recorded))
    assert here.states(ledger.times) == [WRONG]


# ---- the releases -------------------------------------------------------------------------------------------------


def test_a_release_that_is_not_as_it_was_built_is_said(here: Examined, release: Release) -> None:
    from reviewapp import release as written

    assert here.states(releases.digests) == [OK]
    case = here.case()
    second = written.write(with_limit(release, 100), case.parts.settings.releases)
    case.parts.registry.add(second, "test")
    assert here.found(releases.digests) == [(OK, "2 releases as built.")]
    shutil.rmtree(here.instance / "releases" / str(second.id))
    assert here.states(releases.digests) == [WARNING]
    assert here.states(releases.live) == [OK]
    (here.instance / "releases" / str(release.id) / "policy.json").write_text("{}")
    assert sorted(here.states(releases.digests)) == [WARNING, WRONG]
    assert here.states(releases.live) == [WRONG]


def test_a_live_release_that_gives_other_answers_or_none_is_said(here: Examined, release: Release) -> None:
    assert here.states(releases.live) == [OK]
    with here.case().parts.store.writing() as connection:
        connection.execute(update(release_events).values(kind="built"))
    assert here.states(releases.live) == [WARNING]


def test_a_trigger_that_has_fired_is_said_until_somebody_acts(here: Examined) -> None:
    assert here.states(releases.trigger) == [OK]
    parts = here.case().parts
    judge(parts, "x" * 30)
    event = parts.watch.look()
    assert event is not None
    assert here.found(releases.trigger) == [(WARNING, event.reason)]
    parts.registry.promote(event.id.version, "mended", "test")
    assert here.states(releases.trigger) == [OK]


def test_what_was_killed_half_way_is_named(here: Examined) -> None:
    assert here.states(releases.leftovers) == [OK]
    killed_in(here.instance / "releases")
    [(state, said)] = here.found(releases.leftovers)
    assert (state, ".building-" in said) == (WARNING, True)


def test_an_upload_that_stopped_half_way_is_said_after_a_day(here: Examined) -> None:
    assert here.states(releases.uploads) == [OK]
    file = {"name": "a.csv", "client": "ann", "request_id": "r", "release_digest": "x", "task": "classification",
            "delimiter": ",", "header": [], "rows": 2, "summary": {}}  # fmt: skip
    old, new = timestamp(utcnow() - timedelta(days=2)), timestamp(utcnow())
    with here.case().parts.store.writing() as connection:
        connection.execute(insert(uploads).values(id="1", created_at=new, answered=1, **file))
        connection.execute(insert(uploads).values(id="2", created_at=old, answered=2, **file))
    assert here.states(releases.uploads) == [OK]
    with here.case().parts.store.writing() as connection:
        connection.execute(insert(uploads).values(id="3", created_at=old, answered=1, **file))
    [(state, said)] = here.found(releases.uploads)
    assert (state, said[:9]) == (WARNING, "1 upload ")
