"""What a feature's values are put through before they are scaled."""

from __future__ import annotations

import numpy as np

from sqlkmeans.clustering.arrays.types import Vector

TRANSFORMS = ("none", "log1p")


def forward(transform: str, values: Vector) -> Vector:
    """Apply a transform to values in the column's own units."""
    return np.log1p(values) if transform == "log1p" else values


def backward(transform: str, values: Vector) -> Vector:
    """Undo :func:`forward`."""
    return np.expm1(values) if transform == "log1p" else values
