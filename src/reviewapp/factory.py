"""`create_app`: joins the parts and does nothing else. Read this first, then the files in this order.

0 errors places staging config stages    what can go wrong, where things lie and are made, settings, timing,
  logs counters access_log metering      the log, what is counted and told of each request,
  manifest                               a release's files,
  remotefiles fetched releasestore       and where releases lie: a folder, or a URL and what was fetched from it
0 strictjson csvfiles lines joining      reading JSON and CSV strictly, writing CSV safely; calls that meet
1 dates contract                         THE description of a request and its outcome
2 schemas samples forms frames           what is derived from it: validation, examples, the form, the DataFrame
2 difference                             what changes for callers from one contract to another
2 policy rules rulelist calibration      what a release is made of: what to do with an answer, the baseline,
  transformers structures estimators     the model, what of it is to be trusted,
  trust profile release                  how its table was spread, and the release itself
3 engine/                                how an option answers: scikit-learn itself, or its fitted parts compiled
3 explain prediction adapter             answering: the one module that both doors call
3 proof proving verifying                whether a release may be loaded at all, shown in a process of its own
3 bulk dataframes tensors                whole files: each row a request of its own; tables of other protocols
3 columns sqlwords tables chain schema   keeping: what SQLite and PostgreSQL have in common and what they do not,
  statements keylocks sqlite postgres
  store desk reviews blocks ledger       predictions, what waits, what was said of them, the live release, who may do
                                         what, files sent on a page; the chain over it,
  releaselog registry rounds attempts    what is done every so often; whether it is whole, and what was asked erased
  accounts uploads intact purging
3 ledgerfile copying backup restoring    the ledger from outside, and copied into another database; all that is kept,
                                         in one file
3 search finding filters export          what is kept, found again: words, pages, what can be asked for, files of it
3 openapi marking wording snippets       the contract as a document, a prediction in words (its terms marked in their
                                         text), a request to copy
4 evaluation golden trigger monitoring   what a release says of itself, its ledger of it, and of its readers; when it
  reliance drift watching                must stop, and that it does; what a rule would have done, and what it is
  replaying simulating                   worth
4 slo tally                              how the service stands to its objectives, how much it has answered
4 building/ triage/                      from a table to a release; the default model
4 evidence/                              the trials that measure it all, and the pack they fill
5 parts    6 protocol incoming security  what the app is made of; HTTP and guards as both doors need them
6 scoring/                               files of any size, answered by column and by Dask
6 lookups metrics                        what both doors look up; what Prometheus reads
7 api compat ui/ worker server doctor/   the doors, gunicorn, and what to know before trusting it
8 factory    9 cli/ __main__             joined together, and the command

A file imports only files that come before it; a test holds it to that.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from flask import Flask, Request, Response, current_app, redirect, render_template, request, url_for
from flask.globals import app_ctx, request_ctx
from flask.sessions import NullSession, SessionInterface
from werkzeug import exceptions
from werkzeug.middleware.proxy_fix import ProxyFix
from werkzeug.wrappers import Response as WerkzeugResponse

from . import drift, logs, places, protocol, releasestore, security, slo
from .access_log import AccessLog
from .accounts import Accounts
from .adapter import ModelAdapter
from .api import Name, api, health
from .compat import compat, is_spoken, refusal
from .config import Settings, load_settings
from .counters import OTHER, Counters
from .desk import Desk
from .errors import REQUEST_ID, BadRequest, MethodNotAllowed, NotFound, ReviewappError, Unauthenticated, as_own
from .ledger import Ledger
from .metering import Meter, note
from .parts import EXTENSION, Parts
from .proof import Proofs
from .registry import Registry
from .release import Release
from .rounds import Rounds
from .slo import Minutes, Objectives
from .stages import clock, server_timing
from .store import Store
from .tally import Tally
from .trust import TrustedTypes
from .ui import ui
from .uploads import Uploads
from .watching import EVERY_SECONDS, Watch

log = logging.getLogger("reviewapp")
PATIENCE = 1.5  # seconds: who waits for another process holds a thread that could answer who only reads


class _NoSessions(SessionInterface):
    """Flask's own sessions are not used: who signed in is kept in the store (accounts.py)."""

    _none = NullSession()

    def open_session(self, app: Flask, request: Request) -> NullSession:
        return self._none


