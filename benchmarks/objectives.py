"""The three objectives and the reading orders side by side, on one store with one network's shape.

    python benchmarks/objectives.py --data STORE --palette PALETTE --out OUT --seeds 3 \\
        --set model.layers=8

Trains the recipe autoregressively, as BERT and as masked diffusion, and autoregressively in other
reading orders, once for each seed; probes and evaluates each, draws a box in the middle of test
images by those that can, and what drawing in few passes costs. What is finished is left as it is,
so that the same command goes on where it stopped; OUT/objectives.json and the tables that are
printed have all of it. BERT and diffusion take the recipe's steps unless `--hidden-set
training.steps=...` gives them others.
"""

import argparse
import statistics
from collections.abc import Sequence
from pathlib import Path

from igpt.files import write_json
from igpt.runs.measure import evaluate_run, probe_run
from igpt.runs.passes import passes_run
from igpt.runs.pictures import complete_records
from igpt.runs.pretrain import pretrain
from igpt.runs.recipes import Recipe, find_recipe
from igpt.runs.resume import resume
from igpt.runs.run import RunFolder
from igpt.settings import with_settings
from igpt.training.metrics import read_metrics
from igpt.values import to_dict

HIDDEN = ("model.causal=false",)
OBJECTIVES = {
    "autoregressive": (),
    "BERT": HIDDEN,
    "diffusion": (*HIDDEN, "objective=diffusion"),
}
PASSES = (1, 2, 4, 8, 16, 32, 64)
CURVE_IMAGES = 300  # a pass over each for every mask and number of passes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--recipe", default="claims-tiny")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--palette", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--orders", nargs="*", default=["columns", "hilbert"])
    parser.add_argument("--set", action="append", default=[], dest="settings")
    parser.add_argument("--hidden-set", action="append", default=[], dest="hidden")
    asked = parser.parse_args()
    kinds = {
        name: (*asked.settings, *settings, *(asked.hidden if settings else ()))
        for name, settings in OBJECTIVES.items()
    }
    kinds |= {f"order {order}": (*asked.settings, f"model.order={order}") for order in asked.orders}
    asked.out.mkdir(parents=True, exist_ok=True)
    found: dict[str, list[dict[str, object]]] = {}
    for seed in range(asked.seeds):
        for name, settings in kinds.items():
            recipe = with_settings(find_recipe(asked.recipe), [*settings, f"training.seed={seed}"])
            path = asked.out / f"{name.replace(' ', '-').replace(':', '-')}-seed{seed}"
            run = trained(recipe, path, data=asked.data, palette=asked.palette)
            found.setdefault(name, []).append(measured(run, recipe, asked.data))
            write_json(asked.out / "objectives.json", found)
    print(table(found))
    print(passes_table(found["diffusion"]))


def trained(recipe: Recipe, path: Path, *, data: Path, palette: Path) -> RunFolder:
    """Return the finished run at `path`, which is begun or gone on with if need be."""
    if not RunFolder.is_at(path):
        return pretrain(recipe, data=data, palette=palette, out=path, device="cpu")
    run = RunFolder(path)
    if len(read_metrics(run.metrics)) < recipe.training.steps:
        resume(path, device="cpu")
    return run


def measured(run: RunFolder, recipe: Recipe, data: Path) -> dict[str, object]:
    """Return what a run comes to, and draw a box in the middle if it can."""
    where = {"data": data, "device": "cpu"}
    evaluation = evaluate_run(run.path, reuse=True, **where)
    probe = probe_run(run.path, reuse=True, **where)
    size = recipe.model.image_size
    box = (size // 4, size // 4, size - size // 4, size - size // 4)
    curve = None
    if recipe.model.causal:
        complete_records(run.path, samples=4, **where)
    else:
        complete_records(run.path, samples=4, box=box, **where)
        curve = to_dict(passes_run(run.path, passes=PASSES, images=CURVE_IMAGES, draws=4, **where))
    return {
        "run": run.path.name,
        "evaluation": to_dict(evaluation),
        "probe": probe.test_accuracy,
        "best_layer": probe.best_layer,
        "raw_pixels": probe.raw_pixels and probe.raw_pixels.test_accuracy,
        "seconds": read_metrics(run.metrics)[-1]["seconds"],
        "passes": curve,
    }


def table(found: dict[str, list[dict[str, object]]]) -> str:
    """Return a row for each kind of run: means and standard deviations over the seeds."""
    lines = [
        "| network | nats per pixel | its spread over masks | probe | best layers | minutes |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for name, seeds in found.items():
        evaluations = [seed["evaluation"] for seed in seeds]
        nats = spread([one["nats_per_pixel"] for one in evaluations], "{:.4f}")
        draws = [one["draw_spread"] for one in evaluations if one["draw_spread"] is not None]
        kind = {"diffusion": "at most ", "masked": "(hidden) "}.get(evaluations[0]["objective"], "")
        cells = (
            name,
            f"{kind}{nats}",
            f"{statistics.fmean(draws):.4f}" if draws else "",
            spread([100 * seed["probe"] for seed in seeds], "{:.2f}") + " %",
            ", ".join(str(seed["best_layer"]) for seed in seeds),
            f"{statistics.fmean(seed['seconds'] for seed in seeds) / 60:.1f}",
        )
        lines.append(f"| {' | '.join(cells)} |")
    first = found["autoregressive"][0]
    raw, blind = 100 * first["raw_pixels"], first["evaluation"]["chance_nats_per_pixel"]
    lines.append(f"\nraw pixels {raw:.2f} %; knowing nothing {blind:.4f} nats")
    return "\n".join(lines)


def passes_table(seeds: Sequence[dict[str, object]]) -> str:
    """Return what drawing in few passes costs, as the mean over the seeds."""
    lines = ["| passes | nats per pixel, at most |", "| --- | --- |"]
    for rows in zip(*(seed["passes"]["rows"] for seed in seeds), strict=True):
        nats = spread([row["nats_per_pixel"] for row in rows], "{:.4f}")
        lines.append(f"| {rows[0]['passes']} | {nats} |")
    return "\n".join(lines)


def spread(values: Sequence[float], form: str) -> str:
    """Return a mean, and where there are several values their standard deviation."""
    text = form.format(statistics.fmean(values))
    return text + (f" ± {form.format(statistics.stdev(values))}" if len(values) > 1 else "")


if __name__ == "__main__":
    main()
