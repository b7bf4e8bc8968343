"""Estimators as skops files: written so that the same model gives the same bytes, read so that nothing runs.

Nothing is ever unpickled. The list of trusted types belongs to this code and to the operator (see trust.py) and is
never read from a release; it adds to what skops itself knows as safe (its own list of scikit-learn, NumPy and SciPy
types).
"""

from __future__ import annotations

import io
import json
import warnings
import zipfile
from collections.abc import Sequence
from itertools import count
from pathlib import PurePosixPath
from typing import IO, Any

import numpy as np
import skops.io
from sklearn.exceptions import InconsistentVersionWarning
from skops.io.exceptions import UntrustedTypesFoundException

from . import structures
from .errors import ReleaseRefused, UntrustedTypes

# scikit-learn only warns of an estimator that another version of it fitted, and may answer differently then.
warnings.filterwarnings("error", category=InconsistentVersionWarning)

# Compiled or private parts of scikit-learn's own estimators, which skops leaves to its users to trust; and ours.
TRUSTED_TYPES = (
    "builtins.object",  # the class of texts in a frame, as a selector of columns names it
    "functools.partial",  # what it calls is looked at as well
    "numpy.dtype",
    "numpy.mean",
    "reviewapp.calibration.CalibratedClassifier",
    "reviewapp.calibration.IntervalRegressor",
    "reviewapp.transformers.DayParts",
    "reviewapp.transformers.Topics",
    "reviewapp.transformers.Words",
    "scipy._lib.array_api_compat.numpy._aliases.asarray",
    "scipy.interpolate._bsplines.BSpline",
    "scipy.sparse._csr.csr_matrix",
    "sklearn._loss.loss.HalfTweedieLoss",
    "sklearn._loss.loss.HalfTweedieLossIdentity",
    "sklearn.calibration._CalibratedClassifier",
    "sklearn.calibration._SigmoidCalibration",
    "sklearn.calibration._TemperatureScaling",
    "sklearn.compose._column_transformer.make_column_selector",
    "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
    "sklearn.feature_selection._univariate_selection.f_classif",
    "sklearn.feature_selection._univariate_selection.f_regression",
    "sklearn.feature_selection._univariate_selection.chi2",
    "sklearn.gaussian_process._gpc._BinaryGaussianProcessClassifierLaplace",
    *(f"sklearn.gaussian_process.kernels.{name}" for name in (
        "CompoundKernel", "ConstantKernel", "DotProduct", "Exponentiation", "ExpSineSquared", "Matern", "Product",
        "RBF", "RationalQuadratic", "Sum", "WhiteKernel")),
    *(f"sklearn.metrics._dist_metrics.{name}Distance64" for name in (
        "Chebyshev", "Euclidean", "Manhattan", "Minkowski")),
    "sklearn.metrics._scorer._CurveScorer",
    "sklearn.metrics._scorer._PassthroughScorer",
    "sklearn.metrics._scorer._Scorer",
    "sklearn.metrics._classification.balanced_accuracy_score",
    "sklearn.model_selection._split.KFold",
    "sklearn.model_selection._split.StratifiedKFold",
    "sklearn.multiclass._ConstantPredictor",
    "sklearn.neighbors._ball_tree.BallTree",
    "sklearn.neighbors._kd_tree.KDTree",
    "sklearn.neural_network._stochastic_optimizers.AdamOptimizer",
    "sklearn.neural_network._stochastic_optimizers.SGDOptimizer",
    "sklearn.tree._tree.Tree",
    "sklearn.utils._bunch.Bunch",
    "sklearn.utils._metadata_requests.MetadataRequest",
    "sklearn.utils._metadata_requests.MethodMetadataRequest",
    "sklearn.utils.validation.check_array",
)  # fmt: skip
MAX_UNPACKED = 256 << 20  # bytes; a small zip can unpack to gigabytes
_ZIP_TIME = (1980, 1, 1, 0, 0, 0)


