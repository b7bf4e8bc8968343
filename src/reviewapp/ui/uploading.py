"""Upload: a CSV file in, checked row by row; its answers and problems on a page, and out again as CSV."""

from __future__ import annotations

import hashlib
import re
import secrets
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from flask import Response, url_for
from flask.typing import ResponseReturnValue
from werkzeug.utils import secure_filename

from .. import bulk
from ..errors import SHOWN_ERRORS, InvalidInput, ReviewappError, TooLarge
from ..filters import PAGE, option
from ..forms import Mistake
from ..parts import parts
from ..protocol import answer, drain, read_file, read_query, request_id, stream, wants_json
from ..samples import csv_template
from ..security import client, needs
from ..stages import stage
from ..uploads import BLIND, NOT_REACHED, OTHER_RELEASE, Upload, UploadRow
from ..wording import answered, excerpt, how_sure, percent
from .base import Json, done, page, show, show_mistakes, ui

ANSWER_SECONDS = 20.0  # a request without script answers for so long: proxies wait a minute at most
SHOWN_LABELS = 10
LONGEST_PROBLEM = 300  # characters of a problem on the page; the file has all of them
NOTHING_RECORDED = "This file was not taken, and nothing of it is recorded."
UPLOAD_FIELDS = (
    option("answer", "category", "Answer", "later: only store the file.", choices=("now", "later")),
    option("form", "text", "Form", "Made for each form: the same file sent twice from it counts once.", max_length=100),
)
ROW_OPTIONS = (
    option("after", "integer", "After", "Only rows after this one.", minimum=0, maximum=10**9),
    option("only", "category", "Only", "Only rows with a problem.", choices=("problems",)),
)


@dataclass(frozen=True)
class UploadsPage:
    """The form for a file, and the files that were sent last: the reader's own, or everybody's for an admin."""

    uploads: Sequence[Upload]
    everybody: bool
    limit: int
    form: str
    mistakes: list[Mistake] = field(default_factory=list)

    @property
    def mistake(self) -> str:
        """What stands beside the field."""
        few = len(self.mistakes) == 1
        return f"{self.mistakes[0].detail if few else 'Its mistakes are listed above.'} {NOTHING_RECORDED}"

    def as_json(self) -> Json:
        return {"uploads": [upload.as_json() for upload in self.uploads]}


@dataclass(frozen=True)
class UploadPage:
    """A file: how far it is, what its answers are together, and some of its rows.

    `stopped` says why its other rows cannot be answered; predictions whose ids are `hidden` are not told.
    """

    upload: Upload
    found: Sequence[UploadRow]
    query: Mapping[str, int | str]
    more: bool
    hidden: set[str]
    mine: bool
    stopped: str = ""
    mistakes: list[Mistake] = field(default_factory=list)

    @property
    def labels(self) -> list[tuple[str, int, str]]:
        """(label, rows, share of the answers), the most frequent first; of many labels the rest together."""
        counts = sorted(self.upload.summary.labels.items(), key=lambda one: (-one[1], one[0]))
        shown, rest = counts[:SHOWN_LABELS], counts[SHOWN_LABELS:]
        if rest:
            shown.append((f"{len(rest)} other labels", sum(n for _, n in rest)))
        return [(label, n, share(n, self.predictions)) for label, n in shown]

    @property
    def outcome(self) -> str:
        """What became of the file, once it is done."""
        return outcome(self.upload)

    @property
    def predictions(self) -> int:
        return sum(self.upload.summary.decisions.values())

    @property
    def review(self) -> int:
        return self.upload.summary.decisions.get("review", 0)

    @property
    def review_share(self) -> str:
        return share(self.review, self.predictions)

    @property
    def rows(self) -> list[tuple[UploadRow, str, str, str, str]]:
        """(row, beginning of its request, its answer and how sure that is, its decision, its problem)"""
        return [
            (one, excerpt({str(n): cell for n, cell in enumerate(one.cells)}), *self._told(one)) for one in self.found
        ]

    def _told(self, one: UploadRow) -> tuple[str, str, str]:
        made = one.prediction
        if one.problem is not None:
            more = "…" if len(one.problem) > LONGEST_PROBLEM else ""
            return "", "", one.problem[:LONGEST_PROBLEM] + more
        if made is None:
            return "", "", OTHER_RELEASE if self.stopped else "not answered yet"
        if made.id in self.hidden:
            return "", "", BLIND
        return f"{answered(made.output)}, {how_sure(made.output)}", made.decision, ""

    @property
    def following(self) -> Mapping[str, int | str] | None:
        """The query of the page after this one."""
        return {**self.query, "after": self.found[-1].number} if self.more else None

    def as_json(self) -> Json:
        rows = [
            {"row": one.number, "line": one.line, "problem": BLIND if hidden else one.problem}
            | {"prediction": None if one.prediction is None or hidden else one.prediction.as_json()}
            for one in self.found
            for hidden in [one.prediction is not None and one.prediction.id in self.hidden]
        ]
        following = self.found[-1].number if self.more else None
        return {"upload": self.upload.as_json(), "stopped": self.stopped or None, "rows": rows, "next": following}


