"""Contract → the schemas of all that is sent and answered, by the names under which OpenAPI's routes refer to them."""

from __future__ import annotations

from typing import Any

from .bodies import BREAKING, MAX_BATCH, MAX_REASONS, MOVE_REASON, REASON, REFERENCE, VERDICTS, verdict_fields
from .contract import Contract, Outcome
from .explain import SHOWN_TERMS
from .field import Field
from .policy import ACTIONS, METRICS, REASONS
from .prediction import DECISIONS, OPTIONS, SOURCES
from .profile import SIGNALS
from .release import COMPILED, NATIVE

Schema = dict[str, Any]

TEXT: Schema = {"type": "string"}
NUMBER: Schema = {"type": "number"}
TIME: Schema = {"type": "string", "format": "date-time"}
COUNT: Schema = {"type": "integer", "minimum": 0}
NULLABLE_TEXT: Schema = {"type": ["string", "null"]}
RELEASE_ID: Schema = {"name": TEXT, "version": {"type": "integer", "minimum": 1}, "digest": TEXT}
_ENGINE_FACTS = {"why": TEXT, "rows": COUNT, "largest_difference": NUMBER}


def components(contract: Contract) -> dict[str, Schema]:
    """Return the schemas by name."""
    standalone = ("$schema", "$id")
    request = {key: value for key, value in contract.as_json().items() if key not in standalone}
    option = {"type": "string", "enum": list(OPTIONS)}
    prediction = {
        "id": {"type": ["string", "null"], "format": "uuid", "description": "null on a dry run"},
        "created_at": TIME,
        "release": ref("ReleaseId"),
        "option": option,
        "reference": NULLABLE_TEXT,
        "output": ref("Output"),
        "decision": {"type": "string", "enum": list(DECISIONS)},
        "reasons": {"type": "array", "items": {"type": "string", "enum": list(REASONS)}},
        "warnings": {"type": "array", "items": ref("Warning")},
    }
    extras = {"comparison": ref("Comparison"), "explanation": ref("Explanation")}
    record = {
        "input": {"type": ["object", "null"], "description": "What was asked; null once it was erased."},
        "source": {"type": "string", "enum": list(SOURCES)},
        "client": TEXT,
        "request_id": TEXT,
        "audit": {"type": "boolean", "description": "Drawn for a person to check, though it is automatic."},
        "verdict": {"oneOf": [ref("Verdict"), {"type": "null"}]},
        "verdicts": {"type": "array", "items": ref("Verdict")},
    }
    asked = ("id", "created_at", "release", "reference", "input", "source", "client", "request_id")
    hidden = {name: (prediction | record)[name] for name in asked}
    leased = {"blind": {"type": "boolean"}, "leased_until": TIME, "left": COUNT}
    whole = prediction | {"output": ref("RecordedOutput")} | record
    reason = {MOVE_REASON.name: {**member(MOVE_REASON), "minLength": 1, "allOf": [{"pattern": r"[^\s\u0085]"}]}}
    return {
        "Input": request,
        "Output": contract.outcome.as_schema(),
        "RecordedOutput": {"type": "object", "description": "The outcome of the release that answered."},
        "PredictionRequest": object_({"input": ref("Input")}, {"reference": member(REFERENCE)}),
        "BatchRequest": object_(
            {"inputs": {"type": "array", "items": ref("Input"), "minItems": 1, "maxItems": MAX_BATCH}}
        ),
        "Prediction": object_(prediction, extras),
        "PredictionRecord": {
            "description": "The whole story; of a record that the caller is about to judge blind, what was asked.",
            "oneOf": [object_(whole, extras), object_(hidden | {"blind": {"const": True}})],
        },
        "QueueRecord": {
            "description": "A record with its lease: the options are hidden until the verdict where it is blind.",
            "oneOf": [object_(whole | leased, extras), object_(hidden | leased)],
        },
        "Waiting": object_(
            {"left": COUNT, "with_others": COUNT, "by_reason": {"type": "object", "additionalProperties": COUNT}}
        ),
        "Predictions": object_({"predictions": {"type": "array", "items": ref("Prediction")}}),
        "BulkLine": {
            "description": "A line of the answer to a file: one for each request in their order, and a summary last.",
            "anyOf": [
                ref("Prediction"),
                object_({"row": {"type": "integer", "minimum": 1}, "problem": ref("Problem")}),
                object_({"summary": object_(dict.fromkeys(("rows", "predictions", "problems"), COUNT))}),
            ],
        },
        "PredictionPage": object_(
            {"predictions": {"type": "array", "items": ref("PredictionRecord")}, "next": NULLABLE_TEXT}
        ),
        "Comparison": object_({"option": option, "output": ref("RecordedOutput")}),
        "Explanation": _explanation(),
        "Warning": object_({"pointer": TEXT, "code": TEXT, "detail": TEXT}),
        "VerdictRequest": _verdict_request(contract.outcome),
        "Verdict": object_(
            {
                "verdict": {"type": "string", "enum": [*VERDICTS, "withdrawn"]},
                "reasons": {"type": "array", "items": TEXT},
                "note": NULLABLE_TEXT,
                "author": TEXT,
                "created_at": TIME,
                "blind": {"type": "boolean", "description": "Given before the options were shown."},
            },
            {"label": NULLABLE_TEXT, "value": NUMBER},
        ),
        "ReleaseId": object_(RELEASE_ID),
        "Releases": object_(
            {
                "releases": {
                    "type": "array",
                    "items": object_(RELEASE_ID | {"active": {"type": "boolean"}, "built_at": TIME}),
                }
            }
        ),
        "ActiveRelease": object_(
            RELEASE_ID
            | {
                "answers_with": {"type": "string", "enum": list(OPTIONS)},
                "policy": {"type": "object"},
                "evaluation": {"type": "object"},
                "libraries": {"type": "object", "additionalProperties": TEXT},
                "engine": object_({"kind": {"type": "string", "enum": [NATIVE, COMPILED]}}, _ENGINE_FACTS),
                "problem": NULLABLE_TEXT,
            }
        ),
        "MoveRequest": object_(reason),
        "PromoteRequest": object_(reason, {BREAKING.name: member(BREAKING)}),
        "ReleaseEvent": object_(
            RELEASE_ID
            | {
                "event": TEXT,
                "reason": TEXT,
                "actor": TEXT,
                "created_at": TIME,
                "breaking": {"type": "boolean", "description": "Whether any of the differences breaks callers."},
                "differences": {"type": "array", "items": ref("Difference")},
                "figures": {"type": "object", "description": "`after`: the number of the last prediction before it; "
                            "and what led to it, where the trigger fired."},
            }
        ),
        "Difference": object_({"pointer": TEXT, "detail": TEXT, "breaking": {"type": "boolean"}}),
        "Monitor": _monitor(),
        "Problem": object_(
            {"type": TEXT, "title": TEXT, "status": {"type": "integer"}, "detail": TEXT, "instance": TEXT,
             "request_id": TEXT},
            {
                "errors": {
                    "type": "array",
                    "maxItems": 50,
                    "items": object_(
                        {"pointer": TEXT, "code": TEXT, "detail": TEXT}, {"allowed": {"type": "array", "items": TEXT}}
                    ),
                },
                "error_count": {"type": "integer", "minimum": 1},
            },
        ),
    }  # fmt: skip


