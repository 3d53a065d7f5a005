"""At which size the claims are tried: which networks, which data, how long.

    tiny    scikit-learn's digits; minutes on two cores
    small   CIFAR-10 at 32x32; minutes a run on one GPU
    paper   ImageNet and the paper's own settings; a cluster's work

A scale has a base recipe, of the network "base"; its other networks are that recipe with settings
changed. Each has one name, under which its runs are kept, so that claims share what they have in
common.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

from igpt.errors import ConfigError, nearest_name
from igpt.evaluation.sgd import SGDConfig
from igpt.evaluation.solvers import SGD
from igpt.model.config import MASK_PROBABILITY
from igpt.runs.recipes import Recipe, find_recipe
from igpt.settings import with_settings

BERT = ("model.causal=false",)
"""What makes the network "bert" of the base."""

DIFFUSION = (*BERT, "objective=diffusion")
"""What makes the network "diffusion" of it, which learns for as long as BERT's."""

ABLATIONS = {
    "beta2-0.999": ("training.beta2=0.999",),
    "weight-decay": ("training.weight_decay=0.01",),
    "tied": ("model.tied=true",),
    "non-zero-heads": ("model.zero_heads=false",),
    "sparse-initialization": ("model.initialization=sparse-transformer",),
}
"""Appendix A.1's on the autoregressive network, by the network's name."""

MASK_RATES = (MASK_PROBABILITY, 0.2, 0.25, 0.3, 0.35)
"""Shares of the pixels that BERT networks hide, the paper's first (section 2.1, appendix A.1)."""

OTHER_CLASSES = "other-classes"
"""The base network trained on the images of half of the classes, to be probed on the others."""

SEARCH_SEED = 1000
"""Of the runs that choose a learning rate, and count for nothing else."""

_DECIDED = ("snapshots", "training.seed", "finetune.training.seed", "model.colors")


@dataclass(frozen=True)
class Colors:
    """A kind of palette, found by k-means in the training images."""

    size: int
    grey: bool = False

    @property
    def name(self) -> str:
        """Such as `64` or `64-greys`."""
        return f"{self.size}-greys" if self.grey else f"{self.size}"


