"""What if one field were different: the answer beside the former one, and nothing of it recorded."""

import re
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from flask import Flask
from flask.testing import FlaskClient

from reviewapp.adapter import ModelAdapter
from reviewapp.contract import Contract
from reviewapp.field import Field
from reviewapp.forms import control_names
from reviewapp.parts import EXTENSION, Parts
from reviewapp.release import Release
from reviewapp.samples import as_text, example_record

from .conftest import EVERY_KIND
from .page import JSON, Page, form, latest
from .small import small_release
from .test_pages import OneRelease, Same, odd  # noqa: F401  (a fixture)


def links(shown: Page) -> list[str]:
    return [str(a["href"]) for a in shown.all("a") if re.match(r"/what-if/[^.]*\?field=", str(a["href"]))]


def send(page: FlaskClient, made: str, field: str, value: str, **how: Any) -> Any:
    return page.post(f"/what-if/{made}", query_string={"field": field}, data={field: value}, **how)


def promote(parts: Parts, narrower: Release) -> None:
    parts.registry.add(narrower, "test")
    parts.registry.promote(narrower.id.version, "narrower", "test", breaking=True)


def test_an_answer_leads_to_one_question_for_each_field(page: FlaskClient, release: Release, ask: Any) -> None:
    location, made = ask()
    for path in (location, f"/history/{made}", f"/what-if/{made}"):
        asked = [parse_qs(urlsplit(link).query)["field"][0] for link in links(Page(page.get(path).text))]
        assert asked == list(release.contract.names)


def test_a_question_shows_one_control_with_the_present_value(page: FlaskClient, ask: Any) -> None:
    _, made = ask(open_tickets=3, customer_tier=None)
    shown = Page(page.get(f"/what-if/{made}?field=open_tickets").text)
    assert shown.values == {"open_tickets": "3"}
    assert "What if “ Open tickets ” were different?" in shown.text
    assert "nothing of this is recorded" in shown.text
    tier = Page(page.get(f"/what-if/{made}?field=customer_tier").text)
    assert [a["value"] for a in tier.all("input", type="radio") if "checked" in a] == [""]
    twin = page.get(f"/what-if/{made}.json?field=open_tickets").json
    assert (twin["former"]["id"], twin["changed"], twin["field"], twin["value"]) == (made, None, "open_tickets", 3)


def test_the_changed_request_is_answered_beside_the_former_one_and_nothing_is_recorded(
    page: FlaskClient, parts: Parts, api: Any, release: Release, ask: Any
) -> None:
    sample = release.samples[0].input
    _, made = ask(**sample)
    expected = api("post", "/predictions?dry_run=1&compare=1", json={"input": {**sample, "open_tickets": 99}}).json
    response = send(page, made, "open_tickets", "99")
    assert response.status_code == 200
    shown = Page(response.text)
    assert "Nothing of this was recorded" in shown.text
    assert "Open tickets differs 0 99" in shown.text
    assert "A person must look: a value not seen in training" in shown.text
    assert "Open tickets : 99 is above 0…12 seen in training" in shown.text
    assert len(shown.all("tr", class_="differ")) >= 3
    twin = send(page, made, "open_tickets", "99", headers=JSON).json
    assert (twin["field"], twin["value"]) == ("open_tickets", 99)
    assert twin["former"] == latest(parts).as_json() | {"input": sample}
    for name in ("output", "comparison", "decision", "reasons", "warnings", "id"):
        assert twin["changed"][name] == expected[name]
    assert [one.id for one in parts.ledger.predictions({}, 9)[0]] == [made]


def test_the_same_value_changes_nothing(page: FlaskClient, ask: Any, example: dict[str, Any]) -> None:
    _, made = ask()
    shown = Page(send(page, made, "body", example["body"]).text)
    assert "The answer stays" in shown.text
    assert not shown.all("tr", class_="differ")


def test_an_answer_recorded_without_comparison_is_compared_all_the_same(
    page: FlaskClient, api: Any, example: dict[str, Any]
) -> None:
    made = api("post", "/predictions", json={"input": example}).json
    twin = send(page, made["id"], "channel", "chat", headers=JSON).json
    assert twin["former"]["output"] == made["output"]
    assert twin["former"]["comparison"]["option"] == twin["changed"]["comparison"]["option"] == "baseline"
    assert "Baseline" in Page(send(page, made["id"], "channel", "chat").text).text


