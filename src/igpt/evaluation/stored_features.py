"""Features on disk: of more images and layers than memory holds, extracted part by part.

    features = stored_features(pretrained, [train], Path("f/train.npy"), layers=range(49))

The file is a plain `.npy`, float32 (image, layer, width), and is returned memory-mapped. Beside it
lies a `.json` of how far it has come and of what, so that an extraction that was interrupted goes
on, and one of another network, other images or other layers begins anew.
"""

import dataclasses
import hashlib
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float32
from tqdm import tqdm

from igpt.data.shards import JoinedArray
from igpt.data.store import Records
from igpt.evaluation.features import extract_features
from igpt.files import read_json, write_json
from igpt.model.pretrained import Pretrained
from igpt.values import from_dict, to_dict

_PART = 4096  # images between two notes of how far it has come


@dataclass(frozen=True, kw_only=True)
class _Note:
    """What the `.json` holds."""

    weights: str
    """Digest of the network's."""
    palette: str
    images: tuple[int, ...]
    """CRC-32 of each split's pixels."""
    layers: tuple[int, ...]
    done: int = 0
    """Images from the first on whose features are there."""


def stored_features(
    pretrained: Pretrained,
    splits: Sequence[Records],
    file: Path,
    *,
    layers: Sequence[int],
    title: str | None = None,
) -> Float32[np.ndarray, "image layer width"]:
    """Return the features of all images of some splits, one split after another.

    Args:
        pretrained: Network and tokenizer.
        splits: Images, of the network's size or larger.
        file: Where they are kept, a `.npy`; its folder is made.
        layers: From 0 to L.
        title: What to call the progress bar; None for no bar.

    Raises:
        CheckpointError: The note beside the file is damaged.
        ConfigError: The network has no such layer.
        DataError: The images are smaller than the network's.
    """
    ends = np.cumsum([len(split) for split in splits]).tolist()
    shape = (ends[-1], len(layers), pretrained.model.config.width)
    wanted = _note_of(pretrained, splits, layers)
    note = file.with_suffix(".json")
    file.parent.mkdir(parents=True, exist_ok=True)
    done = 0
    if file.is_file() and note.is_file():
        known = from_dict(_Note, read_json(note), name=str(note))
        if known == dataclasses.replace(wanted, done=known.done):
            done = known.done
    array = (
        np.lib.format.open_memmap(file, mode="r+")
        if done
        else np.lib.format.open_memmap(file, mode="w+", dtype=np.float32, shape=shape)
    )
    bar = tqdm(
        total=shape[0], initial=done, desc=title, unit="img", disable=None if title else True
    )
    with bar:
        for split, end in zip(splits, ends, strict=True):
            begin = end - len(split)
            for first in range(max(begin, done), end, _PART):
                last = min(first + _PART, end)
                part = split.chosen(np.arange(first - begin, last - begin))
                extract_features(pretrained, part, layers=layers, out=array[first:last])
                array.flush()
                write_json(note, to_dict(dataclasses.replace(wanted, done=last)))
                bar.update(last - first)
    return np.load(file, mmap_mode="r")


def _note_of(pretrained: Pretrained, splits: Sequence[Records], layers: Sequence[int]) -> _Note:
    digest = hashlib.sha256()
    for name, weight in sorted(pretrained.model.state_dict().items()):
        digest.update(name.encode())
        digest.update(weight.cpu().contiguous().numpy())
    return _Note(
        weights=digest.hexdigest(),
        palette=pretrained.tokenizer.palette.fingerprint,
        images=tuple(_checksum(split.images) for split in splits),
        layers=tuple(layers),
    )


def _checksum(images: np.ndarray | JoinedArray) -> int:
    """Return the CRC-32 of pixels, some at a time, however many shards they lie in."""
    checksum = 0
    for first in range(0, len(images), _PART):
        checksum = zlib.crc32(np.ascontiguousarray(images[first : first + _PART]).data, checksum)
    return checksum
