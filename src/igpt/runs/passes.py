"""What drawing in few passes costs a run that hides pixels."""

from collections.abc import Sequence
from pathlib import Path

from igpt.data.store import RecordStore
from igpt.evaluation.bound import DRAWS, PASSES, PassesCurve, passes_curve
from igpt.formats.load import load
from igpt.paths import AnyPath
from igpt.processes import choose_device


def passes_run(
    path: AnyPath,
    *,
    data: AnyPath,
    passes: Sequence[int] = PASSES,
    split: str = "test",
    images: int | None = None,
    draws: int | None = None,
    seed: int = 0,
    device: str = "auto",
) -> PassesCurve:
    """Return what drawing in few passes costs a run that hides pixels; nothing keeps it.

    Arguments as in `igpt.runs.measure.evaluate_run` and in `igpt.evaluation.bound.passes_curve`.

    Raises:
        ConfigError: The network is autoregressive.
        DataError: No such split, or images smaller than the network's.
    """
    pretrained = load(Path(path), device=choose_device(device))
    return passes_curve(
        pretrained, RecordStore.open(data).split(split).sample(images), passes=passes,
        draws=DRAWS if draws is None else draws, seed=seed, title="evaluate",
    )  # fmt: skip
