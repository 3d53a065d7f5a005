"""Foreign images: some of a store, or of a folder of images, to tell from a run's own.

foreign_records(Path("photos"), pretrained, count=1000, seed=0)
foreign_identity(Path("photos"))    # tells whether they are still the same
"""

import dataclasses
import os
from pathlib import Path

import numpy as np

from igpt.data.loose import LooseFiles, loose_files
from igpt.data.store import Records, RecordStore
from igpt.model.pretrained import Pretrained
from igpt.randomness import Stream, stream
from igpt.seals import fingerprint


def foreign_records(path: Path, pretrained: Pretrained, *, count: int, seed: int) -> Records:
    """Return up to `count` images, drawn by seed, of all splits of a store or all of a folder.

    Files of no use are left out, with a note.

    Args:
        path: A record store, or a folder, zip or tar file of images, or an image.
        pretrained: The network that is to read them; files are made ready as its own images were.
        count: How many at most.
        seed: Draws them.

    Raises:
        DataError: There are no images, or those of a store are not for this network.
    """
    if (path / "store.json").is_file():
        store = RecordStore.open(path)
        parts = [store.split(name) for name in store.splits]
        chosen = _drawn(sum(map(len, parts)), count, seed)
        ends = np.cumsum([len(part) for part in parts])
        some = [
            part.chosen(chosen[(chosen >= end - len(part)) & (chosen < end)] - (end - len(part)))
            for part, end in zip(parts, ends, strict=True)
        ]
        return dataclasses.replace(
            some[0],
            name=str(path),
            images=np.concatenate([part.images for part in some]),
            labels=None,
            encoded_names=np.concatenate([np.asarray(part.encoded_names) for part in some]),
        )
    files = loose_files([path]).files
    loose = LooseFiles([files[number] for number in _drawn(len(files), count, seed)])
    read = loose.read_all(pretrained.tokenizer)
    return Records(
        name=str(path),
        images=read.squares,
        labels=None,
        class_names=None,
        encoded_names=np.array([name.encode(errors="surrogateescape") for name in read.names]),
    )


def foreign_identity(path: Path) -> str:
    """Return what tells these images from others: of files, their names, sizes and times.

    Raises:
        DataError: There are no images.
    """
    if (path / "store.json").is_file():
        return RecordStore.open(path).identity
    known = []
    for file in loose_files([path]).files:
        known.append(file.name)
        if isinstance(file.content, Path) and file.content.exists():
            status = os.stat(file.content)
            known += [str(status.st_size), str(status.st_mtime_ns)]
    return fingerprint(known)


def _drawn(images: int, count: int, seed: int) -> np.ndarray:
    return np.sort(stream(Stream.COMPARED, seed).permutation(images)[:count])
