"""HTTP as both blueprints need it: bodies read within bounds, query options, request ids, answers and problems."""

from __future__ import annotations

import hashlib
import io
import random
import re
import time
import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache, partial
from itertools import chain
from typing import Any
from urllib.parse import parse_qsl

from flask import Request, Response, g, has_request_context, request
from flask.globals import app_ctx, request_ctx
from gunicorn.http.errors import ParseException
from werkzeug.datastructures import Headers
from werkzeug.exceptions import RequestEntityTooLarge
from werkzeug.formparser import MultiPartParser
from werkzeug.http import parse_options_header

from . import strictjson
from .errors import (
    BODY_READ,
    REQUEST_ID,
    BadRequest,
    Flaw,
    InvalidInput,
    NotAcceptable,
    ReviewappError,
    TooLarge,
    UnsupportedMediaType,
    as_problem,
    pointer,
)
from .field import Field
from .prediction import IdempotencyKey
from .schemas import RecordSchema
from .stages import begin, stage

JSON_TYPE = "application/json"
PROBLEM_TYPE = "application/problem+json"
TWIN = ".json"  # the end of the address of a page's JSON twin
FORM_TYPE = "application/x-www-form-urlencoded"
FILE_FORM_TYPE = "multipart/form-data"
MAX_FORM_FIELDS = 10_000
MAX_FILE_FORM_PARTS = 20  # a form with a file is one of ours: a file and a few words
MAX_FILE_FORM_TEXT = 500_000  # bytes of these words, and of what the parser looks at in one piece
BODY_PAUSE = 10.0  # seconds without a byte after which a body counts as broken off; for all of it: worker.BODY_SECONDS
# What is read and thrown away so that a refusal reaches a client that is still sending.
DRAIN_BYTES, DRAIN_SECONDS, DRAIN_PAUSE = 128 << 20, 5.0, 1.0
_CHUNK = 1 << 16
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_REQUEST_ID = re.compile(r"[A-Za-z0-9._~:/+=@-]{1,128}")


# ---- request ----------------------------------------------------------------------------------------------------


def begin_request() -> None:
    """Take over the caller's request id, or make one; a value that does not belong into a log is replaced."""
    environ, kept = request.environ, app_ctx.g
    given = environ.get("HTTP_X_REQUEST_ID", "")
    kept.request_id = environ[REQUEST_ID] = given if _REQUEST_ID.fullmatch(given) else _made_id()
    kept.body = kept.client = None
    begin()


def request_id() -> str:
    """Return the id of this request; there is one even where the request could not be understood."""
    if not has_request_context():
        return _made_id()
    kept = app_ctx.g
    if "request_id" not in kept:
        begin_request()
    return str(kept.request_id)


def _made_id() -> str:
    """Return a UUID of version 4; no secret, so it need not be asked of the system."""
    return str(uuid.UUID(int=random.getrandbits(128), version=4))


@stage("parse")
def read_json(limit: int) -> Any:
    """Return the JSON of the body; raise a 4xx where the media type, the size or the syntax is wrong."""
    check_kind(JSON_TYPE)
    return strictjson.loads(read_body(limit))


def check_kind(*kinds: str) -> str:
    """Return which of the kinds the body is of; raise UnsupportedMediaType where it is none, or not in UTF-8."""
    kind, charset = _kind_and_charset(request.environ.get("CONTENT_TYPE", ""))
    if kind not in kinds or charset not in ("utf-8", "utf8"):
        raise UnsupportedMediaType(f"Send Content-Type: {' or '.join(kinds)}, in UTF-8.")
    return kind


@lru_cache(maxsize=32)  # callers send the same few again and again
def _kind_and_charset(content_type: str) -> tuple[str, str]:
    kind, options = parse_options_header(content_type)
    return kind.lower(), options.get("charset", "utf-8").lower()


@stage("parse")
def read_body(limit: int) -> bytes:
    """Return the body, `limit` bytes at most; raise TooLarge, or BadRequest where it breaks off."""
    asked = request_ctx.request  # the request itself: each use of the proxy would look it up anew
    length = check_size(asked, limit)
    with patience(asked, BODY_PAUSE):
        body = b"".join(_chunks(asked, limit + 1))
    if len(body) > limit:
        raise too_large(limit)
    if length is not None and len(body) < length:
        raise too_short()
    g.body = body
    return body


