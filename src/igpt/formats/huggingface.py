"""Folders of Hugging Face `transformers`: its ImageGPT, read as ours, and ours, written as its own.

    pretrained = read_huggingface(Path("imagegpt-small"))
    write_huggingface(pretrained, Path("exported"))     # AutoImageProcessor, generate, pipelines

The network is the same; what differs is the writing of it:

- projections lie transposed (its Conv1D multiplies from the right) and have biases. Biases that are
  all zero, as in everything converted from the released weights, are left out; others are kept,
  with `ModelConfig.bias`;
- the start embedding is the last row of `wte`, token number `colors`;
- the palette is `clusters` in `preprocessor_config.json`;
- its classifier is fed pixels without a start token (`ONE_POSITION_OFF` says what that means).

Neither direction needs `transformers`. No code from a folder is run: weights are safetensors, or a
pickle of nothing but tensors. Fetching from the hub is `igpt.formats.hub`'s business.
"""

import pickle
import warnings
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from igpt.errors import CheckpointError, ConfigError, DataError
from igpt.files import read_json, write_json, written_aside
from igpt.formats.foreign import ForeignWeights
from igpt.model.config import ModelConfig
from igpt.model.pretrained import ONE_POSITION_OFF, Pretrained, build_with_weights
from igpt.model.weights import read_tensors, write_tensors
from igpt.pixels.palette import Palette
from igpt.pixels.tokenizer import ImageTokenizer

Head = Literal["colors", "classes"]
"""Which of the two heads a folder of `transformers` has; none of its networks has both."""

ARCHITECTURES: dict[Head, str] = {
    "colors": "ImageGPTForCausalImageModeling",
    "classes": "ImageGPTForImageClassification",
}
"""The network of `transformers` that has this head."""

WEIGHT_FILES = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
"""Names of files with weights; the first that is there is read. An index names shards."""

_PROJECTIONS = {
    "attn.c_attn": ("attention.query_key_value", 1, 3),
    "attn.c_proj": ("attention.output", 1, 1),
    "mlp.c_fc": ("mlp.input", 1, 4),
    "mlp.c_proj": ("mlp.output", 4, 1),
}
"""Their name to ours, and how many widths go in and come out."""
_NORMS = {"ln_1.weight": "attention_norm.gain", "ln_2.weight": "mlp_norm.gain"}
_BUFFERS = (".attn.bias", ".attn.masked_bias")  # causal masks, which old versions saved
_FIXED = {
    "activation_function": "quick_gelu",
    "layer_norm_epsilon": 1e-5,
    "scale_attn_weights": True,
    "scale_attn_by_inverse_layer_idx": False,
    "add_cross_attention": False,
    "tie_word_embeddings": False,
}
"""Settings that the released network fixes; a folder with others holds another network."""


def read_huggingface(
    folder: Path,
    *,
    palette: Path | None = None,
    heads: int | None = None,
    widen: bool = False,
) -> Pretrained:
    """Return the network, palette and class names in a folder that `transformers` saved.

    Args:
        folder: What `save_pretrained` of ImageGPTModel, ImageGPTForCausalImageModeling or
            ImageGPTForImageClassification wrote, with the image processor's file beside it.
        palette: File of the colors, if the processor's has none.
        heads: Number of attention heads, if `config.json` does not say.
        widen: Accept float16 and bfloat16 weights, as float32.

    Raises:
        CheckpointError: The folder holds another network, or is broken.
        ConfigError: The palette has another number of colors than the network.
        DataError: There is no palette.
    """
    settings = read_json(folder / "config.json")
    check_settings(settings, str(folder))
    path, tensors = _read_weights(folder)
    tensors = {
        name.removeprefix("transformer."): tensor
        for name, tensor in tensors.items()
        if not name.endswith(_BUFFERS)
    }
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    biased = any(bool(x.any()) for name, x in tensors.items() if name.endswith(".bias"))
    theirs = ForeignWeights(path, shapes, tensors.pop, widen=widen)
    config = _config(theirs, settings, biased=biased, heads=heads)
    ours = _our_weights(theirs, config)
    class_names = None
    if "class_head.weight" in ours:
        class_names = _class_names(settings, len(ours["class_head.weight"]))
        kept = settings.get("igpt")
        if not (kept and kept.get("class_reads_start", True)):  # igpt wrote that until 0.1.0
            warnings.warn(
                f"{path} has a class head that was trained elsewhere: {ONE_POSITION_OFF}",
                stacklevel=2,
            )
    classes = None if class_names is None else len(class_names)
    return Pretrained(
        model=build_with_weights(config, ours, classes=classes, path=path),
        tokenizer=ImageTokenizer(_palette(folder, palette), config.image_size),
        class_names=class_names,
    )


