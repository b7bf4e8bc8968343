"""The pages: the form goes through the same schema and the same adapter as the API, and each page has a JSON twin.

A page is a dataclass; `_show` draws it with its template, or, for a client that asks for JSON, gives it as it is. What
changes something answers with a redirect to the page that shows the change: going back or reloading repeats nothing.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from flask import Blueprint, Response, redirect, render_template, request, send_from_directory, url_for
from flask.typing import ResponseReturnValue

from . import lookups, snippets
from .adapter import ModelAdapter
from .contract import Field, Record
from .errors import (
    BreakingChange,
    Flaw,
    InvalidInput,
    NotFound,
    NotReady,
    ReviewappError,
    Unauthenticated,
    UsageError,
    pointer,
)
from .evidence.pack import Pack, changed_files, folder_of
from .forms import Input, as_typed, inputs, mistakes, typed
from .lookups import FILTERS, option
from .pages import (
    ContractPage,
    EvidencePage,
    HistoryPage,
    Judgement,
    MovePage,
    RecordPage,
    ReleasesPage,
    SignInPage,
    TryPage,
)
from .parts import parts
from .prediction import Call, Prediction
from .protocol import answer, read_form, read_query, request_id, wants_json
from .registry import BREAKING_CHANGE
from .release import ReleaseId
from .samples import example_record, valid_record
from .schemas import (
    BREAKING,
    MOVE_REASON,
    form_schema,
    move_request,
    promote_request,
    verdict_fields,
    verdict_request,
)
from .security import COOKIE, EVERYBODY, client, drop_session, keep_session, known_client, needs
from .stages import stage
from .wording import VERDICT_WORDS, Story, tell

ui = Blueprint("ui", __name__)

TRY_OPTIONS = (
    option("prediction", "text", "Prediction", "Show this one.", max_length=100),
    option("sample", "integer", "Sample", "Fill in this one.", minimum=1),
    option("random", "integer", "Random", "Fill in a random valid request made from this seed.", minimum=0),
)
SIGN_IN_OPTIONS = (
    option("link", "text", "Link", "The secret of a one-use link.", max_length=200),
    option("next", "text", "Next", "The page to go to.", max_length=2000),
)


NAVIGATION = (  # the page, its name, the role it needs, and the views that belong to it
    ("ui.try_it", "Try", "submit", ("ui.try_it", "ui.submit")),
    ("ui.history", "History", "review", ("ui.history", "ui.show_record", "ui.give_verdict")),
    ("ui.show_contract", "Contract", EVERYBODY, ("ui.show_contract",)),
    (
        "ui.show_releases",
        "Releases",
        "submit",
        ("ui.show_releases", "ui.confirm_promotion", "ui.promote", "ui.confirm_roll_back", "ui.roll_back"),
    ),
    ("ui.show_evidence", "Evidence", "submit", ("ui.show_evidence",)),
)


@ui.app_context_processor
def navigation() -> dict[str, Any]:
    """Give every template the pages that the reader may open: (address, name, whether it is this one)."""
    reader = known_client()
    return {
        "reader": reader,
        "navigation": [
            (url_for(page), name, request.endpoint in views)
            for page, name, role, views in NAVIGATION
            if role == EVERYBODY or (reader is not None and reader.may(role))
        ],
    }


def _show(template: str, page: Any, status: int = 200) -> Response:
    """Return a page, or what it shows as JSON."""
    if wants_json():
        shown = answer(page.as_json(), status)
    else:
        with stage("render"):
            shown = Response(render_template(template, page=page), status)
    shown.headers["Vary"] = "Accept"
    return shown


def _show_mistakes(template: str, page: Any, error: ReviewappError) -> Response:
    """Return a page with the mistakes marked in it, or, for a program, the problem itself."""
    if wants_json():
        raise error
    return _show(template, page, 422)


# ---- try --------------------------------------------------------------------------------------------------------


@ui.get("/")
@needs("submit")
def try_it() -> ResponseReturnValue:
    """The form, empty or filled with a sample, a random request, or a recorded one, whose answer it then shows."""
    adapter, query = parts.registry.adapter(), read_query(TRY_OPTIONS)
    if query["prediction"] is not None:
        return _show("try.html", _try_page(adapter, prediction=lookups.prediction(query["prediction"])))
    record: Record | None = None
    if query["sample"] is not None:
        samples = adapter.release.samples
        if query["sample"] > len(samples):
            raise NotFound(f"There is no such sample; this release has {len(samples)}.")
        record = samples[query["sample"] - 1].input
    if query["random"] is not None:
        like = [row.input for row in adapter.release.golden]
        record = valid_record(adapter.contract, random.Random(query["random"]), like)  # noqa: S311 (no secret)
    return _show("try.html", _try_page(adapter, record, seed=query["random"] or 0))


@ui.post("/")
@needs("submit")
def submit() -> ResponseReturnValue:
    """Answer a submitted form, then show it at an address of its own."""
    adapter = parts.registry.adapter()
    text = typed(adapter.contract.fields, read_form(parts.settings.max_body))
    try:
        record = form_schema(adapter.contract).load(text, "/input")
    except InvalidInput as error:
        return _show_mistakes("try.html", _try_page(adapter, text=text, flaws=error.errors), error)
    call = Call(source="form", client=client().name, request_id=request_id())
    [made] = adapter.predict([record], call, compare=True, explain=True)
    return redirect(url_for(".try_it", prediction=made.id, _anchor="answer"), 303)


def _try_page(
    adapter: ModelAdapter,
    record: Record | None = None,
    *,
    text: dict[str, str] | None = None,
    flaws: Sequence[Flaw] = (),
    prediction: Prediction | None = None,
    seed: int = 0,
) -> TryPage:
    if prediction is not None:
        record = prediction.input
    text = as_typed(record or {}) if text is None else text
    drawn = inputs(adapter.contract.fields, text, flaws, "/input", form="request")
    return TryPage(
        contract=adapter.contract,
        inputs=drawn,
        samples=adapter.release.samples,
        next_random=seed + 1,
        record=record,
        mistakes=mistakes(drawn, flaws, "/input"),
        story=_story(prediction) if prediction else None,
        judgement=_judgement(prediction) if prediction else None,
        snippets=_snippets(prediction.input) if prediction else {},
    )


# ---- look back and judge ----------------------------------------------------------------------------------------


@ui.get("/history")
@needs("review")
def history() -> ResponseReturnValue:
    """Every prediction, newest first, with the API's own filters and cursors."""
    query = {name: value for name, value in request.args.items() if value}

    def controls(flaws: Sequence[Flaw] = ()) -> list[Input]:
        return inputs(_filters(), query, flaws, "/query", form="filter", blank="Any", compact=True)

    try:
        found, following = lookups.predictions()
    except InvalidInput as error:
        drawn = controls(error.errors)
        page = HistoryPage(drawn, query, mistakes=mistakes(drawn, error.errors, "/query"))
        return _show_mistakes("history.html", page, error)
    return _show("history.html", HistoryPage(controls(), query, found, following))


