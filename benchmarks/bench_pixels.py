"""Pixels to tokens, the table behind it, the palette itself, and crops of JPEGs: rows 6 to 8, 11.

    python benchmarks/bench_pixels.py [--rounds 5] [--toy] [--only ROW] [--data CIFAR10_FOLDER]

Without a folder of CIFAR-10's parquet files the images are made up: smooth ones, and noise.
"""

import io
import warnings
from functools import partial

import numpy as np
from harness import Contender, arguments, race, write_row
from PIL import Image
from sklearn.cluster import KMeans
from transformers.models.imagegpt.image_processing_pil_imagegpt import ImageGPTImageProcessorPil

from igpt.data.augment import CROP, LONGEST, SHORTEST, crop_boxes
from igpt.data.reading import file_records
from igpt.data.sources import SourceImage, open_source
from igpt.data.store import StoreConfig
from igpt.pixels.filters import ResamplingFilter
from igpt.pixels.nearest import nearest, nearest_table
from igpt.pixels.palette import Palette, unpack_colors
from igpt.pixels.palette_fitting import fit_palette, measure_distortion
from igpt.pixels.tokenizer import ImageTokenizer
from igpt.randomness import Stream, stream

SIZE = 512
RAW_PIXELS = 1_000_000  # of which the peer of row 8 finds its palette
RAW_ITERATIONS = 15
CONVERGED = 100  # rounds on all colors, to which row 8 compares
WIDTH, HEIGHT, QUALITY = 500, 375, 96  # of a JPEG about as long as ImageNet's
MOSAIC = (6, 8)  # images of 32x32 in each
TOGETHER = 4  # crops of an image, where there are several


def load_images(data: str | None, count: int) -> tuple[str, np.ndarray]:
    """Return what the images are, and (count, 32, 32, 3) bytes."""
    if data is not None:
        split = open_source(data).splits["train"]
        count = min(count, len(split))
        return "CIFAR-10", np.stack([split.image(index).read()[0] for index in range(count)])
    generator = np.random.default_rng(0)
    y, x = np.mgrid[:32, :32][..., None]
    images = np.empty((count, 32, 32, 3), np.uint8)
    for image in images:
        corner, across, down = generator.normal((128, 0, 0), (50, 3, 3), (3, 3)).T
        noise = generator.normal(0, 8, (32, 32, 3))
        image[:] = np.clip(corner + across * (x - 16) + down * (y - 16) + noise, 0, 255)
    return "smooth images", images


def random_palette() -> Palette:
    return Palette(np.random.default_rng(0).uniform(-1, 1, (SIZE, 3)).astype(np.float32))


def tokenize(kind: str, images: np.ndarray, suffix: str, *, rounds: int, toy: bool) -> None:
    palette = random_palette()
    tokenizer = ImageTokenizer(palette, 32)
    everything = np.arange(2**24, dtype=np.uint32).reshape(4096, 4096)
    palette.encode(unpack_colors(everything))  # makes the table
    batched, single = (8, 4) if toy else (256, 64)
    processor = ImageGPTImageProcessorPil(clusters=palette.colors, do_resize=False)

    def peer(images: np.ndarray) -> np.ndarray:
        return np.asarray(processor(list(images), return_tensors="np")["input_ids"])

    # Theirs are float32 distances, expanded, ours the exact ones: they part where two nearly tie.
    checked = images[:batched]
    ours = tokenizer.encode(checked).numpy().reshape(-1)
    theirs = np.concatenate([peer(part).reshape(-1) for part in np.array_split(checked, 8)])
    points = checked.reshape(-1, 3)
    np.testing.assert_array_equal(ours, nearest(palette.colors, points))
    apart = np.flatnonzero(ours != theirs)
    gaps = [
        ((points[apart] / 127.5 - 1 - palette.colors[tokens[apart]].astype(float)) ** 2).sum(-1)
        for tokens in (ours, theirs)
    ]
    np.testing.assert_allclose(gaps[0], gaps[1], rtol=0, atol=5e-6)
    contenders = [
        Contender("igpt, all at once", partial(tokenizer.encode, images), len(images)),
        Contender(
            "igpt, one at a time",
            lambda: [tokenizer.encode(image[None]) for image in images[:1000]],
            min(1000, len(images)),
        ),
        *(
            Contender(
                f"transformers, batches of {size}",
                lambda size=size, count=count: [
                    peer(images[start : min(start + size, count)])
                    for start in range(0, count, size)
                ],
                count,
            )
            for size, count in ((64, batched), (8, batched), (1, single))
        ),
    ]
    results = race(contenders, rounds=rounds)
    for result in results:  # each timed on as many images as it deserves: compare for all
        for name in ("seconds", "fastest", "slowest"):
            result[name] *= len(images) / next(
                contender.units for contender in contenders if contender.name == result["name"]
            )
    write_row(
        f"06-tokenize-{suffix}",
        f"tokenizing {len(images):,} images of 32x32 ({kind}), {SIZE} colors",
        results,
        ours="igpt, all at once",
        reach="200x its best mode",
        unit="images",
        notes=[
            f"ImageGPTImageProcessorPil (do_resize=False) was timed on {batched} images, {single} "
            "one at a time, and igpt one at a time on at most 1,000; times are scaled to all.",
            f"Tokens of {batched} images: ours equal the nearest by float64 distances; "
            f"transformers' differ in {len(apart)} of {len(ours):,}, all ties to within 5e-6.",
        ],
    )