def check_size(asked: Request, limit: int) -> int | None:
    """Return how long the body says that it is, where it does; raise a 4xx where that is too long, or it is encoded."""
    length = asked.content_length
    if asked.environ.get("HTTP_CONTENT_ENCODING", "identity").lower() != "identity":
        raise UnsupportedMediaType("Send the body as it is, without Content-Encoding.")
    if (length or 0) > limit:
        raise too_large(limit)
    return length


def too_short() -> BadRequest:
    return BadRequest("The body is shorter than its Content-Length says.")


def broken_off() -> BadRequest:
    return BadRequest("The body broke off, or its chunks are not well formed.")


@stage("parse")
def read_form(limit: int) -> dict[str, str]:
    """Return the fields of a submitted form, as strictly as JSON is read; raise a 4xx where it cannot be."""
    return read_choices(limit)[0]


@stage("parse")
def read_choices(limit: int, name: str | None = None) -> tuple[dict[str, str], list[str]]:
    """Return the fields of a form, and the values of the one field that may be given more than once."""
    if request.mimetype not in (FORM_TYPE, ""):  # an empty form has no type
        raise UnsupportedMediaType(f"Send the form as {FORM_TYPE}; JSON goes to the API, below /api/v1.")
    try:
        text = read_body(limit).decode()
        pairs = parse_qsl(text, keep_blank_values=True, errors="strict", max_num_fields=MAX_FORM_FIELDS)
    except UnicodeDecodeError:
        raise BadRequest("The form is not UTF-8.") from None
    except ValueError:
        raise BadRequest(f"The form has more than {MAX_FORM_FIELDS:,} fields.") from None
    single = [(key, value) for key, value in pairs if key != name]
    _refuse_twice("form", [key for key, _ in single])
    return dict(single), [value for key, value in pairs if key == name]


@stage("parse")
def read_file(name: str, limit: int, fields: Sequence[Field]) -> tuple[str, bytes, dict[str, Any]]:
    """Return the file that a form sent under a name: what it is called and what it holds; and the form's other fields.

    Raises a 4xx where the form cannot be read, holds no such file or more than one, or other fields than these.
    """
    if request.mimetype != FILE_FORM_TYPE or not request.mimetype_params.get("boundary"):
        raise UnsupportedMediaType(f"Send the form as {FILE_FORM_TYPE}, with the file in the field {name!r}.")
    body = io.BytesIO(read_body(limit))
    boundary = request.mimetype_params["boundary"].encode("latin-1", "replace")
    parser = MultiPartParser(
        _in_memory,
        max_form_memory_size=MAX_FILE_FORM_TEXT,
        max_form_parts=MAX_FILE_FORM_PARTS,
    )
    try:
        texts, files = parser.parse(body, boundary, body.getbuffer().nbytes)
    except RequestEntityTooLarge:
        raise BadRequest(f"The form has more than {MAX_FILE_FORM_PARTS} fields, or a very long one.") from None
    except ValueError:
        raise BadRequest("The form is not well formed.") from None
    _refuse_twice("", [str(one) for one, _ in [*texts.items(multi=True), *files.items(multi=True)]])
    values = RecordSchema(fields, text=True).load({str(one): text for one, text in texts.items()}, "")
    file = files.pop(name, None)
    if files:
        raise InvalidInput([Flaw(pointer(str(one)), "unknown_member", "Send no other file.") for one in files])
    if file is None or not file.filename:
        raise InvalidInput([Flaw(pointer(name), "missing", "Choose a CSV file.")])
    return _CONTROL.sub(" ", file.filename), file.read(), values


def _in_memory(*_: Any, **__: Any) -> io.BytesIO:
    """Return where a part of a form goes: the body is in memory already."""
    return io.BytesIO()


def too_large(limit: int) -> TooLarge:
    return TooLarge(f"The body may have {limit:,} bytes at most.")


def drain() -> None:
    """Read what a client is still sending, within bounds: a connection closed before that loses the answer."""
    if g.get("body") is None:
        discard(request)


def discard(asked: Request) -> None:
    """Read the rest of a body, within the same bounds."""
    ends = time.monotonic() + DRAIN_SECONDS
    try:
        with patience(asked, DRAIN_PAUSE):
            for _ in _chunks(asked, DRAIN_BYTES):
                if time.monotonic() > ends:
                    break
    except BadRequest:
        return  # the client broke off; nobody is left to be answered


