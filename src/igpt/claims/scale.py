"""At which size the claims are tried: which networks, which data, how long.

    tiny    scikit-learn's digits; minutes on two cores
    small   CIFAR-10 at 32x32; minutes a run on one GPU
    paper   ImageNet and the paper's own settings; a cluster's work

A variant is the scale's base recipe with settings changed, by a name that runs are kept under, so
that claims which need the same network share it.
"""

from dataclasses import dataclass, field

from igpt.errors import ConfigError, nearest_name
from igpt.runs.recipes import Recipe, find_recipe, with_settings

ABLATIONS = {
    "beta2-0.999": ("training.beta2=0.999",),
    "weight-decay": ("training.weight_decay=0.01",),
    "tied": ("model.tied=true",),
    "non-zero-heads": ("model.zero_heads=false",),
    "sparse-initialization": ("model.initialization=sparse-transformer",),
}
"""Appendix A.1's on the autoregressive network, by the name of the variant."""

SNAPSHOTS = 4
"""Of every run on its way, as in the paper's figure 3."""

_DECIDED = ("snapshots", "training.seed", "finetune.training.seed", "model.colors")

MASK_RATES = (0.2, 0.35)
"""Beside 0.15 (section 2.1 and appendix A.1)."""


@dataclass(frozen=True, kw_only=True)
class Scale:
    """One size at which every claim can be run."""

    name: str
    description: str
    recipe: str
    """Base recipe: an autoregressive network."""
    bert: tuple[str, ...]
    """What else is set for the BERT network."""
    sizes: dict[str, tuple[str, ...]]
    """Networks from the smallest to the largest by name; the base is among them."""
    resolutions: dict[int, tuple[str, ...]]
    """Input resolutions, rising, and what is set for each; the base's is among them."""
    palettes: dict[str, tuple[int, bool]]
    """Palettes that networks are trained with, by name: colors, and whether they are greys."""
    distortions: tuple[int, ...] = (8, 64, 512, 4096)
    """Sizes of palettes whose distortion alone is measured."""
    palette_size: int
    grey: bool = False
    labels_per_class: tuple[int, ...]
    subsets: int = 5
    few_label_steps: int
    """Fine-tuning steps on a handful of labels."""
    concatenate: int = 5
    """Layers taken together as one feature."""
    dropouts: tuple[float, ...] = (0.0, 0.1)
    """Tried for the network from scratch; the better on validation counts."""
    bfloat16: bool = True
    """Whether to try bfloat16 beside float32; on a CPU it would only be slow."""
    digits: tuple[int, bool] | None = None
    """Palette for scikit-learn's digits, which are used where no data is given; None to want it."""
    settings: tuple[str, ...] = field(default=())
    """Settings given by the user, which every run of the scale has."""

    @property
    def finetuning_steps(self) -> int:
        """Steps of one fine-tuning run that does not stop early."""
        return self.recipe_of("base").finetune.training.steps

    def variants(self) -> dict[str, tuple[str, ...]]:
        """Return every variant's settings by its name; the base is "base"."""
        found = {"base": (), "bert": self.bert}
        found |= {f"size-{name}": settings for name, settings in self.sizes.items()}
        found |= {f"resolution-{side}": what for side, what in self.resolutions.items()}
        found |= {f"palette-{name}": () for name in self.palettes}
        found |= ABLATIONS
        found |= {f"mask-{rate}": (*self.bert, f"mask_probability={rate}") for rate in MASK_RATES}
        if self.bfloat16:
            found["float32"] = ("training.precision=float32",)
        return found

    def same_as(self, variant: str) -> str:
        """Return the name under which a variant's run is kept: that of the first equal one."""
        wanted = self.recipe_of(variant)
        if variant.startswith("palette-"):
            size, grey = self.palettes[variant.removeprefix("palette-")]
            return "base" if (size, grey) == (self.palette_size, self.grey) else variant
        names = [name for name in self.variants() if not name.startswith("palette-")]
        return next(name for name in names if self.recipe_of(name) == wanted)

    def recipe_of(self, variant: str, seed: int = 0) -> Recipe:
        """Return the recipe of a variant.

        Raises:
            ConfigError: There is no such variant, or a setting cannot be.
        """
        variants = self.variants()
        if variant not in variants:
            raise ConfigError(f"there is no variant {variant!r}{nearest_name(variant, variants)}")
        for setting in self.settings:
            if setting.partition("=")[0] in _DECIDED:
                raise ConfigError(
                    f"a reproduction decides {setting.partition('=')[0]} itself; leave out "
                    f"--set {setting}"
                )
        common = (
            f"snapshots={SNAPSHOTS}",
            f"training.seed={seed}",
            f"finetune.training.seed={seed}",
        )
        return with_settings(
            find_recipe(self.recipe), [*self.settings, *variants[variant], *common]
        )


SCALES: dict[str, Scale] = {
    "tiny": Scale(
        name="tiny",
        description="scikit-learn's digits on 11x11 pixels; two cores",
        recipe="claims-tiny",
        bert=("model.causal=false",),
        sizes={
            "small": ("model.layers=3", "model.width=32"),
            "base": (),
            "large": ("model.layers=6", "model.width=80"),
        },
        resolutions={6: ("model.image_size=6",), 8: ("model.image_size=8",), 11: ()},
        palettes={"8": (8, False), "64": (64, False), "64-greys": (64, True)},
        distortions=(2, 8, 32, 128, 512),
        palette_size=64,
        labels_per_class=(4, 25, 100),
        few_label_steps=60,
        concatenate=3,
        bfloat16=False,
        digits=(8, True),
    ),
    "small": Scale(
        name="small",
        description="CIFAR-10 on 32x32 pixels; one GPU, some ten minutes a run",
        recipe="cifar10",
        bert=("model.causal=false",),
        sizes={
            "small": ("model.layers=6", "model.width=128", "model.heads=4"),
            "base": (),
            "large": ("model.layers=16", "model.width=384", "model.heads=8"),
        },
        resolutions={16: ("model.image_size=16",), 24: ("model.image_size=24",), 32: ()},
        palettes={
            "8": (8, False), "64": (64, False), "512": (512, False), "64-greys": (64, True),
        },
        palette_size=512,
        labels_per_class=(4, 25, 400),
        few_label_steps=500,
    ),
    "paper": Scale(
        name="paper",
        description="ImageNet and the published sizes; a cluster",
        recipe="igpt-l",
        bert=("model.causal=false",),
        sizes={
            "igpt-s": ("model.layers=24", "model.width=512", "model.heads=8",
                       "training.learning_rate=0.003"),
            "igpt-m": ("model.layers=36", "model.width=1024", "model.heads=8",
                       "training.learning_rate=0.003"),
            "igpt-l": (),
        },
        resolutions={
            32: (),
            48: ("model.image_size=48", "training.learning_rate=0.01"),
            64: ("model.image_size=64", "model.layers=60", "model.width=3072", "model.heads=24",
                 "training.learning_rate=0.0003", "training.steps=2000000",
                 "training.batch_size=64"),
        },
        palettes={
            "64": (64, False), "512": (512, False), "4096": (4096, False), "64-greys": (64, True),
        },
        palette_size=512,
        labels_per_class=(4, 25, 400),
        few_label_steps=2000,
    ),
}  # fmt: skip


def find_scale(name: str) -> Scale:
    """Return the scale of this name.

    Raises:
        ConfigError: There is none; the message names the nearest.
    """
    if name not in SCALES:
        raise ConfigError(f"there is no scale {name!r}{nearest_name(name, SCALES)}")
    return SCALES[name]
