"""Sign in and out."""

from __future__ import annotations

from dataclasses import dataclass

from flask import redirect, request, url_for
from flask.typing import ResponseReturnValue

from ..accounts import Client
from ..errors import Unauthenticated
from ..filters import option
from ..forms import Mistake
from ..parts import parts
from ..protocol import is_path, read_form, read_query, wants_json
from ..security import COOKIE, EVERYBODY, drop_session, keep_session, known_client, needs
from .base import Json, page, show, ui

MAX_SIGN_IN = 16 << 10  # bytes of the form: a token, and the page to go to
SIGN_IN_OPTIONS = (
    option("link", "text", "Link", "The secret of a one-use link.", max_length=200),
    option("next", "text", "Next", "The page to go to.", max_length=2000),
)


@dataclass(frozen=True)
class SignInPage:
    """The form for a token. `next` is the page to go to afterwards."""

    client: Client | None
    next: str = ""
    error: str = ""

    @property
    def mistakes(self) -> list[Mistake]:
        return [Mistake("token", "Token", self.error)] if self.error else []

    def as_json(self) -> Json:
        return {"client": None if self.client is None else vars(self.client)}


@page("/sign-in")
@needs(EVERYBODY)
def sign_in() -> ResponseReturnValue:
    """The sign-in form; a one-use link opens a session and leads to the form at once."""
    query = read_query(SIGN_IN_OPTIONS)
    if query["link"] is None:
        return show("sign_in.html", SignInPage(known_client(), query["next"] or ""))
    if request.method == "HEAD":  # a look that must not use the link up
        return ""
    accounts, address = parts.accounts, request.remote_addr or ""
    accounts.attempts.check(address)
    secret = accounts.redeem_link(query["link"], _held())
    if secret is not None:
        return _signed_in(secret)
    if known_client() is not None:  # the same link again, by who is in already
        return redirect(url_for(".try_it"), 303)
    accounts.attempts.failed(address)
    raise Unauthenticated("This sign-in link was used before or has expired; start the service for a new one.")


@ui.post("/sign-in")
@needs(EVERYBODY)
def sign_in_with_token() -> ResponseReturnValue:
    """Open a session for the holder of an API token."""
    form = read_form(MAX_SIGN_IN)
    token, following = form.get("token", "").strip(), form.get("next", "")
    if token:
        accounts, address = parts.accounts, request.remote_addr or ""
        accounts.attempts.check(address)
        secret = accounts.open_session(token, _held())
        if secret is not None:
            return _signed_in(secret, following)
        accounts.attempts.failed(address)
    error = "This token is unknown, has expired or was revoked." if token else "Enter a token."
    if wants_json():
        raise Unauthenticated(error)
    return show("sign_in.html", SignInPage(known_client(), following, error), 401)


@ui.post("/sign-out")
@needs(EVERYBODY)
def sign_out() -> ResponseReturnValue:
    """End the session, here and on the server."""
    if _held():
        parts.accounts.end_session(_held())
    response = redirect(url_for(".sign_in"), 303)
    drop_session(response)
    return response


def _held() -> str:
    """Return the secret of the session that the browser has; another browser cannot have chosen it: we make them."""
    return request.cookies.get(COOKIE, "")


def _signed_in(secret: str, following: str = "") -> ResponseReturnValue:
    response = redirect(following if is_path(following) else url_for(".try_it"), 303)
    keep_session(response, secret)
    return response
