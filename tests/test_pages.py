"""Every page: a guard, a title, one heading, a JSON twin, a size; nothing hostile runs; any contract is shown."""

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from flask import Flask
from flask.testing import FlaskClient

from reviewapp.adapter import ModelAdapter
from reviewapp.parts import EXTENSION, Parts
from reviewapp.release import Golden, ReleaseId
from reviewapp.releaselog import Standing
from reviewapp.samples import example_record

from .conftest import EVERY_KIND
from .page import JSON, Page, as_csv, form, latest, send_file
from .small import small_release

# ---- all of them ------------------------------------------------------------------------------------------------

HOSTILE = [
    "<script>alert(1)</script>",
    "\"'><img src=x onerror=alert(1)>",
    "</textarea></title><b>bold</b>",
    "{{ 7 * 7 }}{% raw %}",
    "\u202eright to left\u2066 \u200b",
    "x" * 180,
    "=HYPERLINK(0)🙂 & &amp; &#x41;",
    "javascript:alert(1)",
]
FILES = {"ui.evidence_file", "ui.soak_file", "ui.export_history"}
SIGNED_OUT = {"/sign-in", "/contract"}
ENDINGS = (".json", ".csv")


def pages(app: Flask, made: str) -> list[str]:
    """Every page there is: what the routes of the blueprint say, with an id and a version filled in."""
    rules = [rule for rule in app.url_map.iter_rules() if rule.endpoint.startswith("ui.")]
    shown = [
        rule
        for rule in rules
        if "GET" in (rule.methods or ()) and rule.endpoint not in FILES and not rule.rule.endswith(ENDINGS)
    ]
    uploads = app.extensions[EXTENSION].uploads.latest()
    values = {"<prediction_id>": made, "<int:version>": "1", "<upload_id>": uploads[0].id if uploads else "nothing"}
    return [re.sub("<.*?>", lambda name: values[name.group()], rule.rule) for rule in shown]


def scripts(path: str) -> list[str]:
    """The scripts of a page: the one of all pages, and that of its own where it has one."""
    own = {"upload": "upload", "queue": "queue", "history": "queue"}.get(path.strip("/").split("/")[0])
    has_own = own is not None and path not in ("/history",) and not path.startswith("/history?")
    return ["/static/page.js", *([f"/static/{own}.js"] if has_own else [])]


def test_every_page_has_a_title_one_heading_a_twin_and_is_small(
    app: Flask, page: FlaskClient, ask: Any, example: dict[str, Any], moved: ReleaseId
) -> None:
    location, made = ask(subject="s" * 200, body="A sentence. " * 333)
    send_file(page, as_csv([{**example, "subject": "s" * 200, "channel": "fax"}] * 60))
    titles = []
    for path in [*pages(app, made), location, "/?sample=1", "/nothing"]:
        response = page.get(path)
        shown = Page(response.text)
        titles.append(shown.title)
        assert shown.title.endswith(" – reviewapp"), path
        assert len(shown.all("h1")) == 1, path
        assert len(response.data) <= 60 << 10, path
        assert len([a for _, a in shown.elements if "id" in a]) == len(
            {a["id"] for _, a in shown.elements if "id" in a}
        )
        twin = page.get(path, headers=JSON)
        assert twin.content_type == ("application/problem+json" if path == "/nothing" else "application/json")
        assert twin.status_code == response.status_code
        if path != "/nothing":
            assert response.headers["Vary"] == twin.headers["Vary"] == "Accept"
    assert len(set(titles[: len(pages(app, made))])) == len(pages(app, made))


def test_every_page_but_two_needs_a_session(app: Flask) -> None:
    for path in pages(app, "nothing"):
        status = app.test_client().get(path).status_code
        assert status == (200 if path in SIGNED_OUT else 303), path


def test_no_page_carries_script_or_style_of_its_own_or_from_elsewhere(
    app: Flask, page: FlaskClient, ask: Any, example: dict[str, Any], moved: ReleaseId
) -> None:
    location, made = ask()
    send_file(page, as_csv([example]))
    for path in [*pages(app, made), location]:
        shown = Page(page.get(path).text)
        for tag, attributes in shown.elements:
            assert tag not in ("style", "iframe", "object")
            assert tag != "img" or str(attributes["src"]).startswith("/evidence/")
            assert not [name for name in attributes if name == "style" or name.startswith("on")]
            for name in ("src", "href", "action"):
                assert re.match(r"[/#]", attributes.get(name) or "/"), (tag, attributes)
        assert [a.get("src") for a in shown.all("script")] == scripts(path)


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_is_shown_as_text_wherever_it_comes_from(
    app: Flask, page: FlaskClient, parts: Parts, example: dict[str, Any], api: Any, ask: Any, text: str
) -> None:
    harmless, plain = ask(subject="refund", body="refund")  # words that are marked
    page.post(f"/history/{plain}/verdict", data={"verdict": "unsure", "note": "x"})
    api("post", "/predictions", json={"input": example, "reference": "x"})
    location, made = ask(subject=text, body=text)
    page.post(f"/history/{made}/verdict", data={"verdict": "unsure", "note": text})
    referred = api("post", "/predictions", json={"input": {**example, "body": text}, "reference": text}).json
    in_the_queue = {}
    for body in ("x", text):
        asked = {"input": {**example, "body": body, "open_tickets": 99}}
        waits = api("post", "/predictions?compare=true&explain=true", json=asked).json["id"]
        with parts.store.writing() as connection:
            parts.desk.take(connection, waits, "owner")
        in_the_queue[body] = page.get("/queue").text
    client = app.test_client()
    client.post("/sign-in", data={"token": parts.accounts.create_token(f"n{text}"[:99].translate(_PRINTABLE), "admin")})
    known = {(tag, name) for path in (harmless, f"/history/{plain}", "/history?reference=x")
             for tag, attributes in Page(page.get(path).text).elements for name in attributes}  # fmt: skip
    known |= {(tag, name) for tag, attributes in Page(in_the_queue["x"]).elements for name in attributes}
    for path in (location, f"/history/{made}", f"/history/{referred['id']}", "/history", "/queue"):
        shown = Page(in_the_queue[text] if path == "/queue" else client.get(path).text)
        assert text[:60] in shown.raw_text, path
        assert {(tag, name) for tag, attributes in shown.elements for name in attributes} <= known
        assert [a.get("src") for a in shown.all("script")] == scripts(path)


