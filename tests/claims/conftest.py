"""A scale so small that every claim is measured in seconds, and images for it."""

import numpy as np
import pytest

from igpt.claims.scale import SCALES, Colors, Scale
from igpt.data.config import StoreConfig
from igpt.data.prepare import prepare_store
from igpt.model.config import ModelConfig
from igpt.pixels.images import write_png
from igpt.runs.recipes import RECIPES, FinetuneConfig, Recipe
from igpt.training.config import TrainingConfig

TOY_RECIPE = Recipe(
    model=ModelConfig(image_size=4, colors=8, layers=1, width=8, heads=2),
    training=TrainingConfig(
        steps=2, batch_size=4, learning_rate=0.01, warmup_steps=1, validate_every=2,
        validation_images=4, checkpoint_every=2,
    ),
    finetune=FinetuneConfig(
        training=TrainingConfig(
            steps=2, batch_size=4, learning_rate=0.01, warmup_steps=0, schedule="constant",
            validate_every=1, checkpoint_every=2,
        ),
        augmentation="none",
    ),
)  # fmt: skip
TOY = Scale(
    name="toy",
    description="shapes",
    recipe="toy",
    networks={"small": ("model.width=4",), "2x2": ("model.image_size=2",)},
    sizes=("small", "base"),
    rates=(0.02, 0.01),
    scratch_rates=(0.01,),
    dropouts=(0.0, 0.1),
    convnet_epochs=1,
    resolutions=("2x2", "base"),
    palette=Colors(8),
    palettes=(Colors(4), Colors(8), Colors(8, grey=True)),
    distortions=(8, 512),
    labels_per_class=(2, 4),
    subsets=2,
    few_label_steps=1,
    concatenate=2,
    snapshots=1,
    bfloat16=False,
    left={"ablations": {"float32": "nothing to compare with"}},
    flops_per_second=1e9,
)


@pytest.fixture(scope="module")
def four_corners(tmp_path_factory):
    """A store of four classes: colored noise, bright in one of the corners."""
    folder, generator = tmp_path_factory.mktemp("corners"), np.random.default_rng(0)
    for number in range(96):
        pixels = generator.integers(0, 80, (8, 8, 3), dtype=np.uint8)
        row, column = divmod(number % 4, 2)
        pixels[4 * row : 4 * row + 4, 4 * column : 4 * column + 4] += 150
        write_png(folder / "images" / f"corner-{number % 4}" / f"{number:03}.png", pixels)
    config = StoreConfig(image_size=8, validation_fraction=0.2, test_fraction=0.2)
    return prepare_store(str(folder / "images"), folder / "store", config)


@pytest.fixture(scope="module")
def toy():
    """The toy scale, by its name as good as the others."""
    patch = pytest.MonkeyPatch()
    patch.setitem(SCALES, "toy", TOY)
    patch.setitem(RECIPES, "toy", TOY_RECIPE)
    yield TOY
    patch.undo()
