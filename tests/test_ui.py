"""The pages: forms from the contract, the same words and rules as the API, a JSON twin for every page."""

import io
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from flask import Flask
from flask.testing import FlaskClient

from reviewapp.adapter import ModelAdapter
from reviewapp.contract import Contract
from reviewapp.errors import NotReady
from reviewapp.forms import as_typed, control_names
from reviewapp.parts import EXTENSION, Parts
from reviewapp.prediction import Prediction
from reviewapp.release import Golden, Release
from reviewapp.samples import example_record

from .conftest import EVERY_KIND
from .page import Page
from .small import small_release

JSON = {"Accept": "application/json"}
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


@pytest.fixture
def page(app: Flask, parts: Parts) -> FlaskClient:
    client = app.test_client()
    client.get(f"/sign-in?link={parts.accounts.create_link('owner', 'admin')}")
    return client


def form(contract: Contract, record: dict[str, Any]) -> dict[str, str]:
    names = dict(zip(contract.names, control_names(contract.fields), strict=True))
    return {names[name]: text for name, text in as_typed(record).items()}


@pytest.fixture
def ask(page: FlaskClient, parts: Parts, example: dict[str, Any]) -> Any:
    """Send a request through the form; return where its answer is shown, and its id."""

    def send(**changes: Any) -> tuple[str, str]:
        response = page.post("/", data=form(parts.registry.adapter().contract, {**example, **changes}))
        assert response.status_code == 303
        location = response.headers["Location"]
        return location, re.findall(r"prediction=([^#&]+)", location)[0]

    return send


def latest(parts: Parts) -> Prediction:
    return parts.ledger.predictions({}, 1)[0][0]


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


def test_a_random_request_is_valid_and_the_same_at_the_same_address(page: FlaskClient, release: Release) -> None:
    [link] = [a["href"] for a in Page(page.get("/").text).all("a") if "random=" in str(a["href"])]
    assert page.get(link).text == page.get(link).text
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
    assert page.get(location).text == text  # looking again asks nothing again
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
    assert (response.status_code, response.headers["Location"]) == (303, f"/history/{made}#verdicts")
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


# ---- look back --------------------------------------------------------------------------------------------------


def test_the_history_is_that_of_the_api(page: FlaskClient, parts: Parts, api: Any, ask: Any) -> None:
    for number in range(5):
        api("post", "/predictions", json={"input": {**parts_example(parts), "open_tickets": number}, "reference": "R"})
    _, judged = ask(subject="judged")
    page.post(f"/history/{judged}/verdict", data={"verdict": "agree"})
    for query in ("", "?limit=2", "?source=form", "?verdict=agree", "?q=judged&decision=", "?reference=R&limit=1"):
        assert page.get(f"/history{query}", headers=JSON).json == api("get", f"/predictions{query}", role="review").json
    shown = Page(page.get("/history?verdict=agree").text)
    assert "judged" in shown.text
    assert len(shown.all("td", data_name="")) == 0
    assert len([a for a in shown.all("a") if str(a["href"]).startswith("/history/")]) == 1


def parts_example(parts: Parts) -> dict[str, Any]:
    return example_record(parts.registry.adapter().contract)


def test_older_pages_keep_the_filter_and_lead_back(page: FlaskClient, ask: Any) -> None:
    made = [ask()[1] for _ in range(5)]
    seen, address, steps = [], "/history?source=form&limit=2&label=", 0
    while address:
        shown = Page(page.get(address).text)
        seen += [str(a["href"]).split("/")[-1] for a in shown.all("a") if str(a["href"]).startswith("/history/")]
        links = [str(a["href"]) for a in shown.all("a", rel="next")]
        assert all("source=form" in link and "label" not in link for link in links)
        newest = [a["href"] for a in shown.all("a") if "limit=2" in str(a["href"]) and "cursor" not in str(a["href"])]
        assert newest == ([] if steps == 0 else ["/history?source=form&limit=2"])
        address, steps = (links or [""])[0], steps + 1
    assert (seen, steps) == (made[::-1], 3)