def _filters() -> list[Field]:
    """Return the API's filters, the one for the label with the labels of the live release to choose from."""
    try:
        labels = parts.registry.adapter().contract.outcome.labels or None
    except NotReady:
        labels = None
    return [replace(one, seen_choices=labels) if one.name == "label" else one for one in FILTERS]


@ui.get("/history/<prediction_id>")
@needs("submit")
def show_record(prediction_id: str) -> ResponseReturnValue:
    """One prediction with its whole story."""
    return _show("record.html", _record_page(lookups.prediction(prediction_id)))


@ui.post("/history/<prediction_id>/verdict")
@needs("review")
def give_verdict(prediction_id: str) -> ResponseReturnValue:
    """Append a verdict."""
    prediction = lookups.prediction(prediction_id)
    text = typed(verdict_fields(prediction.outcome), read_form(parts.settings.max_body))
    try:
        lookups.add_verdict(prediction_id, verdict_request(prediction.outcome, text=True).load(text))
    except InvalidInput as error:
        return _show_mistakes("record.html", _record_page(prediction, text, error.errors), error)
    return redirect(url_for(".show_record", prediction_id=prediction_id, _anchor="verdicts"), 303)


@ui.post("/history/<prediction_id>/verdict/withdraw")
@needs("review")
def withdraw_verdict(prediction_id: str) -> ResponseReturnValue:
    """Take the verdict that holds back; the history keeps it."""
    parts.ledger.withdraw_verdict(prediction_id, client().name)
    return redirect(url_for(".show_record", prediction_id=prediction_id, _anchor="verdicts"), 303)


