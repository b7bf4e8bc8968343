"""Scripts written for other servers, MLflow's, SageMaker's and Triton's, get the answers that the API gives."""

import contextlib
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import geventhttpclient
import numpy as np
import pytest
import tritonclient.http as triton
from flask import Flask
from hypothesis import given
from hypothesis import strategies as st
from tritonclient.utils import InferenceServerException, serialize_byte_tensor

from reviewapp import tensors
from reviewapp.adapter import ModelAdapter
from reviewapp.contract import Contract
from reviewapp.errors import StoreFull
from reviewapp.factory import create_app
from reviewapp.parts import EXTENSION, Parts
from reviewapp.prediction import Call
from reviewapp.release import Release
from reviewapp.samples import broken_requests, example_record

from .conftest import EVERY_KIND
from .page import as_csv
from .service import Service
from .small import small_release
from .test_bulk import TAKEN, Interval
from .test_pages import OneRelease, Same

Send = Callable[..., Any]
TENSORS = {"integer": ("INT64", np.int64), "boolean": ("BOOL", np.bool_), "number": ("FP64", np.float64)}


@pytest.fixture
def records(release: Release, records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """As a table has them: each has every column, in the contract's order."""
    return [{name: one.get(name) for name in release.contract.names} for one in records]


@pytest.fixture
def send(app: Flask, auth: Any) -> Send:
    """`send("/invocations", {…})`; what is bytes is sent as it is."""
    client, token = app.test_client(), auth("submit")

    def post(path: str, body: Any, kind: str = "application/json", headers: Any = None) -> Any:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        return client.post(path, data=data, content_type=kind, headers={**token, **(headers or {})})

    return post


@pytest.fixture
def infer(send: Send, release: Release) -> Send:
    def post(body: Any, path: str = f"/v2/models/{release.id.name}/infer", **kwargs: Any) -> Any:
        return send(path, body, **kwargs)

    return post


@pytest.fixture
def serve(app: Flask, parts: Parts) -> Iterator[Callable[[Contract, Any], ModelAdapter]]:
    """Let the app answer for another contract: `serve(contract, model)`."""

    def change(contract: Contract, model: Any) -> ModelAdapter:
        adapter = ModelAdapter(small_release(contract, model), [parts.ledger.add])
        app.extensions[EXTENSION] = replace(parts, registry=OneRelease(adapter))
        return adapter

    yield change
    app.extensions[EXTENSION] = parts


def split(records: list[dict[str, Any]]) -> dict[str, Any]:
    return {"columns": list(records[0]), "index": [*range(len(records))], "data": [[*one.values()] for one in records]}


def columns(records: list[dict[str, Any]]) -> dict[str, list[Any]]:
    return {name: [one[name] for one in records] for name in records[0]}


def as_tensors(contract: Contract, records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    kinds = {field.name: TENSORS.get(field.kind, ("BYTES", None))[0] for field in contract.fields}
    return [
        {"name": name, "datatype": kinds[name], "shape": [len(values)], "data": values}
        for name, values in columns(records).items()
    ]


def outputs(response: Any) -> dict[str, list[Any]]:
    assert response.status_code == 200, response.text
    return {one["name"]: one["data"] for one in response.json["outputs"]}


# ---- MLflow -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "form",
    [
        lambda records: {"dataframe_split": split(records)},
        lambda records: {"dataframe_split": {name: split(records)[name] for name in ("data", "columns")}},
        lambda records: {"dataframe_records": records},
        lambda records: {"instances": records},
        lambda records: {"inputs": records},
        lambda records: {"inputs": columns(records), "params": {"max_answer_len": 10}},
        lambda records: {"inputs": [[*one.values()] for one in records], "signature_name": "serving_default"},
        lambda records: as_csv([{**one, "customer_tier": one["customer_tier"] or ""} for one in records]).encode(),
    ],
    ids=["split", "no index", "records", "instances", "inputs", "columns", "by position", "csv"],
)
def test_every_form_of_mlflow_gets_the_labels_of_the_native_route(
    send: Send, parts: Parts, adapter: ModelAdapter, records: list[dict[str, Any]], form: Any
) -> None:
    body = form(records)
    response = send("/invocations", body, "text/csv" if isinstance(body, bytes) else "application/json")
    expected = [made.output["label"] for made in adapter.predict(records, Call())]
    assert (response.status_code, response.json) == (200, {"predictions": expected})
    found, _ = parts.ledger.predictions({}, 200, None)
    assert [one.input for one in reversed(found)] == records
    assert {(one.source, one.client) for one in found} == {("api", "submit")}


def test_params_may_ask_for_probabilities(send: Send, adapter: ModelAdapter, records: list[dict[str, Any]]) -> None:
    response = send("/invocations", {"instances": records, "params": {"predict_fn": "predict_proba"}})
    assert response.json["predictions"] == [made.output["probabilities"] for made in adapter.predict(records, Call())]


def test_an_idempotency_key_answers_once_here_too(send: Send, parts: Parts, example: dict) -> None:
    for _ in range(2):
        assert send("/invocations", {"inputs": [example]}, headers={"Idempotency-Key": "k"}).status_code == 200
    assert len(parts.ledger.predictions({}, 200, None)[0]) == 1
    other = send("/invocations", {"instances": [example]}, headers={"Idempotency-Key": "k"})
    assert (other.status_code, other.json["error_code"]) == (400, "BAD_REQUEST")


ONE_OF = "exactly one of the input fields"


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"{", "line 1"),
        (b'{"inputs": [], "inputs": []}', "names the same member twice"),
        (b'{"inputs": [[NaN]]}', "NaN is not JSON"),
        ([], ONE_OF),
        ({"columns": ["a"], "data": [[1]]}, ONE_OF),
        ({"inputs": [], "instances": []}, ONE_OF),
        ({"inputs": 1}, "inputs: this must be a list of rows"),
        ({"inputs": []}, "At least 1"),
        ({"inputs": [{}] * 1001}, "At most 1000"),
        ({"inputs": [[1, 2]]}, "row 0 has 2 values, and there are 7 columns"),
        ({"inputs": {"subject": "a"}}, "each column must be a list"),
        ({"inputs": {"subject": ["a"], "body": []}}, "all equally long"),
        ({"inputs": {}}, "each column"),
        ({"inputs": ["a"]}, "inputs/0: This must be an object"),
        ({"dataframe_records": {"subject": ["a"]}}, "dataframe_records: this must be a list"),
        ({"dataframe_split": []}, "dataframe_split: this must have `columns` and `data`"),
        ({"dataframe_split": {"columns": ["a"]}}, "dataframe_split: this must have `columns` and `data`"),
        ({"dataframe_split": {"columns": ["a", "a"], "data": []}}, "names, each once"),
        ({"dataframe_split": {"columns": [1], "data": []}}, "names, each once"),
        ({"dataframe_split": {"columns": ["a"], "data": [[1, 2]]}}, "row 0 has 2 values"),
        ({"inputs": [{}], "params": []}, "inputs/0/"),
        ({"inputs": [{}], "params": [1]}, "params: this must be an object"),
    ],
)
def test_what_mlflow_refuses_is_refused_in_its_shape(send: Send, parts: Parts, body: Any, says: str) -> None:
    response = send("/invocations", body)
    assert (response.status_code, response.json["error_code"]) == (400, "BAD_REQUEST")
    assert response.json.keys() == {"error_code", "message"}
    assert says in response.json["message"]
    assert not parts.ledger.predictions({}, 1, None)[0]


