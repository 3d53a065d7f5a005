"""Records: what has to be known of a run so that others can get its figures again.

    python -m benchmarks.record runs/a --out results/cifar10-10m        # writes a record
    python -m benchmarks.record --check results/cifar10-10m --model MODEL --data STORE
    python -m benchmarks.record --table results                         # of all records there

    results/cifar10-10m/
    ├── record.json       commands, commit, machine, settings, seeds, checksums and results
    ├── metrics.jsonl.gz  a line a step
    └── recipe.json, longer.json, evaluation.json, probe.json ...    the run's own files

A run with a file that was changed is refused. `--check` sees that a model has the recorded weights
and measures again what the record has of the test images, which must come out the same.
"""

import argparse
import gzip
import math
import shlex
import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from igpt.errors import ConfigError, DataError, IgptError
from igpt.files import digest, read_json, write_json, written_aside
from igpt.model.description import WEIGHTS, model_identity
from igpt.runs.kept import ALL
from igpt.runs.measure import evaluate_run
from igpt.runs.provenance import Provenance
from igpt.runs.run import LONGER, DataIdentity, RunFolder, training_of
from igpt.runs.verify import RESULTS, verify
from igpt.seals import sealed, unsealed
from igpt.training.metrics import read_metrics
from igpt.values import from_dict, to_dict

RECORD, METRICS = "record.json", "metrics.jsonl.gz"
_TOLERANCE = 1e-5
"""Nats by which another machine's rounding may differ."""


@dataclass(frozen=True, kw_only=True)
class Record:
    """What `record.json` holds."""

    name: str
    commands: tuple[str, ...]
    """That trained and measured it, as they are to be typed."""
    made: Provenance
    """Commit, versions and machine of the training."""
    settings: dict[str, Any]
    """All that `recipe.json` has."""
    seed: int
    weights: int
    steps: int
    """Done; fine-tuning may stop early."""
    seconds: float
    """Spent training."""
    model: str
    """The model's identity."""
    sha256: str
    """Of its weights, `model/model.safetensors`."""
    results: dict[str, dict[str, Any]]
    """What each of the run's result files holds, by the file's name."""
    files: dict[str, str]
    """SHA-256 of the files beside the record."""


def make_record(run: Path, out: Path) -> Record:
    """Write the record of a finished run into the folder `out`, and return it.

    Raises:
        CheckpointError: There is no run.
        ConfigError: Its training has not come to its end.
        DataError: A file of it is missing or was changed, or `out` is there already.
    """
    opened = RunFolder.open(run)
    if faults := [f for f in verify(opened.path).files if f.state in ("changed", "missing")]:
        raise DataError(f"{opened.path / faults[0].name} is {faults[0].state}; restore it")
    settings, lines = opened.settings, read_metrics(opened.metrics)
    training = training_of(settings)
    if not opened.ended:
        raise ConfigError(
            f"{run} has done {len(lines)} of {training.steps} steps; go on with igpt resume {run}"
        )
    made = opened.require("provenance.json", Provenance)
    kept = [name for name in RESULTS if (opened.path / name).is_file()]
    longer = [LONGER] if (opened.path / LONGER).is_file() else []
    files = ["recipe.json", *longer, *kept]
    model = settings.recipe.model if hasattr(settings, "recipe") else settings.model
    with written_aside(out, exclusive=True) as aside:
        aside.mkdir()
        for name in files:
            shutil.copyfile(opened.path / name, aside / name)
        content = gzip.compress(opened.metrics.read_bytes(), mtime=0)
        (aside / METRICS).write_bytes(content)
        record = Record(
            name=out.name,
            commands=(
                made.command,
                *(change.made.command for change in opened.longer),
                *_measuring(opened.path, kept, settings.data),
            ),
            made=made,
            settings=to_dict(settings),
            seed=training.seed,
            weights=model.parameters,
            steps=len(lines),
            seconds=lines[-1]["seconds"],
            model=model_identity(opened.model),
            sha256=digest(opened.model / WEIGHTS),
            results={name: read_json(opened.path / name) for name in kept},
            files={name: digest(aside / name) for name in (*files, METRICS)},
        )
        write_json(aside / RECORD, sealed(to_dict(record)))
    return record


def _measuring(run: Path, kept: Sequence[str], data: DataIdentity) -> Iterator[str]:
    """Yield commands; of images that were not learned from, only the identity is known."""
    measures = {"evaluation.json": "evaluate", "probe.json": "probe",
                "few-labels.json": "few-labels"}  # fmt: skip
    for name, command in measures.items():
        parts = read_json(run / name).get("made_from", {}) if name in kept else {}
        for part, made_from in parts.items():
            split = () if part == ALL else ("--split", part)
            options = _options(made_from["settings"])
            of = made_from["store"]
            store = data.path if of == data.sha256 else f"STORE-{of}"
            yield shlex.join(["igpt", command, str(run), "--data", store, *split, *options])


