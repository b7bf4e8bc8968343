"""Signing in, trying a request and judging its answer on the page: the same words and rules as the API."""

import base64
import io
import json
import re
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from reviewapp.field import Field
from reviewapp.forms import inputs, typed
from reviewapp.parts import Parts
from reviewapp.release import Release
from reviewapp.security import COOKIE
from reviewapp.ui.base import FLASH

from .page import JSON, Page, form, latest

# ---- sign in ----------------------------------------------------------------------------------------------------


def test_nobody_is_let_in_without_signing_in(app: Flask) -> None:
    response = app.test_client().get("/")
    assert (response.status_code, response.headers["Location"]) == (303, "/sign-in")
    assert app.test_client().post("/").status_code == 401
    assert app.test_client().get("/", headers=JSON).json["status"] == 401


def test_a_sign_in_link_opens_the_form_once(app: Flask, parts: Parts) -> None:
    link = f"/sign-in?link={parts.accounts.create_link('owner', 'admin')}"
    client = app.test_client()
    assert client.head(link).status_code == 200  # a look does not use it up
    response = client.get(link)
    assert (response.status_code, response.headers["Location"]) == (303, "/")
    assert "owner (admin)" in Page(client.get("/").text).text
    second = app.test_client().get(link)
    assert second.status_code == 401
    assert "used before or has expired" in second.text
    assert client.get(link).headers["Location"] == "/"  # who is in already stays in


def test_signing_out_ends_the_session_on_the_server(page: FlaskClient) -> None:
    cookie = page.get_cookie("reviewapp_session")
    assert cookie is not None
    assert page.post("/sign-out").status_code == 303
    page.set_cookie("reviewapp_session", cookie.value)
    assert page.get("/").status_code == 303


@pytest.mark.parametrize(("token", "says"), [("", "Enter a token"), ("ra_wrong", "unknown"), ("\udcff", "unknown")])
def test_a_wrong_token_is_said_plainly(app: Flask, token: str, says: str) -> None:
    data = {"token": token.encode("utf-8", "replace").decode()}
    response = app.test_client().post("/sign-in", data=data)
    assert response.status_code == 401
    assert says in response.text
    assert says in app.test_client().post("/sign-in", data=data, headers=JSON).json["detail"]


def test_after_signing_in_one_is_where_one_wanted_to_be(app: Flask, parts: Parts) -> None:
    client = app.test_client()
    wanted = client.get("/history?decision=auto").headers["Location"]
    shown = Page(client.get(wanted).text)
    sent = {"next": shown.values["next"], "token": parts.accounts.create_token("ann", "review")}
    assert client.post("/sign-in", data=sent).headers["Location"] == "/history?decision=auto"


def test_an_address_too_long_to_come_back_to_is_let_go(app: Flask) -> None:
    response = app.test_client().get("/history?q=" + "%F0%9F%99%82" * 200)
    assert response.headers["Location"] == "/sign-in"


@pytest.mark.parametrize(
    "elsewhere", ["https://evil.example", "//evil.example", "/\\evil.example", "/\t/evil.example", "x", "/a\r\nb", ""]
)
def test_signing_in_leads_to_no_other_site(app: Flask, parts: Parts, elsewhere: str) -> None:
    sent = {"next": elsewhere, "token": parts.accounts.create_token("ann", "review")}
    assert app.test_client().post("/sign-in", data=sent).headers["Location"] == "/"


# ---- try --------------------------------------------------------------------------------------------------------


def test_the_form_has_every_field_with_its_limits(page: FlaskClient, parts: Parts) -> None:
    text = Page(page.get("/").text).text
    for field in parts.registry.adapter().contract.fields:
        assert field.title in text
        assert field.description in text
    assert "At most 4000 characters" in text
    assert "0 or more, in days" in text
    assert "Not known" in text


def test_a_text_says_to_the_script_how_long_it_may_be_and_a_number_stands_beside_its_unit(page: FlaskClient) -> None:
    shown = Page(page.get("/").text)
    assert {str(a["name"]): a.get("data-limit") for a in shown.all("textarea")} == {"subject": "200", "body": "4000"}
    assert len(shown.all("span", class_="unit", **{"aria-hidden": "true"})) == 1  # days
    assert shown.text.count(" days ") == 1


