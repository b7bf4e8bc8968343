"""The release log, pinned whole, and the sentences with which the registry says why a release does not answer."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import insert, select

from reviewapp import registry as registries
from reviewapp import release as releases
from reviewapp.contract import Contract
from reviewapp.errors import Conflict, NotFound, NotReady, ReleaseRefused, UsageError
from reviewapp.registry import Registry
from reviewapp.release import Release, ReleaseId
from reviewapp.releaselog import ReleaseEvent, by_version, way_back
from reviewapp.store import Store
from reviewapp.tables import release_events

from .conftest import Clock
from .test_release_folder import CONTRACT, whole

pytestmark = pytest.mark.both

WIDER = replace(CONTRACT, title="wider", fields=(replace(CONTRACT.fields[0], maximum=9), CONTRACT.fields[1]))
LIMITED = {"pointer": "/input/größe", "detail": "The largest value is 9 and was not limited.", "breaking": True}
FREED = {"pointer": "/input/größe", "detail": "The largest value is not limited and was 9.", "breaking": False}


@dataclass
class Adapter:
    """What the registry needs of an adapter: what it answers for, and whether its golden requests are right."""

    release: Release
    wrong: set[int]
    asked: int = 0
    option: str = "model"

    @property
    def contract(self) -> Contract:
        return self.release.contract

    def answering(self, option: str) -> "Adapter":
        return self if option == self.option else replace(self, option=option)

    def check_golden(self) -> None:
        self.asked += 1
        if self.release.id.version in self.wrong:
            raise ReleaseRefused("golden")


@dataclass
class Service:
    """A registry of adapters of one's own; `made` counts how often each version was loaded."""

    root: Path
    store: Store
    clock: Clock
    wrong: set[int] = field(default_factory=set)
    made: list[int] = field(default_factory=list)

    def registry(self, wait: Callable[[], Any] = lambda: None) -> Registry:
        def make(release: Release) -> Any:
            wait()
            self.made.append(release.id.version)
            return Adapter(release, self.wrong)

        return Registry(self.root, self.store, make, self.clock)


@pytest.fixture
def three(tmp_path: Path) -> list[Release]:
    given = [whole(), replace(whole(), contract=WIDER), replace(whole(), seed=9)]
    return [releases.write(one, tmp_path / "releases") for one in given]


@pytest.fixture
def service(tmp_path: Path, store: Store, clock: Clock) -> Service:
    return Service(tmp_path / "releases", store, clock)


def story(release: Release, event: str, reason: str, actor: str, second: int, *found: Any) -> dict[str, Any]:
    return {
        "name": "small", "version": release.id.version, "digest": release.id.digest, "event": event, "reason": reason,
        "actor": actor, "created_at": f"2026-01-31T12:00:0{second}.123Z",
        "breaking": any(one["breaking"] for one in found), "differences": list(found),
        "figures": {} if event == "built" else {"after": 0},
    }  # fmt: skip


def test_the_log_holds_each_move_whole_the_newest_first(service: Service, three: list[Release], clock: Clock) -> None:
    registry = service.registry()
    said: list[Any] = []
    for step in (
        lambda: registry.add(three[0], "ann"),
        lambda: registry.add(three[1], "bob"),
        lambda: registry.promote(2, "narrower", "cy", breaking=True),
        lambda: registry.roll_back("too narrow", "dan"),
    ):
        said.append(step())
        clock.forward(seconds=1)
    assert said[:2] == [True, False]
    events = registry.events()
    found = [change for event in events for change in event.differences]
    assert [event.as_json() for event in events] == [
        story(three[0], "rolled_back", "too narrow", "dan", 3, *events[0].differences),
        story(three[1], "promoted", "narrower", "cy", 2, *events[1].differences),
        story(three[1], "built", "built", "bob", 1),
        story(three[0], "promoted", "the first release goes live by itself", "ann", 0),
        story(three[0], "built", "built", "ann", 0),
    ]
    assert LIMITED in events[1].differences
    assert FREED in events[0].differences
    assert all(set(change) == {"pointer", "detail", "breaking"} for change in found)
    assert said[2:] == [events[1], events[0]]
    assert [event.id.version for event in registry.built()] == [2, 1]
    assert (registry.live(), registry.adapter().release.id) == (three[0].id, three[0].id)
    with service.store.reading() as connection:
        rows = connection.execute(select(release_events).order_by(release_events.c.seq)).mappings().all()
    kept = [
        {"event": row["kind"], **{name: row[name] for name in said[3].as_json() if name != "event"}}
        | {"figures": row["figures"] or {}}
        for row in rows
    ]
    assert kept == [event.as_json() for event in reversed(events)]


