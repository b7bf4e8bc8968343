"""(b) What a good engineer writes by hand in an hour: a frame of one row, `predict_proba`, `jsonify`.

It answers with the model of the same release. Nothing is validated, nothing is recorded, anybody may ask.
"""

from __future__ import annotations

import os
from pathlib import Path

import pandas as pd
from flask import Flask, Response, jsonify, request

from reviewapp.estimators import load
from reviewapp.trust import TrustedTypes

release = Path(os.environ["BENCH_RELEASE"])
model = load((release / "model.skops").read_bytes(), "model.skops", TrustedTypes(release.parents[2]).names())
app = Flask(__name__)


@app.post("/predict")
def predict() -> Response:
    record = {name: float("nan") if value is None else value for name, value in request.get_json()["input"].items()}
    shares = model.predict_proba(pd.DataFrame([record], dtype=object))[0]
    probabilities = dict(zip(map(str, model.classes_), shares.tolist(), strict=True))
    return jsonify(label=str(model.classes_[shares.argmax()]), probabilities=probabilities)
