"""Boosted trees of scikit-learn for columns of any kind, with gaps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyro_vae.evaluation.synthetic_rows.tables import Column

__all__ = ["classifier", "fitted", "regressor", "with_few_labels"]

_MOST_LABELS = 255  # that scikit-learn's trees take


def classifier(columns: Sequence[Column], rows: int, seed: int) -> Any:
    """Return a classifier that is not fitted yet; all classes weigh the same.

    Args:
        columns: of the features.
        rows: of the data that it will be fitted to.
        seed: of the fit.
    """
    from sklearn.ensemble import HistGradientBoostingClassifier

    return HistGradientBoostingClassifier(class_weight="balanced", **_options(columns, rows, seed))


def regressor(columns: Sequence[Column], rows: int, seed: int) -> Any:
    """Return a regressor that is not fitted yet; see :func:`classifier`."""
    from sklearn.ensemble import HistGradientBoostingRegressor

    return HistGradientBoostingRegressor(**_options(columns, rows, seed))


def fitted(model: Any, x: NDArray[np.float64], y: NDArray[Any]) -> Any:
    """Return the model, fitted; scikit-learn fails on a feature whose values are all missing, so it gets a constant."""
    return model.fit(np.where(np.isnan(x).all(0), 0.0, x), y)


def _options(columns: Sequence[Column], rows: int, seed: int) -> dict[str, Any]:
    return {
        "categorical_features": [column.has_labels for column in columns],
        # Half of scikit-learn's iterations and leaves: on some hundred rows that is faster and better too. With its 20
        # rows per leaf, small tables would have no trees.
        "max_iter": 50,
        "max_leaf_nodes": 16,
        "min_samples_leaf": min(20, max(2, rows // 20)),
        "early_stopping": False,
        "random_state": seed,
    }


def with_few_labels(columns: Sequence[Column], values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return features that the trees take: of many labels, the rarest become one."""
    most = np.array([_MOST_LABELS - 1 if column.has_labels else np.inf for column in columns])
    return np.minimum(values, most)