@contextmanager
def patience(source: Request, seconds: float) -> Iterator[None]:
    """Wait no longer than this for the next byte: gunicorn's threads would wait for ever."""
    connection = source.environ.get("gunicorn.socket")
    if connection is None:
        yield
        return
    connection.settimeout(seconds)
    try:
        yield
    finally:
        connection.settimeout(None)


def _chunks(source: Request, most: int) -> Iterator[bytes]:
    """Yield the raw body, `most` bytes at most, without keeping it."""
    stream = source.environ["wsgi.input"]
    if source.content_length is not None:
        most = min(most, source.content_length)
    elif not source.environ.get("wsgi.input_terminated"):
        return
    left = most
    while left > 0:
        try:
            chunk = stream.read(min(_CHUNK, left))
        except (OSError, ParseException):
            raise broken_off() from None
        if not chunk:
            return
        left -= len(chunk)
        source.environ[BODY_READ] = most - left
        yield chunk


def read_query(fields: Sequence[Field]) -> dict[str, Any]:
    """Return the query options, checked like any input; mistakes are pointed at under /query."""
    return _query_schema(tuple(fields)).load(query_texts(), "/query")


_query_schema = lru_cache(maxsize=64)(partial(RecordSchema, text=True))  # few routes, each with options of its own


def query_texts() -> dict[str, str]:
    """Return the query options as they were sent, each once."""
    if not request.environ.get("QUERY_STRING"):
        return {}
    _refuse_twice("query", [name for name, _ in request.args.items(multi=True)])
    return request.args.to_dict()


def _refuse_twice(where: str, names: Sequence[str]) -> None:
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        parents = [where] if where else []
        raise InvalidInput([Flaw(pointer(*parents, name), "given_twice", "Give this once.") for name in twice])


def is_path(address: str) -> bool:
    """Whether an address that came with a request is a path of this service; browsers read // and /\\ as a host."""
    return re.fullmatch(r"/(?!/)[!-\[\]-~]*", address) is not None


def idempotency_key(client: str) -> IdempotencyKey | None:
    """Return the key that a client sent, bound to them and to all that the answer depends on; the body was read."""
    key = request.environ.get("HTTP_IDEMPOTENCY_KEY")
    if key is None:
        return None
    if not (1 <= len(key) <= 255 and key.isascii() and key.isprintable()):
        raise BadRequest("An Idempotency-Key is 1 to 255 printable ASCII characters.")
    asked = b"\0".join((request.path.encode(), request.query_string, g.body))
    return IdempotencyKey(client, key, hashlib.sha256(asked).hexdigest())


def wants_json() -> bool:
    """Whether the client would rather have JSON than a page: its address says so, or its Accept header does."""
    asked = request.path if request.url_rule is None else request.url_rule.rule
    if asked.endswith(TWIN):
        return True
    kinds = request.accept_mimetypes
    return kinds[JSON_TYPE] > kinds["text/html"]


def check_accept(*kinds: str) -> None:
    """Refuse a client that says it can read none of the kinds; the first is what the route answers with."""
    if request.environ.get("HTTP_ACCEPT", "*/*") == "*/*":
        return
    accepted = request.accept_mimetypes
    if accepted and not any(accepted[kind] for kind in kinds):
        raise NotAcceptable(f"This route answers with {kinds[0]}.")


# ---- response ---------------------------------------------------------------------------------------------------


class _Answer(Response):
    """A response whose headers are whole: Werkzeug need not copy them, nor look for a Location to put right."""

    def get_wsgi_headers(self, environ: Any) -> Headers:
        return self.headers


@stage("render")
def answer(document: Any, status: int = 200, location: str | None = None) -> Response:
    """Return a JSON response; `location` is a path of this service, percent-encoded."""
    headers = Headers()
    headers.add("Content-Type", JSON_TYPE)
    if location is not None:
        headers.add("Location", location)
    return _Answer(strictjson.dumps(document), status=status, headers=headers)


def stream(pieces: Iterator[bytes], kind: str) -> Response:
    """Return a response of many pieces, each sent once it is made; a failure in the first is answered as any other."""
    first = next(pieces)
    return Response(chain((first,), pieces), mimetype=kind)


def problem(error: ReviewappError) -> Response:
    """Return an error as problem+json."""
    document = as_problem(error, request_id())
    return Response(strictjson.dumps(document), status=error.status, mimetype=PROBLEM_TYPE)