def _monitor() -> Schema:
    share = {"type": "number", "minimum": 0, "maximum": 1}
    unknown = {"type": ["number", "null"], "minimum": 0, "maximum": 1}
    interval = {"value": {**unknown, "description": "null: nothing was counted."}, "low": share, "high": share}
    judged = {**interval, "verdicts": COUNT, "wrong": COUNT}
    counted = object_({"count": COUNT, "of": COUNT, **interval})
    points = {"type": "number", "minimum": -1, "maximum": 1}
    return object_(
        {
            "release": ref("ReleaseId"),
            "answers_with": {"type": "string", "enum": list(OPTIONS)},
            "metric": object_(
                {"name": {"type": "string", "enum": list(METRICS)}, **judged,
                 "drawn": {**COUNT, "description": "Automatic answers drawn by lot for a person to check."},
                 "last_verdict_at": {"type": ["string", "null"], "description": "Of those on audited answers."}}
            ),
            "overall": {
                **object_({**interval, "verdicts": COUNT}),
                "description": "The error rate if every answer were used, also those that go to a person.",
            },
            "trigger": object_(
                {
                    "state": {"type": "string", "enum": ["too_few_verdicts", "within_limit", "above_limit"],
                              "description": "above_limit: it has fired, and stays so; or only `not_before` keeps it."},
                    "limit": share,
                    "confidence": share,
                    "minimum_verdicts": COUNT,
                    "window_verdicts": COUNT,
                    "window_days": COUNT,
                    "consecutive_failures": COUNT,
                    "cool_down_hours": COUNT,
                    "evidence": {**NUMBER, "description": "After the last verdict; it fires at `needed`."},
                    "needed": NUMBER,
                    "fired_at": {"type": ["integer", "null"], "description": "After how many verdicts it fired."},
                    "not_before": {"type": ["string", "null"],
                                   "description": "While it cools down: it fires again on a verdict after that."},
                    "action": {"type": "string", "enum": list(ACTIONS)},
                    "fired": {
                        **object_({"at": TIME, "event": TEXT, "release": ref("ReleaseId"), "reason": TEXT,
                                   "metric": {"type": "object"}}),
                        "type": ["object", "null"],
                        "description": "What it has led to, until somebody promotes or rolls back.",
                    },
                }
            ),
            "referred": object_(
                {"predictions": COUNT, **interval,
                 "expected": {**unknown, "description": "What the evaluation says of the share to a person."},
                 "moved": {"type": "boolean", "description": "The share differs by more than chance."}}
            ),
            "shadow": {
                **object_(judged),
                "type": ["object", "null"],
                "description": "How often the model would have been wrong, where the baseline answers.",
            },
            "service": {**_service(), "type": ["object", "null"],
                        "description": "How the service stands to its objectives; null: in its first minute."},
            "reliance": object_(
                {
                    "blind": {**counted, "description": "Given before the options were shown, and the same."},
                    "sighted": {**counted, "description": "Given with the answer in sight, and agreeing."},
                    "difference": {**object_({"value": points, "low": points, "high": points}),
                                   "type": ["object", "null"], "description": "Sighted less blind."},
                    "overridden": {**counted, "description": "Of the sighted verdicts, those that reject the answer."},
                    "switched": {**counted, "description": "Blind answers that differed, and agreed in the end."},
                    "unsure": object_({"blind": COUNT, "sighted": COUNT}),
                    "agreement": {**counted, "description": "Of what two people judged, where they say the same."},
                }
            ),
            "drift": {**_drift(), "type": ["object", "null"],
                      "description": "Whether the requests have changed; null: nobody has looked yet."},
        }
    )  # fmt: skip


