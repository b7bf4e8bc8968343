"""A profile holds how a table was spread, always the same, and no row of it; what is none is refused."""

import json
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reviewapp import release as releases
from reviewapp.building.build import Order, build
from reviewapp.building.infer import Asked
from reviewapp.contract import Contract, Outcome
from reviewapp.errors import ReleaseRefused
from reviewapp.field import Field, Record
from reviewapp.profile import (
    ANSWERS,
    FEWEST,
    LENGTH,
    MISSING,
    MOST_VALUES,
    UNSEEN,
    VALUES,
    Profile,
    Signal,
)
from reviewapp.release import Release
from reviewapp.samples import valid_record
from reviewapp.triage import build as triage
from reviewapp.trust import TrustedTypes

from .conftest import EVERY_KIND
from .tables import ODD_NAMES, ODD_TARGET, odd, values, write

LABELS = Outcome(name="y", labels=("a", "b"))


def profile(fields: tuple[Field, ...], train: list[Record], apart: list[Record] | None = None) -> Profile:
    """The profile of a table whose other two parts hold the same rows; the answers are all `a`."""
    rows = train if apart is None else apart
    answers = [{"label": "a"} for _ in rows]
    parts = {"train": train, "calibrate": rows, "test": rows}
    return Profile.of(Contract(name="t", fields=fields, outcome=LABELS), parts, {"calibrate": answers, "test": answers})


def one(found: Profile, name: str, field: str | None = "x") -> Signal:
    [signal] = [signal for signal in found.signals if (signal.field, signal.name) == (field, name)]
    return signal


def test_numbers_are_parted_at_the_deciles_of_the_training_rows_and_at_their_ends() -> None:
    train: list[Record] = [{"x": float(i)} for i in range(1, 101)]
    apart: list[Record] = [{"x": x} for x in (-5.0, 1.0, 10.0, 10.5, 100.0, 100.1, 1e9)]
    found = one(profile((Field(name="x", kind="number"),), train, apart), VALUES)
    low, *edges = [float(edge) for edge in found.bins]
    assert edges == [10, 20, 30, 40, 50, 60, 70, 80, 90, 100]
    assert 0.999 < low < 1
    assert found.counts == (2, 4, 2, 0, 0, 0, 0, 0, 0, 0, 2, 4)  # each row is in both parts that are counted


def test_equal_deciles_are_one() -> None:
    train: list[Record] = [{"x": x} for x in [0] * 60 + [1] * 25 + list(range(2, 17))]
    found = one(profile((Field(name="x", kind="integer"),), train), VALUES)
    assert found.bins[1:] == (0, 1, 6, 16)
    assert found.counts == (0, 120, 50, 10, 20, 0)


def test_dates_are_parted_in_the_order_of_time_whatever_their_format() -> None:
    days = [f"{day:02}.{month:02}.2024" for month in range(1, 13) for day in range(1, 29)]
    field = Field(name="x", kind="date", date_format="%d.%m.%Y")
    found = one(profile((field,), [{"x": day} for day in days]), VALUES)
    assert len(found.bins) == 11
    assert found.counts[0] == found.counts[-1] == 0
    assert sum(found.counts) == 2 * len(days)


def test_a_category_has_bins_of_what_several_rows_show_and_one_for_all_else() -> None:
    rows: list[Record] = [{"x": x} for x in ["b"] * 7 + ["a"] * 9 + ["rare"] * (FEWEST - 1)]
    found = one(profile((Field(name="x", kind="category"),), rows, [*rows, {"x": "new"}]), VALUES)
    assert found.bins == ("a", "b")
    assert found.counts == (18, 14, 2 * FEWEST)
    many: list[Record] = [{"x": f"v{i:03}"} for i in range(MOST_VALUES + 30) for _ in range(FEWEST)]
    assert one(profile((Field(name="x", kind="category"),), many), VALUES).bins == tuple(
        f"v{i:03}" for i in range(MOST_VALUES)
    )


def test_booleans_and_what_is_missing_are_counted() -> None:
    rows: list[Record] = [{"x": True}] * 6 + [{"x": False}] * 8 + [{"x": None}] * 3 + [{}] * 2
    found = profile((Field(name="x", kind="boolean", nullable=True, required=False),), rows)
    assert (one(found, VALUES).bins, one(found, VALUES).counts) == (("false", "true"), (16, 12, 0))
    assert (one(found, MISSING).bins, one(found, MISSING).counts) == (("missing",), (10, 28))


