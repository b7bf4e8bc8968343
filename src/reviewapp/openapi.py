"""Contract → OpenAPI 3.1: what every route takes and answers, put together with apispec from the one contract."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from apispec import APISpec

from . import __version__, strictjson
from .bodies import REFERENCE, SUMMARY
from .bulk import CSV_TYPE, NDJSON_TYPE
from .components import TEXT, Schema, components, member, ref
from .contract import Contract
from .field import Field
from .finding import CURSOR
from .samples import csv_template, example_record

_PROBLEMS = {  # status → when
    "400": "The body is not strict JSON, or the request cannot be read.",
    "401": "No token, or one that is unknown, expired or revoked.",
    "403": "The token's role does not allow this, or another site sent it.",
    "404": "There is no such thing.",
    "406": "The client cannot read the kind that the route answers in.",
    "409": "It meets another request that is under way or came first.",
    "413": "The body is larger than the limit.",
    "415": "The body is of a kind that the route does not read, or is encoded.",
    "422": "A rule is broken; `errors` names every one (the first 50) with its pointer.",
    "500": "The service failed; the request id finds the cause in its log.",
    "503": "Not ready or busy; ask again after Retry-After seconds.",
    "507": "The disk of the ledger is full; nothing was recorded.",
}


def describe(contract: Contract, predict_options: Sequence[Field], list_options: Sequence[Field]) -> dict[str, Any]:
    """Return the document for a contract; the options are the query fields that the API reads."""
    spec = APISpec(
        title=contract.title or contract.name,
        version=__version__,
        openapi_version="3.1.0",
        info={"description": contract.description or "A reviewed model as a service."},
        security=[{"bearer": []}],
    )
    spec.components.security_scheme("bearer", {"type": "http", "scheme": "bearer"})
    for name, schema in components(contract).items():
        spec.components.schema(name, schema)
    _paths(spec, contract, predict_options, list_options)
    document: dict[str, Any] = spec.to_dict()
    return document


def _paths(spec: APISpec, contract: Contract, predict_options: Sequence[Field], list_options: Sequence[Field]) -> None:
    predict = [_parameter(field) for field in predict_options] + [_IDEMPOTENCY_KEY]
    prediction_id = {"name": "prediction_id", "in": "path", "required": True, "schema": TEXT}
    example = {"input": example_record(contract), "reference": REFERENCE.example}
    add = {
        "/api/v1/predictions": {
            "get": _operation("List predictions, filtered and in an order", "PredictionPage", "401 403 406 422 503",
                              parameters=[_parameter(field) for field in list_options]),
            "post": _operation("Answer one request", "Prediction", _BODY, status="201", also={"200": "Prediction"},
                               body="PredictionRequest", example=example, parameters=predict),
        },
        "/api/v1/predictions/batch": {
            "post": _operation("Answer many requests, all or none", "Predictions", _BODY, body="BatchRequest",
                               example={"inputs": [example["input"]]}, parameters=predict),
        },
        "/api/v1/predictions/bulk": {"post": _bulk(contract, example, predict_options)},
        "/api/v1/predictions/{prediction_id}": {
            "get": _operation("Read a prediction and its verdicts", "PredictionRecord", "401 404 406 503",
                              parameters=[prediction_id]),
        },
        "/api/v1/predictions/{prediction_id}/verdict": {
            "put": _operation("Say what a person thinks of it", "PredictionRecord", _BODY + " 404",
                              body="VerdictRequest", example={"verdict": "agree"}, parameters=[prediction_id]),
            "delete": _operation("Take the verdict back", "PredictionRecord", _BODILESS + " 404",
                                 parameters=[prediction_id]),
        },
        "/api/v1/queue/next": {
            "post": _operation("Lease the next record that waits for a person", "QueueRecord", _BODILESS,
                               also={"204": None}),
        },
        "/api/v1/queue/{prediction_id}/skip": {
            "post": _operation("Put a leased record behind all others", "Waiting", _BODILESS + " 404 409",
                               conflict="The caller does not have this record.", parameters=[prediction_id]),
        },
        "/api/v1/contract": {"get": _operation("The contract, as JSON Schema", None, "406 503", open_=True)},
        "/api/v1/openapi.json": {"get": _operation("This document", None, "406 503", open_=True)},
        "/api/v1/releases": {"get": _operation("Which releases there are", "Releases", "401 406 503")},
        "/api/v1/releases/active": {
            "get": _operation("Which release answers now", "ActiveRelease", "401 406 503")
        },
        "/api/v1/releases/{version}/promote": {
            "post": _operation("Let a version answer from now on", "ReleaseEvent", _BODY + " 404",
                               body="PromoteRequest", example={"reason": "better on the test part"},
                               conflict="Another move came first, the release is refused, or the contract changes in "
                               "a way that breaks callers and `breaking` was not given; `errors` then says how.",
                               parameters=[{"name": "version", "in": "path", "required": True,
                                            "schema": {"type": "integer", "minimum": 1}}]),
        },
        "/api/v1/releases/rollback": {
            "post": _operation("Let the release before answer again", "ReleaseEvent", _BODY, body="MoveRequest",
                               example={"reason": "too many corrections since this morning"}),
        },
        "/api/v1/monitor": {
            "get": _operation("The error rate of automatic answers, and whether to roll back", "Monitor",
                              "401 403 406 503")
        },
        "/livez": {"get": _operation("The process is alive", None, "", open_=True)},
        "/readyz": {"get": _operation("This worker can answer and record", None, "503", open_=True)},
        "/metrics": {"get": _metrics()},
    }  # fmt: skip
    for path, operations in add.items():
        spec.path(path, operations=operations)


_ALWAYS = ("400", "500")  # a foreign Host, or what went wrong on our side
_TOO_LONG = {  # so gunicorn says; a proxy before it may speak as we do
    "description": "The address is too long to be read.",
    "content": {
        "text/html": {"schema": TEXT},
        "application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}},
    },
}
_BODY = "401 403 406 409 413 415 422 503 507"
_BODILESS = "401 403 406 503 507"
_FILE = _BODY.replace(" 409", "")
_IDEMPOTENCY_KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "Same key and body: the first answer again, for 24 hours. Same key, other body: 422.",
    "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[ -~]+$"},
}


def _operation(
    summary: str,
    schema: str | None,
    problems: str,
    *,
    status: str = "200",
    also: dict[str, str | None] | None = None,
    body: str | None = None,
    example: Any = None,
    parameters: Sequence[dict[str, Any]] = (),
    open_: bool = False,
    conflict: str = "",
) -> dict[str, Any]:
    answers = {status: schema, **(also or {})}
    said = _PROBLEMS | ({"409": conflict} if conflict else {})
    operation: dict[str, Any] = {
        "summary": summary,
        "responses": {
            **{
                code: {"description": "There is nothing."}
                if code == "204"
                else _response("Done.", "application/json", name)
                for code, name in answers.items()
            },
            **{
                code: _response(said[code], "application/problem+json", "Problem")
                for code in sorted({*_ALWAYS, *problems.split()})
            },
            "414": _TOO_LONG,
        },
    }
    if parameters:
        operation["parameters"] = list(parameters)
    if open_:
        operation["security"] = []
    if body is not None:
        content = {"application/json": {"schema": ref(body), "examples": {"one": {"value": example}}}}
        operation["requestBody"] = {"required": True, "content": content}
    return operation


def _bulk(contract: Contract, example: Any, predict_options: Sequence[Field]) -> dict[str, Any]:
    """The one route that takes and answers files: CSV as text, NDJSON by the schema of each of its lines."""
    operation = _operation(
        "Answer a file of requests, each row for itself", None, _FILE,
        parameters=[*(_parameter(field) for field in predict_options if field.name == "dry_run"), _parameter(SUMMARY)],
    )  # fmt: skip
    line = strictjson.dumps(example).decode()
    operation["requestBody"] = {
        "required": True,
        "content": {
            CSV_TYPE: _file("A header of the contract's names in any order, perhaps `reference`, and rows.",
                            TEXT, csv_template(contract)),
            NDJSON_TYPE: _file("A request on each line.", ref("PredictionRequest"), line + "\n"),
        },
    }  # fmt: skip
    operation["responses"]["200"] = {
        "description": "The answers in the order of the rows, streamed; a row with a mistake has its problem.",
        "content": {
            CSV_TYPE: _file("The columns sent, then those of the answer; `problem` says what is wrong.", TEXT),
            NDJSON_TYPE: _file("A prediction or a problem on each line, and a summary last.", ref("BulkLine")),
        },
    }
    return operation


def _metrics() -> dict[str, Any]:
    """The one route that answers in Prometheus' text format."""
    operation = _operation("Counters and figures for Prometheus", None, "", open_=True)
    operation["responses"]["200"] = {"description": "Done.", "content": {"text/plain": {"schema": TEXT}}}
    return operation


