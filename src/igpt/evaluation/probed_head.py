"""The class head that fine-tuning starts from: a linear probe of whitened features.

    head = probed_head(features, labels, classes=10)
    classifier = pretrained.with_class_head(class_names, layer, head)

The map of the head (`igpt.model.class_head`) takes the mean over the images from the pooled
features, and then their correlations: every direction in which images differ gets a variance of
one, but for those in which they hardly differ, which get less. One mapped feature more is next to 1
for every image, and carries the intercepts of the probe: neither head nor map has a bias, but
features share so much that a linear function of them is all but constant.

In such features one penalty suits many images and few, where raw ones want their own from 1e-1 to
1e-9 (figures in `docs/log.md`).
"""

import numpy as np
import torch
from jaxtyping import Float, Float64, Integer

from igpt.evaluation.logistic import LinearProbe
from igpt.model.class_head import MappedHead

PENALTY = 1e-2
"""Of the probe, on whitened features."""

FLOOR = 1e-3
"""Added to the variance of every direction, as a share of their mean, before it is divided out."""

_RIDGE = 1e-5  # of the reading of 1, as a share of the features' mean square


def whitening_map(
    features: Float[np.ndarray, "record width"], *, floor: float = FLOOR
) -> Float64[np.ndarray, "width_and_one width"]:
    """Return the matrix that maps features to whitened ones and, last, to 1.

    Over these records all mapped features but the last have mean zero, no correlations and a
    variance of one, less where the variance there was is not far above the floor. The last has mean
    one and varies next to nothing.

    Args:
        features: Of images under the pretrained network.
        floor: As `FLOOR`.
    """
    rows = features.astype(np.float64)
    mean, width = rows.mean(axis=0), rows.shape[1]
    second = rows.T @ rows / len(rows)
    ridge = _RIDGE * np.trace(second) / width
    reads_one = np.linalg.solve(second + ridge * np.eye(width), mean)
    reads_one /= reads_one @ mean
    centering = np.eye(width) - np.outer(mean, reads_one)
    variances, directions = np.linalg.eigh(centering @ second @ centering.T)
    scale = 1 / np.sqrt(variances.clip(min=0) + floor * variances.mean())
    return np.concatenate([(directions * scale).T @ centering, reads_one[None]])


def probed_head(
    features: Float[np.ndarray, "record width"],
    labels: Integer[np.ndarray, " record"],
    *,
    classes: int,
    l2: float = PENALTY,
) -> MappedHead:
    """Return a head that begins as a linear probe of these features.

    Args:
        features: Pooled, of training images under the pretrained network.
        labels: Of the same images.
        classes: How many there are; one that no image is of begins with weights of zero.
        l2: Penalty of the probe, on the mapped features.

    Raises:
        DataError: The features are not finite, or all images are of one class.
    """
    whitening = whitening_map(features)
    probe = LinearProbe(l2).fit(features @ whitening.T, labels)
    weight = np.zeros((classes, len(whitening)))
    weight[probe.classes_] = probe.weight_
    weight[probe.classes_, -1] += probe.intercept_
    return MappedHead(torch.from_numpy(whitening).float(), torch.from_numpy(weight).float())
