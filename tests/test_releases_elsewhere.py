"""A service, and the commands, whose releases lie under a URL: what each host answers, with the store and without."""

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from flask import Flask

from reviewapp import cli, fetched, ledgerfile, proof, registry
from reviewapp import release as releases
from reviewapp.adapter import ModelAdapter
from reviewapp.cli import main
from reviewapp.config import load_settings
from reviewapp.errors import NotReady, UsageError
from reviewapp.factory import create_app
from reviewapp.manifest import MANIFEST
from reviewapp.parts import EXTENSION, Parts
from reviewapp.registry import Registry
from reviewapp.release import Release
from reviewapp.releasestore import Remote
from reviewapp.store import Store

from .conformance import CheckedClient
from .remote import Trying, cached

ROOT = Path(__file__).resolve().parent.parent
Two = tuple[Release, Release]


# ---- several hosts -------------------------------------------------------------------------------------------------


def test_a_host_that_cannot_have_the_live_release_answers_with_no_older_one(
    two: Two, host: Callable[..., Remote], store: Store, there: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "FETCH_SECONDS", 0.0)
    monkeypatch.setattr(registry, "RETRY_SECONDS", 0.0)
    b = Registry(host("b"), store, ModelAdapter)
    assert b.adapter().release.id == two[0].id
    Registry(host("a"), store, ModelAdapter).promote(2, "x", "x")
    Trying.down = True
    for one in (b, Registry(host("b"), store, ModelAdapter)):
        with pytest.raises(NotReady, match=r"live release cannot be had here.*triage/2: The store of releases"):
            one.adapter()
    assert "cannot be used now" in (b.problem() or "")
    Trying.down = False
    Trying.torn["model.skops"] = 10
    with pytest.raises(NotReady, match="is not what was built"):
        b.adapter()
    Trying.calm()
    assert b.adapter().release.id == two[1].id
    assert b.problem() is None


def test_while_it_cannot_be_had_not_each_request_asks_for_it(
    two: Two, host: Callable[..., Remote], store: Store, tmp_path: Path
) -> None:
    b = Registry(host("b"), store, ModelAdapter)
    Trying.down = True
    with pytest.raises(NotReady):
        b.adapter()
    Trying.down, Trying.log = False, str(tmp_path / "log")
    with pytest.raises(NotReady):
        b.adapter()
    assert not (tmp_path / "log").exists()


def test_what_was_built_elsewhere_is_here_and_proved_before_it_is_promoted(
    two: Two, host: Callable[..., Remote], store: Store, tmp_path: Path
) -> None:
    proved: list[str] = []
    b = Registry(host("b"), store, ModelAdapter, prove=lambda folder, digest: proved.append(digest))
    b.stock()
    assert proved == [two[0].id.digest, two[1].id.digest]
    b.stock()
    assert len(proved) == 2  # nothing has happened since
    Trying.down = True
    b.promote(2, "x", "x")
    assert b.adapter().release.id == two[1].id


