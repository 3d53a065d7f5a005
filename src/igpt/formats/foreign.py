"""Weights under somebody else's names, on their way to ours.

    theirs = ForeignWeights(path, shapes, read, widen=False)
    colors, width = theirs.shape("wte", axes=2)
    config = ModelConfig(image_size=theirs.image_size("wpe"), colors=colors, width=width, ...)
    ours = {"token_embedding": theirs.take("wte", colors, width), ...}
    theirs.require_all_taken()

The shape of the network is read off its weights; a file need only say what they do not show, the
number of heads. Which name means which of our weights is known to each format's own module. Every
message names the weight as its file does.
"""

import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor

from igpt.errors import CheckpointError
from igpt.model.config import SIZES


class ForeignWeights:
    """The weights of one network, by the names of its file; each is taken once."""

    def __init__(
        self,
        path: Path,
        shapes: Mapping[str, tuple[int, ...]],
        read: Callable[[str], Tensor],
        *,
        widen: bool,
    ) -> None:
        """Look at the weights; none is read before it is taken.

        Args:
            path: Where they come from, for messages.
            shapes: The shape of each by its name.
            read: Returns a weight by its name.
            widen: Accept float16 and bfloat16 weights, as float32.
        """
        self.path = path
        self.left = dict(shapes)
        self._read = read
        self._widen = widen

    def shape(self, name: str, *, axes: int) -> tuple[int, ...]:
        """Return the shape of a weight that shows sizes of the network.

        Raises:
            CheckpointError: There is no such weight with so many axes.
        """
        shape = self.left.get(name, ())
        if len(shape) != axes:
            raise CheckpointError(
                f"{self.path} has no weight {name!r} of {axes} axes; is it an image GPT's?"
            )
        return shape

    def layers(self, pattern: str) -> int:
        """Return how many layers there are; `pattern` finds the layer's number in a name.

        Raises:
            CheckpointError: There are weights of a layer and none of one below it.
        """
        found = {match[1] for name in self.left if (match := re.match(pattern, name))}
        for layer in range(len(found)):
            if str(layer) not in found:
                raise CheckpointError(
                    f"{self.path} has weights of {len(found)} layers, and none of layer {layer}; "
                    "is it a whole copy?"
                )
        return len(found)

    def image_size(self, name: str) -> int:
        """Return the side of the square image, by the shape of the position embedding.

        Raises:
            CheckpointError: There is none of that name, or its positions are no square.
        """
        positions, _ = self.shape(name, axes=2)
        size = math.isqrt(positions)
        if size**2 != positions:
            raise CheckpointError(
                f"{self.path} has {positions} positions, which are no square image; igpt reads one "
                "position a pixel"
            )
        return size

    def heads(self, in_files: int | None, given: int | None, *, layers: int, width: int) -> int:
        """Return the number of attention heads: the files', the user's or a published network's.

        Args:
            in_files: What the files say; None if nothing.
            given: What the user says; None if nothing.
            layers: Layers of the network.
            width: Its width.

        Raises:
            CheckpointError: Files and user contradict each other, or nobody knows.
        """
        if in_files is not None and given not in (None, in_files):
            raise CheckpointError(
                f"{self.path} says itself that there are {in_files} heads, not {given}; leave out "
                "--heads"
            )
        heads = in_files or given or published_heads(layers, width)
        if heads is None:
            raise CheckpointError(
                f"nothing in {self.path} says how many attention heads the network has, and "
                f"{layers} layers of width {width} are no published size; say so with --heads"
            )
        return heads

    def take(self, name: str, *shape: int) -> Tensor:
        """Return a weight, in float32, and cross it off.

        Raises:
            CheckpointError: It is missing, of another shape than `shape`, or neither float32 nor
                one that may be widened.
        """
        if name not in self.left:
            raise CheckpointError(f"{self.path} lacks {name!r}; is it a whole copy?")
        present = self.left.pop(name)
        if present != shape:
            raise CheckpointError(
                f"{self.path} holds {name!r} of shape {present}, where its other weights need "
                f"{shape}; were its files mixed with another model's?"
            )
        weight = self._read(name)
        half = weight.dtype in (torch.float16, torch.bfloat16)
        if weight.dtype != torch.float32 and not (half and self._widen):
            raise CheckpointError(
                f"{self.path} holds {name!r} in {str(weight.dtype).removeprefix('torch.')}, and "
                "igpt computes what it was trained for in float32"
                + ("; read it all the same, widened, with igpt convert --widen" if half else "")
            )
        return weight.float()

    def require_all_taken(self) -> None:
        """Check that no weight is left, since it would have had a part in the network.

        Raises:
            CheckpointError: One is.
        """
        if self.left:
            raise CheckpointError(
                f"{self.path} holds {min(self.left)!r}, which an image GPT does not have; is it "
                "another network's?"
            )


def published_heads(layers: int, width: int) -> int | None:
    """Return the heads of the published network of this shape, or None if there is none.

    The paper does not give those of iGPT-XL, so they are not known either.
    """
    for name, config in SIZES.items():
        if name != "igpt-xl" and (config.layers, config.width) == (layers, width):
            return config.heads
    return None