def check_settings(settings: dict[str, Any], source: str) -> None:
    """Check that a `config.json` describes the released network, in a shape that can be read.

    Raises:
        CheckpointError: It does not; `source` is named in the message.
    """
    if settings.get("model_type") != "imagegpt":
        raise CheckpointError(
            f"{source} holds a model of type {settings.get('model_type')!r}, and igpt reads "
            "'imagegpt' only; choose an ImageGPT folder"
        )
    inner, width = settings.get("n_inner"), settings.get("n_embd")
    inner_wanted = None if inner is None else 4 * width if isinstance(width, int) else inner
    for name, wanted in {**_FIXED, "n_inner": inner_wanted}.items():
        if settings.get(name, wanted) != wanted:
            raise CheckpointError(
                f"the config.json of {source} has {name}={settings[name]!r}, where the released "
                f"network has {wanted!r}; igpt has no such network"
            )
    for name, kind in (("n_head", int), ("id2label", dict), ("igpt", dict)):
        if not isinstance(settings.get(name), kind | None):
            raise CheckpointError(
                f"the config.json of {source} has {name}={settings[name]!r}, which is no "
                f"{'number' if kind is int else 'JSON object'}; restore it"
            )


def write_huggingface(pretrained: Pretrained, folder: Path, *, head: Head | None = None) -> Head:
    """Write a folder that `transformers` loads, and return the head it has.

    Beside the weights and `config.json` lies `preprocessor_config.json`, so that
    `AutoImageProcessor`, `generate` and the image-classification pipeline work on it. What
    `transformers` has no word for (biases that are there but zero, the initialization) stands in
    `config.json` under "igpt", for the way back.

    Args:
        pretrained: A causal network.
        folder: Made, whole or not at all.
        head: "classes" for ImageGPTForImageClassification, "colors" for
            ImageGPTForCausalImageModeling; by default the former if there is a class head.

    Raises:
        ConfigError: `transformers` cannot say what this network does.
    """
    model, config = pretrained.model, pretrained.model.config
    if not config.causal:
        raise ConfigError(
            "transformers' ImageGPT is always causal, and this network is not (BERT); "
            "share the igpt model folder instead"
        )
    head = head or ("classes" if model.classes else "colors")
    names = pretrained.class_names
    if head == "colors" and not model.color_head.weight.any():
        raise ConfigError(
            "the network's color head is all zero, as where it came from had none; export it with "
            "--head classes"
        )
    if head == "classes":
        if names is None:
            raise ConfigError("the network has no class head; export it with --head colors")
        if pretrained.class_layer not in (None, config.layers):
            raise ConfigError(
                f"the class head reads layer {pretrained.class_layer}, and transformers reads "
                "classes from the last; fine-tune on the last layer, or export with --head colors"
            )
    settings: dict[str, Any] = {
        "architectures": [ARCHITECTURES[head]],
        "model_type": "imagegpt",
        "vocab_size": config.colors + 1,
        "n_positions": config.positions,
        "n_embd": config.width,
        "n_layer": config.layers,
        "n_head": config.heads,
        "resid_pdrop": 0.0,
        "embd_pdrop": 0.0,
        "attn_pdrop": 0.0,
        "bos_token_id": config.colors,
        "dtype": "float32",
        **_FIXED,
        "igpt": {"bias": config.bias, "initialization": config.initialization},
    }
    if head == "classes":
        assert names is not None
        settings["id2label"] = {str(number): name for number, name in enumerate(names)}
        settings["label2id"] = {name: number for number, name in reversed([*enumerate(names)])}
    with written_aside(folder) as aside:
        aside.mkdir()
        write_json(aside / "config.json", settings)
        write_json(aside / "preprocessor_config.json", _processor(pretrained))
        write_tensors(
            aside / "model.safetensors",
            their_weights(model.state_dict(), config, head),
            metadata={"format": "pt"},  # transformers refuses the file without it
        )
    return head


