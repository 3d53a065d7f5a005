"""Linear probes by stochastic gradient descent, for more images than L-BFGS can hold.

The paper probes ImageNet so (Chen et al. 2020, section 3.4): momentum 0.9, no weight decay, a
cosine to zero, learning rates 30, 10, 3 and so on. Every layer and every rate is a head of its own,
and all of them are trained side by side in one pass over the features: reading those is what costs.
Only a batch is read at a time, so the features may be a memory-mapped file.

    heads = train_heads(features, labels, rates=np.array([[0.3, 0.1], [0.3, 0.1]]))
    accuracies = score_heads(heads, features, labels)   # (layer, rate)

A head starts at zero and has a bias. Pooled features vary too little along the directions in which
the classes lie for a gradient step to find them, so a head learns from features whitened by what
the training records are, fixed before the first step; the map is folded into its weights, which are
for the features as they come.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float32, Float64, Integer
from torch import Tensor
from tqdm import tqdm

from igpt.data.order import records_at_step
from igpt.errors import ConfigError

LEARNING_RATES = (3.0, 1.0, 0.3, 0.1, 0.03, 0.01, 0.003, 0.001)
"""Rates to choose from, for whitened features; the paper goes down from 30 for features as they
are."""

MOMENTUM = 0.9

_FLOOR = 1e-5  # of the total variance: a direction that varies less is not stretched to one
_CHUNK = 1024  # records read at a time where all are


@dataclass(frozen=True, kw_only=True)
class SGDConfig:
    """How heads are trained."""

    learning_rates: tuple[float, ...] = LEARNING_RATES
    """To choose from, a head each; in any order."""
    steps: int = 5000
    """Updates; the paper's ImageNet probes take 1,000,000."""
    batch_size: int = 128
    """Records an update; all of them if there are fewer."""
    whiten: bool = True
    """Whether heads learn from whitened features, or else from the features as they are."""

    def __post_init__(self) -> None:
        """Reject what cannot be.

        Raises:
            ConfigError: No rate or one that is not positive, or no step or record in a batch.
        """
        rates = self.learning_rates
        if not rates or not all(0 < rate < math.inf for rate in rates):
            raise ConfigError(f"learning rates are positive and finite, got {list(rates)}")
        if self.steps < 1 or self.batch_size < 1:
            raise ConfigError(
                f"a probe takes steps and a batch_size of at least 1, got {self.steps} and "
                f"{self.batch_size}"
            )


@dataclass(frozen=True)
class Head:
    """A linear classifier of one layer's features."""

    weight: Float64[Tensor, "class feature"]
    bias: Float64[Tensor, " class"]
    classes: Integer[np.ndarray, " class"]
    """The labels, ascending."""

    def predict(
        self, features: Float[np.ndarray, "record feature"]
    ) -> Integer[np.ndarray, " record"]:
        """Return the likeliest label of each record."""
        return np.concatenate(
            [part[0, :, 0] for _, part in _likeliest([[self]], features[:, None])]
        )

    def score(
        self, features: Float[np.ndarray, "record feature"], labels: Integer[np.ndarray, " record"]
    ) -> float:
        """Return the share of the records whose label is the likeliest one."""
        return float(score_heads([[self]], features[:, None], labels)[0, 0])


