"""How far people go by the answer they see: what is counted, with which interval, and in which words."""

from collections.abc import Sequence
from typing import Any

import pytest

from reviewapp import reliance as reliances
from reviewapp.reliance import _difference, _share, tell_reliance
from reviewapp.reviews import Judged, Said

pytestmark = pytest.mark.both

MODEL = {"label": "a"}


def reliance(judged: Sequence[Judged]) -> dict[str, Any]:
    """Return what is told of records whose ids say whether the lot had them judged blind."""
    return reliances.reliance(judged, lambda one: one == "True")


def record(*said: tuple[Any, ...], **changes: Any) -> Judged:
    """A record that went to a person; `said` are (author, verdict, label, whether blind)."""
    blind = str(said[0][3]) if said else ""
    values: dict[str, Any] = {"id": blind, "output": MODEL, "audit": False, "referred": True, "asker": "a script"}
    given = [Said(i, verdict, label, None, author, "", blind) for i, (author, verdict, label, blind) in enumerate(said)]
    return Judged(**{**values, **changes}, said=tuple(given))


@pytest.mark.parametrize(
    ("counts", "low", "high"),
    [((56, 70, 48, 80), 0.0524, 0.3339), ((9, 10, 3, 10), 0.1705, 0.8090), ((10, 10, 0, 20), 0.6791, 1.0)],
)
def test_the_interval_of_a_difference_is_that_of_newcombes_examples(counts: Any, low: float, high: float) -> None:
    a, m, b, n = counts
    found = _difference(_share(a, m), _share(b, n))
    assert found is not None
    assert (round(found["low"], 4), round(found["high"], 4)) == (low, high)
    assert found["value"] == pytest.approx(a / m - b / n)


def test_blind_and_sighted_verdicts_are_compared() -> None:
    found = reliance(
        [
            record(("ann", "corrected", "a", True)),  # named the model's own
            record(("ann", "agree", None, True)),
            record(("ann", "corrected", "b", True)),
            record(("ann", "unsure", None, True)),
            record(("bob", "agree", None, False)),
            record(("bob", "corrected", "a", False)),
            record(("bob", "corrected", "b", False)),
            record(("bob", "disagree", None, False)),
            record(("bob", "unsure", None, False)),
        ]
    )
    assert (found["blind"]["count"], found["blind"]["of"]) == (2, 3)
    assert (found["sighted"]["count"], found["sighted"]["of"]) == (2, 4)
    assert (found["overridden"]["count"], found["overridden"]["of"]) == (2, 4)
    assert found["difference"]["value"] == pytest.approx(2 / 4 - 2 / 3)
    assert found["unsure"] == {"blind": 1, "sighted": 1}


@pytest.mark.parametrize(
    "left_out",
    [
        record(("ann", "agree", None, False), referred=False),  # in no queue: nobody could draw it
        record(("ann", "agree", None, False), asker="ann"),  # saw the answer when she asked
        record(("ann", "agree", None, False), id="True"),  # drawn to be judged blind, and seen all the same
    ],
)
def test_what_no_lot_could_part_is_left_out(left_out: Judged) -> None:
    assert reliance([left_out])["sighted"]["of"] == 0


def test_what_was_drawn_for_a_check_counts_and_only_the_first_verdict_on_a_record() -> None:
    audited = record(("ann", "agree", None, False), ("bob", "disagree", None, False), audit=True, referred=False)
    of_another = record(("ann", "disagree", None, False), ("ann", "withdrawn", None, False), asker="bob")
    found = reliance([audited, of_another])["sighted"]
    assert (found["count"], found["of"]) == (1, 2)


@pytest.mark.parametrize(
    ("later", "switched"),
    [
        ([], 0),
        ([("ann", "agree", None, False)], 1),
        ([("ann", "corrected", "a", False)], 1),
        ([("bob", "agree", None, False)], 0),  # another person
        ([("ann", "corrected", "c", False)], 0),
        ([("ann", "agree", None, False), ("ann", "withdrawn", None, False)], 0),
    ],
)
def test_who_differed_blind_and_then_agrees_has_switched(later: list[Any], switched: int) -> None:
    found = reliance([record(("ann", "corrected", "b", True), *later), record(("ann", "corrected", "a", True))])
    assert (found["switched"]["count"], found["switched"]["of"]) == (switched, 1)


def test_without_verdicts_of_both_kinds_nothing_is_said() -> None:
    sighted = record(("ann", "agree", None, False))
    for judged in ([], [sighted]):
        found = reliance(judged)
        assert found["difference"] is None
        assert tell_reliance(found) is None
    assert found["blind"] == {"count": 0, "of": 0, "value": None, "low": 0.0, "high": 1.0}
    told = tell_reliance(reliance([sighted, record(("ann", "corrected", "b", True))]))
    assert told is not None
    assert "+100 points" in told


def test_two_people_agree_where_they_say_the_same_is_right() -> None:
    found = reliance(
        [
            record(("ann", "agree", None, False), ("bob", "agree", None, False)),
            record(("ann", "corrected", "a", False), ("bob", "agree", None, False)),  # "a" is the model's own
            record(("ann", "corrected", "b", False), ("bob", "corrected", "b", False)),
            record(("ann", "corrected", "b", False), ("bob", "corrected", "c", False)),
            record(("ann", "agree", None, False), ("bob", "disagree", None, False), ("cy", "agree", None, False)),
            record(("ann", "disagree", None, False), ("ann", "agree", None, False)),  # one person alone
            record(("ann", "agree", None, False), ("bob", "unsure", None, False)),
        ]
    )["agreement"]
    assert (found["count"], found["of"]) == (3, 5)