def test_the_words_that_moved_the_answer_are_marked_in_the_text(page: FlaskClient, ask: Any) -> None:
    location, made = ask(subject="Refund", body="<b>Please</b> refund the last\npayment, it was charged twice. 🙂")
    for path in (location, f"/history/{made}"):
        source = page.get(path).text
        assert re.search(r'<mark class="for">[^<]*[Rr]efund', source)
        assert "&lt;b&gt;" in source
        shown = Page(source)
        assert re.search(r"Underlined : speaks for billing \. Dotted : speaks for \w+ \.", shown.text)
        assert "Marked in the text" in shown.text


def test_where_no_word_of_the_text_moved_the_answer_nothing_is_marked(page: FlaskClient, ask: Any) -> None:
    location, _ = ask(subject="", body="")
    assert "<mark" not in page.get(location).text
    assert "Marked in the text" not in page.get(location).text


def test_an_answer_to_the_longest_text_full_of_words_that_moved_it_is_a_small_page(page: FlaskClient, ask: Any) -> None:
    location, made = ask(subject="refund " * 28, body=("refund bug " * 400)[:4000])
    for path in (location, f"/history/{made}"):
        response = page.get(path)
        assert response.text.count("<mark") > 200
        assert len(response.data) <= 60 << 10


def test_six_samples_fill_the_form(page: FlaskClient, release: Release) -> None:
    links = [a["href"] for a in Page(page.get("/").text).all("a") if "sample=" in str(a["href"])]
    assert len(links) == 6
    for link, sample in zip(links, release.samples, strict=True):
        shown = Page(page.get(link).text)
        assert sample.title in shown.text
        typed = form(release.contract, sample.input)
        assert shown.values == {name: typed[name] for name in typed if name not in ("subject", "body")}
        assert all(sample.input[name].split("\n")[0] in shown.raw_text for name in ("subject", "body"))
        assert page.get(link, headers=JSON).json["input"] == sample.input
    assert page.get("/?sample=7").status_code == 404


def plain(text: str) -> str:
    """Return a page without the number that makes its form one of its own."""
    return re.sub(r"once=[^\"]+", "", text)


def test_a_random_request_is_valid_and_the_same_at_the_same_address(page: FlaskClient, release: Release) -> None:
    [link] = [a["href"] for a in Page(page.get("/").text).all("a") if "random=" in str(a["href"])]
    assert plain(page.get(link).text) == plain(page.get(link).text)
    met = set()
    for seed in range(1, 9):
        shown = page.get(f"/?random={seed}", headers=JSON).json["input"]
        met.add(json.dumps(shown))
        made = page.post("/", data=form(release.contract, shown))
        assert made.status_code == 303
    assert len(met) == 8


def test_what_the_address_asks_for_is_checked(page: FlaskClient) -> None:
    response = page.get("/?sample=x&more=1")
    assert response.status_code == 422
    text = Page(response.text).text
    assert "/query/sample : This must be a whole number." in text
    assert "/query/more" in text


def test_a_request_is_answered_above_the_form_and_recorded_once(
    page: FlaskClient, parts: Parts, api: Any, ask: Any, example: dict[str, Any]
) -> None:
    location, _ = ask()
    text = page.get(location).text
    assert plain(page.get(location).text) == plain(text)  # looking again asks nothing again
    [made] = parts.ledger.predictions({}, 9)[0]
    assert (made.source, made.client, made.input) == ("form", "owner", example)
    assert made.comparison is not None
    assert made.explanation is not None
    shown = Page(text)
    for words in (made.output["label"], made.comparison["output"]["label"], "This answer may be used as it is."):
        assert words in shown.text
    assert example["body"] in shown.raw_text  # and the form still holds it
    through_api = api("post", "/predictions", json={"input": example}).json
    assert through_api["output"] == made.output


