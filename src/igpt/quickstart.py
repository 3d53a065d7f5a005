"""The whole method in minutes: scikit-learn's digits, no network.

8x8 digits, each put somewhere on a larger dark canvas. Since no two digits line up, raw pixels say
little about which digit it is; a network that has learned to predict the next pixel says much more.
The experiments that chose canvas, network and time are in `docs/log.md`.
"""

import functools
import json
import sys
import time
from pathlib import Path
from typing import Any

from igpt.data.config import StoreConfig
from igpt.data.prepare import prepare_store
from igpt.errors import ConfigError
from igpt.files import write_json
from igpt.report.page import write_report
from igpt.runs.finetune import FinetuneResult, finetune
from igpt.runs.measure import evaluate_run, probe_run
from igpt.runs.palette import fit_palette_file
from igpt.runs.pictures import complete_records
from igpt.runs.pretrain import pretrain
from igpt.runs.recipes import find_recipe, with_settings
from igpt.runs.resume import ensure
from igpt.runs.run import RunFolder

RECIPE = "digits-quickstart"
PLACEMENTS = 3


def quickstart(out: Path, *, device: str = "auto", seed: int = 0) -> dict[str, Any]:
    """Run palette, pretraining, probes, fine-tuning, completions and report on digits.

    An interrupted quickstart goes on where it stopped; a finished one is only told again.

    Args:
        out: Folder for everything.
        device: `cpu`, `cuda` ...; `auto` for the first GPU, or else the CPU.
        seed: Decides placements, palette, first weights and order.

    Returns:
        What `summary.json` holds: `raw_pixel_accuracy`, `untrained_accuracy`, `best_layer`,
        `best_layer_accuracy`, `fine_tuned_accuracy`, `test_nats_per_pixel`, `seconds` (of the call
        that finished it).

    Raises:
        ConfigError: `out` holds a quickstart of another seed, or something else.
    """
    began = time.monotonic()
    recipe = with_settings(
        find_recipe(RECIPE), [f"training.seed={seed}", f"finetune.training.seed={seed}"]
    )
    data, palette = out / "data", out / "palette.npy"
    run, tuned = out / "pretrain", out / "finetune"
    if run.exists():
        known = RunFolder.open(run).pretraining.recipe.training.seed
        if known != seed:
            raise ConfigError(
                f"{out} holds a quickstart with seed {known}, not {seed}; choose another --out"
            )
    if (out / "summary.json").is_file() and (out / "report.html").is_file():
        return json.loads((out / "summary.json").read_text())

    _say(1, f"images: scikit-learn's digits, {PLACEMENTS} places each, and their greys")
    if not (data / "store.json").exists():
        size = recipe.model.image_size
        config = StoreConfig(image_size=size, placements=PLACEMENTS, seed=seed)
        prepare_store("digits", data, config)
    if not palette.exists():
        fit_palette_file(data, palette, size=recipe.model.colors, grey=True, seed=seed)
    _say(2, "pretraining: predict the next pixel, without any label")
    start = functools.partial(
        pretrain, recipe, name=RECIPE, data=data, palette=palette, out=run, device=device
    )
    ensure(run, start, device=device)
    _say(3, "likelihood of test images")
    evaluation = evaluate_run(run, data=data, device=device)
    _say(4, "linear probes of every layer, of raw pixels and of the network untrained")
    probed = probe_run(run, data=data, device=device)
    untrained = probe_run(run, data=data, untrained=True, device=device, seed=seed)
    _say(5, "fine-tuning: now with labels")
    start = functools.partial(
        finetune, run, data=data, out=tuned, config=recipe.finetune, device=device
    )
    fitted = ensure(tuned, start, device=device)
    _say(6, "half-seen digits, completed; report")
    complete_records(run, data, seed=seed, device=device)
    write_report([run, tuned], out / "report.html")
    summary = {
        "raw_pixel_accuracy": probed.raw_pixels and probed.raw_pixels.test_accuracy,
        "untrained_accuracy": untrained.test_accuracy,
        "best_layer": probed.best_layer,
        "best_layer_accuracy": probed.test_accuracy,
        "fine_tuned_accuracy": fitted.require("finetune.json", FinetuneResult).test_accuracy,
        "test_nats_per_pixel": evaluation.nats_per_pixel,
        "seconds": time.monotonic() - began,
    }
    write_json(out / "summary.json", summary)
    return summary


def _say(stage: int, text: str) -> None:
    print(f"[{stage}/6] {text}", file=sys.stderr, flush=True)


def summary_table(summary: dict[str, Any], out: Path) -> str:
    """Return the figures of a quickstart as a small table, and where the report lies."""
    rows = [
        ("raw pixels, logistic regression", f"{summary['raw_pixel_accuracy']:.1%}"),
        ("network untrained, best layer", f"{summary['untrained_accuracy']:.1%}"),
        (f"pretrained, layer {summary['best_layer']}", f"{summary['best_layer_accuracy']:.1%}"),
        ("fine-tuned for a minute", f"{summary['fine_tuned_accuracy']:.1%}"),
        ("test loss", f"{summary['test_nats_per_pixel']:.4f} nats per pixel"),
        ("time", f"{summary['seconds']:.0f} s"),
    ]
    lines = [f"  {name:32} {value}" for name, value in rows]
    return "\n".join(
        ["Which digit is it? Test accuracy:", *lines, f"report: {out / 'report.html'}"]
    )
