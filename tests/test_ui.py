"""The page: a form from the contract, the same words as the API, the answer at an address of its own."""

import html
import re
from typing import Any

import pytest
from flask import Flask

from reviewapp.forms import as_typed
from reviewapp.parts import Parts


@pytest.fixture
def page(app: Flask, parts: Parts) -> Any:
    client = app.test_client()
    client.get(f"/sign-in?link={parts.accounts.create_link('owner', 'admin')}")
    return client


def form(parts: Parts, record: dict[str, Any]) -> dict[str, str]:
    texts = as_typed(record)
    names = parts.registry.adapter().contract.names
    return {f"field-{i}": texts[name] for i, name in enumerate(names) if name in texts}


def test_nobody_is_let_in_without_signing_in(app: Flask) -> None:
    response = app.test_client().get("/")
    assert (response.status_code, response.headers["Location"]) == (303, "/sign-in")
    assert app.test_client().post("/").status_code == 401
    assert app.test_client().get("/", headers={"Accept": "application/json"}).json["status"] == 401


def test_a_sign_in_link_opens_the_form_once(app: Flask, parts: Parts) -> None:
    link = f"/sign-in?link={parts.accounts.create_link('owner', 'admin')}"
    client = app.test_client()
    assert client.head(link).status_code == 200  # a look does not use it up
    response = client.get(link)
    assert (response.status_code, response.headers["Location"]) == (303, "/")
    assert "owner (admin)" in client.get("/").text
    second = app.test_client().get(link)
    assert second.status_code == 401
    assert "used before or has expired" in second.text


def test_signing_out_ends_the_session_on_the_server(page: Any) -> None:
    cookie = page.get_cookie("reviewapp_session").value
    assert page.post("/sign-out").status_code == 303
    page.set_cookie("reviewapp_session", cookie)
    assert page.get("/").status_code == 303


@pytest.mark.parametrize(("token", "says"), [("", "Enter a token"), ("ra_wrong", "unknown"), ("\udcff", "unknown")])
def test_a_wrong_token_is_said_plainly(app: Flask, token: str, says: str) -> None:
    response = app.test_client().post("/sign-in", data={"token": token.encode("utf-8", "replace").decode()})
    assert response.status_code == 401
    assert says in response.text


def test_the_form_has_every_field_with_its_limits(page: Any, parts: Parts) -> None:
    text = html.unescape(page.get("/").text)
    assert text.count("<h1>") == 1
    for field in parts.registry.adapter().contract.fields:
        assert field.title in text
        assert field.description in text
    assert "At most 4000 characters" in text
    assert "0 or more, in days" in text
    assert "Not known" in text


def test_a_request_is_answered_under_the_form_and_recorded_once(
    page: Any, parts: Parts, api: Any, example: dict
) -> None:
    response = page.post("/", data=form(parts, example))
    assert response.status_code == 303
    text = page.get(response.headers["Location"]).text
    assert page.get(response.headers["Location"]).text == text  # looking again asks nothing again
    [made] = parts.ledger.predictions({}, 9)[0]
    assert (made.source, made.client, made.input) == ("form", "owner", example)
    assert made.comparison is not None
    assert made.explanation is not None
    assert made.output["label"] in text
    assert made.comparison["output"]["label"] in text
    assert example["body"] in html.unescape(text)
    through_api = api("post", "/predictions", json={"input": example}).json
    assert through_api["output"] == made.output


def test_line_breaks_of_a_browser_are_those_of_the_api(page: Any, parts: Parts, example: dict) -> None:
    page.post("/", data=form(parts, {**example, "body": "a\r\nb"}))
    [made] = parts.ledger.predictions({}, 9)[0]
    assert made.input is not None
    assert made.input["body"] == "a\nb"


def test_mistakes_stand_by_the_field_and_on_top_in_the_words_of_the_api(
    page: Any, parts: Parts, api: Any, example: dict
) -> None:
    wrong = {**example, "channel": "fax", "open_tickets": -1, "subject": "x" * 201}
    response = page.post("/", data=form(parts, wrong))
    assert response.status_code == 422
    text = html.unescape(response.text)
    said = api("post", "/predictions", json={"input": wrong}).json["errors"]
    assert len(said) == 3
    for error in said:
        assert text.count(error["detail"]) == 2
    assert re.search(r'<a href="#field-4">Open tickets: ', text)
    assert "x" * 201 in text  # what was typed stays
    assert parts.ledger.predictions({}, 9)[0] == []


@pytest.mark.parametrize(
    "text", ["<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "</textarea><b>", "{{ 7 * 7 }}", "\u202e"]
)
def test_hostile_text_is_shown_as_text(page: Any, parts: Parts, example: dict, text: str) -> None:
    response = page.post("/", data=form(parts, {**example, "subject": text, "body": text}))
    shown = page.get(response.headers["Location"]).text
    assert text in html.unescape(shown)
    assert not re.search(r"<script|<img|</textarea><b>|> *49|=\"49", shown)


def test_one_cannot_look_at_the_request_of_another(app: Flask, page: Any, parts: Parts, example: dict) -> None:
    location = page.post("/", data=form(parts, example)).headers["Location"]
    other = app.test_client()
    other.post("/sign-in", data={"token": parts.accounts.create_token("bob", "submit")})
    assert other.get("/").status_code == 200
    assert other.get(location).status_code == 404
    assert page.get("/?prediction=nothing").status_code == 404


def test_the_example_fills_the_form(page: Any, example: dict) -> None:
    assert example["body"] in html.unescape(page.get("/?example=1").text)


def test_an_error_is_a_page_for_people_and_a_problem_for_programs(app: Flask) -> None:
    page = app.test_client().get("/nothing")
    assert (page.status_code, page.content_type) == (404, "text/html; charset=utf-8")
    assert page.headers["X-Request-ID"] in page.text
    assert app.test_client().get("/nothing", headers={"Accept": "application/json"}).json["status"] == 404


def test_a_form_that_is_too_large_is_413(page: Any, parts: Parts) -> None:
    assert page.post("/", data={"field-1": "x" * parts.settings.max_body}).status_code == 413
