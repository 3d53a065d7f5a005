"""Features on disk: of more images and layers than memory holds, extracted part by part.

    features = stored_features(pretrained, [train], Path("f/train.npy"), layers=range(49))

The file is a plain `.npy`, float32 (image, layer, width), and is returned memory-mapped. Beside it
lies a `.json` of how far it has come and of what, so that an extraction that was interrupted goes
on, and one of another network, other images or other layers begins anew.
"""

import dataclasses
import hashlib
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float32
from tqdm import tqdm

from igpt.data.shards import JoinedArray
from igpt.data.store import Records
from igpt.evaluation.features import PART, extract_features, parts_of
from igpt.files import read_json, write_json
from igpt.model.pretrained import Pretrained
from igpt.seals import fingerprint
from igpt.values import from_dict, to_dict


@dataclass(frozen=True, kw_only=True)
class _Note:
    """What the `.json` holds."""

    weights: str
    """Digest of the network's shape and weights; fresh ones are the same in several shapes."""
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
    ray: str | None = None,
) -> Float32[np.ndarray, "image layer width"]:
    """Return the features of all images of some splits, one split after another.

    Args:
        pretrained: Network and tokenizer.
        splits: Images, of the network's size or larger.
        file: Where they are kept, a `.npy`; its folder is made.
        layers: From 0 to L.
        title: What to call the progress bar; None for no bar.
        ray: Address of a Ray cluster that is to do it, for splits of a store.

    Raises:
        CheckpointError: The note beside the file is damaged.
        ConfigError: The network has no such layer, or there is no Ray.
        DataError: The images are smaller than the network's.
    """
    ends = np.cumsum([len(split) for split in splits]).tolist()
    shape = (ends[-1], len(layers), pretrained.model.config.width)
    wanted = _note_of(pretrained, splits, layers)
    note = file.with_suffix(".json")
    file.parent.mkdir(parents=True, exist_ok=True)
    done = 0
    if note.is_file() and _is_array(file, shape):
        known = from_dict(_Note, read_json(note), name=str(note))
        if known == dataclasses.replace(wanted, done=known.done):
            done = known.done
    if done:
        array = np.lib.format.open_memmap(file, mode="r+")
    else:
        write_json(note, to_dict(wanted))  # before the file is emptied, of which the old one tells
        array = np.lib.format.open_memmap(file, mode="w+", dtype=np.float32, shape=shape)
    bar = tqdm(
        total=shape[0], initial=done, desc=title, unit="img", disable=None if title else True
    )
    with bar, _extractor(ray) as extracted:
        for split, end in zip(splits, ends, strict=True):
            begin = end - len(split)
            parts = parts_of(len(split), max(done - begin, 0))
            found = extracted(pretrained, split, parts, layers)
            for part, features in zip(parts, found, strict=True):
                array[begin + part.start : begin + part.stop] = features
                array.flush()
                write_json(note, to_dict(dataclasses.replace(wanted, done=begin + part.stop)))
                bar.update(part.stop - part.start)
    return np.load(file, mmap_mode="r")


def _is_array(file: Path, shape: tuple[int, ...]) -> bool:
    """Say whether a file is a whole array of features of this shape."""
    try:
        array = np.load(file, mmap_mode="r")
    except (OSError, ValueError, EOFError):
        return False
    return array.shape == shape and array.dtype == np.float32


@contextmanager
def _extractor(ray: str | None) -> Iterator[Callable[..., Iterator[np.ndarray]]]:
    """Give what yields the features of some parts of a split, here or on a cluster."""
    if ray is None:
        yield _here
        return
    from igpt.data.on_ray import cluster
    from igpt.evaluation.features_on_ray import features_by_parts

    with cluster(ray):
        yield features_by_parts


def _here(
    pretrained: Pretrained, records: Records, parts: Sequence[slice], layers: Sequence[int]
) -> Iterator[Float32[np.ndarray, "image layer width"]]:
    for part in parts:
        some = records.chosen(np.arange(part.start, part.stop))
        yield extract_features(pretrained, some, layers=layers)


def _note_of(pretrained: Pretrained, splits: Sequence[Records], layers: Sequence[int]) -> _Note:
    config = to_dict(pretrained.model.config, for_record=True)
    digest = hashlib.sha256(fingerprint(config).encode())
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
    for first in range(0, len(images), PART):
        checksum = zlib.crc32(np.ascontiguousarray(images[first : first + PART]).data, checksum)
    return checksum