@pytest.mark.parametrize("params", [{"predict_fn": "score"}, {"predict_fn": []}])
def test_a_method_that_there_is_not_is_named(send: Send, parts: Parts, example: dict, params: Any) -> None:
    response = send("/invocations", {"inputs": [example], "params": params})
    assert (response.status_code, response.json["message"]) == (
        400,
        "params/predict_fn: this must be predict or predict_proba.",
    )
    assert not parts.ledger.predictions({}, 1, None)[0]


def test_a_csv_file_is_refused_with_every_mistake_and_its_row(send: Send, parts: Parts, example: dict) -> None:
    wrong = {**example, "channel": "s3cret", "open_tickets": "s3cret"}
    response = send("/invocations", as_csv([example, wrong]).encode(), "text/csv; charset=utf-8")
    assert response.json == {
        "error_code": "BAD_REQUEST",
        "message": "The input breaks the contract: inputs/1/channel: This must be one of the allowed values "
        "(email, web, phone, chat); inputs/1/open_tickets: This must be a whole number.",
    }
    for content, says in (
        (as_csv([example]) + "a,b\r\n", "this row has 2 cells"),
        (as_csv([{**example, "": 0}]), "(no name): Line 1: the contract knows no column of this name"),
        (as_csv([example] * 1001), "At most 1000"),
    ):
        response = send("/invocations", content.encode(), "application/csv")
        assert (response.status_code, says in response.json["message"]) == (400, True)
    assert send("/invocations", b"a", "text/csv; charset=latin-1").status_code == 415
    assert not parts.ledger.predictions({}, 1, None)[0]