def table(*, rounds: int, toy: bool) -> None:
    palette = random_palette()
    colors = 2**16 if toy else 2**20
    sample = np.linspace(0, 2**24 - 1, colors).astype(np.uint32)
    found = nearest_table(palette.colors).reshape(-1)
    checked = sample if toy else np.arange(2**24, dtype=np.uint32)
    np.testing.assert_array_equal(
        found[checked], nearest(palette.colors, unpack_colors(checked)), strict=True
    )
    ours = Contender("igpt", lambda: nearest_table(palette.colors), 2**24)
    peer = Contender("direct distances", lambda: nearest(palette.colors, unpack_colors(sample)))
    results = race([ours, peer], rounds=rounds)
    for name in ("seconds", "fastest", "slowest"):
        results[1][name] *= 2**24 / colors
    results[1]["per_second"] = 2**24 / results[1]["seconds"]
    write_row(
        "07-table",
        f"the exact table of 2^24 colors, {SIZE} in the palette",
        results,
        ours="igpt",
        reach="1.0 s",
        reached=results[0]["seconds"] <= 1.0,
        unit="colors",
        notes=[
            f"Equal to direct distances in float64 for all {len(checked):,} colors; those were "
            f"timed on {colors:,}, scaled to all."
        ],
    )


def fit(kind: str, images: np.ndarray, *, rounds: int, toy: bool) -> None:
    size = 16 if toy else SIZE
    found: list[Palette] = []
    raw = images.reshape(-1, 3)
    count = min(RAW_PIXELS, len(raw))
    chosen = np.random.default_rng(0).choice(len(raw), count, replace=False)
    sample = (raw[chosen] / 127.5 - 1).astype(np.float32)

    def peer() -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            means = KMeans(size, n_init=1, max_iter=RAW_ITERATIONS, random_state=0).fit(sample)
        found.append(Palette(np.clip(means.cluster_centers_, -1, 1)))

    ours = Contender("igpt", lambda: found.append(fit_palette(images, size)), len(raw))
    theirs = Contender("scikit-learn KMeans on raw pixels", peer, count)
    results = race([ours, theirs], rounds=rounds, warmup=0)
    results[1]["per_second"] = count / results[1]["seconds"]
    longest = fit_palette(images, size, refinements=2 if toy else CONVERGED)
    errors = [
        measure_distortion(palette, images).mean_squared_error for palette in (*found[:2], longest)
    ]
    write_row(
        "08-palette",
        f"a palette of {size} colors for {len(raw):,} pixels ({kind})",
        results,
        ours="igpt",
        reach="all pixels in under 30 s, inertia within 0.5 % of convergence",
        reached=results[0]["seconds"] < 30 and errors[0] < 1.005 * errors[2],
        unit="pixels",
        notes=[
            f"scikit-learn was given {count:,} of the pixels, {RAW_ITERATIONS} iterations; the "
            "ratio is of unequal work, and per pixel scikit-learn takes "
            f"{results[1]['seconds'] / count / (results[0]['seconds'] / len(raw)):.0f} times as "
            "long; compare the errors too.",
            f"Convergence: the same start and {CONVERGED} rounds on all colors.",
        ],
        figures={
            "mean squared error on all pixels, igpt": errors[0],
            "mean squared error on all pixels, scikit-learn": errors[1],
            "mean squared error on all pixels, converged": errors[2],
        },
    )


def mosaics(images: np.ndarray) -> list[bytes]:
    """Return JPEGs of ImageNet's shape: small images side by side, enlarged twice, bicubic."""
    rows, columns = MOSAIC
    files = []
    for part in images[: len(images) // (rows * columns) * rows * columns].reshape(
        -1, rows, columns, 32, 32, 3
    ):
        joined = Image.fromarray(part.swapaxes(1, 2).reshape(rows * 32, columns * 32, 3))
        file = io.BytesIO()
        joined.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC).save(file, "JPEG", quality=QUALITY)
        files.append(file.getvalue())
    return files


def plain_crop(
    file: bytes, length: int, top: int, left: int, method: Image.Resampling
) -> np.ndarray:
    """Do what the paper says, one step after another."""
    image = Image.open(io.BytesIO(file))
    width, height = round(WIDTH * length / HEIGHT), length
    image = image.resize((width, height), method).crop((left, top, left + CROP, top + CROP))
    return np.asarray(image.resize((32, 32), method))


def decibels(ours: np.ndarray, theirs: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / max(np.mean((ours.astype(float) - theirs) ** 2), 1e-9)))


