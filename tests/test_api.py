"""The API does what the design promises; every answer here is also checked against the served OpenAPI document."""

import random
from typing import Any

import numpy as np
import orjson
import pytest
from flask import Flask

from reviewapp.adapter import ModelAdapter
from reviewapp.engine.engines import Compiled
from reviewapp.errors import StoreFull
from reviewapp.parts import Parts
from reviewapp.prediction import IdempotencyKey
from reviewapp.release import Release
from reviewapp.samples import broken_requests, valid_record

from . import conformance


def rows(parts: Parts) -> int:
    return len(parts.ledger.predictions({}, 200)[0])


# ---- one prediction -----------------------------------------------------------------------------------------------


def test_a_request_is_answered_recorded_and_found_again(
    api: Any, parts: Parts, example: dict, release: Release
) -> None:
    response = api("post", "/predictions", json={"input": example, "reference": "A-1"})
    assert response.status_code == 201
    made = response.json
    assert list(made) == [
        "id", "created_at", "release", "option", "reference", "output", "decision", "reasons", "warnings",
    ]  # fmt: skip
    assert made["release"] == release.id.as_json()
    assert (made["option"], made["reference"]) == ("model", "A-1")
    assert made["output"]["confidence"] == max(made["output"]["probabilities"].values())
    assert response.headers["Location"] == f"/api/v1/predictions/{made['id']}"
    found = api("get", f"/predictions/{made['id']}").json
    assert {name: found[name] for name in made} == made
    assert (found["input"], found["source"], found["client"]) == (example, "api", "submit")
    assert (found["verdict"], found["verdicts"]) == (None, [])
    assert found["request_id"] == response.headers["X-Request-ID"]


def test_explain_and_compare_add_what_they_say_and_are_kept(api: Any, example: dict) -> None:
    made = api("post", "/predictions?explain=true&compare=true", json={"input": example}).json
    assert made["comparison"]["option"] == "baseline"
    assert made["explanation"]["label"] == made["output"]["label"]
    found = api("get", f"/predictions/{made['id']}").json
    assert (found["comparison"], found["explanation"]) == (made["comparison"], made["explanation"])
    assert "explanation" not in api("post", "/predictions?explain=false", json={"input": example}).json


def test_a_dry_run_refuses_a_key_that_the_real_one_would_refuse(api: Any, example: dict) -> None:
    response = api("post", "/predictions?dry_run=true", json={"input": example}, headers={"Idempotency-Key": "é"})
    assert response.status_code == 400


@pytest.mark.parametrize("name", ["since", "cursor", "decision", "audit", "limit"])
def test_an_option_may_be_empty_and_the_document_says_so(api: Any, release: Release, name: str) -> None:
    assert api("get", f"/predictions?{name}=", role="review").status_code == 200
    listing = conformance.document(release.contract)["paths"]["/api/v1/predictions"]["get"]
    [option] = [one for one in listing["parameters"] if one["name"] == name]
    assert option["allowEmptyValue"] is True


def test_a_dry_run_records_nothing(api: Any, parts: Parts, example: dict) -> None:
    response = api("post", "/predictions?dry_run=true", json={"input": example}, headers={"Idempotency-Key": "k"})
    assert (response.status_code, response.json["id"]) == (200, None)
    assert "Location" not in response.headers
    batch = api("post", "/predictions/batch?dry_run=1", json={"inputs": [example]})
    assert [made["id"] for made in batch.json["predictions"]] == [None]
    assert rows(parts) == 0


def test_what_training_did_not_see_is_answered_with_a_warning_and_goes_to_a_person(api: Any, example: dict) -> None:
    made = api("post", "/predictions", json={"input": {**example, "open_tickets": 41}}).json
    assert made["decision"] == "review"
    assert "outside_seen" in made["reasons"]
    [warning] = made["warnings"]
    assert (warning["pointer"], warning["code"]) == ("/input/open_tickets", "outside_seen_range")
    assert warning["detail"] == "41 is above 0…12 seen in training"


