"""What `igpt start` sees of images before it chooses: their sizes, colors and labels.

    config = store_config("photos", seed=0)     # by a look at a few files
    images = described(store)                   # what `igpt.choosing` goes by

Labels are of use where train, validation and test have them. A held-out split of the source's own
that has none, as in competitions, is set aside, and images to test with come out of train.
"""

import numpy as np

from igpt.choosing import STORED, Images, held_out, stored_size
from igpt.data.batches import images_at_size
from igpt.data.config import NONE, SPLITS, SourceConfig, StoreConfig
from igpt.data.sources import SourceImage, SourceSplit, open_source
from igpt.data.store import Records, RecordStore
from igpt.errors import ConfigError, DataError
from igpt.pixels.images import opened_image, to_grey
from igpt.pixels.palette import pack_colors
from igpt.stages import say

_LOOKED_AT = 24  # image files whose size is looked at
_SAMPLED = 200  # records whose colors are ...
_COUNTED = 10_000  # ... and where more are asked for than those have
_COLORED = 8  # levels that the channels of a grey pixel may be apart, by JPEG


def store_config(location: str, seed: int) -> StoreConfig:
    """Return how to store the images of a source, by a look at a few of them.

    Raises:
        DataError: There are no images at `location`.
    """
    source = open_source(location, SourceConfig(seed=seed))
    train = source.splits["train"]
    aside = [
        name
        for name, split in source.splits.items()
        if split.labels is None and len(train.class_names or ()) > 1
    ]
    for name in aside:
        say(
            f"{source.called.get(name, name)} has no labels, and train has some: it is set aside, "
            f"and images for {name} are held out from train"
        )
    own = source.splits.keys() - set(aside)
    validation, test = held_out(len(train))
    return StoreConfig(
        image_size=stored_size(_smaller_side(train)),
        split=tuple(f"{name}={NONE}" for name in aside),
        validation_fraction=None if "validation" in own else validation,
        test_fraction=None if "test" in own else test,
        enlarge=True,
        seed=seed,
    )


def _smaller_side(split: SourceSplit) -> int:
    """Return the side, in pixels, that nine in ten of some images have at least."""
    sides = []
    for number in np.unique(np.linspace(0, len(split) - 1, _LOOKED_AT).astype(int)):
        try:
            sides.append(_side(split.image(int(number))))
        except (DataError, OSError):
            continue  # which is told when all are read
    return int(np.percentile(sides, 10, method="lower")) if sides else STORED


def _side(image: SourceImage) -> int:
    """Return the shorter side of an image, of a file by its header."""
    if isinstance(image.content, np.ndarray):
        return min(image.content.shape[1:3])
    with opened_image(image.content, name=image.name) as opened:
        return min(opened.height, opened.width)


def described(store: RecordStore) -> Images:
    """Return what choices are made by."""
    train = store.split("train")
    sample = train.sample(_SAMPLED)
    apart = np.ptp(np.asarray(sample.images).astype(np.int16), axis=-1)
    grey = bool((apart <= _COLORED).mean() > 0.99)
    labels = train.labels if is_labelled(store) else None
    counts = [] if labels is None else np.bincount(labels, minlength=len(store.class_names or ()))
    records = {name: split.records for name, split in store.splits.items()}
    return Images(
        train=len(train),
        validation=records.get("validation", 0),
        test=records.get("test", 0),
        size=store.config.image_size,
        grey=grey,
        colors=lambda side: _colors(sample, side, grey=grey),
        classes=len(counts),
        smallest_class=int(min(counts, default=0)),
    )


def require_colors(store: RecordStore, side: int, colors: int, *, grey: bool) -> None:
    """See that training images have as many colors, or greys, as a palette is to have.

    Raises:
        ConfigError: They have fewer.
    """
    train = store.split("train")
    for looked_at in (_SAMPLED, _COUNTED):
        there = _colors(train.sample(looked_at), side, grey=grey)
        if there >= colors:
            return
    kind = "greys" if grey else "colors"
    advice = f"set model.colors={2 ** (there.bit_length() - 1)}" if there > 1 else "give others"
    raise ConfigError(
        f"a palette of {colors} {kind} is wanted, and these images have {there} at {side}x{side} "
        f"pixels; {advice}"
    )


def _colors(records: Records, side: int, *, grey: bool) -> int:
    """Count the distinct colors, or greys, that records have at a side, in pixels."""
    pixels = np.asarray(images_at_size(records, side))
    return len(np.unique(pack_colors(to_grey(pixels) if grey else pixels)))


def is_labelled(store: RecordStore) -> bool:
    """Say whether there are labels to probe and fine-tune with: in all splits, of two classes."""
    return len(store.class_names or ()) > 1 and not _unlabelled(store)


def why_labels_are_unused(store: RecordStore) -> str | None:
    """Return why labels that there are cannot be probed and fine-tuned with, if so."""
    if not store.class_names or is_labelled(store):
        return None
    if len(store.class_names) == 1:
        return "the labels are not used, since there is one class only"
    return (
        f"the labels are not used, since there are none for {' and '.join(_unlabelled(store))}; "
        "give each class several images"
    )


def _unlabelled(store: RecordStore) -> list[str]:
    """Return the splits that are not there, or have no labels."""
    splits = {name: store.splits.get(name) for name in SPLITS}
    return [name for name, split in splits.items() if split is None or not split.labelled]
