"""A search for the learning rate: a run for each rate, in one folder; then validation folded in.

The paper tries rates in turn, 0.01, 0.003, 0.001 and so on, until the final validation score gets
worse, for pretraining and anew for fine-tuning; then it folds the validation images back in,
retrains, and reports the test images once (Chen et al. 2020, sections 3.1 and 3.4).

    runs/a/
    ├── search.json    what it was begun with, what each rate gave, and which run is its outcome
    ├── rate-0.01/     an ordinary run for each rate tried
    ├── rate-0.003/
    └── final/         with `fold_validation`: the best rate, on train and validation together

The same call again goes on where it was: rates on record are not tried again, and a run that was
stopped is resumed. It may also ask for more than is there: rates besides those tried, or folding.
Until those are there the outcome on record stands; one that was folded is not taken back.
"""

import dataclasses
import hashlib
import math
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from igpt import locks
from igpt.amounts import estimate
from igpt.data.store import RecordStore
from igpt.errors import CheckpointError, ConfigError
from igpt.files import read_json, refusals_told, remove_abandoned, write_json
from igpt.formats.load import load
from igpt.model.pretrained import Pretrained
from igpt.paths import AnyPath
from igpt.pixels.palette import Palette
from igpt.places import require_room
from igpt.processes import choose_device
from igpt.runs import finetune, pretrain
from igpt.runs.rates import (
    FINETUNING_RATES,
    PRETRAINING_RATES,
    SearchResult,
    Try,
    check_rates,
    look,
)
from igpt.runs.recipes import FinetuneConfig, Recipe, with_its_name
from igpt.runs.resume import ensure
from igpt.runs.run import DataIdentity, PretrainSettings, RunFolder, training_of
from igpt.training.loop import TrainingDiverged
from igpt.training.metrics import read_metrics
from igpt.training.signals import Interrupted
from igpt.values import from_dict, to_dict

_FINAL = "final"

Begin = Callable[[Path, float, Try | None, float | None], RunFolder]
"""Folder, learning rate, the best try if this is the final run, and seconds left, to the run."""


def search_pretraining(
    recipe: Recipe | str,
    *,
    data: AnyPath,
    palette: AnyPath,
    out: AnyPath,
    rates: Sequence[float] = PRETRAINING_RATES,
    fold_validation: bool = False,
    name: str = "",
    device: str = "auto",
    seconds: float | None = None,
) -> SearchResult:
    """Pretrain with one learning rate after another until the final validation loss rises.

    When that is, `look` says.

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

    Raises:
        ConfigError: The rates do not descend, the settings do not go together, or `out` holds
            something else.
        DataError: As in `pretrain`, or there is no validation split.
        CheckpointError: Another process is at work on the search, or what it has is damaged.
        Interrupted: SIGINT or SIGTERM came; everything is saved.
        TrainingDiverged: Every rate diverged.
    """
    recipe, name = with_its_name(recipe, name)
    data, palette, out = Path(data), Path(palette), Path(out)
    check_rates(rates)
    store, colors = RecordStore.open(data), Palette.load(palette)
    recipe = pretrain.for_palette(recipe, colors)
    store.split("validation")
    pretrain.check(recipe, store, colors, choose_device(device))

    def begin(path: Path, rate: float, best: Try | None, left: float | None) -> RunFolder:
        training = dataclasses.replace(recipe.training, learning_rate=rate)
        start = lambda: pretrain.pretrain(  # noqa: E731
            dataclasses.replace(recipe, training=training), data=data, palette=palette, out=path,
            name=name, device=device, seconds=left, fold_validation=best is not None,
        )  # fmt: skip
        return ensure(path, start, data=data, device=device, seconds=left)

    result = SearchResult(kind="pretrain", settings=_shared(recipe, store, data, colors))
    with _alone(out):
        return _search(
            out, result, rates=rates, fold_validation=fold_validation, begin=begin,
            test=lambda run: None, seconds=seconds,
        )  # fmt: skip


