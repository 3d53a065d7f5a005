"""The authors' released checkpoints (openai/image-gpt), read as our network.

    pretrained = read_tensorflow(Path("model.ckpt-1000000"), palette=Path("kmeans_centers.npy"))

Their variables hold the very numbers of ours under other names and in other shapes: a projection is
(head, width / head, width) or (inputs, outputs). A checkpoint without `sos` is one of BERT's. How
the files are laid out on the disk is `igpt.formats.tensorflow_checkpoint`'s business.

Source: openai/image-gpt, src/model.py (names and shapes), src/run.py (the class head is not saved).
"""

import re
from pathlib import Path

import torch
from torch import Tensor

from igpt.errors import CheckpointError, DataError
from igpt.formats.tensorflow_checkpoint import TensorFlowCheckpoint
from igpt.model.config import ModelConfig
from igpt.model.pretrained import (
    Pretrained,
    build_with_weights,
    require_palette,
    shape_of,
    told_heads,
)
from igpt.model.weights import widened
from igpt.pixels.palette import Palette
from igpt.pixels.tokenizer import ImageTokenizer

_OF_TRAINING = re.compile(r"(?!model/)|.*/Adam(_1)?$")  # steps counted, an optimizer's moments


def read_tensorflow(
    prefix: Path, *, palette: Path | None, heads: int | None = None, widen: bool = False
) -> Pretrained:
    """Return the network in a TensorFlow checkpoint.

    Args:
        prefix: The checkpoint's path without `.index`; what `TensorFlowCheckpoint.open` takes.
        palette: The released `kmeans_centers.npy`; the checkpoint does not hold the palette.
        heads: Number of attention heads, to be checked: the projections' shape tells it.
        widen: Accept float16 and bfloat16 weights, as float32.

    Raises:
        CheckpointError: The checkpoint is damaged, or is none of an iGPT.
        DataError: No palette is given, or it is broken.
    """
    if palette is None:
        raise DataError(
            f"{prefix} is a TensorFlow checkpoint, and those do not hold their palette; convert it "
            f"first, igpt convert {prefix} FOLDER --palette kmeans_centers.npy"
        )
    colors = Palette.load(palette)
    checkpoint = TensorFlowCheckpoint.open(prefix)
    names = [name for name in checkpoint.shapes if not _OF_TRAINING.match(name)]
    config = _config(prefix, {name: checkpoint.shapes[name] for name in names}, heads)
    require_palette(colors, config, prefix)
    ours = _our_weights(prefix, checkpoint, names, config, widen=widen)
    classes = class_names = None
    if "class_head.weight" in ours:
        classes = len(ours["class_head.weight"])
        class_names = tuple(str(number) for number in range(classes))
    return Pretrained(
        model=build_with_weights(config, ours, classes=classes, path=prefix),
        tokenizer=ImageTokenizer(colors, config.image_size),
        class_names=class_names,
    )


def _config(prefix: Path, shapes: dict[str, tuple[int, ...]], heads: int | None) -> ModelConfig:
    for name in ("model/wpe", "model/wte", "model/h0/attn/q_proj"):
        axes = 3 if name.endswith("_proj") else 2
        if len(shapes.get(name, ())) != axes:
            raise CheckpointError(
                f"{prefix} has no variable {name!r} of {axes} axes; is it an iGPT's?"
            )
    colors, width = shapes["model/wte"]
    layers = len({match[1] for name in shapes if (match := re.match(r"model/h(\d+)/", name))})
    return shape_of(
        prefix,
        positions=shapes["model/wpe"][0],
        colors=colors,
        layers=layers,
        width=width,
        heads=told_heads(prefix, shapes["model/h0/attn/q_proj"][0], heads),
        causal="model/sos" in shapes,
    )


def _our_weights(
    prefix: Path,
    checkpoint: TensorFlowCheckpoint,
    names: list[str],
    config: ModelConfig,
    *,
    widen: bool,
) -> dict[str, Tensor]:
    """Read, reshape and rename; what is missing or left over is told by its name in the file."""
    left = set(names)

    def take(name: str, *shape: int) -> Tensor:
        name = f"model/{name}"
        if name not in left:
            raise CheckpointError(f"{prefix} lacks the variable {name!r}; is it an iGPT's?")
        left.remove(name)
        found = checkpoint.shapes[name]
        if found != shape:
            raise CheckpointError(
                f"{prefix} holds {name!r} of shape {found}, where its other variables want "
                f"{shape}; is it of one piece?"
            )
        tensor = checkpoint.read(name)
        return widened(prefix, {name: tensor}, widen=widen)[name]

    colors, width, heads = config.colors, config.width, config.heads
    split = (heads, width // heads, width)
    ours = {
        "token_embedding": take("wte", colors, width),
        "color_head.weight": take("wtet", colors, width),
        "position_embedding": take("wpe", config.positions, width),
        "final_norm.gain": take("ln_f/g", width),
    }
    if config.causal:
        ours["start_embedding"] = take("sos", width)
    for layer in range(config.layers):
        place, block = f"h{layer}", f"blocks.{layer}"
        ours[f"{block}.attention_norm.gain"] = take(f"{place}/ln_1/g", width)
        ours[f"{block}.mlp_norm.gain"] = take(f"{place}/ln_2/g", width)
        # out[head, e] = sum over f of x[f] w[head, e, f]: the rows are already those of a Linear
        ours[f"{block}.attention.query_key_value.weight"] = torch.cat(
            [take(f"{place}/attn/{part}_proj", *split).reshape(width, width) for part in "qkv"]
        )
        # out[f] = sum over head, e of x[head, e] w[head, e, f]
        output = take(f"{place}/attn/c_proj", *split).reshape(width, width)
        ours[f"{block}.attention.output.weight"] = output.T.contiguous()
        inward = take(f"{place}/mlp/c_fc/w", width, 4 * width)
        ours[f"{block}.mlp.input.weight"] = inward.T.contiguous()
        outward = take(f"{place}/mlp/c_proj/w", 4 * width, width)
        ours[f"{block}.mlp.output.weight"] = outward.T.contiguous()
    if "model/clf/wclf" in left:
        ours["class_head.weight"] = take("clf/wclf", checkpoint.shapes["model/clf/wclf"][0], width)
    if left:
        raise CheckpointError(
            f"{prefix} holds the variable {min(left)!r}, which an iGPT does not have; is it of "
            "another network?"
        )
    return ours