def test_every_mistake_is_named_at_once_and_never_the_value(api: Any, parts: Parts, example: dict) -> None:
    wrong = {**example, "channel": "s3cret-fax", "open_tickets": 3.7, "has_attachment": "s3cret", "more": 1}
    wrong.pop("body")
    response = api("post", "/predictions", json={"input": wrong, "x": 1})
    assert response.status_code == 422
    assert [(e["pointer"], e["code"]) for e in response.json["errors"]] == [
        ("/input/body", "missing"),
        ("/input/channel", "not_a_choice"),
        ("/input/open_tickets", "wrong_type"),
        ("/input/has_attachment", "wrong_type"),
        ("/input/more", "unknown_member"),
        ("/x", "unknown_member"),
    ]
    assert response.json["error_count"] == 6
    assert response.json["errors"][1]["allowed"] == ["email", "web", "phone", "chat"]
    assert b"s3cret" not in response.data
    assert rows(parts) == 0


def test_every_rule_broken_once_gets_its_own_status_and_pointer(api: Any, release: Release, rng: random.Random) -> None:
    """In process and once each; test_server sends 2,000 generated requests to the running service."""
    for broken in broken_requests(release.contract, rng):
        response = api("post", "/predictions?dry_run=true", json={"input": broken.record})
        assert response.status_code == 422
        assert [(e["pointer"], e["code"]) for e in response.json["errors"]] == [(broken.pointer, broken.code)], broken
    for _ in range(50):
        record = valid_record(release.contract, rng)
        assert api("post", "/predictions?dry_run=true", json={"input": record}).status_code == 200


# ---- batch --------------------------------------------------------------------------------------------------------


def test_a_batch_is_answered_in_order_as_the_single_requests_are(api: Any, parts: Parts, records: list) -> None:
    together = api("post", "/predictions/batch?compare=true", json={"inputs": records}).json["predictions"]
    assert len(together) == len(records) == rows(parts)
    for record, made in zip(records[:10], together[:10], strict=True):
        alone = api("post", "/predictions", json={"input": record}).json
        assert alone["output"]["label"] == made["output"]["label"]
        assert alone["output"]["confidence"] == pytest.approx(made["output"]["confidence"], abs=1e-9)
        assert (alone["decision"], alone["warnings"]) == (made["decision"], made["warnings"])


def test_one_bad_row_refuses_the_batch_and_records_nothing(api: Any, parts: Parts, example: dict) -> None:
    inputs = [example, example, example, {**example, "channel": "fax"}]
    response = api("post", "/predictions/batch", json={"inputs": inputs})
    assert response.status_code == 422
    assert [e["pointer"] for e in response.json["errors"]] == ["/inputs/3/channel"]
    assert rows(parts) == 0


def test_of_many_mistakes_the_first_fifty_are_shown_and_all_are_counted(api: Any) -> None:
    response = api("post", "/predictions/batch", json={"inputs": [{}] * 1000})
    assert response.status_code == 422
    assert len(response.json["errors"]) == 50
    assert response.json["error_count"] == 6000


# ---- retries ------------------------------------------------------------------------------------------------------


def test_a_retry_with_the_same_key_gets_the_first_answer_again(api: Any, parts: Parts, example: dict) -> None:
    body, key = {"input": example}, {"Idempotency-Key": "k-1"}
    first = api("post", "/predictions?explain=true", json=body, headers=key)
    again = api("post", "/predictions?explain=true", json=body, headers=key)
    assert (again.status_code, again.json, again.headers["Location"]) == (201, first.json, first.headers["Location"])
    assert rows(parts) == 1
    assert api("post", "/predictions?explain=true", json=body, headers=key, role="admin").json["id"] != first.json["id"]
    batch = api("post", "/predictions/batch", json={"inputs": [example] * 3}, headers={"Idempotency-Key": "k-2"})
    twice = api("post", "/predictions/batch", json={"inputs": [example] * 3}, headers={"Idempotency-Key": "k-2"})
    assert batch.json == twice.json


def test_a_key_used_for_another_request_is_refused(api: Any, example: dict) -> None:
    key = {"Idempotency-Key": "k-1"}
    api("post", "/predictions", json={"input": example}, headers=key)
    for path, body in (
        ("/predictions", {"input": {**example, "open_tickets": 2}}),
        ("/predictions?explain=true", {"input": example}),
        ("/predictions/batch", {"inputs": [example]}),
    ):
        response = api("post", path, json=body, headers=key)
        assert (response.status_code, response.json["type"]) == (422, "/problems/idempotency-key-reused")