def search_finetuning(
    source: AnyPath,
    *,
    data: AnyPath,
    out: AnyPath,
    config: FinetuneConfig,
    rates: Sequence[float] = FINETUNING_RATES,
    fold_validation: bool = False,
    device: str = "auto",
    seconds: float | None = None,
) -> SearchResult:
    """Fine-tune with one learning rate after another until the validation accuracy falls.

    The test split is measured once, with the outcome. For the rest see `search_pretraining`.

    Args:
        source: Run or model folder; the search needs it whenever it goes on.
        data: Record store with labels and a validation split.
        out: Folder of the search; may hold this one, which then goes on.
        config: As in `finetune`; its learning rate is not used.
        rates: From high to low.
        fold_validation: Fine-tune once more with the best, on train and validation together, for
            as many steps as gave the best validation accuracy, and at least one after warm-up.
        device: `cpu`, `cuda` ...; `auto` for the first GPU, or else the CPU.
        seconds: Stop, resumable, after so long.

    Raises:
        CheckpointError: No model at `source`; and the errors of `search_pretraining`.
    """
    source, data, out = Path(source), Path(data), Path(out)
    check_rates(rates)
    store, pretrained, chosen = RecordStore.open(data), load(source), choose_device(device)
    finetune.check(pretrained, config, store, chosen)

    in_steps = config.training.for_records(len(store.split("train")))

    def begin(path: Path, rate: float, best: Try | None, left: float | None) -> RunFolder:
        training = dataclasses.replace(config.training, learning_rate=rate)
        if best is not None and best.best_step is not None:
            steps = max(best.best_step, in_steps.warmup_steps + 1)
            training = dataclasses.replace(in_steps, learning_rate=rate, steps=steps)
        start = lambda: finetune.finetune(  # noqa: E731
            source, data=data, out=path, config=dataclasses.replace(config, training=training),
            device=device, seconds=left, fold_validation=best is not None, measure_test=False,
        )  # fmt: skip
        return ensure(path, start, data=data, device=device, seconds=left)

    shared = _shared(config, store, data, pretrained.palette)
    result = SearchResult(kind="finetune", settings=shared | {"weights": _fingerprint(pretrained)})
    with _alone(out):
        return _search(
            out, result, rates=rates, fold_validation=fold_validation, begin=begin,
            test=lambda run: finetune.report_test(run, store, chosen), seconds=seconds,
        )  # fmt: skip


@contextmanager
def _alone(out: Path) -> Iterator[None]:
    """Hold the lock of the search's folder, which is made if need be.

    Raises:
        ConfigError: It holds something else.
        CheckpointError: Another process is at work on the search.
        DataError: The place cannot be written to.
    """
    if not (out / "search.json").is_file():
        require_room(out)
    with refusals_told(out):
        out.mkdir(parents=True, exist_ok=True)
    with locks.held(out):
        yield


def _search(
    out: Path,
    result: SearchResult,
    *,
    rates: Sequence[float],
    fold_validation: bool,
    begin: Begin,
    test: Callable[[RunFolder], finetune.FinetuneResult | None],
    seconds: float | None,
) -> SearchResult:
    """Search, or go on, and return what `search.json` then holds.

    Args:
        out: Folder of the search.
        result: A new one, with the settings that all runs share.
        rates: From high to low.
        fold_validation: Whether there is to be a final run.
        begin: Starts a run, or goes on with it.
        test: The outcome's run to its test accuracy; None if there is none.
        seconds: As in the callers.
    """
    deadline = None if seconds is None else time.monotonic() + seconds
    result = _reopen(out, result)
    left_out = [row.learning_rate for row in result.tries if row.learning_rate not in rates]
    if left_out:
        raise ConfigError(
            f"{out} has tried the rate {left_out[0]:g} already; give the rates on record and any "
            "others, or choose another --out"
        )
    if result.run == _FINAL and not fold_validation:
        raise ConfigError(
            f"{out} came out with {_FINAL}/, trained on train and validation together; add "
            "--fold-validation, or choose another --out"
        )
    write_json(out / "search.json", to_dict(result))
    standing, taken = look(rates, result), 0.0
    if standing.rate is not None:
        print(
            f"{out}: a run for each learning rate, {standing.rate:g} and on, at most "
            f"{len(rates) - len(result.tries)}; it stops once one is worse",
            file=sys.stderr,
        )
    while (rate := standing.rate) is not None:
        began = time.monotonic()
        try:
            row = _finish(begin, out / f"rate-{rate}", rate, None, deadline)
        except TrainingDiverged:
            row = Try(learning_rate=rate, score=None)
        if row is None:
            return _out_of_time(out, result)
        tries = sorted((*result.tries, row), key=lambda row: -row.learning_rate)
        result = dataclasses.replace(result, tries=tuple(tries))
        write_json(out / "search.json", to_dict(result))
        taken = max(taken, time.monotonic() - began)  # one that diverged was short
        standing, left = look(rates, result), len(rates) - len(result.tries)
        more = "" if standing.rate is None else f"; at most {left} more, {estimate(left * taken)}"
        print(f"{out}: learning rate {rate:g}, {result.score_text(row)}{more}", file=sys.stderr)
    best = standing.best
    if best is None:
        raise TrainingDiverged(
            f"the training diverged at every learning rate, {rates[0]:g} to {rates[-1]:g}; search "
            "lower ones, or set training.max_gradient_norm=1"
        )
    chosen = out / (f"rate-{best.learning_rate}" if not fold_validation else _FINAL)
    if fold_validation:
        _refuse_another(chosen, best.learning_rate)
        if _finish(begin, chosen, best.learning_rate, best, deadline) is None:
            return _out_of_time(out, result)
    tested = test(RunFolder.open(chosen))
    if tested is not None:
        result = dataclasses.replace(
            result, test_accuracy=tested.test_accuracy, test_images=tested.test_images
        )
    result = dataclasses.replace(
        result, best=best.learning_rate, turned=standing.turned, run=chosen.name
    )
    write_json(out / "search.json", to_dict(result))
    return result


