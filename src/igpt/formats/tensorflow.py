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

from igpt.errors import DataError
from igpt.formats.foreign import ForeignWeights
from igpt.formats.tensorflow_checkpoint import TensorFlowCheckpoint
from igpt.model.config import ModelConfig
from igpt.model.pretrained import Pretrained
from igpt.pixels.palette import Palette

_SCOPE = "model/"
_OF_TRAINING = re.compile(rf"(?!{_SCOPE})|.*/Adam(_1)?$")  # steps counted, an optimizer's moments


def read_tensorflow(
    prefix: Path, *, palette: Path | None, heads: int | None = None, widen: bool = False
) -> Pretrained:
    """Return the network in a TensorFlow checkpoint.

    Args:
        prefix: The checkpoint's path without `.index`; what `TensorFlowCheckpoint.open` takes.
        palette: The released `kmeans_centers.npy`; the checkpoint does not hold the palette.
        heads: Number of attention heads, to be checked: the projections' shape shows it.
        widen: Accept float16 and bfloat16 weights, as float32.

    Raises:
        CheckpointError: The checkpoint is damaged, or is none of an image GPT.
        ConfigError: No network has its shape, or the palette another number of colors.
        DataError: No palette is given, or it is broken.
    """
    if palette is None:
        raise DataError(
            f"{prefix} is a TensorFlow checkpoint, and those do not hold their palette; convert it "
            f"first, igpt convert {prefix} FOLDER --palette kmeans_centers.npy"
        )
    colors = Palette.load(palette)
    return read_network(TensorFlowCheckpoint.open(prefix), colors, heads=heads, widen=widen)


def read_network(
    checkpoint: TensorFlowCheckpoint,
    palette: Palette,
    *,
    heads: int | None = None,
    widen: bool = False,
) -> Pretrained:
    """Return the network whose variables a checkpoint holds; arguments as in `read_tensorflow`."""
    shapes = {
        name.removeprefix(_SCOPE): shape
        for name, shape in checkpoint.shapes.items()
        if not _OF_TRAINING.match(name)
    }
    path = checkpoint.prefix
    theirs = ForeignWeights(path, shapes, lambda name: checkpoint.read(_SCOPE + name), widen=widen)
    colors, width = theirs.shape("wte", axes=2)
    layers = theirs.layers(r"h(\d+)/")
    in_files, _, _ = theirs.shape("h0/attn/q_proj", axes=3)
    config = ModelConfig(
        image_size=theirs.image_size("wpe"),
        colors=colors,
        layers=layers,
        width=width,
        heads=theirs.heads(in_files, heads, layers=layers, width=width),
        causal="sos" in theirs.left,
    )
    ours = _our_weights(theirs, config)
    head = ours.get("class_head.weight")
    return Pretrained.from_weights(
        config,
        ours,
        palette,
        class_names=None if head is None else tuple(str(number) for number in range(len(head))),
        path=path,
    )


def _our_weights(theirs: ForeignWeights, config: ModelConfig) -> dict[str, Tensor]:
    """Read, reshape and rename."""
    take, width, heads = theirs.take, config.width, config.heads
    split = (heads, width // heads, width)
    ours = {
        "token_embedding": take("wte", config.colors, width),
        "color_head.weight": take("wtet", config.colors, width),
        "position_embedding": take("wpe", config.positions, width),
        "final_norm.gain": take("ln_f/g", width),
    }
    if config.causal:
        ours["start_embedding"] = take("sos", width)
    for layer in range(config.layers):
        block, their_block = f"blocks.{layer}", f"h{layer}"
        ours[f"{block}.attention_norm.gain"] = take(f"{their_block}/ln_1/g", width)
        ours[f"{block}.mlp_norm.gain"] = take(f"{their_block}/ln_2/g", width)
        # out[head, e] = sum over f of x[f] w[head, e, f]: the rows are already those of a Linear
        ours[f"{block}.attention.query_key_value.weight"] = torch.cat(
            [
                take(f"{their_block}/attn/{part}_proj", *split).reshape(width, width)
                for part in "qkv"
            ]
        )
        # out[f] = sum over head, e of x[head, e] w[head, e, f]
        output = take(f"{their_block}/attn/c_proj", *split).reshape(width, width)
        ours[f"{block}.attention.output.weight"] = output.T.contiguous()
        inward = take(f"{their_block}/mlp/c_fc/w", width, 4 * width)
        ours[f"{block}.mlp.input.weight"] = inward.T.contiguous()
        outward = take(f"{their_block}/mlp/c_proj/w", 4 * width, width)
        ours[f"{block}.mlp.output.weight"] = outward.T.contiguous()
    if "clf/wclf" in theirs.left:
        classes, _ = theirs.shape("clf/wclf", axes=2)
        ours["class_head.weight"] = take("clf/wclf", classes, width)
    theirs.require_all_taken()
    return ours