def outcome(upload: Upload) -> str:
    problems, made = upload.summary.problems, sum(upload.summary.decisions.values())
    wrong = f", {problems:,} with a problem" if problems else ""
    return f"{upload.rows:,} row{'s' * (upload.rows != 1)} checked: {made:,} answered and recorded{wrong}."


def share(n: int, of: int) -> str:
    return percent(n / of) if 0 < n < of else "all" if n else "none"


@page("/upload")
@needs("submit")
def upload() -> ResponseReturnValue:
    """The form for a file, and the last uploads."""
    return show("uploads.html", _uploads_page())


@ui.post("/upload")
@needs("submit")
def send_upload() -> ResponseReturnValue:
    """Store a file and answer it, unless that is asked for later; nothing is stored of one that has a mistake."""
    adapter = parts.registry.adapter()
    try:
        name, content, values = read_file("file", parts.settings.max_bulk, UPLOAD_FIELDS)
        with stage("parse"):
            rows = bulk.CsvRows.whole(content, adapter.contract)
    except (InvalidInput, TooLarge) as error:
        drain()  # what is still being sent, or the page would not arrive
        return show_mistakes("uploads.html", _uploads_page(_mistakes(error)), error)
    owner, sent = client().name, values["form"] or secrets.token_hex(16)
    upload_id = _id_of(sent, owner, name, content)
    stored, new = parts.uploads.add(upload_id, name, owner, request_id(), adapter.release, rows)
    address = url_for(".show_upload", upload_id=stored.id)
    if not new:
        return done(address, "This file was sent from the same form before; nothing was recorded twice.")
    if values["answer"] != "later":
        try:
            stored = _answer(stored, ANSWER_SECONDS)
        except ReviewappError as error:
            return done(address, f"The file is stored, but answering it stopped: {error.detail}")
    if not stored.finished:
        return done(address, "The file is stored.")
    return done(address, outcome(stored))


@page("/upload/<upload_id>")
@needs("submit")
def show_upload(upload_id: str) -> ResponseReturnValue:
    """One file: its state, its summary, its rows."""
    return show("upload.html", _upload_page(_found(upload_id)))


@ui.post("/upload/<upload_id>/continue")
@needs("submit")
def continue_upload(upload_id: str) -> ResponseReturnValue:
    """Answer further rows: for a program a chunk, and how far the file is then; for a person all there is time for."""
    found = _found(upload_id)
    if wants_json():
        return answer(_answer(found, 0.0).as_json())
    try:
        found = _answer(found, ANSWER_SECONDS)
    except ReviewappError as error:
        shown = _upload_page(_found(upload_id), [Mistake(None, "Not continued", error.detail)])
        return show_mistakes("upload.html", shown, error)
    said = outcome(found) if found.finished else "There are rows left; continue once more."
    return done(url_for(".show_upload", upload_id=upload_id), said)


