"""The live release moves only to one that proved itself; where it fails, what served goes on serving."""

import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest

from reviewapp import registry as registries
from reviewapp import release as releases
from reviewapp.adapter import ModelAdapter
from reviewapp.errors import BreakingChange, Conflict, NotFound, NotReady, ReleaseRefused
from reviewapp.manifest import MANIFEST
from reviewapp.registry import Registry
from reviewapp.release import Release, ReleaseId
from reviewapp.releaselog import by_version
from reviewapp.store import Store

from .postgres import Postgres
from .small import with_limit

pytestmark = pytest.mark.both


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "releases"


@pytest.fixture
def registry(root: Path, store: Store) -> Registry:
    return Registry(root, store, ModelAdapter)


@pytest.fixture
def postgres_store(postgres: Postgres, postgres_templates: dict[str, str]) -> Iterator[Store]:
    url = postgres.database(postgres_templates["empty"])
    made = Store(url)
    yield made
    made.close()
    postgres.drop(url)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory, release: Release) -> tuple[Path, list[Release]]:
    """Three releases with different policies, written once and copied for each test."""
    root = tmp_path_factory.mktemp("three") / "releases"
    policies = [replace(release.policy, cost_review=float(number)) for number in range(3)]
    return root, [releases.write(replace(release, policy=policy), root) for policy in policies]


@pytest.fixture
def three(registry: Registry, written: tuple[Path, list[Release]], root: Path) -> list[Release]:
    """Three releases, the first of them live."""
    shutil.copytree(written[0], root)
    for number, made in enumerate(written[1]):
        assert registry.add(made, "ann") is (number == 0)
    return written[1]


def damage(root: Path, version: int) -> None:
    (root / "triage" / str(version) / "card.md").write_text("changed")


def test_without_a_release_the_service_is_not_ready(registry: Registry) -> None:
    assert registry.live() is None
    assert registry.problem() == "No release is live."
    with pytest.raises(NotReady, match="No release is live"):
        registry.adapter()
    with pytest.raises(NotReady):
        registry.contract()


def test_the_first_release_goes_live_and_the_next_ones_wait(registry: Registry, three: list[Release]) -> None:
    assert registry.adapter().release.id == three[0].id
    assert [event.id for event in registry.built()] == [release.id for release in reversed(three)]
    assert [event.kind for event in registry.events()] == ["built", "built", "promoted", "built"]
    assert registry.contract().as_json() == three[0].contract.as_json()


def test_a_promotion_is_seen_by_every_other_registry_at_once(
    registry: Registry, three: list[Release], root: Path, store: Store
) -> None:
    other = Registry(root, store, ModelAdapter)
    assert other.adapter().release.id.version == 1
    event = registry.promote(2, "cheaper", "bob")
    assert other.adapter().release.id == registry.adapter().release.id == three[1].id
    assert (event.id, event.reason, event.actor, event.kind) == (three[1].id, "cheaper", "bob", "promoted")
    assert registry.events()[0] == event


def test_rolling_back_goes_the_way_back(registry: Registry, three: list[Release]) -> None:
    registry.promote(2, "a", "x")
    registry.promote(3, "b", "x")
    registry.promote(3, "again", "x")
    assert registry.roll_back("c", "x").id.version == 2
    assert registry.roll_back("d", "x").id.version == 1
    with pytest.raises(Conflict, match="no earlier release"):
        registry.roll_back("e", "x")
    registry.promote(3, "f", "x")
    assert registry.roll_back("g", "x").id.version == 1
    assert registry.adapter().release.id.version == 1


def test_a_version_that_is_not_there_cannot_be_promoted(registry: Registry, three: list[Release]) -> None:
    with pytest.raises(NotFound, match="version 9"):
        registry.promote(9, "x", "x")


# ---- what a move changes in the contract ------------------------------------------------------------------------


@pytest.fixture
def narrow(registry: Registry, three: list[Release], root: Path) -> Release:
    """A fourth release, of another name, that takes fewer open tickets than the live one does."""
    made = releases.write(with_limit(three[0], 100, "narrow"), root)
    registry.add(made, "ann")
    return made


