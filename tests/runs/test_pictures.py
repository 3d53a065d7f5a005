"""Pictures of what a network makes of images."""

from dataclasses import replace

import numpy as np
import pytest
from tests.conftest import TINY, random_model

from igpt.cli import main
from igpt.errors import CheckpointError, ConfigError, DataError
from igpt.evaluation.likelihood import image_losses
from igpt.files import write_json
from igpt.model.pretrained import Pretrained
from igpt.pixels.images import read_image, write_png
from igpt.pixels.preparation import Preparation
from igpt.pixels.tokenizer import ImageTokenizer
from igpt.runs.pictures import (
    complete_files,
    complete_records,
    sample_file,
    surprise_file,
    surprise_records,
)


@pytest.fixture
def pretrained(tiny_palette):
    return Pretrained(model=random_model(), tokenizer=ImageTokenizer(tiny_palette, 4))


@pytest.fixture
def model(pretrained, tmp_path):
    pretrained.save(tmp_path / "a" / "model")
    return tmp_path / "a" / "model"


@pytest.fixture
def run(model):
    """A folder that passes for a run."""
    (model.parent / "recipe.json").write_text("{}")
    return model.parent


@pytest.fixture
def files(tmp_path):
    generator = np.random.default_rng(0)
    paths = [tmp_path / name for name in ("x/cat.png", "y/cat.png", "y/dog.png")]
    for path in paths:
        write_png(path, generator.integers(0, 256, (9, 12, 3), dtype=np.uint8))
    return paths


def test_completions_are_written_one_by_one_and_all_together(model, files, tmp_path):
    picture = complete_files(model, files, tmp_path / "out", rows=2, samples=2)
    assert picture == tmp_path / "out" / "completions.png"
    assert sorted(path.name for path in picture.parent.iterdir()) == [
        "1-cat-1.png", "1-cat-2.png", "2-cat-1.png", "2-cat-2.png", "completions.png",
        "dog-1.png", "dog-2.png",
    ]  # fmt: skip
    alone = read_image(picture.parent / "dog-1.png")
    assert alone.shape == (128, 128, 3)  # each of its 4 x 4 pixels a square
    np.testing.assert_array_equal(alone, alone[::32, ::32].repeat(32, axis=0).repeat(32, axis=1))
    # given, two completions and the original of three images, 128 pixels each and 2 between
    assert read_image(picture).shape == (3 * 128 + 2 * 2, 4 * 128 + 3 * 2, 3)


def test_folders_are_completed_and_a_broken_file_is_left_out_with_a_note(model, files, tmp_path):
    (tmp_path / "y" / "broken.png").write_text("no image")
    with pytest.warns(UserWarning, match=r"left out: .*broken\.png is not an image"):
        picture = complete_files(model, [tmp_path / "y"], tmp_path / "out", samples=1)
    assert sorted(path.name for path in picture.parent.iterdir()) == [
        "cat-1.png", "completions.png", "dog-1.png"
    ]  # fmt: skip
    with pytest.warns(UserWarning, match="left out"):
        nats = surprise_file(model, [tmp_path / "y"], tmp_path / "surprise.png")
    assert list(nats) == [str(tmp_path / "y" / name) for name in ("cat.png", "dog.png")]


def test_files_are_made_ready_as_the_networks_own_images_or_by_the_filter_given(
    tiny_palette, files, tmp_path
):
    tokenizer = ImageTokenizer(tiny_palette, 4, Preparation(size=6, filter="bicubic"))
    Pretrained(model=random_model(), tokenizer=tokenizer).save(tmp_path / "model")
    for filter, preparation in ((None, tokenizer.preparation), ("box", Preparation())):
        out = tmp_path / f"{filter}"
        picture = complete_files(tmp_path / "model", files[:1], out, samples=1, filter=filter)
        original = read_image(picture)[:, 2 * 130 :][::32, ::32]
        np.testing.assert_array_equal(original, preparation.square(files[0], 4))