def _processor(pretrained: Pretrained) -> dict[str, Any]:
    size = pretrained.model.config.image_size
    return {
        "image_processor_type": "ImageGPTImageProcessor",
        "clusters": pretrained.palette.colors.astype(np.float64).tolist(),
        "do_color_quantize": True,
        "do_normalize": True,
        "do_resize": True,
        "resample": 2,  # bilinear, theirs from the first; the published training's is not known
        "size": {"height": size, "width": size},
    }


def their_weights(weights: dict[str, Tensor], config: ModelConfig, head: Head) -> dict[str, Tensor]:
    """Return our weights by the names and in the shapes of `transformers`; or gradients of them."""
    theirs = {
        "transformer.wte.weight": torch.cat(
            [weights["token_embedding"], weights["start_embedding"][None]]
        ),
        "transformer.wpe.weight": weights["position_embedding"],
        "transformer.ln_f.weight": weights["final_norm.gain"],
    }
    for layer in range(config.layers):
        block, their_block = f"blocks.{layer}.", f"transformer.h.{layer}."
        for norm, gain in _NORMS.items():
            theirs[their_block + norm] = weights[block + gain]
        for projection, (name, _, _) in _PROJECTIONS.items():
            weight = weights[f"{block}{name}.weight"]
            bias = weights.get(f"{block}{name}.bias")
            theirs[f"{their_block}{projection}.weight"] = weight.T
            theirs[f"{their_block}{projection}.bias"] = (
                weight.new_zeros(len(weight)) if bias is None else bias
            )
    if head == "classes":
        theirs["score.weight"] = weights["class_head.weight"]
    else:
        theirs["lm_head.weight"] = weights["color_head.weight"]
    return theirs


def _config(
    theirs: ForeignWeights, settings: dict[str, Any], *, biased: bool, heads: int | None
) -> ModelConfig:
    """Read the shape off the weights; only the heads are not to be seen there."""
    tokens, width = theirs.shape("wte.weight", axes=2)
    kept = settings.get("igpt") or {}
    return theirs.config(
        positions=theirs.shape("wpe.weight", axes=2)[0],
        colors=tokens - 1,
        layers=theirs.layers(r"h\.(\d+)\."),
        width=width,
        heads=settings.get("n_head"),
        given_heads=heads,
        causal=True,
        bias=biased or kept.get("bias", False),
        initialization=kept.get("initialization", "released"),
    )


