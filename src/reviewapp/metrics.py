"""What Prometheus reads: the counters of all workers, what the ledger holds, how the live release does.

Whichever worker is asked, they tell the same, but for whether it is ready itself. Values of labels come from the code,
a contract or the log of releases, never from a request, so that the series are no more however much is asked. Where
the ledger does not answer, the rest is told.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any

from prometheus_client import generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.registry import Collector
from sqlalchemy import select

from . import __version__, lookups
from .counters import Histogram, Totals
from .errors import ReviewappError
from .parts import Parts
from .prediction import timestamp, utcnow
from .tables import verdicts
from .trigger import ABOVE, TOO_FEW, WITHIN

log = logging.getLogger("reviewapp")

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4
TRIGGER = {TOO_FEW: 0, WITHIN: 1, ABOVE: 2}


def exposition(parts: Parts, clock: Callable[[], datetime] = utcnow) -> bytes:
    """Return all metrics, in Prometheus' text format."""
    return generate_latest(_Metrics(parts, clock()))


class _Metrics(Collector):
    def __init__(self, parts: Parts, now: datetime) -> None:
        self._parts, self._now = parts, now

    def collect(self) -> Iterable[Metric]:
        yield _info("build", "The version of reviewapp that runs; always 1.", {"version": __version__})
        yield from of_requests(self._parts.meter.counters.totals())
        yield from self._of_ledger()

    def _of_ledger(self) -> Iterator[Metric]:
        """Tell what only the ledger knows; the first question that it does not answer is the last."""
        found: list[Metric] = []
        writable = _answers(lambda: self._parts.store.check_writable(timestamp(self._now)))
        readable = _answers(lambda: found.extend(self._asked()))
        yield _gauge("ledger_up", "Whether the ledger can be read: 0 or 1.", readable)
        yield _gauge("ledger_writable", "Whether the ledger can be written: 0 or 1.", writable)
        yield from found

    def _asked(self) -> Iterator[Metric]:
        parts = self._parts
        yield _gauge("ledger_bytes", "Size of the ledger's file and its log.", parts.store.size())
        yield from of_predictions(parts)
        yield from of_verdicts(parts, self._now)
        yield from of_service(parts.minutes.service())
        yield from of_release(parts)


# ---- requests -----------------------------------------------------------------------------------------------------


def of_requests(totals: Totals) -> Iterator[Metric]:
    """Tell what the workers counted."""
    requests = CounterMetricFamily(
        "reviewapp_requests", "Requests that were answered; `other` is what matches no route.",
        labels=("route", "method", "status"),
    )  # fmt: skip
    for labels, n in totals.requests.items():
        requests.add_metric(labels, n)
    yield requests
    stages = HistogramMetricFamily(
        "reviewapp_request_seconds", "How long requests took: each stage that ran, and all of it.", labels=("stage",)
    )
    for stage, taken in totals.stages.items():
        stages.add_metric((stage,), taken.cumulative(), taken.seconds)
    yield stages
    yield _gauge("requests_in_flight", "Requests that are being answered.", totals.in_flight)
    rejected = CounterMetricFamily(
        "reviewapp_rejected", "Requests refused (4xx), by the codes of their mistakes or the kind of the problem.",
        labels=("code",),
    )  # fmt: skip
    for code, n in totals.rejected.items():
        rejected.add_metric((code,), n)
    yield rejected
    yield _histogram("ledger_commit_seconds", "How long the ledger took to keep predictions.", totals.commits)
    yield _counter("log_lines_dropped", "Lines of the log that were not written: nobody read it.", totals.dropped)
    served = totals.served
    for name, n, text in (
        ("requests", served.requests, "Requests that the objectives are about."),
        ("failures", served.failures, "Those of them that failed (a status of 500 or more)."),
        ("timed", sum(served.latency), "Those of them whose time counts: all but whole files."),
        ("slow", served.slow, "Those whose time counts that took longer than the objective says."),
    ):
        yield _counter(f"slo_{name}", text, n)


# ---- what the ledger holds ------------------------------------------------------------------------------------------


def of_predictions(parts: Parts) -> Iterator[Metric]:
    """Tell how many predictions there are; nothing as long as a long ledger is still being counted."""
    counted = parts.tally.catch_up(parts.minutes.counted())
    if counted is None:
        return
    predictions = CounterMetricFamily(
        "reviewapp_predictions", "Predictions in the ledger; the label of a number is empty.",
        labels=("release", "option", "label", "decision"),
    )  # fmt: skip
    for kind, n in counted.items():
        predictions.add_metric(kind, n)
    yield predictions


def of_verdicts(parts: Parts, now: datetime) -> Iterator[Metric]:
    """Tell how long ago the last verdict was given; where there is none, when the first release went live."""
    with parts.store.reading() as connection:
        last = connection.scalar(select(verdicts.c.created_at).order_by(verdicts.c.seq.desc()).limit(1))
    if last is None:
        last = next((event.created_at for event in reversed(parts.registry.events())), None)
    if last is not None:
        age = (now - datetime.fromisoformat(last)).total_seconds()
        yield _gauge(
            "verdict_age_seconds", "Time since the last verdict; without any, since the first release.", max(0.0, age)
        )