def _service() -> Schema:
    share = {"type": "number", "minimum": 0, "maximum": 1}
    unknown = {"type": ["number", "null"], "minimum": 0, "description": "null: nothing was asked."}
    each = {"availability": unknown, "latency": unknown}
    window = object_(
        {
            "requests": COUNT,
            "failures": {**COUNT, "description": "They ended with a status of 500 or more."},
            "availability": {**unknown, "maximum": 1},
            "rejected": {**unknown, "maximum": 1, "description": "The share of 4xx."},
            "in_time": {**unknown, "maximum": 1, "description": "Of all but whole files."},
            "p95_seconds": {**unknown, "description": "Estimated from a histogram, as Prometheus does."},
            "burn_rate": {**object_(each), "description": "At 1 the error budget lasts as long as the objective."},
        }
    )
    alarm = {"type": ["string", "null"], "enum": ["fast", "slow", None]}
    return object_(
        {
            "at": TIME,
            "objectives": object_(
                {"days": COUNT, "availability": share, "latency_seconds": NUMBER, "latency_share": share}
            ),
            "windows": object_(dict.fromkeys(("1h", "6h", "30d"), window)),
            "budget_left": {
                **object_({name: {"type": ["number", "null"], "maximum": 1} for name in each}),
                "description": "The share of the error budget of 30 days; below 0 it is overdrawn.",
            },
            "burning": {**object_(dict.fromkeys(each, alarm)), "description": "Burn rates that raise an alarm."},
        }
    )