def test_the_labels_of_the_release_are_offered_to_the_filter(page: FlaskClient, release: Release) -> None:
    shown = Page(page.get("/history").text)
    [control] = shown.all("input", name="label")
    assert shown.all("datalist", id=str(control["list"]))
    known = {option["value"] for option in shown.all("option")}
    assert known >= set(release.contract.outcome.labels)


def test_a_wrong_filter_is_said_by_its_field(page: FlaskClient, api: Any) -> None:
    response = page.get("/history?since=yesterday&decision=auto")
    assert response.status_code == 422
    shown = Page(response.text)
    said = api("get", "/predictions?since=yesterday", role="review").json["errors"][0]["detail"]
    assert shown.text.count(said) == 2
    assert shown.values["since"] == "yesterday"
    odd = Page(page.get("/history?cursor=x").text)
    assert "cursor: This must be the `next` of an earlier page." in odd.text
    assert page.get("/history?since=yesterday", headers=JSON).json["status"] == 422


def test_an_empty_history_says_what_to_do(page: FlaskClient, ask: Any) -> None:
    assert "Nothing is recorded yet. Try a request" in Page(page.get("/history").text).text
    ask()
    assert "No prediction matches. Show all" in Page(page.get("/history?q=nothing+like+this").text).text


def test_a_record_tells_the_whole_story(page: FlaskClient, parts: Parts, api: Any, release: Release) -> None:
    body = {"input": release.samples[2].input, "reference": "ticket 7"}
    made = api("post", "/predictions?compare=true&explain=true", json=body, headers={"X-Request-ID": "req-7"}).json
    text = Page(page.get(f"/history/{made['id']}").text).text
    told = [made["id"], "req-7", "ticket 7", release.id.digest, str(release.id), "not known", "What moved the answer",
            "Baseline", "Model", "submit", made["output"]["label"], "No verdict holds."]  # fmt: skip
    assert [words for words in told if words not in text] == []
    assert page.get(f"/history/{made['id']}", headers=JSON).json == api("get", f"/predictions/{made['id']}").json


def test_the_record_of_a_bare_answer_is_shown_too(page: FlaskClient, api: Any, example: dict[str, Any]) -> None:
    made = api("post", "/predictions", json={"input": example}).json
    text = Page(page.get(f"/history/{made['id']}").text).text
    assert "What moved the answer" not in text
    assert "Baseline" not in text


# ---- reference --------------------------------------------------------------------------------------------------


def test_the_contract_is_told_with_limits_and_examples(page: FlaskClient, release: Release) -> None:
    text = Page(page.get("/contract").text).text
    for field in release.contract.fields:
        assert field.name in text
    for words in ("One of free, pro, enterprise. May be null, or left out: not known.", "0 to 12",
                  "At most 200 characters. Required.", *release.contract.outcome.labels):  # fmt: skip
        assert words in text
    assert "curl -sS http://localhost/api/v1/predictions" in text
    assert "import json, os, urllib.request" in text


def test_the_releases_page_says_what_answers_now_and_how_that_came_about(
    page: FlaskClient, api: Any, release: Release
) -> None:
    shown = Page(page.get("/releases").text)
    model = release.evaluation["results"]["test"]["model"]
    for words in (f"What answers now: {release.id}", release.id.digest, f"{model['accuracy']:.3f}", "later drift",
                  "the first release goes live by itself", "promoted by test", "built by test"):  # fmt: skip
        assert words in shown.text
    twin = page.get("/releases", headers=JSON).json
    assert twin["releases"] == api("get", "/releases").json["releases"]
    assert twin["active"] == api("get", "/releases/active").json
    assert [event["event"] for event in twin["events"]] == ["promoted", "built"]


