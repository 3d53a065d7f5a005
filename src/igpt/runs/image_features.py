"""Images to features, as a transformer of scikit-learn's kind.

    classifier = make_pipeline(ImageGPTFeatures("runs/a", layer="best"), LinearProbe())
    classifier.fit(files, labels).predict(["photo.jpg"])

Images may be files, images that Pillow has open, or pixels. What features are is said in
`igpt.evaluation.features`, and how a layer comes to be the best in `igpt.evaluation.probe`. The
network itself is never fitted here: to `fit` is to load it and to settle on a layer. Copies and
pickles go without the network, and load it again when it is needed.
"""

import operator
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float32, UInt8
from PIL import Image
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from igpt.data.store import Records
from igpt.errors import CheckpointError, ConfigError, DataError
from igpt.evaluation.features import extract_features
from igpt.evaluation.probe import LayerProbes
from igpt.formats.load import load
from igpt.model.pretrained import Pretrained
from igpt.pixels.preparation import AnyImage, name_of
from igpt.pixels.tokenizer import ImageTokenizer
from igpt.processes import choose_device
from igpt.runs.kept import ALL
from igpt.runs.reuse import kept, run_at

_AT_ONCE = 1024  # images whose pixels are in memory at a time

_WANTED = (
    "paths of files, images that Pillow has open, or pixels as uint8 (image, height, width, 3)"
)


class ImageGPTFeatures(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """Features of images at a layer of a network, float32 (image, width).

    What scikit-learn calls `X` is a list of files' paths, of images that Pillow has open or of
    pixels, uint8 (height, width, 3), mixed at will; a NumPy array or a pandas Series of paths; or
    the pixels of all images, uint8 (image, height, width, 3). Each image is cut to its middle
    square and resized as those were that the network learned from. Rows of numbers are no images
    and refused.

    Attributes:
        layer_: The layer whose features these are.
        image_size_: Side of the network's images, in pixels.
        identity_: Tells the model from others (`Pretrained.identity`).
        pretrained_: Network and tokenizer; not there in an unpickled transformer until it is used.
    """

    layer_: int
    image_size_: int
    identity_: str
    pretrained_: Pretrained

    def __init__(
        self,
        model: Path | str = "openai/imagegpt-small",
        *,
        layer: int | Literal["best"] | None = None,
        batch_size: int | None = None,
        device: str = "auto",
    ) -> None:
        """Note the settings; whether they can be is seen when it is fitted.

        Args:
            model: A run, a model folder or a name on the Hugging Face hub.
            layer: From 0 to L; "best" for the one that `igpt probe` found best on the run's
                validation images; None for the middle one, near which the paper found the best.
            batch_size: Images that the network sees at a time; None for what suits the device.
            device: "cpu", "cuda", "cuda:1" and so on; "auto" for a GPU if there is one.
        """
        self.model = model
        self.layer = layer
        self.batch_size = batch_size
        self.device = device

    def fit(self, X: Any, y: Any = None) -> "ImageGPTFeatures":
        """Return this transformer with its network loaded; of the images, nothing is learned.

        Raises:
            CheckpointError: There is no model, or it is damaged.
            ConfigError: The network has no such layer, none of the run's was found best so far, or
                another setting cannot be.
            DataError: `X` is no list of images.
        """
        _listed(X)
        if self.batch_size is not None and operator.index(self.batch_size) < 1:
            raise ConfigError(f"batch_size must be 1 or more, got {self.batch_size}")
        pretrained = load(self.model, device=choose_device(self.device))
        self.layer_ = self._layer_of(pretrained)
        self.image_size_ = pretrained.model.config.image_size
        self.identity_ = pretrained.identity
        self.pretrained_ = pretrained
        self._n_features_out = pretrained.model.config.width
        return self

    def transform(self, X: Any) -> Float32[np.ndarray, "image width"]:
        """Return the features of each image.

        Raises:
            CheckpointError: The model has to be loaded again and is gone, or another is there.
            DataError: `X` is no list of images, or one of them cannot be read.
            sklearn.exceptions.NotFittedError: `fit` was not called.
        """
        check_is_fitted(self)
        images, pretrained = _listed(X), self._loaded()
        features = np.empty((len(images), self._n_features_out), dtype=np.float32)
        for first in range(0, len(images), _AT_ONCE):
            part = slice(first, first + _AT_ONCE)
            squares = [
                _square(image, number, pretrained.tokenizer)
                for number, image in enumerate(images[part], start=first)
            ]
            records = Records(name="given", images=np.stack(squares), labels=None, class_names=None)
            extracted = extract_features(
                pretrained, records, layers=[self.layer_], batch_size=self.batch_size
            )
            features[part] = extracted[:, 0]
        return features

    def _loaded(self) -> Pretrained:
        if "pretrained_" not in vars(self):
            pretrained = load(self.model, device=choose_device(self.device))
            if pretrained.identity != self.identity_:
                raise CheckpointError(
                    f"{self.model} holds another model than this transformer was fitted with; fit "
                    "it again, and what was fitted to its features"
                )
            self.pretrained_ = pretrained
        return self.pretrained_

    def _layer_of(self, pretrained: Pretrained) -> int:
        config = pretrained.model.config
        if self.layer is None:
            return config.layers // 2
        if self.layer != "best":
            try:
                return config.check_layer(operator.index(self.layer))
            except TypeError:
                raise ConfigError(
                    f"a layer is a number, 'best', or None for the middle, got {self.layer!r}"
                ) from None
        run = run_at(Path(self.model))
        probes, made_from = kept(run, "probe.json", LayerProbes) if run else (None, {})
        if probes is None or ALL not in made_from or made_from[ALL].model != pretrained.identity:
            raise ConfigError(
                f"{self.model} has not been probed as it is now, and that says which layer is the "
                "best; run igpt probe first, or give a layer"
            )
        return probes.best_layer

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in super().__getstate__().items() if k != "pretrained_"}

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()  # pyrefly: ignore[missing-attribute]
        tags.input_tags.two_d_array = False
        tags.input_tags.string = True
        tags.transformer_tags.preserves_dtype = []  # features are float32, whatever images are
        return tags


def _listed(X: Any) -> list[Any]:
    """Return images that can be counted and taken one by one.

    Raises:
        DataError: They are no list of images, as far as that can be seen without reading them.
    """
    if isinstance(X, str | bytes | Path | Image.Image):
        raise DataError(f"a list of images is wanted, got one, {X!r:.80}; put it into a list")
    if not hasattr(X, "ndim"):
        return list(X)
    array = np.asarray(X)
    if array.ndim == 1 and array.dtype.kind in "OUT":
        return array.tolist()
    if array.ndim == 4 and array.dtype == np.uint8 and array.shape[-1] == 3:
        return list(array)
    what = f"{array.dtype} of shape {array.shape}"
    if array.ndim == 2:
        what += ", rows of numbers that no longer tell what is beside what"
    raise DataError(f"images are {_WANTED}, got {what}; give them before they are flattened")


def _square(image: Any, number: int, tokenizer: ImageTokenizer) -> UInt8[np.ndarray, "size size 3"]:
    """Return an image as the network reads it."""
    if not isinstance(image, AnyImage):
        raise DataError(f"images are {_WANTED}, but image {number} is a {type(image).__name__}")
    name = name_of(image) or f"image {number}"
    return tokenizer.preparation.square(image, tokenizer.image_size, name=name)
