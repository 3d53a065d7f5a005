"""Bits of 8-bit images: tokens and the colors behind them."""

import dataclasses

import numpy as np
import pytest
from tests.conftest import SHAPES_RECIPE

from igpt.errors import ConfigError
from igpt.files import read_json
from igpt.pixels.nearest import nearest_table
from igpt.pixels.tokenizer import ImageTokenizer
from igpt.runs.eight_bit import color_bits
from igpt.runs.measure import evaluate_run
from igpt.runs.pretrain import pretrain


@pytest.mark.slow
def test_bits_per_dimension_are_of_tokens_and_colors_and_the_counts_are_kept(
    given, shapes_store, tmp_path
):
    run = pretrain(SHAPES_RECIPE, **given, out=tmp_path / "run", seconds=0.0)
    result = evaluate_run(run.path, data=shapes_store.path, eight_bit=True, device="cpu")
    colors = result.color_bits_per_pixel
    assert result.bits_per_dimension == (result.bits_per_pixel + colors) / 3
    kept = read_json(run.path / "evaluation.json")["splits"]["test"]
    assert kept["bits_per_dimension"] == result.bits_per_dimension
    before = (run.path / "shades.npy").stat().st_mtime_ns
    tokenizer = ImageTokenizer(run.palette, 4)
    again = color_bits(tokenizer, shapes_store, shapes_store.split("test"), run=run)
    assert again == colors
    assert (run.path / "shades.npy").stat().st_mtime_ns == before
    # Worse than counting would be to take all of a token's colors for alike.
    sizes = np.bincount(nearest_table(run.palette.colors).ravel(), minlength=16)
    tokens = run.palette.encode(shapes_store.split("test").squares(slice(None), 4))
    assert 0 < colors < np.log2(sizes[tokens]).mean()


def test_a_network_without_a_likelihood_and_tokens_without_colors_are_refused(
    given, shapes_store, tmp_path
):
    model = dataclasses.replace(SHAPES_RECIPE.model, causal=False)
    bert = dataclasses.replace(SHAPES_RECIPE, model=model)
    run = pretrain(bert, **given, out=tmp_path / "run", seconds=0.0)
    with pytest.raises(ConfigError, match="want a likelihood"):
        evaluate_run(run.path, data=shapes_store.path, eight_bit=True, device="cpu")
    records = dataclasses.replace(shapes_store.split("test"), token_palette="0" * 12)
    with pytest.raises(ConfigError, match="tokens, whose colors are the palette's"):
        color_bits(ImageTokenizer(run.palette, 4), shapes_store, records, run=None)