def test_a_mistake_stands_by_the_field_in_the_words_of_the_api(
    page: FlaskClient, parts: Parts, api: Any, ask: Any, example: dict[str, Any]
) -> None:
    _, made = ask()
    response = send(page, made, "open_tickets", "many")
    assert response.status_code == 422
    shown = Page(response.text)
    assert shown.values["open_tickets"] == "many"
    assert shown.title.startswith("Mistakes")
    assert shown.text.count("This must be a whole number.") == 2
    said = api("post", "/predictions", json={"input": {**example, "open_tickets": "many"}}).json["errors"]
    assert send(page, made, "open_tickets", "many", headers=JSON).json["errors"] == said
    unchosen = page.post(f"/what-if/{made}?field=channel")
    assert (unchosen.status_code, "Channel: This is required." in Page(unchosen.text).text) == (422, True)
    assert [one.id for one in parts.ledger.predictions({}, 9)[0]] == [made]


def test_what_the_address_asks_for_is_checked(page: FlaskClient, ask: Any) -> None:
    _, made = ask()
    assert page.get(f"/what-if/{made}?field=nothing").status_code == 404
    assert page.get(f"/what-if/{made}?more=1").status_code == 422
    unsaid = page.post(f"/what-if/{made}", data={"channel": "chat"})
    assert (unsaid.status_code, "/query/field" in unsaid.text) == (422, True)
    two = page.post(f"/what-if/{made}?field=channel", data={"channel": "chat", "open_tickets": "1"})
    assert two.status_code == 422
    assert "open_tickets: Only the field that the address names can be changed here." in Page(two.text).text
    assert page.post(f"/what-if/{made}?field=channel", json={}).status_code == 415


def test_one_cannot_ask_about_the_request_of_another(app: Flask, parts: Parts, ask: Any) -> None:
    _, made = ask()
    other = app.test_client()
    other.post("/sign-in", data={"token": parts.accounts.create_token("bob", "submit")})
    assert other.get(f"/what-if/{made}").status_code == 404
    assert send(other, made, "channel", "chat").status_code == 404


def test_who_may_only_submit_may_ask_about_their_own(
    app: Flask, parts: Parts, release: Release, example: dict[str, Any]
) -> None:
    client = app.test_client()
    client.post("/sign-in", data={"token": parts.accounts.create_token("bob", "submit")})
    client.post("/", data=form(release.contract, example))
    assert send(client, latest(parts).id, "channel", "chat").status_code == 200


