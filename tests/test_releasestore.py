"""Releases under a URL: fetched once, held to the ledger's digest, never half there."""

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import fsspec
import pytest

from reviewapp import fetched
from reviewapp import release as releases
from reviewapp.adapter import ModelAdapter
from reviewapp.errors import NotReady, ReleaseRefused, StoreFull
from reviewapp.manifest import MANIFEST, check_files, digest_of
from reviewapp.registry import Registry
from reviewapp.release import Release
from reviewapp.releasestore import Remote
from reviewapp.store import Store

from .remote import Trying, cached

ROOT = Path(__file__).resolve().parent.parent
Two = tuple[Release, Release]


# ---- putting and fetching ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["memory://releases/{name}", "file://{folder}/store"])
def test_a_release_that_one_host_puts_under_a_url_answers_on_another(
    kind: str, release: Release, tmp_path: Path, store: Store, example: dict[str, Any]
) -> None:
    url = kind.format(name=tmp_path.name, folder=tmp_path)
    a, b = (Remote(url, tmp_path / name / fetched.FOLDER) for name in "ab")
    made = [releases.write(replace(release, contract=replace(release.contract, name=name)), a) for name in ("x", "y")]
    assert [str(one.id) for one in made] == ["x/1", "y/2"]
    Registry(a, store, ModelAdapter).add(made[0], "test")
    adapter = Registry(b, store, ModelAdapter).adapter()
    assert adapter.release.id == made[0].id
    assert adapter.outputs("model", [example])[0]["label"] in release.contract.outcome.labels
    fs, root = fsspec.core.url_to_fs(url)
    assert {path.rpartition("/")[2] for path in fs.ls(f"{root}/x/1", detail=False)} == {
        path.name for path in a.local(made[0].id.identity).iterdir()
    }
    assert b.unfinished() == []


def test_what_lies_in_a_folder_can_be_copied_under_a_url_as_it_is(
    release: Release, releases_root: Path, there: Path, host: Callable[..., Remote]
) -> None:
    shutil.copytree(releases_root / str(release.id), there / str(release.id))
    check_files(host("a").local(release.id.identity), release.id.digest)
    assert releases.write(release, host("a")).id.version == release.id.version + 1


def test_a_release_that_was_fetched_is_used_without_the_store(
    two: Two, host: Callable[..., Remote], store: Store
) -> None:
    first = host("b").local(two[0].id.identity)
    Trying.down = True
    assert host("b").local(two[0].id.identity) == first
    assert Registry(host("b"), store, ModelAdapter).adapter().release.id == two[0].id


def test_the_same_content_under_two_numbers_is_two_releases(
    release: Release, host: Callable[..., Remote], store: Store
) -> None:
    made = [releases.write(release, host("a")) for _ in range(2)]
    assert made[0].id.digest == made[1].id.digest
    known = Registry(host("b"), store, ModelAdapter)
    for one in made:
        known.add(one, "test")
        assert known.load(one.id).release.id == one.id


