"""A model's folder: weights, shape and palette, which mean nothing without one another.

    model/
    ├── model.safetensors   the weights, by the names of `ImageGPT`
    ├── config.json         shape of the network; classes, if it has a class head
    └── palette.npy         the colors its tokens stand for

The folder can be loaded from anywhere and by anybody; a run's own resumption needs more, which is
`igpt.training.state`'s business.
"""

import dataclasses
import json
import math
import warnings
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float, UInt8
from numpy import ndarray
from torch import Tensor

from igpt.errors import CheckpointError, ConfigError
from igpt.files import write_json, written_aside
from igpt.model.config import MASK_PROBABILITY, Initialization, ModelConfig
from igpt.model.transformer import ImageGPT
from igpt.model.weights import read_tensors, require_matching, write_tensors
from igpt.pixels.palette import Palette
from igpt.pixels.tokenizer import ImageTokenizer

FORMAT = 1


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
    class_reads_start: bool = True
    """Whether the class head was trained on what pretraining sees, the start embedding first and
    the last pixel left out. Heads from `transformers` were not: there the start is never put."""
    mask_probability: float = MASK_PROBABILITY
    """How many pixels were hidden in training, if the network is not causal."""

    @classmethod
    def build(
        cls, config: ModelConfig, palette: Palette, *, mask_probability: float = MASK_PROBABILITY
    ) -> "Pretrained":
        """Return a network with fresh weights for this palette.

        Raises:
            ConfigError: The palette has another number of colors than the network.
        """
        if palette.size != config.colors:
            raise ConfigError(
                f"the network has {config.colors} colors, but the palette has {palette.size}; "
                f"give it {palette.size} colors, or fit a palette of {config.colors}"
            )
        return cls(
            model=ImageGPT(config).eval(),
            tokenizer=ImageTokenizer(palette, config.image_size),
            mask_probability=mask_probability,
        )

    @property
    def palette(self) -> Palette:
        """The colors that tokens stand for."""
        return self.tokenizer.palette

    @torch.inference_mode()
    def logits(
        self, images: UInt8[ndarray, "batch height width 3"]
    ) -> Float[Tensor, "batch position color"]:
        """Return the network's logits for images in pixels."""
        return self.model(self.tokenizer.encode(images).to(self.model.device))

    def with_class_head(self, class_names: tuple[str, ...], layer: int | None) -> "Pretrained":
        """Return the same network with a class head that knows nothing yet."""
        model = ImageGPT(self.model.config, classes=len(class_names)).to(self.model.device).eval()
        weights = {
            name: weight
            for name, weight in self.model.state_dict().items()
            if not name.startswith("class_head.")
        }
        model.load_state_dict(weights, strict=False)
        return dataclasses.replace(
            self, model=model, class_names=class_names, class_layer=layer, class_reads_start=True
        )

    def save(self, folder: Path) -> None:
        """Write the model folder, whole or not at all."""
        with written_aside(folder) as aside:
            aside.mkdir()
            write_tensors(aside / "model.safetensors", self.model.state_dict())
            self.palette.save(aside / "palette.npy")
            write_json(
                aside / "config.json",
                {
                    "format": FORMAT,
                    "model": self.model.config.to_dict(),
                    "class_names": self.class_names,
                    "class_layer": self.class_layer,
                    "class_reads_start": self.class_reads_start,
                    "mask_probability": self.mask_probability,
                },
            )


