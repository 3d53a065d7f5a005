"""To begin with: the quickstart, the recipes, images to records, and their palette."""

import json
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from cyclopts.validators import Number

from igpt.commands.options import Count, Device, Json, Overwrite, Seed, Settings, Stored, show
from igpt.data.config import StoreConfig
from igpt.values import to_dict


def quickstart(
    *, out: Path = Path("runs/quickstart"), seed: Seed = 0, device: Device = "auto",
    as_json: Json = False,
) -> None:  # fmt: skip
    """Run the whole method on scikit-learn's digits, in minutes and offline.

        igpt quickstart --out runs/quickstart

    Args:
        out: Folder for all of it; one that was stopped goes on.
    """
    from igpt.quickstart import quickstart

    result = quickstart(out, device=device, seed=seed)
    show(result, as_json=as_json, text=result.table(out))


def start(
    source: str, /, *, minutes: float = 20.0, out: Path | None = None, asked: Settings = (),
    seed: Seed = 0, device: Device = "auto", as_json: Json = False,
) -> None:  # fmt: skip
    """Go from a folder of images to a network, a classifier and a report, in one command.

        igpt start photos/ --minutes 20

    SOURCE is what igpt data prepare takes, class folders as labels, or a record store. What is
    chosen, by the images and by a timed step of the network here, is said before the training:
    image size, palette, network, steps. Stopped in any way, the same line goes on. The trainings
    take as many steps as fit into the minutes, or fewer, where more would be learned by heart.

    Args:
        source: Where the images are.
        minutes: For everything from the palette to the report.
        out: Folder for all of it; runs/ and the name of the source by default.
    """
    place = out or Path("runs") / (Path(source).resolve().stem or "start")
    from igpt.start import start

    result = start(source, out=place, minutes=minutes, device=device, seed=seed, settings=asked)
    show(result, as_json=as_json, text=result.table(place))


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
    source: str, /, *, out: Path, config: Annotated[StoreConfig, Parameter(name="*")],
    palette: Path | None = None, shard_images: Count | None = None, workers: Count | None = None,
    ray: str | None = None,
) -> None:  # fmt: skip
    """Read SOURCE once and store its images at one size.

        igpt data prepare photos/ --image-size 32 --out data/photos

    SOURCE is a folder of images (class folders or a metadata.csv are labels), a zip or tar file of
    one, WebDataset shards, a folder of parquet files in the hub's layout, the name of a hub data
    set such as uoft-cs/cifar10, "digits", which ships with scikit-learn, or, with --palette, the
    authors' token arrays: tokens/imagenet for tokens/imagenet_trX.npy, imagenet_teX.npy and so on,
    with labels in imagenet_trY.npy. Folders, tar and parquet files may lie behind a URL that fsspec
    reads, such as s3://bucket/photos or hf://datasets/owner/name.

    Splits go by their names. ImageNet's labelled validation split is the paper's test split, and
    4 % of train its validation split (--validation-fraction 0.04): so it is read under its usual
    names on the hub, and wherever test has no labels. Of folders train/ and val/ alone, say so:

        igpt data prepare imagenet --image-size 64 --split test=val --out data/imagenet

    Args:
        source: Where the images are.
        out: Folder of the new store.
        palette: For token arrays: the palette they stand for.
        shard_images: Images of a shard. A split of more becomes several, each a folder, and a
            preparation that was stopped goes on after the last whole one, by the same line. By
            default as many as fill 2 GiB, or a 256th of the split.
        workers: How many images are read at the same time; one for each core by default.
        ray: Address of a Ray cluster that reads them, or local to start one here, of --workers
            processes. Every node has to reach SOURCE; the store is the same.
    """
    from igpt.data.prepare import prepare_store

    if source == "digits" and Path(source).exists():
        source = "./digits"  # a folder of that name goes before scikit-learn's
    store = prepare_store(
        source, out, config, palette=palette, shard_images=shard_images, workers=workers,
        ray=ray,
    )  # fmt: skip
    print(store.summary())


def data_verify(store: Stored, /, *, as_json: Json = False) -> None:
    """Read every file of STORE and hold it against its checksum in store.json, the manifest.

        igpt data verify data/photos

    Exit code 0: all are those that were prepared; 2: one is not, and a line names it. For a line
    each, see igpt verify.

    Args:
        store: Record store to read.
    """
    from igpt.runs.verify import verify

    verified = verify(store)
    verified.require_whole()
    show(verified, as_json=as_json, text=verified.count())


def data_show(store: Stored, /, *, out: Path, overwrite: Overwrite = False, seed: Seed = 0) -> None:
    """Draw some records of every class, to see what STORE holds, and print its account.

        igpt data show data/photos --out sheet.png

    Args:
        store: Record store to read.
        out: The picture, .png.
    """
    from igpt.data.contact_sheet import contact_sheet
    from igpt.data.store import RecordStore
    from igpt.outputs import require_ending, require_free
    from igpt.pixels.images import write_png

    require_ending(out, ".png", "a contact sheet is")
    require_free(out, overwrite=overwrite)
    records = RecordStore.open(store)
    write_png(out, contact_sheet(records, seed=seed))
    print(records.summary(), f"{out}: some records of every class", sep="\n")


def palette_fit(
    store: Stored, /, *, out: Path, overwrite: Overwrite = False,
    size: Annotated[int, Parameter(validator=Number(gte=2, lte=65536))] = 512, grey: bool = False,
    image_size: Count | None = None, seed: Seed = 0, as_json: Json = False,
) -> None:  # fmt: skip
    """Fit a palette to the train split of STORE, by k-means.

        igpt palette fit data/photos --size 512 --image-size 12 --out palette.npy

    Beside it: OUT.json with the distortion it causes, and OUT.png, originals above quantized.

    Args:
        store: Record store to read.
        out: The palette file, .npy.
        size: Number of colors.
        grey: Levels of grey instead of colors.
        image_size: Resize the images to the network's size first, as the paper does; the store's
            own by default.
    """
    from igpt.runs.palette import fit_palette_file

    report = fit_palette_file(
        store, out, size=size, grey=grey, image_size=image_size, seed=seed, overwrite=overwrite
    )
    picture = f"{out.with_suffix('.png')}: originals above quantized"
    show(report, as_json=as_json, at=out, also=picture)
