"""Two hosts and a third behind the shipped nginx, with one ledger and one place for releases, under load."""

from __future__ import annotations

import shutil
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from sqlalchemy import select

from reviewapp import proof
from reviewapp import release as releases
from reviewapp.accounts import Accounts
from reviewapp.adapter import ModelAdapter
from reviewapp.registry import Registry
from reviewapp.release import Release
from reviewapp.releasestore import Remote
from reviewapp.samples import example_record
from reviewapp.store import Store
from reviewapp.tables import predictions

from .hosts import PATIENCE, PREDICT, Balancer, Callers, Deaf, Host
from .postgres import Postgres
from .proxy import MARKS

pytestmark = MARKS
MORE = 60  # requests that are answered between two events


@dataclass(frozen=True)
class Move:
    """A promotion or roll-back: when it was asked for, when its 200 was there, and what answers from then on."""

    began: float
    ended: float
    version: int


@dataclass(frozen=True)
class Story:
    """All that happened, and what the ledger says of it."""

    callers: Callers
    moves: list[Move]
    killed: tuple[float, float]
    lost: Host
    broken: list[tuple[str, str]]  # what the proxy says of requests that broke off at a host
    added: Host
    rows: dict[str, str]  # predictions in the ledger: their references, by id


@pytest.fixture(scope="module")
def database_url(postgres: Postgres) -> str:
    return postgres.database()


@pytest.fixture(scope="module")
def story(
    tmp_path_factory: pytest.TempPathFactory, release: Release, proven: Path, database_url: str
) -> Iterator[Story]:
    folder = tmp_path_factory.mktemp("hosts")
    url = f"file://{folder}/releases"
    names = "abc"
    store = Store(database_url)
    place = Remote(url, folder / "elsewhere")
    known = Registry(place, store, ModelAdapter)
    for one in (release, replace(release, policy=replace(release.policy, audit_share=0.25))):
        known.add(releases.write(one, place), "test")
    accounts = Accounts(store)
    boss = {"Authorization": f"Bearer {accounts.create_token('boss', 'admin')}"}
    token = accounts.create_token("script", "submit")
    hosts = {}
    for number, name in enumerate(names):
        (folder / name).mkdir(mode=0o700)
        shutil.copytree(proven, folder / name / proof.FOLDER)  # of the first release
        settings = {"REVIEWAPP_DATABASE_URL": database_url, "REVIEWAPP_RELEASES": url, "REVIEWAPP_PROXIES": "1"}
        hosts[name] = Host(f"127.0.0.{number + 2}", folder / name, **settings)
    a, b, c = hosts.values()
    moves = []

    def move(path: str, version: int) -> None:
        began = time.monotonic()
        status, said = proxy.call("POST", f"/api/v1/releases/{path}", {"reason": "a try"}, boss)
        assert (status, said.get("version")) == (200, version), said
        moves.append(Move(began, time.monotonic(), version))

    try:
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(Host.start, (a, b)))
        with Balancer() as proxy:
            proxy.hand_on_to(a, b)
            with Callers(proxy, token, example_record(release.contract)) as callers:
                callers.wait(MORE)
                for host in (a, b):
                    _wait_for(lambda host=host: _at_hand(host) == 2)
                move("2/promote", 2)
                callers.wait(MORE)
                move("rollback", 1)
                callers.wait(MORE)
                killed = b.lose()
                callers.wait(MORE)
                c.start()
                proxy.hand_on_to(a, c)
                _wait_for(lambda: _answered(c) > 0)
                _wait_for(lambda: _at_hand(c) == 2)
                move("2/promote", 2)
                callers.wait(MORE)
                move("rollback", 1)
                callers.wait(MORE)
            broken = proxy.broken()
        query = select(predictions.c.id, predictions.c.reference)
        with store.reading() as connection:
            rows = {row.id: row.reference for row in connection.execute(query)}
        yield Story(callers, moves, killed, b, broken, c, rows)
    finally:
        for host in (a, b, c):
            if hasattr(host, "process") and host.process.poll() is None:
                host.lose()
        store.close()


def _wait_for(true: Callable[[], bool]) -> None:
    ends = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < ends
        time.sleep(0.02)


def _at_hand(host: Host) -> int:
    """Return how many releases a host has fetched and found to load."""
    return len(list((host.instance / proof.FOLDER).glob("*.json")))


def _answered(host: Host) -> int:
    """Return how many predictions a host has answered, says its log of requests."""
    log = host.instance.parent / f"{host.instance.name}.log"
    return log.read_text().count('"/api/v1/predictions"')


def test_no_answer_that_was_given_is_lost(story: Story) -> None:
    for one in story.callers.answered:
        assert story.rows.get(one.answer["id"]) == one.reference


def test_what_was_sent_with_a_key_is_recorded_once_and_answered_alike(story: Story) -> None:
    recorded = Counter(story.rows.values())
    keyed = {one.reference for one in story.callers.sent if one.key}
    assert {recorded[reference] for reference in keyed} == {1}
    assert max(recorded.values()) == 1  # nor does the proxy send any other twice


def test_after_the_200_of_a_move_no_host_answers_with_the_old_release(story: Story) -> None:
    looked_at = 0
    for move, following in zip(story.moves, [*story.moves[1:], None], strict=True):
        until = float("inf") if following is None else following.began
        for one in story.callers.answered:
            if move.ended <= one.began and one.ended <= until:
                looked_at += 1
                assert one.answer["release"]["version"] == move.version
    assert looked_at >= 4 * (MORE - story.callers.count)


def test_only_what_was_handed_to_a_host_that_was_killed_fails(story: Story) -> None:
    """That may be shortly after: until the proxy has heard that a connection has ended, it uses it once more."""
    began, _ = story.killed
    for one in story.callers.failed:
        assert one.ended >= began, one
        assert one.status in (0, 503), one
    assert {server for server, _ in story.broken} <= {story.lost.server}
    handed = [why for _, why in story.broken if "connect() failed" not in why]  # else another host was asked
    assert len(story.callers.failed) == len(handed) <= story.callers.count, story.broken


def test_a_host_that_is_added_answers(story: Story) -> None:
    assert _answered(story.added) > 0


@pytest.mark.parametrize("hangs_up", [True, False])
def test_a_post_that_a_host_has_read_is_sent_to_no_other_one_and_a_get_is(hangs_up: bool) -> None:
    for method, times in (("POST", 1), ("GET", 2)):
        with Deaf(hangs_up=hangs_up) as a, Deaf(hangs_up=hangs_up) as b, Balancer() as proxy:
            proxy.hand_on_to(a, b)
            assert proxy.call(method, PREDICT, {}, {})[0] == 503
            assert a.heard + b.heard == [method] * times


def test_a_host_that_takes_no_connection_costs_no_request() -> None:
    with socket.socket() as gone, Deaf(hangs_up=False) as there, Balancer() as proxy:
        gone.bind(("127.0.0.1", 0))  # so that nobody else takes the port; it is refused, for nobody listens
        proxy.hand_on_to(SimpleNamespace(server=f"127.0.0.1:{gone.getsockname()[1]}"), there)
        for _ in range(4):
            proxy.call("POST", PREDICT, {}, {})
        assert there.heard == ["POST"] * 4
