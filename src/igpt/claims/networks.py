"""What claims compare: trained networks, and what is known of them.

They are made by `igpt.claims.trained`.
"""

from dataclasses import dataclass

from igpt.runs.run import RunFolder


@dataclass(frozen=True, kw_only=True)
class Network:
    """A pretrained network, as most claims compare it."""

    weights: int
    learning_rate: float
    nats_per_pixel: float
    """On test images; if it diverged, that of a uniform guess."""
    test_accuracy: float
    """Of the best layer's probe; if it diverged, that of chance."""
    under_plateau: float | None
    """Nats that it came below the scale's plateau; None where there is none to see."""
    edge: bool
    """Whether the best layer's penalty lies at the edge of the probe's grid."""
    diverged: str | None = None
    """What became of it, if it diverged."""


@dataclass(frozen=True, kw_only=True)
class Finetuned:
    """A finished fine-tuning run, and what is known of it."""

    run: RunFolder
    test_accuracy: float
    validation_accuracy: float | None
    """None where validation images were learned from."""
    best_step: int
    """Updates after which the weights were kept."""