def _file(description: str, schema: Schema, example: str | None = None) -> dict[str, Any]:
    examples = {} if example is None else {"examples": {"one": {"value": example}}}
    return {"schema": {**schema, "description": description}, **examples}


def _response(description: str, media_type: str, name: str | None) -> dict[str, Any]:
    schema = {"type": "object"} if name is None else ref(name)
    return {"description": description, "content": {media_type: {"schema": schema}}}


_TIME_PATTERN = (
    "^[0-9]{4}-[0-9]{2}-[0-9]{2}([T ][0-9]{2}:[0-9]{2}(:[0-9]{2}([.][0-9]{1,6})?)?(Z|[+-][0-9]{2}:[0-9]{2})?)?$"
)
_PATTERNS = {"cursor": f"^{CURSOR}$", "since": _TIME_PATTERN, "until": _TIME_PATTERN}


def _parameter(field: Field) -> dict[str, Any]:
    schema = member(field)
    if field.name in _PATTERNS:
        schema["pattern"] = _PATTERNS[field.name]
    schema["type"] = schema["type"][0] if isinstance(schema["type"], list) else schema["type"]
    if "enum" in schema:
        schema["enum"] = [value for value in schema["enum"] if value is not None]
    return {
        "name": field.name,
        "in": "query",
        "required": False,
        "allowEmptyValue": True,  # which is as if it were left out
        "description": schema.pop("description", ""),
        "schema": schema,
    }
