"""Image files to a store: images/s on one core and two, by Ray and without; row 16.

    python benchmarks/bench_prepare.py [--rounds 3] [--toy] [--ray]

The images are made on the spot, of noise and shapes: 500x375 JPEGs about as long as ImageNet's, so
that the decoder has as much to do as with photographs. They lie in the page cache.
"""

import io
import itertools
import os
import shutil
import statistics
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from harness import Contender, arguments, race, write_row
from PIL import Image, ImageDraw

from igpt.data.config import StoreConfig
from igpt.data.on_ray import cluster
from igpt.data.prepare import prepare_store
from igpt.pixels.images import read_square

WIDTH, HEIGHT, QUALITY = 500, 375, 90
NOISE = 24.0  # standard deviation in levels, by which such a JPEG has some 107 kB
SIDE = 64
MANY = (1_000_000, 100_000_000)


def write_photographs(folder: Path, count: int) -> float:
    """Write images of shapes under noise, and return their mean length in bytes."""
    generator = np.random.default_rng(0)
    folder.mkdir()
    for number in range(count):
        image = Image.new("RGB", (WIDTH, HEIGHT), tuple(generator.integers(0, 256, 3).tolist()))
        drawing = ImageDraw.Draw(image)
        for _ in range(12):
            left, top = generator.uniform(-50, (WIDTH, HEIGHT)).tolist()
            right, bottom = left + generator.uniform(20, 250), top + generator.uniform(20, 200)
            color = tuple(generator.integers(0, 256, 3).tolist())
            shape = drawing.ellipse if generator.integers(2) else drawing.rectangle
            shape((left, top, right, bottom), fill=color)
        noise = generator.normal(0, NOISE, (HEIGHT, WIDTH, 3))
        pixels = np.clip(np.asarray(image) + noise, 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:05}.jpg", quality=QUALITY)
    return statistics.mean(file.stat().st_size for file in folder.iterdir())


def record_of(image: Image.Image) -> np.ndarray:
    """Return the middle of a decoded image as a square, step by step as igpt does."""
    width, height = (round(side * SIDE / min(image.size)) for side in image.size)
    small = image.resize((width, height), Image.Resampling.BOX)
    left, top = (width - SIDE) // 2, (height - SIDE) // 2
    return np.asarray(small.crop((left, top, left + SIDE, top + SIDE)))


def parts(folder: Path, scratch: Path) -> dict[str, float]:
    """Return the milliseconds of processor time an image that each part of the work takes."""
    spent = dict.fromkeys(("reading", "decoding", "resizing and cropping", "writing"), 0.0)
    whole, files = 0.0, sorted(folder.iterdir())
    with (scratch / "records").open("wb") as out:
        for path in files:
            begun = time.thread_time()
            content = path.read_bytes()
            read = time.thread_time()
            with Image.open(io.BytesIO(content)) as image:
                image.load()
                decoded = time.thread_time()
                record = record_of(image)
            resized = time.thread_time()
            out.write(record.tobytes())
            written = time.thread_time()
            np.testing.assert_array_equal(record, read_square(content, SIDE, "box"))
            clock = (begun, read, decoded, resized, written)
            for name, (start, end) in zip(spent, itertools.pairwise(clock), strict=True):
                spent[name] += end - start
            begun = time.thread_time()
            read_square(path, SIDE, "box")
            whole += time.thread_time() - begun
    spent["judging the file first"] = whole - sum(spent.values()) + spent["writing"]
    return {name: 1e3 * seconds / len(files) for name, seconds in spent.items()}


def drafted(folder: Path) -> tuple[float, float]:
    """Return how long squares take if the decoder shrinks by 2 first, as a share, and their PSNR.

    That is Pillow's `draft`, which igpt has no use of for squares: it changes their pixels.
    """
    seconds: dict[bool, float] = dict.fromkeys((False, True), 0.0)
    errors = []
    for path in sorted(folder.iterdir())[:200]:
        records = []
        for shrunk in seconds:
            start = time.thread_time()
            with Image.open(path) as image:
                if shrunk:
                    image.draft(None, (WIDTH // 2, HEIGHT // 2))
                records.append(record_of(image).astype(float))
            seconds[shrunk] += time.thread_time() - start
        errors.append(np.mean((records[0] - records[1]) ** 2))
    return seconds[True] / seconds[False], float(10 * np.log10(255**2 / np.mean(errors)))


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--images", type=int, default=600)
    parser.add_argument("--ray", action="store_true", help="Also by two processes of Ray.")
    given = parser.parse_args()
    count = 24 if given.toy else given.images
    with tempfile.TemporaryDirectory() as name, ExitStack() as held:
        scratch = Path(name)
        length = write_photographs(scratch / "photos", count)
        config = StoreConfig(
            image_size=SIDE, filter="box", validation_fraction=0.0, test_fraction=0.0
        )

        def prepare(out: str, **options) -> None:
            shutil.rmtree(scratch / out, ignore_errors=True)
            prepare_store(str(scratch / "photos"), scratch / out, config, **options)

        contenders = [
            Contender("igpt, one core", lambda: prepare("one", workers=1), count),
            Contender("igpt, two cores", lambda: prepare("two", workers=2), count),
        ]
        if given.ray:
            held.enter_context(cluster("local", workers=2))
            contenders.append(
                Contender("igpt on Ray, two processes", lambda: prepare("ray", ray="local"), count)
            )
        for contender in contenders:
            contender.run()
        stores = [scratch / out for out in ("one", "two", "ray") if (scratch / out).exists()]
        pixels = {(store / "train" / "images.npy").read_bytes() for store in stores}
        assert len(pixels) == 1, "who reads the images must not matter"
        results = race(contenders, rounds=given.rounds, warmup=0)
        of_parts = parts(scratch / "photos", scratch)
        share, psnr = drafted(scratch / "photos")
    one, two = (result["per_second"] for result in results[:2])
    of_all = {  # of one core and of two: what threads cost each other is in the second
        contender.name: 1e3
        * statistics.median(np.multiply(contender.seconds, contender.loads))
        / count
        for contender in contenders[:2]
    }
    whole = sum(of_parts.values())
    a_core = 1e3 / whole
    write_row(
        "16-prepare",
        f"{count} JPEGs of {WIDTH}x{HEIGHT} and {length / 1e3:.0f} kB to a store of {SIDE}x{SIDE}",
        results,
        ours="igpt, two cores",
        unit="images",
        figures={
            "milliseconds of processor time an image": round(whole, 2),
            "images/s a core, by that time": round(a_core),
            **{
                f"milliseconds of processor time an image, all of the command, {name}": round(ms, 2)
                for name, ms in of_all.items()
            },
            "two cores over one, by the clock": round(two / one, 2),
            **{f"share of {part}": round(spent / whole, 3) for part, spent in of_parts.items()},
            **{
                f"core hours for {images:,} images": round(images / a_core / 3600, 2)
                for images in MANY
            },
            "cores for 100 million images in a day": round(MANY[-1] / a_core / 86400, 1),
            "time with draft decoding by 2, of that without": round(share, 2),
            "PSNR of squares with draft decoding, dB": round(psnr, 1),
        },
        notes=[
            "All contenders' stores have the same pixels. The parts are timed one by one in one "
            "thread. Files lie in the page cache, so a disk's or a network's time is not in it.",
            "Draft decoding is used for no squares, whose pixels it would change; for crops only "
            "with --fast-jpeg, and for images of more than 33 million pixels.",
            f"Other work ran on the {os.cpu_count()} cores meanwhile; the contenders took turns.",
        ],
    )


if __name__ == "__main__":
    main()