def _out_of_time(out: Path, result: SearchResult) -> SearchResult:
    if result.run is not None:  # or else the result says that it is not finished
        print(
            f"{out}: not finished; the same command again goes on, and until then the outcome "
            f"stays {result.run}",
            file=sys.stderr,
        )
    return result


def _finish(
    begin: Begin, path: Path, rate: float, best: Try | None, deadline: float | None
) -> Try | None:
    """Bring a run to its end and return what it gave; None if time ran out before."""
    left = None if deadline is None else max(0.0, deadline - time.monotonic())
    try:
        return _outcome(begin(path, rate, best, left))
    except Interrupted as error:
        raise Interrupted(f"{error.done}, in {path}", signal_number=error.signal_number) from error


def _outcome(run: RunFolder) -> Try | None:
    """Return what a run gave; None if it has not reached its end."""
    if not run.ended:
        return None
    rate = _learning_rate(run)
    if isinstance(run.settings, PretrainSettings):
        loss = read_metrics(run.metrics)[-1].get("validation_nats_per_pixel", math.nan)
        score = loss if math.isfinite(loss) else None  # JSON has no NaN
        return Try(learning_rate=rate, score=score)
    result = run.require("finetune.json", finetune.FinetuneResult)
    return Try(
        learning_rate=rate, score=result.validation_accuracy, best_step=result.best_step,
        steps=result.steps,
    )  # fmt: skip


def _learning_rate(run: RunFolder) -> float:
    return training_of(run.settings).learning_rate


def _shared(
    config: Recipe | FinetuneConfig, store: RecordStore, data: Path, palette: Palette
) -> dict[str, Any]:
    """Return what makes a search this one and no other."""
    values = to_dict(config, for_record=True)
    del values["training"]["learning_rate"]
    identity = {"data": DataIdentity.of(store, data).sha256, "palette": palette.fingerprint}
    return values | identity


def _in_full(result: SearchResult) -> dict[str, Any]:
    """Return a search's settings with those that are not on record, which have their defaults.

    Raises:
        ConfigError: They are no such search's.
    """
    kind = Recipe if result.kind == "pretrain" else FinetuneConfig
    names = {field.name for field in dataclasses.fields(kind)}
    own = {name: value for name, value in result.settings.items() if name in names}
    return result.settings | to_dict(from_dict(kind, own))


def _fingerprint(pretrained: Pretrained) -> str:
    digest = hashlib.sha256()
    for name, weight in sorted(pretrained.model.state_dict().items()):
        digest.update(name.encode())
        digest.update(weight.cpu().contiguous().numpy())
    return digest.hexdigest()[:16]


def _reopen(out: Path, wanted: SearchResult) -> SearchResult:
    """Return what is on record in `out`, or what is wanted if nothing is there yet.

    Raises:
        ConfigError: `out` holds another search, or something else.
        CheckpointError: `search.json` is damaged, or one of its runs.
    """
    remove_abandoned(out)
    file = out / "search.json"
    if not file.is_file():
        require_room(out)
        return wanted
    try:
        known = from_dict(SearchResult, read_json(file), name="it")
        begun_with = _in_full(known)
    except ConfigError as error:
        raise CheckpointError(
            f"{file} is damaged or of an earlier igpt: {error}; choose another --out"
        ) from error
    given = _in_full(wanted)
    differing = [name for name in given | begun_with if given.get(name) != begun_with.get(name)]
    if differing or known.kind != wanted.kind:
        raise ConfigError(
            f"{out} holds a search with other settings ({', '.join(differing) or known.kind}); to "
            "go on with it give the same ones, or choose another --out"
        )
    for row in known.tries:
        path = out / f"rate-{row.learning_rate}"
        if row.score is not None and path.is_dir() and _outcome(RunFolder.open(path)) != row:
            raise CheckpointError(
                f"{file} tells another outcome of {path.name} than that run does; put back the one "
                "that was changed, or choose another --out"
            )
    return dataclasses.replace(known, settings=wanted.settings)


def _refuse_another(final: Path, rate: float) -> None:
    """See that a final run which is there already is the one that is wanted.

    Raises:
        ConfigError: It had another learning rate, the best of fewer tries.
    """
    if final.exists() and _learning_rate(RunFolder.open(final)) != rate:
        raise ConfigError(
            f"{final} was trained with learning rate {_learning_rate(RunFolder.open(final)):g}, "
            f"and now {rate:g} is the best; remove it to train it again"
        )
