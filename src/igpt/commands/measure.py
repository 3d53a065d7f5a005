"""Measuring a run: its likelihood, its probes and what else can be read off its features."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from cyclopts.validators import Number

from igpt.commands.options import (
    COUNTS,
    Count,
    Data,
    Device,
    Json,
    Layer,
    Layers,
    Run,
    Seed,
    Solver,
    Trained,
    show,
)


def evaluate(
    run: Run, /, *, data: Data, split: str = "test", images: Count | None = None,
    draws: Count | None = None, passes: tuple[Count, ...] = (), eight_bit: bool = False,
    seed: Seed = 0, device: Device = "auto", as_json: Json = False,
) -> None:  # fmt: skip
    """Measure how well RUN predicts held-out images, in nats and bits per pixel.

        igpt evaluate runs/a --data data/photos --split test

    igpt evaluate runs/diffusion --data data/photos --passes 8 --passes 64

    Args:
        split: train, validation or test.
        images: Measure only so many, drawn at random, the same each time.
        draws: Of a diffusion network: masks of each image, 8 by default.
        passes: Of one that hides pixels: instead, what images cost when they are drawn in so many
            passes; again for more.
        eight_bit: Also bits per dimension of the 8-bit images: tokens, and the colors behind them,
            by how often training pixels have each; takes half a minute more.
    """
    from igpt.errors import ConfigError
    from igpt.runs.measure import evaluate_run
    from igpt.runs.passes import passes_run

    if passes:
        if eight_bit:
            raise ConfigError("--eight-bit is of whole likelihoods; leave out --passes")
        curve = passes_run(
            run, data=data, passes=passes, split=split, images=images, draws=draws, seed=seed,
            device=device,
        )  # fmt: skip
        show(curve, as_json=as_json, at=split)
        return
    result = evaluate_run(
        run, data=data, split=split, images=images, draws=draws, eight_bit=eight_bit, seed=seed,
        device=device,
    )  # fmt: skip
    show(result, as_json=as_json, at=split)


def probe(
    run: Run, /, *, data: Data, layers: Layers = (), untrained: bool = False,
    concatenate: Count = 1, solver: Solver = "lbfgs", steps: Count | None = None,
    rates: tuple[float, ...] = (), as_they_are: bool = False, features: Path | None = None,
    seed: Seed = 0, device: Device = "auto", as_json: Json = False,
) -> None:  # fmt: skip
    """Fit a linear probe to every layer's features, beside raw pixels.

        igpt probe runs/a --data data/photos

    Args:
        untrained: The same network with fresh weights, to compare.
        concatenate: Also probe so many layers around the best as one feature; the paper: 5.
        solver: sgd is the paper's for ImageNet; the last two are cheap checks.
        steps: With sgd: updates, 5,000 by default; the paper takes 1,000,000.
        rates: With sgd: a learning rate to choose from; again for more.
        as_they_are: With sgd: do not whiten the features; the paper's rates are 30, 10, 3 ...
        features: Keep the features in this folder and not in memory; go on with what is there.
    """
    from igpt.errors import ConfigError
    from igpt.evaluation.sgd import LEARNING_RATES, SGDConfig
    from igpt.runs.measure import probe_run

    if solver != "sgd" and (steps or rates or as_they_are):
        raise ConfigError("--steps, --rates and --as-they-are go with --solver sgd")
    sgd = SGDConfig(
        steps=steps or SGDConfig.steps, learning_rates=rates or LEARNING_RATES,
        whiten=not as_they_are,
    )  # fmt: skip
    result = probe_run(
        run, data=data, layers=layers or None, untrained=untrained, concatenate=concatenate,
        solver=solver, sgd=sgd, folder=features, seed=seed, device=device,
    )  # fmt: skip
    show(result, as_json=as_json, run=run, data=data)


def few_labels(
    run: Run, /, *, data: Data, labels: tuple[Count, ...] = (),
    subsets: Count = 5, layer: Layer = None,
    fine_tune: Annotated[int, Parameter(metavar="STEPS", validator=Number(gte=0, lt=COUNTS))] = 0,
    seed: Seed = 0, device: Device = "auto", as_json: Json = False,
) -> None:  # fmt: skip
    """Probe RUN with a handful of labels a class, on random subsets.

        igpt few-labels runs/a --data data/photos --labels 4 --labels 25

    Args:
        labels: Labels of each class; again for more rows; by default 4, 25 and 400, as far as the
            smallest class has them.
        subsets: Random draws of each.
        fine_tune: Also fine-tune all weights on each subset, for so many steps.
    """
    from igpt.runs.measure import few_labels_run

    result = few_labels_run(
        run, data=data, labels_per_class=labels or None, subsets=subsets, layer=layer,
        finetune_steps=fine_tune, seed=seed, device=device,
    )  # fmt: skip
    show(result, as_json=as_json, run=run, data=data)


def masks(
    run: Run, /, *, data: Data, masks: Count = 5, layer: Layer = None, seed: Seed = 0,
    device: Device = "auto", as_json: Json = False,
) -> None:  # fmt: skip
    """Classify by a BERT RUN under several masks: the modal class, beside one mask and none.

        igpt masks runs/bert --data data/photos

    Args:
        masks: Masks of each image.
    """
    from igpt.runs.measure import masks_run

    result = masks_run(run, data=data, masks=masks, layer=layer, seed=seed, device=device)
    show(result, as_json=as_json)


def along(run: Trained, /, *, data: Data, device: Device = "auto", as_json: Json = False) -> None:
    """Measure loss and probes of RUN as it was on the way, and at its end.

        igpt along runs/snapshots --data data/photos

    It has to keep snapshots: igpt pretrain ... --set snapshots=4

    Args:
        run: Folder of a pretraining run.
    """
    from igpt.runs.along import along_run

    show(along_run(run, data=data, device=device), as_json=as_json)


def outliers(
    run: Run, /, *, data: Data, other: tuple[Path, ...] = (), images: Count = 1000,
    seed: Seed = 0, device: Device = "auto", as_json: Json = False,
) -> None:  # fmt: skip
    """Try to tell foreign images from RUN's own test images by their likelihood.

        igpt outliers runs/a --data data/photos --other data/others

    Foreign are noise, flat colors, scikit-learn's digits, the test images with their pixels
    shuffled, and what --other names. Simple images come out as *more* likely than the run's own,
    which is a known failure: an AUROC near 0. The table is kept in the run, as outliers.json,
    beside outliers.png, how the losses are spread, and extremes.png, the likeliest and unlikeliest
    test images.

    Args:
        other: Foreign images: a record store, all of it, or a folder of image files; again for
            more.
        images: Images of each set at most.
    """
    from igpt.runs.measure import outliers_run

    result = outliers_run(run, data=data, others=other, images=images, seed=seed, device=device)
    show(result, as_json=as_json)
