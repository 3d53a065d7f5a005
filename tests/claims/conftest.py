"""A scale at which all claims take seconds, and their results."""

import pytest

from igpt.claims.reproduce import CLAIMS, reproduce
from igpt.claims.scale import SCALES, Colors, Scale
from igpt.model.config import ModelConfig
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
    flops_per_second=1e9,
)


@pytest.fixture(scope="package")
def toy():
    """The toy scale, by its name as good as the others."""
    patch = pytest.MonkeyPatch()
    patch.setitem(SCALES, "toy", TOY)
    patch.setitem(RECIPES, "toy", TOY_RECIPE)
    yield TOY
    patch.undo()


@pytest.fixture(scope="package")
def reproduced(toy, shapes_store, tmp_path_factory):
    """Every claim's result at the toy scale, by name, and the folder given as `out`."""
    out = tmp_path_factory.mktemp("claims")
    results = {
        name: reproduce(name, scale="toy", data=shapes_store.path, seeds=1, out=out, device="cpu")
        for name in CLAIMS
    }
    return out, results
