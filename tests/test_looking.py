"""What is seen of images before anything is chosen, and what becomes of their labels."""

import numpy as np
import pytest

from igpt.data.config import StoreConfig
from igpt.data.prepare import prepare_store
from igpt.errors import ConfigError
from igpt.looking import described, is_labelled, require_colors, store_config, why_labels_are_unused
from igpt.pixels.images import write_png
from tests.conftest import write_shapes


def prepared(source, out):
    return prepare_store(str(source), out, store_config(str(source), seed=0))


def flat(folder, *names):
    for number, name in enumerate(names):
        write_png(folder / name, np.full((8, 8, 3), number, np.uint8))
    return folder


def test_the_size_of_a_photo_too_large_to_be_decoded_is_in_its_header(tmp_path):
    for name, size in (("a", "12000 9000"), ("b", "9000 20")):  # and nothing of their pixels
        (tmp_path / f"{name}.pgm").write_text(f"P5 {size} 255\n")
    assert store_config(str(tmp_path), seed=0).image_size == 20
    (tmp_path / "b.pgm").write_text("no picture")
    assert store_config(str(tmp_path), seed=0).image_size == 32
    assert store_config("digits", seed=0).image_size == 32


def test_a_test_split_without_labels_is_set_aside_where_train_has_some(tmp_path, capsys):
    write_shapes(tmp_path / "source" / "train", images=40)
    flat(tmp_path / "source" / "test", "0.png", "1.png")
    store = prepared(tmp_path / "source", tmp_path / "store")
    assert is_labelled(store)
    assert (store.splits["test"].records, described(store).classes) == (8, 2)
    assert why_labels_are_unused(store) is None
    assert "test has no labels, and train has some: it is set aside" in capsys.readouterr().err


def test_a_test_split_without_labels_stays_where_train_has_none(tmp_path):
    for split in ("train", "test"):
        flat(tmp_path / "source" / split, *(f"{number}.png" for number in range(4)))
    store = prepared(tmp_path / "source", tmp_path / "store")
    assert store.splits["test"].records == 4
    assert why_labels_are_unused(store) is None


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        (
            ("a/0.png", "b/0.png", "c/0.png"),
            "none for validation and test; give each class",
        ),
        (("a/0.png", "a/1.png", "a/2.png", "a/3.png"), "there is one class only"),
    ],
)
def test_labels_that_cannot_be_used_are_said_to_be(tmp_path, names, reason):
    store = prepared(flat(tmp_path / "source", *names), tmp_path / "store")
    assert described(store).classes == 0
    assert reason in why_labels_are_unused(store)


def test_colors_are_counted_at_the_side_that_is_asked_for(tmp_path):
    colors = np.random.default_rng(0).integers(256, size=(4, 4, 3), dtype=np.uint8)
    write_png(tmp_path / "source" / "a.png", colors.repeat(2, axis=0).repeat(2, axis=1))
    config = StoreConfig(image_size=8, test_fraction=0.0, validation_fraction=0.0)
    store = prepare_store(str(tmp_path / "source"), tmp_path / "store", config)
    known = described(store).colors
    assert (known(8), known(4), known(1)) == (16, 16, 1)
    require_colors(store, 4, 16, grey=False)
    with pytest.raises(ConfigError, match=r"17 colors is .* have 16 at 4x4 pixels; .*colors=16"):
        require_colors(store, 4, 17, grey=False)
    with pytest.raises(ConfigError, match="have 1 at 1x1 pixels; give others"):
        require_colors(store, 1, 2, grey=True)
