"""The objectives: what is counted towards them, what is left of the budget, and when it burns too fast."""

import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from sqlalchemy import func, select

from reviewapp import places
from reviewapp.counters import BOUNDS, Counters, Served
from reviewapp.parts import Parts
from reviewapp.rounds import Rounds
from reviewapp.slo import (
    ALARMS,
    EVERY_SECONDS,
    FEWEST,
    ROUND,
    WINDOWS,
    Minutes,
    Objectives,
    add,
    came_since,
    describe,
    minute,
    quantile,
    round_of,
    since,
)
from reviewapp.store import Store
from reviewapp.tables import minutes as table
from reviewapp.tally import Tally

from .conftest import Clock
from .page import Page

pytestmark = pytest.mark.both

GOAL = Objectives(availability=0.999, latency=0.1, latency_share=0.99)


def served(requests: int = 0, failures: int = 0, rejected: int = 0, slow: int = 0, at: float = 0.005) -> Served:
    """So many requests, all of which took as long as the bucket of `at` says."""
    latency = [0] * (len(BOUNDS) + 1)
    latency[BOUNDS.index(at)] = requests
    return Served(requests, failures, rejected, slow, tuple(latency))


def everywhere(one: Served, **others: Served) -> dict[str, Served]:
    return dict.fromkeys(WINDOWS, one) | others


# ---- pure -----------------------------------------------------------------------------------------------------------


def test_what_came_is_the_difference_and_after_a_new_beginning_all_there_is() -> None:
    before, now = served(100, 1, 5, 2), served(130, 2, 5, 4)
    assert came_since(now, before) == served(30, 1, 0, 2)
    assert came_since(now, None) == now
    assert came_since(served(3, 1), before) == served(3, 1)
    assert came_since(now, now) == Served()
    assert add(before, served(30, 1, 0, 2)) == now


def test_shares_and_burn_rates_are_those_of_the_workbook() -> None:
    found = describe(everywhere(served(100_000, 1440, 500, 60)), GOAL)
    hour = found["windows"]["1h"]
    assert hour["availability"] == pytest.approx(0.9856)
    assert hour["rejected"] == pytest.approx(0.005)
    assert hour["in_time"] == pytest.approx(0.9994)
    assert hour["burn_rate"]["availability"] == pytest.approx(14.4)
    assert hour["burn_rate"]["latency"] == pytest.approx(0.06)
    assert found["budget_left"] == {"availability": pytest.approx(-13.4), "latency": pytest.approx(0.94)}
    # 14.4 for an hour is 2 % of what 30 days allow, 6 for six hours is 5 %
    assert [limit * WINDOWS[window] / WINDOWS["30d"] for limit, window, _ in ALARMS.values()] == [
        pytest.approx(0.02), pytest.approx(0.05),
    ]  # fmt: skip


def test_where_nothing_was_asked_nothing_is_known_and_nothing_burns() -> None:
    found = describe(everywhere(Served()), GOAL)
    hour = found["windows"]["1h"]
    assert [hour[name] for name in ("availability", "rejected", "in_time", "p95_seconds")] == [None] * 4
    assert found["budget_left"] == {"availability": None, "latency": None}
    assert found["burning"] == {"availability": None, "latency": None}


@pytest.mark.parametrize(
    ("failing", "alarm"),
    [
        (("5m", "1h"), "fast"),
        (("1h",), None),  # it is over
        (("5m",), None),  # it may be a moment's
        (("30m", "6h"), "slow"),
        (("6h",), None),
        (("5m", "1h", "30m", "6h"), "fast"),
    ],
)
def test_an_alarm_needs_the_long_window_and_the_short_one(failing: tuple[str, ...], alarm: str | None) -> None:
    bad = {name: served(10_000, 150, 0, 1500) for name in failing}
    assert describe(everywhere(served(10_000), **bad), GOAL)["burning"] == {"availability": alarm, "latency": alarm}


def test_the_slow_alarm_begins_at_a_lower_rate_than_the_fast_one() -> None:
    burning = {n: describe(everywhere(served(10_000, n)), GOAL)["burning"]["availability"] for n in (59, 61, 143, 145)}
    assert burning == {59: None, 61: "slow", 143: "slow", 145: "fast"}


def test_where_little_is_asked_a_few_failures_are_no_alarm() -> None:
    burning = {n: describe(everywhere(served(20, n, 0, n)), GOAL)["burning"] for n in (FEWEST - 1, FEWEST)}
    assert burning[FEWEST - 1] == {"availability": None, "latency": None}
    assert burning[FEWEST] == {"availability": "fast", "latency": "fast"}


