"""Measures that are kept, and used again instead of made anew if they were made from the same.

    result = measured(path, "masks.json", MasksResult, measure, data=..., settings=..., reuse=True)

What is measured, and what the figures depend on, is known to `igpt.runs.measure`; how results lie
in a run, to `igpt.runs.kept`.
"""

import dataclasses
import operator
from collections.abc import Callable
from pathlib import Path
from typing import Any

from igpt.data.store import RecordStore
from igpt.errors import CheckpointError, ConfigError
from igpt.evaluation.probe import LayerProbe, LayerProbes
from igpt.formats.load import load, locate
from igpt.model.description import model_identity
from igpt.model.pretrained import Pretrained
from igpt.places import run_of
from igpt.processes import choose_device
from igpt.runs.kept import ALL, MadeFrom, Result, kept_if_possible
from igpt.runs.run import RunFolder
from igpt.values import to_dict


def run_at(path: Path) -> RunFolder | None:
    """Return the run that may keep a result; None for a model that is in no run."""
    path = run_of(path)
    return RunFolder(path) if RunFolder.is_at(path) else None


def measured(
    path: Path,
    name: str,
    kind: type[Result],
    measure: Callable[[Pretrained, RecordStore], Result],
    *,
    data: Path,
    device: str,
    settings: Callable[[RecordStore], dict[str, Any]],
    enough: Callable[[dict[str, Any], dict[str, Any]], bool] = operator.eq,
    part: str = ALL,
    reuse: bool = False,
    whole: bool = True,
) -> Result:
    """Return what a run keeps under this name, if that will do; or else measure and keep it.

    Part of a measure, if it is not `whole`, is neither kept nor taken from what is.

    Args:
        path: The run or model.
        name: Of the run's file.
        kind: Of the result.
        measure: Makes it.
        data: The record store.
        device: To measure on.
        settings: Returns the arguments that decide the figures, for this store.
        enough: Returns whether what was measured by the settings that it is given first will do
            where those given second are asked for.
        part: Of the file's results, the one that is measured.
        reuse: Whether what is kept will do.
        whole: See above.
    """
    folder, _ = locate(path)
    store = RecordStore.open(data)
    run = run_at(path) if whole else None
    asked = to_dict(settings(store), for_record=True)
    made_from = MadeFrom(model="", store=store.identity, settings=asked)
    if run is not None and reuse:
        known, parts = kept(run, name, kind)
        wanted = dataclasses.replace(made_from, model=model_identity(folder))
        if known is not None and part in parts and parts[part].is_enough(wanted, enough):
            return known
    pretrained = load(folder, device=choose_device(device))
    result = measure(pretrained, store)
    if run is not None:
        made_from = dataclasses.replace(made_from, model=pretrained.identity)
        with kept_if_possible():
            run.write(name, result, {**kept(run, name, kind)[1], part: made_from})
    return result


def kept(
    run: RunFolder, name: str, kind: type[Result]
) -> tuple[Result | None, dict[str, MadeFrom]]:
    """Return what a run keeps, and what it was made from; nothing if damaged: it is made anew."""
    try:
        return run.kept(name, kind)
    except CheckpointError:
        return None, {}


def kept_probe(path: Path, store: RecordStore) -> LayerProbes | None:
    """Return a run's `probe.json`, if it is of the model as it is now and of these images."""
    return kept_probe_of(path, store.identity)


def kept_probe_of(path: Path, images: str, *, untrained: bool = False) -> LayerProbes | None:
    """Return what `kept_probe` does, of the store of this identity.

    Args:
        path: The run; of a model that is in no run, nothing is kept.
        images: `RecordStore.identity`.
        untrained: Return `probe-untrained.json` instead.
    """
    run = run_at(path)
    name = "probe-untrained.json" if untrained else "probe.json"
    known, parts = kept(run, name, LayerProbes) if run else (None, {})
    if run is None or known is None or ALL not in parts:
        return None
    of = (parts[ALL].model, parts[ALL].store)
    return known if of == (model_identity(run.model), images) else None


def kept_row(path: Path, store: RecordStore, layer: int | None) -> LayerProbe | None:
    """Return what a run's `probe.json` says of a layer, or of the best one; None if nothing."""
    probed = kept_probe(path, store)
    if probed is None:
        return None
    wanted = probed.best_layer if layer is None else layer
    return next((row for row in probed.layers if row.layer == wanted), None)


def not_probed(path: Path, store: RecordStore, layer: int | None, instead: str = "") -> ConfigError:
    """Return the error that says to probe a run first; `instead` is what else may be done."""
    which = "" if layer is None else f" at layer {layer}"
    return ConfigError(
        f"{path} has not been probed{which}, as it is now and with {store.path}, and that says "
        f"what its layers are worth; run igpt probe first{instead}"
    )