def _record_page(prediction: Prediction, text: dict[str, str] | None = None, flaws: Sequence[Flaw] = ()) -> RecordPage:
    return RecordPage(_story(prediction), _judgement(prediction, text, flaws), _snippets(prediction.input))


def _story(prediction: Prediction) -> Story:
    try:
        release = parts.registry.adapter().release
    except NotReady:  # what was answered can be read, and judged, also while nothing answers
        return tell(prediction)
    return tell(prediction, release.contract, release.policy if release.id == prediction.release else None)


def _judgement(
    prediction: Prediction, text: dict[str, str] | None = None, flaws: Sequence[Flaw] = ()
) -> Judgement | None:
    """Return the form for a verdict, or None for who may not give one."""
    if not client().may("review"):
        return None
    drawn = inputs(
        verdict_fields(prediction.outcome), text, flaws, form="verdict", blank="No other", words=VERDICT_WORDS
    )
    return Judgement(drawn, mistakes(drawn, flaws))


def _snippets(record: Record | None) -> dict[str, str]:
    """Return the request as programs send it, by the name of the language."""
    if record is None:
        return {}
    base, token = request.url_root.rstrip("/"), parts.settings.auth == "token"
    return {
        "curl": snippets.curl(base, record, snippets.TOKEN if token else None),
        "Python": snippets.python(base, record, token=token),
    }


# ---- reference --------------------------------------------------------------------------------------------------


@ui.get("/contract")
@needs(EVERYBODY)
def show_contract() -> ResponseReturnValue:
    """What a request may hold, for people."""
    contract = parts.registry.adapter().contract
    example = example_record(contract)
    return _show("contract.html", ContractPage(contract, example, _snippets(example)))


@ui.get("/releases")
@needs("submit")
def show_releases() -> ResponseReturnValue:
    """What answers now, or why nothing does, and how that came about."""
    try:
        release, active, problem = parts.registry.adapter().release, lookups.active_release(), parts.registry.problem()
    except NotReady as error:
        release, active, problem = None, None, error.detail
    return _show("releases.html", ReleasesPage(release, active, problem, lookups.releases(), parts.registry.events()))


@ui.get("/releases/<int:version>/promote")
@needs("admin")
def confirm_promotion(version: int) -> ResponseReturnValue:
    """What the promotion of a version changes, and the form that does it."""
    return _show("move.html", _promotion(version))


@ui.post("/releases/<int:version>/promote")
@needs("admin")
def promote(version: int) -> ResponseReturnValue:
    """Let another version answer from now on."""
    text = typed((MOVE_REASON, BREAKING), read_form(parts.settings.max_body))
    try:
        reason, breaking = promote_request(text=True).load(text)
        parts.registry.promote(version, reason, client().name, breaking)
    except (InvalidInput, BreakingChange) as error:
        return _show_mistakes("move.html", _promotion(version, text, error), error)
    return redirect(url_for(".show_releases"), 303)


@ui.get("/releases/rollback")
@needs("admin")
def confirm_roll_back() -> ResponseReturnValue:
    """What a roll-back changes, and the form that does it."""
    return _show("move.html", _roll_back())


@ui.post("/releases/rollback")
@needs("admin")
def roll_back() -> ResponseReturnValue:
    """Let the release that was live before answer again."""
    text = typed((MOVE_REASON,), read_form(parts.settings.max_body))
    try:
        parts.registry.roll_back(move_request(text=True).load(text), client().name)
    except InvalidInput as error:
        return _show_mistakes("move.html", _roll_back(text, error.errors), error)
    return redirect(url_for(".show_releases"), 303)


def _promotion(version: int, text: dict[str, str] | None = None, error: ReviewappError | None = None) -> MovePage:
    target, found = parts.registry.compare(version)
    fields, flaws = [MOVE_REASON], list(error.errors) if isinstance(error, InvalidInput) else []
    if any(one.breaking for one in found):
        fields.append(replace(BREAKING, required=True, nullable=False))  # here it must be answered
        if isinstance(error, BreakingChange) or (text is not None and not text.get(BREAKING.name)):
            flaws.append(Flaw(pointer(BREAKING.name), BREAKING_CHANGE, "Say yes if the callers are ready for this."))
    drawn = inputs(fields, text, flaws, form="move")
    return MovePage(False, parts.registry.live(), target, found, drawn, mistakes(drawn, flaws))