@dataclass(frozen=True, kw_only=True)
class Scale:
    """One size at which every claim can be run."""

    name: str
    description: str
    recipe: str
    """Base recipe: an autoregressive network."""
    changes: tuple[str, ...] = ()
    """Settings in which every network differs from that recipe."""
    bert: tuple[str, ...] = ()
    """Settings that BERT networks have besides: it sees 15 % of the targets in a step."""
    ablated: str = "base"
    """The network whose choices are taken back one by one (appendix A.1)."""
    ablated_bert: tuple[str, ...] = ()
    """Settings that its BERT networks of several mask rates have besides."""
    seeds: int = 3
    """That a plan has by default."""
    left: dict[str, dict[str, str]] = field(default_factory=dict)
    """Parts that another scale is better for, by claim and part, and why."""
    networks: dict[str, tuple[str, ...]]
    """Networks of other sizes and resolutions, by name, and what is set for each."""
    sizes: tuple[str, ...]
    """Networks to compare by size, from the smallest on, by name; the base is among them."""
    rates: tuple[float, ...] = ()
    """Learning rates that each size is tried with, on a seed that does not count; the best on
    validation is kept for all seeds. None to take the recipes'."""
    resolutions: tuple[str, ...]
    """Networks to compare by input resolution, from the lowest on; the base is among them."""
    palette: Colors
    """Of every network, but those that are compared by palette."""
    palettes: tuple[Colors, ...]
    """To compare networks by: colors, from the fewest on, then greys, as many as one has colors."""
    distortions: tuple[int, ...] = (8, 64, 512, 4096)
    """Sizes of palettes whose distortion alone is measured."""
    labels_per_class: tuple[int, ...]
    subsets: int = 5
    few_label_steps: int
    """Fine-tuning steps on a handful of labels."""
    concatenate: int = 5
    """Layers taken together as one feature."""
    scratch_rates: tuple[float, ...] = (3e-3, 1e-3, 3e-4)
    """Learning rates tried for the network from scratch; the best on validation counts."""
    dropouts: tuple[float, ...] = (0.0, 0.1)
    """Tried then, with the best of those rates."""
    plateau: float | None = None
    """Nats per pixel that a network must come below to have learned more than where dark pixels
    are, on the scale's own data."""
    lbfgs_images: int = 100_000
    """Labelled training images up to which probes are fitted by L-BFGS, features in memory; of
    more, as in the paper, by SGD, which reads them from disk (section 3.4)."""
    sgd: SGDConfig = SGD
    """How, then."""
    snapshots: int = 4
    """Of every run on its way, as in the paper's figure 3."""
    convnet_epochs: int = 20
    """Of the supervised network that features are compared with."""
    other_source: bool = False
    """Whether networks learn from other images than those with labels."""
    bfloat16: bool = True
    """Whether to try bfloat16 beside float32; on a CPU it would only be slow."""
    digits: Colors | None = None
    """Palette for scikit-learn's digits, which are used where no data is given; None to want it."""
    flops_per_second: float
    """At which the machine of the description trains, to reckon times by."""
    settings: tuple[str, ...] = ()
    """Settings given by the user, which every run of the scale has."""

    @property
    def finetuning_steps(self) -> int:
        """Steps of one fine-tuning run that does not stop early."""
        return self.recipe_of("base").finetune.training.steps

    def with_palette(self, colors: Colors) -> str:
        """Return the name of the base network trained with a palette."""
        return "base" if colors == self.palette else f"palette-{colors.name}"

    def colors_of(self, network: str) -> Colors:
        """Return the kind of palette that a network is trained with."""
        compared = {self.with_palette(colors): colors for colors in self.palettes}
        return compared.get(network, self.palette)

    def at_rate(self, size: str, rate: float) -> str:
        """Return the name of a network of `sizes` trained at a rate."""
        own = with_settings(find_recipe(self.recipe), [*self.changes, *self._shape(size)])
        return size if rate == own.training.learning_rate else f"{size}-rate-{rate:g}"

    def _shape(self, size: str) -> tuple[str, ...]:
        return self.networks.get(size, ())

    def masked(self, rate: float) -> str:
        """Return the name of the BERT network that hides a share of the pixels."""
        return "bert" if rate == MASK_PROBABILITY and self.ablated == "base" else f"mask-{rate}"

    @cached_property
    def settings_by_network(self) -> dict[str, tuple[str, ...]]:
        """What is set for each network, by its name."""
        palettes = {self.with_palette(colors): () for colors in self.palettes}
        known = {"base": (), "bert": (*BERT, *self.bert), OTHER_CLASSES: ()}
        known["diffusion"] = (*DIFFUSION, *self.bert)
        known |= self.networks | palettes
        for size, rate in itertools.product(self.sizes, self.rates):
            settings = (*self._shape(size), f"training.learning_rate={rate!r}")
            known.setdefault(self.at_rate(size, rate), settings)
        ablated = self._shape(self.ablated)
        known |= {name: (*ablated, *settings) for name, settings in ABLATIONS.items()}
        if self.bfloat16:
            known["float32"] = (*ablated, "training.precision=float32")
        for rate in MASK_RATES:
            settings = (*ablated, *BERT, *self.ablated_bert, f"mask_probability={rate}")
            known.setdefault(self.masked(rate), settings)
        return known

    def recipe_of(self, network: str, seed: int = 0) -> Recipe:
        """Return the recipe of a network.

        Raises:
            ConfigError: There is no such network, or a setting cannot be.
        """
        known = self.settings_by_network
        if network not in known:
            raise ConfigError(f"there is no network {network!r}{nearest_name(network, known)}")
        for setting in self.settings:
            if setting.partition("=")[0] in _DECIDED:
                raise ConfigError(
                    f"a reproduction decides {setting.partition('=')[0]} itself; leave out "
                    f"--set {setting}"
                )
        decided = (
            f"snapshots={self.snapshots}",
            f"training.seed={seed}",
            f"finetune.training.seed={seed}",
            f"model.colors={self.colors_of(network).size}",
        )
        settings = [*self.changes, *self.settings, *known[network], *decided]
        return with_settings(find_recipe(self.recipe), settings)

    def check_rates(self) -> None:
        """See that the user's settings leave the learning rate to the search, if there is one.

        Raises:
            ConfigError: They do not.
        """
        names = [setting.partition("=")[0].strip() for setting in self.settings]
        if self.rates and "training.learning_rate" in names:
            raise ConfigError("a search decides training.learning_rate here; leave out its --set")

    def check_different(self, networks: Sequence[str]) -> None:
        """See that the user's settings leave some difference between these networks.

        Raises:
            ConfigError: Two have the same recipe and palette, or a setting cannot be.
        """
        made = {name: (self.recipe_of(name), self.colors_of(name)) for name in networks}
        for one, other in itertools.combinations(networks, 2):
            if made[one] == made[other]:
                raise ConfigError(
                    f"with these settings two networks that the claim compares are the same, {one} "
                    f"and {other}; leave out the --set that makes them so"
                )


