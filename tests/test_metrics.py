"""/metrics: equal to the ledger whatever is killed, no more series however much is asked, and told also in trouble."""

import logging
import os
import random
import re
import signal
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import func, select
from werkzeug.test import EnvironBuilder

from reviewapp import tally as tallying
from reviewapp.errors import NotReady, StoreBusy
from reviewapp.metrics import of_drift, of_monitor
from reviewapp.parts import Parts
from reviewapp.prediction import Call, Prediction
from reviewapp.registry import Registry
from reviewapp.release import Release, ReleaseId
from reviewapp.store import Store
from reviewapp.tables import predictions
from reviewapp.tally import Kind, Tally

from .conftest import Clock
from .service import Service
from .verdicts import judge

Labels = frozenset[tuple[str, str]]
Samples = dict[tuple[str, Labels], float]


def read(text: str) -> Samples:
    """Every sample by its name and labels."""
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def scrape(app: Flask) -> Samples:
    response = app.test_client().get("/metrics")
    assert response.status_code == 200
    assert response.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    return read(response.text)


def figure(samples: Samples, name: str, /, **labels: str) -> float | None:
    return samples.get((f"reviewapp_{name}", frozenset(labels.items())))


def named(samples: Samples, name: str) -> dict[Labels, float]:
    return {labels: value for (one, labels), value in samples.items() if one == f"reviewapp_{name}"}


# ---- one app --------------------------------------------------------------------------------------------------------


def test_requests_are_told_by_route_method_and_status(app: Flask, api: Any, example: dict[str, Any]) -> None:
    for _ in range(3):
        api("post", "/predictions", json={"input": example})
    api("post", "/predictions", json={"input": {**example, "channel": "pigeon", "open_tickets": -1}})
    api("get", "/predictions/none")
    api("get", "/predictions", role=None)
    app.test_client().open("/nothing", method="BREW")
    found = scrape(app)
    route = "/api/v1/predictions"
    assert figure(found, "requests_total", route=route, method="POST", status="201") == 3
    assert figure(found, "requests_total", route=route, method="POST", status="422") == 1
    assert figure(found, "requests_total", route=route, method="GET", status="401") == 1
    assert figure(found, "requests_total", route=f"{route}/<prediction_id>", method="GET", status="404") == 1
    assert figure(found, "requests_total", route="other", method="other", status="404") == 1
    assert figure(found, "rejected_total", code="not_a_choice") == 1
    assert figure(found, "rejected_total", code="too_small") == 1
    assert figure(found, "rejected_total", code="unauthenticated") == 1
    assert figure(found, "rejected_total", code="not-found") == 2
    assert figure(found, "request_seconds_count", stage="predict") == 3
    assert figure(found, "request_seconds_count", stage="total") == 7
    assert figure(found, "request_seconds_bucket", stage="total", le="+Inf") == 7
    assert figure(found, "ledger_commit_seconds_count") == 3
    assert figure(found, "requests_in_flight") == 1  # the one that asks
    assert figure(found, "slo_requests_total") == 6


def start_response(*_: Any) -> Any:
    """As a server gives it to an app; nobody reads the head here."""
    return lambda _: None


def test_a_stream_is_in_flight_until_its_end_and_its_time_goes_on(app: Flask, parts: Parts, auth: Any) -> None:
    header = ",".join(field.name for field in parts.registry.adapter().contract.fields)
    kind = {"Content-Type": "text/csv", "Accept": "text/csv"}
    sent = f"{header}\r\n" + "s,b,email,free,1,2,true\r\n" * 500  # in several pieces
    counters = parts.meter.counters
    for read_all in (True, False):
        asked = EnvironBuilder(
            path="/api/v1/predictions/bulk", method="POST", data=sent, headers={**auth("submit"), **kind}
        )
        body: Any = app.wsgi_app(asked.get_environ(), start_response)
        pieces = iter(body)
        next(pieces)
        assert counters.totals().in_flight == 1
        if read_all:
            assert list(pieces)
            assert counters.totals().in_flight == 0
        body.close()
        assert counters.totals().in_flight == 0
    assert counters.totals().requests[("/api/v1/predictions/bulk", "POST", "200")] == 2
    assert counters.totals().in_flight == 0


def test_a_failure_outside_of_the_app_is_counted_as_one(app: Flask, parts: Parts) -> None:
    def broken(environ: Any, start_response: Any) -> Any:
        raise RuntimeError("broken")

    with pytest.raises(RuntimeError):
        parts.meter.wrap(broken)({"REQUEST_METHOD": "GET"}, start_response)
    assert parts.meter.counters.totals().requests == {("other", "GET", "500"): 1}
    assert parts.meter.counters.totals().in_flight == 0


