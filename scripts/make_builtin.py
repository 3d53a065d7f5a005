"""Make the model that comes with igpt, src/igpt/builtin, out of a run.

    python scripts/make_builtin.py runs/pixels --pixels data/pixels --data data/cifar10

It may have learned from other images, `--pixels`, than those with labels, `--data`. Weights are
rounded to bfloat16. The rounded model is then measured on the store's test images, and
a probe of its best layer is fitted, for `igpt classify`. Figures go into evaluation.json and, with
what the run tells of itself, into the card, whose words are in builtin-card.md beside this file.
They name the data and what the model cannot do: read them again when another model goes in, and
give tests/test_builtin.py its loss on images that need no file.
"""

import argparse
import math
from pathlib import Path

from igpt.data.store import RecordStore
from igpt.evaluation.probe import LayerProbes, probe_and_keep
from igpt.formats.load import load
from igpt.model.config import OBJECTIVE_WORDS
from igpt.model.kept_probe import KeptProbe
from igpt.model.pretrained import Pretrained
from igpt.runs.kept import MadeFrom, write_kept
from igpt.runs.measure import Evaluation, evaluate_run
from igpt.runs.provenance import Provenance
from igpt.runs.run import PretrainSettings, RunFolder
from igpt.training.metrics import read_metrics

ROOT = Path(__file__).parents[1]
LARGEST = 16 * 2**20  # bytes of the folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--data", type=Path, required=True, help="labelled store to measure on")
    parser.add_argument("--pixels", type=Path, help="store that was learned from, if another")
    parser.add_argument("--out", type=Path, default=ROOT / "src" / "igpt" / "builtin")
    arguments = parser.parse_args()
    store = RecordStore.open(arguments.data)
    pixels = RecordStore.open(arguments.pixels) if arguments.pixels else store
    make(RunFolder.open(arguments.run), store, pixels, arguments.out)


def make(run: RunFolder, store: RecordStore, pixels: RecordStore, out: Path) -> None:
    """Write the folder; what is there is replaced."""
    assert isinstance(run.settings, PretrainSettings)
    assert run.settings.data.sha256 == pixels.identity, "--pixels is what the run learned from"
    pretrained = load(run.path)
    if not pretrained.tokenizer.preparation.size:  # a run older than the question
        pretrained = pretrained.prepared(store.preparation)
    pretrained.save(out, half=True)
    rounded = load(out)
    known = run.read("probe.json", LayerProbes)
    layers = None if known is None else [known.best_layer]
    _, probe = probe_and_keep(rounded, store, layers=layers, solver="lbfgs", raw=False)
    assert probe is not None
    rounded.save(out, half=True, probe=probe)
    result = evaluate_run(out, data=store.path)
    evaluation = Evaluation(splits={"test": result})
    made_from = MadeFrom(model=load(out).identity, store=store.identity, settings={"seed": 0})
    write_kept(out / "evaluation.json", evaluation, {"test": made_from})
    text = card(run, store, pixels, rounded, probe, evaluation)
    (out / "README.md").write_text(text, encoding="utf-8")
    size = sum(file.stat().st_size for file in out.rglob("*") if file.is_file())
    assert size <= LARGEST, f"{size:,} bytes are more than the {LARGEST:,} that may be shipped"
    print(f"{out}: {size:,} bytes")


def card(
    run: RunFolder,
    store: RecordStore,
    pixels: RecordStore,
    pretrained: Pretrained,
    probe: KeptProbe,
    evaluation: Evaluation,
) -> str:
    """Return the card, in Markdown."""
    settings, provenance = run.settings, run.read("provenance.json", Provenance)
    assert isinstance(settings, PretrainSettings)
    assert provenance is not None
    config, training = pretrained.model.config, settings.recipe.training
    result, trained = evaluation.splits["test"], len(pixels.split(settings.split))
    threads = "one thread" if provenance.threads == 1 else f"{provenance.threads} threads"
    return (ROOT / "scripts" / "builtin-card.md").read_text().format(
        objective=OBJECTIVE_WORDS[pretrained.learned_by], size=config.image_size,
        colors=config.colors, layers=config.layers, width=config.width, heads=config.heads,
        parameters=config.parameters / 1e6, positions=config.positions, train=trained,
        labelled=len(store.split("train")) + len(store.split("validation")), layer=probe.layer,
        steps=training.steps, batch=training.batch_size,
        minutes=read_metrics(run.metrics)[-1]["seconds"] / 60,
        device=f"{threads} of {provenance.processor}" if provenance.device == "cpu"
        else provenance.device,
        recipe=settings.name, seed=f"seed {training.seed}", igpt=provenance.igpt,
        commit=f" (commit {provenance.commit})" if provenance.commit else "",
        torch=provenance.libraries["torch"],
        epochs=training.steps * training.batch_size / trained, store=store.identity,
        images=result.images, nats=result.nats_per_pixel, bits=result.bits_per_pixel,
        chance=math.log(config.colors), accuracy=100 * probe.test_accuracy, right=probe.test_right,
        tested=probe.test_images, calibration=probe.calibration.error, beside=beside(run),
    )  # fmt: skip


def beside(run: RunFolder) -> str:
    """Return rows of what the run's features were compared with, as far as it was."""
    rows = []
    untrained = run.read("probe-untrained.json", LayerProbes)
    if untrained is not None:
        rows.append(("the same of the network untrained, best layer", untrained.test_accuracy))
    probed = run.read("probe.json", LayerProbes)
    if probed is not None and probed.raw_pixels is not None:
        rows.append(("the same of raw pixels", probed.raw_pixels.test_accuracy))
    return "".join(
        f"| {what} | {100 * accuracy:.2f} % | `igpt probe RUN`, before rounding |\n"
        for what, accuracy in rows
    )


if __name__ == "__main__":
    main()
