"""Every error that reviewapp raises on purpose; nothing here knows Flask.

ReviewappError                      500  internal-error
├── BadRequest                      400  bad-request
│   ├── NotJSON                     400  not-json
│   ├── AddressTooLong              414  address-too-long
│   └── HeadersTooLarge             431  headers-too-large
├── Unauthenticated                 401  unauthenticated
├── Forbidden                       403  forbidden
├── NotFound                        404  not-found
├── MethodNotAllowed                405  method-not-allowed
├── NotAcceptable                   406  not-acceptable
├── Conflict                        409  conflict
│   └── BreakingChange              409  breaking-change
├── TooLarge                        413  too-large
├── UnsupportedMediaType            415  unsupported-media-type
├── InvalidInput                    422  invalid-input
├── KeyReused                       422  idempotency-key-reused
├── TooManyRequests                 429  too-many-requests
├── ModelBroken                     500  model-broken
├── NotReady                        503  not-ready
│   └── StoreBusy                   503  store-busy
├── StoreFull                       507  store-full
└── UsageError                      422  wrong-use              (command line: exit code 2)
    ├── ContractError               422  invalid-contract
    ├── ReleaseRefused              409  release-refused
    │   └── UntrustedTypes          409  release-refused
    └── StoreError                  503  wrong-store

The slug ends the `type` of the problem document (RFC 9457); `exit_code` is what the command line returns.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

SHOWN_ERRORS = 50  # an answer names at most so many mistakes; `error_count` says how many there are
EXTENSION = "reviewapp"  # where an app keeps its parts: named here, so that to ask another app loads nothing
REQUEST_ID = "reviewapp.request_id"  # where the environment of a request keeps its id
BODY_READ = "reviewapp.body_read"  # and how many bytes of its body were read
GIVEN_UP = "reviewapp.given_up"  # and, where it was stuck, that the worker has answered it


@dataclass(frozen=True, slots=True)
class Flaw:
    """One mistake in a request: where (JSON pointer), which rule, what would be right; never the value sent."""

    pointer: str
    code: str
    detail: str
    allowed: tuple[str, ...] | None = None

    def as_json(self) -> dict[str, Any]:
        shown: dict[str, Any] = {"pointer": self.pointer, "code": self.code, "detail": self.detail}
        if self.allowed is not None:
            shown["allowed"] = list(self.allowed)
        return shown


def pointer(*names: str | int) -> str:
    """Return the JSON pointer (RFC 6901) to a member: pointer("input", "a/b") is "/input/a~1b"."""
    return "".join("/" + str(name).replace("~", "~0").replace("/", "~1") for name in names)


class ReviewappError(Exception):
    """The root: carries what the answer needs to say, and no more."""

    status = HTTPStatus.INTERNAL_SERVER_ERROR
    slug = "internal-error"
    title = "The service failed"
    exit_code = 1
    retries_after: int | None = None  # seconds after which to ask again, where nobody knows better

    def __init__(
        self,
        detail: str,
        *,
        errors: Iterable[Flaw] = (),
        retry_after: int | None = None,
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.errors: Sequence[Flaw] = tuple(errors)
        self.retry_after = self.retries_after if retry_after is None else retry_after


class BadRequest(ReviewappError):
    status = HTTPStatus.BAD_REQUEST
    slug = "bad-request"
    title = "The request cannot be read"


class NotJSON(BadRequest):
    slug = "not-json"
    title = "The body is not strict JSON"


class AddressTooLong(BadRequest):
    status = HTTPStatus.REQUEST_URI_TOO_LONG
    slug = "address-too-long"
    title = "The address is too long"


class HeadersTooLarge(BadRequest):
    status = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
    slug = "headers-too-large"
    title = "The headers are too large"


class Unauthenticated(ReviewappError):
    status = HTTPStatus.UNAUTHORIZED
    slug = "unauthenticated"
    title = "Who is asking is not known"


class Forbidden(ReviewappError):
    status = HTTPStatus.FORBIDDEN
    slug = "forbidden"
    title = "The role does not allow this"


class NotFound(ReviewappError):
    status = HTTPStatus.NOT_FOUND
    slug = "not-found"
    title = "There is nothing here"
    exit_code = 2


class MethodNotAllowed(ReviewappError):
    status = HTTPStatus.METHOD_NOT_ALLOWED
    slug = "method-not-allowed"
    title = "This address does not take this method"


class NotAcceptable(ReviewappError):
    status = HTTPStatus.NOT_ACCEPTABLE
    slug = "not-acceptable"
    title = "This route answers in another kind"


class Conflict(ReviewappError):
    status = HTTPStatus.CONFLICT
    slug = "conflict"
    title = "The request meets another one"


class BreakingChange(Conflict):
    """A promotion changes the contract in a way that breaks callers; `errors` names each such change."""

    slug = "breaking-change"
    title = "The contract changes in a way that breaks callers"

    def __init__(self, errors: Sequence[Flaw]) -> None:
        n = len(errors)
        super().__init__(
            f"{n} change{'s' if n != 1 else ''} of the contract break{'s' if n == 1 else ''} callers; "
            "say `breaking` (command line: --breaking) if the callers are ready for it.",
            errors=errors,
        )


class TooLarge(ReviewappError):
    status = HTTPStatus.REQUEST_ENTITY_TOO_LARGE
    slug = "too-large"
    title = "The body is too large"


class UnsupportedMediaType(ReviewappError):
    status = HTTPStatus.UNSUPPORTED_MEDIA_TYPE
    slug = "unsupported-media-type"
    title = "The body is of a kind that this route does not read"


class InvalidInput(ReviewappError):
    """One or more rules of the contract are broken; `errors` names every one of them."""

    status = HTTPStatus.UNPROCESSABLE_ENTITY
    slug = "invalid-input"
    title = "The input breaks the contract"

    def __init__(self, errors: Sequence[Flaw]) -> None:
        n = len(errors)
        super().__init__(f"{n} mistake{'s' if n != 1 else ''} found; `errors` says where.", errors=errors)


class KeyReused(ReviewappError):
    status = HTTPStatus.UNPROCESSABLE_ENTITY
    slug = "idempotency-key-reused"
    title = "This Idempotency-Key belongs to another request"


class TooManyRequests(ReviewappError):
    status = HTTPStatus.TOO_MANY_REQUESTS
    slug = "too-many-requests"
    title = "Too many requests of this kind"


class ModelBroken(ReviewappError):
    slug = "model-broken"
    title = "The model broke its own contract"


class NotReady(ReviewappError):
    status = HTTPStatus.SERVICE_UNAVAILABLE
    slug = "not-ready"
    title = "The service is not ready"
    retries_after = 10


class StoreBusy(NotReady):
    slug = "store-busy"
    title = "The store does not answer in time"


class StoreFull(ReviewappError):
    status = HTTPStatus.INSUFFICIENT_STORAGE
    slug = "store-full"
    title = "The store cannot take more"
    retries_after = 10


class UsageError(ReviewappError):
    """A person asked for something that cannot be: the message says what would be right."""

    status = HTTPStatus.UNPROCESSABLE_ENTITY
    slug = "wrong-use"
    title = "The request cannot be carried out"
    exit_code = 2


class ContractError(UsageError):
    slug = "invalid-contract"
    title = "The contract cannot be used"


class ReleaseRefused(UsageError):
    status = HTTPStatus.CONFLICT  # the request is right, what lies in the folder is not
    slug = "release-refused"
    title = "The release is refused"
    exit_code = 1


class UntrustedTypes(ReleaseRefused):
    """An estimator holds types that neither this code nor the operator trusts; `types` names them."""

    def __init__(self, name: str, types: Sequence[str]) -> None:
        super().__init__(f"{name} holds types that are not trusted: {', '.join(types)}.")
        self.types = tuple(types)


class StoreError(UsageError):
    status = HTTPStatus.SERVICE_UNAVAILABLE  # for a caller the service is not ready; its operator used it wrongly
    slug = "wrong-store"
    title = "The store cannot be used"
    retries_after = 10


def as_own(error: Exception) -> ReviewappError:
    """Return our own error for whatever was raised; what a stranger raised is never shown."""
    if isinstance(error, ReviewappError):
        return error
    if isinstance(error, MemoryError) or isinstance(error.__cause__, MemoryError):
        return NotReady("There was not enough memory for this request.", retry_after=1)
    return ReviewappError("Something failed on our side; the request id finds it in the log.")


def as_problem(error: ReviewappError, request_id: str) -> dict[str, Any]:
    """Return the RFC 9457 document of an error: the one place that shapes it.

    `type` and `instance` are made of the slug and the request id alone: nothing of the path, the Host or the
    body is echoed.
    """
    problem: dict[str, Any] = {
        "type": f"/problems/{error.slug}",
        "title": error.title,
        "status": int(error.status),
        "detail": error.detail,
        "instance": f"urn:uuid:{request_id}",
        "request_id": request_id,
    }
    if error.errors:
        problem["errors"] = [flaw.as_json() for flaw in error.errors[:SHOWN_ERRORS]]
        problem["error_count"] = len(error.errors)
    return problem
