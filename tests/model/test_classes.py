"""What images are taken for, by a class head or a probe that was kept."""

import dataclasses

import numpy as np
import pytest
import torch
from scipy.special import softmax
from tests.conftest import TINY, random_model, random_records, some_probe

import igpt
from igpt.errors import ConfigError, DataError
from igpt.model.classes import class_logits, pooled
from igpt.model.pretrained import Pretrained
from igpt.pixels.images import write_png
from igpt.pixels.tokenizer import ImageTokenizer

NAMES = ("left", "top", "top")  # as ImageNet has two cranes


@pytest.fixture
def headed(tiny_palette):
    return Pretrained(
        model=random_model(classes=3), tokenizer=ImageTokenizer(tiny_palette, 4),
        class_names=NAMES, class_layer=2,
    )  # fmt: skip


@pytest.fixture
def probed(tiny_palette, tmp_path):
    pretrained = Pretrained(model=random_model(), tokenizer=ImageTokenizer(tiny_palette, 4))
    pretrained.save(tmp_path / "model", probe=some_probe())
    return igpt.load(tmp_path / "model")


def test_a_heads_probabilities_are_the_softmax_of_its_logits(headed):
    images = random_records(5).images
    wanted = class_logits(headed.model, headed.tokenizer.encode(images), layer=2)
    wanted = torch.softmax(wanted.double(), dim=1).detach().numpy()
    found = headed.classify(list(images), batch_size=2)
    for row, image in zip(wanted, found, strict=True):
        by_number = sorted(image.ranking, key=lambda one: one.number)
        np.testing.assert_allclose([one.probability for one in by_number], row, rtol=1e-5)
        assert [one.class_name for one in by_number] == list(NAMES)
        assert (image.ranking[0].number, image.class_name) == (row.argmax(), NAMES[row.argmax()])
        assert image.probability == pytest.approx(row.max())


def test_a_probe_reads_its_layer_and_is_calibrated(probed):
    images, probe = random_records(5).images, probed.kept_probe()
    features = pooled(probed.model, probed.tokenizer.encode(images), 1).astype(np.float64)
    logits = features @ probe.weight.T + probe.intercept
    wanted = softmax(logits / 2.0, axis=1)
    classifier = probed.classifier()
    assert (classifier.layer, classifier.class_names) == (1, ("left", "top"))
    found = [image.probability for image in classifier.classify_squares(images, [None] * 5)]
    np.testing.assert_allclose(found, wanted.max(axis=1), rtol=1e-6)


def test_a_classifier_is_shown_images_as_those_that_it_learned_from(probed, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (30, 50, 3), dtype=np.uint8)
    write_png(tmp_path / "a.png", pixels)
    prepared = probed.classifier().tokenizer.preparation
    assert prepared.size == 8  # the probe's, whatever the network's was
    (of_file,) = probed.classify(str(tmp_path / "a.png"))
    squares = prepared.square(pixels, 4)[None]
    (wanted,) = probed.classifier().classify_squares(squares, [str(tmp_path / "a.png")])
    assert of_file == wanted
    assert of_file.file == str(tmp_path / "a.png")


def test_records_of_a_store_are_classified_under_their_names(headed, shapes_store):
    records = shapes_store.split("test")
    found = headed.classify(records, batch_size=5)
    assert [image.file for image in found] == records.names
    predicted = igpt.predict(headed, records)
    assert [image.ranking[0].number for image in found] == predicted.tolist()
    with pytest.raises(DataError, match="images of 2x2 pixels"):
        headed.classify(random_records(size=2))


def test_a_bert_network_is_shown_all_pixels(tiny_palette):
    bert = dataclasses.replace(TINY, causal=False)
    pretrained = Pretrained(
        model=random_model(bert, classes=2), tokenizer=ImageTokenizer(tiny_palette, 4),
        class_names=("left", "top"),
    )  # fmt: skip
    records = random_records()
    found = [image.ranking[0].number for image in pretrained.classify(records)]
    assert found == igpt.predict(pretrained, records).tolist()


def test_a_network_without_classes_says_how_to_get_some(tiny_palette):
    pretrained = Pretrained(model=random_model(), tokenizer=ImageTokenizer(tiny_palette, 4))
    with pytest.raises(ConfigError, match="fit one: igpt probe RUN --data STORE"):
        pretrained.classify("photo.jpg")
    with pytest.raises(ConfigError, match="no class head"):
        igpt.predict(pretrained, random_records())
