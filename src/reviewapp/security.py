"""Who may call what, from where, and what a browser may do with the answer. Checked on the app, for every route."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable
from typing import TYPE_CHECKING, Any, TypeVar

from flask import Flask, Request, current_app, g, request
from werkzeug.wrappers import Response

from .accounts import ROLES, SESSION_LIFE, Client
from .errors import BadRequest, Forbidden, Unauthenticated
from .parts import Parts

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

COOKIE = "reviewapp_session"
EVERYBODY = "everybody"
NOBODY_ASKED = Client("anonymous", "admin")  # who everybody is where sign-in is switched off (loopback only)
_HEADERS = [
    (
        "Content-Security-Policy",
        "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    ),
    ("X-Content-Type-Options", "nosniff"),
    ("X-Frame-Options", "DENY"),
    ("Referrer-Policy", "same-origin"),
    ("Cross-Origin-Opener-Policy", "same-origin"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
]

_PORT = re.compile(r":[0-9]*$")
_ABSOLUTE = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://([^/?#]*)")  # the target of a request that names its host there

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


def check_host(asked: Request, hosts: Collection[str]) -> None:
    """Refuse a request that names a host we do not answer for, in its Host or in an absolute target (RFC 9112, 3.2.2).

    Werkzeug's own TRUSTED_HOSTS cannot name an IPv6 address.
    """
    environ = asked.environ
    absolute = _ABSOLUTE.match(environ.get("RAW_URI", ""))
    host = absolute[1] if absolute else environ.get("HTTP_HOST", "")
    if _PORT.sub("", host).lower() not in hosts:
        raise foreign_host()


def foreign_host() -> BadRequest:
    return BadRequest("The Host of this request is not one that this service answers for (REVIEWAPP_HOSTS).")


def guard(asked: Request, parts: Parts) -> None:
    """Before every request: refuse who is not known, whose role is too low, and what comes from another site."""
    view = current_app.view_functions.get(asked.endpoint or "")
    if view is None:  # no such route or method; the router's own answer follows, on a page that knows its reader
        if not asked.path.startswith("/api/"):
            g.client = _client(parts, asked)
        return
    if asked.method not in ("GET", "HEAD"):
        _check_origin(asked)
    role = getattr(view, "role", "")
    page = asked.blueprint == "ui"
    if role == EVERYBODY and not page:
        return
    g.client = known = _client(parts, asked)
    if role == EVERYBODY:
        return
    if known is None:
        raise Unauthenticated(
            "Sign in, or send Authorization: Bearer <token>."
            if page
            else "Send Authorization: Bearer <token>; `reviewapp token create` makes one."
        )
    if not known.may(role):
        raise Forbidden(f"This needs the role {role}; yours is {known.role}.")


def client() -> Client:
    """Return who is asking; only for views that need a role."""
    known: Client = g.client
    return known


def known_client() -> Client | None:
    """Return who is asking, or None where nobody signed in; for pages that are open to everybody."""
    known: Client | None = g.client
    return known


def _client(parts: Parts, asked: Request) -> Client | None:
    if parts.settings.auth == "off":
        return NOBODY_ASKED
    scheme, _, token = asked.environ.get("HTTP_AUTHORIZATION", "").partition(" ")
    if scheme.lower() == "bearer" and token.strip():
        return parts.accounts.client_of_token(token.strip())
    if asked.blueprint in ("ui", None) and COOKIE in asked.cookies:
        return parts.accounts.client_of_session(asked.cookies[COOKIE])
    return None


def _check_origin(asked: Request) -> None:
    """Refuse a change that another site's page sent along with our cookie (Sec-Fetch-Site, else Origin).

    Every browser sends one of them with a change; who sends neither is no browser, and nobody's cookie is misused.
    """
    site = asked.environ.get("HTTP_SEC_FETCH_SITE")
    origin = asked.environ.get("HTTP_ORIGIN")
    if site is not None:
        same = site in ("same-origin", "none")
    else:
        same = origin is None or origin == f"{asked.scheme}://{asked.host}"
    if not same:
        raise Forbidden("This change was sent by the page of another site.")


def bind_browsers(wsgi_app: WSGIApplication) -> WSGIApplication:
    """Wrap the app so that every answer says what a browser may do with it."""

    def bound(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        def start(status: str, headers: list[tuple[str, str]], *error: Any) -> Any:
            return start_response(status, headers + _HEADERS, *error)

        return wsgi_app(environ, start)

    return bound


def forbid_caches(asked: Request, response: Response) -> None:
    """After every request: nothing of ours is kept in a shared cache."""
    if asked.endpoint != "static" and "Cache-Control" not in response.headers:
        response.headers.add("Cache-Control", "no-store")


def keep_session(response: Response, secret: str) -> None:
    """Give the browser its session, for as long as the server keeps it.

    Lax, so that a link in a mail or a ticket opens its page; each change is held to come from our own pages.
    """
    response.set_cookie(
        COOKIE, secret, max_age=SESSION_LIFE, httponly=True, samesite="Lax", secure=request.is_secure,
        path=request.root_path or "/",
    )  # fmt: skip


def drop_session(response: Response) -> None:
    response.delete_cookie(COOKIE, path=request.root_path or "/")