def test_a_long_list_of_mistakes_is_cut(send: Send) -> None:
    response = send("/invocations", {"inputs": [{}] * 1000})
    assert "; and 5,950 more." in response.json["message"]
    assert len(response.data) < 64 << 10


def test_a_value_is_answered_and_has_no_probabilities(send: Send, serve: Any) -> None:
    serve(TAKEN, Interval())
    row = {"prediction": "a", "prediction_": "b", "reference": None}
    assert send("/invocations", {"instances": [row, row]}).json == {"predictions": [1.5, 1.5]}
    response = send("/invocations", {"instances": [row], "params": {"predict_fn": "predict_proba"}})
    assert (response.status_code, "must be predict." in response.json["message"]) == (400, True)
    asked = [{"name": "prediction", "datatype": "BYTES", "shape": [1, 1], "data": [["a"]]}]
    found = outputs(send("/v2/models/taken/infer", {"inputs": asked}))
    assert [found[name] for name in ("value", "low", "high", "decision")] == [[1.5], [0.5], [2.5], ["auto"]]
    metadata = send("/v2/models/taken/infer", {"inputs": []})
    assert metadata.status_code == 400


# ---- the same refusals --------------------------------------------------------------------------------------------


def test_both_protocols_refuse_just_what_the_api_refuses(
    api: Any, send: Send, infer: Send, release: Release, rng: Any
) -> None:
    seen = set()
    for broken in broken_requests(release.contract, rng):
        record = broken.record
        native = api("post", "/predictions/batch", json={"inputs": [record]})
        rows = send("/invocations", {"dataframe_records": [record]})
        assert (native.status_code, rows.status_code) == (422, 400)
        for flaw in native.json["errors"]:
            assert f"{flaw['pointer'][1:]}: {flaw['detail'].rstrip('.')}" in rows.json["message"]
        if type(record) is dict and record and set(record) <= set(release.contract.names):
            refused = infer({"inputs": as_tensors(release.contract, [record])})
            assert (refused.status_code, refused.json.keys()) == (400, {"error"}), record
        seen.add(broken.code)
    assert len(seen) > 5


@pytest.mark.parametrize(
    ("path", "member"),
    [
        ("/invocations", "message"),
        ("/v2/models/triage/infer", "error"),
        ("/v2/models/triage/versions/1/infer", "error"),
    ],
)
def test_every_refusal_is_in_the_shape_of_the_protocol(
    app: Flask, parts: Parts, auth: Any, send: Send, example: dict, monkeypatch: Any, path: str, member: str
) -> None:
    client = app.test_client()
    body = json.dumps({"inputs": [example]})
    form = {"Content-Type": "application/x-www-form-urlencoded"}  # curl's, where nothing else is said
    answers = [(401, client.post(path, data=body, headers=form))]
    answers.append((403, client.post(path, data=body, headers={**auth(), "Origin": "http://evil.example"})))
    answers.append((405, client.get(path, headers={"Accept": "text/html"})))
    answers.append((413, send(path, b" " * (parts.settings.max_body + 1))))
    answers.append((415, send(path, b"{}", headers={"Content-Encoding": "gzip"})))
    answers.append((400, client.post(path, data=body, headers={**auth(), "Host": "evil.example"})))
    monkeypatch.setattr(parts.registry, "adapter", lambda: (_ for _ in ()).throw(StoreFull("The disk is full.")))
    answers.append((507, send(path, {"inputs": [example]})))
    for status, response in answers:
        assert (response.status_code, response.content_type) == (status, "application/json"), response.text
        assert type(response.json[member]) is str
        assert response.headers["X-Request-ID"]
    assert answers[0][1].headers["WWW-Authenticate"] == "Bearer"
    assert answers[2][1].headers["Allow"] == "POST"