class _Service(Flask):
    """Flask without a look, in each request, for a session of its own and for functions that are coroutines."""

    session_interface = _NoSessions()

    def ensure_sync(self, func: Callable[..., Any]) -> Callable[..., Any]:
        return func


def create_app(config: Mapping[str, Any] | None = None) -> Flask:
    """Return the app. `config` overrides settings by name (`instance`, `bind` …); nothing of a release is loaded."""
    settings = load_settings(config)
    logs.write_one_line_an_event()
    app = _Service(
        "reviewapp",
        template_folder=str(places.folder("templates")),
        static_folder=str(places.folder("static")),
        instance_path=str(settings.instance),
    )
    app.config.update(PROVIDE_AUTOMATIC_OPTIONS=False)
    app.extensions[EXTENSION] = parts = make_parts(settings, patience=PATIENCE)

    @app.before_request
    def begin() -> None:  # one function: each that Flask calls costs more than what these do
        asked = request_ctx.request  # the request itself: each use of the proxy would look it up anew
        protocol.begin_request()
        security.check_host(asked, settings.hosts)
        security.guard(asked, parts)

    app.after_request(_finish)
    app.register_error_handler(Exception, _failed)
    app.url_map.converters["default"] = Name
    for blueprint in (api, health, ui, *([compat] if settings.compat == "on" else [])):
        app.register_blueprint(blueprint)
    app.jinja_env.trim_blocks = app.jinja_env.lstrip_blocks = True
    security.check_guards(app)
    parts.meter.counters.lay_out((rule.rule, one) for rule in app.url_map.iter_rules() for one in rule.methods or ())
    app.wsgi_app = parts.meter.wrap(security.bind_browsers(app.wsgi_app))  # type: ignore[assignment]  # a method
    if settings.proxies:
        n = settings.proxies
        app.wsgi_app = ProxyFix(app.wsgi_app, x_for=n, x_proto=n, x_host=n, x_prefix=n)  # type: ignore[method-assign]
    return app


def make_parts(settings: Settings, *, patience: float | None = None) -> Parts:
    """Return the parts that the settings describe, for the app and the command line alike; nothing is opened yet.

    `patience` is how long they wait for another process that writes to the ledger, and for a release to be fetched.
    """
    store = Store(settings.database_url, patience=patience)
    counters = Counters(settings.instance, slow=settings.slo_latency_ms / 1000)
    ledger = Ledger(store, committed=counters.committed)

    def make_adapter(release: Release) -> ModelAdapter:
        return ModelAdapter(release, sinks=[ledger.add])

    trusted, prove = TrustedTypes(settings.instance).names, Proofs(settings.instance).demand
    place = releasestore.of(settings, patience)
    registry = Registry(place, store, make_adapter, trusted=trusted, prove=prove)
    watch, rounds = Watch(registry, ledger), Rounds(store)
    rounds.add("stock", 0, registry.stock)
    rounds.add("trigger", EVERY_SECONDS, watch.go_round)
    rounds.add(drift.ROUND, drift.EVERY_SECONDS, partial(drift.look_again, registry, ledger, rounds))
    meter, tally = Meter(counters, AccessLog(settings.access_log, counters.dropped)), Tally(store)
    goal = Objectives(settings.slo_availability, settings.slo_latency_ms / 1000, settings.slo_latency_share)
    minutes = Minutes(store, rounds, counters, tally, goal, name=slo.round_of(store, settings.instance))
    rounds.add(minutes.name, slo.EVERY_SECONDS, minutes.go_round)
    return Parts(
        settings, store, ledger, Desk(store), registry, Accounts(store), Uploads(store), watch, rounds, meter, tally,
        minutes,
    )  # fmt: skip