def _our_weights(theirs: ForeignWeights, config: ModelConfig) -> dict[str, Tensor]:
    """Rename and transpose."""
    colors, width = config.colors, config.width
    tokens = theirs.take("wte.weight", colors + 1, width)
    ours = {
        "token_embedding": tokens[:colors].clone(),
        "start_embedding": tokens[colors].clone(),
        "position_embedding": theirs.take("wpe.weight", config.positions, width),
        "final_norm.gain": theirs.take("ln_f.weight", width),
    }
    for layer in range(config.layers):
        block, their_block = f"blocks.{layer}.", f"h.{layer}."
        for norm, gain in _NORMS.items():
            ours[block + gain] = theirs.take(their_block + norm, width)
        for projection, (name, inward, outward) in _PROJECTIONS.items():
            weight = theirs.take(
                f"{their_block}{projection}.weight", inward * width, outward * width
            )
            bias = theirs.take(f"{their_block}{projection}.bias", outward * width)
            ours[f"{block}{name}.weight"] = weight.T.contiguous()
            if config.bias:
                ours[f"{block}{name}.bias"] = bias
    if "lm_head.weight" in theirs.left:
        ours["color_head.weight"] = theirs.take("lm_head.weight", colors, width)
    else:
        warnings.warn(
            f"{theirs.path} has no color head (lm_head), so the network's starts at zero: its "
            "features and classes are as trained, but it predicts no pixels",
            stacklevel=3,
        )
        ours["color_head.weight"] = torch.zeros(colors, width)
    if "score.weight" in theirs.left:
        classes, _ = theirs.shape("score.weight", axes=2)
        ours["class_head.weight"] = theirs.take("score.weight", classes, width)
    theirs.require_all_taken()
    return ours


def _class_names(settings: dict[str, Any], classes: int) -> tuple[str, ...]:
    """Return the names in `config.json`, or the class numbers, as `transformers` has them."""
    names = settings.get("id2label") or {}
    return tuple(str(names.get(str(number), f"LABEL_{number}")) for number in range(classes))


def _palette(folder: Path, given: Path | None) -> Palette:
    path = folder / "preprocessor_config.json"
    clusters = read_json(path).get("clusters") if path.is_file() else None
    if clusters is None and given is None:
        raise DataError(
            f"{folder} has no palette (clusters in preprocessor_config.json); give the file with "
            "--palette"
        )
    if clusters is None:
        assert given is not None
        return Palette.load(given)
    try:
        palette = Palette(np.array(clusters, dtype=np.float32))
    except (DataError, ValueError, TypeError) as error:
        raise DataError(f"the clusters in {path} are no palette: {error}") from error
    if given is not None and Palette.load(given).fingerprint != palette.fingerprint:
        raise DataError(
            f"{folder} has a palette of its own, and {given} is another; leave out --palette"
        )
    return palette


def _read_weights(folder: Path) -> tuple[Path, dict[str, Tensor]]:
    """Return the file that was read, or the index of the shards that were, and every tensor."""
    path = next((folder / name for name in WEIGHT_FILES if (folder / name).is_file()), None)
    if path is None:
        raise CheckpointError(
            f"{folder} holds no weights ({', '.join(WEIGHT_FILES)}); is it a whole copy?"
        )
    files = [folder / name for name in shards_of(path)] if path.suffix == ".json" else [path]
    read = read_tensors if ".safetensors" in path.name else _read_pickle
    return path, {name: tensor for file in files for name, tensor in read(file).items()}


def shards_of(index: Path) -> list[str]:
    """Return the names of the files that an index of shards names.

    Raises:
        CheckpointError: It is no index, or names files elsewhere.
    """
    shards = read_json(index).get("weight_map")
    if not isinstance(shards, dict) or not shards:
        raise CheckpointError(f"{index} names no shards; copy it again")
    names = sorted({str(shard) for shard in shards.values()})
    for name in names:
        if Path(name).name != name:
            raise CheckpointError(f"{index} names a file outside its folder, {name!r}")
    return names


def _read_pickle(path: Path) -> dict[str, Tensor]:
    """Read a PyTorch file of nothing but tensors; anything that wants to run code is refused."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns of what it then refuses
            weights = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path} holds more than tensors, and reading it could run code; get the weights as "
            "safetensors"
        ) from error
    except Exception as error:  # the unpickler may fail in any way on a broken file
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise CheckpointError(
            f"{path} is no whole PyTorch file ({reason}); copy it again"
        ) from error
    if not isinstance(weights, dict) or not all(
        isinstance(name, str) and isinstance(weight, Tensor) for name, weight in weights.items()
    ):
        raise CheckpointError(f"{path} holds no named tensors; save the model's state_dict there")
    return weights