def train_heads(
    features: Float[np.ndarray, "record layer feature"],
    labels: Integer[np.ndarray, " record"],
    rates: Float[np.ndarray, "layer rate"],
    *,
    steps: int = SGDConfig.steps,
    batch_size: int = SGDConfig.batch_size,
    whiten: bool = True,
    seed: int = 0,
    device: str = "cpu",
) -> list[list[Head]]:
    """Return a trained head for every layer and learning rate.

    Args:
        features: Of some layers; may lie on disk.
        labels: Any integers.
        rates: A head each.
        steps: As in `SGDConfig`; so are the next two.
        batch_size: Each epoch's last incomplete batch is left out.
        whiten: Takes two more passes over the features.
        seed: Draws the order of the records, which all heads see in the same batches.
        device: Where the heads are trained.

    Raises:
        ConfigError: A rate is not positive, or there is no step or no record in a batch.
    """
    SGDConfig(learning_rates=tuple(rates.flatten().tolist()), steps=steps, batch_size=batch_size)
    records, layers, width = features.shape
    size = min(batch_size, records)
    classes, targets = np.unique(labels, return_inverse=True)
    mean = torch.zeros(layers, width, dtype=torch.float64, device=device)
    whitening = torch.eye(width, dtype=torch.float64, device=device).expand(layers, width, width)
    if whiten:
        mean, whitening = _whitening(features, device)
    center, stretch = mean.float()[:, None], whitening.float()
    peak = torch.tensor(rates, dtype=torch.float32, device=device)[:, :, None, None]
    heads = torch.zeros(*rates.shape, len(classes), width + 1, device=device)
    velocity = torch.zeros_like(heads)
    for step in tqdm(range(steps), desc="heads", unit="step", leave=False, disable=None):
        part = records_at_step(step, records=records, batch_size=size, seed=seed)
        x = _by_layer(features[part], device)  # (layer, batch, feature)
        if whiten:
            x = (x - center) @ stretch.mT
        x = torch.nn.functional.pad(x, (0, 1), value=1.0)
        logits = x @ heads.flatten(1, 2).mT  # one product a layer, for all of its heads
        slope = logits.unflatten(2, heads.shape[1:3]).transpose(1, 2).softmax(dim=-1)
        slope[:, :, torch.arange(size), torch.from_numpy(targets[part])] -= 1
        gradient = slope.mT @ x[:, None] / size  # (layer, rate, class, feature + 1)
        velocity.mul_(MOMENTUM).add_(gradient)
        heads -= peak * (0.5 * (1 + math.cos(math.pi * step / steps))) * velocity
    weight = heads[..., :-1].double() @ whitening[:, None]
    bias = heads[..., -1].double() - torch.einsum("lrcf,lf->lrc", weight, mean)
    return [
        [Head(weight[layer, rate], bias[layer, rate], classes) for rate in range(rates.shape[1])]
        for layer in range(layers)
    ]


def score_heads(
    heads: Sequence[Sequence[Head]],
    features: Float[np.ndarray, "record layer feature"],
    labels: Integer[np.ndarray, " record"],
) -> Float64[np.ndarray, "layer rate"]:
    """Return how often each head is right, in one pass over the features."""
    right = np.zeros((len(heads), len(heads[0])))
    for part, likeliest in _likeliest(heads, features):
        right += (likeliest == labels[part][None, :, None]).sum(axis=1)
    return right / len(labels)


def _likeliest(
    heads: Sequence[Sequence[Head]], features: Float[np.ndarray, "record layer feature"]
) -> Iterator[tuple[slice, Integer[np.ndarray, "layer part rate"]]]:
    """Yield some records after others, and what each head takes them for."""
    classes = heads[0][0].classes
    weight = torch.stack([torch.cat([head.weight for head in row]) for row in heads])
    bias = torch.stack([torch.cat([head.bias for head in row]) for row in heads])
    for first in range(0, len(features), _CHUNK):
        part = slice(first, first + _CHUNK)
        x = _by_layer(features[part], str(weight.device)).double()
        logits = (x @ weight.mT + bias[:, None]).unflatten(2, (-1, len(classes)))
        yield part, classes[logits.argmax(dim=-1).cpu().numpy()]


def _whitening(
    features: Float[np.ndarray, "record layer feature"], device: str
) -> tuple[Float64[Tensor, "layer feature"], Float64[Tensor, "layer feature feature"]]:
    """Return each layer's mean, and the map that gives centered features a variance of one.

    What varies less than a small part of the total variance is stretched no further than that.
    """
    chunks = range(0, len(features), _CHUNK)

    def read(first: int) -> Float64[Tensor, "layer record feature"]:
        return _by_layer(features[first : first + _CHUNK], device).double()

    mean = sum(read(first).sum(dim=1) for first in chunks) / len(features)
    assert isinstance(mean, Tensor)
    covariance = torch.zeros(*mean.shape, mean.shape[1], dtype=torch.float64, device=device)
    for first in chunks:
        centered = read(first) - mean[:, None]
        covariance += centered.mT @ centered / len(features)
    variances, axes = torch.linalg.eigh(covariance)
    total = variances.sum(dim=1, keepdim=True)
    floor = torch.where(total > 0, _FLOOR * total, 1.0)
    stretched = (variances.clamp(min=0) + floor).rsqrt()
    return mean, stretched[:, :, None] * axes.mT


def _by_layer(
    features: Float[np.ndarray, "batch layer feature"], device: str
) -> Float32[Tensor, "layer batch feature"]:
    # a copy, as those of a file may not be written to, and PyTorch warns of such
    rows = np.array(features.swapaxes(0, 1), dtype=np.float32, order="C")
    return torch.from_numpy(rows).to(device)