def test_a_text_has_a_length_and_a_share_of_words_that_training_did_not_show_often() -> None:
    train: list[Record] = [{"x": "Pay the INVOICE"}] * FEWEST + [{"x": f"my name is Person{i}"} for i in range(60)]
    apart: list[Record] = [{"x": "pay invoice"}, {"x": "pay Person3"}, {"x": "gone"}, {"x": "?!"}, {"x": None}]
    found = profile((Field(name="x", kind="text", nullable=True),), train, [*apart, *[{"x": "the new"}] * 40])
    assert found.words == {"x": frozenset(["pay", "the", "invoice", "my", "name", "is"])}
    unseen = one(found, UNSEEN)
    assert unseen.bins[0] == 0.0
    assert sum(unseen.counts) == 43  # neither the text without words nor the missing one has a share
    assert unseen.count([0.0, 0.5, 1.0, None])[0] == 1
    assert sum(one(found, LENGTH).counts) == 2 * 44


def test_words_are_kept_only_as_far_as_they_are_several_rows_own_and_the_space_goes() -> None:
    words = [f"word{i:05}" for i in range(9000)]
    train: list[Record] = [{"x": " ".join(words)}] * FEWEST + [{"x": " ".join(words[:10])}]
    kept = profile((Field(name="x", kind="text"),), train).words["x"]
    assert len(kept) == 5000
    assert set(words[:10]) <= kept
    long: list[Record] = [{"x": " ".join("ü" * 400 + str(i) for i in range(1000))}] * FEWEST
    assert 0 < len(" ".join(profile((Field(name="x", kind="text"),), long).words["x"]).encode()) <= 100_000


def test_too_few_rows_for_bins_make_no_signal() -> None:
    fields = (Field(name="x", kind="number"), Field(name="z", kind="category"))
    found = profile(fields, [{"x": float(i), "z": str(i)} for i in range(2 * FEWEST - 1)])
    assert [(signal.field, signal.name) for signal in found.signals] == [(None, ANSWERS)]


def test_answers_that_are_values_are_parted_as_numbers_are() -> None:
    contract = Contract(
        name="t", fields=(Field(name="x", kind="boolean"),), outcome=Outcome(name="y", task="regression")
    )
    rows: list[Record] = [{"x": True}] * 50
    outputs = {
        part: [{"value": float(i), "low": 0.0, "high": 9.0} for i in range(50)] for part in ("calibrate", "test")
    }
    found = one(Profile.of(contract, {"train": rows, "calibrate": rows, "test": rows}, outputs), ANSWERS, None)
    assert found.bins[1:] == (4, 9, 14, 19, 24, 29, 34, 39, 44, 49)
    assert found.counts == (0, *[5] * 10, 0)


def test_the_default_releases_profile_is_small_and_tells_of_every_field(release: Release, tmp_path: Path) -> None:
    assert release.profile is not None
    assert {signal.field for signal in release.profile.signals} == {*release.contract.names, None}
    document = release.profile.as_json()
    assert len(json.dumps(document)) < 200_000
    parts = triage.examples()
    train = [dict(example.record) for example in parts["train"]]
    for name, words in release.profile.words.items():
        for word in sorted(words)[::25]:
            assert sum(word in str(record[name]).lower() for record in train) >= FEWEST


@pytest.mark.parametrize("target", ["labels", "values"])
def test_a_table_with_every_kind_of_column_under_odd_names_gets_one(target: str, tmp_path: Path) -> None:
    if target == "labels":
        data = write(tmp_path / "odd.csv", [*ODD_NAMES, ODD_TARGET], odd())
        order = Order(data=data, asked=Asked(target=ODD_TARGET))
    else:
        data = write(tmp_path / "values.csv", ("a", "b", "place", "price"), values())
        order = Order(data=data, asked=Asked(target="price"))
    made = [build(order, tmp_path / name, TrustedTypes(tmp_path / "instance")).release for name in ("one", "two")]
    assert made[0].id.digest == made[1].id.digest
    read = releases.read(tmp_path / "one" / str(made[0].id))
    assert read.profile == made[0].profile
    assert read.profile is not None
    assert {signal.field for signal in read.profile.signals} == {*read.contract.names, None}
    for signal in read.profile.signals:
        assert sum(signal.counts) > 0
    kept = json.dumps(read.profile.as_json(), ensure_ascii=False)
    assert len(kept) < 200_000


