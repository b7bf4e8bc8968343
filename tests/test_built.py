"""A release built from a table is served like any other: every door gives the pipeline's own answer."""

from __future__ import annotations

import csv
import io
import json
import math
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from flask.testing import FlaskClient

from reviewapp import csvfiles
from reviewapp.building.build import Order, build
from reviewapp.building.infer import Asked
from reviewapp.building.rows import labelled
from reviewapp.building.table import Table, read_table
from reviewapp.contract import Contract
from reviewapp.factory import create_app
from reviewapp.frames import to_frame
from reviewapp.parts import EXTENSION, Parts
from reviewapp.release import Release
from reviewapp.samples import as_text, broken_requests, valid_record
from reviewapp.trust import TrustedTypes

from . import tables
from .conformance import CheckedClient
from .page import JSON, Page, form

TARGETS = {"odd": (tables.ODD, tables.ODD_TARGET), "values": (tables.VALUES, "price")}
ROWS = 500


@dataclass
class Served:
    """A built release behind an app, and 500 requests: rows of its table first, then others of its contract."""

    release: Release
    parts: Parts
    client: FlaskClient
    table: Table
    records: list[dict[str, Any]]
    tokens: dict[str, dict[str, str]]

    @property
    def contract(self) -> Contract:
        return self.release.contract

    def expected(self) -> list[dict[str, float]]:
        """The figures of the stored pipeline, asked directly."""
        model, frame = self.release.model, to_frame(self.contract, self.records)
        if self.contract.outcome.labels:
            return [dict(zip(map(str, model.classes_), row, strict=True)) for row in model.predict_proba(frame)]
        return [dict(zip(("value", "low", "high"), row, strict=True)) for row in model.predict_interval(frame)]

    def call(self, method: str, path: str, role: str = "submit", **kwargs: Any) -> Any:
        headers = {**self.tokens[role], **kwargs.pop("headers", {})}
        return self.client.open(path, method=method, headers=headers, **kwargs)