def test_an_event_of_an_older_version_says_nothing_of_differences(service: Service, three: list[Release]) -> None:
    registry = service.registry()
    old = three[0].id.as_json() | {"kind": "built", "reason": "r", "actor": "a", "created_at": "2026"}
    with service.store.writing() as connection:
        connection.execute(insert(release_events).values(**old))
    assert registry.events() == [ReleaseEvent("built", three[0].id, "r", "a", "2026")]
    assert ReleaseEvent("built", three[0].id, "r", "a", "2026").as_json()["differences"] == []


def told(kind: type[Exception], work: Callable[..., Any], *given: Any) -> str:
    with pytest.raises(kind) as refused:
        work(*given)
    if isinstance(refused.value, NotReady):
        assert refused.value.retry_after == 30
    return str(refused.value)


def test_what_cannot_be_is_said_in_a_sentence_and_moves_nothing(service: Service, three: list[Release]) -> None:
    registry = service.registry()
    none = "No release is live yet; `reviewapp build` makes one."
    assert told(NotReady, registry.adapter) == told(NotReady, registry.contract) == none
    assert registry.problem() == "No release is live."
    assert told(NotFound, registry.promote, 1, "x", "x") == "There is no release with version 1."
    back = "There is no earlier release to roll back to."
    assert told(Conflict, registry.roll_back, "x", "x") == told(Conflict, registry.compare_back) == back
    for one in three:
        registry.add(one, "x")
    assert registry.problem() == "small/1 is not loaded yet."
    assert told(Conflict, registry.roll_back, "x", "x") == told(Conflict, registry.compare_back) == back
    assert told(NotFound, registry.compare, 9) == "There is no release with version 9."
    needed = "A reason is needed; it is kept in the release log."
    assert told(UsageError, registry.promote, 3, " ", "x") == needed
    service.wrong.add(3)
    assert told(ReleaseRefused, registry.promote, 3, "x", "x") == "golden"
    assert [event.kind for event in registry.events()] == ["built", "built", "promoted", "built"]
    service.wrong.clear()
    registry.promote(3, "x", "x")
    assert told(UsageError, registry.roll_back, "", "x") == needed
    assert registry.compare_back() == (three[0].id, ())
    assert [one.as_json() for one in registry.compare(2)[1] if one.breaking] == [LIMITED]


def test_of_two_moves_the_later_one_is_told(service: Service, three: list[Release]) -> None:
    other = service.registry()
    for one in three:
        other.add(one, "x")

    def meanwhile() -> None:
        if other.live() == three[0].id:
            other.promote(3, "first", "x")

    late = told(Conflict, service.registry(meanwhile).promote, 3, "second", "x")
    assert late == "Another move of the live release came first; look at what is live now."
    assert other.events()[0].reason == "first"


