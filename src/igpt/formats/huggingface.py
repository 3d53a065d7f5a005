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

import dataclasses
import warnings
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from igpt.errors import CheckpointError, ConfigError, DataError
from igpt.files import read_json, write_json, written_aside
from igpt.formats.foreign import ForeignWeights
from igpt.formats.pickles import read_pickle
from igpt.model.class_head import fold
from igpt.model.config import OBJECTIVE_WORDS, Activation, ModelConfig
from igpt.model.pretrained import ONE_POSITION_OFF, Pretrained
from igpt.model.transformer import ImageGPT
from igpt.model.weights import read_tensors, write_tensors
from igpt.pixels.orders import RASTER
from igpt.pixels.palette import Palette

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

_PARTS = {
    "blocks.": "h.",
    "attention_norm.gain": "ln_1.weight",
    "attention.query_key_value.": "attn.c_attn.",
    "attention.output.": "attn.c_proj.",
    "mlp_norm.gain": "ln_2.weight",
    "mlp.input.": "mlp.c_fc.",
    "mlp.output.": "mlp.c_proj.",
    "position_embedding": "wpe.weight",
    "final_norm.gain": "ln_f.weight",
}
"""What our names are made of, and theirs."""
_BUFFERS = (".attn.bias", ".attn.masked_bias")  # causal masks, which old versions saved
_ACTIVATIONS: dict[Activation, str] = {"gelu": "quick_gelu", "squared-relu": "relu2"}
"""Ours, and what they are called there; the released network has the first."""
_FIXED = {
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
        ConfigError: No network has its shape, or the palette another number of colors.
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
    biased = any(bool(x.float().any()) for name, x in tensors.items() if name.endswith(".bias"))
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
    return Pretrained.from_weights(
        config, ours, _palette(folder, palette), class_names=class_names, path=path
    )


def check_settings(settings: dict[str, Any], source: str) -> None:
    """Check that a `config.json` describes the released network, or one with squared ReLU.

    Raises:
        CheckpointError: It does not; `source` is named in the message.
    """
    if settings.get("model_type") != "imagegpt":
        raise CheckpointError(
            f"{source} holds a model of type {settings.get('model_type')!r}, and igpt reads "
            "'imagegpt' only; choose an ImageGPT folder"
        )
    _activation(settings, source)
    inner, width = settings.get("n_inner"), settings.get("n_embd")
    inner_wanted = None if inner is None else 4 * width if isinstance(width, int) else inner
    for name, wanted in {**_FIXED, "n_inner": inner_wanted}.items():
        if settings.get(name, wanted) != wanted:
            raise CheckpointError(
                f"the config.json of {source} has {name}={settings[name]!r}, where the released "
                f"network has {wanted!r}; igpt has no such network"
            )
    _require_kinds(settings, source, n_head=int, id2label=dict, igpt=dict)
    _require_kinds(settings.get("igpt") or {}, source, bias=bool, initialization=str)


def _activation(settings: dict[str, Any], source: str) -> Activation:
    theirs, known = settings.get("activation_function", "quick_gelu"), _ACTIVATIONS.items()
    if found := [ours for ours, name in known if name == theirs]:
        return found[0]
    raise CheckpointError(
        f"the config.json of {source} has activation_function={theirs!r}, and igpt computes "
        f"{' and '.join(_ACTIVATIONS.values())} only"
    )


def _require_kinds(values: dict[str, Any], source: str, **kinds: type) -> None:
    words = {int: "whole number", dict: "JSON object", bool: "truth value", str: "text"}
    for name, kind in kinds.items():
        if type(values.get(name)) not in (kind, type(None)):
            what = f"{name}={values[name]!r}, which is no {words[kind]}"
            raise CheckpointError(f"the config.json of {source} has {what}; restore it")


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
        DataError: There is something at `folder`, or it cannot be written to.
    """
    model, config = pretrained.model, pretrained.model.config
    if not config.causal:
        raise ConfigError(
            "transformers' ImageGPT is always causal, and this network is not "
            f"({OBJECTIVE_WORDS[pretrained.learned_by]}); share the igpt model folder instead"
        )
    if config.order != RASTER:
        raise ConfigError(
            f"transformers' image processor reads pixels row by row, and this network in the order "
            f"{config.order}; share the igpt model folder instead"
        )
    if beyond := [name for name in config.beyond_the_paper if name != "activation"]:
        raise ConfigError(
            f"transformers' ImageGPT cannot say what this network has: {', '.join(beyond)}; share "
            "the igpt model folder instead"
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
        "activation_function": _ACTIVATIONS[config.activation],
        **_FIXED,
        "igpt": {"bias": config.bias, "initialization": config.initialization},
    }
    if head == "classes":
        assert names is not None
        settings["id2label"] = {str(number): name for number, name in enumerate(names)}
        settings["label2id"] = {name: number for number, name in reversed([*enumerate(names)])}
    with written_aside(folder, exclusive=True) as aside:
        aside.mkdir()
        write_json(aside / "config.json", settings)
        write_json(aside / "preprocessor_config.json", _processor(pretrained))
        write_tensors(
            aside / "model.safetensors",
            their_weights(fold(model.state_dict()), config, head),
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
    tokens = torch.cat([weights["token_embedding"], weights["start_embedding"][None]])
    theirs = {"transformer.wte.weight": tokens}
    for name, shape in _shapes(config).items():
        weight = weights[name] if name in weights else tokens.new_zeros(shape)  # a bias we have not
        theirs[f"transformer.{_their_name(name)}"] = weight.T if _lies_across(name) else weight
    if head == "classes":
        theirs["score.weight"] = weights["class_head.weight"]
    else:
        theirs["lm_head.weight"] = weights["color_head.weight"]
    return theirs


def _shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Return the shapes of our weights by name, those apart that take more than a new name.

    There are biases, as theirs always has; token embedding, start embedding and heads are left out.
    """
    with torch.device("meta"):
        weights = ImageGPT(dataclasses.replace(config, bias=True)).state_dict()
    apart = ("token_embedding", "start_embedding", "color_head.weight")
    return {name: tuple(weight.shape) for name, weight in weights.items() if name not in apart}


def _their_name(name: str) -> str:
    for ours, theirs in _PARTS.items():
        name = name.replace(ours, theirs)
    return name


def _lies_across(name: str) -> bool:
    """Return whether a weight of ours is a projection's, which theirs has transposed."""
    return name.startswith("blocks.") and name.endswith(".weight")


def _config(
    theirs: ForeignWeights, settings: dict[str, Any], *, biased: bool, heads: int | None
) -> ModelConfig:
    """Read the shape off the weights; only the heads are not to be seen there."""
    tokens, width = theirs.shape("wte.weight", axes=2)
    layers = theirs.layers(r"h\.(\d+)\.")
    kept = settings.get("igpt") or {}
    return ModelConfig(
        image_size=theirs.image_size("wpe.weight"),
        colors=tokens - 1,
        layers=layers,
        width=width,
        heads=theirs.heads(settings.get("n_head"), heads, layers=layers, width=width),
        bias=biased or kept.get("bias", False),
        initialization=kept.get("initialization", "released"),
        activation=_activation(settings, str(theirs.path)),
    )


def _our_weights(theirs: ForeignWeights, config: ModelConfig) -> dict[str, Tensor]:
    """Rename and transpose."""
    colors, width = config.colors, config.width
    tokens = theirs.take("wte.weight", colors + 1, width)
    ours = {"token_embedding": tokens[:colors].clone(), "start_embedding": tokens[colors].clone()}
    for name, shape in _shapes(config).items():
        across = _lies_across(name)
        weight = theirs.take(_their_name(name), *(reversed(shape) if across else shape))
        if config.bias or not name.endswith(".bias"):
            ours[name] = weight.T.contiguous() if across else weight
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
    if clusters is None:
        if given is None:
            raise DataError(
                f"{folder} has no palette (clusters in preprocessor_config.json); give the file "
                "with --palette"
            )
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
    read = read_tensors if ".safetensors" in path.name else read_pickle
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
