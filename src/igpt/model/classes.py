"""Classes: what an image is taken for, by a network's class head or by a probe that was kept.

    classifier = pretrained.classifier()            # the head, or else the probe
    for found in classifier.classify(["cat.jpg", pillow_image, pixels]):
        print(found.file, found.class_name, f"{found.probability:.0%}")

Both read the mean over all positions of one layer's normalized state (Chen et al. 2020, section
2.4). Pixels of a BERT network are all shown. How an image becomes the square that the network reads
is the tokenizer's to say (`igpt.pixels.preparation`).
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Literal, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Float64, Int, Int64, UInt8
from scipy.special import softmax
from torch import Tensor

from igpt.model.kept_probe import KeptProbe
from igpt.model.transformer import ImageGPT
from igpt.pixels.preparation import AnyImage, as_images, name_of
from igpt.pixels.tokenizer import ImageTokenizer

BATCH = 64
"""Images that are read and classified at a time."""


@runtime_checkable
class StoredImages(Protocol):
    """Records of a store, as `igpt.data.store.Records` has them."""

    def __len__(self) -> int:
        """Count them."""
        ...

    @property
    def names(self) -> list[str]:
        """What each was made of; empty if they were made up."""
        ...

    def require_fit(self, image_size: int, palette: str) -> None:
        """Refuse them if a network of this size and palette cannot read them."""
        ...

    def squares(self, part: slice, image_size: int) -> UInt8[np.ndarray, "image size size 3"]:
        """Return some of them at this size."""
        ...


@dataclass(frozen=True, kw_only=True)
class Ranked:
    """A class, and how probable it is."""

    number: int
    """In the order of the classifier's `class_names`."""
    class_name: str
    probability: float


@dataclass(frozen=True, kw_only=True)
class Classified:
    """What one image is taken for."""

    file: str | None
    """Its path, or its name in a store; None of pixels without one."""
    class_name: str
    """The likeliest."""
    probability: float
    ranking: tuple[Ranked, ...]
    """All classes, the likeliest first. Two may have one name, where a model came with such."""


@dataclass(frozen=True, kw_only=True)
class Classifier:
    """A network, and what reads classes off one of its layers."""

    model: ImageGPT
    tokenizer: ImageTokenizer
    """Which makes images ready as those were that the classifier was fitted to."""
    class_names: tuple[str, ...]
    layer: int
    probe: KeptProbe | None = None
    """That reads the layer, if it is not the class head."""

    @property
    def kind(self) -> Literal["class head", "probe"]:
        """Which of the two it is."""
        return "class head" if self.probe is None else "probe"

    def classify(
        self, images: AnyImage | Iterable[AnyImage] | StoredImages, *, batch_size: int = BATCH
    ) -> list[Classified]:
        """Return what each image is taken for, in their order.

        Args:
            images: Files, images of Pillow's or uint8 arrays, of any size, as
                `ImageTokenizer.squares` takes and cuts them; or records of a store.
            batch_size: Images at a time, which bounds the memory.

        Raises:
            DataError: One is no image, or the records are not the network's to read.
        """
        return [
            found
            for names, squares in self._batches(images, batch_size)
            for found in self.classify_squares(squares, names)
        ]

    def _batches(
        self, images: AnyImage | Iterable[AnyImage] | StoredImages, batch_size: int
    ) -> Iterator[tuple[list[str | None], UInt8[np.ndarray, "_ size size 3"]]]:
        size = self.tokenizer.image_size
        if isinstance(images, StoredImages):
            images.require_fit(size, self.tokenizer.palette.fingerprint)
            known = images.names or [None] * len(images)
            for first in range(0, len(images), batch_size):
                part = slice(first, first + batch_size)
                yield list(known[part]), images.squares(part, size)
            return
        rest = iter(as_images(images))
        while some := list(islice(rest, batch_size)):
            yield [name_of(image) for image in some], self.tokenizer.squares(some)

    def classify_squares(
        self, squares: UInt8[np.ndarray, "image size size 3"], names: Sequence[str | None]
    ) -> list[Classified]:
        """Return what images of the network's size are taken for.

        Args:
            squares: Their pixels.
            names: Of each, where it has one.
        """
        found = []
        for name, row in zip(names, self.probabilities(squares).tolist(), strict=True):
            ranking = tuple(
                Ranked(number=index, class_name=self.class_names[index], probability=row[index])
                for index in np.argsort(np.negative(row), kind="stable").tolist()
            )
            best = ranking[0]
            found.append(
                Classified(
                    file=name,
                    class_name=best.class_name,
                    probability=best.probability,
                    ranking=ranking,
                )
            )
        return found

    @torch.inference_mode()
    def probabilities(
        self, squares: UInt8[np.ndarray, "image size size 3"]
    ) -> Float64[np.ndarray, "image label"]:
        """Return the probability of each class, in the order of `class_names`.

        A probe's are calibrated, if there were validation images to calibrate it on.
        """
        tokens = self.tokenizer.encode(squares).to(self.model.device)
        if self.probe is None:
            logits = class_logits(self.model, tokens, layer=self.layer).double().cpu().numpy()
            return softmax(logits, axis=1)
        return self.probe.predict_proba(pooled(self.model, tokens, self.layer))


@torch.inference_mode()
def pooled(
    model: ImageGPT, tokens: Int64[Tensor, "image position"], layer: int
) -> Float32[np.ndarray, "image width"]:
    """Return the features of one layer: the mean of its normalized state over all positions."""
    state = next(islice(model.states(tokens), layer, None))
    return state.mean(dim=1, dtype=torch.float32).cpu().numpy()


def class_logits(
    model: ImageGPT,
    tokens: Int[Tensor, "batch position"],
    *,
    layer: int | None = None,
    hidden: Bool[Tensor, "batch position"] | None = None,
) -> Float[Tensor, "batch label"]:
    """Return the class head's logits, read from `layer` (the last by default).

    Args:
        model: A network with a class head.
        tokens: The images, in raster order.
        layer: From 0 to L, as `ModelConfig.check_layer` counts them.
        hidden: Pixels whose color the network is not shown; for a network that is not causal.

    Raises:
        ConfigError: The network has no such layer.
    """
    states = model.states(tokens, hidden)
    return read_class(model, next(islice(states, model.config.check_layer(layer), None)))


def read_class(
    model: ImageGPT, state: Float[Tensor, "batch position width"]
) -> Float[Tensor, "batch label"]:
    """Return the class head's logits for a layer's state, in float32 whatever the rest is in."""
    assert model.class_head is not None, "a network without a class head"
    with torch.autocast(state.device.type, enabled=False):
        return model.class_head(state.mean(dim=1, dtype=torch.float32))
