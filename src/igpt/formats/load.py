"""Any iGPT there is: a run, a model folder, one of `transformers`, a hub name, the authors' files.

    load("runs/a")                                                   # or runs/a/model
    load("exported/")                                                # saved by transformers
    load("openai/imagegpt-small")                                    # on the hub, or in its cache
    load("model.ckpt-1000000", palette="kmeans_centers.npy")         # TensorFlow

The files show the kind, and the weights the sizes. How each kind is laid out is known to
`igpt.model.pretrained`, and here to `huggingface`, `hub` and `tensorflow`.
"""

from pathlib import Path
from typing import Literal

import torch

from igpt.errors import ConfigError
from igpt.files import read_json
from igpt.formats.hub import fetch
from igpt.formats.huggingface import read_huggingface
from igpt.formats.tensorflow import read_tensorflow
from igpt.formats.tensorflow_checkpoint import is_checkpoint
from igpt.model.pretrained import Pretrained, load_folder
from igpt.places import is_on_hub, no_model, run_of

Kind = Literal["igpt", "huggingface", "tensorflow"]


def load(
    source: Path | str,
    *,
    palette: Path | str | None = None,
    heads: int | None = None,
    revision: str | None = None,
    widen: bool = False,
    device: torch.device | str = "cpu",
) -> Pretrained:
    """Load a network and its tokenizer.

    Args:
        source: A run's or model's folder, a folder that `transformers` saved, a name on the
            Hugging Face hub, or a TensorFlow checkpoint's path without `.index`.
        palette: File of the palette, for a TensorFlow checkpoint or a folder that has none.
        heads: Number of attention heads, where neither files nor published sizes say.
        revision: For a hub name: a branch, tag or commit.
        widen: Accept half-precision weights of others, as float32.
        device: Where to put the weights.

    Raises:
        CheckpointError: Nothing there, or what is there is broken or does not fit together.
        ConfigError: An option that this kind of source does not go with, or a palette of another
            size than the network's.
        DataError: The palette is missing or broken.
    """
    folder, kind = locate(source, revision=revision)
    if kind == "igpt":
        for name, value in (("palette", palette), ("heads", heads), ("widen", widen)):
            if value:
                raise ConfigError(
                    f"{source} is a model of igpt's own, which says all of that; leave out --{name}"
                )
        return load_folder(folder, device=device)
    read = read_huggingface if kind == "huggingface" else read_tensorflow
    pretrained = read(
        folder, palette=None if palette is None else Path(palette), heads=heads, widen=widen
    )
    pretrained.model.to(device)
    return pretrained


def locate(source: Path | str, *, revision: str | None = None) -> tuple[Path, Kind]:
    """Return where the files of `source` are, fetched if need be, and of which kind they are.

    Raises:
        CheckpointError: There is no model.
        ConfigError: A revision of something that is not on the hub.
    """
    path = run_of(Path(source))
    if is_on_hub(path):
        path = fetch(str(source), revision=revision)
    elif revision is not None and path.exists():
        raise ConfigError(f"{source} is on this machine; --revision goes with a hub name")
    if (path / "model" / "config.json").is_file():
        path = path / "model"
    config = path / "config.json"
    if config.is_file():
        return path, "huggingface" if "model_type" in read_json(config) else "igpt"
    if is_checkpoint(path):
        return path, "tensorflow"
    raise no_model(path)
