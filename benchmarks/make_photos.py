"""A folder of photographs as people have them, made of CIFAR-10: what `igpt start` is tried on.

    igpt data prepare shared/data/cifar10 --image-size 32 --out data/cifar10
    python benchmarks/make_photos.py data/cifar10 photos --images 600 --classes 5

Folders are classes. The pictures are enlarged and no squares; formats, orientations (EXIF) and
names are mixed, as cameras, phones and the web leave them. The same call makes the same files.
"""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from igpt.data.store import RecordStore

ENDINGS = (".jpg", ".JPG", ".jpeg", ".png", ".webp", ".bmp")
NAMES = ("IMG_{:04}", "DSC {:05} (1)", "Häuser & Tiere {:03}", "scan.{:03}.final", "{:03} #2")
TURNED = {1: 0, 3: 180, 6: 90, 8: 270}
"""EXIF orientations, and by how many degrees what is stored is turned, counterclockwise."""


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("store", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--images", type=int, default=600)
    parser.add_argument("--classes", type=int, default=5)
    given = parser.parse_args()
    generator = np.random.default_rng(0)
    records = RecordStore.open(given.store).split("train")
    labels = records.require_labels()
    for label, name in enumerate((records.class_names or ())[: given.classes]):
        folder = given.out / name
        folder.mkdir(parents=True)
        for number in np.flatnonzero(labels == label)[: given.images // given.classes].tolist():
            ending = ENDINGS[generator.integers(len(ENDINGS))]
            called = NAMES[generator.integers(len(NAMES))].format(number)
            save(Image.fromarray(records.images[number]), folder / (called + ending), generator)


def save(square: Image.Image, file: Path, generator: np.random.Generator) -> None:
    """Write a picture larger, wider or higher than it was, and turned if its format can say so."""
    side = int(generator.integers(96, 257))
    picture = square.convert("RGB").resize((side, side), Image.Resampling.BICUBIC)
    wide, high = (int(extra) for extra in generator.integers(0, side // 2, 2))
    border = (wide // 2, 0) if generator.integers(2) else (0, high // 2)
    picture = ImageOps.expand(picture, border=border, fill=(128, 128, 128))
    options = {}
    if file.suffix.lower() in (".jpg", ".jpeg"):
        orientation = int(generator.choice(list(TURNED)))
        picture = picture.rotate(TURNED[orientation], expand=True)
        exif = Image.Exif()
        exif[0x0112] = orientation
        options = {"exif": exif, "quality": 92}
    picture.save(file, **options)


if __name__ == "__main__":
    main()