def test_what_is_not_there_below_v2_says_so_in_its_shape(app: Flask) -> None:
    for path in ("/v2/nothing", "/v2/models/other", "/v2/models/triage/versions/2", "/v2/models/other/ready"):
        response = app.test_client().get(path)
        assert (response.status_code, response.json.keys()) == (404, {"error"}), path


# ---- health and metadata ------------------------------------------------------------------------------------------


def test_health_is_told_to_everybody(app: Flask, parts: Parts, release: Release, monkeypatch: Any) -> None:
    client = app.test_client()
    model = f"/v2/models/{release.id.name}"
    ready = ("/ping", "/health", "/v2/health/ready", f"{model}/ready", f"{model}/versions/{release.id.version}/ready")
    for path in (*ready, "/v2/health/live", "/v2", "/v2/", "/version"):
        assert client.get(path).status_code == 200, path
    monkeypatch.setattr(parts.registry, "problem", lambda: "card.md was changed")
    for path in ready:
        response = client.get(path)
        assert (response.status_code, "card.md was changed" in response.text) == (503, True), path
    assert client.get("/v2/health/live").status_code == 200


def test_the_metadata_has_a_tensor_for_each_column(app: Flask, send: Send, serve: Any, release: Release) -> None:
    found = app.test_client().get(f"/v2/models/{release.id.name}").json
    kinds = {one["name"]: one["datatype"] for one in found["inputs"]}
    assert list(kinds) == list(release.contract.names)
    assert (kinds["subject"], kinds["open_tickets"], kinds["has_attachment"]) == ("BYTES", "INT64", "BOOL")
    assert (found["name"], found["versions"]) == (release.id.name, [str(release.id.version)])
    assert [(one["name"], one["shape"]) for one in found["outputs"]] == [
        ("label", [-1]), ("probabilities", [-1, 6]), ("decision", [-1]), ("prediction_id", [-1]),
    ]  # fmt: skip
    serve(EVERY_KIND, Same())
    assert len(app.test_client().get("/v2/models/every-kind").json["inputs"]) == len(EVERY_KIND.fields)


def test_the_routes_can_be_left_out(tmp_path: Any) -> None:
    client = create_app({"instance": tmp_path, "compat": "off"}).test_client()
    for path in ("/ping", "/v2", "/v2/health/live"):
        assert client.get(path, headers={"Accept": "application/json"}).json["type"] == "/problems/not-found"


# ---- Open Inference Protocol --------------------------------------------------------------------------------------


def test_tensors_as_json_get_the_answers_of_the_native_route(
    infer: Send, parts: Parts, adapter: ModelAdapter, records: list[dict[str, Any]], release: Release
) -> None:
    response = infer({"id": "42", "inputs": as_tensors(release.contract, records)})
    expected = adapter.predict(records, Call())
    assert (response.json["model_name"], response.json["model_version"]) == (release.id.name, str(release.id.version))
    assert response.json["id"] == "42"
    found = outputs(response)
    assert found["label"] == [made.output["label"] for made in expected]
    shares = [share for made in expected for share in made.output["probabilities"].values()]
    assert found["probabilities"] == shares
    assert found["decision"] == [made.decision for made in expected]
    kept = [parts.ledger.prediction(one) for one in found["prediction_id"]]
    assert [(one.input, one.source) for one in kept] == [(record, "api") for record in records]
    [labels] = [one["parameters"]["labels"] for one in response.json["outputs"] if one["name"] == "probabilities"]
    assert tuple(json.loads(labels)) == release.contract.outcome.labels


def test_every_kind_of_field_has_a_tensor(send: Send, serve: Any, parts: Parts) -> None:
    serve(EVERY_KIND, Same())
    record = example_record(EVERY_KIND)
    response = send("/v2/models/every-kind/infer", {"inputs": as_tensors(EVERY_KIND, [record])})
    assert parts.ledger.prediction(outputs(response)["prediction_id"][0]).input == record
    needed = {field.name: record[field.name] for field in EVERY_KIND.fields if field.required}
    response = send("/v2/models/every-kind/infer", {"inputs": as_tensors(EVERY_KIND, [needed])})
    kept = parts.ledger.prediction(outputs(response)["prediction_id"][0]).input
    assert kept == dict.fromkeys(EVERY_KIND.names) | needed


