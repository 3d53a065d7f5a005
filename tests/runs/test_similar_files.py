"""Images of a store that are like a photograph."""

import json

import pytest
from tests.conftest import random_model, some_probe

from igpt.cli import main
from igpt.errors import DataError
from igpt.model.pretrained import Pretrained
from igpt.pixels.images import read_image
from igpt.pixels.tokenizer import ImageTokenizer
from igpt.runs.similar import similar_files


@pytest.fixture
def model(tiny_palette, tmp_path):
    pretrained = Pretrained(model=random_model(), tokenizer=ImageTokenizer(tiny_palette, 4))
    pretrained.save(tmp_path / "model")
    return tmp_path / "model"


def test_an_image_of_the_store_is_nearest_to_itself_and_named(model, shapes_store, tmp_path):
    source = shapes_store.path.parent / "images"
    test, train = shapes_store.split("test"), shapes_store.split("train")
    files = [source / test.names[3], source / train.names[0]]
    out = tmp_path / "similar.png"
    (tmp_path / "broken.png").write_text("no image")
    result = similar_files(
        model, [*files, tmp_path / "broken.png"], among=shapes_store.path, count=3, out=out,
        device="cpu",
    )  # fmt: skip
    assert result.images == 80
    assert [query.file for query in result.queries] == list(map(str, files))
    assert [file.file for file in result.skipped] == [str(tmp_path / "broken.png")]
    for query, records, number in zip(result.queries, (test, train), (3, 0), strict=True):
        first, *others = query.neighbors
        assert (first.name, first.split) == (records.names[number], records.name)
        assert first.class_name == records.class_names[records.labels[number]]
        assert first.distance == pytest.approx(0, abs=1e-6)
        assert all(first.distance <= other.distance for other in others)
    # two rows of four images of 8x8 pixels, enlarged 16 times, with gaps of 2
    assert read_image(out).shape == (2 * 128 + 2, 4 * 128 + 3 * 2, 3)


def test_the_layer_is_that_of_the_probe_or_the_middle_one_or_the_one_given(
    model, tiny_palette, shapes_store, tmp_path
):
    photo = shapes_store.path.parent / "images" / "top" / "001.png"
    given = {"among": shapes_store.path, "device": "cpu"}
    found = similar_files(model, [photo], **given)
    assert (found.layer, "igpt probe finds the best" in found.layer_chosen) == (1, True)
    assert similar_files(model, [photo], layer=3, **given).layer == 3
    probed = Pretrained(model=random_model(), tokenizer=ImageTokenizer(tiny_palette, 4))
    probed.save(tmp_path / "probed", probe=some_probe())
    assert similar_files(tmp_path / "probed", [photo], **given).layer_chosen == "that of the probe"
    with pytest.raises(DataError, match="could not read"):
        similar_files(model, [tmp_path / "none.png"], **given)


def test_the_command_prints_names_classes_and_distances(model, shapes_store, capsys):
    photo = shapes_store.path.parent / "images" / "top" / "001.png"
    command = ["similar", str(model), str(photo), "--among", str(shapes_store.path), "--top", "2"]
    with pytest.raises(SystemExit, match="0"):
        main(command)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == str(photo)
    assert lines[1].split()[:3] == ["0.000", "top", "top/001.png"]
    assert "among 80 images, by layer 1" in lines[3]
    with pytest.raises(SystemExit, match="0"):
        main([*command, "--json"])
    assert len(json.loads(capsys.readouterr().out)["queries"][0]["neighbors"]) == 2