def dump(estimator: Any) -> bytes:
    """Return the estimator in skops format, made independent of when and where in memory it was written.

    skops names arrays after object ids and stamps its zip with the time; ids and names are counted anew here, in
    the order in which the schema mentions them.
    """
    with zipfile.ZipFile(io.BytesIO(skops.io.dumps(estimator))) as packed:
        members = {name: packed.read(name) for name in packed.namelist()}
    ids: dict[int, int] = {}
    names: dict[str, str] = {}
    counter = count()

    def renamed(node: Any) -> Any:
        if isinstance(node, list):
            return [renamed(item) for item in node]
        if not isinstance(node, dict):
            return node
        fresh: dict[str, Any] = {}
        for key, value in node.items():
            if key == "_stop_words_id" and "fixed_vocabulary_" in node:
                continue  # a vectorizer's memory address of a checked list; it is made anew when needed
            if key == "__id__" and isinstance(value, int):
                fresh[key] = ids.setdefault(value, len(ids))
            elif key == "file" and isinstance(value, str) and value in members:
                if value not in names:
                    names[value] = f"{next(counter)}{PurePosixPath(value).suffix}"
                fresh[key] = names[value]
            else:
                fresh[key] = renamed(value)
        return fresh

    members = {name: _without_padding(content) for name, content in members.items()}
    schema = json.dumps(renamed(json.loads(members.pop("schema.json"))), separators=(",", ":"))
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, content in [
            ("schema.json", schema.encode()),
            *sorted((names[n], c) for n, c in members.items()),
        ]:
            packed.writestr(zipfile.ZipInfo(name, _ZIP_TIME), content, zipfile.ZIP_DEFLATED, compresslevel=6)
    return out.getvalue()


def _without_padding(content: bytes) -> bytes:
    """Return a saved array with zeros between the fields of its records, where memory held whatever it held (trees)."""
    if not content.startswith(b"\x93NUMPY"):
        return content
    array = np.load(io.BytesIO(content), allow_pickle=False)
    if array.dtype.names is None:
        return content
    clean = np.zeros(array.shape, array.dtype)
    for name in array.dtype.names:
        clean[name] = array[name]
    out = io.BytesIO()
    np.save(out, clean, allow_pickle=False)
    return out.getvalue()


def untrusted(packed: bytes, trusted: Sequence[str] = ()) -> list[str]:
    """Return the types in a skops file that neither skops, nor this code, nor the operator trusts."""
    return sorted(set(skops.io.get_untrusted_types(data=packed)) - {*TRUSTED_TYPES, *trusted})


def load(packed: bytes, name: str, trusted: Sequence[str] = ()) -> Any:
    """Return the estimator in a skops file; raise ReleaseRefused where its size, types or parts cannot be trusted."""
    try:
        unpacked = _unpacked(io.BytesIO(packed))
        if unpacked > MAX_UNPACKED:
            raise ReleaseRefused(f"{name} unpacks to {unpacked:,} bytes; more than {MAX_UNPACKED:,} is refused.")
        estimator = skops.io.loads(packed, trusted=[*TRUSTED_TYPES, *trusted])
        structures.check(estimator, name)
    except UntrustedTypesFoundException:
        raise UntrustedTypes(name, untrusted(packed, trusted)) from None
    except ModuleNotFoundError as error:
        raise ReleaseRefused(f"{name} needs the module {error.name!r}, which cannot be imported here.") from None
    except InconsistentVersionWarning as warning:
        raise ReleaseRefused(
            f"{name} was fitted with scikit-learn {warning.original_sklearn_version}, and "
            f"{warning.current_sklearn_version} runs here: build it again."
        ) from None
    except ReleaseRefused:
        raise
    except Exception as error:  # a damaged file can fail anywhere inside zipfile, numpy, skops or scikit-learn
        raise ReleaseRefused(f"{name} cannot be read as a skops file ({type(error).__name__}).") from error
    return estimator


def _unpacked(file: IO[bytes]) -> int:
    """Return to how many bytes a zip unpacks, with the zips in it: a sparse matrix is kept as one."""
    with zipfile.ZipFile(file) as members:
        total = sum(member.file_size for member in members.infolist())
        if total <= MAX_UNPACKED:
            for member in members.infolist():
                if member.filename.endswith(".npz"):
                    with members.open(member) as inner:
                        total += _unpacked(inner)
    return total
