"""Looking back and looking up: history, record, contract and releases are the API's own, told to people."""

import csv
import io
import json
from dataclasses import replace
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import insert, select

from reviewapp.adapter import ModelAdapter
from reviewapp.errors import NotReady
from reviewapp.parts import EXTENSION, Parts
from reviewapp.prediction import Call
from reviewapp.release import Release, ReleaseId
from reviewapp.tables import predictions, verdicts

from .page import JSON, Page

pytestmark = pytest.mark.both

# ---- look back --------------------------------------------------------------------------------------------------


def test_the_history_is_that_of_the_api(page: FlaskClient, example: dict[str, Any], api: Any, ask: Any) -> None:
    for number in range(5):
        api("post", "/predictions", json={"input": {**example, "open_tickets": number}, "reference": "R"})
    _, judged = ask(subject="judged")
    page.post(f"/history/{judged}/verdict", data={"verdict": "agree"})
    for query in ("", "?limit=2", "?source=form", "?verdict=agree", "?q=judged&decision=", "?reference=R&limit=1"):
        assert page.get(f"/history{query}", headers=JSON).json == api("get", f"/predictions{query}", role="review").json
    shown = Page(page.get("/history?verdict=agree").text)
    assert "judged" in shown.text
    assert len(shown.all("td", data_name="")) == 0
    assert len([a for a in shown.all("a") if str(a["href"]).startswith("/history/")]) == 1


def test_older_pages_keep_the_filter_and_lead_back(page: FlaskClient, ask: Any) -> None:
    made = [ask()[1] for _ in range(5)]
    seen, address, steps = [], "/history?source=form&limit=2&label=", 0
    while address:
        shown = Page(page.get(address, follow_redirects=True).text)
        seen += [str(a["href"]).split("/")[-1] for a in shown.all("a") if str(a["href"]).startswith("/history/")]
        links = [str(a["href"]) for a in shown.all("a", rel="next")]
        assert all("source=form" in link and "label" not in link for link in links)
        newest = [
            a["href"]
            for a in shown.all("a")
            if str(a["href"]).startswith("/history?") and "cursor" not in str(a["href"])
        ]
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


WORKED_OUT = "Worked out now by the same release, not recorded: "


def test_what_a_bare_answer_lacks_is_worked_out_by_the_same_release_and_not_recorded(
    page: FlaskClient, api: Any, example: dict[str, Any]
) -> None:
    made = api("post", "/predictions", json={"input": example}).json
    text = Page(page.get(f"/history/{made['id']}").text).text
    assert f"{WORKED_OUT}the other option and what moved the answer." in text
    assert "What moved the answer" in text
    assert "Baseline" in text
    record = page.get(f"/history/{made['id']}", headers=JSON).json
    assert record == api("get", f"/predictions/{made['id']}").json
    assert {"comparison", "explanation"} & set(record) == set()
    full = api("post", "/predictions?compare=true&explain=true", json={"input": example}).json
    whole = Page(page.get(f"/history/{full['id']}").text).text
    assert WORKED_OUT not in whole
    half = api("post", "/predictions?compare=true", json={"input": example}).json
    assert f"{WORKED_OUT}what moved the answer." in Page(page.get(f"/history/{half['id']}").text).text
    assert len(api("get", "/predictions", role="review").json["predictions"]) == 3


def test_what_another_release_answered_is_left_as_it_was(
    page: FlaskClient, parts: Parts, api: Any, example: dict[str, Any], moved: ReleaseId
) -> None:
    now = api("post", "/predictions", json={"input": example}).json
    parts.registry.roll_back("back", "test")
    text = Page(page.get(f"/history/{now['id']}").text).text
    assert WORKED_OUT not in text
    assert "What moved the answer" not in text
    assert "Baseline" not in text


def test_an_answer_that_the_release_no_longer_gives_is_left_as_it_was(
    page: FlaskClient, parts: Parts, api: Any, example: dict[str, Any]
) -> None:
    made = parts.ledger.prediction(api("post", "/predictions", json={"input": example}).json["id"])
    other = {**made.output["probabilities"], "billing": made.output["probabilities"]["billing"] - 2e-6}
    moved_a_little = replace(made, id="0" * 36, output={**made.output, "probabilities": other})
    parts.ledger.add_predictions([moved_a_little], Call())
    assert WORKED_OUT in Page(page.get(f"/history/{made.id}").text).text
    assert WORKED_OUT not in Page(page.get(f"/history/{moved_a_little.id}").text).text


# ---- search, order, addresses, files ----------------------------------------------------------------------------


def test_the_address_says_no_more_than_it_must(page: FlaskClient) -> None:
    for sent, short in {
        "?q=&sort=&decision=auto&label=": "?decision=auto",
        "?q=a+b%26c&sort=newest&audit=": "?q=a+b%26c",
        "?q=&decision=": "",
        "?_external=1&_scheme=javascript&q=": "?_external=1&_scheme=javascript",
    }.items():
        response = page.get(f"/history{sent}")
        assert (response.status_code, response.headers["Location"]) == (303, f"/history{short}")
    assert page.get("/history?q=a&q=").status_code == 422
    assert page.get("/history?_external=1&_scheme=javascript").status_code == 422
    assert page.get("/history?q=&decision=", headers=JSON).status_code == 200


