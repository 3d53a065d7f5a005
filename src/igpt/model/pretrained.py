"""A model's folder: weights, shape and palette, which mean nothing without one another.

    model/
    ├── model.safetensors   the weights, by the names of `ImageGPT`
    ├── config.json         shape of the network; classes, if it has a class head
    └── palette.npy         the colors its tokens stand for

The folder can be loaded from anywhere and by anybody; a run's own resumption needs more, which is
`igpt.training.state`'s business.
"""

import dataclasses
import warnings
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from igpt.errors import CheckpointError, ConfigError
from igpt.files import read_json, write_json, written_aside
from igpt.model.class_head import MappedHead, fold
from igpt.model.config import MASK_PROBABILITY, ModelConfig
from igpt.model.transformer import ImageGPT
from igpt.model.weights import read_tensors, require_matching, write_tensors
from igpt.pixels.palette import Palette
from igpt.pixels.tokenizer import ImageTokenizer
from igpt.values import from_dict, to_dict

FORMAT = 1

ONE_POSITION_OFF = (
    "transformers feeds a classifier no start embedding, so that each pixel is one position off "
    "and probabilities differ a little from igpt's"
)
"""What is to be said of a class head that goes to `transformers` or comes from there."""


@dataclass(frozen=True, kw_only=True)
class _Settings:
    """What `config.json` says."""

    format: int = FORMAT
    model: ModelConfig
    class_names: tuple[str, ...] | None
    class_layer: int | None
    mask_probability: float = MASK_PROBABILITY


@dataclass(frozen=True, kw_only=True)
class Pretrained:
    """A network together with the tokenizer it was trained with.

    It comes in evaluation mode, without dropout; `igpt.training.loop` switches while it trains.
    """

    model: ImageGPT
    tokenizer: ImageTokenizer
    class_names: tuple[str, ...] | None = None
    """Names of the class head's classes, if it has one."""
    class_layer: int | None = None
    """Layer that the class head reads; None for the last."""
    mask_probability: float = MASK_PROBABILITY
    """How many pixels were hidden in training, if the network is not causal."""

    def __post_init__(self) -> None:
        """Reject a palette that the network's tokens cannot stand for."""
        colors, size = self.model.config.colors, self.palette.size
        if size != colors:
            raise ConfigError(
                f"the network has {colors} colors, but the palette has {size}; give the palette "
                f"it was trained with or, for a new network, set model.colors={size}"
            )

    @classmethod
    def build(
        cls, config: ModelConfig, palette: Palette, *, mask_probability: float = MASK_PROBABILITY
    ) -> "Pretrained":
        """Return a network with fresh weights for this palette.

        Raises:
            ConfigError: The palette has another number of colors than the network.
        """
        return cls(
            model=ImageGPT(config).eval(),
            tokenizer=ImageTokenizer(palette, config.image_size),
            mask_probability=mask_probability,
        )

    @classmethod
    def from_weights(
        cls,
        config: ModelConfig,
        weights: dict[str, Tensor],
        palette: Palette,
        *,
        class_names: tuple[str, ...] | None = None,
        path: Path,
    ) -> "Pretrained":
        """Return a network of this shape that uses these very tensors.

        Args:
            config: Its shape.
            weights: By the names of `ImageGPT`; they are not copied.
            palette: The colors its tokens stand for.
            class_names: Names of the class head's classes; None for a network without one.
            path: Where the weights came from, for messages.

        Raises:
            CheckpointError: A weight is missing, unknown or of another shape.
            ConfigError: The palette has another number of colors than the network.
        """
        with torch.device("meta"):
            model = ImageGPT(config, classes=len(class_names) if class_names else None)
        require_matching(path, weights, model.state_dict())
        model.load_state_dict(weights, assign=True)
        return cls(
            model=model.requires_grad_(True).eval(),
            tokenizer=ImageTokenizer(palette, config.image_size),
            class_names=class_names,
        )

    @property
    def palette(self) -> Palette:
        """The colors that tokens stand for."""
        return self.tokenizer.palette

    def with_class_head(
        self, class_names: tuple[str, ...], layer: int | None, head: MappedHead | None = None
    ) -> "Pretrained":
        """Return the same network with a class head, by default one that knows nothing yet."""
        model = ImageGPT(self.model.config, classes=len(class_names)).to(self.model.device).eval()
        weights = {
            name: weight
            for name, weight in self.model.state_dict().items()
            if not name.startswith("class_head.")
        }
        model.load_state_dict(weights, strict=False)
        if head is not None:
            model.class_head = head.to(self.model.device)
        return dataclasses.replace(self, model=model, class_names=class_names, class_layer=layer)

    def save(self, folder: Path) -> None:
        """Write the model folder, whole or not at all."""
        with written_aside(folder) as aside:
            aside.mkdir()
            write_tensors(aside / "model.safetensors", fold(self.model.state_dict()))
            self.palette.save(aside / "palette.npy")
            settings = _Settings(
                model=self.model.config,
                class_names=self.class_names,
                class_layer=self.class_layer,
                mask_probability=self.mask_probability,
            )
            write_json(aside / "config.json", to_dict(settings))


def load_folder(folder: Path, *, device: torch.device | str = "cpu") -> Pretrained:
    """Load what `Pretrained.save` wrote; `igpt.formats.load.load` loads other kinds too.

    Raises:
        CheckpointError: What is there is broken or does not fit together.
        ConfigError: The palette has another number of colors than the network.
    """
    path = folder / "config.json"
    values = read_json(path)
    if values.get("format") != FORMAT:
        raise CheckpointError(
            f"{folder} is of model format {values.get('format')}, but this igpt reads format "
            f"{FORMAT}; install the igpt that wrote it"
        )
    if not values.pop("class_reads_start", True):  # of heads from `transformers`, until 0.1.0
        warnings.warn(
            f"{folder} has a class head that was trained elsewhere: {ONE_POSITION_OFF}",
            stacklevel=2,
        )
    try:
        settings = from_dict(_Settings, values, name="a model's config")
    except ConfigError as error:
        raise CheckpointError(f"{path} is no model's config: {error}; copy it again") from error
    palette = Palette.load(folder / "palette.npy")
    path = folder / "model.safetensors"
    pretrained = Pretrained.from_weights(
        settings.model, read_tensors(path), palette, class_names=settings.class_names, path=path
    )
    model = pretrained.model.to(device)
    if not model.classes and not model.color_head.weight.any():
        warnings.warn(
            f"{folder} has a color head of zeros, as where it came from had none: it predicts no "
            "pixels",
            stacklevel=2,
        )
    return dataclasses.replace(
        pretrained, class_layer=settings.class_layer, mask_probability=settings.mask_probability
    )
