"""Along a training: the loss and the probes of a run as it was on the way, and at its end.

The recipe's `snapshots` keeps the model at 524 thousandths of the steps, 262 and so on; here each
is measured like the finished one. This is the paper's figure 3 of one network: as the
generative loss falls, the features get better.
"""

from dataclasses import dataclass
from pathlib import Path

from igpt.data.store import RecordStore
from igpt.errors import ConfigError
from igpt.evaluation.likelihood import evaluate
from igpt.evaluation.sgd import SGDConfig
from igpt.evaluation.solvers import SGD, SolverName
from igpt.formats.load import load
from igpt.model.description import model_identity
from igpt.paths import AnyPath, as_path
from igpt.processes import choose_device
from igpt.runs.kept import MadeFrom, kept_if_possible
from igpt.runs.measure import probe_run
from igpt.runs.reuse import kept_probe
from igpt.runs.run import RunFolder
from igpt.values import to_dict


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """A run as it was after so many updates."""

    step: int
    """Updates done."""
    nats_per_pixel: float
    """Of the validation split."""
    best_layer: int
    validation_accuracy: float
    """Of the best layer's probe; so is the next."""
    test_accuracy: float
    layers: tuple[float, ...]
    """Test accuracy of each layer's probe."""
    test_images: int | None = None
    """That it was measured on; None in results older than the question."""


@dataclass(frozen=True, kw_only=True)
class Along:
    """What `along.json` holds, from the first snapshot to the end."""

    snapshots: tuple[Snapshot, ...] = ()


def along_run(
    path: AnyPath,
    *,
    data: AnyPath,
    held_out: AnyPath | None = None,
    solver: SolverName = "lbfgs",
    sgd: SGDConfig = SGD,
    folder: AnyPath | None = None,
    device: str = "auto",
) -> Along:
    """Measure every snapshot of a pretraining run, and its end, and return a row of each.

    The run keeps them as `along.json`, row by row, so that a stopped measurement goes on; rows of
    other models or stores are measured anew. The loss
    is that of the validation split, and accuracies are those of `probe_run`; the end is probed as a
    whole, and the run keeps that, too.

    Args:
        path: A finished pretraining run whose recipe has `snapshots`.
        data: Record store with labels, for the probes.
        held_out: Record store whose validation split gives the loss; `data` by default.
        solver: Of the probes, as in `probe_run`; so are the next two.
        sgd: How "sgd" trains its heads.
        folder: Where features are kept, those of one snapshot after another.
        device: `cpu`, `cuda` ...; `auto` for the first GPU, or else the CPU.

    Raises:
        ConfigError: The run keeps no snapshots, or is not finished.
        DataError: No labels, or no such splits.
        CheckpointError: No run at `path`.

    Source: Chen et al. 2020, figure 3.
    """
    path, data = Path(path), Path(data)
    held_out = as_path(held_out)
    run = RunFolder.open(path)
    recipe = run.pretraining.recipe
    models = {step: run.snapshot(step) for step in recipe.snapshot_steps}
    if not models:
        raise ConfigError(f"{path} keeps no snapshots; pretrain with --set snapshots=4 for some")
    missing = [step for step, model in models.items() if not model.is_dir()]
    if missing:
        raise ConfigError(
            f"{path} has no snapshot of step {missing[0]} yet; go on with igpt resume {path} first"
        )
    if not run.ended:
        raise ConfigError(f"{path} is not finished; go on with igpt resume {path} first")
    models[recipe.training.steps] = run.model
    store = RecordStore.open(data)
    by = {} if solver == "lbfgs" else {"solver": solver, "sgd": to_dict(sgd)}
    held_out_store = store if held_out is None else RecordStore.open(held_out)
    validation = held_out_store.split("validation")
    known, of_known = run.kept("along.json", Along)
    rows: list[Snapshot] = []
    made_from: dict[str, MadeFrom] = {}
    for step, model in models.items():
        made_from[str(step)] = MadeFrom(
            model=model_identity(model),
            store=store.identity,
            settings={"held_out": held_out_store.identity, **by},
        )
        if known is not None and of_known.get(str(step)) == made_from[str(step)]:
            rows += [row for row in known.snapshots if row.step == step]
            continue
        pretrained = load(model, device=choose_device(device))
        last = step == recipe.training.steps  # which the run itself keeps
        probe = kept_probe(path, store) if last and not by else None
        if probe is None:
            probe = probe_run(
                path if last else model, data=data, raw=last and not by, solver=solver, sgd=sgd,
                folder=folder, device=device, reuse=last,
            )  # fmt: skip
        snapshot = Snapshot(
            step=step,
            nats_per_pixel=evaluate(pretrained, validation).nats_per_pixel,
            best_layer=probe.best_layer,
            validation_accuracy=probe.best.validation_accuracy,
            test_accuracy=probe.test_accuracy,
            layers=tuple(row.test_accuracy for row in probe.layers),
            test_images=probe.records["test"],
        )
        rows.append(snapshot)
        with kept_if_possible():
            run.write("along.json", Along(snapshots=tuple(rows)), made_from)
    return Along(snapshots=tuple(rows))
