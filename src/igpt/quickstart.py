"""The whole method in minutes: scikit-learn's digits, offline.

8x8 digits, each put somewhere on a larger dark canvas. Since no two digits line up, raw pixels say
little about which digit it is; a network that has learned to predict the next pixel says much more.
The experiments that chose canvas, network and time are in `docs/log.md`.
"""

import time
from dataclasses import dataclass
from pathlib import Path

from igpt.amounts import spoken
from igpt.data.config import StoreConfig
from igpt.data.prepare import prepare_store
from igpt.data.store import RecordStore
from igpt.errors import ConfigError
from igpt.evaluation.proportions import Share
from igpt.files import read_json, write_json
from igpt.paths import AnyPath
from igpt.places import kind_of, require_room
from igpt.report.verdicts import share_text, verdicts
from igpt.runs.recipes import find_recipe
from igpt.runs.run import RunFolder
from igpt.settings import with_settings
from igpt.stages import Stages, say
from igpt.values import from_dict, to_dict

RECIPE = "digits-quickstart"
PLACEMENTS = 3


@dataclass(frozen=True, kw_only=True)
class QuickstartResult:
    """What `summary.json` holds: test accuracies, and what it took."""

    raw_pixel_accuracy: float
    untrained_accuracy: float
    """Of the best layer's probe; so is the next but one."""
    best_layer: int
    best_layer_accuracy: float
    fine_tuned_accuracy: float
    test_images: int
    verdicts: tuple[str, ...]
    """What the accuracies say, a sentence each."""
    test_nats_per_pixel: float
    seconds: float
    """Of the call that finished it."""

    def table(self, out: Path) -> str:
        """Return the figures as a small table, and where the report lies in `out`."""
        accuracies = (
            ("raw pixels, logistic regression", self.raw_pixel_accuracy),
            ("network untrained, best layer", self.untrained_accuracy),
            (f"pretrained, layer {self.best_layer}", self.best_layer_accuracy),
            ("fine-tuned", self.fine_tuned_accuracy),
        )
        rows = [
            *((name, share_text(Share.of(share, self.test_images))) for name, share in accuracies),
            ("test loss", f"{self.test_nats_per_pixel:.4f} nats per pixel"),
            ("time", spoken(self.seconds)),
        ]
        lines = [f"  {name:32} {value}" for name, value in rows]
        return "\n".join(
            ["Which digit is it? Test accuracy:", *lines, *self.verdicts,
             f"report: {out / 'report.html'}"]
        )  # fmt: skip


def quickstart(out: AnyPath, *, device: str = "auto", seed: int = 0) -> QuickstartResult:
    """Run palette, pretraining, probes, fine-tuning, completions and report on digits.

    An interrupted quickstart goes on where it stopped; a finished one is only read again.

    Args:
        out: Folder for everything.
        device: `cpu`, `cuda` ...; `auto` for the first GPU, or else the CPU.
        seed: Decides placements, palette, first weights and order.

    Raises:
        ConfigError: `out` holds a quickstart of another seed, of an earlier igpt, or something
            else.
    """
    out = Path(out)
    began = time.monotonic()
    recipe = with_settings(
        find_recipe(RECIPE), [f"training.seed={seed}", f"finetune.training.seed={seed}"]
    )
    data = out / "data"
    stages = Stages(out=out, data=data, recipe=recipe, name=RECIPE, device=device, seed=seed)
    known = seed
    if stages.run.exists():
        known = RunFolder.open(stages.run).pretraining.recipe.training.seed
    elif kind_of(data) == "store" and (store := RecordStore.open(data)).source == "digits":
        known = store.config.seed
    else:
        require_room(out)
    if known != seed:
        raise ConfigError(
            f"{out} holds a quickstart with seed {known}, not {seed}; choose another --out"
        )
    if (out / "summary.json").is_file() and stages.page.is_file():
        return from_dict(QuickstartResult, read_json(out / "summary.json"), name="summary.json")

    say(f"[1/6] images: scikit-learn's digits, {PLACEMENTS} places each, and their greys")
    if kind_of(data) != "store":
        size = recipe.model.image_size
        prepare_store(
            "digits", data, StoreConfig(image_size=size, placements=PLACEMENTS, seed=seed)
        )
    stages.fit_palette(recipe.model.colors, grey=True)
    say("[2/6] pretraining: predict the next pixel, without any label")
    stages.pretrain()
    say("[3/6] likelihood of test images")
    evaluation = stages.evaluate()
    say("[4/6] linear probes of every layer, of raw pixels and of the network untrained")
    probed, untrained = stages.probe(), stages.probe(untrained=True)
    say("[5/6] fine-tuning: now with labels")
    tuned = stages.finetune()
    say("[6/6] half-seen digits, completed; report")
    stages.complete()
    stages.report()
    assert probed.raw_pixels is not None
    assert tuned.test_accuracy is not None
    result = QuickstartResult(
        raw_pixel_accuracy=probed.raw_pixels.test_accuracy,
        untrained_accuracy=untrained.test_accuracy,
        best_layer=probed.best_layer,
        best_layer_accuracy=probed.test_accuracy,
        fine_tuned_accuracy=tuned.test_accuracy,
        test_images=probed.records["test"],
        verdicts=verdicts(probed, untrained, tuned),
        test_nats_per_pixel=evaluation.nats_per_pixel,
        seconds=time.monotonic() - began,
    )
    write_json(out / "summary.json", to_dict(result))
    return result
