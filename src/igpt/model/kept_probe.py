"""A probe that is kept: the linear classifier of one layer, with all that it takes to use it.

    probe/
    ├── classifier.json         layer, classes, how it was fitted, how often it is right
    └── classifier.safetensors  weight (class, width) and intercept (class,), for features as they
                                come

    kept = KeptProbe.load(Path("runs/a/probe"))
    kept.predict_proba(features)    # of kept.layer, (image, width)

It is of one model and no other, and says of which: features of a network that was trained on mean
something else. Fitting it is the business of `igpt.evaluation.probe`.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Float64
from scipy.special import softmax

from igpt.errors import CheckpointError, ConfigError
from igpt.files import digest, read_json, write_json, written_aside
from igpt.model.weights import read_sealed, require_finite, write_sealed
from igpt.pixels.preparation import Preparation
from igpt.seals import sealed, unsealed
from igpt.values import from_dict, to_dict

PROBE = "probe"
"""The folder's name in a run, or in a model's folder that it was converted to."""

FORMAT = 1
_WEIGHTS, _SETTINGS = "classifier.safetensors", "classifier.json"
_TENSORS = ("weight", "intercept")


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """How far probabilities are what they say.

    The expected calibration error is the mean distance between how sure a classifier is and how
    often it is right, over the test images in bins of like sureness (Guo et al. 2017, "On
    Calibration of Modern Neural Networks", ICML). The log loss is the mean cross entropy, in nats.
    """

    temperature: float
    """By which logits are divided: above 1 the classifier was too sure, below 1 not enough."""
    images: int
    """Validation images that it was fitted to."""
    error_before: float
    """Expected calibration error of the plain probabilities."""
    error: float
    """The same at this temperature."""
    log_loss_before: float
    log_loss: float


@dataclass(frozen=True, kw_only=True)
class ProbeSettings:
    """What is known of a kept probe beside its weights."""

    layer: int
    class_names: tuple[str, ...]
    """Of the classes it tells apart: those that it saw images of."""
    penalty: float
    """On the squared weights; see `igpt.evaluation.logistic.LinearProbe`."""
    preparation: Preparation
    """How the images were made ready that it was fitted to."""
    validation_accuracy: float
    """Fitted to the training images alone."""
    test_accuracy: float
    """Of the very probe, fitted to training and validation images together."""
    test_right: int
    test_images: int
    calibration: Calibration
    model: str
    """`Pretrained.identity` of the model whose features it reads."""
    store: str
    """`RecordStore.identity` of the images."""


@dataclass(frozen=True, kw_only=True)
class _Kept:
    """What `classifier.json` holds."""

    format: int
    probe: ProbeSettings
    sha256: str
    """Of the file with the weights."""


@dataclass(frozen=True, kw_only=True)
class KeptProbe(ProbeSettings):
    """A linear classifier of one layer's features."""

    weight: Float64[np.ndarray, "label width"]
    intercept: Float64[np.ndarray, " label"]

    def decision_function(
        self, features: Float[np.ndarray, "image width"]
    ) -> Float64[np.ndarray, "image label"]:
        """Return the logits of each class, before any calibration."""
        return features.astype(np.float64) @ self.weight.T + self.intercept

    def predict_proba(
        self, features: Float[np.ndarray, "image width"]
    ) -> Float64[np.ndarray, "image label"]:
        """Return the calibrated probability of each class, in the order of `class_names`."""
        return softmax(self.decision_function(features) / self.calibration.temperature, axis=1)

    @property
    def settings(self) -> ProbeSettings:
        """All but the weights."""
        return ProbeSettings(
            **{name: value for name, value in vars(self).items() if name not in _TENSORS}
        )

    def save(self, folder: Path) -> None:
        """Write the folder, whole or not at all; an earlier probe there is replaced.

        Raises:
            DataError: The disk is full, or the place cannot be written to.
        """
        with written_aside(folder) as aside:
            aside.mkdir()
            tensors = {name: torch.from_numpy(getattr(self, name)) for name in _TENSORS}
            write_sealed(aside / _WEIGHTS, tensors)
            kept = _Kept(format=FORMAT, probe=self.settings, sha256=digest(aside / _WEIGHTS))
            write_json(aside / _SETTINGS, sealed(to_dict(kept)))

    @classmethod
    def load(cls, folder: Path) -> "KeptProbe":
        """Return what `save` wrote.

        Raises:
            CheckpointError: It is missing, damaged or of another igpt.
        """
        file, path = folder / _WEIGHTS, folder / _SETTINGS
        again = "fit it again with igpt probe"
        values = unsealed(read_json(path), path, error=CheckpointError)
        if values.get("format") != FORMAT:
            raise CheckpointError(
                f"{folder} is a probe of format {values.get('format')}, and this igpt reads format "
                f"{FORMAT}; {again}"
            )
        try:
            kept = from_dict(_Kept, values, name="a probe")
        except ConfigError as error:
            raise CheckpointError(f"{path} is no kept probe: {error}; {again}") from error
        tensors = read_sealed(file)
        shapes = {name: tensor.shape for name, tensor in tensors.items()}
        classes = len(kept.probe.class_names)
        fit = set(shapes) == set(_TENSORS) and shapes["intercept"] == (classes,)
        if not fit or digest(file) != kept.sha256 or shapes["weight"][0] != classes:
            raise CheckpointError(f"{file} and {path.name} do not belong together; {again}")
        require_finite(file, tensors)
        return cls(
            **vars(kept.probe),
            weight=tensors["weight"].double().numpy(),
            intercept=tensors["intercept"].double().numpy(),
        )
