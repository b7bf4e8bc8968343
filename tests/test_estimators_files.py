"""The file of an estimator: the same bytes for the same model, and a sentence for each file that is none."""

import io
import json
import zipfile
from typing import Any

import numpy as np
import pytest
import skops.io
from sklearn.dummy import DummyClassifier
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.tree import DecisionTreeClassifier

from reviewapp import estimators
from reviewapp.errors import ReleaseRefused, UntrustedTypes

ROWS = np.array([[0.0, 3.0], [1.0, 2.0], [2.0, 1.0], [3.0, 0.0]])
LABELS = ["a", "a", "b", "b"]
TEXTS = ["pay now", "pay", "help now", "help"]


def members(packed: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(packed)) as file:
        return {name: file.read(name) for name in file.namelist()}


def nodes(document: Any) -> list[dict[str, Any]]:
    """Return the objects of a schema, in the order in which it mentions them."""
    inside = list(document.values()) if isinstance(document, dict) else document if isinstance(document, list) else []
    return [*([document] if isinstance(document, dict) else []), *(one for each in inside for one in nodes(each))]


def test_a_file_counts_its_arrays_and_objects_anew_and_bears_no_time() -> None:
    packed = estimators.dump(LogisticRegression().fit(ROWS, LABELS))
    with zipfile.ZipFile(io.BytesIO(packed)) as file:
        infos = file.infolist()
    names = [info.filename for info in infos]
    assert names == ["schema.json", *(f"{number}.npy" for number in range(len(names) - 1))]
    assert len(names) > 3
    assert {(info.date_time, info.compress_type) for info in infos} == {((1980, 1, 1, 0, 0, 0), zipfile.ZIP_DEFLATED)}
    text = members(packed)["schema.json"].decode()
    schema = json.loads(text)
    assert text == json.dumps(schema, separators=(",", ":"))
    mentioned = [node["file"] for node in nodes(schema) if node.get("file") in names]
    assert sorted(set(mentioned)) == sorted(names[1:])
    ids = [node["__id__"] for node in nodes(schema) if isinstance(node.get("__id__"), int)]
    assert sorted(set(ids)) == list(range(len(set(ids))))


@pytest.mark.parametrize(
    ("make", "asked"),
    [
        (lambda: LogisticRegression().fit(ROWS, LABELS), ROWS),
        (lambda: DecisionTreeClassifier(random_state=0).fit(ROWS, LABELS), ROWS),
        (lambda: make_pipeline(CountVectorizer(stop_words=["now"]), LogisticRegression()).fit(TEXTS, LABELS), TEXTS),
    ],
    ids=["linear", "tree", "words"],
)
def test_the_same_model_is_the_same_bytes_and_answers_as_before(make: Any, asked: Any) -> None:
    first = make()
    if asked is TEXTS:
        first.predict(TEXTS)  # it remembers where in memory the list of words lay that it checked
    packed = estimators.dump(first)
    kept = [make() for _ in range(3)]  # each lies elsewhere in memory
    assert {estimators.dump(one) for one in kept} == {packed}
    again = estimators.load(packed, "model.skops")
    assert again.predict_proba(asked).tolist() == first.predict_proba(asked).tolist()
    assert estimators.dump(again) == packed


def saved(array: Any) -> bytes:
    out = io.BytesIO()
    np.save(out, array, allow_pickle=False)
    return out.getvalue()


def test_what_lies_between_the_fields_of_a_record_is_zero_and_all_else_is_as_it_was() -> None:
    kind = np.dtype([("flag", "u1"), ("value", "f8")], align=True)
    dirty = np.frombuffer(bytes(range(1, 33)), kind)
    clean = np.frombuffer(estimators._without_padding(saved(dirty))[-32:], np.uint8)
    assert [clean[at : at + 8].tolist() for at in (0, 16)] == [[1, *[0] * 7], [17, *[0] * 7]]
    assert clean[8:16].tolist() == list(range(9, 17))
    assert np.load(io.BytesIO(estimators._without_padding(saved(dirty)))).dtype == kind
    for content in (saved(ROWS), b"no array", b""):
        assert estimators._without_padding(content) == content


class Own(DummyClassifier):
    """A type that neither scikit-learn nor this service has."""


class Other(DummyClassifier):
    """Another one."""


def told(packed: bytes, *trusted: str) -> str:
    with pytest.raises(ReleaseRefused) as refused:
        estimators.load(packed, "model.skops", trusted)
    return refused.value.detail


def test_what_is_no_estimator_that_can_be_trusted_is_refused_in_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    own, other = f"{Own.__module__}.Own", f"{Other.__module__}.Other"
    packed = skops.io.dumps([Own().fit(ROWS, LABELS), Other().fit(ROWS, LABELS)])
    assert estimators.untrusted(packed) == [other, own]
    assert estimators.untrusted(packed, [other]) == [own]
    assert estimators.untrusted(packed, [other, own]) == []
    with pytest.raises(UntrustedTypes) as refused:
        estimators.load(packed, "baseline.skops", [other])
    assert refused.value.detail == f"baseline.skops holds types that are not trusted: {own}."
    assert refused.value.types == (own,)
    single = estimators.load(skops.io.dumps(Own().fit(ROWS, LABELS)), "x", [own])
    assert isinstance(single, Own)
    assert told(b"no zip") == "model.skops cannot be read as a skops file (BadZipFile)."
    schema = members(skops.io.dumps(Own()))["schema.json"].decode().replace(Own.__module__, "not_there")
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as file:
        file.writestr("schema.json", schema)
    missing = told(out.getvalue(), "not_there.Own")
    assert missing == "model.skops needs the module 'not_there', which cannot be imported here."
    size = sum(map(len, members(packed).values()))
    monkeypatch.setattr(estimators, "MAX_UNPACKED", size - 1)
    assert told(packed) == f"model.skops unpacks to {size:,} bytes; more than {size - 1:,} is refused."
    monkeypatch.setattr(estimators, "MAX_UNPACKED", size)
    assert told(packed).startswith("model.skops holds types that are not trusted: ")