def test_a_quantile_is_estimated_as_prometheus_does() -> None:
    none = [0] * (len(BOUNDS) + 1)
    assert quantile(none, 0.95) is None
    half = [*none]
    half[BOUNDS.index(0.1)] = 100  # between 0.05 and 0.1
    assert quantile(half, 0.5) == pytest.approx(0.075)
    assert quantile(half, 1.0) == pytest.approx(0.1)
    first = [10, *none[1:]]
    assert quantile(first, 0.5) == pytest.approx(BOUNDS[0] / 2)
    beyond = [*none[:-1], 5]
    assert quantile(beyond, 0.95) == BOUNDS[-1]
    mixed = [90, *none[1:-1], 10]
    assert quantile(mixed, 0.9) == pytest.approx(BOUNDS[0])
    assert quantile(mixed, 0.95) == BOUNDS[-1]


def test_a_window_is_so_many_minutes_with_this_one(clock: Clock) -> None:
    assert minute(clock()) == "2026-01-31T12:00Z"
    assert since("5m", clock()) == "2026-01-31T11:56Z"
    assert since("30d", clock()) == "2026-01-01T12:01Z"


# ---- the round ------------------------------------------------------------------------------------------------------


class Kept:
    """Counters, a ledger, and a round that comes when the clock says so."""

    def __init__(self, store: Store, clock: Clock, folder: Path, name: str = ROUND) -> None:
        self.store, self.clock = store, clock
        self.counters = Counters(folder)
        self.counters.lay_out([("/a", "GET")])
        self.rounds = Rounds(store, clock)
        self.minutes = Minutes(store, self.rounds, self.counters, Tally(store), GOAL, clock, name)
        self.rounds.add(name, EVERY_SECONDS, self.minutes.go_round)

    def count(self, n: int, status: int = 200, total: float = 0.002) -> None:
        for _ in range(n):
            self.counters.enter()
            self.counters.answered("/a", "GET", status, (), total)

    def go_round(self, seconds: float = EVERY_SECONDS) -> dict[str, Any]:
        self.clock.forward(seconds=seconds)
        self.rounds.do_due()
        found = self.minutes.service()
        assert found is not None
        return found

    def rows(self) -> list[tuple[str, int, int]]:
        with self.store.reading() as connection:
            kept = connection.execute(select(table.c.minute, table.c.requests, table.c.failures).order_by("minute"))
            return [tuple(row) for row in kept]


@pytest.fixture
def kept(store: Store, clock: Clock, tmp_path: Path) -> Iterator[Kept]:
    found = Kept(store, clock, tmp_path / "counted")
    yield found
    found.counters.close()


