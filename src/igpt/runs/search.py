"""A search for the learning rate: a run for each rate, in one folder; then validation folded in.

The paper tries rates in turn until the validation score gets worse, for pretraining and anew for
fine-tuning; then it folds the validation images back in, retrains, and reports the test images once
(Chen et al. 2020, sections 3.1 and 3.4).

    runs/a/
    ├── search.json    what it was begun with, what each rate gave, and which run is its outcome
    ├── rate-0.01/     an ordinary run for each rate tried
    ├── rate-0.003/
    └── final/         with `fold_validation`: the best rate, on train and validation together

The same call again goes on where it was: rates on record are not tried again, and a run that was
stopped is resumed. It may also ask for more than is there: rates besides those tried, or folding.
"""

import dataclasses
import hashlib
import json
import math
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from igpt.data.records import RecordStore
from igpt.errors import CheckpointError, ConfigError
from igpt.files import remove_abandoned, write_json
from igpt.formats.load import load
from igpt.model.pretrained import Pretrained
from igpt.pixels.palette import Palette
from igpt.runs import finetune, pretrain
from igpt.runs.rate_search import (
    FINETUNING_RATES,
    PRETRAINING_RATES,
    check_rates,
    search_rates,
)
from igpt.runs.recipes import FinetuneConfig, Recipe
from igpt.runs.run import (
    Interrupted,
    RunFolder,
    choose_device,
    describe_data,
    refuse_existing,
)
from igpt.training.loop import TrainingDiverged
from igpt.training.metrics import read_metrics
from igpt.values import to_dict

Row = dict[str, Any]
"""A learning rate tried and what it gave, as `search.json` has it."""

_MEASURES = {"pretrain": "validation_nats_per_pixel", "finetune": "validation_accuracy"}
_KEPT = ("best_step", "steps")  # of a fine-tuning's results, beside the measure


def search_pretraining(
    recipe: Recipe,
    *,
    data: Path,
    palette: Path,
    out: Path,
    rates: Sequence[float] = PRETRAINING_RATES,
    fold_validation: bool = False,
    name: str = "",
    device: str = "auto",
    seconds: float | None = None,
) -> dict[str, Any]:
    """Pretrain with one learning rate after another until the final validation loss rises.

    Args:
        recipe: As in `pretrain`; its learning rate is not used.
        data: Record store with a validation split.
        palette: Palette file.
        out: Folder of the search; may hold this one, which then goes on.
        rates: From high to low.
        fold_validation: Pretrain once more with the best, on train and validation together.
        name: What the recipe is called, for the record.
        device: `cpu`, `cuda` ...; `auto` for the first GPU, or else the CPU.
        seconds: Stop, resumable, after so long.

    Returns:
        What `search.json` holds: `tries`, a list with `learning_rate` and
        `validation_nats_per_pixel` (None if it diverged), and when all is done `best`, a learning
        rate, `turned`, whether the loss rose at last, and `run`, the outcome's folder in `out`.

    Raises:
        ConfigError: The settings do not go together, or `out` holds something else.
        DataError: As in `pretrain`, or there is no validation split.
        Interrupted: SIGINT or SIGTERM came; everything is saved.
        TrainingDiverged: Every rate diverged.
    """
    check_rates(rates)
    store = RecordStore.open(data)
    colors = Palette.load(palette)
    recipe = dataclasses.replace(
        recipe, model=dataclasses.replace(recipe.model, colors=colors.size)
    )
    store.split("validation")
    pretrain.check(recipe, store, colors, choose_device(device))

    def train(path: Path, rate: float, best: Row | None, left: float | None) -> Row | None:
        if path.exists():
            run = pretrain.resume(path, data=data, device=device, seconds=left)
        else:
            training = dataclasses.replace(recipe.training, learning_rate=rate)
            run = pretrain.pretrain(
                dataclasses.replace(recipe, training=training), data=data, palette=palette,
                out=path, name=name, device=device, seconds=left, fold_validation=best is not None,
            )  # fmt: skip
        last = read_metrics(run.metrics)[-1]
        return last if last["step"] + 1 == recipe.training.steps else None

    return _search(
        out,
        settings=_settings("pretrain", recipe.to_dict(), store, data, colors),
        rates=rates,
        fold_validation=fold_validation,
        train=train,
        report=lambda path: {},
        seconds=seconds,
    )


