"""The pages: the form goes through the same schema and the same adapter as the API."""

from __future__ import annotations

from dataclasses import dataclass

from flask import Blueprint, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue

from .contract import Contract
from .errors import InvalidInput, Unauthenticated
from .forms import Input, as_typed, inputs, typed
from .parts import parts
from .policy import LOW_CONFIDENCE, OPTIONS_DISAGREE, OUTSIDE_SEEN
from .prediction import Call, Prediction
from .protocol import read_form, request_id
from .samples import example_record
from .schemas import form_schema
from .security import COOKIE, EVERYBODY, client, drop_session, keep_session, needs

ui = Blueprint("ui", __name__)

REASON_WORDS = {
    LOW_CONFIDENCE: "the model is not confident enough",
    OUTSIDE_SEEN: "a value lies outside of what the model has seen",
    OPTIONS_DISAGREE: "the model and the baseline disagree",
}


@dataclass(frozen=True)
class TryPage:
    """The form, its mistakes, and the answer under it."""

    contract: Contract
    inputs: list[Input]
    prediction: Prediction | None = None

    @property
    def mistakes(self) -> list[Input]:
        return [field for field in self.inputs if field.error]

    @property
    def why(self) -> str:
        """The reasons of the decision as the end of a sentence."""
        return " and ".join(REASON_WORDS[reason] for reason in self.prediction.reasons) if self.prediction else ""


@ui.get("/")
@needs("submit")
def try_it() -> ResponseReturnValue:
    """The form; with `prediction` in the address, filled with that request, its answer under it."""
    contract = parts.registry.adapter().contract
    if "prediction" not in request.args:
        filled = as_typed(example_record(contract)) if "example" in request.args else {}
        return render_template("try.html", page=TryPage(contract, inputs(contract, filled)))
    own = None if client().may("review") else client().name
    prediction = parts.ledger.prediction(request.args["prediction"], own)
    filled = as_typed(prediction.input or {})
    return render_template("try.html", page=TryPage(contract, inputs(contract, filled), prediction))


@ui.post("/")
@needs("submit")
def submit() -> ResponseReturnValue:
    """Answer a submitted form, then show it at an address of its own: going back or reloading asks nothing twice."""
    adapter = parts.registry.adapter()
    text = typed(adapter.contract, read_form())
    try:
        record = form_schema(adapter.contract).load(text, "/input")
    except InvalidInput as error:
        return render_template(
            "try.html", page=TryPage(adapter.contract, inputs(adapter.contract, text, error.errors))
        ), 422
    call = Call(source="form", client=client().name, request_id=request_id())
    [made] = adapter.predict([record], call, compare=True, explain=True)
    return redirect(url_for(".try_it", prediction=made.id, _anchor="answer"), 303)


@ui.get("/sign-in")
@needs(EVERYBODY)
def sign_in() -> ResponseReturnValue:
    """The sign-in form; a one-use link opens a session and leads to the form at once."""
    if "link" not in request.args:
        return render_template("sign_in.html")
    if request.method == "HEAD":  # a look that must not use the link up
        return ""
    secret = parts.accounts.redeem_link(request.args["link"])
    if secret is None:
        raise Unauthenticated("This sign-in link was used before or has expired; start the service for a new one.")
    return _signed_in(secret)


@ui.post("/sign-in")
@needs(EVERYBODY)
def sign_in_with_token() -> ResponseReturnValue:
    """Open a session for the holder of an API token."""
    token = read_form().get("token", "").strip()
    secret = parts.accounts.open_session(token) if token else None
    if secret is None:
        error = "This token is unknown, has expired or was revoked." if token else "Enter a token."
        return render_template("sign_in.html", error=error), 401
    return _signed_in(secret)


@ui.post("/sign-out")
@needs(EVERYBODY)
def sign_out() -> ResponseReturnValue:
    """End the session, here and on the server."""
    if COOKIE in request.cookies:
        parts.accounts.end_session(request.cookies[COOKIE])
    response = redirect(url_for(".sign_in"), 303)
    drop_session(response)
    return response


def _signed_in(secret: str) -> ResponseReturnValue:
    response = redirect(url_for(".try_it"), 303)
    keep_session(response, secret)
    return response
