"""How images are read and what a record store is to be like: the options of `igpt data prepare`.

No NumPy here, so that the command line can list them at once.
"""

from dataclasses import dataclass
from typing import get_args

from igpt.errors import ConfigError, nearest_name
from igpt.pixels.filters import DEFAULT_FILTER, ResamplingFilter
from igpt.values import require_seed

SPLITS = ("train", "validation", "test")

NONE = "none"
"""What `SourceConfig.split` calls a split that is not to be the source's."""

HELD_OUT = 0.1
"""Share of the training images that is held out unless another is asked for."""


@dataclass(frozen=True, kw_only=True)
class SourceConfig:
    """How a source is read."""

    no_labels: bool = False
    """Leave all labels out, whatever there is."""
    image_column: str | None = None
    """Of a table: the column with the images; found by its type and name by default."""
    label_column: str | None = None
    """Of a table or `metadata.csv`: the column with the labels; found likewise."""
    config: str | None = None
    """Of a data set on the hub: which of its configurations."""
    split: tuple[str, ...] = ()
    """Such as test=validation: what the source calls validation is to be the test split, and no
    other; again for more. Of test=none the source's own is left aside. By default splits go by
    their names, but where a test split has no labels, as ImageNet's, validation is test."""
    rename: tuple[str, ...] = ()
    """Such as n01440764=tench: what a class is to be called instead; again for more."""
    placements: int = 4
    """Records made of each of the "digits"."""
    seed: int = 0
    """Chooses what is held out, what `limit` keeps, where "digits" are placed, and crops."""

    def __post_init__(self) -> None:
        """Reject what cannot work."""
        require_seed(self.seed)
        for text in self.split:
            split, equals, _ = text.partition("=")
            if not equals:
                raise ConfigError(f"a split is given as test=validation, got {text!r}")
            if split not in SPLITS:
                raise ConfigError(f"there is no split {split!r}{nearest_name(split, SPLITS)}")
        for text in self.rename:
            if not all(text.partition("=")):
                raise ConfigError(f"a class is renamed as old=new, got {text!r}")
        chosen = [name for name in self.splits.values() if name != NONE]
        if len(self.split) != len(self.splits) or len(chosen) != len(set(chosen)):
            raise ConfigError(
                f"one split cannot be two, got {' '.join(self.split)}; choose one of them"
            )
        if self.splits.get("train") == NONE:
            raise ConfigError(
                "without a training split there is nothing to learn from, got "
                "train=none; name the split to train on, such as train=test"
            )

    @property
    def splits(self) -> dict[str, str]:
        """The names of the source's splits that `split` gives for some of train and the others."""
        return {split: name for split, _, name in (text.partition("=") for text in self.split)}


@dataclass(frozen=True, kw_only=True)
class StoreConfig(SourceConfig):
    """What a store is to be like, and how the source is read that it is made from."""

    image_size: int
    """Side of a record, in pixels."""
    filter: ResamplingFilter = DEFAULT_FILTER
    """How pixels are averaged where an image is larger, and where records are shrunk later."""
    validation_fraction: float | None = None
    """Share of the training images to hold out, if the source has no validation split; 0 for none.
    By default 0.1, the paper's for CIFAR-10; 0.04 is its for ImageNet (section 3.1)."""
    test_fraction: float | None = None
    """The same for the test split, which is held out first."""
    strict: bool = False
    """Refuse the source at its first broken image, rather than skip it."""
    enlarge: bool = False
    """Accept images smaller than a record."""
    limit: int | None = None
    """Use at most this many images of each split of the source, drawn at random."""
    drop_duplicates: bool = False
    """Leave out images that are the same, byte for byte, as another: in train those that are in
    validation or test as well, in validation those in test, and in one split all but the first."""
    crops: int = 0
    """Cut this many views of each whole training image, once, rather than its centered square: the
    paper's random crops, but of these few, frozen, where it draws one anew at every visit. Train on
    them with augmentation=none."""
    levels: int | None = None
    """The grey level that is white in files of 16 bits or more and of floats; by default 65535, and
    1.0 in floats."""
    max_pixels: int | None = None
    """How many pixels of an image are decoded at most; 89 million by default."""
    fast_jpeg: bool = False
    """With crops: let the JPEG decoder shrink images as far as crops stay twice a record's size.
    They are the same crops, but their pixels differ: 31 dB PSNR, 44 or more if the filter is not
    box."""

    def __post_init__(self) -> None:
        """Reject what cannot work."""
        super().__post_init__()
        for name in ("image_size", "limit", "levels", "max_pixels"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"{name} must be at least 1, got {value}")
        if self.filter not in (filters := get_args(ResamplingFilter)):
            raise ConfigError(
                f"there is no filter {self.filter!r}{nearest_name(self.filter, filters)}"
            )
        for fraction in (self.validation_fraction, self.test_fraction):
            if fraction is not None and not 0 <= fraction < 1:
                raise ConfigError(f"a held-out fraction must lie in [0, 1), got {fraction}")
        if self.crops < 0:
            raise ConfigError(
                f"crops must be at least 1, or 0 for centered squares, got {self.crops}"
            )
        if self.fast_jpeg and not self.crops:
            raise ConfigError("--fast-jpeg is for crops alone; set --crops, or leave it out")
