"""What both doors read and write for whoever asks: the same filters, the same rows, the same rule of whose they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import Connection

from . import monitoring
from .adapter import ModelAdapter
from .desk import Lease
from .drift import ROUND
from .errors import Conflict, NotReady, ReleaseRefused, ReviewappError
from .field import Record
from .filters import LIST_OPTIONS, PAGE, with_times
from .finding import SORTS
from .parts import parts
from .policy import Policy
from .prediction import Call, Prediction, timestamp, utcnow, verdict_of
from .protocol import idempotency_key, read_query, request_id
from .release import Release
from .security import client


def predict(
    adapter: ModelAdapter,
    records: Sequence[Record],
    references: Sequence[str | None] = (),
    *,
    compare: bool = False,
    explain: bool = False,
    dry_run: bool = False,
) -> list[Prediction]:
    """Return the answers to checked records, recorded as whoever asks; once for an Idempotency-Key."""
    key = idempotency_key(client().name)
    if dry_run:
        key = None  # there is nothing to answer again
    call = Call(
        source="api",
        client=client().name,
        request_id=request_id(),
        references=references,
        key=key,
        dry_run=dry_run,
    )
    if key is None:
        return adapter.predict(records, call, compare=compare, explain=explain)
    with parts.ledger.claim(key) as answered:
        return adapter.predict(records, call, compare=compare, explain=explain) if answered is None else answered


def ready(*, ledger: bool = True) -> Release:
    """Return the live release; raise NotReady where in this worker it does not answer a golden request.

    So it does where the `ledger` cannot be written, if that is asked for: it costs a row.
    """
    try:
        adapter = parts.registry.adapter()
        problem = parts.registry.problem()
        if problem is not None:
            raise NotReady(f"The live release does not serve: {problem}", retry_after=10)
        adapter.check_golden(1)
        if ledger:
            parts.store.check_writable(timestamp(utcnow()))
    except ReviewappError as error:
        if isinstance(error, NotReady):
            raise
        kind = "release" if isinstance(error, ReleaseRefused) else "ledger"
        raise NotReady(f"The {kind} is not ready: {error.detail}", retry_after=10) from error
    return adapter.release


def prediction(prediction_id: str, *, hidden: bool = False) -> Prediction:
    """Return a prediction; who may not review sees only their own.

    What the reader is to judge blind is theirs with the options `hidden`, where that is allowed, else a Conflict.
    """
    found = parts.ledger.prediction(prediction_id, None if client().may("review") else client().name)
    if found.id not in to_be_judged():
        return found
    if not hidden:
        raise Conflict("You are to judge this record blind: give your own answer in the queue before you see this.")
    return replace(found, hidden=True)


def to_be_judged() -> set[str]:
    """Return the ids of what the reader is to judge without knowing the answer."""
    return parts.desk.hidden(client().name) if client().may("review") else set()


def predictions() -> tuple[list[Prediction], str | None]:
    """Return the predictions that the query asks for, in its order, and the cursor of the next page.

    What the reader is to judge blind is left out: a filter or an order by the answer would tell it.
    """
    filters = with_times(read_query(LIST_OPTIONS))
    limit, cursor, sort = filters.pop("limit") or PAGE, filters.pop("cursor"), filters.pop("sort") or SORTS[0]
    return parts.ledger.predictions(filters, limit, cursor, sort, to_be_judged())


def add_verdict(prediction_id: str, values: Mapping[str, Any]) -> Prediction:
    """Append a checked verdict in the name of who asks."""
    judged = parts.ledger.add_verdict(prediction_id, verdict_of(values, client().name, utcnow()))
    parts.watch.after_verdict()
    return judged


def add_verdict_in_turn(prediction_id: str, values: Mapping[str, Any]) -> Prediction:
    """Append what a reviewer says of the record that they have; raise Conflict where it is not theirs any more."""
    reviewer = client().name

    def check(connection: Connection) -> None:
        parts.desk.check(connection, prediction_id, reviewer)

    given = verdict_of(values, reviewer, utcnow())
    judged = parts.ledger.add_verdict(prediction_id, given, own_answer=True, check=check)
    parts.watch.after_verdict()
    return judged


def take_back_in_turn(prediction_id: str) -> Prediction:
    """Take one's own verdict back and have the record again, if it waits; raise Conflict where it is another's."""
    reviewer = client().name

    def take(connection: Connection) -> None:
        parts.desk.take(connection, prediction_id, reviewer)

    judged = parts.ledger.withdraw_verdict(prediction_id, reviewer, only_own=True, beside=take)
    parts.watch.after_verdict()
    return judged


def withdraw_verdict(prediction_id: str) -> Prediction:
    """Take the verdict that holds back."""
    judged = parts.ledger.withdraw_verdict(prediction_id, client().name)
    parts.watch.after_verdict()
    return judged


def next_in_queue() -> tuple[Lease, Prediction] | None:
    """Lease the next record that waits for whoever asks; None: none is left that nobody else has."""
    rules = policy()
    lease = parts.desk.next(client().name, lambda one: rules is not None and rules.blind(one))
    return None if lease is None else (lease, prediction(lease.prediction_id, hidden=True))


def policy() -> Policy | None:
    """Return the policy of the live release; None while nothing answers, when what waits can be judged all the same."""
    try:
        return parts.registry.adapter().release.policy
    except NotReady:
        return None


def monitor() -> dict[str, Any]:
    """Return the monitoring metric of what answers now, the state of the trigger, the drift, and the objectives."""
    release, seen = parts.registry.adapter().release, parts.registry.standing()
    found = monitoring.monitor(release, parts.ledger, seen if seen and seen.id == release.id else None)
    return found | {"drift": drift(release), "service": parts.minutes.service()}


def drift(release: Release) -> Mapping[str, Any] | None:
    """Return what the last round found of a release; None where none has looked at it yet."""
    found = parts.rounds.found(ROUND)
    return None if found is None or found.result["release"] != release.id.as_json() else found.result


def answers_with() -> str | None:
    """Return which option of the live release answers, None where nothing is live."""
    seen = parts.registry.standing()
    return None if seen is None else seen.option


def releases() -> list[dict[str, Any]]:
    """Return every release there is, newest first."""
    live = parts.registry.live()
    return [
        event.id.as_json() | {"active": event.id == live, "built_at": event.created_at}
        for event in parts.registry.built()
    ]


def active_release() -> dict[str, Any]:
    """Return the release that answers now, its policy and what it was evaluated at."""
    adapter = parts.registry.adapter()
    release = adapter.release
    return release.id.as_json() | {
        "answers_with": adapter.option,
        "policy": release.policy.as_json(),
        "evaluation": release.evaluation,
        "libraries": release.libraries,
        "engine": release.engine.as_json(),
        "problem": parts.registry.problem(),
    }
