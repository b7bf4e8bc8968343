"""The JSON API: validate with the contract's schema, call the adapter, answer. Errors are RFC 9457 problems."""

from __future__ import annotations

from flask import Blueprint, Response, request
from flask.globals import request_ctx
from werkzeug.routing import BaseConverter
from werkzeug.urls import iri_to_uri

from . import bulk, lookups
from .bodies import SUMMARY, batch_request, move_request, prediction_request, promote_request, verdict_request
from .errors import BadRequest, ReviewappError
from .filters import LIST_OPTIONS, option
from .incoming import Incoming
from .metrics import CONTENT_TYPE, exposition
from .openapi import describe
from .parts import own_parts, parts
from .prediction import Call
from .protocol import (
    JSON_TYPE,
    PROBLEM_TYPE,
    answer,
    check_accept,
    check_kind,
    read_json,
    read_query,
    request_id,
    stream,
)
from .security import EVERYBODY, client, needs

api = Blueprint("api", __name__, url_prefix="/api/v1")
health = Blueprint("health", __name__)


class Name(BaseConverter):
    """What stands for an id or a name in an address: never what a route beside it is called, which has no GET."""

    regex = "(?!(?:batch|bulk)$)[^/\\0]+"  # no text that PostgreSQL keeps has a NUL


DRY_RUN = option("dry_run", "boolean", "Dry run", "Validate and answer, but record nothing: status 200, no id.")
PREDICT_OPTIONS = (
    option("explain", "boolean", "Explain", "Add what moved the answer."),
    option("compare", "boolean", "Compare", "Add what the other option answers."),
    DRY_RUN,
)


@api.before_request
def accept_json() -> None:
    """Refuse a client that cannot read JSON; a file of requests is answered in its own kind."""
    if request.endpoint != "api.create_bulk":
        check_accept(JSON_TYPE, PROBLEM_TYPE)


# ---- predictions ------------------------------------------------------------------------------------------------


@api.post("/predictions")
@needs("submit")
def create_prediction() -> Response:
    """Answer one request; 201 with the prediction once it is recorded."""
    own, asked = own_parts(), request_ctx.request
    adapter, options = own.registry.adapter(), _predict_options()
    record, reference = prediction_request(adapter.contract).load(read_json(own.settings.max_body))
    [made] = lookups.predict(adapter, [record], [reference], **options)
    if options["dry_run"]:
        return answer(made.as_json() | {"id": None})
    prefix = asked.root_path and iri_to_uri(asked.root_path)
    return answer(made.as_json(), 201, f"{prefix}{asked.path}/{made.id}")  # get_prediction's address


@api.post("/predictions/batch")
@needs("submit")
def create_predictions() -> Response:
    """Answer many requests at once: all of them, or, where a row is wrong, none."""
    adapter, options = parts.registry.adapter(), _predict_options()
    records = batch_request(adapter.contract).load(read_json(parts.settings.max_body))
    made = lookups.predict(adapter, records, [None] * len(records), **options)
    shown = [prediction.as_json() for prediction in made]
    if options["dry_run"]:
        shown = [prediction | {"id": None} for prediction in shown]
    return answer({"predictions": shown})


@api.post("/predictions/bulk")
@needs("submit")
def create_bulk() -> Response:
    """Answer a file of requests, each row for itself; read and answered as it comes, in the order of the rows."""
    own = own_parts()
    adapter, options = own.registry.adapter(), read_query((DRY_RUN, SUMMARY))
    kind = check_kind(*bulk.KINDS)
    check_accept(kind)
    if "Idempotency-Key" in request.headers:
        raise BadRequest("A file takes no Idempotency-Key: its rows are recorded one after another, not as one.")
    settings = own.settings
    body = Incoming(request_ctx.request, settings.max_bulk, settings.instance, proxied=settings.proxies > 0)
    try:
        rows = bulk.read(kind, body, adapter.contract, longest=settings.max_body, summary=bool(options["summary"]))
    except ReviewappError:
        body.close()
        raise
    call = Call(source="bulk", client=client().name, request_id=request_id(), dry_run=bool(options["dry_run"]))
    return stream(body.spread(bulk.answer(rows, adapter, call)), kind)


@api.get("/predictions/<prediction_id>")
@needs("submit")
def get_prediction(prediction_id: str) -> Response:
    """Return a prediction with its input and its verdicts; with the role submit only one's own."""
    return answer(lookups.prediction(prediction_id, hidden=True).as_record())