def test_the_twin_of_an_answer_is_the_record_of_the_api(page: FlaskClient, api: Any, ask: Any) -> None:
    location, made = ask()
    twin = page.get(location, headers=JSON).json
    assert twin["prediction"] == api("get", f"/predictions/{made}", role="review").json
    assert twin["input"] == twin["prediction"]["input"]


def test_where_the_options_differ_it_is_marked(page: FlaskClient, release: Release, ask: Any) -> None:
    same, different = release.samples[0].input, release.samples[3].input
    assert not Page(page.get(ask(**same)[0]).text).all("tr", class_="differ")
    shown = Page(page.get(ask(**different)[0]).text)
    assert len(shown.all("tr", class_="differ")) == 1
    assert "Answer differ" in shown.text


def test_what_lies_outside_of_training_is_named_by_its_label(page: FlaskClient, release: Release, ask: Any) -> None:
    text = Page(page.get(ask(**release.samples[5].input)[0]).text).text
    assert "A person must look at this, because" in text
    assert "a value lies outside of what training saw" in text
    assert re.search(r"Open tickets : 25 is above 0…12 seen in training", text)


def test_line_breaks_of_a_browser_are_those_of_the_api(page: FlaskClient, parts: Parts, ask: Any) -> None:
    ask(body="a\r\nb")
    made = latest(parts)
    assert made.input is not None
    assert made.input["body"] == "a\nb"


@pytest.mark.parametrize("listed", ["choices", "seen_choices"])
@pytest.mark.parametrize("value", ["Main St\r\nBerlin", "Side St\rBonn", "Old St\nUlm"])
def test_a_value_of_a_list_keeps_the_line_breaks_that_it_has_there(listed: str, value: str) -> None:
    values = ("Main St\r\nBerlin", "Side St\rBonn", "Old St\nUlm")
    field = Field(name="place", kind="category", **{listed: values})
    sent = re.sub(r"\r\n?|\n", "\r\n", value)  # as a browser sends it
    assert typed([field], {"place": sent}) == {"place": value}
    assert [one.widget for one in inputs([field])] == ["radios" if listed == "choices" else "text"]


def test_mistakes_stand_by_the_field_and_on_top_in_the_words_of_the_api(
    page: FlaskClient, parts: Parts, api: Any, example: dict[str, Any], release: Release
) -> None:
    wrong = {**example, "channel": "fax", "open_tickets": -1, "subject": "x" * 201}
    response = page.post("/", data=form(release.contract, wrong))
    assert response.status_code == 422
    shown = Page(response.text)
    said = api("post", "/predictions", json={"input": wrong}).json["errors"]
    assert len(said) == 3
    for error in said:
        assert shown.text.count(error["detail"]) == 2
    assert shown.title.startswith("Mistakes")
    ids = {a.get("id") for _, a in shown.elements}
    for link in (a["href"] for a in shown.all("a") if str(a["href"]).startswith("#request-")):
        assert str(link)[1:] in ids
    assert "x" * 201 in shown.raw_text  # what was typed stays
    assert shown.values["open_tickets"] == "-1"
    twin = page.post("/", data=form(release.contract, wrong), headers=JSON)
    assert (twin.status_code, twin.json["errors"]) == (422, said)
    assert parts.ledger.predictions({}, 9)[0] == []


def test_one_cannot_look_at_the_request_of_another(app: Flask, page: FlaskClient, parts: Parts, ask: Any) -> None:
    location, made = ask()
    other = app.test_client()
    other.post("/sign-in", data={"token": parts.accounts.create_token("bob", "submit")})
    assert other.get("/").status_code == 200
    assert other.get(location).status_code == 404
    assert other.get(f"/history/{made}").status_code == 404
    assert page.get("/?prediction=nothing").status_code == 404


def test_json_sent_to_a_form_is_told_where_to_go(page: FlaskClient) -> None:
    for path in ("/", "/sign-in", "/history/x/verdict"):
        response = page.post(path, json={"input": {}}, headers=JSON)
        assert (response.status_code, "/api/v1" in response.json["detail"]) in ((415, True), (404, False))
    assert page.post("/", data={"file": (io.BytesIO(b"x"), "x.csv")}).status_code == 415


