import dataclasses
import re

import matplotlib
import numpy as np
from tests.report.conftest import new_finetuned, new_run, probes, write_metrics

from igpt.evaluation.outliers import OWN, ForeignSet, ImageSet, OutliersResult, Spread
from igpt.pixels.images import read_image
from igpt.pixels.palette import Palette
from igpt.report.plots import draw_plots, swatches
from igpt.report.read import read_runs


def plots_of(*runs):
    return draw_plots(read_runs([run.path for run in runs]))


def test_each_kind_of_run_has_its_plots_and_no_others(measured_run, tmp_path, tiny_palette):
    plots = plots_of(measured_run)
    assert plots.loss
    assert plots.probe
    assert plots.class_loss is plots.accuracy is None
    plots = plots_of(new_finetuned(tmp_path / "tuned", tiny_palette))
    assert plots.class_loss
    assert plots.accuracy
    assert plots.loss is plots.probe is None


def test_a_run_that_measured_nothing_has_no_plots(tmp_path, tiny_palette):
    plots = plots_of(new_run(tmp_path / "a", tiny_palette, steps=0))
    assert plots.loss is plots.probe is plots.class_loss is plots.accuracy is None


def test_a_plot_of_a_long_training_is_still_small(run):
    losses = np.random.default_rng(0).uniform(1, 2, 20_000)
    write_metrics(run, [{"step": step, "loss": loss} for step, loss in enumerate(losses)])
    assert len(plots_of(run).loss) < 100_000


def test_the_curve_is_the_same_whatever_matplotlib_is_set_to(run):
    plain = plots_of(run)
    with matplotlib.rc_context({"lines.linewidth": 9, "font.size": 30, "svg.fonttype": "path"}):
        assert plots_of(run) == plain


def test_two_levels_of_raw_pixels_have_no_text_that_would_overlap(tmp_path, tiny_palette):
    runs = [new_run(tmp_path / name, tiny_palette, steps=1) for name in "ab"]
    for run, raw in zip(runs, (0.3, 0.4), strict=True):
        run.write("probe.json", probes(0.5, 0.6, raw=raw))
    assert "raw pixels 30.0%" in plots_of(runs[0]).probe
    assert "raw pixels" not in plots_of(*runs).probe


def ticks(plot):
    return [float(tick) for tick in re.findall(r">([\d.]+)%<", plot)]


def test_axes_of_accuracies_begin_at_none(measured_run, tmp_path, tiny_palette):
    plots = plots_of(measured_run, new_finetuned(tmp_path / "tuned", tiny_palette))
    for plot in (plots.results, plots.probe, plots.accuracy):
        assert min(ticks(plot)) == 0


def test_every_accuracy_has_its_interval_drawn(measured_run):
    bars = re.findall(r"stroke-opacity: 0.6[^>]*", plots_of(measured_run).probe)
    assert len(bars) == 3 + 3  # layers of the pretrained network, and of the untrained one
    bars = re.findall(r"stroke-opacity: 0.45[^>]*", plots_of(measured_run).results)
    assert len(bars) == 3  # those two, and raw pixels


def test_accuracies_without_counts_have_no_results_plot(run):
    run.write("probe.json", dataclasses.replace(probes(0.4, 0.5), records={}))
    plots = plots_of(run)
    assert plots.results is None
    assert plots.probe


def test_losses_of_foreign_images_are_drawn_under_their_names_escaped(run):
    name = "<b>&$x$</b>"
    losses = {"images": 2, "nats_per_pixel": 2.3, "standard_deviation": 0.4}
    result = OutliersResult(
        seed=0, typical_nats_per_pixel=2.3, validation_images=4, own=ImageSet(**losses),
        foreign=(ForeignSet(name=name, auroc_loss=0.5, auroc_typicality=0.5, **losses),),
        spread=Spread.of({OWN: np.array([1.0, 2.0]), name: np.array([2.0, 3.0])}),
    )  # fmt: skip
    run.write("outliers.json", result)
    plot = plots_of(run).outliers["a"]
    assert ">own test images<" in plot
    assert ">&lt;b&gt;&amp;$x$&lt;/b&gt;<" in plot
    run.write("outliers.json", dataclasses.replace(result, spread=None))
    assert plots_of(run).outliers == {"a": None}


def test_a_plot_has_the_colors_of_the_page_and_no_paper(measured_run):
    plot = plots_of(measured_run).probe
    assert "currentColor" in plot
    assert "#ffffff" not in plot
    assert "fill: none" in plot


def test_no_axis_goes_beyond_all_that_can_be_right(run):
    run.write("probe.json", probes(0.7, 1.0))
    assert 79 < max(ticks(plots_of(run).probe)) <= 100


def test_swatches_go_from_dark_to_light(tmp_path):
    palette = Palette(np.array([[1, 1, 1], [-1, -1, -1], [0.2, 0.2, 0.2]], dtype=np.float32))
    (tmp_path / "swatches.png").write_bytes(swatches(palette))
    image = read_image(tmp_path / "swatches.png")
    height, width, _ = image.shape
    row = image[height // 2, :, 0].astype(int)
    middles = [row[int((index + 0.5) * width / 3)] for index in range(3)]
    assert middles == [0, 153, 255]