@api.get("/predictions")
@needs("review")
def list_predictions() -> Response:
    """Return predictions, filtered, in an order and in pages."""
    found, following = lookups.predictions()
    return answer({"predictions": [prediction.as_record() for prediction in found], "next": following})


@api.put("/predictions/<prediction_id>/verdict")
@needs("review")
def put_verdict(prediction_id: str) -> Response:
    """Append a verdict; the prediction with all of them is the answer."""
    prediction = lookups.prediction(prediction_id, hidden=True)
    values = verdict_request(prediction.outcome).load(read_json(parts.settings.max_body))
    return answer(lookups.add_verdict(prediction_id, values).as_record())


@api.delete("/predictions/<prediction_id>/verdict")
@needs("review")
def delete_verdict(prediction_id: str) -> Response:
    """Take the verdict that holds back; the history keeps it."""
    return answer(lookups.withdraw_verdict(prediction_id).as_record())


# ---- queue ------------------------------------------------------------------------------------------------------


@api.post("/queue/next")
@needs("review")
def next_in_queue() -> Response:
    """Lease the next record that waits for a person; 204 where none is left. Until it is judged it stays the next."""
    found = lookups.next_in_queue()
    if found is None:
        return Response(status=204)
    lease, prediction = found
    waiting = parts.desk.waiting(client().name)
    return answer(prediction.as_record() | {"blind": lease.blind, "leased_until": lease.until, "left": waiting.left})


@api.post("/queue/<prediction_id>/skip")
@needs("review")
def skip_in_queue(prediction_id: str) -> Response:
    """Put a leased record behind all others that wait."""
    parts.desk.skip(prediction_id, client().name)
    return answer(parts.desk.waiting(client().name).as_json())


def _predict_options() -> dict[str, bool]:
    return {name: bool(value) for name, value in read_query(PREDICT_OPTIONS).items()}


# ---- contract and releases --------------------------------------------------------------------------------------


@api.get("/contract")
@needs(EVERYBODY)
def get_contract() -> Response:
    """Return the contract of the live release: JSON Schema 2020-12 of one input object."""
    return answer(parts.registry.adapter().contract.as_json())


@api.get("/openapi.json")
@needs(EVERYBODY)
def get_openapi() -> Response:
    """Return the OpenAPI 3.1 document of this API with the live release's contract."""
    return answer(describe(parts.registry.adapter().contract, PREDICT_OPTIONS, LIST_OPTIONS))


@api.get("/releases")
@needs("submit")
def list_releases() -> Response:
    """Return every release there is, newest first."""
    return answer({"releases": lookups.releases()})


@api.get("/releases/active")
@needs("submit")
def get_active_release() -> Response:
    """Return the release that answers now, its policy and what it was evaluated at."""
    return answer(lookups.active_release())


@api.post("/releases/<int:version>/promote")
@needs("admin")
def promote_release(version: int) -> Response:
    """Let another version answer from now on; after the 200 no worker answers with the old one."""
    reason, breaking = promote_request().load(read_json(parts.settings.max_body))
    return answer(parts.registry.promote(version, reason, client().name, breaking).as_json())


@api.post("/releases/rollback")
@needs("admin")
def roll_back_release() -> Response:
    """Let the release that was live before answer again."""
    reason = move_request().load(read_json(parts.settings.max_body))
    return answer(parts.registry.roll_back(reason, client().name).as_json())


# ---- monitoring -------------------------------------------------------------------------------------------------


@api.get("/monitor")
@needs("review")
def get_monitor() -> Response:
    """Return the monitoring metric of the live release, its interval, and the state of the rollback trigger."""
    return answer(lookups.monitor())


# ---- health -----------------------------------------------------------------------------------------------------


@health.get("/livez")
@needs(EVERYBODY)
def livez() -> Response:
    """The process answers; nothing else is looked at."""
    return answer({"status": "alive"})


@health.get("/readyz")
@needs(EVERYBODY)
def readyz() -> Response:
    """In this worker the live release answers a golden request and the ledger can be written."""
    return answer({"status": "ready", "release": lookups.ready().id.as_json()})


@health.get("/metrics")
@needs(EVERYBODY)
def get_metrics() -> Response:
    """Tell Prometheus what all workers counted, what the ledger holds and how the live release does."""
    return Response(exposition(own_parts()), content_type=CONTENT_TYPE)