def test_what_cannot_be_fetched_ahead_is_told_once_and_tried_again(
    two: Two, host: Callable[..., Remote], store: Store, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    b = Registry(host("b"), store, ModelAdapter)
    Trying.torn["model.skops"] = 10
    for _ in range(2):
        b.stock()
    told = [one.getMessage() for one in caplog.records if "not at hand" in one.getMessage()]
    assert [one[:32] for one in told] == ["release triage/1 is not at hand:", "release triage/2 is not at hand:"]
    Trying.calm()
    b.stock()
    assert len(cached(tmp_path / "b")) == 2


def test_one_process_of_a_host_fetches_ahead(two: Two, host: Callable[..., Remote], store: Store) -> None:
    begun, go_on, proved = threading.Event(), threading.Event(), []

    def slow(folder: Path, digest: str) -> None:
        begun.set()
        assert go_on.wait(30)

    first = Registry(host("b"), store, ModelAdapter, prove=slow)
    second = Registry(host("b"), store, ModelAdapter, prove=lambda folder, digest: proved.append(digest))
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(first.stock)
        assert begun.wait(30)
        second.stock()
        assert proved == []
        go_on.set()
        running.result(30)
    second.stock()
    assert len(proved) == 2


def test_a_host_keeps_what_is_live_what_may_be_soon_and_what_one_may_roll_back_to(
    release: Release, host: Callable[..., Remote], store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    contents = releases._contents(release)
    monkeypatch.setattr(releases, "_contents", lambda one: contents | {"card.md": one.card.encode()})
    a = Registry(host("a"), store, ModelAdapter)
    made = [releases.write(replace(release, card=f"card {number}"), a.place) for number in range(12)]
    for one in made:
        a.add(one, "test")
    for version in range(2, 9):
        a.promote(version, "x", "x")
    b = Registry(host("b"), store, ModelAdapter)
    for one in made:
        b.folder(one.id)
    b.stock()
    assert len(cached(tmp_path / "b")) == 12  # somebody has just used them
    for folder in (tmp_path / "b" / fetched.FOLDER).iterdir():
        os.utime(folder, (0, 0))
    monkeypatch.setattr(registry, "STOCK_SECONDS", 0.0)
    b.stock()
    kept = {b.place.local(one.id.identity).name for one in made if one.id.version in (5, 6, 7, 8, 10, 11, 12)}
    assert set(cached(tmp_path / "b")) == kept


def test_the_trigger_leads_to_the_baseline_where_the_earlier_release_cannot_be_had(
    two: Two, host: Callable[..., Remote], store: Store, tmp_path: Path
) -> None:
    known = Registry(host("a"), store, ModelAdapter)
    known.promote(2, "x", "x")
    shutil.rmtree(tmp_path / "a")
    Trying.down = True
    seen = known.standing()
    assert seen is not None
    event = known.fire("previous", seen, str, {"trigger": {}})
    assert event is not None
    assert (event.kind, event.id) == ("fell_back", two[1].id)


# ---- the service ---------------------------------------------------------------------------------------------------


@pytest.fixture
def instance(tmp_path: Path, store: Store, two: Two, proven: Path) -> Path:
    """The instance folder of another host; the ledger that both share is a copy here."""
    folder = tmp_path / "b"
    folder.mkdir()
    with ledgerfile.opened(store.path) as connection:
        connection.execute("VACUUM INTO ?", (str(folder / "reviewapp.sqlite3"),))
    (folder / "reviewapp.sqlite3").chmod(0o600)
    shutil.copytree(proven, folder / proof.FOLDER)
    return folder


@pytest.fixture
def app(instance: Path, url: str, release: Release) -> Iterator[Flask]:
    app = create_app({"instance": instance, "releases": url})
    app.test_client_class = CheckedClient
    CheckedClient.contract = release.contract
    yield app
    app.extensions[EXTENSION].store.close()


def test_the_service_says_that_the_store_is_away_and_answers_on(
    api: Callable[..., Any], two: Two, example: dict[str, Any]
) -> None:
    assert api("post", "/predictions", json={"input": example}).status_code == 201
    Trying.down = True
    refused = api("post", "/releases/2/promote", json={"reason": "better"}, role="admin")
    assert (refused.status_code, refused.json["type"].rpartition("/")[2]) == (503, "not-ready")
    assert "store of releases" in refused.json["detail"]
    assert int(refused.headers["Retry-After"]) > 0
    answered = api("post", "/predictions", json={"input": example})
    assert (answered.status_code, answered.json["release"]["version"]) == (201, 1)
    Trying.down = False
    assert api("post", "/releases/2/promote", json={"reason": "better"}, role="admin").status_code == 200
    assert api("post", "/predictions", json={"input": example}).json["release"] == two[1].id.as_json()
    Trying.down = True
    assert api("post", "/releases/rollback", json={"reason": "worse"}, role="admin").status_code == 200
    assert api("post", "/predictions", json={"input": example}).json["release"] == two[0].id.as_json()


def test_a_host_that_cannot_have_what_is_live_is_not_ready_and_says_why(
    api: Callable[..., Any], app: Flask, parts: Parts, example: dict[str, Any], two: Two
) -> None:
    assert api("post", "/predictions", json={"input": example}).status_code == 201
    with parts.store.writing() as connection:  # as another host does, which has it
        parts.registry._write(connection, "promoted", two[1].id, "elsewhere", "test")
    Trying.torn["model.skops"] = 10
    refused = api("post", "/predictions", json={"input": example})
    assert (refused.status_code, refused.json["type"].rpartition("/")[2]) == (503, "not-ready")
    ready = app.test_client().get("/readyz")
    assert (ready.status_code, "not what was built" in ready.json["detail"]) == (503, True)
    assert app.test_client().get("/livez").status_code == 200


def test_the_pages_of_a_move_say_what_it_changes_and_what_is_missing(page: Any, two: Two) -> None:
    Trying.down = True
    shown = page.get("/releases/2/promote")
    assert (shown.status_code, "store of releases" in shown.text) == (503, True)
    assert page.get("/releases").status_code == 200
    Trying.down = False
    assert "Drawn by lot for a check" in page.get("/releases/2/promote").text
    Trying.down = True
    moved = page.post("/releases/2/promote", data={"reason": "better"})
    assert (moved.status_code, moved.headers.get("Location", "")[:9]) == (303, "/releases")


# ---- the commands --------------------------------------------------------------------------------------------------


@pytest.fixture
def run(instance: Path, url: str, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Run a command on the host, or on one with another instance folder or another place for releases."""
    monkeypatch.setattr(cli.operating, "end_tidily", lambda: None)
    monkeypatch.setattr(cli.building, "end_tidily", lambda: None)

    def run(*words: Any, at: Path = instance, releases: str = url) -> Result:
        environment = {"REVIEWAPP_INSTANCE": str(at), "REVIEWAPP_RELEASES": releases, "REVIEWAPP_DATABASE_URL": ""}
        return CliRunner().invoke(main, [str(word) for word in words], env=environment)

    return run


def test_a_release_is_built_verified_promoted_and_rolled_back_by_the_commands(
    run: Callable[..., Result], release: Release, there: Path, url: str, instance: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cli.building.triage, "build", lambda place, progress: releases.write(release, place))
    built = run("build")
    assert built.exit_code == 0, built.output
    assert f"It lies in {url}/triage/3." in built.output
    assert (there / "triage" / "3" / MANIFEST).is_file()
    verified = run("verify", "triage/3")
    assert (verified.exit_code, "triage/3 is accepted" in verified.output) == (0, True)
    assert run("promote", 3, "--reason", "x").exit_code == 0
    assert run("rollback", "--reason", "x").exit_code == 0
    assert "triage/3" in run("releases").output
    (there / "triage" / "3" / "card.md").write_text("changed")
    refused = run("verify", 3)
    assert (refused.exit_code, "3 is refused. card.md was changed" in refused.output) == (1, True)
    Trying.down = True
    for words in (("verify", 3), ("build",)):
        refused = run(*words)
        assert (refused.exit_code, "cannot be used now" in refused.output) == (1, True), words


def found(told: Result, check: str) -> list[tuple[str, str]]:
    return [(one["state"], one["found"]) for one in json.loads(told.output) if one["check"] == check]


def test_the_doctor_looks_at_what_lies_under_the_url_now(
    run: Callable[..., Result], release: Release, there: Path, host: Callable[..., Remote]
) -> None:
    assert found(run("doctor", "--json"), "digests") == [("ok", "2 releases as built.")]
    (there / "triage" / "2" / "card.md").write_text("changed")
    Trying.left = 2
    with pytest.raises(NotReady):
        releases.write(release, host("a"))
    Trying.calm()
    told = run("doctor", "--json")
    [(state, text)] = found(told, "digests")
    assert (state, "Release triage/2 is damaged: card.md" in text) == ("warning", True)
    state, text = found(told, "leftovers")[0]
    assert (state, "were killed over it, claim a number: 3-" in text) == ("warning", True)
    Trying.down = True
    told = run("doctor", "--json")
    [(state, text)] = found(told, "digests")
    assert (state, "cannot be used now" in text) == ("wrong", True)
    assert told.exit_code == 1


@pytest.mark.parametrize(("source", "target"), [("url", "url"), ("url", "folder"), ("folder", "url")])
def test_a_backup_moves_from_one_kind_of_place_to_another(
    run: Callable[..., Result], two: Two, tmp_path: Path, url: str, there: Path, source: str, target: str
) -> None:
    places = {"url": url, "folder": str(there)}
    file, other = tmp_path / "kept.tar", tmp_path / "other"
    kept = run("backup", file, releases=places[source])
    assert (kept.exit_code, "2 releases (triage/1 live)" in kept.output) == (0, True), kept.output
    elsewhere = {"url": f"trying://{other}/store", "folder": str(other / "store")}[target]
    for _ in range(2):
        restored = run("restore", file, "--replace", at=other, releases=elsewhere)
        assert restored.exit_code == 0, restored.output
    assert run("promote", 2, "--reason", "x", at=other, releases=elsewhere).exit_code == 0
    for one in two:
        for path in (there / str(one.id)).iterdir():
            assert (other / "store" / str(one.id) / path.name).read_bytes() == path.read_bytes()
    assert len(list((other / "store" / "triage").iterdir())) == 2  # what was there already was left alone


def test_a_restore_puts_another_release_under_the_url_aside_only_where_it_may(
    run: Callable[..., Result], two: Two, tmp_path: Path, there: Path, instance: Path
) -> None:
    file = tmp_path / "kept.tar"
    assert run("backup", file).exit_code == 0
    (instance / "reviewapp.sqlite3").unlink()
    (there / "triage" / "2" / "card.md").write_text("another one")
    refused = run("restore", file)
    assert (refused.exit_code, "/triage/2 is there already and is another one" in refused.output) == (2, True)
    assert not (instance / "reviewapp.sqlite3").exists()
    restored = run("restore", file, "--replace")
    assert (restored.exit_code, "/triage/2.before-" in restored.output) == (0, True), restored.output
    assert (there / "triage" / "2" / "card.md").read_text() == two[1].card
    [aside] = (there / "triage").glob("2.before-*")
    assert (aside / "card.md").read_text() == "another one"


def test_a_backup_names_what_is_damaged_under_the_url_and_a_restore_leaves_it_out(
    run: Callable[..., Result], tmp_path: Path, there: Path, instance: Path
) -> None:
    (there / "triage" / "2" / "card.md").write_text("changed")
    file, other = tmp_path / "kept.tar", tmp_path / "other"
    kept = run("backup", file)
    assert (kept.exit_code, "release triage/2: What was fetched is not what was built" in kept.output) == (1, True)
    elsewhere = f"trying://{other}/store"
    restored = run("restore", file, at=other, releases=elsewhere)
    assert (restored.exit_code, "release triage/2" in restored.output) == (1, True)
    assert [path.name for path in (other / "store" / "triage").iterdir()] == ["1"]
    Trying.down = True
    kept = run("backup", tmp_path / "more.tar", at=other, releases=elsewhere)
    assert (kept.exit_code, (tmp_path / "more.tar").exists()) == (1, False)


def test_the_service_starts_also_where_what_is_live_cannot_be_fetched(
    run: Callable[..., Result], instance: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cli.operating, "check_address", lambda settings: None)
    monkeypatch.setattr(cli.operating, "run_server", lambda settings, make_app, when_ready: when_ready())
    Trying.down = True
    served = run("serve")
    assert served.exit_code == 0, served.output
    assert served.stderr.count("The live release cannot be had now: The store of releases") == 1
    assert "There is no example of a request: The store of releases" in served.stdout
    Trying.down = False
    served = run("serve")
    assert (served.stderr, "curl" in served.stdout, len(cached(instance))) == ("", True, 1)


# ---- the setting ---------------------------------------------------------------------------------------------------


def test_a_plain_path_needs_no_library_and_a_url_names_the_one_that_it_needs(tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "sys.modules['fsspec'] = None\n"
        "from reviewapp import errors, releasestore\n"
        "from reviewapp.config import load_settings\n"
        "print(releasestore.of(load_settings({'releases': '/x'})))\n"
        "try:\n"
        "    releasestore.of(load_settings({'releases': 's3://bucket/x'}))\n"
        "except errors.UsageError as error:\n"
        "    print(error.detail)\n"
    )
    environment = {**os.environ, "REVIEWAPP_INSTANCE": str(tmp_path)}
    said = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert said.stdout.splitlines() == [
        "/x",
        "REVIEWAPP_RELEASES is a URL, for which fsspec is needed: pip install 'reviewapp[hosts]'.",
    ]


@pytest.mark.parametrize(
    ("place", "said"), [("s3://bucket/x", "Install s3fs"), ("nowhere://x", "Protocol not known: nowhere")]
)
def test_a_url_of_a_kind_that_is_not_installed_is_refused_at_the_start(tmp_path: Path, place: str, said: str) -> None:
    with pytest.raises(UsageError, match=f"REVIEWAPP_RELEASES cannot be used: {said}"):
        create_app({"instance": tmp_path, "releases": place})


def test_a_url_is_taken_as_it_is_and_what_is_secret_in_it_is_not_shown(
    tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    settings = load_settings({}, {"REVIEWAPP_INSTANCE": str(tmp_path), "REVIEWAPP_RELEASES": "trying://me:key@x/y"})
    assert settings.releases == "trying://me:key@x/y"
    assert "key" not in repr(settings)
    place = Remote(str(settings.releases), tmp_path)
    assert str(place) == "trying://x/y"

    def refuse(*words: Any, **named: Any) -> None:
        raise ConnectionError("me:key is nobody at trying://me:key@x/y")

    monkeypatch.setattr(Trying, "open", refuse)
    with pytest.raises(NotReady) as raised:
        place.local(("triage", 1, "sha256:0"))
    assert "trying://x/y: ConnectionError: … is nobody at trying://x/y" in caplog.text
    assert "key" not in caplog.text + raised.value.detail
    (tmp_path / "config.py").write_text('RELEASES = "memory://x"')
    assert load_settings({"instance": tmp_path}, {}).releases == "memory://x"
    assert load_settings({"instance": tmp_path, "releases": Path("x")}, {}).releases == Path("x").absolute()
