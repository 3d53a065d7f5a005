"""Small things that many tests need: a network, a palette, a store of made-up shapes."""

import os

# One thread a test process: two-thread PyTorch crawls when anything else runs beside it.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import contextlib
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from filelock import FileLock

from igpt.data.config import StoreConfig
from igpt.data.prepare import prepare_store
from igpt.data.store import Records, RecordStore
from igpt.model.config import ModelConfig
from igpt.model.kept_probe import Calibration, KeptProbe
from igpt.model.transformer import ImageGPT
from igpt.pixels.images import write_png
from igpt.pixels.palette import Palette
from igpt.pixels.preparation import Preparation
from igpt.runs.recipes import FinetuneConfig, Recipe
from igpt.training.config import TrainingConfig
from igpt.training.metrics import read_metrics

torch.set_num_threads(1)

TINY = ModelConfig(image_size=4, colors=16, layers=3, width=24, heads=4)


def random_model(config: ModelConfig = TINY, *, seed: int = 0, classes: int | None = None):
    """Return a network whose every weight matters: heads and gains are random too."""
    torch.manual_seed(seed)
    model = ImageGPT(config, classes=classes)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "head" in name or "bias" in name:
                parameter.normal_(std=0.3)
            if "gain" in name:
                parameter.uniform_(0.5, 1.5)
            if "embedding" in name:
                parameter.normal_(std=0.5)
    return model.eval()


def random_tokens(images: int = 2, *, config: ModelConfig = TINY, seed: int = 1):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(config.colors, (images, config.positions), generator=generator)


def random_records(images: int = 7, size: int = 4) -> Records:
    """Return images of noise, without labels."""
    pixels = np.random.default_rng(0).integers(0, 256, (images, size, size, 3), dtype=np.uint8)
    return Records(name="test", images=pixels, labels=None, class_names=None)


def blobs(records: int = 400, classes: int = 4, width: int = 6, seed: int = 0, spread: float = 2.0):
    """Return features around a center a class, the same centers for every seed, and labels."""
    generator = np.random.default_rng(seed)
    centers = np.random.default_rng(99).normal(size=(classes, width)) * spread
    labels = generator.integers(0, classes, records)
    return centers[labels] + generator.normal(size=(records, width)), labels


def some_probe(model="", *, width=24, names=("left", "top")) -> KeptProbe:
    """Return a probe of the first layer of `TINY`, of weights at random."""
    generator = np.random.default_rng(0)
    return KeptProbe(
        layer=1, class_names=names, penalty=1e-3, preparation=Preparation(size=8),
        validation_accuracy=0.8, test_accuracy=0.75, test_right=3, test_images=4,
        calibration=Calibration(
            temperature=2.0, images=9, error_before=0.2, error=0.1, log_loss_before=0.7,
            log_loss=0.6,
        ),
        model=model, store="0123456789abcdef",
        weight=generator.normal(size=(len(names), width)),
        intercept=generator.normal(size=len(names)),
    )  # fmt: skip


@pytest.fixture
def quick_disk(tmp_path):
    """A folder in memory, where there is such a disk, for what flushes hundreds of times."""
    if not Path("/dev/shm").is_dir():
        yield tmp_path
    else:
        with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
            yield Path(folder)


@pytest.fixture
def tiny_palette() -> Palette:
    return Palette(np.random.default_rng(0).uniform(-1, 1, (16, 3)).astype(np.float32))


def write_shapes(folder: Path, *, images: int = 40, size: int = 8, seed: int = 0) -> Path:
    """Write a folder of two classes: pictures bright at the top, and bright on the left."""
    generator = np.random.default_rng(seed)
    for number in range(images):
        pixels = generator.integers(0, 80, (size, size, 3), dtype=np.uint8)
        name = ("left", "top")[number % 2]
        if name == "top":
            pixels[: size // 2] += 150
        else:
            pixels[:, : size // 2] += 150
        write_png(folder / name / f"{number:03}.png", pixels)
    return folder


@pytest.fixture(scope="session")
def shapes_store(tmp_path_factory) -> RecordStore:
    """A labelled store of 8x8 images with all three splits."""
    folder = tmp_path_factory.mktemp("shapes")
    source = write_shapes(folder / "images", images=80)
    config = StoreConfig(image_size=8, validation_fraction=0.2, test_fraction=0.2)
    return prepare_store(str(source), folder / "store", config)


@pytest.fixture
def given(shapes_store, tiny_palette, tmp_path):
    """What every pretraining of shapes is given."""
    tiny_palette.save(tmp_path / "palette.npy")
    return {"data": shapes_store.path, "palette": tmp_path / "palette.npy", "device": "cpu"}


@pytest.fixture(scope="session")
def ran(tmp_path_factory) -> Path:
    """The folder in which what README, docs and helps show was run, once for all test processes."""
    from tests.pages import run_all

    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    folder, done = folder / "pages", folder / "pages-ran"
    with FileLock(f"{folder}.lock"):
        if not done.exists():
            folder.mkdir()  # or else it went wrong in another process, which says how
            with contextlib.chdir(folder):
                run_all()
            done.touch()
    return folder


SHAPES_RECIPE = Recipe(
    model=ModelConfig(image_size=4, colors=16, layers=2, width=16, heads=2),
    training=TrainingConfig(
        steps=12, batch_size=8, learning_rate=0.01, warmup_steps=3, validate_every=6,
        validation_images=8, checkpoint_every=4,
    ),
    finetune=FinetuneConfig(
        training=TrainingConfig(
            steps=12, batch_size=8, learning_rate=0.01, warmup_steps=0, schedule="constant",
            validate_every=4, checkpoint_every=4,
        ),
        augmentation="none",
    ),
    augmentation="flip",
)  # fmt: skip
"""Enough for a network to learn the shapes a little, in a fraction of a second."""


def with_training(recipe: Recipe, **changes) -> Recipe:
    return replace(recipe, training=replace(recipe.training, **changes))


def losses(run_path):
    """Every figure of a run that does not depend on the clock."""
    clock = ("images_per_second", "tokens_per_second", "seconds")
    return [
        {key: value for key, value in line.items() if key not in clock}
        for line in read_metrics(run_path / "metrics.jsonl")
    ]