LIMITED = "The largest value is 100 and was not limited."


def test_a_promotion_that_breaks_callers_needs_an_explicit_yes(registry: Registry, narrow: Release) -> None:
    with pytest.raises(BreakingChange, match="say `breaking`") as refused:
        registry.promote(4, "stricter", "bob")
    assert [flaw.as_json() for flaw in refused.value.errors] == [
        {"pointer": "/input/open_tickets", "code": "breaking_change", "detail": LIMITED}
    ]
    assert refused.value.detail.startswith("1 change of the contract breaks callers;")
    assert (registry.adapter().release.id.version, registry.events()[0].kind) == (1, "built")
    event = registry.promote(4, "stricter", "bob", breaking=True)
    assert event.id == narrow.id == registry.live()
    assert (event.breaking, event.differences) == (
        True, [{"pointer": "/input/open_tickets", "detail": LIMITED, "breaking": True}],
    )  # fmt: skip
    assert registry.events()[0] == event
    assert event.as_json() | {"breaking": True, "differences": event.differences} == event.as_json()


def test_a_promotion_that_breaks_nobody_asks_for_nothing_and_is_kept_with_what_it_changed(
    registry: Registry, narrow: Release
) -> None:
    assert (registry.promote(2, "same contract", "x").breaking, registry.events()[0].differences) == (False, [])
    registry.promote(4, "x", "x", breaking=True)
    wider = registry.promote(3, "wider", "x")
    assert (wider.breaking, [one["breaking"] for one in wider.differences]) == (False, [False])
    assert registry.promote(3, "said for nothing", "x", breaking=True).breaking is False


def test_rolling_back_asks_for_nothing_and_is_kept_with_what_it_changed(registry: Registry, narrow: Release) -> None:
    registry.promote(4, "x", "x", breaking=True)
    registry.promote(2, "x", "x")
    back = registry.roll_back("too much", "x")
    assert (back.id, back.breaking, [one["detail"] for one in back.differences]) == (narrow.id, True, [LIMITED])
    assert registry.events()[0] == back


def test_one_can_look_at_what_a_move_would_change_without_moving(registry: Registry, narrow: Release) -> None:
    with pytest.raises(Conflict, match="no earlier release"):
        registry.compare_back()
    target, found = registry.compare(4)
    assert (target, [(one.pointer, one.detail, one.breaking) for one in found]) == (
        narrow.id, [("/input/open_tickets", LIMITED, True)],
    )  # fmt: skip
    assert registry.live() != narrow.id
    assert registry.compare(2)[1] == ()
    with pytest.raises(NotFound, match="version 9"):
        registry.compare(9)
    registry.promote(4, "x", "x", breaking=True)
    target, found = registry.compare_back()
    assert (target.version, [one.breaking for one in found]) == (1, [False])


def test_what_cannot_be_compared_holds_nobody_up(
    registry: Registry, narrow: Release, root: Path, written: tuple[Path, list[Release]]
) -> None:
    (root / "triage" / "1" / "contract.json").write_text("changed")
    assert registry.compare(4)[1] == ()
    event = registry.promote(4, "the live one is damaged", "x")
    assert (event.breaking, event.differences) == (False, [])


def test_before_anything_is_live_nothing_can_be_broken(root: Path, registry: Registry, release: Release) -> None:
    made = releases.write(release, root)
    with pytest.raises(NotFound):
        registry.compare(made.id.version)
    assert registry.add(made, "x") is True
    assert [(event.breaking, event.differences) for event in registry.events()] == [(False, [])] * 2


def test_a_version_of_several_names_is_that_of_the_live_name_else_the_newest(
    registry: Registry, three: list[Release], root: Path
) -> None:
    """Such releases were built before versions counted through all names."""
    for name, version in (("a", 2), ("b", 2), ("a", 7), ("b", 7)):
        registry.add(replace(three[0], id=ReleaseId(name, version, f"sha256:{name}{version}")), "x")
    named = by_version(registry.events())
    assert {version: str(one) for version, one in named.items()} == {
        1: "triage/1",
        2: "triage/2",
        3: "triage/3",
        7: "b/7",
    }
    assert registry.promote(2, "x", "x").id == three[1].id


