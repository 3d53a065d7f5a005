"""Folders of Hugging Face `transformers`: its ImageGPT, read as ours, and ours, written as its own.

    pretrained = read_huggingface(Path("imagegpt-small"))
    write_huggingface(pretrained, Path("exported"))     # AutoImageProcessor, generate, pipelines

The network is the same; what differs is the writing of it:

- projections lie transposed (its Conv1D multiplies from the right) and have biases. Biases that are
  all zero, as in everything converted from the released weights, are left out; others are kept,
  with `ModelConfig.bias`;
- the start embedding is the last row of `wte`, token number `colors`;
- the palette is `clusters` in `preprocessor_config.json`;
- its classifier is fed pixels without a start token, so a class head from there is read that way
  (`Pretrained.class_reads_start`).

Neither direction needs `transformers`. No code from a folder is run: weights are safetensors, or a
pickle of nothing but tensors. Fetching from the hub is `igpt.formats.hub`'s business.
"""

import json
import pickle
import re
import warnings
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from igpt.errors import CheckpointError, ConfigError, DataError
from igpt.files import write_json, written_aside
from igpt.model.config import ModelConfig, published_heads
from igpt.model.pretrained import (
    Pretrained,
    build_with_weights,
    require_palette,
    shape_of,
    told_heads,
)
from igpt.model.weights import read_tensors, widened, write_tensors
from igpt.pixels.palette import Palette
from igpt.pixels.tokenizer import ImageTokenizer

Head = Literal["colors", "classes"]
"""Which of the two heads a folder of `transformers` has; its classes know one each."""

WEIGHT_FILES = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
"""Where weights may lie, the first that is there is read; the last of each pair names shards."""

