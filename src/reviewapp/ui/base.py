"""What every page shares: its address and its JSON twin, the navigation, the message after an action."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from flask import Blueprint, Response, current_app, redirect, render_template, request, url_for
from werkzeug.wrappers import Response as WerkzeugResponse

from ..errors import ReviewappError
from ..parts import parts
from ..protocol import TWIN, answer, is_path, wants_json
from ..releaselog import ReleaseEvent
from ..security import EVERYBODY, known_client
from ..stages import stage

ui = Blueprint("ui", __name__)

NAVIGATION = (  # the page, its name, the role it needs, and the module of all views that belong to it
    ("ui.try_it", "Try", "submit", "trying"),
    ("ui.upload", "Upload", "submit", "uploading"),
    ("ui.queue", "Queue", "review", "queue"),
    ("ui.history", "History", "review", "history"),
    ("ui.show_contract", "Contract", EVERYBODY, ""),
    ("ui.show_monitor", "Monitor", "review", ""),
    ("ui.show_releases", "Releases", "submit", "releases"),
    ("ui.show_evidence", "Evidence", "submit", ""),
)
FLASH = "reviewapp_flash"  # a cookie: the message is for this browser alone, and for its next page alone
FLASH_LIFE = 60  # seconds
LONGEST_FLASH = 500

Json = dict[str, Any]
View = TypeVar("View", bound=Callable[..., Any])

_with_twin: set[str] = set()  # the rules of pages that have a twin at an address of its own


class Page(Protocol):
    """What a page shows: its template reads it, a program gets `as_json`."""

    def as_json(self) -> Json: ...


def page(rule: str) -> Callable[[View], View]:
    """Give a view its address and that of its JSON twin: the same with `.json` after it (`/index.json` for `/`)."""

    def register(view: View) -> View:
        _with_twin.add(rule)
        for address in (rule, _twin_of(rule)):
            ui.add_url_rule(address, view.__name__, view, methods=["GET"])
        return view

    return register


def _twin_of(path: str) -> str:
    return f"{'/index' if path == '/' else path}{TWIN}"


@ui.app_context_processor
def surroundings() -> dict[str, Any]:
    """Give every template its reader, the pages they may open, the last action's message, and the page's twin."""
    reader = known_client()
    return {
        "reader": reader,
        "fired": None if reader is None else _fired(),
        "navigation": [
            (url_for(address), name, _belongs_to(address, module))
            for address, name, role, module in NAVIGATION
            if role == EVERYBODY or (reader is not None and reader.may(role))
        ],
        "flash": _flash(),
        "twin": _twin(),
    }


def _fired() -> ReleaseEvent | None:
    """Return what the trigger did, until somebody has moved something since."""
    try:
        seen = parts.registry.standing()
    except ReviewappError:  # what keeps the ledger from being read is told by what the page is there for
        return None
    return None if seen is None else seen.fired


def _belongs_to(address: str, module: str) -> bool:
    """Whether what is shown is the page at an address, or another one of its module."""
    view = current_app.view_functions.get(request.endpoint or "")
    return request.endpoint == address or bool(module and view and view.__module__ == f"{__package__}.{module}")


def _twin() -> str | None:
    """Return the address of what is shown as JSON, where it has one."""
    rule = request.url_rule
    if rule is None or request.method != "GET" or rule.rule not in _with_twin or "link" in request.args:
        return None  # also where the address holds a sign-in link, which no page repeats
    query = request.query_string.decode("latin-1")
    return f"{request.root_path}{_twin_of(request.path)}{f'?{query}' if query else ''}"


def show(template: str, page: Page, status: int = 200) -> Response:
    """Return a page, or what it shows as JSON."""
    if wants_json():
        shown = answer(page.as_json(), status)
    else:
        with stage("render"):
            shown = Response(render_template(template, page=page), status)
        if FLASH in request.cookies:
            shown.delete_cookie(FLASH, path=request.root_path or "/")
        if request.method == "POST":  # else the way back ends at a browser's question whether to send the form again
            shown.headers["Cache-Control"] = "private, no-cache"
    shown.headers["Vary"] = "Accept"
    return shown


def show_mistakes(template: str, page: Page, error: ReviewappError) -> Response:
    """Return a page with the mistakes marked in it, or, for a program, the problem itself."""
    if wants_json():
        raise error
    return show(template, page, int(error.status))


def done(address: str, message: str, undo: str = "") -> WerkzeugResponse:
    """Return the way to the page that shows what was done; it says so once; `undo` is where to take it back."""
    response = redirect(address, 303)
    said = base64.urlsafe_b64encode(message[:LONGEST_FLASH].encode()).decode()
    response.set_cookie(
        FLASH, f"{said}.{undo}", max_age=FLASH_LIFE, httponly=True, samesite="Lax", secure=request.is_secure,
        path=request.root_path or "/",
    )  # fmt: skip
    return response


def _flash() -> dict[str, str] | None:
    """Return the message of the action before this page, and the address that takes it back, if one does.

    The cookie comes from outside: what is no message is none.
    """
    said, _, undo = request.cookies.get(FLASH, "").partition(".")
    try:
        message = base64.urlsafe_b64decode(said[: 6 * LONGEST_FLASH]).decode()
    except ValueError:
        return None
    return {"message": message, "undo": undo if is_path(undo) else ""} if message else None