def _options(settings: dict[str, Any]) -> Iterator[str]:
    """Return those of a measure's settings that a command takes, as they are typed."""
    others = {"labels_per_class": "labels", "finetune_steps": "fine-tune"}
    for name in ("seed", "draws", "eight_bit", "concatenate", "subsets", "layer", *others):
        value = settings.get(name)
        if value is None or (name == "finetune_steps" and value == 0):
            continue
        for one in value if isinstance(value, list) else [value]:
            yield f"--{others.get(name, name.replace('_', '-'))}"
            if one is not True:
                yield str(one)


def read_record(folder: Path) -> Record:
    """Return the record in a folder, whose files are those it was written with.

    Raises:
        DataError: There is none, or it or a file beside it was changed.
    """
    file = folder / RECORD
    try:
        values = unsealed(read_json(file, error=DataError), file, error=DataError)
        record = from_dict(Record, values, name="it")
    except ConfigError as error:
        raise DataError(f"{file} is no record: {error}") from error
    for name, sha256 in record.files.items():
        if digest(folder / name, error=DataError) != sha256:
            raise DataError(f"{folder / name} was changed since it was recorded; restore it")
    return record


def check(record: Record, model: Path, data: Path, *, device: str = "auto") -> float:
    """Return the nats per pixel of a record's model on the test images, measured again.

    Raises:
        DataError: These are other weights, the figure is another, or none was recorded.
    """
    evaluation = record.results.get("evaluation.json", {})
    known = evaluation.get("splits", {}).get("test")
    if known is None:
        raise DataError(f"the record {record.name} has no likelihood of test images to check")
    weights = model / WEIGHTS if (model / WEIGHTS).is_file() else model / "model" / WEIGHTS
    if digest(weights) != record.sha256:
        raise DataError(f"{weights} is not the model of the record {record.name}")
    asked = evaluation["made_from"]["test"]["settings"]
    found = evaluate_run(
        model, data=data, draws=asked.get("draws"), seed=asked["seed"], device=device
    ).nats_per_pixel
    if not math.isclose(found, known["nats_per_pixel"], abs_tol=_TOLERANCE):
        raise DataError(
            f"{model} has {found:.6f} nats per pixel, and the record {record.name} says "
            f"{known['nats_per_pixel']:.6f}; are these the same images?"
        )
    return found


def table(folder: Path) -> str:
    """Return a line of Markdown for each record in a folder."""
    lines = [
        "| record | weights | steps | seed | nats per pixel, all | from the second | probe | hours "
        "| device | commit | SHA-256 of the weights |",
        f"|{' --- |' * 11}",
    ]
    for file in sorted(folder.glob(f"*/{RECORD}")):
        record = read_record(file.parent)
        test = record.results.get("evaluation.json", {}).get("splits", {}).get("test", {})
        probe = record.results.get("probe.json", {}).get("test_accuracy")
        second = test.get("nats_per_pixel_from_second")
        cells = (
            record.name,
            f"{record.weights:,}",
            f"{record.steps:,}",
            f"{record.seed}",
            f"{test['nats_per_pixel']:.4f}" if test else "",
            "" if second is None else f"{second:.4f}",
            "" if probe is None else f"{probe:.2%}",
            f"{record.seconds / 3600:.2f}",
            record.made.device if record.made.device != "cpu" else record.made.processor,
            record.made.commit or "",
            record.sha256[:16],
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("run", type=Path, nargs="?")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--check", type=Path, metavar="RECORD")
    parser.add_argument("--model", type=Path)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--table", type=Path, metavar="RESULTS")
    asked = parser.parse_args()
    try:
        if asked.table:
            print(table(asked.table))
        elif asked.check and asked.model and asked.data:
            nats = check(read_record(asked.check), asked.model, asked.data, device=asked.device)
            print(f"{asked.model}: {nats:.4f} nats per pixel, as recorded")
        elif asked.run and asked.out:
            record = make_record(asked.run, asked.out)
            print(f"{asked.out}: {record.name}, weights {record.sha256[:16]}")
        else:
            parser.error("give a run and --out; or --check with --model and --data; or --table")
    except IgptError as error:
        sys.exit(f"record: {error}")


if __name__ == "__main__":
    main()
