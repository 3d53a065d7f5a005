"""Training: `igpt pretrain`, `finetune`, `resume` and `search`."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from igpt.commands.options import (
    PROCESSES,
    Count,
    Device,
    FromScratch,
    Json,
    Palette,
    Processes,
    Run,
    Track,
    Trained,
    Training,
    show,
)
from igpt.errors import ConfigError, nearest_name
from igpt.places import require_model

if TYPE_CHECKING:
    from igpt.runs.recipes import FinetuneConfig, Recipe
    from igpt.runs.run import RunFolder


def pretrain(
    recipe: str, /, *, palette: Palette, training: Training, track: Track = None,
    processes: Processes = PROCESSES,
) -> None:  # fmt: skip
    """Pretrain a network by RECIPE.

        igpt pretrain cifar10-tiny --data data/photos --palette palette.npy --out runs/a

    A run that is stopped, by Ctrl-C or otherwise, loses nothing but the steps since its last
    checkpoint: igpt resume RUN goes on.

    Args:
        recipe: Its name, as igpt recipes lists them.
    """
    wanted = _recipe(recipe, training.settings)
    processes.require_room(training.out)
    from igpt.runs.pretrain import pretrain

    with processes.together(training.device):
        run = pretrain(
            wanted, name=recipe, data=training.data, palette=palette,
            out=training.out, device=training.device, seconds=training.seconds,
            fold_validation=training.fold_validation, track=track,
        )  # fmt: skip
        _show_run(run, training.as_json)


def finetune(
    run: Run, /, *, training: Training, from_scratch: FromScratch = False, track: Track = None,
    processes: Processes = PROCESSES,
) -> None:  # fmt: skip
    """Teach a pretrained RUN classes, with a joint pixel loss; keeps the best weights.

        igpt finetune runs/a --data data/photos --out runs/a-ft

    What can be set is the part "finetune" of a recipe: --set dropout=0.1
    """
    processes.require_room(training.out)
    from igpt.runs.finetune import finetune

    with processes.together(training.device):
        tuned = finetune(
            run, data=training.data, out=training.out,
            config=_finetuning(run, training.settings, from_scratch), device=training.device,
            seconds=training.seconds, fold_validation=training.fold_validation, track=track,
        )  # fmt: skip
        _show_run(tuned, training.as_json)


def resume(
    run: Trained, /, *, steps: Count | None = None, data: Path | None = None,
    seconds: float | None = None, device: Device = "auto", as_json: Json = False,
    processes: Processes = PROCESSES, parallel: Literal["auto", "ddp", "fsdp"] | None = None,
    track: Track = None,
) -> None:  # fmt: skip
    """Go on with a RUN that was stopped, of pretraining or fine-tuning, as if nothing had been.

        igpt resume runs/a

    With --steps it is trained further than it was to be. A cosine (or line) that is still on its
    way down is stretched to the new number from there on. One that had come to its end begins
    again: warmed up to half of the rate it had, and down to zero at the new last step. A constant
    rate stays. The run keeps the change, in longer.json; a fine-tuning that has ended is not
    trained further, as the test images have been measured with it.

    Args:
        run: Its folder.
        steps: Steps in all, other than it began with; more than it has done.
        data: Where its record store is, if it has moved.
        seconds: Stop again after so long.
        parallel: How processes share the weights from now on, if not by training.parallel.
    """
    from igpt.runs.resume import resume

    with processes.together(device):
        resumed = resume(
            run, steps=steps, data=data, device=device, seconds=seconds, parallel=parallel,
            track=track,
        )  # fmt: skip
        _show_run(resumed, as_json)


def _read_rates(_: Any, tokens: Sequence[Any]) -> tuple[float, ...]:
    text = tokens[-1].value
    try:
        return tuple(float(rate) for rate in text.split(",")) if text else ()
    except ValueError as error:
        raise ValueError(
            f"expected learning rates from high to low, such as 0.01,0.003, got {text!r}"
        ) from error


def search(
    start: Annotated[str, Parameter(name="RECIPE|RUN")], /, *, training: Training,
    rates: Annotated[
        tuple[float, ...] | None,
        Parameter(converter=_read_rates, n_tokens=1, metavar="RATE,RATE,..."),
    ] = None,
    palette: Palette | None = None, from_scratch: FromScratch = False,
) -> None:  # fmt: skip
    """Train with one learning rate after another, until validation gets worse.

        igpt search cifar10-tiny --data data/photos --palette palette.npy --out runs/rates
        igpt search runs/a --data data/photos --out runs/a-rates

    A recipe is pretrained so, and a run fine-tuned. Each rate has a run of its own in the folder.
    The same command again goes on with a search that was stopped.

    Args:
        start: The name of a recipe, or else a run, a model folder or a name on the hub.
        rates: From high to low, such as 0.01,0.003,0.001; the paper's by default.
    """
    from igpt.runs.recipes import RECIPES

    if "training.learning_rate" in map(_path_of, training.settings):
        raise ConfigError("a search decides training.learning_rate; leave out its --set")
    if start in RECIPES:
        if palette is None or from_scratch:
            raise ConfigError("the search of a recipe takes --palette, and no --from-scratch")
        wanted = _recipe(start, training.settings)
        from igpt.runs import search as searching

        result = searching.search_pretraining(
            wanted, name=start, data=training.data, palette=palette,
            out=training.out, rates=searching.PRETRAINING_RATES if rates is None else rates,
            fold_validation=training.fold_validation, device=training.device,
            seconds=training.seconds,
        )  # fmt: skip
    else:
        run = Path(start)
        if len(run.parts) == 1 and not run.exists():
            raise ConfigError(f"there is no recipe or run {start!r}{nearest_name(start, RECIPES)}")
        if palette is not None:
            raise ConfigError(f"{run} has a palette of its own; leave out --palette")
        require_model(run)
        from igpt.runs import search as searching

        result = searching.search_finetuning(
            run, data=training.data, out=training.out,
            config=_finetuning(run, training.settings, from_scratch),
            rates=searching.FINETUNING_RATES if rates is None else rates,
            fold_validation=training.fold_validation, device=training.device,
            seconds=training.seconds,
        )  # fmt: skip
    outcome = ""
    if result.run:
        outcome = f"{training.out / result.run}: the outcome, which {training.out} now stands for"
    show(result, as_json=training.as_json, also=outcome)


def _path_of(setting: str) -> str:
    return setting.partition("=")[0].strip()


def _recipe(name: str, settings: Sequence[str]) -> "Recipe":
    from igpt.runs.recipes import find_recipe
    from igpt.settings import with_settings

    if "model.colors" in map(_path_of, settings):
        raise ConfigError("model.colors follows the palette; fit one with --size instead")
    return with_settings(find_recipe(name), settings)


def _finetuning(run: Path, settings: Sequence[str], from_scratch: bool) -> "FinetuneConfig":
    from igpt.runs.finetune import config_for
    from igpt.settings import with_settings

    for setting in settings:
        if _path_of(setting).startswith("finetune."):
            plain = setting.strip().removeprefix("finetune.")
            raise ConfigError(f"leave out 'finetune.' here: --set {plain}")
    return with_settings(config_for(run, from_scratch=from_scratch), settings)


def _show_run(run: "RunFolder", as_json: bool) -> None:
    """Print the accuracies of a fine-tuning, or as JSON the last step of a pretraining."""
    from igpt import processes
    from igpt.runs.finetune import FinetuneResult
    from igpt.training.metrics import read_metrics

    if not processes.first():
        return
    result = run.read("finetune.json", FinetuneResult)
    if result is not None:
        show(result, as_json=as_json, at=run.path, run=run.path)
    elif as_json:
        last = read_metrics(run.metrics)[-1]
        show({"steps": last.pop("step") + 1, **last}, as_json=True)