@pytest.fixture(scope="module", params=list(TARGETS))
def served(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp(request.param)
    kind, target = TARGETS[request.param]
    path = tables.written(folder, kind)
    asked = Asked(target=target)
    release = build(Order(data=path, asked=asked), folder / "releases", TrustedTypes(folder)).release
    app = create_app({"instance": folder, "releases": folder / "releases"})

    class Client(CheckedClient):
        contract = release.contract

    app.test_client_class = Client
    parts: Parts = app.extensions[EXTENSION]
    parts.registry.add(release, "test")
    table, rng = read_table(path), random.Random(1)
    rows = labelled(table, release.contract, target).records
    others = [valid_record(release.contract, rng) for _ in range(ROWS - len(rows))]
    records = [{name: row.get(name) for name in release.contract.names} for row in [*rows, *others]]
    tokens = {
        role: {"Authorization": f"Bearer {parts.accounts.create_token(role, role)}"}
        for role in ("submit", "review", "admin")
    }
    yield Served(release, parts, app.test_client(), table, records, tokens)
    parts.store.close()


def same(output: dict[str, Any], expected: dict[str, float]) -> bool:
    given = output.get("probabilities", output)
    return all(math.isclose(given[k], v, rel_tol=1e-9, abs_tol=1e-9) for k, v in expected.items())


def test_every_row_of_the_table_is_a_request(served: Served) -> None:
    assert len(served.table) == 400
    assert len(labelled(served.table, served.contract, served.contract.outcome.name)) == 400


def test_rows_through_json_one_by_one_get_the_pipelines_own_answer(served: Served) -> None:
    for record, expected in zip(served.records, served.expected(), strict=True):
        response = served.call("POST", "/api/v1/predictions", json={"input": record})
        assert response.status_code == 201, response.json
        assert same(response.json["output"], expected)


def test_so_do_rows_in_a_batch(served: Served) -> None:
    response = served.call("POST", "/api/v1/predictions/batch", json={"inputs": served.records})
    pairs = zip(response.json["predictions"], served.expected(), strict=True)
    assert all(same(made["output"], expected) for made, expected in pairs)


def test_so_do_rows_of_a_csv_file(served: Served) -> None:
    cells = [[as_text(record[name]) for name in served.contract.names] for record in served.records]
    out = io.StringIO(newline="")
    csv.writer(out).writerows([served.contract.names, *cells])
    response = served.call(
        "POST", "/api/v1/predictions/bulk", data=out.getvalue().encode(), headers={"Content-Type": "text/csv"}
    )
    assert response.status_code == 200, response.json
    header, *rows = [row for _, row in csvfiles.records(response.data, ",")]
    assert header[: len(served.contract.names)] == [csvfiles.safe(name) for name in served.contract.names]
    for row, expected in zip(rows, served.expected(), strict=True):
        said = dict(zip(header[len(served.contract.names) :], row[len(served.contract.names) :], strict=True))
        assert said["problem"] == ""
        if served.contract.outcome.labels:
            best = max(expected, key=lambda label: expected[label])
            assert said["prediction"] == csvfiles.safe(best)
            assert float(said["confidence"]) == pytest.approx(expected[best], abs=1e-9)
        else:
            figures = {"value": said["prediction"], "low": said["low"], "high": said["high"]}
            assert same({name: float(text) for name, text in figures.items()}, expected)


def test_so_do_rows_of_the_form(served: Served) -> None:
    for record, expected in list(zip(served.records, served.expected(), strict=True))[::5]:
        response = served.call("POST", "/", "review", data=form(served.contract, record))
        assert response.status_code == 303, response.text
        address = response.headers["Location"].partition("#")[0]
        shown = served.call("GET", address, "review", headers=JSON).json["prediction"]
        assert same(shown["output"], expected)
        assert shown["input"] == record


def test_every_broken_rule_of_every_field_is_found_at_its_place(served: Served) -> None:
    for broken in broken_requests(served.contract, random.Random(2)):
        response = served.call("POST", "/api/v1/predictions", json={"input": broken.record})
        found = [(error["pointer"], error["code"]) for error in response.json["errors"]]
        assert (response.status_code, found) == (422, [(broken.pointer, broken.code)]), broken


def test_each_page_is_about_this_release_and_takes_nothing_for_html(served: Served) -> None:
    made = served.call("POST", "/api/v1/predictions?explain=true&compare=true", json={"input": served.records[0]}).json
    right = {"label": served.contract.outcome.labels[-1]} if served.contract.outcome.labels else {"value": 1234.5}
    said = served.call(
        "PUT", f"/api/v1/predictions/{made['id']}/verdict", "review", json={"verdict": "corrected", **right}
    )
    assert said.status_code == 200, said.json
    known = {"html", "head", "meta", "title", "link", "script", "body", "a", "header", "nav", "form", "span", "button",
             "main", "h1", "h2", "h3", "p", "ul", "ol", "li", "dl", "div", "dt", "dd", "table", "caption", "thead",
             "tbody", "tr", "th", "td", "label", "input", "select", "option", "datalist", "textarea", "fieldset",
             "legend", "section", "details", "summary", "pre", "code", "bdi", "strong", "time", "svg", "rect",
             "blockquote", "br", "img", "figure", "figcaption", "footer", "kbd"}  # fmt: skip
    for path in (
        "/", "/?sample=1", "/?random=3", f"/?prediction={made['id']}", "/history", f"/history/{made['id']}",
        "/contract", "/releases", "/evidence",
    ):  # fmt: skip
        response = served.call("GET", path, "admin")
        page = Page(response.text)
        assert response.status_code == 200, path
        assert {tag for tag, _ in page.elements} <= known, path
        assert not [attrs for _, attrs in page.elements if any(name.startswith("on") for name in attrs)], path
        assert len(response.data) < 60_000
        twin = served.call("GET", path, "admin", headers=JSON)
        assert twin.status_code == 200
        assert twin.headers["Content-Type"].startswith("application/json")
    record = Page(served.call("GET", f"/history/{made['id']}", "review").text).text
    assert str(right.get("label", "1,234.5")) in record
    assert served.contract.title in Page(served.call("GET", "/", "review").text).text


def test_how_far_an_answer_can_be_relied_on_is_said_in_its_own_terms(served: Served) -> None:
    made = served.call("POST", "/api/v1/predictions?explain=true", json={"input": served.records[0]}).json
    text = Page(served.call("GET", f"/history/{made['id']}", "review").text).text
    sure = "confident" if served.contract.outcome.labels else "about 90 of 100 such intervals hold the true value"
    assert sure in text
    explanation, value = made["explanation"], made["output"].get("value")
    assert (explanation["scale"] == "value") is (value is not None)
    if explanation["method"] == "linear" and value is not None:
        parts = [field["contribution"] for field in explanation["fields"]]
        assert sum(parts) + explanation["intercept"] == pytest.approx(value)


@pytest.mark.parametrize("path", ["/readyz", "/api/v1/contract", "/api/v1/openapi.json", "/api/v1/releases/active"])
def test_programs_are_told_of_this_contract(served: Served, path: str, read: Callable[[Any], str]) -> None:
    response = served.call("GET", path)
    assert response.status_code == 200
    assert served.release.id.name in read(response)


@pytest.fixture
def read() -> Callable[[Any], str]:
    return lambda response: json.dumps(response.json, ensure_ascii=False)
