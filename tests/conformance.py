"""A test client that checks every answer of the API against the OpenAPI document that the app serves."""

from __future__ import annotations

import re
from datetime import datetime
from functools import cache
from typing import Any

import orjson
from flask.testing import FlaskClient
from jsonschema import Draft202012Validator, FormatChecker
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012

from reviewapp.api import LIST_OPTIONS, PREDICT_OPTIONS
from reviewapp.contract import Contract
from reviewapp.openapi import describe

PROBLEM = "application/problem+json"
PROBLEM_MEMBERS = {"type", "title", "status", "detail", "instance", "request_id"}


FORMATS = FormatChecker(["uuid", "date"])
FORMATS.checks("date-time", raises=ValueError)(lambda text: text.endswith("Z") and datetime.fromisoformat(text))


@cache
def document(contract: Contract) -> dict[str, Any]:
    return describe(contract, PREDICT_OPTIONS, LIST_OPTIONS)


@cache
def validator(contract: Contract, pointer: str) -> Draft202012Validator:
    whole = Resource.from_contents(document(contract), default_specification=DRAFT202012)
    registry = Registry().with_resource("urn:doc", whole)
    return Draft202012Validator({"$ref": f"urn:doc#{pointer}"}, registry=registry, format_checker=FORMATS)


def escape(part: str) -> str:
    return part.replace("~", "~0").replace("/", "~1").replace("{", "%7B").replace("}", "%7D")


def check_answer(contract: Contract, method: str, path: str, status: int, content_type: str, body: bytes) -> None:
    """Fail where an answer is not one that the document promises for its route."""
    media_type = content_type.split(";", maxsplit=1)[0]
    if status >= 400:
        assert media_type == PROBLEM, f"{method} {path} → {status} as {media_type}"
        problem = orjson.loads(body)
        assert set(problem) - {"errors", "error_count"} == PROBLEM_MEMBERS
        assert problem["status"] == status
        assert problem["instance"] == f"urn:uuid:{problem['request_id']}"
        assert len(body) < 64 << 10
    template = template_of(contract, path)
    operations = document(contract)["paths"].get(template, {})
    if method.lower() not in operations:
        assert status in (400, 401, 403, 404, 405), f"{method} {path} → {status}, which is not documented"
        return
    responses = operations[method.lower()]["responses"]
    assert str(status) in responses, f"{method} {template} → {status}, which is not documented"
    if "content" not in responses[str(status)]:
        assert body == b""
        return
    assert media_type in responses[str(status)]["content"], f"{method} {template} → {media_type}"
    at = f"/paths/{escape(template)}/{method.lower()}/responses/{status}/content/{escape(media_type)}/schema"
    errors = [
        f"{error.json_path}: {error.message}"
        for value in values(media_type, body)
        for error in validator(contract, at).iter_errors(value)
    ]
    assert not errors, f"{method} {template} → {status}: {errors[:3]}"


def values(media_type: str, body: bytes) -> list[Any]:
    """Return what the schema of a media type is about: the JSON, the JSON of each line, or the text."""
    if media_type == "application/x-ndjson":
        assert body.endswith(b"\n")
        return [orjson.loads(line) for line in body.splitlines()]
    return [body.decode() if media_type == "text/csv" else orjson.loads(body)]


def template_of(contract: Contract, path: str) -> str | None:
    """Return the path template that a path matches, the one without parameters first."""
    templates = sorted(document(contract)["paths"], key=lambda template: template.count("{"))
    for template in templates:
        if re.fullmatch(re.sub(r"\\{[^}]*\\}", "[^/]+", re.escape(template)), path):
            return template
    return None


class CheckedClient(FlaskClient):
    """Checks what it receives from /api and the health routes. `contract` is set by the fixture."""

    contract: Contract

    def open(self, *args: Any, **kwargs: Any) -> Any:
        response = super().open(*args, **kwargs)
        path = response.request.path
        described = path.startswith("/api/") or path in ("/livez", "/readyz")
        if described and response.request.method != "HEAD":  # whose answer is that of GET without its body
            content_type, body = response.headers.get("Content-Type", ""), response.get_data()
            check_answer(self.contract, response.request.method, path, response.status_code, content_type, body)
            assert response.headers["X-Request-ID"]
        return response
