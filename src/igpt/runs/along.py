"""Along a training: the loss and the probes of a run as it was on the way, and at its end.

The recipe's `training.snapshots` keeps the model at a half of the steps, a quarter and so on; here
each is measured like the finished one. This is the paper's figure 3 of one network: as the
generative loss falls, the features get better.
"""

from pathlib import Path
from typing import Any

from igpt.data.records import RecordStore
from igpt.errors import ConfigError
from igpt.evaluation.likelihood import evaluate
from igpt.formats.load import load
from igpt.runs.pretrain import recipe_of
from igpt.runs.probe import probe_run
from igpt.runs.run import RunFolder, choose_device
from igpt.training.metrics import read_metrics


def along_run(
    path: Path, *, data: Path, held_out: Path | None = None, device: str = "auto"
) -> list[dict[str, Any]]:
    """Measure every snapshot of a pretraining run, and its end, and return a row of each.

    The run keeps them as `along.json`, row by row, so that a stopped measurement goes on. The loss
    is that of the validation split, and accuracies are those of `probe_run`.

    Args:
        path: A finished pretraining run whose recipe has `training.snapshots`.
        data: Record store with labels, for the probes.
        held_out: Record store whose validation split gives the loss; `data` by default.
        device: `cpu`, `cuda` ...; `auto` for the first GPU, or else the CPU.

    Returns:
        Rows from the first snapshot to the end: `step` (updates done), `nats_per_pixel`,
        `best_layer`, `validation_accuracy` and `test_accuracy` of that layer, and `layers`, the
        test accuracy of each.

    Raises:
        ConfigError: The run keeps no snapshots, or is not finished.
        DataError: No labels, or no such splits.
        CheckpointError: No run at `path`.

    Source: Chen et al. 2020, figure 3.
    """
    run = RunFolder.open(path)
    if run.settings["kind"] != "pretrain":
        raise ConfigError(f"{path} is a fine-tuning run; give the pretraining run it began from")
    training = recipe_of(run.settings).training
    folders = {step: run.snapshot(step) for step in training.snapshot_steps}
    if not folders:
        raise ConfigError(
            f"{path} keeps no snapshots; pretrain with --set training.snapshots=4 for some"
        )
    missing = [step for step, folder in folders.items() if not folder.is_dir()]
    if missing:
        raise ConfigError(
            f"{path} has no snapshot of step {missing[0]} yet; go on with igpt pretrain --resume "
            f"{path} first"
        )
    done = read_metrics(run.metrics)
    if not done or done[-1]["step"] + 1 < training.steps:
        raise ConfigError(f"{path} is not finished; go on with igpt pretrain --resume {path} first")
    folders[training.steps] = run.model
    validation = RecordStore.open(held_out or data).split("validation")
    rows = run.read("along.json") or []
    for step, folder in folders.items():
        if any(row["step"] == step for row in rows):
            continue
        pretrained = load(folder, device=choose_device(device))
        probe = run.read("probe.json") if step == training.steps else None
        probe = probe or probe_run(folder, data=data, device=device, raw=False)
        best = probe["best_layer"]
        rows.append(
            {
                "step": step,
                "nats_per_pixel": evaluate(pretrained, validation).nats_per_pixel,
                "best_layer": best,
                "validation_accuracy": probe["layers"][best]["validation_accuracy"],
                "test_accuracy": probe["test_accuracy"],
                "layers": [row["test_accuracy"] for row in probe["layers"]],
            }
        )
        run.write("along.json", rows)
    return rows
