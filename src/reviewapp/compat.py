"""Protocols that other tools speak: MLflow's and SageMaker's `/invocations`, the Open Inference Protocol below `/v2`.

A door like the API: what comes is translated into the requests of its batch route, checked and answered as those are,
and recorded as `api`. Errors are in the shape of the protocol. docs/compat.md says what neither can say.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from flask import Blueprint, Response, current_app, request

from . import __version__, bulk, dataframes, lookups, strictjson, tensors
from .adapter import ModelAdapter
from .bodies import batch_request
from .contract import Contract
from .errors import SHOWN_ERRORS, BadRequest, InvalidInput, NotFound, ReviewappError
from .parts import parts
from .prediction import Prediction
from .protocol import JSON_TYPE, answer, check_kind, read_body
from .security import EVERYBODY, needs

compat = Blueprint("compat", __name__)

MLFLOW = ("/invocations", "/ping", "/health", "/version")
CSV_TYPES = (bulk.CSV_TYPE, "application/csv")  # so MLflow's code has it, and so its documentation
METHODS = ("predict", "predict_proba")
HEADER_LENGTH = "Inference-Header-Content-Length"
_CODES = {  # MLflow's names of what went wrong
    401: "UNAUTHENTICATED", 403: "PERMISSION_DENIED", 404: "RESOURCE_DOES_NOT_EXIST", 429: "REQUEST_LIMIT_EXCEEDED",
    500: "INTERNAL_ERROR", 503: "TEMPORARILY_UNAVAILABLE", 507: "TEMPORARILY_UNAVAILABLE",
}  # fmt: skip


def is_spoken() -> bool:
    """Whether the address of this request belongs to one of the protocols here."""
    path = request.path
    return (path in MLFLOW or f"{path}/".startswith("/v2/")) and compat.name in current_app.blueprints


def refusal(error: ReviewappError) -> Response:
    """Return an error as the protocol of this address has it; both know no 422."""
    status = 400 if error.status == 422 else int(error.status)
    said = error.detail
    if error.errors:
        said = bulk.in_words(InvalidInput(error.errors[:SHOWN_ERRORS]))
        more = len(error.errors) - SHOWN_ERRORS
        said = f"{error.title}: {said}{f'; and {more:,} more' if more > 0 else ''}."
    if request.path in MLFLOW:
        return answer({"error_code": _CODES.get(status, "BAD_REQUEST"), "message": said}, status)
    return answer({"error": said}, status)


# ---- MLflow, SageMaker ------------------------------------------------------------------------------------------


@compat.post("/invocations")
@needs("submit")
def invoke() -> Response:
    """Answer rows: with labels or values, or, where `params` asks for it, with the probability of each label."""
    adapter, references, params = parts.registry.adapter(), list[str | None](), dict[str, Any]()
    kind, body = check_kind(JSON_TYPE, *CSV_TYPES), read_body(parts.settings.max_body)
    if kind == JSON_TYPE:
        rows, params = dataframes.of_json(strictjson.loads(body), adapter.contract)
        records = batch_request(adapter.contract).load({"inputs": rows})
    else:
        asked = dataframes.of_csv(body, adapter.contract)
        records, references = [row.record for row in asked], [row.reference for row in asked]
    regression = adapter.contract.outcome.task == "regression"
    method = params.get("predict_fn", METHODS[0])
    if method not in METHODS[: 1 if regression else 2]:
        raise BadRequest(f"params/predict_fn: this must be {' or '.join(METHODS[: 1 if regression else 2])}.")
    made = lookups.predict(adapter, records, references)
    member = "probabilities" if method == METHODS[1] else "value" if regression else "label"
    return answer({"predictions": [one.output[member] for one in made]})


@compat.get("/ping")
@compat.get("/health")
@needs(EVERYBODY)
def ping() -> Response:
    """What /readyz says; only the status counts."""
    lookups.ready()
    return answer({"status": "ready"})


@compat.get("/version")
@needs(EVERYBODY)
def version() -> Response:
    return Response(__version__, content_type="text/plain")


# ---- Open Inference Protocol ------------------------------------------------------------------------------------

MODEL = "/v2/models/<string:model>"
VERSION = f"{MODEL}/versions/<string:version>"


@compat.get("/v2", strict_slashes=False)
@needs(EVERYBODY)
def server_metadata() -> Response:
    return answer({"name": "reviewapp", "version": __version__, "extensions": ["binary_tensor_data"]})


@compat.get("/v2/health/live")
@needs(EVERYBODY)
def server_live() -> Response:
    return answer({"live": True})


@compat.get("/v2/health/ready")
@needs(EVERYBODY)
def server_ready() -> Response:
    lookups.ready()
    return answer({"ready": True})


@compat.get(f"{MODEL}/ready")
@compat.get(f"{VERSION}/ready")
@needs(EVERYBODY)
def model_ready(model: str, version: str | None = None) -> Response:
    _live(model, version)
    return answer({"name": lookups.ready(ledger=False).id.name, "ready": True})


@compat.get(MODEL)
@compat.get(VERSION)
@needs(EVERYBODY)
def model_metadata(model: str, version: str | None = None) -> Response:
    """Return the tensors of the live release: a column of the contract each, and what an answer is made of."""
    adapter = _live(model, version)
    inputs = [(field.name, tensors.datatype(field), [-1]) for field in adapter.contract.fields]
    outputs = [(name, kind, [-1, *shape[1:]]) for name, kind, shape, _ in _answers([], adapter.contract)]
    shown = {key: [dict(zip(("name", "datatype", "shape"), one, strict=True)) for one in those]
             for key, those in (("inputs", inputs), ("outputs", outputs))}  # fmt: skip
    versions = [str(adapter.release.id.version)]
    return answer({"name": model, "versions": versions, "platform": "sklearn_skops", **shown})


@compat.post(f"{MODEL}/infer")
@compat.post(f"{VERSION}/infer")
@needs("submit")
def infer(model: str, version: str | None = None) -> Response:
    """Answer the rows of a table that is sent column by column."""
    adapter, body = _live(model, version), read_body(parts.settings.max_body)
    length = request.headers.get(HEADER_LENGTH, str(len(body)))
    if not (length.isascii() and length.isdigit() and len(length) < 20 and int(length) <= len(body)):
        raise BadRequest(f"{HEADER_LENGTH} must be the number of bytes of the JSON.")
    asked = strictjson.loads(body[: int(length)])
    if type(asked) is not dict or type(asked.get("id", "")) is not str:
        raise BadRequest("The body must be an inference request: an object with `inputs`, perhaps an `id` (a text).")
    tensors.wanted(asked.get("outputs"), asked, list(_answers([], adapter.contract)))  # before anything is recorded
    columns = tensors.columns(asked.get("inputs"), body[int(length) :], adapter.contract)
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    made = lookups.predict(adapter, batch_request(adapter.contract).load({"inputs": rows}))
    outputs, blobs = [], []
    answers = list(_answers(made, adapter.contract))
    for (name, kind, shape, values), binary in tensors.wanted(asked.get("outputs"), asked, answers):
        output: dict[str, Any] = {"name": name, "datatype": kind, "shape": shape}
        if name == "probabilities":
            output["parameters"] = {"labels": strictjson.dumps(adapter.contract.outcome.labels).decode()}
        if binary:
            blobs.append(tensors.packed(kind, values))
            output.setdefault("parameters", {})["binary_data_size"] = len(blobs[-1])
        else:
            output["data"] = values
        outputs.append(output)
    live = adapter.release.id
    document = {"model_name": live.name, "model_version": str(live.version), "outputs": outputs}
    response = answer(document | ({"id": asked["id"]} if "id" in asked else {}))
    if blobs:
        response.headers[HEADER_LENGTH] = str(len(response.data))
        response.headers["Content-Type"] = "application/octet-stream"
        response.data = b"".join((response.data, *blobs))
    return response


def _live(name: str, version: str | None) -> ModelAdapter:
    """Return what answers; raise NotFound where it is another model, or another version of it."""
    adapter = parts.registry.adapter()
    live = adapter.release.id
    if name != live.name or version not in (None, str(live.version)):
        raise NotFound(f"There is no such model here; version {live.version} of {live.name} answers.")
    return adapter


def _answers(made: Sequence[Prediction], contract: Contract) -> Iterator[tensors.Tensor]:
    """Yield the tensors that say what was answered, a row for each prediction."""
    n, labels, outputs = len(made), contract.outcome.labels, [one.output for one in made]
    if contract.outcome.task == "regression":
        for name in ("value", "low", "high"):
            yield name, "FP64", [n], [output[name] for output in outputs]
    else:
        yield "label", tensors.TEXT, [n], [output["label"] for output in outputs]
        shares = [output["probabilities"][label] for output in outputs for label in labels]
        yield "probabilities", "FP64", [n, len(labels)], shares
    yield "decision", tensors.TEXT, [n], [one.decision for one in made]
    yield "prediction_id", tensors.TEXT, [n], [one.id for one in made]
