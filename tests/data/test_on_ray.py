"""A store that the processes of a Ray cluster prepare is the store that threads here do."""

import hashlib
import importlib.util
import shutil

import numpy as np
import pytest

from igpt.data.config import StoreConfig
from igpt.data.prepare import prepare_store
from igpt.errors import ConfigError, DataError
from igpt.pixels.images import write_png

INSTALLED = importlib.util.find_spec("ray") is not None
pytestmark = pytest.mark.filterwarnings("ignore")  # of Ray's, which are many
needs_ray = pytest.mark.skipif(not INSTALLED, reason="needs the extra igpt[ray]")


def on_two_nodes(test):
    return pytest.mark.slow(needs_ray(test))


def files(store):
    """The bytes of every file of a store."""
    return {
        path.relative_to(store).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in store.rglob("*")
        if path.is_file()
    }


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Images of noise in class folders, some copies of others, some broken."""
    folder = tmp_path_factory.mktemp("photos")
    generator = np.random.default_rng(0)
    for number in range(300):
        name = folder / ("left", "right")[number % 2] / f"{number:03}.png"
        write_png(name, generator.integers(0, 256, (20, 24, 3), dtype=np.uint8))
    for number in (7, 70, 200):
        shutil.copy(folder / "left" / "000.png", folder / "left" / f"copy-{number}.png")
    (folder / "right" / "005-broken.png").write_bytes(b"broken")
    return folder


@pytest.fixture(scope="module")
def address():
    """A cluster of two nodes on this machine, of a processor each."""
    from ray.cluster_utils import Cluster

    cluster = Cluster(
        initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False}
    )
    cluster.add_node(num_cpus=1)
    cluster.wait_for_nodes()
    yield cluster.address
    cluster.shutdown()


@on_two_nodes
@pytest.mark.parametrize(
    "options", [{}, {"crops": 2}, {"drop_duplicates": True, "limit": 100}]
)  # fmt: skip
def test_the_store_is_that_of_this_machine_byte_for_byte(photos, address, tmp_path, options):
    config = StoreConfig(image_size=8, **options)
    for name, ray in (("here", None), ("there", address)):
        prepare_store(str(photos), tmp_path / name, config, shard_images=100, ray=ray)
    assert files(tmp_path / "here") == files(tmp_path / "there")


@on_two_nodes
@pytest.mark.parametrize("kind", ["tar", "parquet"])
def test_archives_and_tables_are_read_by_the_nodes(photos, address, tmp_path, kind):
    source = tmp_path / "source"
    source.mkdir()
    write = {"tar": write_tars, "parquet": write_tables}[kind]
    write(photos, source)
    config = StoreConfig(image_size=8)
    for name, location, ray in (
        ("here", source, None), ("there", source, address),
        ("url", f"file://{source}", address),
    ):  # fmt: skip
        prepare_store(str(location), tmp_path / name, config, shard_images=100, ray=ray)
    here, there, url = (files(tmp_path / name) for name in ("here", "there", "url"))
    assert here == there
    del here["store.json"], url["store.json"]  # which says where it was read
    assert here == url


@on_two_nodes
def test_what_is_begun_there_goes_on_here(photos, address, tmp_path, monkeypatch):
    config = StoreConfig(image_size=8)
    arguments = (str(photos), tmp_path / "store", config)
    save, calls = np.save, []

    def save_on_a_full_disk(*values):
        calls.append(values)
        if len(calls) == 9:
            raise OSError(28, "No space left on device")
        return save(*values)

    with monkeypatch.context() as patch:
        patch.setattr(np, "save", save_on_a_full_disk)
        with pytest.raises(DataError, match="No space left"):
            prepare_store(*arguments, shard_images=50, ray=address)
    there = set((tmp_path / "store" / "train").iterdir())
    assert 0 < len(there) < 5
    prepare_store(*arguments, shard_images=50)
    prepare_store(str(photos), tmp_path / "whole", config, shard_images=50)
    assert files(tmp_path / "store") == files(tmp_path / "whole")


@on_two_nodes
def test_a_refused_image_is_refused_in_the_words_of_this_machine(photos, address, tmp_path):
    config = StoreConfig(image_size=8, strict=True, crops=1)
    told = []
    for ray in (None, address):
        with pytest.raises(DataError) as error:
            prepare_store(str(photos), tmp_path / "store", config, ray=ray)
        told.append(str(error.value))
    assert told[0] == told[1]
    assert "005-broken.png" in told[0]


@on_two_nodes
def test_images_in_the_memory_of_this_process_are_refused(address, tmp_path):
    with pytest.raises(ConfigError, match=r"read by this process alone.*leave out --ray"):
        prepare_store("digits", tmp_path / "store", StoreConfig(image_size=8), ray=address)


@needs_ray
def test_an_address_without_a_cluster_is_one_line(photos, tmp_path):
    with pytest.raises(ConfigError, match=r"no Ray cluster at 127\.0\.0\.1:9 .*`ray start --head`"):
        prepare_store(str(photos), tmp_path / "store", StoreConfig(image_size=8), ray="127.0.0.1:9")


@pytest.mark.skipif(INSTALLED, reason="Ray is installed")
def test_without_ray_the_extra_is_named(photos, tmp_path):
    with pytest.raises(ConfigError, match=r"pip install 'igpt\[ray\]'"):
        prepare_store(str(photos), tmp_path / "store", StoreConfig(image_size=8), ray="local")


def write_tars(photos, out) -> None:
    import tarfile

    images = sorted(photos.rglob("*.png"))
    for number in range(3):
        with tarfile.open(out / f"{number:03}.tar", "w") as archive:
            for path in images[number::3]:
                archive.add(path, f"{path.parent.name}-{path.name}")


def write_tables(photos, out) -> None:
    import datasets

    features = datasets.Features(
        {"image": datasets.Image(), "label": datasets.ClassLabel(names=["left", "right"])}
    )
    images = sorted(photos.rglob("*.png"))
    for number, (split, part) in enumerate([("train", images[:200]), ("test", images[200:])]):
        columns = {
            "image": [{"bytes": path.read_bytes(), "path": None} for path in part],
            "label": [int(path.parent.name == "right") for path in part],
        }
        table = datasets.Dataset.from_dict(columns, features=features)
        table.to_parquet(out / f"{split}-0000{number}.parquet", batch_size=30)
