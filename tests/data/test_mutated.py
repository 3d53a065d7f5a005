"""Collections with bytes changed, cut off or put in: read as far as they can be, or refused."""

import io
import os
import re
import shutil
import tarfile
import zipfile
from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from igpt.data.config import StoreConfig
from igpt.data.prepare import prepare_store
from igpt.errors import IgptError

MOST_MEMORY = 256 * 2**20
"""Bytes by which the process may grow for collections of a few kilobytes each."""


def peak_memory(*, reset: bool = False) -> int:
    """The most bytes that this process has held since the last reset."""
    if not os.access("/proc/self/clear_refs", os.W_OK):
        pytest.skip("needs Linux's /proc")
    if reset:
        Path("/proc/self/clear_refs").write_text("5")
    (kilobytes,) = re.findall(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(kilobytes) * 1024


def png(shade: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (8, 8), (shade, shade, shade)).save(file, format="PNG")
    return file.getvalue()


def whole(kind: str) -> bytes:
    """A small collection of eight images with labels."""
    file = io.BytesIO()
    if kind == "parquet":
        rows = [{"bytes": png(shade), "path": f"{shade}.png"} for shade in range(8)]
        table = pa.table({"image": rows, "label": pa.array(["a", "b"] * 4).dictionary_encode()})
        pq.write_table(table, file, compression="snappy", row_group_size=4)
    elif kind == "zip":
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            for shade in range(8):
                archive.writestr(f"{'ab'[shade % 2]}/{shade}.png", png(shade))
            archive.writestr("metadata.csv", "file_name,label\na/0.png,x\nb/1.png,y\n")
    else:
        with tarfile.open(fileobj=file, mode="w") as archive:
            for shade in range(4):
                for ending, content in ((".png", png(shade)), (".cls", b"1"), (".json", b"{}")):
                    member = tarfile.TarInfo(f"{shade}{ending}")
                    member.size = len(content)
                    archive.addfile(member, io.BytesIO(content))
    return file.getvalue()


def mutated(content: bytes, generator: np.random.Generator) -> bytes:
    """Change some bytes, and now and then cut the file off or double a part of it."""
    data = bytearray(content)
    for _ in range(int(generator.integers(1, 9))):
        # Half of the changes go to the end, where parquet and zip files have their tables.
        start = 0 if generator.random() < 0.5 else max(len(data) - 800, 0)
        data[int(generator.integers(start, len(data)))] = int(generator.integers(256))
    kind, cut = generator.random(), int(generator.integers(len(data)))
    if kind < 0.1:
        del data[cut:]
    elif kind < 0.2:
        data[cut:cut] = data[cut // 2 : cut]
    return bytes(data)


def require_only_refusals_of_ours(tmp_path, kind, count, seed):
    generator, content = np.random.default_rng(seed), whole(kind)
    outcomes = {"read": 0, "refused": 0}
    config = StoreConfig(image_size=8, enlarge=True)
    for number in range(count):
        path = tmp_path / f"{number}.{kind}"
        path.write_bytes(mutated(content, generator))
        try:
            store = prepare_store(str(path), tmp_path / f"store-{number}", config)
        except IgptError as error:
            outcomes["refused"] += len(str(error).splitlines()) == 1
        else:
            assert store.account.read >= 1
            outcomes["read"] += 1
            shutil.rmtree(store.path)
        path.unlink()
    return outcomes


@pytest.fixture(autouse=True)
def cache_of_its_own(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


@pytest.mark.parametrize("kind", ["parquet", "zip", "tar"])
def test_a_mutated_collection_is_read_or_refused_in_a_line(tmp_path, kind):
    outcomes = require_only_refusals_of_ours(tmp_path, kind, 35, seed=0)
    assert min(outcomes.values()) > 0


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["parquet", "zip", "tar"])
def test_thousands_of_mutated_collections_are_read_or_refused_in_bounded_memory(tmp_path, kind):
    before = peak_memory(reset=True)
    outcomes = require_only_refusals_of_ours(tmp_path, kind, 700, seed=1)
    assert peak_memory() - before < MOST_MEMORY
    assert min(outcomes.values()) > 0
