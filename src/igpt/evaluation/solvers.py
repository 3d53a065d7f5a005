"""Solvers: the ways in which a probe's classifiers are fitted, and the settings to choose from.

    lbfgs       multinomial logistic regression, the paper's for small data
    sgd         linear heads of all layers side by side, the paper's for ImageNet
    ridge       least squares on one-hot classes
    neighbors   votes of the nearest records

The last two are scikit-learn's. They have a closed form or nothing to fit, so they say in seconds
what a layer is worth; their ranking of the layers is to be compared with that of the first. How a
setting is chosen is the same for all, and not decided here but in `igpt.evaluation.probe`.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, get_args, runtime_checkable

import numpy as np
from jaxtyping import Float
from sklearn.linear_model import RidgeClassifier
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from igpt.errors import ConfigError, nearest_name
from igpt.evaluation.logistic import PENALTIES, LinearProbe
from igpt.evaluation.sgd import SGDConfig, score_heads, train_heads

SolverName = Literal["lbfgs", "sgd", "ridge", "neighbors"]

SGD = SGDConfig()

NEIGHBORS = (1, 5, 10, 20, 50, 100)
"""Numbers of neighbors to choose from."""


@runtime_checkable
class Classifier(Protocol):
    """What is fitted to the features of one layer, with one setting."""

    def predict(self, features: Any, /) -> Any:
        """Return the likeliest label of each record, (record, feature)."""
        ...

    def score(self, features: Any, labels: Any, /) -> float | np.floating:
        """Return the share of the records, (record, feature), that it is right about."""
        ...


@dataclass(frozen=True, kw_only=True)
class Solver:
    """A way to fit classifiers, and the settings to choose from."""

    settings: tuple[float, ...]
    """Of equally good ones, the first is chosen."""
    fit: Callable[..., Iterable[Iterable[Classifier]]]
    """Features (record, layer, feature), labels, settings (layer, setting) and, of each layer, a
    classifier to start from or None, to fitted classifiers by layer and setting."""
    scaled: bool = False
    """Whether the settings are parts of the `total_variance` of each layer's features."""
    in_turn: bool = False
    """Whether the settings are fitted when they are asked for, and those left out that come after
    one clearly worse than the best."""
    limit: float | None = None
    """The setting beyond which there is none, and which is no edge therefore."""
    side_by_side: bool = False
    """Whether all layers are better fitted at once than one after another."""
    score: Callable[..., Float[np.ndarray, "layer setting"]] | None = None
    """Classifiers, features and labels to accuracies in one pass over the features; by default each
    classifier is asked for its own."""

    def __post_init__(self) -> None:
        """Reject what leaves no choice."""
        if not self.settings:
            raise ConfigError("a probe needs a setting or more to choose from, got none")


def lbfgs(penalties: Sequence[float] = PENALTIES, *, device: str = "cpu") -> Solver:
    """Return logistic regression, its penalties from the strongest to the weakest.

    Each fit starts from the one before, and the last from that on the training records alone.

    Args:
        penalties: On the weights for the features as they are, in parts of their total variance.
        device: Where the sums over the records are taken.

    Raises:
        ConfigError: There is no penalty, or, on fitting, one is not positive.
    """
    return Solver(
        settings=tuple(sorted(set(penalties), reverse=True)),
        scaled=True,
        in_turn=True,
        fit=_each_layer(
            lambda features, labels, settings, start: LinearProbe(device=device).fit_path(
                features, labels, settings, start=start
            )
        ),
    )


def sgd(config: SGDConfig = SGD, *, seed: int = 0, device: str = "cpu") -> Solver:
    """Return linear heads, from the highest rate on, trained as `igpt.evaluation.sgd` says."""
    return Solver(
        settings=tuple(sorted(set(config.learning_rates), reverse=True)),
        fit=lambda features, labels, rates, _: train_heads(
            features, labels, rates, steps=config.steps, batch_size=config.batch_size,
            whiten=config.whiten, seed=seed, device=device,
        ),
        score=score_heads,
        side_by_side=True,
    )  # fmt: skip


def ridge(penalties: Sequence[float] = PENALTIES) -> Solver:
    """Return ridge regression, its penalties from the strongest to the weakest.

    It minimizes the mean squared error plus the penalty times the sum of squared weights.

    Args:
        penalties: In parts of the features' total variance.

    Raises:
        ConfigError: There is no penalty, or one is not positive.
    """
    if not all(0 < penalty < math.inf for penalty in penalties):
        raise ConfigError(f"a ridge penalty is positive and finite, got {list(penalties)}")

    def fit(features: Any, labels: Any, settings: list[float], _: Any) -> Iterator[RidgeClassifier]:
        exact = np.asarray(features, dtype=np.float64)  # float32 loses the smaller variances
        # one-hot classes as -1 and 1; scikit-learn's objective is a sum over records, ours a mean
        for penalty in settings:
            yield RidgeClassifier(alpha=penalty * len(labels), solver="cholesky").fit(exact, labels)

    return Solver(
        settings=tuple(sorted(set(penalties), reverse=True)),
        scaled=True,
        in_turn=True,
        fit=_each_layer(fit),
    )


def neighbors(counts: Sequence[int] = NEIGHBORS) -> Solver:
    """Return the commonest class among so many of the nearest records.

    Near is by the cosine between features whose mean over the fitted records is zero and whose
    standard deviation is one; the raw features of different images all point the same way.

    Raises:
        ConfigError: There is no number of neighbors, or, on fitting, one is under 1 or more than
            the records.
    """

    def fit(features: Any, labels: Any, settings: list[float], _: Any) -> list[Any]:
        if not all(1 <= count <= len(labels) for count in settings):
            raise ConfigError(
                f"neighbors must lie between 1 and the {len(labels)} training records, got "
                f"{[int(count) for count in settings]}"
            )
        scaler = StandardScaler()
        scaled = scaler.fit_transform(features)  # all of them share it
        votes = [
            KNeighborsClassifier(int(count), metric="cosine", algorithm="brute")
            for count in settings
        ]
        return [make_pipeline(scaler, vote.fit(scaled, labels)) for vote in votes]

    return Solver(settings=tuple(float(count) for count in counts), limit=1.0, fit=_each_layer(fit))


def solver_named(
    name: str, *, records: int, sgd_config: SGDConfig = SGD, seed: int = 0, device: str = "cpu"
) -> Solver:
    """Return the solver of this name.

    Args:
        name: "lbfgs", "sgd", "ridge" or "neighbors".
        records: To be fitted to at first; no more neighbors are tried.
        sgd_config: How "sgd" trains its heads.
        seed: Draws the order of the records for "sgd".
        device: Where "lbfgs" and "sgd" work.

    Raises:
        ConfigError: There is none.
    """
    match name:
        case "lbfgs":
            return lbfgs(device=device)
        case "sgd":
            return sgd(sgd_config, seed=seed, device=device)
        case "ridge":
            return ridge()
        case "neighbors":
            return neighbors([count for count in NEIGHBORS if count <= records])
    raise ConfigError(f"there is no solver {name!r}{nearest_name(name, get_args(SolverName))}")


def _each_layer(fit: Callable[[Any, Any, list[float], Any], Iterable[Classifier]]) -> Any:
    """Return the fit of all layers, one after another, by that of one."""
    return lambda features, labels, settings, starts: (
        fit(features[:, layer], labels, settings[layer].tolist(), start)
        for layer, start in enumerate(starts)
    )