# ---- the live release -----------------------------------------------------------------------------------------------


def of_release(parts: Parts) -> Iterator[Metric]:
    """Tell which release is live, whether it serves in this worker, and how it does."""
    live = parts.registry.live()
    if live is not None:
        yield _info("release", "The release that is live; always 1.", {k: str(v) for k, v in live.as_json().items()})
    found: list[Metric] = []
    serves = _answers(lambda: found.extend(of_monitor(lookups.monitor())))
    ready = serves and parts.registry.problem() is None
    yield _gauge("ready", "Whether the live release answers in the worker that was asked: 0 or 1.", ready)
    yield from found


def of_monitor(found: Mapping[str, Any]) -> Iterator[Metric]:
    """Tell the figures of `GET /api/v1/monitor`; one that is not known yet is left out."""
    metric, trigger = found.get("metric", {}), found.get("trigger", {})
    rate = GaugeMetricFamily(
        "reviewapp_error_rate", "Share of wrong answers among those used without a person, with its interval.",
        labels=("bound",),
    )  # fmt: skip
    if metric.get("value") is not None:
        for bound in ("value", "low", "high"):
            rate.add_metric((bound,), metric[bound])
    yield rate
    waiting = max(0, metric.get("drawn", 0) - metric.get("verdicts", 0))
    for name, text, value in (
        ("error_rate_limit", "The error rate above which the trigger fires.", trigger.get("limit")),
        ("trigger_state", "0: too few verdicts, 1: within, 2: above the limit.", TRIGGER.get(trigger.get("state", ""))),
        ("fallback_active", "Whether the baseline answers in the model's place: 0 or 1.",
         found.get("answers_with", "model") == "baseline"),
        ("audits_waiting", "Automatic answers drawn for a check that no verdict tells of.", waiting),
        ("referred_share", "Share of predictions that go to a person.", found.get("referred", {}).get("value")),
    ):  # fmt: skip
        if value is not None:
            yield _gauge(name, text, value)
    yield from of_drift(found.get("drift") or {})


def of_drift(found: Mapping[str, Any]) -> Iterator[Metric]:
    """Tell what the last look for drift found; the field of the answers is empty."""
    drift = GaugeMetricFamily(
        "reviewapp_drift", "How likely chance alone differs from the table so much, adjusted for all signals.",
        labels=("field", "signal"),
    )  # fmt: skip
    signals = found.get("signals", ())
    for one in signals:
        if one["adjusted_p"] is not None:
            drift.add_metric((one["field"] or "", one["signal"]), one["adjusted_p"])
    yield drift
    alarms = sum(bool(one["alarm"]) for one in signals)
    yield _gauge("drift_alarms", "Signals by which the last requests differ from the table.", alarms)


def of_service(found: Mapping[str, Any] | None) -> Iterator[Metric]:
    """Tell how the service stands to its objectives, as of the last minute."""
    if found is None:
        return
    goals = {"availability": found["objectives"]["availability"], "latency": found["objectives"]["latency_share"]}
    goal = GaugeMetricFamily("reviewapp_slo_objective", "Share of requests that must be good.", labels=("objective",))
    left = GaugeMetricFamily(
        "reviewapp_slo_budget_left", "Share of 30 days' error budget that is left.", labels=("objective",)
    )
    burn = GaugeMetricFamily(
        "reviewapp_slo_burn_rate", "How fast the error budget is used up; at 1 it lasts 30 days.",
        labels=("objective", "window"),
    )  # fmt: skip
    for name, share in goals.items():
        goal.add_metric((name,), share)
        if found["budget_left"][name] is not None:
            left.add_metric((name,), found["budget_left"][name])
        for window, figures in found["windows"].items():
            if figures["burn_rate"][name] is not None:
                burn.add_metric((name, window), figures["burn_rate"][name])
    yield from (goal, left, burn)


# ---- single figures -------------------------------------------------------------------------------------------------


def _answers(ask: Callable[[], object]) -> bool:
    """Whether what is asked succeeds; why not goes to the log."""
    try:
        ask()
    except ReviewappError as error:
        log.warning("/metrics cannot tell all: %s", error.detail)
        return False
    return True


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(f"reviewapp_{name}", text, value=float(value))


def _counter(name: str, text: str, value: float) -> Metric:
    return CounterMetricFamily(f"reviewapp_{name}", text, value=value)


def _histogram(name: str, text: str, taken: Histogram) -> Metric:
    return HistogramMetricFamily(f"reviewapp_{name}", text, buckets=taken.cumulative(), sum_value=taken.seconds)


def _info(name: str, text: str, labels: Mapping[str, str]) -> Metric:
    told = GaugeMetricFamily(f"reviewapp_{name}_info", text, labels=tuple(labels))
    told.add_metric(tuple(labels.values()), 1.0)
    return told