def test_what_stands_for_null(send: Send, serve: Any, parts: Parts) -> None:
    """Not-a-number among numbers, an empty text, and in JSON null itself; each only where the contract allows null."""
    serve(EVERY_KIND, Same())
    record = {**example_record(EVERY_KIND), "a number?": None, "x.y": None, "": None, "日付": None, "_schema": None}
    asked = {one["name"]: one for one in as_tensors(EVERY_KIND, [record])}
    binary = b""
    for name in ("a number?", "x.y"):
        asked[name] |= {"datatype": "FP64", "parameters": {"binary_data_size": 8}}
        del asked[name]["data"]
        binary += np.array([np.nan]).tobytes()
    asked[""]["data"] = [""]
    head = json.dumps({"inputs": [*asked.values()]}).encode()
    headers = {"Inference-Header-Content-Length": str(len(head))}
    response = send("/v2/models/every-kind/infer", head + binary, headers=headers)
    assert parts.ledger.prediction(outputs(response)["prediction_id"][0]).input == record
    asked["number"] = {"name": "number", "datatype": "FP32", "shape": [1], "data": [None]}
    head = json.dumps({"inputs": [*asked.values()]}).encode()
    headers = {"Inference-Header-Content-Length": str(len(head))}
    response = send("/v2/models/every-kind/infer", head + binary, headers=headers)
    assert (response.status_code, "inputs/0/number: This may not be null" in response.json["error"]) == (400, True)


def tensor(**changes: Any) -> dict[str, Any]:
    return {"name": "subject", "datatype": "BYTES", "shape": [1], "data": ["a"]} | changes


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ([], "an inference request"),
        ({"id": 1, "inputs": [tensor()]}, "an inference request"),
        ({}, "`inputs` must be a list"),
        ({"inputs": {}}, "`inputs` must be a list"),
        ({"inputs": []}, "`inputs` must be a list"),
        ({"inputs": ["a"]}, "inputs/0: this must be a tensor"),
        ({"inputs": [tensor(name=1)]}, "inputs/0: `name`"),
        ({"inputs": [tensor(datatype="STRING")]}, "inputs/0: `datatype` must be one of INT8"),
        ({"inputs": [tensor(datatype=["BYTES"])]}, "inputs/0: `datatype`"),
        ({"inputs": [tensor(datatype="INT64", data=[1])]}, "inputs/0: this must be of the datatype BYTES"),
        ({"inputs": [tensor(shape=[])]}, "inputs/0: `shape`"),
        ({"inputs": [tensor(shape=[1, 2])]}, "inputs/0: `shape`"),
        ({"inputs": [tensor(shape=[True])]}, "inputs/0: `shape`"),
        ({"inputs": [tensor(shape=[1.0])]}, "inputs/0: `shape`"),
        ({"inputs": [tensor(shape=1)]}, "inputs/0: `shape`"),
        ({"inputs": [tensor(shape=[2**62])]}, "the same number of rows"),
        ({"inputs": [tensor(), tensor(name="body", shape=[2], data=["a", "b"])]}, "inputs/1: all tensors"),
        ({"inputs": [tensor(), tensor()]}, "inputs/1: the tensor of this name is there already"),
        ({"inputs": [tensor(data="a")]}, "neither `data`"),
        ({"inputs": [tensor(data=None, parameters={"shared_memory_region": "a"})]}, "neither `data`"),
        ({"inputs": [tensor(parameters={"binary_data_size": 5})]}, "not as many bytes"),
        ({"inputs": [tensor(parameters={"binary_data_size": -1})]}, "not as many bytes"),
        ({"inputs": [tensor(parameters={"binary_data_size": "5"})]}, "binary_data_size is of another kind"),
        ({"inputs": [tensor()], "outputs": {}}, "`outputs` must be a list"),
        ({"inputs": [tensor()], "outputs": [{"name": "logits"}]}, "outputs/0: `name` must be one of label, prob"),
        ({"inputs": [tensor()], "outputs": ["label"]}, "outputs/0: `name`"),
        (
            {"inputs": [tensor()], "outputs": [{"name": "label", "parameters": {"classification": 1}}]},
            "outputs/0: the only parameter",
        ),
        ({"inputs": [tensor()], "outputs": [{"name": "label", "parameters": [1]}]}, "outputs/0: the only parameter"),
        ({"inputs": [tensor()], "outputs": [{"name": "label", "parameters": [[]]}]}, "outputs/0: the only parameter"),
        ({"inputs": [tensor()], "outputs": [{"name": "label", "parameters": 3}]}, "outputs/0: the only parameter"),
        ({"inputs": [tensor()], "parameters": {"binary_data_output": 1}}, "binary_data_output is of another kind"),
        ({"inputs": [tensor(name="s3cret")]}, "inputs/0/s3cret: The contract knows no member of this name"),
        ({"inputs": [tensor(shape=[0], data=[])]}, "inputs: At least 1"),
        ({"inputs": [tensor(shape=[1001], data=["a"] * 1001)]}, "inputs: At most 1000"),
    ],
)
def test_a_request_that_is_no_inference_request_is_refused(infer: Send, parts: Parts, body: Any, says: str) -> None:
    response = infer(body)
    assert (response.status_code, response.json.keys()) == (400, {"error"})
    assert says in response.json["error"]
    assert not parts.ledger.predictions({}, 1, None)[0]


