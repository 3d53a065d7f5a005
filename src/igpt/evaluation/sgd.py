"""Linear probes by stochastic gradient descent, for more images than L-BFGS can hold.

The paper probes ImageNet so (Chen et al. 2020, section 3.4): momentum 0.9, no
weight decay, a cosine to zero, learning rates 30, 10, 3 and so on. Every layer and every rate is a
head of its own, and all of them are trained side by side in one pass over the features: reading
those is what costs.

    results = sgd_probes(train, validation, test)   # each (features, labels), all layers at once

A head starts at zero and has a bias. The rate of each layer is chosen on the validation records,
its head trained again on train and validation together, and the test records scored once.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Integer
from torch import Tensor

from igpt.errors import ConfigError, DataError
from igpt.randomness import Stream, stream

LayerRecords = tuple[Float[np.ndarray, "_record _layer _feature"], Integer[np.ndarray, " _record"]]
"""Features of some layers and labels of the same records, as `extract_features` returns them."""

LEARNING_RATES = (30.0, 10.0, 3.0, 1.0, 0.3, 0.1)
"""Rates to choose from; the paper goes down from 30 in such steps."""

MOMENTUM = 0.9


@dataclass(frozen=True, kw_only=True)
class SGDResult:
    """What the heads of one layer reached."""

    learning_rate: float
    """The chosen one."""
    validation_accuracy: float
    """Of the head trained with it on the training records alone."""
    test_accuracy: float
    """Of the head trained with it on training and validation records together."""
    validation_accuracies: dict[float, float]
    """By learning rate."""


def sgd_probes(
    train: LayerRecords,
    validation: LayerRecords,
    test: LayerRecords,
    *,
    learning_rates: Sequence[float] = LEARNING_RATES,
    steps: int = 5000,
    batch_size: int = 128,
    seed: int = 0,
    device: str = "cpu",
) -> list[SGDResult]:
    """Return what linear heads reach on each layer's features.

    Args:
        train: Features (record, layer, feature) and labels (record).
        validation: The same, to choose the learning rates on.
        test: The same, read once.
        learning_rates: A head each, at every layer; of equals the first is chosen.
        steps: Updates; the paper's ImageNet probes take 1,000,000.
        batch_size: Records an update.
        seed: Draws the order of the records.
        device: Where the heads are trained.

    Raises:
        ConfigError: No rate, one that is not positive, or no step.
        DataError: Features and labels do not fit together.
    """
    if not learning_rates or not all(0 < rate < math.inf for rate in learning_rates):
        raise ConfigError(f"learning rates are positive and finite, got {list(learning_rates)}")
    if steps < 1 or not 1 <= batch_size <= len(train[0]):
        raise ConfigError(
            f"a probe wants steps and batch_size of at least 1, and of records {len(train[0])} at "
            f"most in a batch, got {steps} and {batch_size}"
        )
    for features, labels in (train, validation, test):
        if len(features) != len(labels) or features.shape[1:] != train[0].shape[1:]:
            raise DataError(
                f"features {features.shape} and labels {labels.shape} do not fit each other or "
                f"the training features {train[0].shape}; were they read from the same split?"
            )
    classes = np.unique(np.concatenate([train[1], validation[1]]))
    layers = train[0].shape[1]
    rates = np.tile(np.array(learning_rates, dtype=np.float64), (layers, 1))
    settings = {"classes": classes, "steps": steps, "batch_size": batch_size, "seed": seed}
    heads = train_heads(*train, rates=rates, device=device, **settings)
    accuracies = _accuracies(heads, *validation, classes=classes)  # (layer, rate)
    chosen = accuracies.argmax(axis=1)
    features = np.concatenate([train[0], validation[0]])
    labels = np.concatenate([train[1], validation[1]])
    best = rates[np.arange(layers), chosen][:, None]
    heads = train_heads(features, labels, rates=best, device=device, **settings)
    tested = _accuracies(heads, *test, classes=classes)[:, 0]
    return [
        SGDResult(
            learning_rate=learning_rates[chosen[layer]],
            validation_accuracy=float(accuracies[layer, chosen[layer]]),
            test_accuracy=float(tested[layer]),
            validation_accuracies=dict(
                zip(learning_rates, map(float, accuracies[layer]), strict=True)
            ),
        )
        for layer in range(layers)
    ]


def train_heads(
    features: Float[np.ndarray, "record layer feature"],
    labels: Integer[np.ndarray, " record"],
    *,
    rates: Float[np.ndarray, "layer rate"],
    classes: Integer[np.ndarray, " class"],
    steps: int,
    batch_size: int,
    seed: int,
    device: str = "cpu",
) -> Float[Tensor, "layer rate class feature_and_bias"]:
    """Return the weights and, last, the biases of a head for every layer and learning rate.

    All heads see the same batches: epoch after epoch in an order drawn from the seed, each epoch's
    last incomplete batch left out.
    """
    layers, width = features.shape[1:]
    peak = torch.tensor(rates, dtype=torch.float32, device=device)[:, :, None, None]
    heads = torch.zeros(layers, rates.shape[1], len(classes), width + 1, device=device)
    velocity = torch.zeros_like(heads)
    targets = np.searchsorted(classes, labels)
    for step, part in enumerate(_batches(len(features), batch_size, seed=seed, steps=steps)):
        x = _with_ones(features[part], device)  # (layer, batch, feature + 1)
        logits = _logits(x, heads)  # (layer, rate, batch, class)
        slope = logits.softmax(dim=-1)
        slope[:, :, torch.arange(batch_size), torch.from_numpy(targets[part])] -= 1
        gradient = slope.transpose(2, 3) @ x[:, None] / batch_size
        velocity.mul_(MOMENTUM).add_(gradient)
        heads -= peak * (0.5 * (1 + math.cos(math.pi * step / steps))) * velocity
    return heads


def _batches(
    records: int, batch_size: int, *, seed: int, steps: int
) -> Iterator[Integer[np.ndarray, " batch"]]:
    """Yield the records of each step."""
    batches = records // batch_size
    for epoch in range(math.ceil(steps / batches)):
        order = stream(Stream.SGD_ORDER, seed, epoch).permutation(records)
        for batch in range(min(batches, steps - epoch * batches)):
            yield order[batch * batch_size : (batch + 1) * batch_size]


def _with_ones(
    features: Float[np.ndarray, "batch layer feature"], device: str
) -> Float[Tensor, "layer batch feature_and_one"]:
    x = torch.from_numpy(np.ascontiguousarray(features.swapaxes(0, 1), dtype=np.float32))
    return torch.nn.functional.pad(x.to(device), (0, 1), value=1.0)


def _logits(
    x: Float[Tensor, "layer batch input"], heads: Float[Tensor, "layer rate class input"]
) -> Float[Tensor, "layer rate batch class"]:
    """One product a layer for all of its heads."""
    rates, classes = heads.shape[1:3]
    return (x @ heads.flatten(1, 2).transpose(1, 2)).unflatten(2, (rates, classes)).transpose(1, 2)


def _accuracies(
    heads: Float[Tensor, "layer rate class feature_and_bias"],
    features: Float[np.ndarray, "record layer feature"],
    labels: Integer[np.ndarray, " record"],
    *,
    classes: Integer[np.ndarray, " class"],
    batch_size: int = 1024,
) -> Float[np.ndarray, "layer rate"]:
    right = np.zeros(heads.shape[:2])
    for start in range(0, len(features), batch_size):
        part = slice(start, start + batch_size)
        found = _logits(_with_ones(features[part], str(heads.device)), heads).argmax(dim=-1)
        right += (classes[found.cpu().numpy()] == labels[part]).sum(axis=-1)
    return right / len(features)
