"""What a look at the prepared rows suggests about the features, in words."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from sqlkmeans.clustering.arrays.types import Matrix
from sqlkmeans.clustering.preparation.preparation import Preparation, PreparedFeature

#: Skewness from which a logarithm is suggested, and correlation from which two features are one.
SKEWED, NEAR_DUPLICATE = 2.0, 0.95
#: Rows that are looked at, evenly spaced.
FINDING_ROWS = 100_000


def feature_findings(matrix: Matrix, preparation: Preparation) -> list[str]:
    """Skewed and nearly identical features.

    Parameters
    ----------
    matrix : ndarray of float64 or float32 of shape (n_rows, n_features)
        Prepared rows; above 100,000, so many of them are looked at, evenly spaced.
    preparation : Preparation

    Returns
    -------
    list of str
        Skewness is the third standardised moment, correlation is Pearson's; both are of prepared
        values, filled in where missing. Categories are not looked at.
    """
    numbers = [
        (position, feature)
        for position, feature in enumerate(preparation.features)
        if feature.type != "category"
    ]
    rows = matrix
    if len(matrix) > FINDING_ROWS:
        rows = matrix[np.linspace(0, len(matrix) - 1, FINDING_ROWS).astype(np.int64)]
    # What scaling there and back leaves of 0, in deviations.
    nothing = 1e-9 if matrix.dtype == np.float64 else 1e-6
    rows = rows.astype(np.float64, copy=False)
    columns = np.array([_standardised(rows[:, position]) for position, _ in numbers])
    features = [feature for _, feature in numbers]
    return _skewed(rows, columns, numbers, nothing) + _near_duplicates(columns, features)


def _standardised(column: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    centred: npt.NDArray[np.float64] = column - column.mean()
    deviation = centred.std()
    return centred / deviation if deviation > 0 else np.zeros(len(column))


def _skewed(
    rows: Matrix,
    columns: Matrix,
    numbers: Sequence[tuple[int, PreparedFeature]],
    nothing: float,
) -> list[str]:
    found = []
    for column, (position, feature) in zip(columns, numbers):
        if feature.transform != "none" or feature.low is not None:
            continue
        skewness = float((column * column * column).mean())
        least = float(feature.invert(rows[:, position].min(keepdims=True))[0])
        if abs(skewness) > SKEWED and least >= -nothing * feature.scale:
            found.append(f'{feature.name}: skew {skewness:.1f}; try transform = "log1p"')
    return found


def _near_duplicates(columns: Matrix, features: Sequence[PreparedFeature]) -> list[str]:
    if len(features) < 2:
        return []
    correlation = columns @ columns.T / columns.shape[1]
    return [
        f"{first.name} and {second.name}: correlation {correlation[i, j]:.2f}, so they count "
        "nearly the same thing twice; remove one of them"
        for i, first in enumerate(features)
        for j, second in enumerate(features)
        if i < j and abs(correlation[i, j]) > NEAR_DUPLICATE
    ]