_TOO_WIDE = "digits would need hundreds of seeds to tell a point: paired probes differ by {} points"

SCALES: dict[str, Scale] = {
    "tiny": Scale(
        name="tiny",
        description="scikit-learn's digits on 11x11 pixels; one core",
        recipe="claims-tiny",
        changes=(
            "model.layers=8", "training.steps=1500", "training.validate_every=1500",
            "training.checkpoint_every=500",
        ),
        bert=("training.steps=4500", "training.validate_every=4500"),
        seeds=8,
        left={
            "ablations": {
                "weight-decay": _TOO_WIDE.format("5"),
                "untied": _TOO_WIDE.format("14"),
                "zero-heads": _TOO_WIDE.format("6"),
                "float32": "there is no half precision on a CPU to compare with",
                "mask-0.2": _TOO_WIDE.format("3"),
                "mask-more": "BERT networks take three times the steps of the others",
            },
        },
        networks={
            "small": ("model.layers=4", "model.width=32"),
            "large": ("model.layers=10", "model.width=80"),
            "6x6": ("model.image_size=6",),
            "8x8": ("model.image_size=8",),
        },
        sizes=("small", "base", "large"),
        rates=(8e-3, 4e-3, 2e-3),
        resolutions=("6x6", "8x8", "base"),
        palette=Colors(64),
        palettes=(Colors(8), Colors(64), Colors(64, grey=True)),
        distortions=(2, 8, 32, 128, 512),
        labels_per_class=(4, 25, 100),
        few_label_steps=100,
        concatenate=3,
        plateau=0.57,  # it lies at 0.6; the base ends at 0.51
        bfloat16=False,
        digits=Colors(8, grey=True),
        flops_per_second=2.4e10,  # of one core
    ),
    "small": Scale(
        name="small",
        description="Tiny ImageNet, then CIFAR-10, at 32x32; one GPU, some ten minutes a run",
        recipe="cifar10",
        changes=(
            "training.steps=4000", "training.warmup_steps=200", "training.validate_every=4000",
            "finetune.training.steps=1500", "finetune.training.warmup_steps=100",
        ),
        networks={
            "small": ("model.layers=6", "model.width=128", "model.heads=4",
                      "training.learning_rate=0.005"),
            "large": ("model.layers=14", "model.width=288", "model.heads=9",
                      "training.learning_rate=0.002"),
            "16x16": ("model.image_size=16",),
            "24x24": ("model.image_size=24",),
        },
        sizes=("small", "base", "large"),
        resolutions=("16x16", "24x24", "base"),
        palette=Colors(512),
        palettes=(Colors(8), Colors(64), Colors(512), Colors(64, grey=True)),
        labels_per_class=(4, 25, 400),
        few_label_steps=500,
        other_source=True,
        flops_per_second=1.5e14,
    ),
    "paper": Scale(
        name="paper",
        description="ImageNet and the published sizes; a cluster, times are of one H200",
        recipe="igpt-l",
        ablated="igpt-s",
        ablated_bert=("training.learning_rate=0.01",),
        networks={
            "igpt-s": ("model.layers=24", "model.width=512", "model.heads=8",
                       "training.learning_rate=0.003"),
            "igpt-m": ("model.layers=36", "model.width=1024", "model.heads=8",
                       "training.learning_rate=0.003"),
            "48x48": ("model.image_size=48", "training.learning_rate=0.01"),
            "64x64": ("model.image_size=64", "model.layers=60", "model.width=3072",
                      "model.heads=24", "training.learning_rate=0.0003",
                      "training.steps=2000000", "training.batch_size=64"),
        },
        sizes=("igpt-s", "igpt-m", "base"),
        resolutions=("base", "48x48", "64x64"),
        palette=Colors(512),
        palettes=(Colors(64), Colors(512), Colors(4096), Colors(64, grey=True)),
        labels_per_class=(4, 25, 400),
        few_label_steps=2000,
        sgd=SGDConfig(
            steps=1_000_000, learning_rates=(30.0, 10.0, 3.0, 1.0, 0.3, 0.1, 0.03), whiten=False
        ),
        other_source=True,
        flops_per_second=3.8e14,  # of iGPT-S, measured
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