@ui.get("/upload/<upload_id>/answers.csv")
@needs("submit")
def upload_answers(upload_id: str) -> ResponseReturnValue:
    """The file with its answers, row by row as it came."""
    found = _found(upload_id)
    problem = OTHER_RELEASE if _stopped(found) else NOT_REACHED
    pieces = parts.uploads.written(found, problem, parts.desk.hidden(client().name))
    stem = secure_filename(re.sub(r"\.csv$", "", found.name, flags=re.IGNORECASE))[:100]
    return _as_file(stream(pieces, bulk.CSV_TYPE), f"{stem or 'upload'}-answers.csv")


@ui.get("/upload/template.csv")
@needs("submit")
def upload_template() -> ResponseReturnValue:
    """A file to fill in: the contract's columns, and its example as the only row."""
    contract = parts.registry.adapter().contract
    response = Response(csv_template(contract), mimetype=bulk.CSV_TYPE)
    return _as_file(response, f"{secure_filename(contract.name) or 'upload'}-template.csv")


def _id_of(form: str, owner: str, name: str, content: bytes) -> str:
    """Return the id that this file has when sent from this form: a second click makes no second upload."""
    said = "\0".join((form, owner, name, hashlib.sha256(content).hexdigest()))
    return str(uuid.uuid5(uuid.NAMESPACE_OID, said))


def _as_file(response: Response, name: str) -> Response:
    response.headers.set("Content-Disposition", "attachment", filename=name)
    return response


def _found(upload_id: str) -> Upload:
    """Return an upload; only an admin sees those of others."""
    return parts.uploads.upload(upload_id, None if client().may("admin") else client().name)


def _answer(found: Upload, seconds: float) -> Upload:
    """Answer a chunk of rows, and further ones for some seconds."""
    ends, adapter = time.monotonic() + seconds, parts.registry.adapter()
    while not found.finished:
        found = parts.uploads.go_on(found, adapter)
        if time.monotonic() >= ends:
            break
    return found


def _stopped(found: Upload) -> str:
    """Return why the rows that are left cannot be answered, or nothing."""
    live = parts.registry.live()
    if found.finished or live is None or live.digest == found.release_digest:
        return ""
    return f"Another release, {live}, answers now than when this file was sent; one file is answered by one release."


def _uploads_page(mistakes: Sequence[Mistake] = ()) -> UploadsPage:
    everybody = client().may("admin")
    return UploadsPage(
        uploads=parts.uploads.latest(None if everybody else client().name),
        everybody=everybody,
        limit=parts.settings.max_bulk,
        form=secrets.token_hex(16),
        mistakes=list(mistakes),
    )


def _upload_page(found: Upload, mistakes: Sequence[Mistake] = ()) -> UploadPage:
    query = read_query(ROW_OPTIONS)
    rows = parts.uploads.rows(found, after=query["after"] or 0, limit=PAGE + 1, only_problems=query["only"] is not None)
    return UploadPage(
        upload=found,
        found=rows[:PAGE],
        query={name: value for name, value in query.items() if value is not None and name != "after"},
        more=len(rows) > PAGE,
        hidden=parts.desk.hidden(client().name),
        mine=found.client == client().name,
        stopped=_stopped(found),
        mistakes=list(mistakes),
    )


def _mistakes(error: ReviewappError) -> list[Mistake]:
    """Return what is wrong with a file for the summary, each with the way to the field."""
    if isinstance(error, TooLarge):
        return [Mistake("file", "File", f"This is too large. {error.detail}")]
    shown = [
        Mistake("file", bulk.column(flaw.pointer) if flaw.pointer not in ("", "/file") else "File", flaw.detail)
        for flaw in error.errors[:SHOWN_ERRORS]
    ]
    more = len(error.errors) - len(shown)
    return [*shown, *([Mistake("file", "File", f"{more:,} more mistakes.")] if more else [])]