def search_finetuning(
    source: Path,
    *,
    data: Path,
    out: Path,
    config: FinetuneConfig,
    rates: Sequence[float] = FINETUNING_RATES,
    fold_validation: bool = False,
    device: str = "auto",
    seconds: float | None = None,
) -> dict[str, Any]:
    """Fine-tune with one learning rate after another until the validation accuracy falls.

    The test split is measured once, with the outcome.

    Args:
        source: Run or model folder; the search needs it whenever it goes on.
        data: Record store with labels and a validation split.
        out: Folder of the search; may hold this one, which then goes on.
        config: As in `finetune`; its learning rate is not used.
        rates: From high to low.
        fold_validation: Fine-tune once more with the best, on train and validation together, for
            as many steps as gave the best validation accuracy.
        device: `cpu`, `cuda` ...; `auto` for the first GPU, or else the CPU.
        seconds: Stop, resumable, after so long.

    Returns:
        What `search.json` holds, as of `search_pretraining`; here each of `tries` has
        `validation_accuracy`, `best_step` and `steps`, and the outcome a `test_accuracy`.

    Raises:
        ConfigError: The settings do not go together, or `out` holds something else.
        DataError: As in `finetune`.
        CheckpointError: No model at `source`.
        Interrupted: SIGINT or SIGTERM came; everything is saved.
        TrainingDiverged: Every rate diverged.
    """
    check_rates(rates)
    store = RecordStore.open(data)
    pretrained = load(source)
    chosen = choose_device(device)
    finetune.check(pretrained, config, store, chosen)

    def train(path: Path, rate: float, best: Row | None, left: float | None) -> Row | None:
        if path.exists():
            run = finetune.resume(path, data=data, device=device, seconds=left)
        else:
            steps = config.training.steps if best is None else best["best_step"]
            training = dataclasses.replace(config.training, learning_rate=rate, steps=steps)
            run = finetune.finetune(
                source, data=data, out=path, config=dataclasses.replace(config, training=training),
                device=device, seconds=left, fold_validation=best is not None, measure_test=False,
            )  # fmt: skip
        result = run.read("finetune.json", finetune.FinetuneResult)
        return None if result is None else to_dict(result)

    def report(path: Path) -> dict[str, Any]:
        measured = finetune.report_test(RunFolder.open(path), store, chosen)
        return {"test_accuracy": measured.test_accuracy}

    settings = dataclasses.asdict(config) | {"weights": _fingerprint(pretrained)}
    return _search(
        out,
        settings=_settings("finetune", settings, store, data, pretrained.palette),
        rates=rates,
        fold_validation=fold_validation,
        train=train,
        report=report,
        seconds=seconds,
    )


class _OutOfTime(Exception):
    """A run has stopped before its end, as it was asked to."""


def _search(
    out: Path,
    *,
    settings: dict[str, Any],
    rates: Sequence[float],
    fold_validation: bool,
    train: Callable[[Path, float, Row | None, float | None], Row | None],
    report: Callable[[Path], dict[str, Any]],
    seconds: float | None,
) -> dict[str, Any]:
    """Search, or go on, and return what `search.json` then holds.

    Args:
        out: Folder of the search.
        settings: What all of its runs share.
        rates: From high to low.
        fold_validation: Whether there is to be a final run.
        train: Folder, rate, the best try if this is the final run, and seconds left, to the run's
            results; None if it has not reached its end.
        report: The outcome's folder to what is measured of it at last.
        seconds: As in the callers.
    """
    began, measure = time.monotonic(), _MEASURES[settings["kind"]]
    rows = {row["learning_rate"]: row for row in _reopen(out, settings)}
    result: dict[str, Any] = {"settings": settings, "tries": [], "best": None, "turned": None}

    def write(**found: Any) -> dict[str, Any]:
        result.update(tries=[rows[rate] for rate in sorted(rows, reverse=True)], **found)
        write_json(out / "search.json", result)
        return result

    def finish(path: Path, rate: float, best: Row | None = None) -> Row:
        left = None if seconds is None else max(0.0, began + seconds - time.monotonic())
        try:
            found = train(path, rate, best, left)
        except Interrupted as error:
            raise Interrupted(
                f"{str(error).partition(';')[0]}, in {path}; go on with the same command",
                signal_number=error.signal_number,
            ) from error
        if found is None:
            raise _OutOfTime
        return found

    def score_of(rate: float) -> float:
        if rate not in rows:
            try:
                found = finish(out / f"rate-{rate}", rate)
            except TrainingDiverged:
                found = {measure: math.nan}
            score = found[measure] if math.isfinite(found[measure]) else None  # JSON has no NaN
            others = {name: found[name] for name in _KEPT if name in found}
            rows[rate] = {"learning_rate": rate, measure: score, **others}
            write()
            print(f"{out}: learning rate {rate:g}, {_told(measure, score)}", file=sys.stderr)
        score = rows[rate][measure]
        return math.nan if score is None else score

    left_out = sorted(set(rows) - set(rates), reverse=True)
    if left_out:
        raise ConfigError(
            f"{out} has tried the rate {left_out[0]:g} already; give --search-rates with the rates "
            "on record and any others, or choose another --out"
        )
    write()
    try:
        found = search_rates(rates, score_of, rising=measure == "validation_accuracy")
        best = found.best.rate
        outcome = out / ("final" if fold_validation else f"rate-{best}")
        if fold_validation:
            _refuse_another(outcome, best)
            finish(outcome, best, rows[best])
    except _OutOfTime:
        return result
    return write(best=best, turned=found.turned, run=outcome.name, **report(outcome))