URLENCODED = {"Content-Type": "application/x-www-form-urlencoded"}


@pytest.mark.parametrize(
    ("body", "status", "says"),
    [
        (b"subject=%FF", 400, "not UTF-8"),
        (b"subject=%ED%A0%80", 400, "not UTF-8"),
        (b"subject=\xff", 400, "not UTF-8"),
        (b"&".join(b"a%d=1" % i for i in range(10_001)), 400, "more than 10,000 fields"),
        (b"subject=a&subject=b", 422, "/form/subject : Give this once."),
        (b"custmer_tier=pro", 422, "custmer_tier: The contract knows no member of this name."),
        (b"&".join(b"a%d=1" % i for i in range(9_000)), 422, "a0: The contract knows no member"),
        (b"subject=%00", 422, "Subject: This may hold no control characters"),
    ],
)
def test_a_form_is_read_as_strictly_as_json(
    page: FlaskClient, parts: Parts, body: bytes, status: int, says: str
) -> None:
    response = page.post("/", data=body, headers=URLENCODED)
    assert response.status_code == status
    assert says in Page(response.text).text
    assert len(response.data) < 60 << 10
    assert page.post("/", data=body, headers=URLENCODED | JSON).json["status"] == status
    assert parts.ledger.predictions({}, 1)[0] == []


def test_a_form_that_is_too_large_is_413(page: FlaskClient, parts: Parts) -> None:
    assert page.post("/", data={"body": "x" * parts.settings.max_body}).status_code == 413


# ---- judge ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sent", "label"),
    [
        ({"verdict": "agree"}, None),
        ({"verdict": "corrected", "label": "outage"}, "outage"),
        ({"verdict": "disagree", "label": "", "note": ""}, None),
        ({"verdict": "unsure", "note": "two\r\nlines"}, None),
    ],
)
def test_a_verdict_is_recorded_with_who_and_when(
    page: FlaskClient, parts: Parts, ask: Any, sent: dict[str, str], label: str | None
) -> None:
    _, made = ask()
    response = page.post(f"/history/{made}/verdict", data=sent)
    assert (response.status_code, response.headers["Location"]) == (303, f"/history/{made}")
    given = latest(parts).verdict
    assert given is not None
    note = sent.get("note", "").replace("\r", "") or None
    assert (given.verdict, given.label, given.note, given.author) == (sent["verdict"], label, note, "owner")
    text = Page(page.get(f"/history/{made}").text).text
    assert f"The verdict that holds: {sent['verdict']}" in text
    assert "by owner" in text
    assert f"{given.created_at[:10]} {given.created_at[11:19]} UTC" in text


@pytest.mark.parametrize(
    ("sent", "says"),
    [
        ({}, "Verdict: This is required."),
        ({"verdict": "perhaps"}, "Verdict: This must be one of the allowed values."),
        ({"verdict": "corrected", "note": "typed"}, "Right label: A correction says the right label."),
        ({"verdict": "agree", "label": "bug"}, "Right label: Only the verdict 'corrected' takes a label."),
        ({"verdict": "corrected", "label": "x"}, "Right label: This must be one of the allowed values."),
        ({"verdict": "unsure", "note": "x" * 2001}, "Note: This must have 2000 characters or fewer."),
    ],
)
def test_a_wrong_verdict_is_said_and_nothing_is_recorded(
    page: FlaskClient, parts: Parts, ask: Any, sent: dict[str, str], says: str
) -> None:
    _, made = ask()
    response = page.post(f"/history/{made}/verdict", data=sent)
    assert response.status_code == 422
    shown = Page(response.text)
    assert says in shown.text
    assert sent.get("note", "") in shown.raw_text
    assert page.post(f"/history/{made}/verdict", data=sent, headers=JSON).json["status"] == 422
    assert latest(parts).verdicts == ()