def jpeg_crops(kind: str, images: np.ndarray, filter: ResamplingFilter, *, rounds: int) -> None:
    files = mosaics(images)
    count = len(files)
    sources = [SourceImage(str(index), file) for index, file in enumerate(files)]
    single, fast, several, several_fast = (
        StoreConfig(image_size=32, filter=filter, crops=crops, fast_jpeg=fast_jpeg)
        for crops in (1, TOGETHER)
        for fast_jpeg in (False, True)
    )

    draws = []  # the paper's, in whole pixels of the resized image; not part of what is timed
    for index in range(count):
        for_length, for_top, for_left = stream(Stream.CROPS, 0, index).random(3)
        length = SHORTEST + int(for_length * (LONGEST - SHORTEST + 1))
        width = round(WIDTH * length / HEIGHT)
        top = int(for_top * (length - CROP + 1))
        left = int(for_left * (width - CROP + 1))
        draws.append((length, top, left))
        (box,) = crop_boxes(stream(Stream.CROPS, 0, index), HEIGHT, WIDTH, 1)
        scale = np.tile([length / HEIGHT, width / WIDTH], 2)
        np.testing.assert_allclose(box * scale, [top, left, top + CROP, left + CROP], rtol=1e-12)

    method = Image.Resampling[filter.upper()]

    def plain() -> np.ndarray:
        return np.stack(
            [plain_crop(file, *draw, method) for file, draw in zip(files, draws, strict=True)]
        )

    def every(config: StoreConfig, images: int = count) -> np.ndarray:
        return np.concatenate(
            [
                file_records(file, index, config, cropped=True)[0]
                for index, file in enumerate(sources[:images])
            ]
        )

    theirs, exact, shrunk = plain(), every(single), every(fast)
    np.testing.assert_array_equal(every(several)[::TOGETHER], exact)
    alike = {
        "igpt beside Pillow, PSNR in dB": decibels(exact, theirs),
        "igpt fast beside Pillow, PSNR in dB": decibels(shrunk, theirs),
        "igpt fast beside igpt, PSNR in dB": decibels(shrunk, exact),
        "the same, worst image": min(map(decibels, shrunk, exact)),
    }
    assert min(map(decibels, exact, theirs)) > 30
    assert alike["the same, worst image"] > 20
    part = max(count // TOGETHER, 1)
    results = race(
        [
            Contender("igpt", partial(every, single), count),
            Contender("igpt, fast", partial(every, fast), count),
            Contender(
                f"igpt, {TOGETHER} crops an image", partial(every, several, part), part * TOGETHER
            ),
            Contender(
                f"igpt, fast, {TOGETHER} crops an image",
                partial(every, several_fast, part),
                part * TOGETHER,
            ),
            Contender("Pillow, step by step", plain, count),
        ],
        rounds=rounds,
    )
    gains = [results[-1]["seconds"] / result["seconds"] for result in results[:2]]
    write_row(
        f"11-jpeg-crops-{filter}",
        f"{count} JPEGs of {WIDTH}x{HEIGHT} (mosaics of {kind}) to random crops of 32x32, {filter}",
        results,
        ours="igpt",
        reach="1.5x, and 2x with the fast option",
        reached=gains[0] >= 1.5 and gains[1] >= 2,
        unit="crops",
        notes=[
            f"No photographs of this size were to be had: each is {MOSAIC[0] * MOSAIC[1]} images "
            f"side by side, enlarged twice, bicubic, and saved at quality {QUALITY}, "
            f"{np.mean([len(file) for file in files]) / 1000:.0f} kB on average.",
            "Both cut the same boxes. Pillow's steps are decoding, a resize of the shorter side to "
            "256 to 384, a crop of 224, a resize to 32; its draws are not timed, ours are.",
            f"The rows of {TOGETHER} crops decode each image once; their ratio is for as many "
            "crops as the others.",
        ],
        figures={f"gain with the fast option, {filter}": gains[1], **alike},
    )


def main() -> None:
    options = arguments(__doc__.splitlines()[0]).parse_args()
    wanted = {int(number) for number in options.only or (6, 7, 8, 11)}
    how = {"rounds": options.rounds, "toy": options.toy}
    kind, images = "", np.empty(0)
    if wanted & {6, 8, 11}:
        kind, images = load_images(options.data, 100 if options.toy else 50_000)
    if 6 in wanted:
        few = images[:10_000]
        noise = np.random.default_rng(1).integers(256, size=few.shape, dtype=np.uint8)
        tokenize(kind, few, "images", **how)
        tokenize("noise", noise, "noise", **how)
    if 7 in wanted:
        table(**how)
    if 8 in wanted:
        fit(kind, images, **how)
    if 11 in wanted:
        few = images[: 48 * (2 if options.toy else 100)]
        jpeg_crops(kind, few, "box", rounds=options.rounds)
        jpeg_crops(kind, few, "bilinear", rounds=options.rounds)


if __name__ == "__main__":
    main()
