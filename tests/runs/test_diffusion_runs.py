"""A run of masked diffusion, and one that reads in another order, from pretraining to report."""

from dataclasses import replace

import numpy as np
import pytest
from tests.conftest import SHAPES_RECIPE

import igpt
from igpt.errors import ConfigError
from igpt.evaluation.bound import image_bounds
from igpt.evaluation.likelihood import LikelihoodResult
from igpt.pixels.images import read_image, write_png
from igpt.report.page import write_report
from igpt.runs.finetune import finetune
from igpt.runs.info import info
from igpt.runs.measure import Evaluation, evaluate_run, masks_run, probe_run
from igpt.runs.passes import passes_run
from igpt.runs.pictures import complete_files, complete_records, sample_file
from igpt.runs.pretrain import pretrain

DIFFUSION = replace(
    SHAPES_RECIPE, model=replace(SHAPES_RECIPE.model, causal=False), objective="diffusion"
)


@pytest.fixture
def run(given, tmp_path):
    return pretrain(DIFFUSION, out=tmp_path / "run", **given)


@pytest.fixture
def photo(tmp_path):
    generator = np.random.default_rng(0)
    write_png(tmp_path / "photo.png", generator.integers(0, 256, (9, 9, 3), dtype=np.uint8))
    return tmp_path / "photo.png"


def test_a_diffusion_run_is_measured_by_its_bound_and_keeps_it(run, given, shapes_store):
    data = {"data": given["data"], "device": "cpu"}
    result = evaluate_run(run.path, draws=3, seed=1, **data)
    bounds = image_bounds(igpt.load(run.path), shapes_store.split("test"), draws=3, seed=1)
    assert result.objective == "diffusion"
    assert result.nats_per_pixel == bounds.mean(axis=0).mean()
    assert run.require("evaluation.json", Evaluation).splits["test"] == result
    made = (run.path / "evaluation.json").stat().st_mtime_ns
    assert evaluate_run(run.path, draws=3, seed=1, reuse=True, **data) == result
    assert (run.path / "evaluation.json").stat().st_mtime_ns == made
    assert evaluate_run(run.path, draws=2, seed=1, reuse=True, **data).draws == 2
    curve = passes_run(run.path, passes=[2], draws=3, seed=1, **data)
    assert [row.passes for row in curve.rows] == [2, 16]


@pytest.mark.slow
def test_its_bound_counts_for_bits_of_8_bit_images(run, given):
    result = evaluate_run(run.path, data=given["data"], draws=1, eight_bit=True, device="cpu")
    whole = (result.bits_per_pixel + result.color_bits_per_pixel) / 3
    assert result.bits_per_dimension == whole


def test_it_learns(given, tmp_path):
    training = replace(DIFFUSION.training, steps=150, validate_every=75, checkpoint_every=75)
    run = pretrain(replace(DIFFUSION, training=training), out=tmp_path / "long", **given)
    result = evaluate_run(run.path, data=given["data"], device="cpu")
    assert isinstance(result, LikelihoodResult)
    assert result.nats_per_pixel < result.chance_nats_per_pixel - 0.1


def test_it_is_drawn_from_in_a_few_passes(run, photo, tmp_path):
    sampling = igpt.SamplingConfig(passes=3)
    sample_file(run.path, tmp_path / "samples.png", samples=2, sampling=sampling, device="cpu")
    assert len(list((run.path / "samples").iterdir())) == 2
    picture = complete_files(
        run.path, [photo], tmp_path / "out", box=(1, 1, 3, 3), samples=1, device="cpu"
    )
    sheet = read_image(picture)  # three images of 128 pixels, with 2 between
    given, drawn = sheet[::32, :128:32], sheet[::32, 130:258:32]
    inside = np.zeros((4, 4), bool)
    inside[1:3, 1:3] = True
    assert (given[inside] == 128).all()
    np.testing.assert_array_equal(drawn[~inside], given[~inside])


def test_a_mask_and_the_same_box_draw_the_same(run, photo, tmp_path):
    pixels = np.zeros((4, 4, 3), np.uint8)
    pixels[1:3, 1:3] = 255
    write_png(tmp_path / "mask.png", pixels)
    pictures = [
        complete_files(run.path, [photo], tmp_path / name, device="cpu", **region).read_bytes()
        for name, region in (
            ("by-mask", {"mask": tmp_path / "mask.png"}),
            ("by-box", {"box": (1, 1, 3, 3)}),
        )
    ]
    assert pictures[0] == pictures[1]
    with pytest.raises(ConfigError, match="one of rows, mask and box"):
        complete_files(run.path, [photo], tmp_path / "o", rows=1, box=(1, 1, 3, 3), device="cpu")


def test_a_mask_is_not_written_over(run, photo, tmp_path):
    (tmp_path / "out").mkdir()
    mask = tmp_path / "out" / "photo-1.png"
    write_png(mask, np.eye(4, dtype=np.uint8)[..., None].repeat(3, axis=2) * 255)
    with pytest.raises(ConfigError, match=r"photo-1\.png is read and would be replaced"):
        complete_files(run.path, [photo], mask.parent, mask=mask, overwrite=True, device="cpu")


def test_it_is_probed_fine_tuned_and_read_under_masks(run, given, tmp_path):
    data = {"data": given["data"], "device": "cpu"}
    assert probe_run(run.path, **data).test_accuracy > 0.5
    assert masks_run(run.path, masks=2, **data).masks == 2
    tuned = finetune(run.path, out=tmp_path / "tuned", config=DIFFUSION.finetune, **data)
    assert igpt.load(tuned.path).learned_by == "diffusion"


def test_info_and_report_call_it_by_its_name(run, given, tmp_path):
    evaluate_run(run.path, data=given["data"], device="cpu")
    complete_records(run.path, given["data"], count=1, samples=1, device="cpu")
    assert "16 colors, masked diffusion" in info(run.path).table()
    assert "16 colors, masked diffusion" in info(run.model).table()
    write_report([run.path], tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert "masked diffusion: hidden pixels, however many, from the others" in page
    assert "nats per pixel, at most" in page


@pytest.mark.parametrize("order", ["columns", "hilbert", "random:1"])
def test_a_run_reads_in_its_order_from_beginning_to_end(given, photo, tmp_path, order):
    recipe = replace(SHAPES_RECIPE, model=replace(SHAPES_RECIPE.model, order=order))
    run = pretrain(recipe, out=tmp_path / "run", **given)
    assert igpt.load(run.path).tokenizer.order == order
    assert f"read in the order {order}" in info(run.path).table()
    evaluate_run(run.path, data=given["data"], device="cpu")
    probe_run(run.path, data=given["data"], device="cpu", raw=False)
    complete_files(run.path, [photo], tmp_path / "out", device="cpu")
    write_report([run.path], tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert f"read in the order {order}" in page
    with pytest.raises(ConfigError, match="row by row"):
        igpt.convert(run.path, tmp_path / "exported")