def test_a_verdict_can_be_changed_and_taken_back_and_the_history_keeps_it(
    page: FlaskClient, parts: Parts, ask: Any
) -> None:
    _, made = ask()
    for verdict in ("agree", "agree", "unsure"):
        page.post(f"/history/{made}/verdict", data={"verdict": verdict})
    assert page.post(f"/history/{made}/verdict/withdraw").status_code == 303
    assert [one.verdict for one in latest(parts).verdicts] == ["agree", "unsure", "withdrawn"]
    text = Page(page.get(f"/history/{made}").text).text
    assert "No verdict holds." in text
    assert "withdrawn" in text
    assert page.post(f"/history/{made}/verdict/withdraw").status_code == 404


def test_who_may_only_submit_sees_their_answer_and_no_form_for_a_verdict(
    app: Flask, parts: Parts, example: Any
) -> None:
    client = app.test_client()
    client.post("/sign-in", data={"token": parts.accounts.create_token("bob", "submit")})
    contract = parts.registry.adapter().contract
    location = client.post("/", data=form(contract, example)).headers["Location"]
    shown = Page(client.get(location).text)
    assert "one needs the role review" in shown.text
    assert "/history" not in [a["href"] for a in shown.all("a")]
    assert client.get(f"/history/{latest(parts).id}").status_code == 200
    refused = client.get("/history")
    assert refused.status_code == 403
    assert "This needs the role review; yours is submit." in Page(refused.text).text


@pytest.mark.parametrize(
    "value",
    ["[" * 2900, '{"a":' * 560, '{"message": "\\ud800"}', "x" * 2900, "é", "\x00", ""],
    ids=lambda value: value[:9],
)
def test_a_forged_message_is_none(app: Flask, page: FlaskClient, value: str) -> None:
    for undo in ("", ".javascript:alert(1)", ".//elsewhere", '."><b>'):
        sent = base64.urlsafe_b64encode(value.encode()).decode() + undo
        for client, path in ((page, "/history"), (app.test_client(), "/sign-in"), (page, "/nothing")):
            client.set_cookie(FLASH, sent)
            response = client.get(path)
            assert response.status_code in (200, 404)
            assert undo[1:] == "" or undo[1:] not in response.text
    page.set_cookie(FLASH, "\xff.}{")
    assert page.get("/history").status_code == 200


def test_a_second_click_on_the_same_form_gets_the_first_answer(
    page: FlaskClient, parts: Parts, release: Release, example: dict[str, Any]
) -> None:
    def action() -> str:
        shown = Page(page.get("/").text)
        return next(str(a["action"]) for a in shown.all("form") if str(a["action"]).startswith("/?once="))

    once, sent, session = action(), form(release.contract, example), page.get_cookie(COOKIE)
    assert session is not None
    with ThreadPoolExecutor(4) as pool:  # at once, as an impatient person clicks
        said = list(pool.map(lambda _: page.application.test_client(), range(4)))
        for client in said:
            client.set_cookie(COOKIE, session.value)
        found = list(pool.map(lambda client: client.post(once, data=sent).headers["Location"], said))
    assert len(set(found)) == 1
    changed = page.post(once, data={**sent, "open_tickets": "7"}).headers["Location"]  # the way back, and another value
    again = page.post(action(), data=sent).headers["Location"]  # meant
    assert len({found[0], changed, again}) == 3
    assert len(parts.ledger.predictions({}, 10)[0]) == 3


def test_what_was_typed_after_the_session_ended_is_given_back(app: Flask, release: Release, example: Any) -> None:
    sent = {**form(release.contract, {**example, "body": "a <b>long</b> text"}), "reasons": ["one", "two"]}
    response = app.test_client().post("/queue/nothing/verdict", data=sent)
    shown = Page(response.text)
    assert response.status_code == 401
    for words in ("What you had typed", "nothing was recorded", "a <b>long</b> text", "two"):
        assert words in shown.text
    assert "long" not in app.test_client().post("/", data=sent, headers=JSON).text
    assert app.test_client().post("/", data={"x": "y" * (2 << 20)}).status_code == 401
