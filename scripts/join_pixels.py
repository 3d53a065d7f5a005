"""Put the pictures of several parquet files into one folder of them, without labels.

    python scripts/join_pixels.py cifar10/train.parquet tiny-imagenet/train.parquet --out both
    igpt data prepare both --no-labels --image-size 16 --out data/pixels16

The images of each file are in its column `img` or `image`; encoded as they are there, they are the
column `image` of both/data/train-00000-of-00002.parquet and so on, which `igpt data prepare` takes
for one train split.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import pyarrow.parquet as pq


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("files", type=Path, nargs="+")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    join(arguments.files, arguments.out)


def join(files: Sequence[Path], out: Path) -> None:
    """Write a file of pictures for each, in the folder `out`, which must not be there."""
    (out / "data").mkdir(parents=True)
    for number, file in enumerate(files):
        (column,) = {"img", "image"} & set(pq.read_schema(file).names)
        table = pq.read_table(file, columns=[column]).rename_columns(["image"])
        name = f"train-{number:05}-of-{len(files):05}.parquet"
        pq.write_table(table, out / "data" / name, row_group_size=5000)


if __name__ == "__main__":
    main()
