"""The tables of the report: what each has for heads, and which figures go below them.

    table = probe_table(runs)
    table.heads, table.rows[0].cells

Figures are texts by here, rounded as a page shows them. Nothing is escaped yet: that is done where
they come into the page, but for what is markup already.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from igpt.amounts import spoken
from igpt.evaluation.confusion import Confusion
from igpt.evaluation.outliers import OWN, ImageSet
from igpt.evaluation.probe import LayerProbes
from igpt.evaluation.proportions import Share
from igpt.report.read import ReportedRun
from igpt.report.templates import percent
from igpt.report.verdicts import (
    class_names,
    likelihood_interval,
    probe_share,
    raw_share,
    tuned_share,
)
from igpt.runs.finetune import FinetuneResult

_DASH = "\N{EN DASH}"
_AT_MOST = "\N{LESS-THAN OR EQUAL TO}\N{NO-BREAK SPACE}"
_SOLVERS = {"ridge": "ridge regression", "neighbors": "nearest neighbors", "sgd": "SGD"}


@dataclass(frozen=True, kw_only=True)
class Row:
    """A line of a table."""

    run: ReportedRun | None = None
    """Whose it is, if that is its head."""
    head: str = ""
    cells: tuple[str, ...]
    best: bool = False
    """Whether it stands out."""


@dataclass(frozen=True, kw_only=True)
class Table:
    """Rows of figures under their heads."""

    heads: tuple[str, ...]
    """Above the rows' heads, and above each cell."""
    rows: tuple[Row, ...]

    def __post_init__(self) -> None:
        """See that every figure has its head."""
        assert all(len(row.cells) + 1 == len(self.heads) for row in self.rows)


@dataclass(frozen=True, kw_only=True)
class ClassRow:
    """How a class of test images fares."""

    name: str
    images: int
    accuracy: str
    interval: str
    taken: tuple[int, ...]
    """How many of them are taken for each class."""


def interval(share: Share | None) -> str:
    """Return Wilson's interval of an accuracy, or a dash."""
    if share is None:
        return _DASH
    low, high = share.interval
    return f"{100 * low:.1f}{_DASH}{percent(high)}"


def counts(share: Share | None) -> str:
    """Return how many are right of how many, or a dash."""
    return _DASH if share is None else f"{share.right:,} of {share.total:,}"


def _strong(text: str) -> str:
    return Markup("<b>{}</b>").format(text)


def likelihood_table(runs: Sequence[ReportedRun]) -> Table:
    """Return how well runs predict held-out images."""
    rows = []
    for run in runs:
        for split, result in sorted(run.evaluation.items()):
            low, high = likelihood_interval(result) if result.standard_error else (None, None)
            cells = (
                split,
                f"{result.images:,}",
                f"{_AT_MOST if result.objective == 'diffusion' else ''}{result.nats_per_pixel:.4f}",
                _DASH if low is None else f"{low:.4f}{_DASH}{high:.4f}",
                f"{result.bits_per_pixel:.4f}",
                f"{run.blind_nats:.4f}",
            )
            rows.append(Row(run=run, cells=cells))
    heads = ("split", "images", "nats per pixel", "95 % interval", "bits per pixel")
    return Table(heads=("Held-out images", *heads, "nats before training"), rows=tuple(rows))


def outliers_table(run: ReportedRun) -> Table:
    """Return the losses of a run's own images and of foreign ones."""
    assert run.outliers is not None

    def losses(images: ImageSet) -> tuple[str, ...]:
        deviation = f"{images.standard_deviation:.4f}"
        return f"{images.images:,}", f"{images.nats_per_pixel:.4f}", deviation

    own = Row(head=OWN, cells=(*losses(run.outliers.own), _DASH, _DASH), best=True)
    heads = ("number", "nats per pixel", "standard deviation", "AUROC by loss", "AUROC by distance")
    foreign = (
        Row(
            head=row.name,
            cells=(*losses(row), percent(row.auroc_loss), percent(row.auroc_typicality)),
        )
        for row in run.outliers.foreign
    )
    return Table(heads=("Images", *heads), rows=(own, *foreign))


def probe_table(runs: Sequence[ReportedRun]) -> Table:
    """Return what linear probes read from each run's best layer, and without the network."""
    rows = []
    for run in runs:
        probe, untrained = run.probe, run.untrained
        assert probe is not None
        share, raw = probe_share(probe), probe.raw_pixels
        cells = (
            _strong(percent(probe.test_accuracy)),
            interval(share),
            counts(share),
            str(probe.best_layer),
            percent(probe.best.validation_accuracy),
            percent(untrained.test_accuracy if untrained else None),
            percent(raw.test_accuracy if raw else None),
        )
        rows.append(Row(run=run, cells=cells))
    heads = ("pretrained", "95 % interval", "right", "layer", "validation")
    return Table(heads=("Test accuracy", *heads, "untrained", "raw pixels"), rows=tuple(rows))