def test_several_processes_of_a_host_fetch_a_release_once(
    two: Two, url: str, tmp_path: Path, host: Callable[..., Remote]
) -> None:
    code = (
        "import sys, tests.remote\n"
        "from pathlib import Path\n"
        "from reviewapp.releasestore import Remote\n"
        "print(Remote(sys.argv[1], Path(sys.argv[2])).local((sys.argv[3], int(sys.argv[4]), sys.argv[5])))"
    )
    log = tmp_path / "log"
    words = [sys.executable, "-c", code, url, str(tmp_path / "b" / fetched.FOLDER), *map(str, two[1].id.identity)]
    environment = {**os.environ, "TRYING_LOG": str(log)}
    running = [subprocess.Popen(words, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    [place] = {one.communicate(timeout=60)[0].strip() for one in running}
    read = log.read_text().split()
    assert sorted(read) == sorted(path.name for path in Path(place).iterdir())  # each of its files once
    assert cached(tmp_path / "b") == [Path(place).name]


def test_threads_that_need_the_same_release_wait_for_one_fetch(
    two: Two, tmp_path: Path, host: Callable[..., Remote]
) -> None:
    b = host("b")
    Trying.log = str(tmp_path / "log")
    with ThreadPoolExecutor(8) as pool:
        [place] = set(pool.map(lambda _: b.local(two[1].id.identity), range(8)))
    assert len(Path(Trying.log).read_text().split()) == len(list(place.iterdir()))


def test_who_waits_too_long_is_told_to_ask_again_and_the_fetch_goes_on(
    two: Two, tmp_path: Path, host: Callable[..., Remote]
) -> None:
    b = host("b", 0.01)
    Trying.gate.clear()
    with pytest.raises(NotReady, match="triage/2 is being fetched; ask again") as raised:
        b.local(two[1].id.identity)
    assert raised.value.retry_after
    [fetching] = b._fetched._under_way.values()
    Trying.gate.set()
    fetching.result(30)
    Trying.down = True
    check_files(b.local(two[1].id.identity), two[1].id.digest)


# ---- what comes is not what was built ------------------------------------------------------------------------------


def cut(there: Path) -> None:
    Trying.torn["model.skops"] = 1000


def cut_manifest(there: Path) -> None:
    Trying.torn[MANIFEST] = 100


def change(there: Path) -> None:
    (there / "triage" / "2" / "policy.json").write_text("{}")


def exchange(there: Path) -> None:
    shutil.rmtree(there / "triage" / "2")
    shutil.copytree(there / "triage" / "1", there / "triage" / "2")


def remove_file(there: Path) -> None:
    (there / "triage" / "2" / "golden.json").unlink()


def remove(there: Path) -> None:
    shutil.rmtree(there / "triage" / "2")


def lead_out(there: Path) -> None:
    path = there / "triage" / "2" / MANIFEST
    path.write_text(path.read_text().replace('"card.md"', '"../card.md"'))


def grow(there: Path) -> None:
    with (there / "triage" / "2" / MANIFEST).open("a") as file:
        file.write(" " * (1 << 17))


DAMAGES = {
    cut: "What was fetched is not what was built. model.skops was changed",
    cut_manifest: "release.json is not JSON",
    change: "What was fetched is not what was built. policy.json was changed",
    exchange: "and the ledger knows sha256:",
    remove_file: "There is no triage/2/golden.json where releases lie",
    remove: "There is no triage/2/release.json where releases lie",
    lead_out: "digest in release.json is not that of its content",
    grow: "release.json has more than 65,536 bytes",
}


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_what_is_not_what_was_built_is_refused_in_a_sentence_and_not_kept(
    two: Two, there: Path, tmp_path: Path, host: Callable[..., Remote], store: Store, damage: Callable[[Path], None]
) -> None:
    known = Registry(host("b"), store, ModelAdapter)
    serving = known.adapter()
    had = cached(tmp_path / "b")
    shutil.copytree(there, tmp_path / "kept")
    damage(there)
    with pytest.raises(ReleaseRefused) as raised:
        known.promote(2, "x", "x")
    assert DAMAGES[damage] in raised.value.detail
    assert cached(tmp_path / "b") == had
    assert (known.adapter(), known.live()) == (serving, two[0].id)
    Trying.calm()
    shutil.rmtree(there)
    (tmp_path / "kept").rename(there)
    known.promote(2, "mended", "x")
    assert known.adapter().release.id == two[1].id


def test_no_manifest_leads_out_of_the_folder_whatever_its_digest_is(
    two: Two, there: Path, host: Callable[..., Remote], tmp_path: Path
) -> None:
    path = there / "triage" / "2" / MANIFEST
    manifest = json.loads(path.read_text())
    manifest["files"]["../../../found"] = manifest["files"]["card.md"]
    manifest["digest"] = digest_of(manifest)
    path.write_text(json.dumps(manifest))
    with pytest.raises(ReleaseRefused, match="no name of a file"):
        host("b").local(("triage", 2, manifest["digest"]))
    assert not list(tmp_path.rglob("found"))


@pytest.mark.parametrize("how", ["down", "broken"])
def test_without_the_store_what_is_not_here_cannot_be_promoted_and_nothing_changes(
    two: Two, host: Callable[..., Remote], store: Store, tmp_path: Path, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    known = Registry(host("b"), store, ModelAdapter)
    serving, log = known.adapter(), known.events()
    Trying.down = how == "down"
    Trying.broken = {"model.skops"}
    with pytest.raises(NotReady, match="cannot be used now") as raised:
        known.promote(2, "x", "x")
    assert raised.value.status == 503
    assert raised.value.retry_after
    assert "secret-host" not in raised.value.detail
    assert known.adapter() is serving
    assert known.events() == log
    assert len(cached(tmp_path / "b")) == 1
    assert "no route to host" in caplog.text or "reset" in caplog.text  # the cause is for who reads the log


def test_what_was_fetched_and_changed_afterwards_is_fetched_again(
    two: Two, host: Callable[..., Remote], caplog: pytest.LogCaptureFixture
) -> None:
    b = host("b")
    place = b.local(two[1].id.identity)
    (place / "card.md").write_text("changed")
    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(lambda _: b.local(two[1].id.identity), range(4))) == {place}
    check_files(place, two[1].id.digest)
    assert "card.md was changed" in caplog.text
    (place / "card.md").unlink()
    check_files(host("b").local(two[1].id.identity), two[1].id.digest)
    Trying.down = True
    (place / "more").write_text("")
    with pytest.raises(NotReady):
        b.local(two[1].id.identity)


def test_a_full_disk_is_told_and_keeps_nothing(
    two: Two, host: Callable[..., Remote], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(fetched, "sync", full)
    with pytest.raises(StoreFull, match="instance folder is full"):
        host("b").local(two[1].id.identity)
    monkeypatch.setattr(fetched, "sync", lambda path: Path(tmp_path / "gone").stat())
    with pytest.raises(NotReady, match="cannot be kept in the instance folder: No such file"):
        host("b").local(two[1].id.identity)
    assert cached(tmp_path / "b") == []


def test_an_instance_folder_that_keeps_nothing_is_told_also_by_who_fetches_ahead(
    two: Two, there: Path, tmp_path: Path
) -> None:
    (tmp_path / "taken").write_text("")
    host = Remote(there.as_uri(), tmp_path / "taken")
    for fetch in (lambda: host.local(two[1].id.identity), lambda: host.stock([], lambda folder, digest: None)):
        with pytest.raises(NotReady, match="cannot be kept in the instance folder: File exists"):
            fetch()


# ---- an upload that ends half way ----------------------------------------------------------------------------------


@pytest.mark.parametrize("uploaded", [0, 3, 9])
def test_an_upload_that_ends_half_way_leaves_nothing_that_is_taken_for_a_release(
    release: Release, two: Two, there: Path, host: Callable[..., Remote], store: Store, uploaded: int
) -> None:
    a, known = host("a"), Registry(host("b"), store, ModelAdapter)
    Trying.left = uploaded
    with pytest.raises(NotReady, match="cannot be used now"):
        releases.write(release, a)
    Trying.calm()
    assert not (there / "triage" / "3" / MANIFEST).exists()
    assert [one.id.version for one in known.built()] == [2, 1]
    assert [claim.partition("-")[0] for claim in a.unfinished()] == ["3"]
    assert releases.write(release, a).id.version == 4  # whether that build still runs is not known
    assert [claim.partition("-")[0] for claim in a.unfinished()] == ["3"]


def test_the_manifest_comes_last(release: Release, host: Callable[..., Remote], tmp_path: Path) -> None:
    Trying.log = str(tmp_path / "log")
    releases.write(release, host("a"))
    assert Path(Trying.log).read_text().split()[-1] == MANIFEST


def test_builds_of_several_hosts_at_once_get_different_numbers(
    release: Release, host: Callable[..., Remote], there: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    contents = releases._contents(release)
    monkeypatch.setattr(releases, "_contents", lambda release: contents)
    with ThreadPoolExecutor(8) as pool:
        made = [one.id for one in pool.map(lambda number: releases.write(release, host(f"host-{number}")), range(8))]
    assert len({one.version for one in made}) == 8
    for one in made:
        check_files(there / str(one), one.digest)


@pytest.mark.parametrize("order", ["abab", "aabb", "abba"])
def test_of_two_that_claim_a_number_at_once_not_both_get_it(host: Callable[..., Remote], order: str) -> None:
    """Each writes its claim, and then looks for others; in every order of these steps."""
    turns = {name: [threading.Event() for _ in range(order.count(name))] for name in "ab"}
    done = threading.Semaphore(0)

    def claim(name: str) -> int:
        place, steps = host(name), iter(turns[name])
        write, names = place._files.write, place._files.names

        def in_turn(call: Callable[..., Any], *words: Any) -> Any:
            step = next(steps, None)
            assert step is None or step.wait(30)
            try:
                return call(*words)
            finally:
                if step is not None:
                    done.release()

        place._files.write = lambda *words: in_turn(write, *words)  # type: ignore[method-assign]
        place._files.names = lambda *path: in_turn(names, *path) if path else names()  # type: ignore[method-assign]
        return place._claim()[0]

    with ThreadPoolExecutor(2) as pool:
        running = [pool.submit(claim, name) for name in "ab"]
        left = {name: iter(turns[name]) for name in "ab"}
        for name in order:
            next(left[name]).set()
            assert done.acquire(timeout=30)
        assert running[0].result(30) != running[1].result(30)