def test_a_key_that_is_under_way_is_a_conflict(api: Any, parts: Parts, example: dict) -> None:
    with parts.ledger.claim(IdempotencyKey("submit", "k-1", "")):
        response = api("post", "/predictions", json={"input": example}, headers={"Idempotency-Key": "k-1"})
    assert (response.status_code, response.headers["Retry-After"]) == (409, "1")
    assert api("post", "/predictions", json={"input": example}, headers={"Idempotency-Key": "k-1"}).status_code == 201


@pytest.mark.parametrize("key", ["", "x" * 256, "é"])
def test_a_key_that_cannot_be_kept_is_refused(api: Any, example: dict, key: str) -> None:
    headers = {"Idempotency-Key": key.encode().decode("latin-1")}
    assert api("post", "/predictions", json={"input": example}, headers=headers).status_code == 400


# ---- reading ------------------------------------------------------------------------------------------------------


def test_submit_reads_its_own_predictions_and_review_reads_all(api: Any, auth: Any, example: dict) -> None:
    made = api("post", "/predictions", json={"input": example}).json
    other = auth("submit", name="somebody else")
    path = f"/predictions/{made['id']}"
    assert api("get", path).status_code == 200
    assert api("get", path, role=None, headers=other).status_code == 404
    assert api("get", path, role="review").status_code == 200
    assert api("get", "/predictions/nothing", role="review").status_code == 404


def test_the_list_is_newest_first_filtered_and_in_pages(api: Any, example: dict) -> None:
    ids = [api("post", "/predictions", json={"input": example, "reference": f"r{i}"}).json["id"] for i in range(5)]
    assert api("get", "/predictions").status_code == 403
    first = api("get", "/predictions?limit=3", role="review").json
    assert [made["id"] for made in first["predictions"]] == ids[:1:-1]
    second = api("get", f"/predictions?limit=3&cursor={first['next']}", role="review").json
    assert ([made["id"] for made in second["predictions"]], second["next"]) == (ids[1::-1], None)
    found = api("get", "/predictions?reference=r2&source=api&verdict=none&option=model", role="review").json
    assert [made["id"] for made in found["predictions"]] == [ids[2]]
    since = api("get", "/predictions?since=2100-01-01", role="review").json
    until = api("get", "/predictions?until=2100-01-01T00:00:00%2B02:00&q=charged", role="review").json
    assert (len(since["predictions"]), len(until["predictions"])) == (0, 5)


@pytest.mark.parametrize(
    ("query", "pointer", "code"),
    [
        ("limit=0", "/query/limit", "too_small"),
        ("limit=201", "/query/limit", "too_large"),
        ("limit=ten", "/query/limit", "wrong_type"),
        ("decision=maybe", "/query/decision", "not_a_choice"),
        ("since=yesterday", "/query/since", "not_a_time"),
        ("since=0001-01-01T00:00:00%2B14:00", "/query/since", "not_a_time"),
        ("cursor=abc", "/query/cursor", "not_a_cursor"),
        ("colour=red", "/query/colour", "unknown_member"),
        ("limit=1&limit=2", "/query/limit", "given_twice"),
        ("q=a%00b", "/query/q", "control_character"),
    ],
)
def test_a_wrong_query_option_is_pointed_at(api: Any, query: str, pointer: str, code: str) -> None:
    response = api("get", f"/predictions?{query}", role="review")
    assert response.status_code == 422
    assert [(e["pointer"], e["code"]) for e in response.json["errors"]] == [(pointer, code)]


# ---- verdicts -----------------------------------------------------------------------------------------------------