@pytest.mark.sqlite
def test_a_release_that_does_not_load_is_left_alone_for_a_while_and_readiness_says_why(
    service: Service, three: list[Release], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [100.0]
    monkeypatch.setattr(registries, "time", SimpleNamespace(monotonic=lambda: now[0]))
    first = service.registry()
    first.add(three[0], "x")
    first.add(three[2], "x")
    first.promote(3, "x", "x")
    service.made.clear()
    service.wrong |= {1, 3}
    registry = service.registry()
    assert told(NotReady, registry.adapter) == "No release can be loaded. small/3: golden"
    assert service.made == [3, 1]
    now[0] += 9.9
    assert told(NotReady, registry.adapter) == "No release can be loaded. small/3: golden"
    assert service.made == [3, 1]
    service.wrong.discard(1)
    now[0] += 0.1
    assert registry.adapter().release.id == three[0].id  # the last one that loads
    assert (service.made, registry.problem()) == ([3, 1, 3, 1], "small/3: golden")
    service.wrong.clear()
    now[0] += 9.9
    assert registry.adapter().release.id == three[0].id
    now[0] += 0.1
    assert registry.adapter().release.id == three[2].id
    assert (service.made, registry.problem()) == ([3, 1, 3, 1, 3], None)


@pytest.mark.sqlite
def test_what_serves_goes_on_where_the_next_one_does_not_load_and_no_older_one_takes_its_place(
    service: Service, three: list[Release]
) -> None:
    other, registry = service.registry(), service.registry()
    for one in three:
        other.add(one, "x")
    other.promote(3, "x", "x")
    serving = registry.adapter()
    other.promote(2, "x", "x", breaking=True)
    service.wrong |= {2}
    service.made.clear()
    assert registry.adapter() is serving
    assert (service.made, registry.problem()) == ([2], "small/2: golden")


def test_a_release_is_loaded_once_for_all_who_ask_at_once_and_not_again_after_a_promotion(
    service: Service, three: list[Release]
) -> None:
    service.registry().add(three[0], "x")
    service.registry().add(three[2], "x")
    entered, go = threading.Event(), threading.Event()

    def wait() -> None:
        entered.set()
        assert go.wait(60)

    registry = service.registry(wait)
    with ThreadPoolExecutor(3) as pool:
        asked = [pool.submit(registry.adapter)]
        assert entered.wait(60)
        asked += [pool.submit(registry.adapter) for _ in range(2)]
        go.set()
        assert len({id(one.result()) for one in asked}) == 1
    assert service.made == [1]
    registry.promote(3, "x", "x")
    assert registry.adapter().release.id == three[2].id
    assert service.made == [1, 3]


def test_a_release_is_read_with_the_digest_of_the_ledger_and_the_types_that_are_trusted_now(
    service: Service, three: list[Release], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[Any, ...]] = []
    read = releases.read
    monkeypatch.setattr(releases, "read", lambda *given: asked.append(given) or read(*given))
    names = iter([["own.First"], ["own.Second"]])
    registry = Registry(
        service.root,
        service.store,
        lambda release: Adapter(release, set()),
        trusted=lambda: next(names),  # type: ignore[arg-type, return-value]
    )
    registry.add(three[0], "x")
    registry.adapter()
    registry.add(three[2], "x")
    registry.promote(3, "x", "x")
    assert asked == [
        (service.root / "small" / "1", three[0].id.digest, ["own.First"]),
        (service.root / "small" / "3", three[2].id.digest, ["own.Second"]),
    ]
    assert registry.adapter().asked == 1  # type: ignore[attr-defined]
    assert registry.folder(ReleaseId("n", 7, "")) == service.root / "n" / "7"


def event(kind: str, name: str, version: int) -> ReleaseEvent:
    return ReleaseEvent(kind, ReleaseId(name, version, f"{name}{version}"), "", "", "")


def test_the_way_back_goes_by_promotions_and_each_roll_back_goes_one_step_of_it() -> None:
    moves = [
        ("built", 1), ("promoted", 1), ("promoted", 2), ("promoted", 2), ("built", 3), ("promoted", 3),
        ("rolled_back", 2), ("promoted", 4), ("promoted", 1),
    ]  # fmt: skip
    events = [event(kind, "a", version) for kind, version in reversed(moves)]
    assert [one.version for one in way_back(events)] == [1, 2, 4, 1]
    assert [one.version for one in way_back(events[3:])] == [1, 2, 3]
    assert way_back([]) == []


def test_a_version_names_the_release_of_the_live_name_else_the_newest() -> None:
    built = [event("built", name, version) for name, version in (("a", 1), ("b", 1), ("a", 2), ("c", 2))]
    named = by_version([event("promoted", "a", 1), *reversed(built)])
    assert {version: one.name for version, one in named.items()} == {1: "a", 2: "a"}
    assert {version: one.name for version, one in by_version(built[::-1]).items()} == {1: "b", 2: "c"}