def test_predictions_are_those_of_the_ledger_by_release_option_label_and_decision(
    app: Flask, parts: Parts, records: list[dict[str, Any]], release: Release
) -> None:
    parts.registry.adapter().predict(records, Call())
    parts.registry.adapter().predict(records[:5], Call(), option="baseline")
    kept = predictions.c
    kinds = (kept.option, kept.label, kept.decision)
    with parts.store.reading() as connection:
        rows = connection.execute(select(*kinds, func.count()).group_by(*kinds)).all()
    told = named(scrape(app), "predictions_total")
    assert told == {
        frozenset({"release": str(release.id), "option": o, "label": label, "decision": d}.items()): n
        for o, label, d, n in rows
    }
    assert sum(told.values()) == 55


def test_the_state_of_the_release_is_told(app: Flask, parts: Parts, release: Release) -> None:
    first = scrape(app)
    assert figure(first, "trigger_state") == 0
    assert named(first, "error_rate") == {}
    assert figure(first, "referred_share") is None
    judge(parts, "+" * 30 + "-" * 3)
    found = scrape(app)
    assert figure(found, "trigger_state") == 1
    assert figure(found, "error_rate", bound="value") == pytest.approx(3 / 33)
    low, high = (figure(found, "error_rate", bound=bound) or 0.0 for bound in ("low", "high"))
    assert 0 < low < 3 / 33 < high
    assert figure(found, "error_rate_limit") == release.policy.rollback.limit
    assert figure(found, "fallback_active") == 0
    assert figure(found, "audits_waiting") == 0
    assert figure(found, "verdict_age_seconds") is not None
    digest, name, version = release.id.digest, release.id.name, str(release.id.version)
    assert figure(found, "release_info", name=name, version=version, digest=digest) == 1
    assert len(named(found, "build_info")) == 1
    assert figure(found, "ready") == figure(found, "ledger_up") == figure(found, "ledger_writable") == 1
    assert (figure(found, "ledger_bytes") or 0) > 10_000


def test_a_trigger_that_fired_and_the_fallback_are_told(app: Flask, parts: Parts) -> None:
    judge(parts, "+" * 30 + "-" * 60)
    parts.watch.look()
    found = scrape(app)
    assert figure(found, "trigger_state") == 2
    assert figure(found, "fallback_active") == (parts.registry.adapter().option == "baseline")


def told_by(families: Iterator[Any]) -> dict[str, list[float]]:
    return {family.name.removeprefix("reviewapp_"): [one.value for one in family.samples] for family in families}


def test_figures_that_a_document_does_not_have_are_left_out() -> None:
    assert told_by(of_monitor({})) == {
        "error_rate": [], "fallback_active": [0.0], "audits_waiting": [0.0], "drift": [], "drift_alarms": [0.0],
    }  # fmt: skip
    fallen = {"answers_with": "baseline", "trigger": {"state": "above_limit", "limit": 0.2}}
    told = told_by(of_monitor(fallen))
    assert (told["fallback_active"], told["trigger_state"], told["error_rate_limit"]) == ([1.0], [2.0], [0.2])


def test_drift_is_told_for_each_signal_that_was_tested() -> None:
    signals = [
        {"field": "channel", "signal": "values", "adjusted_p": 0.001, "alarm": True},
        {"field": "body", "signal": "length", "adjusted_p": None, "alarm": False},
        {"field": None, "signal": "answers", "adjusted_p": 1.0, "alarm": False},
    ]
    families = {family.name: family for family in of_drift({"signals": signals})}
    assert [(one.labels, one.value) for one in families["reviewapp_drift"].samples] == [
        ({"field": "channel", "signal": "values"}, 0.001),
        ({"field": "", "signal": "answers"}, 1.0),
    ]
    assert [one.value for one in families["reviewapp_drift_alarms"].samples] == [1.0]


def test_each_metric_is_documented_and_no_other(app: Flask, parts: Parts, api: Any) -> None:
    api("get", "/releases")
    judge(parts, "+" * 30 + "-" * 3)
    parts.rounds.do_due()
    text = (Path(__file__).parent.parent / "docs" / "metrics.md").read_text(encoding="utf-8")
    cells = [line.split("|")[1] for line in text.splitlines() if line.startswith("| `")]
    documented = {name for cell in cells for name in re.findall(r"`(\w+)`", cell)}
    told = {name.removeprefix("reviewapp_") for name, _ in scrape(app)}
    assert documented == {re.sub("_(bucket|count|sum)$", "", name) for name in told} | {"drift"}