def test_where_nothing_can_answer_one_can_still_look_back(
    app: Flask, page: FlaskClient, parts: Parts, ask: Any
) -> None:
    _, made = ask()
    app.extensions[EXTENSION] = replace(parts, registry=NothingAnswers())  # type: ignore[arg-type]
    for path in ("/", "/contract"):
        response = page.get(path)
        assert response.status_code == 503
        assert "No release can be loaded" in Page(response.text).text
    assert "open_tickets" in Page(page.get(f"/history/{made}").text).text
    assert page.post(f"/history/{made}/verdict", data={"verdict": "agree"}).status_code == 303
    assert page.get("/history").status_code == 200
    assert "No release can be loaded" in Page(page.get("/releases").text).text
    twin = page.get("/releases", headers=JSON).json
    assert (twin["active"], twin["problem"]) == (None, "No release can be loaded.")
    app.extensions[EXTENSION] = parts


class NothingAnswers:
    """A registry whose releases are all damaged."""

    def adapter(self) -> ModelAdapter:
        raise NotReady("No release can be loaded.", retry_after=30)

    def live(self) -> None:
        return None

    def built(self) -> list[Any]:
        return []

    events = built


# ---- all of them ------------------------------------------------------------------------------------------------

SIGNED_OUT = {"/sign-in", "/contract"}


def pages(app: Flask, made: str) -> list[str]:
    """Every page there is: what the routes of the blueprint say, with an id filled in."""
    rules = [rule for rule in app.url_map.iter_rules() if rule.endpoint.startswith("ui.")]
    return [rule.rule.replace("<prediction_id>", made) for rule in rules if "GET" in (rule.methods or ())]


def test_every_page_has_a_title_one_heading_a_twin_and_is_small(app: Flask, page: FlaskClient, ask: Any) -> None:
    location, made = ask(subject="s" * 200, body="A sentence. " * 333)
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


def test_no_page_carries_script_or_style_of_its_own_or_from_elsewhere(app: Flask, page: FlaskClient, ask: Any) -> None:
    location, made = ask()
    for path in [*pages(app, made), location]:
        shown = Page(page.get(path).text)
        for tag, attributes in shown.elements:
            assert tag not in ("style", "iframe", "object", "img")
            assert not [name for name in attributes if name == "style" or name.startswith("on")]
            for name in ("src", "href", "action"):
                assert re.match(r"[/#]", attributes.get(name) or "/"), (tag, attributes)
        assert [a.get("src") for a in shown.all("script")] == ["/static/page.js"]


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_is_shown_as_text_wherever_it_comes_from(
    app: Flask, page: FlaskClient, parts: Parts, api: Any, ask: Any, text: str
) -> None:
    harmless, plain = ask(subject="x", body="x")
    page.post(f"/history/{plain}/verdict", data={"verdict": "unsure", "note": "x"})
    api("post", "/predictions", json={"input": parts_example(parts), "reference": "x"})
    location, made = ask(subject=text, body=text)
    page.post(f"/history/{made}/verdict", data={"verdict": "unsure", "note": text})
    referred = api(
        "post", "/predictions", json={"input": {**parts_example(parts), "body": text}, "reference": text}
    ).json
    client = app.test_client()
    client.post("/sign-in", data={"token": parts.accounts.create_token(f"n{text}"[:99].translate(_PRINTABLE), "admin")})
    known = {(tag, name) for path in (harmless, f"/history/{plain}", "/history?reference=x")
             for tag, attributes in Page(page.get(path).text).elements for name in attributes}  # fmt: skip
    for path in (location, f"/history/{made}", f"/history/{referred['id']}", "/history"):
        shown = Page(client.get(path).text)
        assert text[:60] in shown.raw_text, path
        assert {(tag, name) for tag, attributes in shown.elements for name in attributes} <= known
        assert len(shown.all("script")) == 1


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

    def built(self) -> list[Any]:
        return []

    events = built


@pytest.fixture
def odd(app: Flask, page: FlaskClient, parts: Parts) -> Iterator[FlaskClient]:
    """The pages for a contract with odd names, every kind of field, and labels full of signs."""
    record = example_record(EVERY_KIND)
    golden = (Golden(record, {}, "One & only <b>"),)
    adapter = ModelAdapter(small_release(EVERY_KIND, Same(), golden=golden), [parts.ledger.add_predictions])
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
