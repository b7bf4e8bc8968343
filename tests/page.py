"""A page as a browser reads it, for tests: its elements and its text, taken apart by a real parser."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from html.parser import HTMLParser
from typing import Any

from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from reviewapp.contract import Contract
from reviewapp.forms import as_typed, control_names
from reviewapp.parts import Parts
from reviewapp.prediction import Prediction
from reviewapp.samples import as_text

JSON = {"Accept": "application/json"}

VOID = {"input", "link", "meta", "br", "rect", "img", "hr"}
SILENT = {"script", "style", "title"}


class Page(HTMLParser):
    """`elements` are (tag, attributes), `text` is all that is read, with blanks run together."""

    def __init__(self, source: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self._pieces: list[str] = []
        self._open: list[str] = []
        self._titles: list[str] = []
        self.feed(source)
        self.close()
        assert not self._open, f"never closed: {self._open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)
        self._pieces.append("\n")

    def handle_endtag(self, tag: str) -> None:
        if tag in VOID:
            return
        while self._open.pop() != tag:  # </p> and </li> may be left out, but these pages write them
            raise AssertionError(f"</{tag}> closes what is not open")
        self._pieces.append("\n")

    def handle_data(self, data: str) -> None:
        inside = self._open[-1] if self._open else ""
        if inside == "title":
            self._titles.append(data)
        if inside not in SILENT:
            self._pieces.append(data)

    @property
    def raw_text(self) -> str:
        return "".join(self._pieces)

    @property
    def text(self) -> str:
        return re.sub(r"[ \n]+", " ", self.raw_text)

    @property
    def title(self) -> str:
        return " ".join("".join(self._titles).split())

    def all(self, tag: str, **attributes: str) -> list[dict[str, str | None]]:
        """Return the attributes of every element of a tag that has these ones."""
        wanted = {name.rstrip("_"): value for name, value in attributes.items()}
        return [a for t, a in self.elements if t == tag and all(a.get(n) == v for n, v in wanted.items())]

    @property
    def values(self) -> dict[str, str | None]:
        """What the controls of the page hold but for text areas, by name."""
        chosen = [a for a in self.all("input") if a.get("type") != "radio" or "checked" in a]
        return {str(a["name"]): a.get("value") for a in chosen if "name" in a}


def form(contract: Contract, record: dict[str, Any]) -> dict[str, str]:
    """Return a record as the form of its contract sends it."""
    names = dict(zip(contract.names, control_names(contract.fields), strict=True))
    return {names[name]: text for name, text in as_typed(record).items()}


def as_csv(records: Sequence[dict[str, Any]], delimiter: str = ",", **more: Sequence[str]) -> str:
    """Return records as a CSV file, with more columns after theirs."""
    out = io.StringIO(newline="")
    writer = csv.writer(out, delimiter=delimiter, lineterminator="\r\n")
    writer.writerow([*records[0], *more])
    for record, *others in zip(records, *more.values(), strict=True):
        writer.writerow([*map(as_text, record.values()), *others])
    return out.getvalue()


def send_file(client: FlaskClient, content: str | bytes, name: str = "requests.csv", **fields: str) -> TestResponse:
    """Send a file as the Upload page does; a browser writes a quote in its name so."""
    name = name.replace('"', "%22")
    file = io.BytesIO(content.encode() if isinstance(content, str) else content)
    return client.post("/upload", data={**fields, "file": (file, name)}, content_type="multipart/form-data")


def latest(parts: Parts) -> Prediction:
    return parts.ledger.predictions({}, 1)[0][0]
