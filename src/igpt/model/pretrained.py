"""A model's folder: weights, shape and palette, which mean nothing without one another.

    model/
    ├── model.safetensors   the weights, by the names of `ImageGPT`
    ├── config.json         shape of the network; classes, if it has a class head; checksums
    ├── palette.npy         the colors its tokens stand for
    └── probe/              where igpt convert or push took it along, the kept probe of a layer

`config.json` keeps the checksums of the other two and of itself, and loading checks them: a damaged
model is never computed with, nor one that was put together from two. Weights that were saved in
bfloat16, in half the space, are computed with in float32. The folder can be loaded from
anywhere and by anybody; a run's own resumption needs more, which is `igpt.training.state`'s
business.
"""

import dataclasses
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from igpt.errors import CheckpointError, ConfigError
from igpt.files import digest, read_json, write_json, written_aside
from igpt.model.class_head import MappedHead, fold
from igpt.model.classes import BATCH, Classified, Classifier, StoredImages
from igpt.model.config import MASK_PROBABILITY, AskedObjective, ModelConfig, ObjectiveName
from igpt.model.description import (
    CONFIG,
    MODEL_FILES,
    PALETTE,
    WEIGHTS,
    ModelDescription,
    identity_of,
    read_description,
)
from igpt.model.kept_probe import PROBE, KeptProbe
from igpt.model.transformer import ImageGPT
from igpt.model.weights import read_tensors, require_finite, require_matching, write_tensors
from igpt.paths import AnyPath
from igpt.pixels.palette import Palette
from igpt.pixels.preparation import AnyImage, Preparation
from igpt.pixels.tokenizer import ImageTokenizer
from igpt.seals import crc32c, sealed
from igpt.values import to_dict

