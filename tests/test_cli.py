"""The command: one clear sentence where something is wrong, the promised exit codes, nothing half-written."""

import errno
import json
import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner, Result
from flask.testing import FlaskClient

from reviewapp import cli, server
from reviewapp import release as releases
from reviewapp.adapter import ModelAdapter
from reviewapp.cli import main
from reviewapp.config import load_settings
from reviewapp.errors import UsageError
from reviewapp.evidence.running import free_port
from reviewapp.filters import EXPORT_OPTIONS
from reviewapp.parts import Parts
from reviewapp.policy import Policy
from reviewapp.prediction import Call, Verdict, timestamp, utcnow
from reviewapp.release import Release

from .small import with_limit
from .test_release import reseal


@pytest.fixture
def run(tmp_path: Path, releases_root: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Result]]:
    """Run the command in a new instance folder; the parts it opened are closed afterwards."""
    opened: list[Any] = []
    make_parts = cli.group.make_parts

    def making(settings: Any) -> Any:
        opened.append(make_parts(settings))
        return opened[-1]

    monkeypatch.setattr(cli.group, "make_parts", making)
    monkeypatch.setattr(cli.operating, "make_parts", making)
    environment = {"REVIEWAPP_INSTANCE": str(tmp_path / "instance")}

    def command(*words: str, **settings: str) -> Result:
        return CliRunner().invoke(main, words, env={**environment, **settings})

    yield command
    for parts in opened:
        parts.store.close()


