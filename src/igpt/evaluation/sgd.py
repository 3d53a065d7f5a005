"""Linear probes by stochastic gradient descent, for more images than L-BFGS can hold.

The paper probes ImageNet so (Chen et al. 2020, section 3.4): momentum 0.9, no weight decay, a
cosine to zero, learning rates 30, 10, 3 and so on. Every layer and every rate is a head of its own,
and all of them are trained side by side in one pass over the features: reading those is what costs.

    heads = train_heads(features, labels, rates=np.array([[3.0, 1.0], [3.0, 1.0]]))
    heads[0][1].score(features[:, 0], labels)   # of the first layer, with the second rate

A head starts at zero and has a bias.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Integer
from torch import Tensor

from igpt.data.order import records_at_step
from igpt.errors import ConfigError

LEARNING_RATES = (30.0, 10.0, 3.0, 1.0, 0.3, 0.1)
"""Rates to choose from; the paper goes down from 30 in such steps."""

MOMENTUM = 0.9


@dataclass(frozen=True)
class Head:
    """A linear classifier of one layer's features."""

    weight: Float[Tensor, "class feature_and_bias"]
    classes: Integer[np.ndarray, " class"]
    """The labels, ascending."""

    def score(
        self, features: Float[np.ndarray, "record feature"], labels: Integer[np.ndarray, " record"]
    ) -> float:
        """Return the share of the records whose label is the likeliest one."""
        x = _with_ones(features[:, None], self.weight.device)[0]  # (record, feature + 1)
        likeliest = (x @ self.weight.T).argmax(dim=1).cpu().numpy()
        return float((self.classes[likeliest] == labels).mean())


def train_heads(
    features: Float[np.ndarray, "record layer feature"],
    labels: Integer[np.ndarray, " record"],
    rates: Float[np.ndarray, "layer rate"],
    *,
    steps: int = 5000,
    batch_size: int = 128,
    seed: int = 0,
    device: str = "cpu",
) -> list[list[Head]]:
    """Return a trained head for every layer and learning rate.

    Args:
        features: Of some layers.
        labels: Any integers.
        rates: A head each.
        steps: Updates; the paper's ImageNet probes take 1,000,000.
        batch_size: Records an update; all of them if there are fewer.
        seed: Draws the order of the records, which all heads see in the same batches. Each epoch's
            last incomplete batch is left out.
        device: Where the heads are trained.

    Raises:
        ConfigError: A rate is not positive, or there is no step or no record in a batch.
    """
    if not (np.isfinite(rates) & (rates > 0)).all():
        raise ConfigError(f"learning rates are positive and finite, got {rates.tolist()}")
    if steps < 1 or batch_size < 1:
        raise ConfigError(
            f"a probe takes steps and a batch_size of at least 1, got {steps} and {batch_size}"
        )
    records, _, width = features.shape
    size = min(batch_size, records)
    classes, targets = np.unique(labels, return_inverse=True)
    peak = torch.tensor(rates, dtype=torch.float32, device=device)[:, :, None, None]
    heads = torch.zeros(*rates.shape, len(classes), width + 1, device=device)
    velocity = torch.zeros_like(heads)
    for step in range(steps):
        part = records_at_step(step, records=records, batch_size=size, seed=seed)
        x = _with_ones(features[part], heads.device)  # (layer, batch, feature + 1)
        logits = x @ heads.flatten(1, 2).mT  # one product a layer, for all of its heads
        slope = logits.unflatten(2, heads.shape[1:3]).transpose(1, 2).softmax(dim=-1)
        slope[:, :, torch.arange(size), torch.from_numpy(targets[part])] -= 1
        gradient = slope.mT @ x[:, None] / size  # (layer, rate, class, feature + 1)
        velocity.mul_(MOMENTUM).add_(gradient)
        heads -= peak * (0.5 * (1 + math.cos(math.pi * step / steps))) * velocity
    return [[Head(weight, classes) for weight in layer] for layer in heads]


def _with_ones(
    features: Float[np.ndarray, "batch layer feature"], device: torch.device
) -> Float[Tensor, "layer batch feature_and_one"]:
    x = torch.from_numpy(np.ascontiguousarray(features.swapaxes(0, 1), dtype=np.float32))
    return torch.nn.functional.pad(x.to(device), (0, 1), value=1.0)