@pytest.mark.parametrize(
    ("changes", "raw", "says"),
    [
        ({}, b"\x01\0\0", "longer than the tensor"),
        ({}, b"\x02\0\0\0a", "longer than the tensor"),
        ({}, b"\xff\xff\xff\xffa", "longer than the tensor"),
        ({}, b"\x01\0\0\0\xff", "not UTF-8"),
        ({"datatype": "BOOL", "name": "has_attachment"}, b"\2", "0 or 1"),
        ({"datatype": "INT64", "name": "open_tickets"}, b"\0" * 9, "a whole number of values"),
    ],
)
def test_bytes_that_are_no_tensor_are_refused(infer: Send, changes: Any, raw: bytes, says: str) -> None:
    asked = {**tensor(**changes), "parameters": {"binary_data_size": len(raw)}}
    head = json.dumps({"inputs": [asked]}).encode()
    length = {"Inference-Header-Content-Length": str(len(head))}
    response = infer(head + raw, headers=length)
    assert (response.status_code, says in response.json["error"]) == (400, True)
    assert "more bytes" in infer(json.dumps({"inputs": [tensor()]}).encode() + b"\0", headers={
        "Inference-Header-Content-Length": str(len(json.dumps({"inputs": [tensor()]})))}).json["error"]  # fmt: skip


@pytest.mark.parametrize("length", ["-1", "x", "", "9" * 30, "1000000", "\u0663"])
def test_a_length_that_is_none_is_refused(infer: Send, length: str) -> None:
    response = infer(b"{}", headers={"Inference-Header-Content-Length": length.encode("latin-1", "replace").decode()})
    assert (response.status_code, "Inference-Header-Content-Length" in response.json["error"]) == (400, True)


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]))), st.lists(st.floats(allow_nan=False)))
def test_texts_and_numbers_are_packed_as_tritons_own_client_packs_them(texts: list[str], figures: list[float]) -> None:
    theirs = serialize_byte_tensor(np.array(texts, dtype=np.object_))
    assert tensors.packed("BYTES", texts) == (theirs.item() if theirs.size else b"")
    assert list(tensors._unpacked(tensors.packed("BYTES", texts), "BYTES", "")) == texts
    assert list(tensors._unpacked(tensors.packed("FP64", figures), "FP64", "")) == figures


# ---- clients that others wrote, and a real server -----------------------------------------------------------------


@pytest.fixture(scope="module")
def running(make_service: Any) -> Iterator[Service]:
    with make_service() as service:
        yield service


@pytest.fixture(scope="module")
def bearer(running: Service) -> dict[str, str]:
    return {"Authorization": f"Bearer {running.reviewer}"}


@pytest.fixture(scope="module")
def client(running: Service) -> Iterator[Any]:
    with triton.InferenceServerClient(f"127.0.0.1:{running.port}") as made:
        yield made