def test_the_page_says_what_is_shown_and_how_it_is_filtered(page: FlaskClient, ask: Any) -> None:
    for number in range(3):
        ask(subject=f"number {number}")
    plain = Page(page.get("/history").text)
    assert plain.title == "History – reviewapp"
    assert "3 predictions, newest first. Download everything: CSV , JSON Lines" in plain.text
    assert "Filtered by" not in plain.text
    found = Page(page.get("/history?q=number&source=form&option=model&sort=least_sure&limit=2").text)
    assert found.title == "Filtered: History – reviewapp"
    assert "Filtered by Search: number , Source: form , Option: model . Show all" in found.text
    assert "2 of the predictions that match, least sure first. Download all that match" in found.text
    chosen = [one["value"] for one in found.all("option") if "selected" in one and one["value"]]
    assert chosen == ["least_sure", "model", "form"]
    one = Page(page.get("/history?q=number+2").text)
    assert "1 prediction that matches, newest first." in one.text


def test_links_lead_on_in_every_order_and_back(page: FlaskClient, ask: Any) -> None:
    made = [ask()[1] for _ in range(3)]
    words = {"newest": ("Newest", "Older"), "oldest": ("Oldest", "Newer"), "most_sure": ("First page", "Next page")}
    for sort, (first, following) in words.items():
        shown = Page(page.get(f"/history?sort={sort}&limit=2", follow_redirects=True).text)
        [link] = shown.all("a", rel="next")
        assert following in shown.text
        after = Page(page.get(str(link["href"])).text)
        assert first in after.text
        assert ("cursor" in str(link["href"]), f"sort={sort}" in str(link["href"])) == (True, sort != "newest")
        seen = [
            str(a["href"]).split("/")[-1]
            for one in (shown, after)
            for a in one.all("a")
            if str(a["href"]).startswith("/history/")
        ]
        assert sorted(seen) == sorted(made)
    wrong = Page(page.get(str(link["href"]).replace("most", "least")).text)
    assert "This is the `next` of a list in another order; begin again without it." in wrong.text


def test_the_files_hold_what_the_page_finds(page: FlaskClient, api: Any, ask: Any) -> None:
    for number in range(4):
        ask(subject=f"number {number}", open_tickets=number)
    address = "/history?q=number&limit=1&sort=oldest&source=form"
    links = [str(a["href"]) for a in Page(page.get(address).text).all("a") if "download" in a]
    assert links == [f"/history.{kind}?q=number&sort=oldest&source=form" for kind in ("csv", "jsonl")]
    rows, lines = page.get(links[0]), page.get(links[1])
    assert rows.content_type == "text/csv; charset=utf-8"
    assert rows.headers["Content-Disposition"] == 'attachment; filename="predictions.csv"'
    assert lines.content_type == "application/x-ndjson"
    records = [json.loads(line) for line in lines.text.splitlines()]
    assert records == api("get", "/predictions?q=number&sort=oldest", role="review").json["predictions"]
    assert [row["id"] for row in csv.DictReader(io.StringIO(rows.text, newline=""))] == [one["id"] for one in records]
    assert page.get("/history.jsonl?q=nothing+like+this").text == ""
    for path in ("/history.csv?since=x", "/history.jsonl?cursor=c1", "/history.csv?label=a&label=b"):
        assert page.get(path).status_code == 422


def test_verdicts_given_blind_are_marked(page: FlaskClient, parts: Parts, ask: Any) -> None:
    _, made = ask()
    with parts.store.writing() as connection:
        seq = connection.scalar(select(predictions.c.seq))
        values = {
            "prediction_seq": seq,
            "verdict": "agree",
            "reasons": [],
            "author": "bob",
            "created_at": "2026-01-31T12",
        }
        connection.execute(insert(verdicts), [{**values, "blind": True}, {**values, "blind": False}])
    text = Page(page.get(f"/history/{made}").text).text
    assert text.count("blind: before the options were shown") == 1


def test_a_verdict_on_a_record_takes_the_reasons_of_the_policy(page: FlaskClient, parts: Parts, ask: Any) -> None:
    _, made = ask()
    offered = [str(a["value"]) for a in Page(page.get(f"/history/{made}").text).all("input", name="reasons")]
    assert offered == list(parts.registry.adapter().release.policy.reason_options)
    wrong = page.post(f"/history/{made}/verdict", data={"verdict": "corrected", "reasons": offered[:2]})
    assert wrong.status_code == 422
    assert [a["value"] for a in Page(wrong.text).all("input", name="reasons") if "checked" in a] == offered[:2]
    page.post(f"/history/{made}/verdict", data={"verdict": "agree", "reasons": offered[1:3]})
    [given] = parts.ledger.prediction(made).verdicts
    assert given.reasons == offered[1:3]


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

    standing = live

    def built(self) -> list[Any]:
        return []

    events = built