@given(seed=st.integers(0, 2**32), rows=st.integers(1, 40))
def test_what_is_written_is_read_as_it_was(seed: int, rows: int) -> None:
    rng = random.Random(seed)
    parts = {part: [valid_record(EVERY_KIND, rng) for _ in range(rows)] for part in ("train", "calibrate", "test")}
    answers = [{"label": rng.choice(EVERY_KIND.outcome.labels)} for _ in range(rows)]
    made = Profile.of(EVERY_KIND, parts, {"calibrate": answers, "test": answers})
    again = Profile.from_json(json.loads(json.dumps(made.as_json())), EVERY_KIND)
    assert again == made
    counts = again.counts(EVERY_KIND, parts["test"], answers)
    assert [len(found) for found in counts] == [len(signal.bins) + 1 for signal in made.signals]
    for signal, found in zip(made.signals, counts, strict=True):  # what was counted is there
        assert all(a >= b for a, b in zip(signal.counts, found, strict=True))


NO_FIELD = "the contract has no {} of {}, or it came before."
NO_BINS = "bins must be a list that is not empty, and counts one that has one more."
NO_COUNTS = "counts must be whole numbers, 0 or more, and together from 1 to 100,000,000."
NO_NUMBERS, NO_TEXTS = "bins must be numbers, each above the one before.", "bins must be different texts."
NO_WORDS = ", words, must hold a text for each text field of the contract."
GOOD: dict[str, Any] = {"field": "x", "signal": VALUES, "bins": [1, 2.5], "counts": [0, 3, 4]}


@pytest.mark.parametrize(
    ("document", "says"),
    [
        ([], "must hold just signals and words."),
        ({"signals": []}, "must hold just signals and words."),
        ({"signals": {}, "words": {"t": ""}}, ", signals, must be a list."),
        ({"signals": [], "words": {}}, NO_WORDS),
        ({"signals": [], "words": {"t": ["a"]}}, NO_WORDS),
        ({"signals": [], "words": {"t": "", "x": ""}}, NO_WORDS),
        *(
            ({"signals": [GOOD | change], "words": {"t": ""}}, f", signals/0: {says}")
            for change, says in (
                ({"more": 1}, "it must hold just field, signal, bins and counts."),
                ({"field": "z"}, NO_FIELD.format("'values'", "'z'")),
                ({"field": 3}, NO_FIELD.format("'values'", "3")),
                ({"field": ["x"]}, NO_FIELD.format("'values'", "['x']")),
                ({"signal": "length"}, NO_FIELD.format("'length'", "'x'")),
                ({"signal": None}, NO_FIELD.format("None", "'x'")),
                ({"bins": []}, NO_BINS),
                ({"counts": [1, 2]}, NO_BINS),
                ({"counts": [1, 2, True]}, NO_COUNTS),
                ({"counts": [1, 2, -1]}, NO_COUNTS),
                ({"counts": [0, 0, 0]}, NO_COUNTS),
                ({"counts": [10**8] * 3}, NO_COUNTS),
                ({"bins": [2, 1]}, NO_NUMBERS),
                ({"bins": [1, 1.0]}, NO_NUMBERS),
                ({"bins": [1, float("inf")]}, NO_NUMBERS),
                ({"bins": [float("nan"), 2]}, NO_NUMBERS),
                ({"bins": [True, 2]}, NO_NUMBERS),
                ({"bins": [1, 10**400]}, NO_NUMBERS),
                ({"bins": ["a", "b"]}, NO_NUMBERS),
                ({"field": None, "signal": ANSWERS}, NO_TEXTS),
                ({"field": None, "signal": ANSWERS, "bins": ["a", "a"]}, NO_TEXTS),
            )
        ),
        ({"signals": [GOOD, GOOD], "words": {"t": ""}}, ", signals/1: " + NO_FIELD.format("'values'", "'x'")),
    ],
)  # fmt: skip
def test_what_is_no_profile_is_refused_with_its_place(document: Any, says: str) -> None:
    fields = (Field(name="x", kind="number"), Field(name="t", kind="text"))
    contract = Contract(name="t", fields=fields, outcome=LABELS)
    Profile.from_json({"signals": [GOOD], "words": {"t": "a b"}}, contract)
    with pytest.raises(ReleaseRefused) as refused:
        Profile.from_json(document, contract)
    assert refused.value.detail == f"profile.json{'' if says.startswith(',') else ' '}{says}"