# ---- what goes wrong --------------------------------------------------------------------------------------------


def test_a_damaged_release_is_refused_and_the_live_one_stays(
    registry: Registry, three: list[Release], root: Path
) -> None:
    serving = registry.adapter()
    damage(root, 2)
    with pytest.raises(ReleaseRefused, match=r"card\.md"):
        registry.promote(2, "x", "x")
    assert registry.adapter() is serving
    assert registry.problem() is None


def test_a_folder_exchanged_for_another_whole_release_is_refused(
    registry: Registry, three: list[Release], root: Path
) -> None:
    shutil.rmtree(root / "triage" / "2")
    shutil.copytree(root / "triage" / "3", root / "triage" / "2")
    with pytest.raises(ReleaseRefused, match="ledger knows"):
        registry.promote(2, "x", "x")


@pytest.mark.sqlite
def test_a_worker_that_serves_keeps_what_it_has_when_the_next_release_cannot_be_loaded(
    registry: Registry, three: list[Release], root: Path, store: Store
) -> None:
    worker = Registry(root, store, ModelAdapter)
    serving = worker.adapter()
    registry.promote(2, "x", "x")
    damage(root, 2)
    assert worker.adapter() is serving
    assert "card.md" in (worker.problem() or "")


@pytest.mark.sqlite
def test_a_new_worker_falls_back_to_the_last_release_that_loads(
    registry: Registry, three: list[Release], root: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry.promote(2, "x", "x")
    registry.promote(3, "x", "x")
    damage(root, 3)
    damage(root, 2)
    worker = Registry(root, store, ModelAdapter)
    assert worker.adapter().release.id.version == 1
    assert "card.md" in (worker.problem() or "")
    damage(root, 1)
    with pytest.raises(NotReady, match="No release can be loaded"):
        Registry(root, store, ModelAdapter).adapter()
    shutil.copy(root / "triage" / "3" / MANIFEST, root / "kept")
    monkeypatch.setattr(registries, "RETRY_SECONDS", 0.0)
    (root / "triage" / "3" / "card.md").write_text(three[2].card)
    assert worker.adapter().release.id.version == 3  # mended on disk: taken up again by itself
    assert worker.problem() is None


@pytest.mark.sqlite
def test_no_older_release_answers_where_other_hosts_may_answer_too(
    three: list[Release], root: Path, postgres_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder may be one that all of them mount; that there is one host alone is known of a ledger in a file."""
    registry, serving, added = (Registry(root, postgres_store, ModelAdapter) for _ in range(3))
    for one in three:
        registry.add(one, "x")
    assert serving.adapter().release.id.version == 1
    registry.promote(2, "x", "x")
    damage(root, 2)
    for host in (serving, added):
        with pytest.raises(NotReady, match=r"cannot be had here.*card\.md"):
            host.adapter()
    monkeypatch.setattr(registries, "RETRY_SECONDS", 0.0)
    (root / "triage" / "2" / "card.md").write_text(three[1].card)
    assert serving.adapter().release.id.version == added.adapter().release.id.version == 2


def test_of_two_moves_at_once_one_wins(
    registry: Registry, three: list[Release], monkeypatch: pytest.MonkeyPatch
) -> None:
    check = registry.check

    def slow(*given: Any) -> ModelAdapter:
        found = check(*given)
        monkeypatch.setattr(registry, "check", check)
        registry.promote(3, "the other one", "y")
        return found

    monkeypatch.setattr(registry, "check", slow)
    with pytest.raises(Conflict, match="came first"):
        registry.promote(2, "x", "x")
    assert registry.live() == three[2].id
    assert [event.kind for event in registry.events()].count("promoted") == 2


def test_a_roll_back_takes_no_step_that_others_have_taken_meanwhile_by_another_way(
    registry: Registry, three: list[Release], monkeypatch: pytest.MonkeyPatch
) -> None:
    registry.promote(2, "better", "x")
    registry.promote(1, "or not", "x")
    check = registry.check

    def slow(*given: Any) -> ModelAdapter:
        found = check(*given)
        monkeypatch.setattr(registry, "check", check)
        registry.roll_back("back", "y")
        registry.roll_back("and back again", "y")
        return found

    monkeypatch.setattr(registry, "check", slow)
    with pytest.raises(Conflict, match="came first"):
        registry.roll_back("back", "x")
    assert registry.live() == three[0].id
    with pytest.raises(Conflict, match="no earlier release"):
        registry.roll_back("further", "x")
    assert registry.promote(2, "again", "x").id == three[1].id


def test_a_release_that_was_rolled_back_never_answers_again_by_itself(
    registry: Registry, three: list[Release], root: Path, store: Store
) -> None:
    registry.promote(2, "better", "x")
    registry.roll_back("worse", "x")
    (registry.folder(three[0].id) / "policy.json").write_text("{}")
    fresh = Registry(root, store, ModelAdapter)
    with pytest.raises(NotReady, match=r"No release can be loaded|cannot be had here"):
        fresh.adapter()


def test_a_manifest_with_another_version_number_is_not_the_release_that_the_ledger_knows(
    registry: Registry, three: list[Release], root: Path
) -> None:
    manifest = root / "triage" / "2" / MANIFEST
    manifest.write_text(manifest.read_text().replace('"version": 2', '"version": 77'))
    with pytest.raises(ReleaseRefused, match="says that it is triage/77"):
        registry.promote(2, "x", "x")
    assert registry.adapter().release.id == three[0].id


def test_nothing_is_loaded_before_it_was_shown_to_load(
    three: list[Release], root: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[Path, str]] = []

    def refuse(folder: Path, digest: str) -> None:
        asked.append((folder, digest))
        raise ReleaseRefused("It ended the process.")

    monkeypatch.setattr(releases, "read", None)
    worker = Registry(root, store, ModelAdapter, prove=refuse)
    with pytest.raises(ReleaseRefused, match="ended the process"):
        worker.promote(2, "x", "x")
    with pytest.raises(NotReady, match=r"triage/1: It ended the process"):
        worker.adapter()
    before = worker.events()
    with pytest.raises(ReleaseRefused, match="ended the process"):
        worker.add(replace(three[2], id=ReleaseId("triage", 4, "sha256:4")), "x")
    assert worker.events() == before
    assert [digest for _, digest in asked] == [three[1].id.digest, three[0].id.digest, "sha256:4"]
    assert asked[0][0] == root / "triage" / "2"


def test_of_two_promotions_at_the_same_time_one_is_told_of_the_other(
    three: list[Release], root: Path, store: Store
) -> None:
    """Each of two workers promotes a version of its own, again and again: every move in the log was acknowledged."""
    workers = [Registry(root, store, ModelAdapter) for _ in range(2)]
    met = Barrier(2)

    def moves(worker: Registry, version: int) -> int:
        done = 0
        for number in range(5):
            met.wait(60)
            try:
                worker.promote(version, f"{version}, {number}", "x")
                done += 1
            except Conflict as error:
                assert "came first" in error.detail
        return done

    with ThreadPoolExecutor(2) as pool:
        done = list(pool.map(moves, workers, (2, 3)))
    events = workers[0].events()
    assert sum(event.kind == "promoted" for event in events) == 1 + sum(done)
    for worker in workers:
        assert worker.adapter().release.id == events[0].id


def test_a_version_that_is_deleted_while_it_is_promoted_is_refused_or_live_as_a_whole(
    registry: Registry, three: list[Release], root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = releases.read

    def deleted_first(path: Path, *given: Any) -> Release:
        shutil.rmtree(path)
        return whole(path, *given)

    monkeypatch.setattr(releases, "read", deleted_first)
    with pytest.raises(ReleaseRefused, match="no such folder"):
        registry.promote(2, "x", "x")
    assert registry.live() == three[0].id