@pytest.fixture
def built_before(release: Release, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let `build` write the release of this session, for tests of what comes after it."""
    monkeypatch.setattr(cli.building.triage, "build", lambda root, progress: releases.write(release, root))


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "/a/b"), "/a/b cannot be used: No space left on device."),
        (
            OSError(errno.ENOSPC, "No space left on device"),
            "A file or a folder cannot be used: No space left on device.",
        ),
        (OSError("odd"), "A file or a folder cannot be used: odd."),
    ],
)
def test_what_the_system_refuses_a_command_is_one_sentence(
    run: Callable[..., Result], monkeypatch: pytest.MonkeyPatch, error: OSError, said: str
) -> None:
    def refused(*_: object) -> None:
        raise error

    monkeypatch.setattr(cli.building.triage, "build", refused)
    shown = run("build")
    assert (shown.exit_code, shown.stderr.splitlines()[-1]) == (1, f"reviewapp: {said}")


def test_a_reader_that_has_gone_ends_a_command_in_silence(
    run: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")

    monkeypatch.setattr(cli.reading, "_parts", broken)
    shown = run("monitor")
    assert (shown.exit_code, shown.output) == (1, "")


def test_help_names_every_command(run: Callable[..., Result]) -> None:
    shown = run("--help").stdout
    for name in (
        "serve",
        "build",
        "verify",
        "releases",
        "promote",
        "rollback",
        "token",
        "settings",
        "monitor",
        "replay",
        "export",
        "purge",
        "score",
        "scorings",
        "backup",
        "restore",
        "doctor",
        "db",
    ):
        assert f"  {name} " in shown


def test_a_token_is_printed_alone_and_once(run: Callable[..., Result]) -> None:
    made = run("token", "create", "ann", "--role", "submit", "--days", "2")
    assert made.exit_code == 0
    token = made.stdout.strip()
    assert made.stdout == token + "\n"
    listed = run("token", "list").stdout
    assert "ann" in listed
    assert token not in listed
    token_id = listed.split()[0]
    assert run("token", "revoke", token_id).exit_code == 0
    assert "revoked" in run("token", "list").stdout
    again = run("token", "revoke", token_id)
    assert (again.exit_code, again.stderr) == (
        2,
        "reviewapp: No token in use has this id; `reviewapp token list` shows them.\n",
    )


def test_an_operator_sees_who_is_signed_in_and_ends_it(run: Callable[..., Result], tmp_path: Path) -> None:
    assert run("token", "sessions").stdout == ""
    accounts = cli.group.make_parts(load_settings({"instance": tmp_path / "instance"})).accounts
    session = accounts.open_session(accounts.create_token("ann", "review")) or ""
    link = accounts.create_link("ann", "admin")
    by_link = accounts.redeem_link(accounts.create_link("bob", "submit")) or ""
    unused, of_ann, of_bob = run(
        "token", "sessions"
    ).stdout.splitlines()  # by name, and what ends first before the rest
    assert unused.split()[:3] == ["link", "admin", "ann"]
    assert of_ann.endswith(f"by token {accounts.tokens()[0]['id']}")
    assert of_bob.split()[:3] == ["session", "submit", "bob"]
    assert of_bob.endswith("by link")
    assert not [secret for secret in (session, link, by_link) if secret in of_ann + unused + of_bob]
    assert run("token", "sign-out", "ann").stdout == "Ended: 1 session, 1 link.\n"
    assert accounts.client_of_session(session) is None
    assert accounts.redeem_link(link) is None
    assert accounts.client_of_session(by_link) is not None
    again = run("token", "sign-out", "ann")
    assert again.exit_code == 2
    assert again.stderr.startswith("reviewapp: Nobody of this name is signed in")


@pytest.mark.parametrize(
    "words",
    [
        ("token", "create", "ann"),
        ("token", "create", "ann", "--role", "root"),
        ("token", "create", "ann", "--role", "submit", "--days", "0"),
        ("token", "create", "", "--role", "submit"),
        ("promote", "1"),
        ("promote", "one", "--reason", "x"),
        ("token", "create", "ann", "--role", "submit", "--days", "nan"),
        ("token", "create", "ann", "--role", "submit", "--days", "99999999"),
        ("nonsense",),
        ("verify",),
    ],
)
def test_wrong_use_is_exit_code_2_and_said(run: Callable[..., Result], words: tuple[str, ...]) -> None:
    result = run(*words)
    assert result.exit_code == 2
    assert result.stderr
    assert "Traceback" not in result.stderr


def test_a_wrong_setting_is_one_sentence(run: Callable[..., Result]) -> None:
    result = run("releases", REVIEWAPP_WORKERS="many")
    assert result.exit_code == 2
    assert result.stderr.startswith("reviewapp: REVIEWAPP_WORKERS is 'many'")
    assert result.stderr.count("\n") == 1


def test_build_list_promote_and_roll_back(
    run: Callable[..., Result], release: Release, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = run("build")
    assert first.exit_code == 0, first.stderr
    assert release.id.digest in first.stdout
    assert "It is live" in first.stdout
    monkeypatch.setattr(cli.building.triage, "build", lambda root, progress: releases.write(release, root))
    second = run("build")
    assert "reviewapp promote 2 --reason" in second.stdout
    assert run("promote", "2", "--reason", " ").exit_code == 2
    assert run("promote", "2", "--reason", "newer").stdout == "triage/2 is live.\n"
    lines = run("releases").stdout.splitlines()
    assert lines[0].startswith("live triage/2")
    assert lines[1].startswith("     triage/1")
    assert run("rollback", "--reason", "older").stdout == "triage/1 is live.\n"
    nothing = run("rollback", "--reason", "x")
    assert (nothing.exit_code, nothing.stderr.count("\n")) == (1, 1)
    assert run("promote", "9", "--reason", "x").exit_code == 2


def test_promote_says_what_changes_and_asks_for_a_yes_where_that_breaks_callers(
    run: Callable[..., Result], release: Release, built_before: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("build")
    monkeypatch.setattr(
        cli.building.triage, "build", lambda root, progress: releases.write(with_limit(release, 100), root)
    )
    assert run("build").exit_code == 0
    says = "/input/open_tickets: The largest value is 100 and was not limited.\n"
    refused = run("promote", "2", "--reason", "stricter")
    assert (refused.exit_code, refused.stdout) == (1, f"breaks callers: {says}")
    assert (refused.stderr.count("\n"), "--breaking" in refused.stderr) == (1, True)
    done = run("promote", "2", "--reason", "stricter", "--breaking")
    assert (done.exit_code, done.stdout) == (0, f"breaks callers: {says}triage/2 is live.\n")
    assert run("rollback", "--reason", "x").stdout == "triage/1 is live.\n"
    run("promote", "2", "--reason", "stricter", "--breaking")
    wider = "/input/open_tickets: The largest value is not limited and was 100.\n"
    assert run("promote", "1", "--reason", "wider").stdout == f"{wider}triage/1 is live.\n"


def test_verify_accepts_what_was_built_here_wherever_it_lies(
    run: Callable[..., Result], tmp_path: Path, release: Release, built_before: None
) -> None:
    run("build")
    whole, copy = tmp_path / "instance" / "releases" / "triage" / "1", tmp_path / "copy"
    shutil.copytree(whole, copy)
    for named in (str(whole), str(copy), "1", "triage/1"):
        accepted = run("verify", named)
        assert (accepted.exit_code, accepted.stderr) == (0, "")
        assert accepted.stdout == (
            f"triage/1 is accepted: {len(release.golden)} golden requests answered right.\n{release.id.digest}\n"
        )
    (copy / "model.skops").write_bytes(b"")
    refused = run("verify", str(copy))
    assert (refused.exit_code, refused.stdout, refused.stderr.count("\n")) == (1, "", 1)
    assert refused.stderr.startswith(f"reviewapp: {copy} is refused. model.skops was changed")
    assert run("verify", str(tmp_path / "nowhere")).exit_code == 1


def test_verify_refuses_what_the_ledger_does_not_know_unless_its_digest_is_stated(
    run: Callable[..., Result], tmp_path: Path, built_before: None
) -> None:
    run("build")
    folder = tmp_path / "instance" / "releases" / "triage" / "1"
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    policy = json.loads((copy / "policy.json").read_text())
    (copy / "policy.json").write_text(json.dumps({**policy, "threshold": 0}))
    digest = reseal(copy)
    refused = run("verify", str(copy))
    assert (refused.exit_code, refused.stdout, refused.stderr.count("\n")) == (1, "", 1)
    assert f"Its digest is {digest}, and the ledger knows no triage/1 of it: it was not built here" in refused.stderr
    assert run("verify", str(copy), "--digest", digest).exit_code == 0
    assert "sha256:1 was stated" in run("verify", str(copy), "--digest", "sha256:1").stderr
    shutil.copy(copy / "policy.json", folder)
    assert reseal(folder) == digest
    for stated in ((), ("--digest", digest)):  # here the ledger says what must lie
        refused = run("verify", str(folder), *stated)
        assert (refused.exit_code, "and the ledger knows sha256:" in refused.stderr) == (1, True)


def test_verify_refuses_another_version_number_of_what_was_built_here(
    run: Callable[..., Result], tmp_path: Path, built_before: None
) -> None:
    run("build")
    manifest = tmp_path / "instance" / "releases" / "triage" / "1" / "release.json"
    manifest.write_text(manifest.read_text().replace('"version": 1', '"version": 3'))
    refused = run("verify", "1")
    assert (refused.exit_code, "knows no triage/3" in refused.stderr) == (1, True)


def test_verify_says_where_there_is_no_ledger_and_makes_none(
    run: Callable[..., Result], tmp_path: Path, releases_root: Path, release: Release
) -> None:
    whole = releases_root / str(release.id)
    refused = run("verify", str(whole))
    assert (refused.exit_code, "there is no ledger here" in refused.stderr) == (1, True)
    assert run("verify", str(whole), "--digest", release.id.digest).exit_code == 0
    assert not (tmp_path / "instance").exists()


@pytest.fixture
def answered(run: Callable[..., Result], built_before: None, example: dict[str, Any]) -> Callable[..., str]:
    """Record the example's answer in the command's own instance; return its id."""
    run("build")

    def answer(**changes: Any) -> str:
        parts = cli.group.make_parts(load_settings())
        [made] = parts.registry.adapter().predict([{**example, **changes}], Call(client="ann"))
        return made.id

    return answer


def test_replay_says_whether_the_release_still_gives_the_recorded_answer(
    run: Callable[..., Result], answered: Callable[..., str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("REVIEWAPP_INSTANCE", str(tmp_path / "instance"))
    made = answered()
    same = run("replay", made)
    assert (same.exit_code, same.stdout[:9]) == (0, "The same:")
    monkeypatch.setattr(ModelAdapter, "replay", lambda self, recorded: "the label is 'a' and was 'b'")
    other = run("replay", made)
    assert (other.exit_code, other.stdout) == (1, "")
    assert f"answers prediction {made} differently now: the label is 'a' and was 'b'." in other.stderr
    assert run("replay", "no-such-id").exit_code == 2


def test_monitor_tells_the_metric_and_ends_with_1_once_the_trigger_has_fired(
    run: Callable[..., Result], answered: Callable[..., str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("REVIEWAPP_INSTANCE", str(tmp_path / "instance"))
    monkeypatch.setattr(Policy, "audited", lambda self, prediction_id: True)
    made = answered()
    quiet = run("monitor")
    assert quiet.exit_code == 0
    assert "1 automatic answers drawn, 0 judged in the window" in quiet.stdout
    assert "waits for 30 verdicts" in quiet.stdout
    parts = cli.group.make_parts(load_settings())
    for prediction_id in [made, *(answered() for _ in range(29))]:
        parts.ledger.add_verdict(prediction_id, Verdict("disagree", None, None, [], None, "ann", timestamp(utcnow())))
    fired = run("monitor")
    assert fired.exit_code == 1
    assert "FIRED after 30 verdicts" in fired.stdout
    as_json = json.loads(run("monitor", "--json").stdout)
    assert (as_json["metric"]["value"], as_json["trigger"]["state"]) == (1.0, "above_limit")


def test_monitor_without_a_release_says_what_to_do(run: Callable[..., Result]) -> None:
    assert (run("monitor").exit_code, "reviewapp build" in run("monitor").stderr) == (2, True)  # 1: it fired


def test_serve_builds_what_is_missing_checks_the_port_and_greets(
    run: Callable[..., Result], monkeypatch: pytest.MonkeyPatch, built_before: None
) -> None:
    started = []

    def fake_server(settings: Any, make_app: Any, when_ready: Callable[[], None]) -> None:
        started.append((settings, make_app))
        when_ready()

    monkeypatch.setattr(cli.operating, "run_server", fake_server)
    # test_server shows it with real processes
    monkeypatch.setattr(cli.operating, "hold_instance", lambda settings: None)
    monkeypatch.setattr(cli.operating.subprocess, "run", lambda *given, **more: run("build") and _Done())
    port = str(free_port())
    greeted = run("serve", REVIEWAPP_BIND=f"127.0.0.1:{port}").stdout
    assert f"http://127.0.0.1:{port}/sign-in?link=" in greeted
    assert "Authorization: Bearer ra_" in greeted
    off = run("serve", REVIEWAPP_BIND=f"127.0.0.1:{port}", REVIEWAPP_AUTH="off").stdout
    assert "sign-in?" not in off
    assert "everyone on this machine is admin" in off
    assert "Bearer" not in off
    foreign = run("serve", REVIEWAPP_BIND=f"0.0.0.0:{port}").stdout  # an admin link is for this machine alone
    assert "sign-in" not in foreign
    assert f"http://127.0.0.1:{port}/api" in foreign
    assert "unix:/tmp/x.sock" in run("serve", REVIEWAPP_BIND="unix:/tmp/x.sock").stdout
    assert len(started) == 4


class _Done:
    returncode = 0


@pytest.mark.parametrize("damaged", ["model.skops", "contract.json", "the folder"])
def test_serve_has_the_live_release_proved_before_it_starts_workers_and_starts_also_where_it_is_refused(
    run: Callable[..., Result], monkeypatch: pytest.MonkeyPatch, built_before: None, tmp_path: Path, damaged: str
) -> None:
    instance, started = tmp_path / "instance", list[bool]()

    def fake_server(settings: Any, make_app: Any, when_ready: Callable[[], None]) -> None:
        started.append(bool(list(instance.glob("proven/*.json"))))
        when_ready()

    monkeypatch.setattr(cli.operating, "run_server", fake_server)
    monkeypatch.setattr(cli.operating, "hold_instance", lambda settings: None)
    bind = {"REVIEWAPP_BIND": f"127.0.0.1:{free_port()}"}
    run("build")
    shutil.rmtree(instance / "proven")  # as an update of a library does
    assert (run("serve", **bind).stderr, started) == ("", [True])
    shutil.rmtree(instance / "proven")
    [folder] = (instance / "releases").glob("*/*")
    if damaged == "the folder":
        shutil.rmtree(folder)
    else:
        (folder / damaged).write_text("{}")
    served = run("serve", **bind)
    assert (served.exit_code, started) == (0, [True, False])
    assert served.stderr.startswith("The live release is refused: ")
    assert "sign-in?link=" in served.stdout
    assert ("Authorization: Bearer" in served.stdout) == (damaged == "model.skops")


@pytest.mark.parametrize(
    "hostile", ["\x1b[2J", "\x9b2J", "\r\t\x07", "\u202e", "\udc9b"], ids=["ESC", "CSI", "CR", "bidi", "no UTF-8"]
)
def test_what_a_name_in_a_folder_holds_does_nothing_to_a_terminal(
    run: Callable[..., Result], tmp_path: Path, built_before: None, hostile: str
) -> None:
    run("build")
    [folder] = (tmp_path / "instance" / "releases").glob("*/*")
    shutil.copytree(folder, tmp_path / hostile)
    (tmp_path / hostile / "card.md").unlink()
    (tmp_path / hostile / "card.md").mkdir()
    shown = ascii(hostile)[1:-1]
    refused = run("verify", str(tmp_path / hostile))
    assert (refused.exit_code, hostile in refused.stderr, f"/{shown} is refused." in refused.stderr) == (1, False, True)
    (tmp_path / "instance" / f".backup-{hostile}").mkdir()
    examined = run("doctor").stdout
    assert (hostile in examined, f".backup-{shown}" in examined) == (False, True)


def test_what_is_printed_keeps_its_lines_and_every_letter(capsys: pytest.CaptureFixture[str]) -> None:
    cli.command.say("Zähler 数\u3000数\n\x00…")
    assert capsys.readouterr().out == "Zähler 数\u3000数\n\\x00…\n"


def test_serve_stops_where_the_build_failed(run: Callable[..., Result], monkeypatch: pytest.MonkeyPatch) -> None:
    class Failed:
        returncode = 3

    monkeypatch.setattr(cli.operating.subprocess, "run", lambda *given, **more: Failed())
    assert run("serve", REVIEWAPP_BIND=f"127.0.0.1:{free_port()}").exit_code == 3


@pytest.mark.parametrize("bind", ["203.0.113.1:80", "no such host.invalid:80", "[::1]:99"])
def test_an_address_that_cannot_be_listened_on_is_said(tmp_path: Path, bind: str) -> None:
    settings = load_settings({"instance": tmp_path, "bind": bind}, {})
    if bind.startswith("[::1]"):
        server.check_address(settings)  # root may; what matters is that IPv6 is understood
        return
    with pytest.raises(UsageError, match="cannot be listened on"):
        server.check_address(settings)


def test_a_socket_that_is_handed_over_must_be_the_one_that_the_settings_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        monkeypatch.setattr(server, "_FIRST_DESCRIPTOR", held.fileno())
        monkeypatch.setenv("LISTEN_FDS", "1")
        monkeypatch.setenv("LISTEN_PID", str(os.getpid()))
        named = f"127.0.0.1:{held.getsockname()[1]}"
        server.check_address(load_settings({"instance": tmp_path, "bind": named}, {}))  # taken, but by itself
        with pytest.raises(UsageError, match=f"listens on {named}, and REVIEWAPP_BIND is 127.0.0.1:80"):
            server.check_address(load_settings({"instance": tmp_path, "bind": "127.0.0.1:80"}, {}))


def test_a_socket_that_was_meant_for_another_process_does_not_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LISTEN_FDS", "1")
    monkeypatch.setenv("LISTEN_PID", "1")
    with pytest.raises(UsageError, match="cannot be listened on"):
        server.check_address(load_settings({"instance": tmp_path, "bind": "203.0.113.1:80"}, {}))


def test_an_instance_that_is_no_folder_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="REVIEWAPP_INSTANCE"):
        server.hold_instance(load_settings({"instance": tmp_path / "file"}, {}))


def test_a_build_makes_the_instance_folder_for_its_owner_alone(
    run: Callable[..., Result], built_before: None, tmp_path: Path
) -> None:
    assert run("build").exit_code == 0
    assert (tmp_path / "instance").stat().st_mode & 0o777 == 0o700
    (tmp_path / "file").write_text("")
    refused = run("build", REVIEWAPP_INSTANCE=str(tmp_path / "file"))
    assert (refused.exit_code, "REVIEWAPP_INSTANCE" in refused.stderr) == (2, True)
    assert "Traceback" not in refused.stderr


def test_gunicorn_takes_every_setting(tmp_path: Path) -> None:
    from gunicorn.config import Config

    settings = load_settings({"instance": tmp_path, "proxies": 1}, {})
    config = Config()
    for name, value in server.gunicorn_settings(settings).items():
        config.set(name, value)
    assert config.worker_class.__name__ == "FairWorker"
    assert config.pidfile == str(tmp_path / "gunicorn.pid")
    assert config.preload_app is False


def test_a_new_worker_keeps_to_the_core_that_fewest_have_if_there_is_a_worker_for_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    choose = server.gunicorn_settings(load_settings({"instance": tmp_path}, {}))["pre_fork"]
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {9, 4, 6})
    arbiter = SimpleNamespace(cfg=SimpleNamespace(workers=4), WORKERS={})

    def started(pid: int) -> int | None:
        worker = SimpleNamespace()
        choose(arbiter, worker)
        arbiter.WORKERS[pid] = worker
        core: int | None = worker.core
        return core

    assert [started(pid) for pid in range(4)] == [4, 6, 9, 4]
    del arbiter.WORKERS[1]
    assert started(5) == 6
    arbiter.cfg.workers = 2
    assert started(6) is None
    assert "pre_fork" not in server.gunicorn_settings(load_settings({"instance": tmp_path, "affinity": "off"}, {}))


def test_export_writes_what_the_page_gives_away(
    page: FlaskClient, parts: Parts, ask: Any, run: Callable[..., Result], tmp_path: Path
) -> None:
    for number in range(4):
        ask(subject=f"=number {number}", open_tickets=number * 40)
    instance = str(parts.settings.instance)
    settings = {"REVIEWAPP_INSTANCE": instance, "REVIEWAPP_RELEASES": str(parts.settings.releases)}
    for query, words in {
        "": (),
        "?q=number&sort=oldest": ("--q", "number", "--sort", "oldest"),
        "?decision=review&since=2026-01-01&audit=false": (
            "--decision", "review", "--since", "2026-01-01", "--audit", "false",
        ),
        "?q=nothing+like+this": ("--q", "nothing like this"),
    }.items():  # fmt: skip
        for kind in ("csv", "jsonl"):
            told = run("export", "--format", kind, *words, **settings)
            assert (told.exit_code, told.stderr) == (0, "")
            assert told.stdout_bytes == page.get(f"/history.{kind}{query}").data
            target = tmp_path / f"out.{kind}"
            assert run("export", "--format", kind, "--output", str(target), *words, **settings).stdout == ""
            assert target.read_bytes() == told.stdout_bytes


def test_export_says_what_is_wrong_with_an_option(run: Callable[..., Result], tmp_path: Path) -> None:
    wrong = run("export", "--since", "yesterday", "--output", str(tmp_path / "x.csv"))
    assert (wrong.exit_code, wrong.stdout) == (2, "")
    assert wrong.stderr == "reviewapp: --since: This must be a time as 2026-01-31T12:00:00Z.\n"
    wrong = run("export", "--decision", "perhaps", "--sort", "worst")
    assert wrong.exit_code == 2
    assert wrong.stderr.count("--") == 2
    assert run("export", "--cursor", "c1").exit_code == 2
    assert run("export", "--output", str(tmp_path / "no" / "x.csv")).exit_code == 2
    assert not (tmp_path / "x.csv").exists()
    shown = run("export", "--help").stdout
    assert [field.name for field in EXPORT_OPTIONS if f"--{field.name} " not in shown] == []


def test_a_reader_that_closes_the_pipe_hears_nothing_more(parts: Parts, ask: Any) -> None:
    for _ in range(30):
        ask(body="long " * 700)
    environment = {**os.environ, "REVIEWAPP_INSTANCE": str(parts.settings.instance),
                   "REVIEWAPP_RELEASES": str(parts.settings.releases)}  # fmt: skip
    command = [sys.executable, "-m", "reviewapp", "export"]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.read(10) == b'"id","crea'
        process.stdout.close()
        assert process.stderr.read() == b""


ROWS = """subject,body,channel,customer_tier,open_tickets,account_age_days,has_attachment
late,My invoice is wrong,email,free,1,30,false
{}
"""


@pytest.mark.parametrize("second", ["late,It is down,chat,,2,3,true", "late,It is down,pigeon,,2,3,true"])
@pytest.mark.parametrize("name", ["requests.csv", "requests.jsonl"])
def test_score_answers_a_file_as_the_bulk_route_does(
    api: Any, parts: Parts, run: Callable[..., Result], tmp_path: Path, name: str, second: str, example: dict[str, Any]
) -> None:
    lines = [{"input": example}, {"input": {**example, "channel": second.split(",")[2]}}]
    text = ROWS.format(second) if name.endswith(".csv") else "\n".join(map(json.dumps, lines))
    file, target = tmp_path / name, tmp_path / "answers"
    file.write_text(text)
    here = {"REVIEWAPP_INSTANCE": str(parts.settings.instance), "REVIEWAPP_RELEASES": str(parts.settings.releases)}
    kind = "text/csv" if name.endswith(".csv") else "application/x-ndjson"
    route = api("post", "/predictions/bulk?dry_run=true", data=text, headers={"Content-Type": kind})
    scored = run("score", str(file), "--dry-run", **here)
    odd = "pigeon" in second
    assert scored.exit_code == int(odd)
    assert scored.stderr == ("reviewapp: 1 of 2 rows have a problem; each says which in its place.\n" if odd else "")
    changing = r'"(request_id|instance|created_at)":"[^"]*"'
    assert re.sub(changing, "", scored.stdout_bytes.decode()) == re.sub(changing, "", route.text)
    assert list(parts.ledger.pages({}, "newest")) in ([], [[]])
    assert (run("score", str(file), "--output", str(target), **here).stdout, target.exists()) == ("", True)
    [page] = parts.ledger.pages({}, "newest")
    assert [(one.source, one.client) for one in page] == [("bulk", "command line")] * (1 if odd else 2)


def test_score_says_what_is_wrong_with_the_whole_file(parts: Parts, run: Callable[..., Result], tmp_path: Path) -> None:
    here = {"REVIEWAPP_INSTANCE": str(parts.settings.instance), "REVIEWAPP_RELEASES": str(parts.settings.releases)}
    (tmp_path / "a.csv").write_text("subject,pigeon\na,b\n")
    wrong = run("score", str(tmp_path / "a.csv"), **here)
    assert (wrong.exit_code, wrong.stdout, wrong.stderr.count("\n")) == (2, "", 1)
    assert "pigeon: Line 1: the contract knows no column of this name" in wrong.stderr
    assert run("score", str(tmp_path / "none.csv"), **here).exit_code == 2
