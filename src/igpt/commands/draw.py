"""Pictures from a run: completions, samples and surprise maps."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from cyclopts.validators import Number

from igpt.commands.options import (
    MODEL,
    PICTURES,
    SAMPLING,
    Count,
    Device,
    Json,
    Overwrite,
    Pictures,
    RunOrBuiltin,
    Sampling,
    Seed,
    show,
)
from igpt.commands.regions import REGION, Region
from igpt.errors import ConfigError
from igpt.places import run_of
from igpt.values import SEEDS

Chosen = Annotated[
    int | None,
    Parameter(
        help="With --data: decides which images; 0 by default.",
        validator=Number(gte=0, lt=SEEDS),
    ),
]
"""A seed that goes with test images alone: nothing about given ones is random."""


def complete(
    run: RunOrBuiltin = MODEL, /, *images: Path, pictures: Pictures = PICTURES,
    region: Region = REGION, samples: Count = 4, sampling: Sampling = SAMPLING, seed: Seed = 0,
    device: Device = "auto",
) -> None:  # fmt: skip
    """Finish half-seen IMAGES, as a grid and each by itself.

        igpt complete runs/a photo.jpg other.png --rows 6 --samples 4 --out completions/

    igpt complete runs/diffusion photo.jpg --box 4,4,8,8 --out inside/

    With --data instead of IMAGES, test images of a record store are finished, and the grid is kept
    as completions.png in the run, where the report finds it.

    Args:
        images: Image files, and folders, zip or tar files of them.
        samples: Completions of each.
    """
    pictures.check(images)
    region.check()
    from igpt.runs.pictures import complete_files, complete_records

    if pictures.data is not None:
        written = complete_records(
            run, pictures.data, count=pictures.count or 8, rows=region.rows, mask=region.mask,
            box=region.box, samples=samples, sampling=sampling, seed=seed, device=device,
        )  # fmt: skip
    else:
        written = complete_files(
            run, images, pictures.out or Path("completions"), rows=region.rows, mask=region.mask,
            box=region.box, samples=samples, filter=pictures.filter, sampling=sampling,
            seed=seed, device=device, overwrite=pictures.overwrite,
        )  # fmt: skip
    print(f"{written}: given | {samples} completions | original, a row an image")


def sample(
    run: RunOrBuiltin = MODEL, /, *, samples: Count = 16, out: Path = Path("samples.png"),
    overwrite: Overwrite = False, sampling: Sampling = SAMPLING, seed: Seed = 0,
    device: Device = "auto",
) -> None:  # fmt: skip
    """Draw images from nothing, as one PNG.

        igpt sample runs/a --samples 16 --out samples.png

    Args:
        samples: How many.
        out: The picture, .png.
    """
    from igpt.runs.pictures import sample_file

    sample_file(
        run, out, samples=samples, sampling=sampling, seed=seed, device=device, overwrite=overwrite
    )
    print(f"{out}: {samples} samples")


def surprise(
    run: RunOrBuiltin = MODEL, /, *images: Path, pictures: Pictures = PICTURES,
    seed: Chosen = None, device: Device = "auto", as_json: Json = False,
) -> None:  # fmt: skip
    """Measure how likely RUN finds IMAGES, and draw which pixels surprise it.

        igpt surprise runs/a photo.jpg --out surprise.png

    With --data instead of IMAGES, test images of a record store are drawn, and the picture is kept
    as surprise.png in the run, where the report finds it.

    Args:
        images: Image files, and folders, zip or tar files of them.
    """
    pictures.check(images)
    if images and seed is not None:
        raise ConfigError("--seed goes with --data")
    from igpt.runs.pictures import surprise_file, surprise_records

    if pictures.data is not None:
        out = run_of(run) / "surprise.png"
        nats = surprise_records(
            run, pictures.data, count=pictures.count or 8, seed=seed or 0, device=device
        )
    else:
        out = pictures.out or Path("surprise.png")
        nats = surprise_file(
            run, images, out, filter=pictures.filter, device=device,
            overwrite=pictures.overwrite,
        )  # fmt: skip
    lines = [f"{image}: {value:.4f} nats per pixel" for image, value in nats.items()]
    lines.append(
        f"{out}: image | in the palette's colors | surprise, by the scale below: from 0 nats to "
        "those of a color drawn blindly, or more"
    )
    show(nats, as_json=as_json, text="\n".join(lines))
