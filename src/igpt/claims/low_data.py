"""Table 4: a handful of labels a class."""

from itertools import pairwise
from statistics import fmean

from matplotlib.axes import Axes

from igpt.claims.claim import Claim, Control, Part
from igpt.claims.display import ACCURACY, PAPER, curve, percent
from igpt.evaluation.few_labels import FewLabelsResult, FewLabelsRow


def _rows(measured: FewLabelsResult) -> dict[int, FewLabelsRow]:
    return {row.labels_per_class: row for row in measured.rows}


def _deviation(row: FewLabelsRow) -> float:
    return row.standard_deviation or 0.0


def _fine_tuned(row: FewLabelsRow) -> float:
    assert row.fine_tuned is not None
    return row.fine_tuned.mean


def _more_labels(measured: FewLabelsResult) -> float | None:
    gains = [more.mean - fewer.mean for fewer, more in pairwise(measured.rows)]
    return min(gains, default=None)


def _steadier(measured: FewLabelsResult) -> float | None:
    fewest, most = (measured.rows[end].standard_deviation for end in (0, -1))
    return None if fewest is None or most is None else fewest - most


def _draw(axes: Axes, seeds: list[FewLabelsResult]) -> None:
    rows = [_rows(measured).items() for measured in seeds]
    curve(axes, [{labels: row.mean for labels, row in seed} for seed in rows], name="probe")
    tuned = [{labels: _fine_tuned(row) for labels, row in seed} for seed in rows]
    curve(axes, tuned, name="fine-tuned on the same labels")
    axes.plot([4, 25, 400], [73.2, 87.6, 94.3], "s--", color=PAPER, label="paper, CIFAR-10, probe")
    axes.plot([4], [42.1], "x", color=PAPER, label="paper, fine-tuned")
    axes.set_xscale("log")
    axes.set_ylabel(ACCURACY)
    axes.legend(frameon=False)


CLAIM = Claim[FewLabelsResult](
    name="low-data",
    title="A handful of labels a class is enough for good features",
    source="table 4, section 4.7",
    paper="Probes on iGPT-L's features of CIFAR-10, 5 random subsets: 73.2 ± 1.5 % with 4 labels a "
    "class, 87.6 ± 0.6 % with 25, 94.3 ± 0.1 % with 400; fine-tuning everything on 4 a class "
    "reaches 42.1 % only.",
    finetuning_steps=lambda scale: (
        len(scale.labels_per_class) * scale.subsets * scale.few_label_steps
    ),
    measure=lambda laboratory, seed: laboratory.few_labels(seed),
    parts=(
        Part(
            name="more-labels",
            statement="accuracy rises with the labels",
            paper="73.2, 87.6, 94.3 %",
            quantity="the smallest gain from one number of labels to the next",
            value=_more_labels,
        ),
        Part(
            name="steadier",
            statement="and depends less on which labels they are",
            paper="deviations 1.5, 0.6, 0.1",
            quantity="standard deviation over subsets, fewest labels minus most",
            margin=0.005,
            value=_steadier,
        ),
        Part(
            name="probe-wins",
            statement="with the fewest labels, probing beats fine-tuning",
            paper="73.2 against 42.1 %",
            quantity="accuracy of the probe minus fine-tuned, fewest labels",
            value=lambda measured: measured.rows[0].mean - _fine_tuned(measured.rows[0]),
        ),
    ),
    controls=(
        Control(
            name="memorized",
            statement="fine-tuning learns the few labelled images by heart",
            quantity="its accuracy on them, fewest labels, mean over subsets",
            at_least=0.99,
            parts=("probe-wins",),
            value=lambda measured: measured.rows[0].memorized,
        ),
    ),
    rows=_rows,
    head="labels a class",
    columns={
        "probe": lambda seeds: percent([row.mean for row in seeds]),
        "deviation over subsets": lambda seeds: f"{100 * fmean(map(_deviation, seeds)):.2f}",
        "fine-tuned": lambda seeds: percent([_fine_tuned(row) for row in seeds]),
        "of its training images": lambda seeds: percent([row.memorized for row in seeds]),
    },
    draw=_draw,
    below="labels a class",
)
