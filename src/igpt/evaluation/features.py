"""Image features: the mean over all positions of every layer's normalized state.

f^l = mean over i of n^l_i, for l = 0 (the embeddings, normalized) to L (the final norm), all in one
pass over the images, with the start embedding first as in training (Chen et al. 2020, section 2.4).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float32
from tqdm import tqdm

from igpt import processes
from igpt.data.loose import LooseFiles, read_squares
from igpt.data.store import Records
from igpt.errors import ConfigError
from igpt.evaluation.batches import measured_batches
from igpt.model.pretrained import Pretrained

PART = 4096
"""Images of a part of many, after which it is noted how far it has come."""


@torch.inference_mode()
def extract_features(
    pretrained: Pretrained,
    records: Records,
    *,
    layers: Sequence[int] | None = None,
    batch_size: int | None = None,
    out: np.ndarray | None = None,
    mask_seed: tuple[int, ...] | None = None,
    title: str | None = None,
) -> Float32[np.ndarray, "image layer width"]:
    """Return the features of each image at each of `layers`, all L + 1 by default.

    Memory grows with the result alone: states are pooled as they come. For a result larger than
    the memory, give a memory-mapped `out` (`numpy.lib.format.open_memmap`).

    Args:
        pretrained: Network and tokenizer.
        records: Images, of the network's size or larger.
        layers: Layers wanted, from 0 to L.
        batch_size: Images at a time; by default 64 on a GPU and about 1,024 positions on a CPU,
            whose cache then holds what a layer works on.
        out: Array to write the features into and return, float32 (image, layer, width).
        mask_seed: For a BERT network: hide pixels of each image as in training, drawn from this
            seed and the image's number; by default all pixels are shown.
        title: What to call the progress bar; None for no bar.

    Raises:
        ConfigError: The network has no such layer, `out` is of another shape or type, or pixels
            of an autoregressive network are to be hidden.
        DataError: The records are smaller than the network's images.
    """
    model = pretrained.model
    if layers is None:
        layers = range(model.config.layers + 1)
    wanted = [model.config.check_layer(layer) for layer in layers]
    shape = (len(records), len(wanted), model.config.width)
    features = np.empty(shape, dtype=np.float32) if out is None else out
    if features.shape != shape or features.dtype != np.float32:
        raise ConfigError(
            f"out must be float32 of shape {shape}, got {features.dtype} of {features.shape}"
        )
    if processes.count() > 1:
        features[...] = 0  # where the others' rows are added
    if batch_size is None:
        batch_size = 64 if model.device.type != "cpu" else max(1, 1024 // model.config.positions)
    for part, tokens, hidden in measured_batches(
        pretrained, records, batch_size=batch_size, mask_seed=mask_seed, title=title
    ):
        for layer, state in enumerate(model.states(tokens, hidden)):
            if layer in wanted:
                pooled = state.mean(dim=1, dtype=torch.float32).cpu().numpy()
                columns = [column for column, other in enumerate(wanted) if other == layer]
                features[part, columns] = pooled[:, None]
            if layer == max(wanted):
                break
    processes.merge(features)
    return features


def parts_of(images: int, first: int = 0) -> list[slice]:
    """Return the parts by which features of many images are extracted, from `first` on."""
    return [slice(start, min(start + PART, images)) for start in range(first, images, PART)]


@dataclass(frozen=True, kw_only=True)
class FileFeatures:
    """Features of image files."""

    names: list[str]
    features: Float32[np.ndarray, "image layer width"]


def file_features(
    pretrained: Pretrained,
    loose: LooseFiles,
    *,
    layers: Sequence[int] | None = None,
    title: str | None = None,
) -> FileFeatures:
    """Return the features of image files, as `extract_features` has them; a few are read at a time.

    What cannot be read goes to `loose.skipped`.

    Args:
        pretrained: Network and tokenizer, which says how images are made ready.
        loose: The files.
        layers: Layers wanted, from 0 to L; all by default.
        title: What to call the progress bar; None for no bar.

    Raises:
        ConfigError: The network has no such layer.
        DataError: None of the files can be read.
    """
    names: list[str] = []
    features = []
    total = len(loose.files)
    with tqdm(total=total, desc=title, unit="image", disable=None if title else True) as bar:
        for part in read_squares(loose, pretrained.tokenizer):
            records = Records(name="files", images=part.squares, labels=None, class_names=None)
            features.append(extract_features(pretrained, records, layers=layers))
            names += part.names
            bar.update(len(part.names))
    loose.require_some_read()
    return FileFeatures(names=names, features=np.concatenate(features))