def _roll_back(text: dict[str, str] | None = None, flaws: Sequence[Flaw] = ()) -> MovePage:
    target, found = parts.registry.compare_back()
    drawn = inputs([MOVE_REASON], text, flaws, form="move")
    return MovePage(True, parts.registry.live(), target, found, drawn, mistakes(drawn, flaws))


@ui.get("/evidence")
@needs("submit")
def show_evidence() -> ResponseReturnValue:
    """What was measured, and whether it belongs to the release that answers now."""
    live = parts.registry.live()
    folder = _evidence_folder(live)
    try:
        pack = Pack.read(folder)
        problems = list(changed_files(folder))
    except UsageError as error:
        return _show("evidence.html", EvidencePage(None, error.detail))
    if live is None or live.digest != pack.manifest["release"]["digest"]:
        problems.insert(
            0,
            f"These figures are of another build than the live one{f', {live}' if live else ''}: its digest differs, "
            "as it does where another processor moved the last digits of a fit; `reviewapp evidence --check` tells "
            "whether the figures hold",
        )
    return _show("evidence.html", EvidencePage(pack, "; ".join(problems) + "." if problems else None))


@ui.get("/evidence/<name>")
@needs("submit")
def evidence_file(name: str) -> ResponseReturnValue:
    """One file of the evidence, as it lies there; pictures are shown, the others downloaded."""
    folder = _evidence_folder(parts.registry.live())
    try:
        known = name in Pack.read(folder).files
    except UsageError:
        known = False
    if not known:
        raise NotFound("The evidence has no such file.")
    return send_from_directory(folder, name, as_attachment=not name.endswith(".png"))


def _evidence_folder(live: ReleaseId | None) -> Path:
    return folder_of(parts.settings, None if live is None else parts.registry.folder(live))


# ---- sign in ----------------------------------------------------------------------------------------------------


@ui.get("/sign-in")
@needs(EVERYBODY)
def sign_in() -> ResponseReturnValue:
    """The sign-in form; a one-use link opens a session and leads to the form at once."""
    query = read_query(SIGN_IN_OPTIONS)
    if query["link"] is None:
        return _show("sign_in.html", SignInPage(known_client(), query["next"] or ""))
    if request.method == "HEAD":  # a look that must not use the link up
        return ""
    secret = parts.accounts.redeem_link(query["link"])
    if secret is not None:
        return _signed_in(secret)
    if known_client() is not None:  # the same link again, by who is in already
        return redirect(url_for(".try_it"), 303)
    raise Unauthenticated("This sign-in link was used before or has expired; start the service for a new one.")


@ui.post("/sign-in")
@needs(EVERYBODY)
def sign_in_with_token() -> ResponseReturnValue:
    """Open a session for the holder of an API token."""
    form = read_form(parts.settings.max_body)
    token, following = form.get("token", "").strip(), form.get("next", "")
    secret = parts.accounts.open_session(token) if token else None
    if secret is not None:
        return _signed_in(secret, following)
    error = "This token is unknown, has expired or was revoked." if token else "Enter a token."
    if wants_json():
        raise Unauthenticated(error)
    return _show("sign_in.html", SignInPage(known_client(), following, error), 401)


@ui.post("/sign-out")
@needs(EVERYBODY)
def sign_out() -> ResponseReturnValue:
    """End the session, here and on the server."""
    if COOKIE in request.cookies:
        parts.accounts.end_session(request.cookies[COOKIE])
    response = redirect(url_for(".sign_in"), 303)
    drop_session(response)
    return response


def _signed_in(secret: str, following: str = "") -> ResponseReturnValue:
    response = redirect(following if _is_ours(following) else url_for(".try_it"), 303)
    keep_session(response, secret)
    return response


def _is_ours(address: str) -> bool:
    """Whether an address that came with a request is a path of this service; browsers read // and /\\ as a host."""
    return re.fullmatch(r"/(?!/)[!-\[\]-~]*", address) is not None