def _finish(response: Response) -> Response:
    asked, status = request_ctx.request, response.status_code
    environ, rule = asked.environ, asked.url_rule
    response.headers.add("X-Request-ID", environ.get(REQUEST_ID) or protocol.request_id())
    known = app_ctx.g.get("client")
    streamed = type(response.response) is not list and response.is_streamed
    note(environ, (OTHER if rule is None else rule.rule, status, clock(), known and known.name, streamed))
    timing = server_timing()
    if timing is not None:
        response.headers.add("Server-Timing", timing)
    if status == 401:
        response.headers["WWW-Authenticate"] = "Bearer"
    security.forbid_caches(asked, response)
    return response


def _failed(error: Exception) -> WerkzeugResponse:
    """Turn every error into an answer: problem+json for programs, a page for people. The cause goes to the log."""
    if isinstance(error, exceptions.HTTPException) and error.code is not None and error.code < 400:
        return WerkzeugResponse.force_type(error.get_response(), request.environ)
    known = _known(error)
    if 400 <= known.status < 500:
        reasons = {flaw.code for flaw in known.errors} or {known.slug}
        current_app.extensions[EXTENSION].meter.counters.refused(reasons)
    if known.status >= 500:  # being busy or not ready needs no trace; a failure does
        trace = error if known.status == 500 else None
        log.error("request %s failed: %s", protocol.request_id(), known.detail, exc_info=trace)
    for_programs = _for_programs()
    lost = [] if for_programs else _lost(known)
    protocol.drain()
    if for_programs:
        response: WerkzeugResponse = refusal(known) if is_spoken() else protocol.problem(known)
    elif isinstance(known, Unauthenticated) and request.method in ("GET", "HEAD") and request.endpoint != "ui.sign_in":
        asked = request.root_path + request.full_path.removesuffix("?")
        response = redirect(url_for("ui.sign_in", next=asked if 1 < len(asked) <= 1000 else None), 303)
    else:
        page = render_template("error.html", error=known, request_id=protocol.request_id(), lost=lost)
        response = Response(page, status=known.status)
    if known.retry_after is not None:
        response.headers["Retry-After"] = str(known.retry_after)
    if isinstance(error, exceptions.MethodNotAllowed) and error.valid_methods:
        response.headers["Allow"] = ", ".join(sorted(error.valid_methods))
    return response


def _lost(error: ReviewappError) -> list[tuple[str, str]]:
    """Return what a person had typed into a form that was sent after their session had ended."""
    if not isinstance(error, Unauthenticated) or request.mimetype != protocol.FORM_TYPE:
        return []
    try:
        sent, chosen = protocol.read_choices(current_app.extensions[EXTENSION].settings.max_body, "reasons")
    except ReviewappError:
        return []
    return [(name, text) for name, text in [*sent.items(), *(("reasons", one) for one in chosen)] if text]


def _for_programs() -> bool:
    """Whether the answer is read by a program; a request for a foreign Host has no pages to link to."""
    path = request.path
    return (
        path.startswith("/api/")
        or path in _PROGRAMS
        or is_spoken()
        or request_ctx.url_adapter is None
        or protocol.wants_json()
    )


_PROGRAMS = {"/livez", "/readyz", "/metrics"}


def _known(error: Exception) -> ReviewappError:
    """Return our own error for whatever was raised, also by the web framework."""
    if isinstance(error, exceptions.NotFound):
        return NotFound("There is nothing at this address.")
    if isinstance(error, exceptions.MethodNotAllowed):
        return MethodNotAllowed(f"Use {' or '.join(sorted(error.valid_methods or ()))} here.")
    if isinstance(error, exceptions.SecurityError):
        return security.foreign_host()
    if isinstance(error, exceptions.HTTPException) and 400 <= (error.code or 500) < 500:
        return BadRequest("The request is not well formed.")
    return as_own(error)