def test_verdicts_are_kept_with_who_and_when_and_can_be_taken_back(api: Any, example: dict) -> None:
    path = f"/predictions/{api('post', '/predictions', json={'input': example}).json['id']}/verdict"
    body = {"verdict": "corrected", "label": "bug", "reasons": ["quoted thread"], "note": "<b>no</b>"}
    kept = api("put", path, json=body, role="review").json
    assert {name: kept["verdict"][name] for name in body} == body
    assert kept["verdict"]["author"] == "review"
    assert api("put", path, json=body, role="review").json == kept
    agreed = api("put", path, json={"verdict": "agree"}, role="admin").json
    assert [given["verdict"] for given in agreed["verdicts"]] == ["corrected", "agree"]
    assert api("get", "/predictions?verdict=agree", role="review").json["predictions"] == [agreed]
    back = api("delete", path, role="review").json
    assert back["verdict"] is None
    assert [given["verdict"] for given in back["verdicts"]] == ["corrected", "agree", "withdrawn"]
    assert api("delete", path, role="review").status_code == 404


def test_a_verdict_needs_the_role_a_prediction_and_its_own_labels(api: Any, example: dict) -> None:
    path = f"/predictions/{api('post', '/predictions', json={'input': example}).json['id']}/verdict"
    assert api("put", path, json={"verdict": "agree"}).status_code == 403
    assert api("put", "/predictions/nothing/verdict", json={"verdict": "agree"}, role="review").status_code == 404
    response = api("put", path, json={"verdict": "corrected", "label": "sales"}, role="review")
    assert response.status_code == 422
    assert response.json["errors"][0]["allowed"] == ["billing", "access", "bug", "outage", "feature", "other"]


# ---- contract, releases, health -----------------------------------------------------------------------------------


def test_contract_and_openapi_are_open_to_everybody(api: Any, release: Release) -> None:
    assert api("get", "/contract", role=None).json == release.contract.as_json()
    document = api("get", "/openapi.json", role=None).json
    assert document["openapi"] == "3.1.0"
    assert document == conformance.document(release.contract)  # what every answer of these tests is checked against
    assert document["components"]["schemas"]["Input"]["properties"] == release.contract.as_json()["properties"]


def test_the_document_has_just_the_routes_that_there_are(app: Flask, api: Any) -> None:
    document = api("get", "/openapi.json", role=None).json
    described = {(path, method.upper()) for path, item in document["paths"].items() for method in item}
    there = {
        (rule.rule.replace("<int:version>", "{version}").replace("<prediction_id>", "{prediction_id}"), method)
        for rule in app.url_map.iter_rules()
        if rule.endpoint.startswith(("api.", "health."))
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }
    assert described == there