_PROJECTIONS = {
    "attn.c_attn": "attention.query_key_value",
    "attn.c_proj": "attention.output",
    "mlp.c_fc": "mlp.input",
    "mlp.c_proj": "mlp.output",
}
_NORMS = {"ln_1.weight": "attention_norm.gain", "ln_2.weight": "mlp_norm.gain"}
_BUFFERS = (".attn.bias", ".attn.masked_bias")  # causal masks, which old versions saved
_WANTED = {
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
        palette: File of the colors, if the processor's does not tell them.
        heads: Number of attention heads, if `config.json` does not tell.
        widen: Accept float16 and bfloat16 weights, as float32.

    Raises:
        CheckpointError: The folder holds another network, or is broken.
        DataError: There is no palette.
    """
    settings = read_settings(folder / "config.json")
    check_settings(settings, str(folder))
    path, weights = _read_weights(folder)
    weights = {name: weight for name, weight in weights.items() if not name.endswith(_BUFFERS)}
    weights = widened(path, weights, widen=widen)
    weights = {name.removeprefix("transformer."): weight for name, weight in weights.items()}
    config = _config(path, settings, weights, heads)
    ours = _our_weights(path, weights, config)
    class_names = None
    if "class_head.weight" in ours:
        class_names = _class_names(settings, len(ours["class_head.weight"]))
    classes = None if class_names is None else len(class_names)
    model = build_with_weights(config, ours, classes=classes, path=path)
    colors = _palette(folder, palette)
    require_palette(colors, config, folder)
    return Pretrained(
        model=model,
        tokenizer=ImageTokenizer(colors, config.image_size),
        class_names=class_names,
        class_reads_start=settings.get("igpt", {}).get("class_reads_start", False),
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
    for name, wanted in {**_WANTED, "n_inner": inner_wanted}.items():
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
    `transformers` has no word for (biases that are there but zero, the initialization, how the
    class head reads) stands in `config.json` under "igpt", for the way back.

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
        "architectures": [
            "ImageGPTForImageClassification"
            if head == "classes"
            else "ImageGPTForCausalImageModeling"
        ],
        "model_type": "imagegpt",
        "vocab_size": config.colors + 1,
        "n_positions": config.positions,
        "n_embd": config.width,
        "n_layer": config.layers,
        "n_head": config.heads,
        "n_inner": None,
        "resid_pdrop": 0.0,
        "embd_pdrop": 0.0,
        "attn_pdrop": 0.0,
        "initializer_range": 0.02,
        "bos_token_id": config.colors,
        "use_cache": True,
        "dtype": "float32",
        **_WANTED,
        "igpt": {"bias": config.bias, "initialization": config.initialization},
    }
    if head == "classes":
        assert names is not None
        settings["igpt"]["class_reads_start"] = pretrained.class_reads_start
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
        block, place = f"blocks.{layer}.", f"transformer.h.{layer}."
        for norm, gain in _NORMS.items():
            theirs[place + norm] = weights[block + gain]
        for projection, name in _PROJECTIONS.items():
            weight = weights[f"{block}{name}.weight"]
            bias = weights.get(f"{block}{name}.bias")
            theirs[f"{place}{projection}.weight"] = weight.T
            theirs[f"{place}{projection}.bias"] = (
                weight.new_zeros(len(weight)) if bias is None else bias
            )
    if head == "classes":
        theirs["score.weight"] = weights["class_head.weight"]
    else:
        theirs["lm_head.weight"] = weights["color_head.weight"]
    return theirs


def _config(
    path: Path, settings: dict[str, Any], weights: dict[str, Tensor], heads: int | None
) -> ModelConfig:
    """Read the shape off the weights; only the heads are not to be seen there."""
    for name in ("wte.weight", "wpe.weight"):
        if name not in weights or weights[name].ndim != 2:
            raise CheckpointError(f"{path} lacks {name!r}; is it an ImageGPT's?")
    words, width = weights["wte.weight"].shape
    numbers = [int(match[1]) for name in weights if (match := re.match(r"h\.(\d+)\.", name))]
    layers = 1 + max(numbers, default=-1)
    kept = settings.get("igpt", {})
    biased = any(bool(weight.any()) for name, weight in weights.items() if name.endswith(".bias"))
    return shape_of(
        path,
        positions=len(weights["wpe.weight"]),
        colors=words - 1,
        layers=layers,
        width=width,
        heads=told_heads(path, settings.get("n_head"), heads) or published_heads(layers, width),
        causal=True,
        bias=biased or kept.get("bias", False),
        initialization=kept.get("initialization", "released"),
    )


def _our_weights(path: Path, weights: dict[str, Tensor], config: ModelConfig) -> dict[str, Tensor]:
    """Rename and transpose; what is missing or left over is told by its name in the file."""
    left = dict(weights)

    def take(name: str, *shape: int) -> Tensor:
        if name not in left:
            raise CheckpointError(f"{path} lacks {name!r}; is the folder a whole copy?")
        weight = left.pop(name)
        if tuple(weight.shape) != shape:
            raise CheckpointError(
                f"{path} holds {name!r} of shape {tuple(weight.shape)}, where its other weights "
                f"want {shape}; is it of one piece?"
            )
        return weight

    colors, width = config.colors, config.width
    words = take("wte.weight", colors + 1, width)
    ours = {
        "token_embedding": words[:colors].clone(),
        "start_embedding": words[colors].clone(),
        "position_embedding": take("wpe.weight", config.positions, width),
        "final_norm.gain": take("ln_f.weight", width),
    }
    inputs = {"mlp.c_proj": 4 * width}
    outputs = {"attn.c_attn": 3 * width, "mlp.c_fc": 4 * width}
    for layer in range(config.layers):
        place, block = f"h.{layer}.", f"blocks.{layer}."
        for norm, gain in _NORMS.items():
            ours[block + gain] = take(place + norm, width)
        for projection, name in _PROJECTIONS.items():
            inward, outward = inputs.get(projection, width), outputs.get(projection, width)
            weight = take(f"{place}{projection}.weight", inward, outward)
            bias = take(f"{place}{projection}.bias", outward)
            ours[f"{block}{name}.weight"] = weight.T.contiguous()
            if config.bias:
                ours[f"{block}{name}.bias"] = bias
    if "lm_head.weight" in left:
        ours["color_head.weight"] = take("lm_head.weight", colors, width)
    else:
        warnings.warn(
            f"{path} has no color head (lm_head), so the network's starts at zero: its features "
            "and classes are as trained, but it predicts no pixels",
            stacklevel=2,
        )
        ours["color_head.weight"] = torch.zeros(colors, width)
    if "score.weight" in left:
        classes = left["score.weight"].shape[:1]
        ours["class_head.weight"] = take("score.weight", *classes, width)
    if left:
        raise CheckpointError(
            f"{path} holds {min(left)!r}, which an ImageGPT does not have; is it of another kind?"
        )
    return ours


def _class_names(settings: dict[str, Any], classes: int) -> tuple[str, ...]:
    """Return the names in `config.json`, or the class numbers, as `transformers` has them."""
    names = settings.get("id2label") or {}
    return tuple(str(names.get(str(number), f"LABEL_{number}")) for number in range(classes))


def _palette(folder: Path, given: Path | None) -> Palette:
    path = folder / "preprocessor_config.json"
    clusters = read_settings(path).get("clusters") if path.is_file() else None
    if clusters is None and given is None:
        raise DataError(
            f"{folder} tells no palette (clusters in preprocessor_config.json); give the file with "
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
    for name in WEIGHT_FILES:
        path = folder / name
        if path.is_file():
            break
    else:
        raise CheckpointError(
            f"{folder} holds no weights ({', '.join(WEIGHT_FILES)}); is it a whole copy?"
        )
    read = read_tensors if ".safetensors" in path.name else _read_pickle
    if path.suffix != ".json":
        return path, read(path)
    weights: dict[str, Tensor] = {}
    for shard in shards_of(path):
        weights.update(read(folder / shard))
    return path, weights


def shards_of(index: Path) -> list[str]:
    """Return the names of the files that an index of shards names.

    Raises:
        CheckpointError: It is no index, or names files elsewhere.
    """
    places = read_settings(index).get("weight_map")
    if not isinstance(places, dict) or not places:
        raise CheckpointError(f"{index} names no shards; copy it again")
    names = sorted({str(place) for place in places.values()})
    for name in names:
        if Path(name).name != name:
            raise CheckpointError(f"{index} names a file outside its folder, {name!r}")
    return names


def _read_pickle(path: Path) -> dict[str, Tensor]:
    """Read a PyTorch file of nothing but tensors; anything that wants to run code is refused."""
    if not path.is_file():
        raise CheckpointError(f"{path} is missing; is the folder a whole copy?")
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


def read_settings(path: Path) -> dict[str, Any]:
    """Return what a JSON file says by name.

    Raises:
        CheckpointError: It is missing or damaged, or holds something else.
    """
    try:
        value = json.loads(path.read_text())
    except (OSError, json.JSONDecodeError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{path} is missing or damaged ({error}); copy it again") from error
    if not isinstance(value, dict):
        raise CheckpointError(f"{path} is no JSON object; copy it again")
    return value