def load_folder(folder: Path, *, device: torch.device | str = "cpu") -> Pretrained:
    """Load what `Pretrained.save` wrote; `igpt.formats.load.load` loads other kinds too.

    Raises:
        CheckpointError: What is there is broken or does not fit together.
    """
    try:
        settings = json.loads((folder / "config.json").read_text())
        config = ModelConfig.from_dict(settings["model"])
        names, class_layer = settings["class_names"], settings["class_layer"]
        found = settings["format"]
        class_reads_start = settings.get("class_reads_start", True)
        mask_probability = settings.get("mask_probability", MASK_PROBABILITY)
    except (KeyError, TypeError, json.JSONDecodeError, ConfigError) as error:
        raise CheckpointError(f"{folder / 'config.json'} is no model's config: {error}") from error
    if found != FORMAT:
        raise CheckpointError(
            f"{folder} is of model format {found}, but this igpt reads format {FORMAT}; "
            "install the igpt that wrote it"
        )
    palette = Palette.load(folder / "palette.npy")
    beside = folder.parent / "palette.npy"
    if beside.is_file() and (of_run := Palette.load(beside)).fingerprint == palette.fingerprint:
        palette = of_run  # whose table of all colors need not be made again for each new model
    if palette.size != config.colors:
        raise CheckpointError(
            f"{folder} has a palette of {palette.size} colors, but its network has "
            f"{config.colors}; copy palette.npy again from where the model came from"
        )
    model = build_with_weights(
        config,
        read_tensors(folder / "model.safetensors"),
        classes=len(names) if names else None,
        path=folder / "model.safetensors",
    )
    if not names and not model.color_head.weight.any():
        warnings.warn(
            f"{folder} has a color head of zeros, as where it came from had none: it predicts no "
            "pixels",
            stacklevel=2,
        )
    return Pretrained(
        model=model.to(device),
        tokenizer=ImageTokenizer(palette, config.image_size),
        class_names=tuple(names) if names else None,
        class_layer=class_layer,
        class_reads_start=class_reads_start,
        mask_probability=mask_probability,
    )


def build_with_weights(
    config: ModelConfig, weights: dict[str, Tensor], *, classes: int | None, path: Path
) -> ImageGPT:
    """Return a network of this shape that uses these very tensors, in evaluation mode.

    Args:
        config: Its shape.
        weights: By the names of `ImageGPT`; they are not copied.
        classes: Number of classes of the class head; None for a network without one.
        path: Where the weights came from, for messages.

    Raises:
        CheckpointError: A weight is missing, unknown or of another shape.
    """
    with torch.device("meta"):
        model = ImageGPT(config, classes=classes)
    require_matching(path, weights, model.state_dict())
    model.load_state_dict(weights, assign=True)
    return model.requires_grad_(True).eval()


def require_palette(palette: Palette, config: ModelConfig, source: Path) -> None:
    """Check that the palette is as large as the network's embedding.

    Raises:
        CheckpointError: It is not.
    """
    if palette.size != config.colors:
        raise CheckpointError(
            f"the palette has {palette.size} colors, but the network in {source} has "
            f"{config.colors}; give the palette it was trained with, --palette "
            "kmeans_centers.npy"
        )


def told_heads(path: Path, told: int | None, heads: int | None) -> int | None:
    """Return the number of heads that the files or, where they are silent, the caller tells.

    Raises:
        CheckpointError: They contradict each other.
    """
    if told is not None and heads is not None and told != heads:
        raise CheckpointError(
            f"{path} tells of {told} heads itself, not {heads}; leave out --heads"
        )
    return told if heads is None else heads


def shape_of(
    path: Path,
    *,
    positions: int,
    colors: int,
    layers: int,
    width: int,
    heads: int | None,
    causal: bool,
    bias: bool = False,
    initialization: Initialization = "released",
) -> ModelConfig:
    """Return the config of weights whose sizes were read off them.

    Raises:
        CheckpointError: No network has them, or nothing tells the number of heads.
    """
    if heads is None:
        raise CheckpointError(
            f"nothing in {path} tells how many attention heads the network has, and {layers} "
            f"layers of width {width} are no published size; say so with --heads"
        )
    image_size = math.isqrt(positions)
    if image_size**2 != positions:
        raise CheckpointError(
            f"{path} has {positions} positions, which are no square image; igpt reads one "
            "position a pixel"
        )
    try:
        return ModelConfig(
            image_size=image_size,
            colors=colors,
            layers=layers,
            width=width,
            heads=heads,
            causal=causal,
            bias=bias,
            initialization=initialization,
        )
    except ConfigError as error:
        raise CheckpointError(f"{path} holds no network of igpt's: {error}") from error