def test_releases_are_listed_moved_and_rolled_back(
    api: Any, parts: Parts, release: Release, example: dict, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dataclasses import replace

    from reviewapp import release as releases

    second = releases.write(replace(release, policy=replace(release.policy, threshold=1.0)), parts.settings.releases)
    parts.registry.add(second, "test")
    listed = api("get", "/releases").json["releases"]
    assert [(row["digest"], row["active"]) for row in listed] == [(second.id.digest, False), (release.id.digest, True)]
    moved = api("post", f"/releases/{second.id.version}/promote", json={"reason": "stricter"}, role="admin")
    assert (moved.status_code, moved.json["event"], moved.json["actor"]) == (200, "promoted", "admin")
    active = api("get", "/releases/active").json
    assert (active["digest"], active["policy"]["threshold"], active["problem"]) == (second.id.digest, 1.0, None)
    made = api("post", "/predictions", json={"input": example}).json
    assert (made["release"]["version"], made["reasons"]) == (second.id.version, ["low_confidence"])
    back = api("post", "/releases/rollback", json={"reason": "too strict"}, role="admin").json
    assert (back["event"], back["version"]) == ("rolled_back", release.id.version)
    assert api("post", "/releases/rollback", json={"reason": "x"}, role="admin").status_code == 409
    (parts.registry.folder(second.id) / "card.md").write_text("changed")
    damaged = api("post", f"/releases/{second.id.version}/promote", json={"reason": "x"}, role="admin")
    assert (damaged.status_code, damaged.json["type"]) == (409, "/problems/release-refused")
    assert "card.md" in damaged.json["detail"]
    assert str(tmp_path) not in damaged.text
    assert api("post", "/releases/999/promote", json={"reason": "x"}, role="admin").status_code == 404
    assert api("post", "/releases/rollback", json={}, role="admin").status_code == 422
    assert api("post", "/releases/rollback", json={"reason": "x"}, role="review").status_code == 403


def test_a_promotion_that_breaks_callers_is_refused_until_it_is_said_that_they_are_ready(
    api: Any, parts: Parts, narrower: Release
) -> None:
    parts.registry.add(narrower, "test")
    path, body = f"/releases/{narrower.id.version}/promote", {"reason": "stricter"}
    for unready in (body, {**body, "breaking": False}, {**body, "breaking": None}):
        refused = api("post", path, json=unready, role="admin")
        assert (refused.status_code, refused.json["type"]) == (409, "/problems/breaking-change")
        assert "say `breaking`" in refused.json["detail"]
        [error] = refused.json["errors"]
        assert (error["pointer"], error["code"]) == ("/input/open_tickets", "breaking_change")
    assert api("post", path, json={**body, "breaking": "yes"}, role="admin").status_code == 422
    assert api("post", path, json={**body, "breaking": True}, role="review").status_code == 403
    assert api("get", "/releases/active").json["version"] != narrower.id.version
    moved = api("post", path, json={**body, "breaking": True}, role="admin").json
    assert (moved["version"], moved["breaking"], len(moved["differences"])) == (narrower.id.version, True, 1)
    extra = {"reason": "back", "breaking": True}
    assert api("post", "/releases/rollback", json=extra, role="admin").json["errors"][0]["pointer"] == "/breaking"
    back = api("post", "/releases/rollback", json={"reason": "back"}, role="admin").json
    assert (back["breaking"], [one["breaking"] for one in back["differences"]]) == (False, [False])


def test_alive_and_ready(app: Flask, release: Release) -> None:
    client = app.test_client()
    assert client.get("/livez").json == {"status": "alive"}
    assert client.get("/readyz").json == {"status": "ready", "release": release.id.as_json()}


def test_without_a_release_it_is_alive_but_not_ready(tmp_path: Any, release: Release) -> None:
    from reviewapp.factory import create_app

    from .conformance import CheckedClient

    app = create_app({"instance": tmp_path / "empty"})
    app.test_client_class = CheckedClient
    CheckedClient.contract = release.contract
    client = app.test_client()
    assert client.get("/livez").status_code == 200
    for path in ("/readyz", "/api/v1/contract"):
        response = client.get(path)
        assert response.status_code == 503
        assert "reviewapp build" in response.json["detail"]
        assert response.headers["Retry-After"]
    app.extensions["reviewapp"].store.close()


def test_ready_says_what_is_wrong(app: Flask, parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    client = app.test_client()
    assert client.get("/readyz").status_code == 200
    monkeypatch.setattr(parts.registry, "problem", lambda: "card.md was changed")
    release = client.get("/readyz")
    monkeypatch.undo()
    monkeypatch.setattr(parts.store, "check_writable", lambda at: (_ for _ in ()).throw(StoreFull("The disk is full.")))
    ledger = client.get("/readyz")
    for response, says in ((release, "card.md was changed"), (ledger, "The disk is full.")):
        assert (response.status_code, response.json["type"]) == (503, "/problems/not-ready")
        assert says in response.json["detail"]
        assert response.headers["Retry-After"] == "10"


def test_a_model_that_breaks_its_contract_is_our_failure_not_the_callers(
    app: Flask, api: Any, parts: Parts, example: dict, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts.registry.adapter()  # it is loaded while it still answers right
    monkeypatch.setattr(Compiled, "figures", lambda self, records: np.full((len(records), 6), np.nan))
    response = api("post", "/predictions", json={"input": example})
    assert (response.status_code, response.json["type"]) == (500, "/problems/model-broken")
    assert rows(parts) == 0
    ready = app.test_client().get("/readyz")
    assert (ready.status_code, ready.json["type"]) == (503, "/problems/not-ready")


def test_answers_are_compact_json_with_every_digit(api: Any, example: dict, adapter: ModelAdapter) -> None:
    from reviewapp.prediction import Call

    response = api("post", "/predictions", json={"input": example})
    [expected] = adapter.predict([example], Call())
    assert orjson.loads(response.data)["output"] == expected.output
    assert response.headers["Content-Type"] == "application/json"
