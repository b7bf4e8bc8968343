"""The model adapter: the one module that both blueprints call, and the only caller of an estimator.

predict (either option, or both) → decide by the policy → explain → hand to the sinks (the ledger, the metrics). Calls
that meet go this way together. It knows no HTTP and no SQL. What it is given has passed the contract's schema; what it
gives has passed the contract's outcome: a model that breaks that is an error of the service, never a wrong-shaped
answer.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from copy import copy
from datetime import datetime
from typing import Any
from weakref import proxy

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from .contract import Contract
from .engine.engines import Compiled, Encoder, Engine, Native
from .engine.forms import NotCompiled
from .errors import ModelBroken, NotFound, ReleaseRefused, StoreBusy, StoreFull, pointer
from .explain import LinearParts, explain_by_blanking
from .field import Record
from .frames import to_frame
from .joining import Joined
from .prediction import Answered, Call, Prediction, differ, new_ids, timestamp, utcnow
from .release import COMPILED, Release
from .stages import note_release, stage

log = logging.getLogger("reviewapp")

Sink = Callable[[Sequence[Answered]], None]

JOINED_ROWS = 64  # answered at a time where calls meet; a larger call stays alone
GOLDEN_TOLERANCE = 1e-6  # another BLAS moves the last digits; more is another model
SUM_TOLERANCE = 1e-6


class ModelAdapter:
    """Answers requests with one release: with its `option`, which is the model unless it had to stop.

    `sinks` are called in turn with what was answered, before it is returned: an answer that was not kept is not given.
    Only the first may raise, and has then kept nothing: each of the calls that met is tried again alone. `clock`
    returns the time as an aware datetime.
    """

    def __init__(self, release: Release, sinks: Sequence[Sink] = (), clock: Callable[[], datetime] = utcnow) -> None:
        self.release = release
        self.option = "model"
        self.policy = release.policy
        self.contract: Contract = release.contract
        self._sinks = tuple(sinks)
        self._clock = clock
        estimators = {"model": release.model, "baseline": release.baseline}
        self._labels = {option: _labels_of(estimator) for option, estimator in estimators.items()}
        self._orders = {option: _order(names, self.contract.outcome.labels) for option, names in self._labels.items()}
        self._native = {option: Native(estimator, self.contract) for option, estimator in estimators.items()}
        self._engines: dict[str, Engine] = dict(self._native)
        self._many: dict[str, Native] = {}
        self._linear = LinearParts.of(release.model)
        self._encoder: Encoder | None = None
        self._joined = self._join()
        self._regression = self.contract.outcome.task == "regression"
        if release.engine.kind == COMPILED:
            self._compile()

    def _join(self) -> Joined[_Asked, list[Prediction]]:
        me: ModelAdapter = proxy(self)  # else it would refer to itself, and stay when its release was replaced
        return Joined(lambda _, asked: me._answer(asked), most=JOINED_ROWS, size=_rows, alike=(StoreBusy, StoreFull))

    def answering(self, option: str) -> ModelAdapter:
        """Return an adapter of the same release, with all that is loaded, that answers with an option.

        The baseline answers by its own threshold, and what the model would say is kept beside each of its answers.
        """
        if option == self.option:
            return self
        twin = copy(self)
        twin.option, twin.policy = option, self.release.policy_of(option)
        twin._joined = twin._join()
        return twin

    def _compile(self) -> None:
        """Answer by the compiled engine, which the release says agrees; one that knows more may have built it."""
        try:
            self._engines["model"] = Compiled(self.release.model, self.contract, self._native["model"])
            if self._linear is not None:
                self._encoder = Encoder(self._linear.transformer, self.contract)
        except NotCompiled as error:
            log.warning("release %s answers by scikit-learn itself: %s", self.release.id, error)

    # ---- answering --------------------------------------------------------------------------------------------

    @stage("predict")
    def predict(
        self,
        records: Sequence[Record],
        call: Call,
        *,
        option: str | None = None,
        compare: bool = False,
        explain: bool = False,
    ) -> list[Prediction]:
        """Return one prediction a record, in order, once every sink has kept them (none is called on a dry run).

        `compare` adds what the other option answers, `explain` what moved the answer. Raises ModelBroken where an
        output breaks the contract; whatever a sink raises passes through.
        """
        note_release(self.release.id.digest)
        option = option or self.option
        plain = option == self.option and not (compare or explain or call.dry_run)
        if plain and len(records) <= JOINED_ROWS:
            return self._joined((records, call))
        [(made, _)] = self._make([(records, call)], option, compare, explain)
        if not call.dry_run:
            self.keep(made, call)
        return made

    def _answer(self, asked: Sequence[_Asked]) -> list[list[Prediction]]:
        answered = self._make(asked, self.option)
        for sink in self._sinks:
            sink(answered)
        return [made for made, _ in answered]

    def _make(
        self, asked: Sequence[_Asked], option: str, compare: bool = False, explain: bool = False
    ) -> list[tuple[list[Prediction], Call]]:
        rows = [record for records, _ in asked for record in records]
        outputs = self.outputs(option, rows)
        other = "baseline" if option == "model" else "model"
        policy = self.policy if option == self.option else self.release.policy_of(option)
        compare = compare or self.option != "model"  # which is then asked beside it, in the shadow
        both = compare or policy.review_disagreement
        others = self.outputs(other, rows) if both else [None] * len(rows)
        now = self._clock()
        created_at, ids = timestamp(now), new_ids(now, len(rows))
        release = self.release.id
        drawn = zip(ids, outputs, others, strict=True)
        answered = []
        for records, call in asked:
            made = []
            for i, (record, (made_id, output, second)) in enumerate(zip(records, drawn, strict=False)):
                warnings = self.warnings(record)
                reasons = policy.reasons(
                    output,
                    outside_seen=bool(warnings),
                    disagree=second is not None and differ(output, second),
                )
                made.append(
                    Prediction(
                        id=made_id,
                        created_at=created_at,
                        release=release,
                        option=option,
                        reference=call.references[i] if call.references else None,
                        input=record,
                        output=output,
                        decision="review" if reasons else "auto",
                        reasons=reasons,
                        warnings=warnings,
                        comparison={"option": other, "output": second} if compare and second is not None else None,
                        explanation=self._explain(record, option, output) if explain else None,
                        source=call.source,
                        client=call.client,
                        request_id=call.request_id,
                        audit=not reasons and policy.audited(made_id),
                    )
                )
            answered.append((made, call))
        return answered

    def keep(self, predictions: Sequence[Prediction], call: Call) -> None:
        """Hand predictions to the sinks, perhaps those of a dry run: for who must know all before any is kept."""
        for sink in self._sinks:
            sink([(predictions, call)])

    def outputs(self, option: str, records: Sequence[Record]) -> list[dict[str, Any]]:
        """Return the checked output of one option for each record.

        Raises ModelBroken where the option fails, or answers what the contract's outcome does not allow.
        """
        return self._outputs(option, self._engines[option], records)

    def _outputs(self, option: str, engine: Engine, records: Sequence[Record]) -> list[dict[str, Any]]:
        try:
            figures = engine.figures(records)
        except Exception as error:
            raise self._failed(option, error) from error
        self._check_rows(option, figures, len(records))
        return self._values(option, figures) if self._regression else self._shares(option, figures)

    def _failed(self, option: str, error: Exception) -> ModelBroken:
        """Whatever a foreign estimator raises is its failure to answer a valid request."""
        return ModelBroken(f"The {option} failed on a valid request ({type(error).__name__}).")

    def _check_rows(self, option: str, figures: NDArray[np.float64], rows: int) -> None:
        if figures.shape[:1] != (rows,):
            raise ModelBroken(f"The {option} does not answer each of the {rows} requests that it was asked.")

    def _checked_order(self, option: str, shares: NDArray[np.float64]) -> list[int]:
        order = self._orders[option]
        if order is None or shares.ndim != 2 or shares.shape[1] != len(order):
            raise ModelBroken(f"The {option} answers other labels than the contract names.")
        return order

    def _shares(self, option: str, shares: NDArray[np.float64]) -> list[dict[str, Any]]:
        order, known = self._checked_order(option, shares), self.contract.outcome.labels
        outputs = []
        for share in shares.tolist():
            # written so that not-a-number and infinity are refused, too
            if not (abs(sum(share) - 1) <= SUM_TOLERANCE and min(share) >= 0):
                raise ModelBroken(f"The {option} answered shares that are no probabilities.")
            row = [share[place] for place in order]
            most = max(row)
            if most > 1:  # by a last digit
                row, most = [min(part, 1.0) for part in row], 1.0
            probabilities = dict(zip(known, row, strict=True))
            outputs.append({"label": known[row.index(most)], "confidence": most, "probabilities": probabilities})
        return outputs

    def _values(self, option: str, intervals: NDArray[np.float64]) -> list[dict[str, Any]]:
        rows = self._checked_values(option, intervals).tolist()
        return [dict(zip(("value", "low", "high"), row, strict=True)) for row in rows]

    def _checked_values(self, option: str, intervals: NDArray[np.float64]) -> NDArray[np.float64]:
        if intervals.shape[1:] != (3,) or not np.isfinite(intervals).all():
            raise ModelBroken(f"The {option} answered something else than finite numbers.")
        value, low, high = intervals.T
        if (low > value).any() or (value > high).any():
            raise ModelBroken(f"The {option} answered a value outside of its own interval.")
        outcome = self.contract.outcome
        least, most = outcome.minimum, outcome.maximum
        if (least is not None and (value < least).any()) or (most is not None and (value > most).any()):
            raise ModelBroken(f"The {option} answered a value outside of the outcome's range.")
        return intervals

    def figures(self, option: str, frame: pd.DataFrame) -> NDArray[np.float64]:
        """Return what scikit-learn answers to many rows at once, checked as `outputs` are.

        `frame` is as frames.py makes it. Of shape (rows, labels), in the contract's order, or (rows, 3): value, low and
        high. The last digits may be others than those of `outputs`, which may have asked the compiled engine.
        """
        if option not in self._many:
            self._many[option] = self._for_many(option)
        try:
            figures = self._many[option].of_frame(frame)
        except Exception as error:
            raise self._failed(option, error) from error
        self._check_rows(option, figures, len(frame))
        if self._regression:
            return self._checked_values(option, figures)
        order = self._checked_order(option, figures)
        # written so that not-a-number and infinity are refused, too
        if not (np.all(np.abs(figures.sum(axis=1) - 1) <= SUM_TOLERANCE) and np.all(figures >= 0)):
            raise ModelBroken(f"The {option} answered shares that are no probabilities.")
        return np.minimum(figures[:, order], 1.0)

    def _for_many(self, option: str) -> Native:
        """Return scikit-learn itself, with a faster count of words where that gives the very same figures."""
        native = self._native[option]
        quick = native.for_many()
        if quick is native or not self.release.golden:
            return native
        frame = to_frame(self.contract, [row.input for row in self.release.golden])
        if np.array_equal(quick.of_frame(frame), native.of_frame(frame)):
            return quick
        log.warning("release %s: many words are counted by scikit-learn itself", self.release.id)
        return native

    def is_compiled(self, option: str) -> bool:
        """Whether another engine than scikit-learn itself answers single requests."""
        return self._engines[option] is not self._native[option]

    def warnings(self, record: Record) -> list[dict[str, Any]]:
        """Return where a record lies outside of what the training table held."""
        return [
            {
                "pointer": pointer("input", field.name),
                "code": "outside_seen_values" if field.kind == "category" else "outside_seen_range",
                "detail": detail,
            }
            for field, detail in self.contract.outside_seen(record)
        ]

    def _explain(self, record: Record, option: str, output: dict[str, Any]) -> dict[str, Any]:
        linear = self._linear if option == "model" else None
        label = output.get("label")
        if linear is not None:
            names = self.contract.names
            features = (
                linear.features(to_frame(self.contract, [record]))
                if self._encoder is None
                else self._encoder.features(record)
            )
            if label is None:
                return linear.explain_value(names, features)
            ranked = sorted(self.contract.outcome.labels, key=lambda name: -output["probabilities"][name])
            runner_up = next(name for name in ranked if name != label)
            return linear.explain(names, features, self._labels["model"], str(label), runner_up)

        def figures(rows: Sequence[Record]) -> list[float]:
            answers = self.outputs(option, rows)
            return [answer["value"] if label is None else answer["probabilities"][label] for answer in answers]

        return explain_by_blanking(self.contract, record, label, figures)

    # ---- proving ----------------------------------------------------------------------------------------------

    def replay(self, prediction: Prediction) -> str | None:
        """Answer a recorded request again; return how the answer differs from the recorded one, or None."""
        if prediction.input is None:
            raise NotFound("The request of this prediction was erased, so it cannot be answered again.")
        [output] = self.outputs(prediction.option, [prediction.input])
        return difference(prediction.output, output)

    def check_golden(self, rows: int | None = None) -> None:
        """Answer the release's golden requests (the first `rows`); raise ReleaseRefused where an answer has moved.

        A label must be the same; a number may move by GOLDEN_TOLERANCE. Both engines are asked where there are two.
        """
        golden = self.release.golden[:rows]
        asked = [row.input for row in golden]
        natives = [(option, engine) for option, engine in self._native.items() if engine is not self._engines[option]]
        for option, engine in [*self._engines.items(), *natives]:
            try:
                outputs = self._outputs(option, engine, asked)
            except ModelBroken as error:
                raise ReleaseRefused(error.detail) from error
            for number, (row, output) in enumerate(zip(golden, outputs, strict=True), 1):
                moved = difference(row.answers.get(option), output)
                if moved:
                    raise ReleaseRefused(f"Golden request {number}, {option}: {moved}.")


_Asked = tuple[Sequence[Record], Call]


def _rows(asked: _Asked) -> int:
    return len(asked[0])


def difference(expected: Any, output: dict[str, Any]) -> str | None:
    """Return how an output differs from the golden or recorded answer, beyond GOLDEN_TOLERANCE, in words, or None."""
    try:
        if "label" not in output:
            return _difference_of_values(expected, output)
        if expected["label"] != output["label"]:
            return f"the label is {output['label']!r} and was {expected['label']!r}"
        for label, share in output["probabilities"].items():
            if not math.isclose(expected["probabilities"][label], share, rel_tol=0, abs_tol=GOLDEN_TOLERANCE):
                return f"the probability of {label!r} is {share:.9f} and was {expected['probabilities'][label]:.9f}"
    except (KeyError, TypeError):
        return "the golden answer does not have the outcome's shape"
    return None


def _difference_of_values(expected: Any, output: dict[str, Any]) -> str | None:
    """A value has no scale of its own: what it may move by is measured against the size of the answer."""
    scale = max(abs(float(figure)) for figure in expected.values())
    for name, figure in output.items():
        if not math.isclose(expected[name], figure, rel_tol=0, abs_tol=GOLDEN_TOLERANCE * max(scale, 1e-9)):
            return f"the {name} is {figure!r} and was {expected[name]!r}"
    return None


def _order(names: Sequence[str], known: Sequence[str]) -> list[int] | None:
    """Return where an option's columns have the contract's labels, in its order; None where they are others."""
    return [names.index(label) for label in known] if set(names) == set(known) else None


def _labels_of(estimator: Any) -> list[str]:
    """Return an option's labels in the order of its columns: an estimator's `classes_`, a rule table's `labels`."""
    names = estimator.classes_ if hasattr(estimator, "classes_") else getattr(estimator, "labels", ())
    return [str(name) for name in names]
