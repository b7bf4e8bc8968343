"""Who may call what, from where, and what a browser may do with the answer. Checked on the app, for every route."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, TypeVar
from urllib.parse import urlsplit

from flask import Flask, current_app, g, request
from werkzeug.wrappers import Response

from .accounts import ROLES, Client
from .errors import BadRequest, Forbidden, Unauthenticated
from .parts import parts

COOKIE = "reviewapp_session"
EVERYBODY = "everybody"
NOBODY_ASKED = Client("anonymous", "admin")  # who everybody is where sign-in is switched off (loopback only)
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}

_PORT = re.compile(r":[0-9]*$")

View = TypeVar("View", bound=Callable[..., Any])


def needs(role: str) -> Callable[[View], View]:
    """Say who may call a view: a role (and those above it), or EVERYBODY. A view without it stops the start."""
    if role not in (*ROLES, EVERYBODY):
        raise ValueError(f"no such role: {role}")

    def mark(view: View) -> View:
        view.role = role  # type: ignore[attr-defined]
        return view

    return mark


def check_guards(app: Flask) -> None:
    """Raise where a route does not say who may call it: an unguarded route never goes live."""
    needs(EVERYBODY)(app.view_functions["static"])
    unguarded = sorted(name for name, view in app.view_functions.items() if not hasattr(view, "role"))
    if unguarded:
        raise RuntimeError(f"routes without needs(…): {', '.join(unguarded)}")


def check_host() -> None:
    """Refuse a request that names a host we do not answer for, in its Host or in an absolute target (RFC 9112, 3.2.2).

    Werkzeug's own TRUSTED_HOSTS cannot name an IPv6 address.
    """
    target = request.environ.get("RAW_URI", "")
    host = urlsplit(target).netloc if "://" in target.partition("?")[0] else request.environ.get("HTTP_HOST", "")
    if _PORT.sub("", host).lower() not in parts.settings.hosts:
        raise foreign_host()


def foreign_host() -> BadRequest:
    return BadRequest("The Host of this request is not one that this service answers for (REVIEWAPP_HOSTS).")


def guard() -> None:
    """Before every request: refuse who is not known, whose role is too low, and what comes from another site."""
    view = current_app.view_functions.get(request.endpoint or "")
    if view is None:  # no such route or method; the router's own answer follows, on a page that knows its reader
        if not request.path.startswith("/api/"):
            g.client = _client()
        return
    if request.method not in ("GET", "HEAD"):
        _check_origin()
    role = getattr(view, "role", "")
    if role != EVERYBODY or request.blueprint == "ui":
        g.client = _client()
    if role == EVERYBODY:
        return
    if g.client is None:
        raise Unauthenticated(
            "Sign in, or send Authorization: Bearer <token>."
            if request.blueprint == "ui"
            else "Send Authorization: Bearer <token>; `reviewapp token create` makes one."
        )
    if not g.client.may(role):
        raise Forbidden(f"This needs the role {role}; yours is {g.client.role}.")


def client() -> Client:
    """Return who is asking; only for views that need a role."""
    known: Client = g.client
    return known


def known_client() -> Client | None:
    """Return who is asking, or None where nobody signed in; for pages that are open to everybody."""
    known: Client | None = g.client
    return known


def _client() -> Client | None:
    if parts.settings.auth == "off":
        return NOBODY_ASKED
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() == "bearer" and token.strip():
        return parts.accounts.client_of_token(token.strip())
    if request.blueprint in ("ui", None) and COOKIE in request.cookies:
        return parts.accounts.client_of_session(request.cookies[COOKIE])
    return None


def _check_origin() -> None:
    """Refuse a change that another site's page sent along with our cookie (Sec-Fetch-Site, else Origin)."""
    site = request.headers.get("Sec-Fetch-Site")
    origin = request.headers.get("Origin")
    if site is not None:
        same = site in ("same-origin", "none")
    else:
        same = origin is None or urlsplit(origin).netloc == request.host
    if not same:
        raise Forbidden("This change was sent by the page of another site.")


def add_headers(response: Response) -> None:
    """After every request: what a browser may do with the answer; nothing of ours is kept in a shared cache."""
    for name, value in _HEADERS.items():
        response.headers.setdefault(name, value)
    if request.endpoint != "static":
        response.headers.setdefault("Cache-Control", "no-store")


def keep_session(response: Response, secret: str) -> None:
    response.set_cookie(
        COOKIE, secret, httponly=True, samesite="Lax", secure=request.is_secure, path=request.root_path or "/"
    )


def drop_session(response: Response) -> None:
    response.delete_cookie(COOKIE, path=request.root_path or "/")