# ---- bounds ---------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("untraced")  # ten thousand requests, each through the same lines
def test_however_much_is_asked_there_are_no_more_series(app: Flask, auth: Any, rng: random.Random) -> None:
    client, headers = FlaskClient(app), auth("submit")  # the answers need not be held against their document

    def ask(n: int) -> None:
        for _ in range(n):
            made_up = f"{rng.getrandbits(64):x}"
            client.get(f"/api/v1/predictions/{made_up}", headers={**headers, "X-Request-ID": made_up})
            client.get(f"/{made_up}?{made_up}={made_up}", headers={"Host": f"{made_up}.example"})
            client.open("/livez", method=f"M{made_up[:5].upper()}")
            client.get(f"/static/{made_up}", headers={"Accept": made_up, "User-Agent": made_up})

    ask(20)
    before, size = set(scrape(app)), sum(path.stat().st_size for path in counted(app))
    ask(2500)
    assert set(scrape(app)) - before <= {key for key in scrape(app) if dict(key[1]).get("route") == "/metrics"}
    assert sum(path.stat().st_size for path in counted(app)) == size


def counted(app: Flask) -> list[Path]:
    return list(Path(app.instance_path).glob("metrics.*"))


def test_two_scrapes_of_everybody_are_alike_and_need_no_token(app: Flask, api: Any, example: dict[str, Any]) -> None:
    api("post", "/predictions", json={"input": example})
    one, other = scrape(app), scrape(app)
    assert set(one.keys() ^ other.keys()) == {
        ("reviewapp_requests_total", frozenset({("route", "/metrics"), ("method", "GET"), ("status", "200")}))
    }


# ---- trouble --------------------------------------------------------------------------------------------------------


def test_while_another_process_writes_all_but_that_is_told(app: Flask, parts: Parts, api: Any) -> None:
    api("get", "/releases")
    other = Store(f"sqlite:///{parts.store.path}")
    with other.writing():
        found = scrape(app)
    other.close()
    assert (figure(found, "ledger_up"), figure(found, "ledger_writable")) == (1, 0)
    assert figure(found, "ready") == 1
    assert figure(scrape(app), "ledger_writable") == 1