def _settings(
    kind: str, settings: dict[str, Any], store: RecordStore, data: Path, palette: Palette
) -> dict[str, Any]:
    """Return what makes a search this one and no other."""
    training = {key: value for key, value in settings["training"].items() if key != "learning_rate"}
    return {
        "kind": kind,
        **settings,
        "training": training,
        "data": describe_data(store, data)["sha256"],
        "palette": palette.fingerprint,
    }


def _fingerprint(pretrained: Pretrained) -> str:
    digest = hashlib.sha256()
    for name, weight in sorted(pretrained.model.state_dict().items()):
        digest.update(name.encode())
        digest.update(weight.cpu().contiguous().numpy())
    return digest.hexdigest()[:16]


def _reopen(out: Path, settings: dict[str, Any]) -> list[Row]:
    """Return the tries on record in `out`; none if nothing is there yet.

    Raises:
        ConfigError: `out` holds another search, or something else.
        CheckpointError: `search.json` is damaged.
    """
    remove_abandoned(out)
    file = out / "search.json"
    if not file.is_file():
        refuse_existing(out)
        return []
    try:
        known = json.loads(file.read_text())
        begun, tries = dict(known["settings"]), list(known["tries"])
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{file} is damaged: {error}; restore it") from error
    others = [name for name in settings if begun.get(name) != settings[name]]
    if others:
        raise ConfigError(
            f"{out} holds a search with other settings ({', '.join(others)}); to go on with it "
            "give the same ones, or choose another --out"
        )
    return tries


def _refuse_another(final: Path, rate: float) -> None:
    """See that a final run which is there already is the one that is wanted.

    Raises:
        ConfigError: It had another learning rate, the best of fewer tries.
    """
    if final.exists():
        settings = RunFolder.open(final).settings
        training = settings.get("training") or settings["finetune"]["training"]
        if training["learning_rate"] != rate:
            raise ConfigError(
                f"{final} was trained with learning rate {training['learning_rate']:g}, and now "
                f"{rate:g} is the best; remove it to train it again"
            )


def _told(measure: str, score: float | None) -> str:
    if score is None:
        return "diverged"
    return f"{score:.2%}" if measure == "validation_accuracy" else f"{score:.4f}"


def search_table(result: dict[str, Any], out: Path) -> str:
    """Return a search's tries as a small table, and what came of it."""
    measure = _MEASURES[result["settings"]["kind"]]
    title = measure.replace("_", " ")
    lines = [f"learning rate  {title}"]
    for row in result["tries"]:
        mark = "  best" if row["learning_rate"] == result["best"] else ""
        told = _told(measure, row[measure])
        lines.append(f"{row['learning_rate']:13g}  {told:>{len(title)}}{mark}")
    if result["best"] is None:
        return "\n".join([*lines, "not finished; the same command again goes on"])
    if not result["turned"]:
        lines.append("none was worse than the one before; still lower rates may be better")
    test = result.get("test_accuracy")
    lines.append(
        f"{out / result['run']}: learning rate {result['best']:g}"
        + (", train and validation together" if result["run"] == "final" else "")
        + ("" if test is None else f", test accuracy {test:.2%}")
    )
    return "\n".join(lines)
