"""The arrays of this package, by name."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

#: Of shape (rows, features); one column after the other or one row after the other.
Matrix = npt.NDArray[np.float64]
Vector = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
#: The cluster of each row, counted from 0.
Labels = npt.NDArray[np.int32]
#: Which rows, counted from 0.
RowNumbers = npt.NDArray[np.int64]