def layers_table(run: ReportedRun) -> Table:
    """Return the probes of every layer of a run."""
    assert run.probe is not None
    fresh = {
        row.layer: row.test_accuracy for row in (run.untrained.layers if run.untrained else ())
    }
    rows = []
    for row in run.probe.layers:
        cells = [percent(row.validation_accuracy), percent(row.test_accuracy)]
        cells.append(interval(_of(row.test_accuracy, run.probe)))
        if run.untrained:
            cells.append(percent(fresh.get(row.layer)))
        cells += [f"{row.setting:.0e}", "yes" if row.converged else "no"]
        best = row.layer == run.probe.best_layer
        rows.append(Row(head=str(row.layer), cells=tuple(cells), best=best))
    beside = ("untrained, test",) if run.untrained else ()
    heads = ("layer", "validation", "test", "95 % interval", *beside, "penalty", "converged")
    return Table(heads=heads, rows=tuple(rows))


def _of(accuracy: float, probe: LayerProbes) -> Share | None:
    images = probe.records.get("test")
    return Share.of(accuracy, images) if images else None


def other_probes_table(runs: Sequence[ReportedRun]) -> Table:
    """Return what other classifiers read from runs."""
    rows = []
    for run in runs:
        for probe in run.other_probes:
            ranks = probe.rank_correlation
            cells = (
                _SOLVERS[probe.solver],
                _strong(percent(probe.test_accuracy)),
                interval(probe_share(probe)),
                percent(probe.best.validation_accuracy),
                str(probe.best_layer),
                ", ".join([f"{probe.best.setting:.3g}", *probe.best.doubts]),
                _DASH if ranks is None else f"{ranks:.2f}",
            )
            rows.append(Row(run=run, cells=cells))
    heads = ("classifier", "test", "95 % interval", "validation", "layer", "setting")
    return Table(heads=("Other classifiers", *heads, "rank correlation"), rows=tuple(rows))


def few_labels_table(runs: Sequence[ReportedRun]) -> Table:
    """Return what few labels teach."""
    rows = []
    for run in runs:
        assert run.few_labels is not None
        for row in run.few_labels.rows:
            cells = (
                f"{row.labels_per_class:,}",
                _strong(percent(row.mean)),
                percent(row.standard_deviation),
                percent(row.fine_tuned.mean if row.fine_tuned else None),
                f"{run.few_labels.subsets:,}",
                f"{run.few_labels.test_images:,}",
                ", ".join([str(run.few_labels.layer), *row.doubts]),
            )
            rows.append(Row(run=run, cells=cells))
    heads = ("labels a class", "test", "standard deviation", "fine-tuned", "subsets", "test images")
    return Table(heads=("Few labels", *heads, "layer"), rows=tuple(rows))


def masks_table(runs: Sequence[ReportedRun]) -> Table:
    """Return the classes of BERT runs under masks."""
    rows = []
    for run in runs:
        masks = run.masks
        assert masks is not None
        modal = Share.of(masks.modal, masks.test_images) if masks.test_images else None
        penalty = "class head" if masks.penalty is None else f"{masks.penalty:.0e}"
        cells = (
            f"{masks.masks:,}",
            _strong(percent(masks.modal)),
            interval(modal),
            percent(masks.single_mean),
            percent(masks.unmasked),
            str(masks.layer),
            ", ".join([penalty, *masks.doubts]),
        )
        rows.append(Row(run=run, cells=cells))
    heads = ("masks", "modal class", "95 % interval", "one mask, on average", "no mask", "layer")
    return Table(heads=("Masks", *heads, "penalty"), rows=tuple(rows))


def tuning_table(runs: Sequence[ReportedRun]) -> Table:
    """Return the accuracies of fine-tuned networks."""
    rows = []
    for run in runs:
        result = run.finetune
        assert result is not None
        share = tuned_share(result)
        cells = (
            _strong(percent(result.test_accuracy)),
            interval(share),
            counts(share),
            percent(result.validation_accuracy),
            f"{result.best_step:,}",
            f"{result.steps:,}",
            f"{result.pixel_coefficient:g}",
            str(result.layer),
            spoken(result.seconds),
        )
        rows.append(Row(run=run, cells=cells))
    heads = ("test", "95 % interval", "right", "validation", "best step", "steps")
    more = ("weight of pixel loss", "class layer", "time")
    return Table(heads=("Accuracy", *heads, *more), rows=tuple(rows))


def class_rows(result: LayerProbes | FinetuneResult) -> list[ClassRow]:
    """Return how each class fares, and what it is taken for; nothing if that was not counted."""
    confusion: Confusion = result.confusion or ()
    if not confusion:
        return []
    rows = []
    for number, (name, taken) in enumerate(zip(class_names(result), confusion, strict=True)):
        share = Share(taken[number], sum(taken)) if sum(taken) else None
        rows.append(
            ClassRow(
                name=name,
                images=sum(taken),
                accuracy=percent(share.value if share else None),
                interval=interval(share),
                taken=taken,
            )
        )
    return rows


def accuracies(runs: Sequence[ReportedRun]) -> list[tuple[ReportedRun, str, Share]]:
    """Return all test accuracies of which the counts are known, with what each is of."""
    found: list[tuple[ReportedRun, str, Share | None]] = []
    for run in runs:
        if run.probe is not None:
            found.append((run, "raw pixels", raw_share(run.probe)))
            if run.untrained is not None:
                found.append((run, "untrained network", probe_share(run.untrained)))
            found.append((run, f"pretrained, layer {run.probe.best_layer}", probe_share(run.probe)))
        if run.finetune is not None:
            found.append((run, "fine-tuned", tuned_share(run.finetune)))
    return [(run, name, share) for run, name, share in found if share is not None]
