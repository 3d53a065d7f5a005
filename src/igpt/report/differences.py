"""In what runs differ: their settings, side by side, and below them what each came to.

    for table in difference_tables(runs):
        table.runs, table.settings, table.results

Runs are compared with those of their kind, pretraining with pretraining. A setting that all of them
share is left out; one that some do not have is a dash.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from igpt.amounts import spoken
from igpt.evaluation.proportions import Share
from igpt.report.figures import interval
from igpt.report.read import ReportedRun
from igpt.report.templates import percent
from igpt.report.verdicts import probe_share, raw_share, tuned_share
from igpt.runs.run import FinetuneSettings
from igpt.values import to_dict

_DASH = "\N{EN DASH}"


@dataclass(frozen=True, kw_only=True)
class Differences:
    """Some runs of one kind; every line has a value for each."""

    runs: tuple[ReportedRun, ...]
    settings: dict[str, tuple[str, ...]]
    """That differ, by their path in the recipe."""
    results: dict[str, tuple[str, ...]]


def difference_tables(runs: Sequence[ReportedRun]) -> list[Differences]:
    """Return the differences of the pretraining runs and of the others, where there are several."""
    kinds = ([run for run in runs if run.pretrains], [run for run in runs if not run.pretrains])
    return [_differences(kind) for kind in kinds if len(kind) > 1]


def _differences(runs: Sequence[ReportedRun]) -> Differences:
    settings = [_settings(run) for run in runs]
    names = list(dict.fromkeys(name for one in settings for name in one))
    rows = {name: tuple(one.get(name, _DASH) for one in settings) for name in names}
    results = [_results(run) for run in runs]
    measured = list(dict.fromkeys(name for one in results for name in one))
    return Differences(
        runs=tuple(runs),
        settings={name: values for name, values in rows.items() if len(set(values)) > 1},
        results={name: tuple(one.get(name, _DASH) for one in results) for name in measured},
    )


def _settings(run: ReportedRun) -> dict[str, str]:
    """Return all that was asked for, by path."""
    settings = run.settings
    data = f"{settings.data.path} ({settings.data.sha256})"
    if isinstance(settings, FinetuneSettings):
        asked = {"source": settings.source, **to_dict(settings.config)}
    else:
        asked = to_dict(settings.recipe)
        del asked["finetune"], asked["description"]
        asked = {"recipe": settings.name, **asked}
    given = {"data": data, "split": settings.split, "palette": settings.palette, **asked}
    return {name: str(value) for name, value in _flat(given).items()}


def _flat(values: Mapping[str, Any], path: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{path}{name}.")
        else:
            flat[f"{path}{name}"] = value
    return flat


def _results(run: ReportedRun) -> dict[str, str]:
    """Return what a run came to, with intervals where the counts are known."""
    found = {"weights": f"{run.model.parameters:,}", "steps": f"{run.steps:,}"}
    if run.seconds is not None:
        found["time"] = spoken(run.seconds)
    for split, result in sorted(run.evaluation.items()):
        found[f"nats per pixel, {split}"] = f"{result.nats_per_pixel:.4f}"
    if run.probe is not None:
        found["best layer"] = str(run.probe.best_layer)
        found["pretrained"] = _with_interval(run.probe.test_accuracy, probe_share(run.probe))
    if run.untrained is not None:
        share = probe_share(run.untrained)
        found["untrained"] = _with_interval(run.untrained.test_accuracy, share)
    if run.probe is not None and run.probe.raw_pixels is not None:
        raw = run.probe.raw_pixels.test_accuracy
        found["raw pixels"] = _with_interval(raw, raw_share(run.probe))
    if run.finetune is not None:
        share = tuned_share(run.finetune)
        found["fine-tuned"] = _with_interval(run.finetune.test_accuracy, share)
        found["validation"] = percent(run.finetune.validation_accuracy)
    return found


def _with_interval(accuracy: float | None, share: Share | None) -> str:
    return percent(accuracy) + (f" ({interval(share)})" if share is not None else "")