_PRINTABLE = dict.fromkeys(map(ord, "\u202e\u2066\u200b"))


# ---- another contract -------------------------------------------------------------------------------------------


class Same:
    """An estimator that gives the same shares to every request."""

    classes_ = np.array(EVERY_KIND.outcome.labels)

    def predict_proba(self, frame: Any) -> Any:
        return np.array([[0.2, 0.5, 0.3]] * len(frame))


class OneRelease:
    """A registry of one release that is in memory alone."""

    def __init__(self, adapter: ModelAdapter) -> None:
        self._adapter = adapter

    def adapter(self) -> ModelAdapter:
        return self._adapter

    def live(self) -> Any:
        return self._adapter.release.id

    def problem(self) -> None:
        return None

    def standing(self) -> Standing:
        return Standing(self._adapter.release.id)

    def built(self) -> list[Any]:
        return []

    events = built


@pytest.fixture
def odd(app: Flask, page: FlaskClient, parts: Parts) -> Iterator[FlaskClient]:
    """The pages for a contract with odd names, every kind of field, and labels full of signs."""
    record = example_record(EVERY_KIND)
    golden = (Golden(record, {}, "One & only <b>"),)
    adapter = ModelAdapter(small_release(EVERY_KIND, Same(), golden=golden), [parts.ledger.add])
    app.extensions[EXTENSION] = replace(parts, registry=OneRelease(adapter))  # type: ignore[arg-type]
    yield page
    app.extensions[EXTENSION] = parts


def test_every_kind_of_field_goes_through_the_pages(odd: FlaskClient, parts: Parts) -> None:
    record = example_record(EVERY_KIND)
    filled = odd.get("/?sample=1")
    assert odd.get("/?sample=1", headers=JSON).json["input"] == record
    values = Page(filled.text).values
    response = odd.post("/", data=form(EVERY_KIND, record))
    assert response.status_code == 303
    assert latest(parts).input == record
    assert {n: v for n, v in form(EVERY_KIND, record).items() if n in values} == values
    for path in (response.headers["Location"], f"/history/{latest(parts).id}", "/contract", "/releases", "/history"):
        shown = Page(odd.get(path).text)
        assert len(shown.all("h1")) == 1
    text = Page(odd.get(response.headers["Location"]).text).text
    assert ">50K" in text
    assert "against leaving it empty" in text  # no linear model, so by blanking
    given = {"verdict": "corrected", "label": 'a "third"'}
    assert odd.post(f"/history/{latest(parts).id}/verdict", data=given).status_code == 303
    assert 'right is a "third"' in Page(odd.get(f"/history/{latest(parts).id}").text).text


def test_an_empty_form_names_every_field_that_is_required(odd: FlaskClient) -> None:
    shown = Page(odd.post("/", data={}).text)
    required = [field for field in EVERY_KIND.fields if field.required]
    assert len([a for a in shown.all("a") if str(a["href"]).startswith("#request-")]) == len(required)


# ---- errors -----------------------------------------------------------------------------------------------------


def test_an_error_is_a_page_for_people_and_a_problem_for_programs(app: Flask) -> None:
    page = app.test_client().get("/nothing")
    assert (page.status_code, page.content_type) == (404, "text/html; charset=utf-8")
    assert page.headers["X-Request-ID"] in page.text
    assert app.test_client().get("/nothing", headers=JSON).json["status"] == 404


def test_a_page_that_is_not_there_still_knows_its_reader(page: FlaskClient) -> None:
    for response in (page.get("/nothing"), page.put("/history"), page.get("/history/nothing")):
        assert response.status_code in (404, 405)
        assert "owner (admin)" in Page(response.text).text


def test_who_was_signed_out_meanwhile_is_led_to_sign_in(app: Flask) -> None:
    response = app.test_client().post("/", data={"subject": "typed"})
    assert response.status_code == 401
    assert Page(response.text).all("a", href="/sign-in")