ONE_POSITION_OFF = (
    "transformers feeds a classifier no start embedding, so that each pixel is one position off "
    "and probabilities differ a little from igpt's"
)
"""What is to be said of a class head that goes to `transformers` or comes from there."""


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
    """How many pixels BERT hides in training, and fine-tuning of any network that is not causal."""
    objective: AskedObjective = "auto"
    """What it was trained by; see `learned_by`."""
    identity: str = ""
    """Sixteen hexadecimal digits that tell this model from others, if it was loaded from a folder
    of igpt's own and not trained since; or else empty."""
    probe_folder: Path | None = None
    """Where a probe of its features was kept, if it was loaded from a folder that has one."""

    def __post_init__(self) -> None:
        """Reject a palette, an order or an objective that are not this network's."""
        self.tokenizer.require_network(self.model.config.colors, self.model.config.order)
        self.model.config.objective(self.objective)

    @classmethod
    def build(
        cls,
        config: ModelConfig,
        palette: Palette,
        *,
        mask_probability: float = MASK_PROBABILITY,
        objective: AskedObjective = "auto",
        preparation: Preparation | None = None,
    ) -> "Pretrained":
        """Return a network with fresh weights for this palette.

        Args:
            config: Its shape.
            palette: The colors its tokens stand for.
            mask_probability: How many pixels are hidden in training, if it is not causal.
            objective: What it is trained by.
            preparation: How the images that it will learn from were made ready.

        Raises:
            ConfigError: The palette has other colors than the network, or it cannot learn so.
        """
        return cls(
            model=ImageGPT(config).eval(),
            tokenizer=ImageTokenizer(palette, config.image_size, preparation, order=config.order),
            mask_probability=mask_probability,
            objective=objective,
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
            CheckpointError: A weight is missing, unknown or of another shape, or holds NaN or
                infinity.
            ConfigError: The palette has another number of colors than the network.
        """
        held, wanted = sum(map(Tensor.numel, weights.values())), config.parameters
        if wanted > held or config.layers > len(weights):  # before a network of that size is built
            raise CheckpointError(
                f"{path} holds {held:,} weights, but this network needs {wanted:,}, in "
                f"{config.layers:,} layers; is it from another configuration?"
            )
        with torch.device("meta"):
            model = ImageGPT(config, classes=len(class_names) if class_names else None)
        require_matching(path, weights, model.state_dict())
        require_finite(path, weights)
        model.load_state_dict(weights, assign=True)
        if config.tied:  # a file has it twice, and each has become a tensor of its own
            model.color_head.weight = model.token_embedding
        return cls(
            model=model.requires_grad_(True).eval(),
            tokenizer=ImageTokenizer(palette, config.image_size, order=config.order),
            class_names=class_names,
        )

    @property
    def learned_by(self) -> ObjectiveName:
        """The objective that the network was trained by."""
        return self.model.config.objective(self.objective)

    @property
    def palette(self) -> Palette:
        """The colors that tokens stand for."""
        return self.tokenizer.palette

    def classifier(self) -> Classifier:
        """Return what names classes: the class head, or else the probe that was kept.

        Raises:
            CheckpointError: The probe is damaged, or of an earlier model.
            ConfigError: There is neither.
        """
        if self.class_names is not None:
            return Classifier(
                model=self.model,
                tokenizer=self.tokenizer,
                class_names=self.class_names,
                layer=self.model.config.check_layer(self.class_layer),
            )
        probe = self.kept_probe()
        if probe is None:
            raise ConfigError(
                "the model has neither a class head nor a kept probe, and cannot name classes; fit "
                "one: igpt probe RUN --data STORE, or igpt finetune RUN --data STORE --out NEW"
            )
        return Classifier(
            model=self.model,
            tokenizer=self.tokenizer.prepared(probe.preparation),
            class_names=probe.class_names,
            layer=probe.layer,
            probe=probe,
        )

    def kept_probe(self) -> KeptProbe | None:
        """Return the probe of its features that was kept; None if none was.

        Raises:
            CheckpointError: It is damaged, or of an earlier model.
        """
        if self.probe_folder is None:
            return None
        probe = KeptProbe.load(self.probe_folder)
        if probe.model != self.identity or probe.weight.shape[1] != self.model.config.width:
            raise CheckpointError(
                f"{self.probe_folder} is a probe of another model than the one beside it, which "
                "was trained on since; fit it again with igpt probe"
            )
        return probe

    def classify(
        self, images: AnyImage | Iterable[AnyImage] | StoredImages, *, batch_size: int = BATCH
    ) -> list[Classified]:
        """Return what each image is taken for; see `Classifier.classify`.

            for found in igpt.load("runs/a").classify(["cat.jpg", "dog.png"]):
                print(found.file, found.class_name, found.probability)

        Args:
            images: Files, images of Pillow's, uint8 arrays of any size, or records of a store.
            batch_size: Images at a time, which bounds the memory.

        Raises:
            CheckpointError: The kept probe is damaged, or of an earlier model.
            ConfigError: There is neither a class head nor a kept probe.
            DataError: One is no image, or the records are not the network's to read.
        """
        return self.classifier().classify(images, batch_size=batch_size)

    def prepared(self, preparation: Preparation) -> "Pretrained":
        """Return the same for images that are made ready in this way."""
        return dataclasses.replace(self, tokenizer=self.tokenizer.prepared(preparation))

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
        return dataclasses.replace(
            self, model=model, class_names=class_names, class_layer=layer, identity="",
            probe_folder=None,
        )  # fmt: skip

    def save(
        self,
        folder: AnyPath,
        *,
        exclusive: bool = False,
        probe: KeptProbe | None = None,
        weights: dict[str, Tensor] | None = None,
        half: bool = False,
    ) -> None:
        """Write the model folder, whole or not at all.

        Args:
            folder: Where.
            exclusive: Write in place of none.
            probe: A kept probe of this very network to go with it.
            weights: Its weights at another time, or from another place; by default those it has.
            half: Round them to bfloat16, of which each takes half the space.

        Raises:
            DataError: The disk is full, or the place cannot be written to, or is taken.
        """
        weights = fold(self.model.state_dict() if weights is None else weights)
        if half:
            weights = {name: weight.bfloat16() for name, weight in weights.items()}
        with written_aside(Path(folder), exclusive=exclusive) as aside:
            aside.mkdir()
            write_tensors(aside / WEIGHTS, weights)
            self.palette.save(aside / PALETTE)
            settings = ModelDescription(
                model=self.model.config,
                class_names=self.class_names,
                class_layer=self.class_layer,
                mask_probability=self.mask_probability,
                objective=self.learned_by,
                preparation=known if (known := self.tokenizer.preparation).size else None,
                sha256={name: digest(aside / name) for name in MODEL_FILES},
                crc32c=crc32c(aside / WEIGHTS),
            )
            values = sealed(to_dict(settings))
            write_json(aside / CONFIG, values)
            if probe is not None:
                of_this = dataclasses.replace(probe, model=identity_of(aside, values))
                of_this.save(aside / PROBE)


def load_folder(folder: Path, *, device: torch.device | str = "cpu") -> Pretrained:
    """Load what `Pretrained.save` wrote; `igpt.formats.load.load` loads other kinds too.

    Raises:
        CheckpointError: What is there is broken, was changed or does not fit together.
        ConfigError: The palette has another number of colors than the network.
    """
    values, settings = read_description(folder)
    palette, weights = Palette.load(folder / PALETTE), read_tensors(folder / WEIGHTS)
    changed = None
    if settings.sha256 and digest(folder / PALETTE) != settings.sha256.get(PALETTE):
        changed = PALETTE
    if settings.crc32c not in (None, crc32c(folder / WEIGHTS)):
        changed = WEIGHTS
    if changed and read_json(folder / CONFIG) != values:
        return load_folder(folder, device=device)  # a training has just put a newer model there
    if changed:
        raise CheckpointError(
            f"{folder / changed} was changed since the model was saved (its checksum differs); "
            "copy the folder again, or go back to another checkpoint"
        )
    weights = {
        name: weight.float() if weight.dtype == torch.bfloat16 else weight
        for name, weight in weights.items()
    }
    pretrained = Pretrained.from_weights(
        settings.model, weights, palette, class_names=settings.class_names, path=folder / WEIGHTS
    )
    model = pretrained.model.to(device)
    if not values.get("class_reads_start", True):
        warnings.warn(
            f"{folder} has a class head that was trained elsewhere: {ONE_POSITION_OFF}",
            stacklevel=2,
        )
    if not model.classes and not model.color_head.weight.any():
        warnings.warn(
            f"{folder} has a color head of zeros, as where it came from had none: it predicts no "
            "pixels",
            stacklevel=2,
        )
    return dataclasses.replace(
        pretrained,
        tokenizer=pretrained.tokenizer.prepared(settings.preparation),
        class_layer=settings.class_layer,
        mask_probability=settings.mask_probability,
        objective=settings.objective,
        identity=identity_of(folder, values),
        probe_folder=_probe_of(folder),
    )


def _probe_of(folder: Path) -> Path | None:
    """Return where a probe of this model was kept: in its folder, or in that of its run."""
    run = (folder.parent / PROBE,) if (folder.parent / "recipe.json").is_file() else ()
    return next((probe for probe in (folder / PROBE, *run) if probe.is_dir()), None)
