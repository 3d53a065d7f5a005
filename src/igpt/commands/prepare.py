"""To begin with: the quickstart, the recipes, images to records, and their palette."""

import json
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from cyclopts.types import NonNegativeInt, PositiveInt
from cyclopts.validators import Number

from igpt.commands.options import Device, Filter, Json, Seed, show
from igpt.values import to_dict


def quickstart(
    *, out: Path = Path("runs/quickstart"), seed: Seed = 0, device: Device = "auto",
    as_json: Json = False,
) -> None:  # fmt: skip
    """Run the whole method on scikit-learn's digits, in minutes and without network.

        igpt quickstart --out runs/quickstart

    Args:
        out: Folder for all of it; one that was stopped goes on.
    """
    from igpt.quickstart import quickstart, summary_table

    summary = quickstart(out, device=device, seed=seed)
    show(summary, as_json=as_json, text=summary_table(summary, out))


def recipes(name: str | None = None, /) -> None:
    """List the recipes, or print every setting of one.

        igpt recipes cifar10-tiny

    Args:
        name: A recipe; all by default, a line each.
    """
    from igpt.runs.recipes import RECIPES, find_recipe

    if name is not None:
        print(json.dumps(to_dict(find_recipe(name)), indent=2))
        return
    for known, recipe in RECIPES.items():
        print(f"{known:18} {recipe.model.parameters / 1e6:8.1f}M weights  {recipe.description}")


def data_prepare(
    source: str, /, *, image_size: PositiveInt, out: Path, filter: Filter = "box",
    validation_fraction: float = 0.1, test_fraction: float = 0.1, limit: PositiveInt | None = None,
    strict: bool = False, enlarge: bool = False, placements: PositiveInt = 4,
    palette: Path | None = None, crops: NonNegativeInt = 0, fast_jpeg: bool = False,
    seed: Seed = 0,
) -> None:  # fmt: skip
    """Read SOURCE once and store its images at one size.

        igpt data prepare photos/ --image-size 32 --out data/photos

    SOURCE is a folder of images (class folders are labels), a folder of parquet files in the hub's
    layout, the name of a hub data set such as uoft-cs/cifar10, "digits", which ships with
    scikit-learn, or, with --palette, the authors' token arrays: tokens/imagenet for
    tokens/imagenet_trX.npy, imagenet_teX.npy and so on, with labels in imagenet_trY.npy.

    Args:
        source: Where the images are.
        image_size: Side of the stored images, in pixels.
        out: Folder of the new store.
        filter: How to resample; all are antialiased.
        validation_fraction: Held out from train, if the source has no validation split; 0 for none.
            ImageNet: 0.04.
        test_fraction: The same for the test split.
        limit: Use only so many images of each split, drawn by seed.
        strict: Refuse broken files rather than skip and count them.
        enlarge: Allow images smaller than --image-size.
        placements: For "digits": at how many positions each is put.
        palette: For token arrays: the palette they stand for.
        crops: Make so many random crops of each whole training image, as the paper does for
            ImageNet, rather than its centered square. Train on them with --set augmentation=none.
        fast_jpeg: With --crops: let the JPEG decoder shrink images as far as crops stay twice
            --image-size. The crops are the same, their pixels differ: 31 dB PSNR, 44 or more if
            --filter is not box.
    """
    from igpt.data.records import prepare_store

    store = prepare_store(
        source, out, image_size=image_size, filter=filter, validation_fraction=validation_fraction,
        test_fraction=test_fraction, limit=limit, strict=strict, enlarge=enlarge,
        placements=placements, palette=palette, crops=crops, fast_jpeg=fast_jpeg, seed=seed,
    )  # fmt: skip
    print(store.summary())


def palette_fit(
    store: Path, /, *, out: Path,
    size: Annotated[int, Parameter(validator=Number(gte=2, lte=65536))] = 512, grey: bool = False,
    image_size: PositiveInt | None = None, seed: Seed = 0, as_json: Json = False,
) -> None:  # fmt: skip
    """Fit a palette to the train split of STORE, by k-means.

        igpt palette fit data/photos --size 512 --out palette.npy

    Beside it: OUT.json with the distortion it causes, and OUT.png, originals above quantized.

    Args:
        store: Record store to read.
        out: The palette file, .npy.
        size: Number of colors.
        grey: Levels of grey instead of colors.
        image_size: Fit at this size, if not the store's own.
    """
    from igpt.runs.palette import fit_palette_file

    report = fit_palette_file(store, out, size=size, grey=grey, image_size=image_size, seed=seed)
    picture = f"{out.with_suffix('.png')}: originals above quantized"
    show(report, as_json=as_json, at=out, also=picture)
