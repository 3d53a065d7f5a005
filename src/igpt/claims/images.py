"""Each seed's images: digits placed anew, or given ones held out anew, and their palettes.

They are made when first asked for and kept in the laboratory's folder, in `data/` and `palettes/`.
Which networks learn from them is the matter of `igpt.claims.trained`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from filelock import FileLock

from igpt.claims.scale import OTHER_CLASSES, Colors, Scale
from igpt.data.config import StoreConfig
from igpt.data.derived import keep_classes, redraw_validation
from igpt.data.prepare import prepare_store
from igpt.data.store import RecordStore
from igpt.errors import DataError
from igpt.runs.palette import files_beside, fit_palette_file, read_report

_PLACEMENTS = 3  # of each digit

Half = Literal["first", "second"]
"""Of the classes."""


def alone(path: Path) -> FileLock:
    """Return the lock that keeps other reproductions from making the same meanwhile."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return FileLock(path.with_name(f".{path.name}.lock"))


@dataclass(frozen=True)
class SeedImages:
    """The images that a scale's networks learn from and are measured on, by seed."""

    path: Path
    """Folder of the laboratory."""
    scale: Scale
    data: Path | None
    """Record store that networks learn from; None for the digits."""
    labelled: Path | None
    """Record store with labels, for probes and fine-tuning, if that is another."""

    @property
    def name(self) -> str:
        """What the data is called: the store's source, without the folders it lies in."""
        return "digits" if self.data is None else Path(RecordStore.open(self.data).source).name

    @property
    def colorful(self) -> bool:
        """Whether the images have colors."""
        train = RecordStore.open(self.store(0)).split("train")
        images = np.asarray(train.sample(100).images)
        return bool((images != images[..., :1]).any())

    def store(self, seed: int) -> Path:
        """Return a seed's images to learn from: digits placed anew, or given ones held out anew."""
        return self._store(self.data, "seed", seed)

    def labelled_store(self, seed: int) -> Path:
        """Return a seed's images with labels, which may be the same."""
        if self.labelled is None:
            return self.store(seed)
        return self._store(self.labelled, "labelled-seed", seed)

    def half(self, which: Half, seed: int) -> Path:
        """Return a seed's labelled images of the first or the second half of the classes.

        Raises:
            DataError: There are not two classes for each.
        """
        whole = RecordStore.open(self.labelled_store(seed))
        classes = range(len(whole.class_names or ()))
        if len(classes) < 4:
            raise DataError(
                f"{whole.path} has {len(classes)} classes, and a network is to learn from one half "
                "of them and be probed on the other; give images of 4 classes or more"
            )
        middle = len(classes) // 2
        chosen = classes[:middle] if which == "first" else classes[middle:]
        return self._made(
            f"{which}-half-seed-{seed}", lambda out: keep_classes(whole, out, classes=chosen)
        )

    def _store(self, given: Path | None, name: str, seed: int) -> Path:
        if given is None:
            scale = self.scale
            side = max(scale.recipe_of(network).model.image_size for network in scale.resolutions)
            config = StoreConfig(image_size=side, placements=_PLACEMENTS, seed=seed)
            return self._made(f"{name}-{seed}", lambda out: prepare_store("digits", out, config))
        store = RecordStore.open(given)
        if seed == 0 or store.config.crops:  # whose training images are no squares to hold out
            return given
        return self._made(f"{name}-{seed}", lambda out: redraw_validation(store, out, seed=seed))

    def _made(self, name: str, make: Callable[[Path], RecordStore]) -> Path:
        path = self.path / "data" / name
        with alone(path):
            if not (path / "store.json").is_file():
                make(path)
        return path

    def palette(self, colors: Colors, seed: int) -> Path:
        """Return the file of a palette of a seed's training images at the base network's size.

        Its report lies beside it.
        """
        file = self.path / "palettes" / f"{colors.name}-seed{seed}.npy"
        with alone(file):
            if not all(made.exists() for made in (file, *files_beside(file))):
                fit_palette_file(
                    self.store(seed), file, size=colors.size, grey=colors.grey, seed=seed,
                    image_size=self.scale.recipe_of("base").model.image_size, overwrite=True,
                )  # fmt: skip
        return file

    def distortion(self, colors: Colors, *, seed: int) -> float | None:
        """Return what a palette loses on held-out images, as a PSNR in dB; None if nothing."""
        return read_report(self.palette(colors, seed)).psnr_db

    def learned_from(self, network: str, seed: int) -> Path:
        """Return the images that a network learns from."""
        return self.half("first", seed) if network == OTHER_CLASSES else self.store(seed)

    def probed_on(self, network: str, seed: int) -> Path:
        """Return the labelled images that a network is probed on."""
        if network == OTHER_CLASSES:
            return self.half("second", seed)
        return self.labelled_store(seed)