def triton_inputs(contract: Contract, records: list[dict[str, Any]], binary: bool) -> list[Any]:
    found = []
    for field in contract.fields:
        kind, dtype = TENSORS.get(field.kind, ("BYTES", np.object_))
        values = np.array(["" if one[field.name] is None else one[field.name] for one in records], dtype)
        tensor = triton.InferInput(field.name, list(values.shape), kind)
        found.append(tensor.set_data_from_numpy(values, binary_data=binary))
    return found


@pytest.mark.server
@pytest.mark.parametrize("binary_in", [True, False])
@pytest.mark.parametrize("binary_out", [True, False, None])
def test_tritons_client_gets_the_answers_of_the_native_route(
    client: Any, running: Service, bearer: Any, release: Release, records: list[dict[str, Any]],
    binary_in: bool, binary_out: bool | None,
) -> None:  # fmt: skip
    names = ("label", "probabilities", "decision")
    wanted = None if binary_out is None else [triton.InferRequestedOutput(name, binary_out) for name in names]
    inputs = triton_inputs(release.contract, records, binary_in)
    result = client.infer(release.id.name, inputs, outputs=wanted, headers=dict(bearer), request_id="7")
    status, native, _ = running.call("POST", "/api/v1/predictions/batch", {"inputs": records}, bearer)
    made = native["predictions"]
    assert (status, result.get_response()["id"]) == (200, "7")
    said = [one.decode() if isinstance(one, bytes) else one for one in result.as_numpy("label")]
    assert said == [one["output"]["label"] for one in made]
    shares = [list(one["output"]["probabilities"].values()) for one in made]
    assert result.as_numpy("probabilities").tolist() == shares
    if binary_out is None:
        kept = running.call("GET", f"/api/v1/predictions/{result.as_numpy('prediction_id')[3].decode()}", None, bearer)
        assert (kept[1]["input"], kept[1]["source"]) == (records[3], "api")


@pytest.mark.server
def test_tritons_client_finds_out_what_there_is(client: Any, release: Release) -> None:
    name, version = release.id.name, str(release.id.version)
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready(name)
    assert client.is_model_ready(name, version)
    assert not client.is_model_ready(name, "99")
    assert not client.is_model_ready("other")
    assert "binary_tensor_data" in client.get_server_metadata()["extensions"]
    metadata = client.get_model_metadata(name, version)
    assert [one["name"] for one in metadata["inputs"]] == list(release.contract.names)


@pytest.mark.server
def test_tritons_client_reads_the_refusals(client: Any, bearer: Any, release: Release, example: dict) -> None:
    def refused(name: str = release.id.name, headers: Any = bearer, **changes: Any) -> tuple[str, str]:
        inputs = triton_inputs(release.contract, [{**example, **changes}], True)
        with pytest.raises(InferenceServerException) as error:
            client.infer(name, inputs, headers=headers and dict(headers))
        return error.value.status(), error.value.message()

    status, says = refused(channel="fax", open_tickets=-1)
    assert status == "400"
    assert "inputs/0/channel: This must be one of the allowed values (email, web, phone, chat)" in says
    assert "inputs/0/open_tickets: This must be 0" in says
    assert refused("other")[0] == "404"
    assert refused(headers=None)[0] == "401"


@pytest.mark.server
def test_the_requests_of_mlflows_documentation_are_answered(
    running: Service, bearer: Any, records: list[dict[str, Any]]
) -> None:
    """As they stand there, with the columns of this model; sent by a client that nobody here wrote."""
    rows, names = [[*one.values()] for one in records[:3]], list(records[0])
    documented = [
        {"inputs": rows},
        {"dataframe_split": {"columns": names, "index": [0, 1, 2], "data": rows}},
        {"dataframe_records": records[:3]},
        {"instances": records[:3]},
        {"inputs": columns(records[:3]), "params": {"max_answer_len": 10}},
    ]
    native = running.call("POST", "/api/v1/predictions/batch", {"inputs": records[:3]}, bearer)[1]["predictions"]
    base = f"http://127.0.0.1:{running.port}"
    with contextlib.closing(geventhttpclient.HTTPClient.from_url(base)) as http:
        for body in documented:
            headers = {"Content-Type": "application/json", **bearer}
            response = http.post("/invocations", json.dumps(body).encode(), headers)
            assert response.status_code == 200
            assert json.loads(response.read()) == {"predictions": [one["output"]["label"] for one in native]}
        assert (http.get("/ping").status_code, http.get("/version").status_code) == (200, 200)