def test_no_two_completions_have_one_name(model, files, tmp_path):
    shouted = tmp_path / "z" / "DOG.png"  # another name, but not on every disk
    write_png(shouted, read_image(files[0]))
    picture = complete_files(model, [files[2], shouted], tmp_path / "out", samples=1)
    names = {path.name for path in picture.parent.iterdir()}
    assert names == {"1-dog-1.png", "2-DOG-1.png", "completions.png"}
    with pytest.raises(ConfigError, match=r"dog\.png is given twice; name it once"):
        complete_files(model, [files[2], files[2]], tmp_path / "twice", samples=1)
    numbered = tmp_path / "1-CAT.png"  # as one of those that share a name will be called
    write_png(numbered, read_image(files[0]))
    picture = complete_files(model, [*files[:2], numbered], tmp_path / "two", samples=1)
    names = {path.name for path in picture.parent.iterdir()}
    assert names == {"1-cat-1.png", "2-cat-1.png", "3-1-CAT-1.png", "completions.png"}


def test_the_same_seed_draws_the_same_pixels(model, files, tmp_path):
    pictures = [
        complete_files(model, files, tmp_path / str(n), seed=seed).read_bytes()
        for n, seed in enumerate((1, 1, 2))
    ]
    assert pictures[0] == pictures[1] != pictures[2]


def test_completions_of_test_images_are_kept_in_the_run(run, shapes_store):
    picture = complete_records(run, shapes_store.path, count=2, samples=1)
    assert picture == run / "completions.png"
    assert read_image(picture).shape == (2 * 128 + 2, 3 * 128 + 2 * 2, 3)
    with pytest.raises(CheckpointError, match="holds no run"):
        complete_records(run / "model", shapes_store.path)


def test_samples_fill_a_square_as_far_as_they_go(model, tmp_path):
    sample_file(model, tmp_path / "samples.png", samples=3)
    grid = read_image(tmp_path / "samples.png")
    assert grid.shape == (2 * 128 + 2, 2 * 128 + 2, 3)
    assert (grid[-128:, -128:] == 255).all()


def test_surprise_is_in_nats_and_drawn_above_its_scale(model, pretrained, files, tmp_path):
    nats = surprise_file(model, files[:2], tmp_path / "surprise.png")
    assert len(nats) == 2
    picture = read_image(tmp_path / "surprise.png")
    assert picture.shape == (2 * 128 + 2 + 4 + 8, 3 * 128 + 2 * 2, 3)
    scale = picture[-8:].astype(int).sum(axis=(0, 2))
    assert scale[0] < scale[200] < scale[-1]


def test_surprise_of_test_images_is_their_loss_by_number_and_file(run, pretrained, shapes_store):
    nats = surprise_records(run, shapes_store.path, count=3)
    losses = image_losses(pretrained, shapes_store.split("test"))
    assert len(nats) == 3
    names = shapes_store.split("test").names
    for title, value in nats.items():
        number, name = title.removeprefix("test image ").split(": ")
        assert name == names[int(number)]
        assert value == pytest.approx(losses[int(number)], rel=1e-5)
    assert (run / "surprise.png").is_file()


def test_of_a_search_the_path_that_is_told_is_that_of_the_picture(
    run, shapes_store, tmp_path, capsys
):
    write_json(tmp_path / "search.json", {"run": run.name})
    with pytest.raises(SystemExit):
        main(["surprise", str(tmp_path), "--data", str(shapes_store.path), "--count", "2"])
    assert (run / "surprise.png").is_file()
    assert f"{run / 'surprise.png'}: image | " in capsys.readouterr().out


def test_what_cannot_be_drawn_is_refused(model, files, tiny_palette, tmp_path):
    with pytest.raises(ConfigError, match="rows must lie between 0 and 3"):
        complete_files(model, files, tmp_path, rows=4)
    with pytest.raises(DataError, match=r"nothing\.png"):
        surprise_file(model, [tmp_path / "nothing.png"], tmp_path / "surprise.png")
    bert = Pretrained(
        model=random_model(replace(TINY, causal=False)), tokenizer=ImageTokenizer(tiny_palette, 4)
    )
    bert.save(tmp_path / "bert")
    with pytest.raises(ConfigError, match="trained with hidden pixels"):
        surprise_file(tmp_path / "bert", files, tmp_path / "surprise.png")