def test_without_a_ledger_what_the_workers_counted_is_told(
    app: Flask, parts: Parts, api: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    api("get", "/releases")

    def busy(*_: Any, **__: Any) -> Any:
        raise StoreBusy("The ledger's file is damaged; restore a backup.")

    monkeypatch.setattr(Store, "turn", busy)
    monkeypatch.setattr(Store, "reading", busy)
    monkeypatch.setattr(Store, "lookup", busy)
    with caplog.at_level(logging.WARNING, "reviewapp"):
        found = scrape(app)
    assert (figure(found, "ledger_up"), figure(found, "ledger_writable")) == (0, 0)
    assert figure(found, "requests_total", route="/api/v1/releases", method="GET", status="200") == 1
    assert named(found, "predictions_total") == {}
    assert any("damaged" in record.getMessage() for record in caplog.records)


def test_without_a_release_that_answers_the_rest_is_told(app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(self: Registry) -> Any:
        raise NotReady("No release can be loaded.")

    monkeypatch.setattr(Registry, "adapter", none)
    found = scrape(app)
    assert (figure(found, "ready"), figure(found, "ledger_up")) == (0, 1)
    assert figure(found, "trigger_state") is None
    assert len(named(found, "release_info")) == 1


# ---- the tally ------------------------------------------------------------------------------------------------------


@pytest.fixture
def add(parts: Parts, records: list[dict[str, Any]]) -> Callable[[int], list[Prediction]]:
    return lambda n: parts.registry.adapter().predict(records[:n], Call())


def test_each_prediction_is_counted_once_by_a_process(
    parts: Parts, add: Callable[[int], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    tally = Tally(parts.store)
    count = tally._count
    monkeypatch.setattr(tally, "_count", lambda until: (asked.append(until - tally._seq), count(until)))
    assert tally.catch_up() == {}
    for n in (7, 3):
        add(n)
        tally.catch_up()
        counts = tally.catch_up()
    assert counts is not None
    assert sum(counts.values()) == 10
    assert asked == [7, 3]
    assert all(kind.release == "triage/1" and kind.option == "model" for kind in counts)


def test_a_checkpoint_spares_a_new_process_all_before_it(parts: Parts, add: Callable[[int], Any]) -> None:
    first = Tally(parts.store)
    add(8)
    before = first.catch_up()
    checkpoint = first.checkpoint()
    second = Tally(parts.store)
    assert second.catch_up(checkpoint, seconds=-1) == before  # no time to count anything
    add(2)
    assert second.catch_up(checkpoint) == first.catch_up()


def test_a_long_ledger_is_counted_in_parts_and_told_only_once_it_is_counted(
    parts: Parts, add: Callable[[int], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tallying, "AT_ONCE", 3)
    add(10)
    ticks = iter(range(1000))
    monkeypatch.setattr(tallying.time, "monotonic", lambda: next(ticks))
    tally = Tally(parts.store)
    assert tally.catch_up(seconds=2) is None
    assert 0 < tally.checkpoint()["seq"] < 10
    while (counts := tally.catch_up(seconds=2)) is None:
        pass
    assert sum(counts.values()) == 10


def test_another_ledger_in_its_place_is_counted_anew(parts: Parts, add: Callable[[int], Any], tmp_path: Path) -> None:
    add(5)
    tally = Tally(parts.store)
    tally.catch_up()
    stale = {**tally.checkpoint(), "id": "another"}
    assert sum((Tally(parts.store).catch_up(stale) or {}).values()) == 5
    tally._id = "another"
    assert sum((tally.catch_up() or {}).values()) == 5


def test_a_number_has_an_empty_label(store: Store, clock: Clock) -> None:
    with store.writing() as connection:
        connection.execute(
            predictions.insert().values(
                id="p-1", created_at="2026-01-31T12:00:00.000Z", release_name="price", release_version=2,
                release_digest="sha256:ab", option="model", source="api", client="ann", request_id="r", input={},
                output={"value": 1.0}, label=None, decision="auto", reasons=[], warnings=[],
            )
        )  # fmt: skip
    assert Tally(store).catch_up() == {Kind("price/2", "model", "", "auto"): 1}
    assert str(ReleaseId("price", 2, "sha256:ab")) == "price/2"


# ---- several workers ------------------------------------------------------------------------------------------------


@pytest.mark.server
def test_workers_that_are_killed_leave_counters_that_equal_the_ledger_and_no_gauge_that_is_stuck(
    make_service: Callable[..., Service], example: dict[str, Any]
) -> None:
    with make_service(REVIEWAPP_WORKERS="3") as service:
        token = service.token("a", "submit")
        headers, body = {"Authorization": f"Bearer {token}"}, {"input": example}

        def ask(i: int) -> int:
            try:
                return service.call("POST", "/api/v1/predictions", body, headers, fresh=True)[0]
            except OSError:
                return 0

        answered: list[int] = []
        with ThreadPoolExecutor(8) as pool:
            for _ in range(5):
                asked = pool.map(ask, range(60))
                os.kill(random.choice(service.workers()), signal.SIGKILL)
                answered += asked
        service.stop()
        service.start()  # a restart takes nothing away
        answered += [ask(0) for _ in range(20)]
        expected = count_rows(service.instance)
        ends = time.monotonic() + 20
        while True:  # whichever worker is asked; one that was killed has its successor by then
            texts = [service.call("GET", "/metrics", fresh=True)[1] for _ in range(6)]
            found = [read(text) for text in texts]
            if {figure(one, "requests_in_flight") for one in found} == {1} or time.monotonic() > ends:
                break
        for one in found:
            assert sum(named(one, "predictions_total").values()) == expected
            assert figure(one, "requests_in_flight") == 1
        told = figure(found[-1], "requests_total", route="/api/v1/predictions", method="POST", status="201")
        assert told is not None
        assert answered.count(201) <= told <= expected  # a worker may die between the commit, the count and the answer
    assert len(list(service.instance.glob("metrics*"))) == 1


def count_rows(instance: Path) -> int:
    store = Store(f"sqlite:///{instance / 'reviewapp.sqlite3'}", read_only=True)
    try:
        with store.reading() as connection:
            return connection.scalar(select(func.count()).select_from(predictions)) or 0
    finally:
        store.close()


@pytest.mark.server
def test_what_a_worker_refuses_by_itself_is_counted(service: Service) -> None:
    def refusals() -> tuple[float, float]:
        found = read(service.call("GET", "/metrics")[1])
        return (
            figure(found, "requests_total", route="other", method="other", status="414") or 0.0,
            figure(found, "rejected_total", code="address-too-long") or 0.0,
        )

    before = refusals()
    with socket.create_connection(("127.0.0.1", service.port), timeout=10) as client:
        client.sendall(b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        assert b" 414 " in client.recv(100)
    assert refusals() == (before[0] + 1, before[1] + 1)
