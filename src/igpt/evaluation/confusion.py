"""Confusion: which classes are taken for which, counted on images that nothing was learned from."""

import numpy as np
from jaxtyping import Integer
from sklearn.metrics import confusion_matrix

Confusion = tuple[tuple[int, ...], ...]
"""How many images of each class, a row, were taken for each class, a column."""

MOST_CLASSES = 100
"""With more, a table that nobody reads would be larger than all else that is kept."""


def confusion(
    labels: Integer[np.ndarray, " image"], predicted: Integer[np.ndarray, " image"], *, classes: int
) -> Confusion | None:
    """Return how often each class was taken for each; None with over `MOST_CLASSES` of them.

    Args:
        labels: The true class of each image.
        predicted: What it was taken for.
        classes: How many there are, some of which may have no image.
    """
    if classes > MOST_CLASSES:
        return None
    counts = confusion_matrix(labels, predicted, labels=np.arange(classes))
    return tuple(tuple(row) for row in counts.tolist())