def test_what_came_on_each_machine_adds_up(store: Store, clock: Clock, tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    names = [round_of(store, tmp_path / name) for name in ("a", "b")]
    assert (names == [ROUND, ROUND]) == store.is_file  # machines that share a ledger have one on a server
    here, there = (Kept(store, clock, tmp_path / name, f"minute {name}") for name in ("a", "b"))
    here.count(10)
    there.count(5, 500)
    here.go_round()
    assert there.go_round(0)["windows"]["1h"]["requests"] == 15
    here.count(1)
    assert here.go_round()["windows"]["1h"]["requests"] == 16
    assert sum(n for _, n, _ in here.rows()) == 16
    for one in (here, there):
        one.counters.close()


def test_a_host_keeps_the_name_that_it_gave_itself(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        [name] = set(pool.map(places.host, [tmp_path] * 32))
    assert (places.host(tmp_path), len(name)) == (name, 16)
    assert [path.name for path in tmp_path.iterdir()] == ["host"]
    assert places.host(tmp_path / "nowhere") == ""
    assert places.host(tmp_path) != places.host(Path(tempfile.mkdtemp(dir=tmp_path)))


def test_each_minute_keeps_what_came_in_it_and_a_quiet_one_takes_no_room(kept: Kept) -> None:
    assert kept.minutes.service() is None
    kept.count(10)
    kept.count(2, 500)
    kept.go_round()
    kept.go_round()
    kept.count(5)
    found = kept.go_round()
    assert kept.rows() == [("2026-01-31T12:01Z", 12, 2), ("2026-01-31T12:03Z", 5, 0)]
    assert found["at"] == "2026-01-31T12:03:00.123Z"
    assert (found["windows"]["1h"]["requests"], found["windows"]["1h"]["failures"]) == (17, 2)


def test_counters_that_begin_anew_count_all_they_have(kept: Kept, tmp_path: Path) -> None:
    kept.count(10)
    kept.go_round()
    [file] = (tmp_path / "counted").glob("metrics.*.bin")
    kept.counters.close()
    file.unlink()
    kept.count(3)
    assert kept.go_round()["windows"]["1h"]["requests"] == 13


def test_a_round_that_dies_half_way_counts_nothing_twice(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    kept.count(10)
    kept.go_round()
    kept.count(7)
    with monkeypatch.context() as patch:
        patch.setattr(kept.rounds, "_keep", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            kept.go_round()
    kept.count(1)
    assert kept.go_round()["windows"]["1h"]["requests"] == 18


def test_what_left_a_window_no_longer_counts_in_it_and_after_a_month_it_is_gone(kept: Kept) -> None:
    kept.count(10, 500)
    kept.go_round()
    found = kept.go_round(3600)
    assert found["windows"]["1h"]["requests"] == 0
    assert found["windows"]["6h"]["requests"] == 10
    found = kept.go_round(timedelta(days=30).total_seconds())
    assert found["windows"]["30d"]["requests"] == 0
    assert len(kept.rows()) == 1
    kept.go_round(timedelta(days=1).total_seconds())
    assert kept.rows() == []


def test_p95_of_the_last_hour_is_over_its_minutes(kept: Kept) -> None:
    kept.count(90, total=0.002)
    kept.go_round()
    kept.count(10, total=0.07)
    assert kept.go_round()["windows"]["1h"]["p95_seconds"] == pytest.approx(0.075)


def test_rows_of_a_version_with_other_bounds_do_not_stop_the_round(kept: Kept) -> None:
    kept.count(4)
    kept.go_round()
    with kept.store.writing() as connection:
        connection.execute(table.update().values(latency=[1, 2, 3]))
    kept.count(4)
    assert kept.go_round()["windows"]["1h"]["requests"] == 8


def test_one_process_writes_for_all(kept: Kept, store: Store, clock: Clock, tmp_path: Path) -> None:
    other = Kept(store, clock, tmp_path / "counted")  # the same counters, in another process
    kept.count(10)
    clock.forward(seconds=EVERY_SECONDS)
    other.rounds.do_due()
    kept.rounds.do_due()
    assert [n for _, n, _ in kept.rows()] == [10]
    assert kept.minutes.service() == other.minutes.service()
    other.counters.close()


# ---- shown ----------------------------------------------------------------------------------------------------------


def go_round(parts: Parts) -> None:
    with parts.store.writing() as connection:
        connection.exec_driver_sql("DELETE FROM rounds")  # due at once
    parts.rounds.do_due()


def test_the_page_and_the_api_tell_how_the_service_does(
    parts: Parts, page: FlaskClient, api: Any, example: dict[str, Any]
) -> None:
    assert "the service is in its first" in Page(page.get("/monitor").text).text
    for _ in range(3):
        api("post", "/predictions", json={"input": example})
    api("post", "/predictions", json={"input": {}})
    go_round(parts)
    found = api("get", "/monitor", role="review").json["service"]
    assert found["windows"]["1h"]["requests"] >= 4
    assert found["windows"]["1h"]["rejected"] > 0
    assert found["objectives"] == {
        "days": 30, "availability": 0.999, "latency_seconds": 0.1, "latency_share": 0.99,
    }  # fmt: skip
    assert page.get("/monitor.json").json["service"] == found
    text = Page(page.get("/monitor").text).text.replace("\u00a0", " ")
    assert "99.9 % of all requests should not fail" in text
    assert "answered within 100 ms" in text
    assert f"{100 * found['windows']['1h']['availability']:.3f} %" in text
    assert "% left of 30 days'" in text


def test_an_alarm_is_said_on_the_page(parts: Parts, page: FlaskClient) -> None:
    counters = parts.meter.counters
    for _ in range(100):
        counters.enter()
        counters.answered("/api/v1/predictions", "POST", 503, (), 0.2)
    go_round(parts)
    text = Page(page.get("/monitor").text).text
    assert "Too many requests fail: if it goes on so" in text
    assert "Too many requests take too long" in text
    assert parts.minutes.service()["burning"] == {"availability": "fast", "latency": "fast"}  # type: ignore[index]


def test_the_table_of_minutes_grows_by_a_row_a_minute_at_most(kept: Kept) -> None:
    for _ in range(5):
        kept.count(1)
        kept.go_round(10)
    kept.go_round()
    with kept.store.reading() as connection:
        assert connection.scalar(select(func.count()).select_from(table)) == 2
