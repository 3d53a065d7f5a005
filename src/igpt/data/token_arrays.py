"""The authors' token arrays, as pixels.

    tokens/imagenet_trX.npy    tokens (record, position)
    tokens/imagenet_trY.npy    labels (record), or one-hot classes (record, class)
    ..._vaX.npy, ..._teX.npy   the same of the validation and test split

Tokens become the pixels that their palette shows, which the same palette turns back into the same
tokens; that it does is checked, so nothing is lost.

Source: openai/image-gpt, src/download.py and src/run.py.
"""

import dataclasses
import math
from pathlib import Path

import numpy as np
from jaxtyping import Int64

from igpt.arrays import read_array
from igpt.data.sources import SourceImage, SourceSplit
from igpt.errors import ConfigError, DataError
from igpt.pixels.palette import Palette

_MOST_CLASSES = 100_000
"""Each of them gets a name; a number far above all others' is no class but damage."""

_PARTS = {"train": "tr", "validation": "va", "test": "te"}


def token_files(path: Path) -> dict[str, Path]:
    """Return the token arrays of each split: one `.npy` file, or NAME_trX.npy and the like."""
    if path.suffix == ".npy" and path.is_file():
        named = [split for split, part in _PARTS.items() if path.stem.endswith(f"_{part}X")]
        return {named[0] if named else "test": path}
    path = path.absolute()  # "." has no name
    files = {split: path.with_name(f"{path.name}_{part}X.npy") for split, part in _PARTS.items()}
    return {split: file for split, file in files.items() if file.is_file()}


def open_tokens(
    files: dict[str, Path], palette: Palette, *, image_size: int
) -> dict[str, SourceSplit]:
    """Return the splits of `token_files`.

    Raises:
        DataError: A file is broken, holds something else or images of another size, or the palette
            shows two tokens as the same bytes.
    """
    again = palette.encode(palette.rgb)
    if not np.array_equal(again, np.arange(palette.size)):
        token = int(np.flatnonzero(again != np.arange(palette.size))[0])
        raise DataError(
            f"colors {token} and {int(again[token])} of the palette are the same bytes, so its "
            "tokens cannot be kept as pixels; is it the palette of these tokens?"
        )
    splits = {name: _open_array(file, palette, image_size) for name, file in files.items()}
    most = max((split.class_names or () for split in splits.values()), key=len)
    return {
        name: dataclasses.replace(split, class_names=split.class_names and most)
        for name, split in splits.items()
    }


def _open_array(path: Path, palette: Palette, image_size: int) -> SourceSplit:
    """Read tokens and, from the file with Y for X, their labels."""
    tokens = read_array(path, dtype=np.generic, mmap=True)
    size = math.isqrt(tokens[0].size) if tokens.ndim > 1 and len(tokens) else 0
    if tokens.dtype.kind not in "iu" or size == 0 or size**2 != tokens[0].size:
        raise DataError(
            f"{path} should hold whole numbers, a row of tokens for each square image, but holds "
            f"{tokens.dtype} {tokens.shape}"
        )
    if size != image_size:
        raise DataError(
            f"{path} holds images of {size}x{size} pixels, and tokens cannot be resampled; "
            f"prepare them with --image-size {size}"
        )
    labels, class_names = None, None
    if path.stem.endswith("X") and (beside := path.with_name(f"{path.stem[:-1]}Y.npy")).is_file():
        labels, count = _read_labels(beside)
        if len(labels) != len(tokens):
            raise DataError(f"{beside} has {len(labels)} labels for the {len(tokens)} images")
        class_names = tuple(str(number) for number in range(count))
    from igpt.pixels.tokenizer import ImageTokenizer  # imports torch; images need not

    rows = tokens.reshape(len(tokens), -1)
    tokenizer = ImageTokenizer(palette, size)

    def image(index: int) -> SourceImage:
        name = f"{path}, record {index}"
        try:
            return SourceImage(name, tokenizer.decode(np.asarray(rows[index : index + 1])))
        except DataError as error:  # one token too large and the palette is another for all
            raise ConfigError(f"{name}: {error}") from error

    return SourceSplit(
        images=len(tokens), image=image, labels=labels, class_names=class_names, files=False
    )


def _read_labels(path: Path) -> tuple[Int64[np.ndarray, " record"], int]:
    """Return class numbers and how many classes there are, from numbers or one-hot rows."""
    values = read_array(path, dtype=np.generic)
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if values.ndim == 1 and values.dtype.kind in "iu" and values.size and values.min() >= 0:
        if values.max() >= _MOST_CLASSES:
            raise DataError(
                f"{path} holds the class number {values.max():,}, and there may be "
                f"{_MOST_CLASSES:,} classes at most; number them from 0, without gaps"
            )
        return values.astype(np.int64), int(values.max()) + 1
    if values.ndim == 2 and values.dtype.kind in "iufb" and values.size:
        chosen = values.argmax(axis=1)
        if np.array_equal(values, np.arange(values.shape[1]) == chosen[:, None]):
            return chosen.astype(np.int64), values.shape[1]
    raise DataError(
        f"{path} should hold class numbers from 0, or one row a record with a single 1 in it, but "
        f"holds {values.dtype} {values.shape}"
    )