def _drift() -> Schema:
    share = {"type": "number", "minimum": 0, "maximum": 1}
    chance = {"type": ["number", "null"], "minimum": 0, "maximum": 1}
    signal = object_(
        {
            "field": {"type": ["string", "null"], "description": "null: the answers."},
            "signal": {"type": "string", "enum": list(SIGNALS)},
            "n": {**COUNT, "description": "Requests that have it; of fewer than 100 nothing is said."},
            "statistic": {"type": ["number", "null"], "description": "Chi-square of homogeneity."},
            "p": {**chance, "description": "How often chance alone does as much to this signal (permutation test)."},
            "adjusted_p": {**chance, "description": "How often it does to any of the signals (Holm)."},
            "alarm": {"type": "boolean", "description": "`adjusted_p` is `alpha` or less."},
            "moved": {
                **object_({"bin": TEXT, "share": share, "expected": share}),
                "type": ["object", "null"],
                "description": "What has moved most, with its share in the block and in the table.",
            },
        }
    )
    return object_(
        {
            "release": ref("ReleaseId"),
            "state": {"type": "string", "enum": ["no_profile", "too_few", "same", "moved"]},
            "requests": {**COUNT, "description": "All that the release has recorded."},
            "needed": {**COUNT, "description": "So many make a block, each of which is looked at once."},
            "alpha": {**share, "description": "The chance of a false alarm, for all signals of a block together."},
            "block": {
                **object_({"number": COUNT, "n": COUNT, "since": TIME, "until": TIME}),
                "type": ["object", "null"],
                "description": "The last full block, and how many of its requests were not erased.",
            },
            "signals": {"type": "array", "items": signal},
        }
    )


def _explanation() -> Schema:
    term = object_({"term": TEXT, "contribution": NUMBER})
    field = object_(
        {"field": TEXT, "contribution": NUMBER},
        {"terms": {"type": "array", "maxItems": SHOWN_TERMS, "items": term}, "other_terms": NUMBER},
    )
    return object_(
        {
            "method": {"type": "string", "enum": ["linear", "blanking"]},
            "scale": {"type": "string", "enum": ["log-odds", "probability", "value"]},
            "fields": {"type": "array", "items": field},
        },
        {"label": TEXT, "against": TEXT, "intercept": NUMBER},
    )


def _verdict_request(outcome: Outcome) -> Schema:
    verdict, right, note = verdict_fields(outcome)
    members = {right.name: member(right), note.name: member(note)}
    members["reasons"] = {"type": "array", "items": member(REASON), "maxItems": MAX_REASONS}
    schema = object_({verdict.name: member(verdict)}, members)
    corrected = {"properties": {"verdict": {"const": "corrected"}}}
    schema["if"] = corrected
    schema["then"] = {"required": [right.name], "properties": {right.name: {"not": {"type": "null"}}}}
    schema["else"] = {"properties": {right.name: {"type": "null"}}}
    return schema


def member(field: Field) -> Schema:
    return {key: value for key, value in field.as_schema().items() if not key.startswith("x-reviewapp")}


def object_(required: dict[str, Any], optional: dict[str, Any] | None = None) -> Schema:
    return {
        "type": "object",
        "properties": {**required, **(optional or {})},
        "required": list(required),
        "additionalProperties": False,
    }


def ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}