def test_of_an_erased_request_nothing_can_be_asked(
    page: FlaskClient, parts: Parts, ask: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    location, made = ask()
    erased = replace(latest(parts), input=None)
    monkeypatch.setattr(type(parts.ledger), "prediction", lambda *_: erased)
    for path in (location, f"/history/{made}"):
        assert links(Page(page.get(path).text)) == []
    response = page.get(f"/what-if/{made}")
    assert (response.status_code, "erased" in response.text) == (404, True)


# ---- another release --------------------------------------------------------------------------------------------


def test_where_another_release_answers_now_both_answers_are_its_own(
    page: FlaskClient, parts: Parts, ask: Any, narrower: Release
) -> None:
    _, made = ask()
    promote(parts, narrower)
    shown = Page(send(page, made, "open_tickets", "9").text)
    assert f"gave the recorded answer. {narrower.id} answers now: both answers below are its own." in shown.text
    twin = send(page, made, "open_tickets", "9", headers=JSON).json
    assert twin["former"]["id"] is None
    assert twin["former"]["release"] == twin["changed"]["release"] == narrower.id.as_json()


def test_where_it_takes_the_request_only_once_it_is_changed_the_former_answer_is_the_recorded_one(
    page: FlaskClient, parts: Parts, ask: Any, release: Release, narrower: Release
) -> None:
    _, made = ask(open_tickets=101)
    promote(parts, narrower)
    shown = Page(send(page, made, "open_tickets", "9").text)
    assert f"{narrower.id} answers now, and does not take the request unchanged." in shown.text
    twin = send(page, made, "open_tickets", "9", headers=JSON).json
    assert (twin["former"]["id"], twin["former"]["release"]) == (made, release.id.as_json())
    refused = send(page, made, "channel", "chat")
    assert refused.status_code == 422
    assert "open_tickets: This must be 100 or less." in Page(refused.text).text


# ---- asking for real --------------------------------------------------------------------------------------------


def test_the_changed_request_can_be_asked_for_real(page: FlaskClient, parts: Parts, ask: Any, example: Any) -> None:
    text = 'It\'s "quoted" <b>\n\n🙂 & more'
    _, made = ask(subject=text, customer_tier=None)
    twin = send(page, made, "open_tickets", "4", headers=JSON).json
    shown = Page(send(page, made, "open_tickets", "4").text)
    hidden = {str(a["name"]): a["value"] or "" for a in shown.all("input", type="hidden")}
    assert page.post("/", data=hidden).status_code == 303
    made_for_real = latest(parts)
    assert made_for_real.input == {**example, "subject": text, "customer_tier": None, "open_tickets": 4}
    assert made_for_real.output == twin["changed"]["output"]


def test_what_a_form_cannot_send_as_it_is_is_not_offered_for_real(
    page: FlaskClient, api: Any, example: dict[str, Any]
) -> None:
    """Browsers send other line breaks, and so another text."""
    made = api("post", "/predictions", json={"input": {**example, "subject": "two\r\nlines"}}).json
    shown = Page(send(page, made["id"], "channel", "chat").text)
    assert "Nothing of this was recorded" in shown.text
    assert not shown.all("input", type="hidden")


# ---- another contract -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("field", EVERY_KIND.fields, ids=lambda field: field.name)
def test_every_kind_of_field_can_be_changed_whatever_its_name(
    odd: FlaskClient,  # noqa: F811
    parts: Parts,
    field: Field,
) -> None:
    record = example_record(EVERY_KIND)
    assert odd.post("/", data=form(EVERY_KIND, record)).status_code == 303
    made = latest(parts).id
    shown = Page(odd.get(f"/history/{made}").text)
    assert "Choose one of 15 fields" in shown.text
    link = links(shown)[EVERY_KIND.fields.index(field)]
    name = control_names(EVERY_KIND.fields)[EVERY_KIND.fields.index(field)]
    asked = Page(odd.get(link).text)
    assert name in {str(a.get("name")) for _, a in asked.elements}
    value = other_value(field, record[field.name])
    response = odd.post(link, data={name: as_text(value)}, headers=JSON)
    assert response.status_code == 200
    assert (response.json["field"], response.json["value"]) == (field.name, value)
    assert response.json["changed"]["input"] == {**record, field.name: value}
    assert odd.post(link, data={name: as_text(value)}).status_code == 200


def other_value(field: Field, value: Any) -> Any:
    if field.kind == "boolean":
        return not value
    listed = [one for one in field.choices or () if one != value]
    numbers = {"integer": 7, "number": 0.25, "text": "pay", "category": "new"}
    dates = {"%Y-%m-%d": "2021-02-03", "%d.%m.%Y": "03.02.2021", "%-m/%-d/%Y %-H:%M": "2/3/2021 4:05"}
    return listed[0] if listed else dates[field.date_format] if field.kind == "date" else numbers[field.kind]


def test_hundreds_of_fields_and_hostile_names_make_a_small_page(
    app: Flask,
    odd: FlaskClient,  # noqa: F811
    parts: Parts,
) -> None:
    names = [f"measure {n}" for n in range(297)] + ["<script>alert(1)</script>", "x" * 500, "\u202eback\n"]
    fields = tuple(Field(name=name, kind="number", nullable=True) for name in names)
    wide = Contract(name="wide", fields=fields, outcome=EVERY_KIND.outcome)
    adapter = ModelAdapter(small_release(wide, Same(), baseline=Same()), [parts.ledger.add])
    app.extensions[EXTENSION] = replace(parts, registry=OneRelease(adapter))  # type: ignore[arg-type]
    assert odd.post("/", data=form(wide, dict.fromkeys(names, 1.5))).status_code == 303
    link = links(Page(odd.get(f"/what-if/{latest(parts).id}").text))[-3]
    for response in (odd.get(link), odd.post(link, data={names[-3]: "2"})):
        assert response.status_code == 200
        assert len(response.data) <= 60 << 10
        shown = Page(response.text)
        assert len(shown.all("script")) == 1
        assert "<script>alert(1)</script>" in shown.text


def test_two_long_texts_are_shown_from_shortly_before_they_differ(page: FlaskClient, ask: Any) -> None:
    body = "The very same beginning. " * 100
    _, made = ask(body=body + "one")
    shown = Page(send(page, made, "body", body + "two").text)
    assert re.findall(r" …ame beginning\. The very same beginning\. (one|two)\b", shown.text) == ["one", "two"]
