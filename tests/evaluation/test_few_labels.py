import dataclasses

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold
from tests.conftest import blobs, random_model, random_records

from igpt.data.store import Records
from igpt.errors import ConfigError, DataError
from igpt.evaluation.features import extract_features
from igpt.evaluation.few_labels import (
    balanced_subset,
    copies,
    few_labels,
    few_labels_accuracy,
    fitting_labels,
)
from igpt.model.pretrained import Pretrained
from igpt.pixels.tokenizer import ImageTokenizer
from igpt.randomness import Stream, stream_seed


def test_a_subset_has_as_many_of_every_class_and_none_twice():
    _, labels = blobs()
    chosen = balanced_subset(labels, 7, seed=3)
    assert np.array_equal(np.bincount(labels[chosen]), [7, 7, 7, 7])
    assert len(set(chosen)) == 28


def test_subsets_are_repeated_by_seed_and_differ_otherwise():
    _, labels = blobs()
    first = balanced_subset(labels, 7, seed=3, subset=1)
    assert np.array_equal(first, balanced_subset(labels, 7, seed=3, subset=1))
    for other in ({"seed": 4, "subset": 1}, {"seed": 3, "subset": 2}):
        assert not np.array_equal(first, balanced_subset(labels, 7, **other))


def test_every_record_is_as_likely_as_any_other():
    labels = np.repeat([0, 1], 10)
    drawn = np.concatenate([balanced_subset(labels, 3, seed=s) for s in range(2000)])
    counts = np.bincount(drawn, minlength=20)  # binomial(2000, 0.3): mean 600, deviation 20.5
    assert np.abs(counts - 600).max() < 5 * 20.5


def test_each_accuracy_is_that_of_scikit_learns_regression_on_the_subset():
    train, test = blobs(), blobs(seed=1)
    row = few_labels_accuracy(
        train, test, labels_per_class=8, subsets=3, seed=5, penalties=(1e-1, 1e-3)
    )
    assert row.converged
    for subset, (accuracy, l2) in enumerate(zip(row.accuracies, row.penalties, strict=True)):
        part = balanced_subset(train[1], 8, seed=5, subset=subset)
        peer = LogisticRegression(C=1 / (l2 * len(part)), tol=1e-8, max_iter=10_000)
        peer.fit(train[0][part], train[1][part])
        assert accuracy == peer.score(*test)
    assert row.mean == pytest.approx(np.mean(row.accuracies))
    assert row.standard_deviation == pytest.approx(np.std(row.accuracies, ddof=1))


@pytest.mark.parametrize("copied", [1, 3])
def test_the_penalty_is_the_best_in_cross_validation_within_the_subset(copied):
    train, test = blobs(spread=0.4), blobs(seed=1, spread=0.4)
    groups = np.arange(400) // copied
    row = few_labels_accuracy(
        train, test, labels_per_class=12, subsets=1, seed=2, penalties=(1.0, 1e-2, 1e-4),
        groups=groups,
    )  # fmt: skip
    part = balanced_subset(train[1], 12, seed=2)
    features, labels = train[0][part], train[1][part]
    penalties = features.var(axis=0).sum() * np.array([1, 1e-2, 1e-4])
    right = []
    for l2 in penalties:
        folds = [
            fold
            for repeat in range(5)  # 5 * 48 records are 200 or more
            for fold in StratifiedGroupKFold(
                4, shuffle=True, random_state=stream_seed(Stream.FOLDS, 2, repeat, bits=32)
            ).split(features, labels, groups[part])
        ]
        right.append(
            sum(
                LogisticRegression(C=1 / (l2 * len(fitted)), tol=1e-8, max_iter=10_000)
                .fit(features[fitted], labels[fitted])
                .score(features[held], labels[held])
                * len(held)
                for fitted, held in folds
            )
        )
    assert row.penalties == pytest.approx([penalties[int(np.argmax(right))]])


def test_copies_of_an_image_are_never_on_both_sides_of_a_fold():
    # One feature tells the class of other images, and a hundred which of these images it is.
    generator = np.random.default_rng(0)
    groups, classes = np.repeat(np.arange(80), 2), np.arange(80) % 2
    values = generator.normal(size=(80, 100))
    values[:, 0] = 10 * (generator.normal(size=80) + 2 * classes)
    records = values[groups], classes[groups]
    given = {"labels_per_class": 80, "subsets": 1, "penalties": (1e1, 1e-6)}
    seen = few_labels_accuracy(records, records, **given)
    honest = few_labels_accuracy(records, records, **given, groups=groups)
    assert seen.penalties[0] < 1 < honest.penalties[0]


def test_copies_are_told_by_their_names_and_by_their_pixels():
    images = np.zeros((6, 2, 2, 3), np.uint8)
    images[:, 0, 0, 0] = [0, 1, 2, 3, 1, 5]
    names = np.array([b"a", b"b", b"c", b"a", b"d", b"d"])
    records = Records(
        name="train", images=images, labels=None, class_names=None, encoded_names=names
    )
    assert copies(records).tolist() == [0, 1, 2, 0, 1, 1]  # the fifth has the second's pixels
    nameless = dataclasses.replace(records, encoded_names=None)
    assert copies(nameless).tolist() == [0, 1, 2, 3, 1, 4]


def test_a_class_of_copies_of_one_image_takes_the_strongest_penalty():
    train, test = blobs(), blobs(seed=1)
    same = np.where(train[1] == 2, 0, np.arange(400))
    row = few_labels_accuracy(train, test, labels_per_class=8, subsets=1, groups=same)
    part = balanced_subset(train[1], 8, seed=0)
    assert row.penalties == pytest.approx([10 * train[0][part].var(axis=0).sum()])
    assert not row.at_edge


def test_a_penalty_at_the_edge_of_its_grid_is_said():
    train, test = blobs(spread=0.4), blobs(seed=1, spread=0.4)
    given = {"labels_per_class": 40, "subsets": 1}
    assert few_labels_accuracy(train, test, penalties=(1e4, 1e3), **given).doubts == ()
    row = few_labels_accuracy(train, test, penalties=(1e3, 1e-2), **given)
    assert row.doubts == ("at the edge of its grid",)


def test_one_label_a_class_is_enough_to_say_something():
    row = few_labels_accuracy(blobs(spread=4.0), blobs(seed=1, spread=4.0), labels_per_class=1)
    assert row.mean > 0.5
    assert not row.at_edge
    assert (
        few_labels_accuracy(
            blobs(), blobs(seed=1), labels_per_class=1, subsets=1
        ).standard_deviation
        is None
    )


@pytest.mark.parametrize(
    ("smallest", "counts"), [(2, (2,)), (4, (4,)), (30, (4, 25)), (500, (4, 25, 400))]
)
def test_by_default_as_many_labels_are_asked_for_as_every_class_has(smallest, counts):
    labels = np.repeat([0, 1], [600, smallest])
    records = dataclasses.replace(random_records(len(labels)), labels=labels)
    assert fitting_labels(records) == counts


def test_what_cannot_be_drawn_is_refused():
    labels = np.array([0, 0, 0, 1, 1])
    with pytest.raises(DataError, match="class 1 has 2 images; ask for 2 or fewer"):
        balanced_subset(labels, 3, seed=0)
    with pytest.raises(DataError, match="class 'bee' has 2 images; ask for 2 or fewer"):
        balanced_subset(labels, 3, seed=0, class_names=("ant", "bee"))
    with pytest.raises(ConfigError, match="labels_per_class must be at least 1, got 0"):
        balanced_subset(labels, 0, seed=0)
    with pytest.raises(ConfigError, match="a subset and a penalty, got 0 and 13"):
        few_labels_accuracy(blobs(), blobs(), labels_per_class=1, subsets=0)


@pytest.fixture
def pretrained(tiny_palette):
    return Pretrained(model=random_model(), tokenizer=ImageTokenizer(tiny_palette, 4))


def test_no_subset_or_no_number_of_labels_is_refused(pretrained, shapes_store):
    for labels, subsets in (([2], 0), ([], 2)):
        with pytest.raises(ConfigError, match="there must be a subset and a number of labels"):
            few_labels(pretrained, shapes_store, layer=0, labels_per_class=labels, subsets=subsets)


def test_a_layer_of_a_network_is_read_in_a_row_for_each_number_of_labels(pretrained, shapes_store):
    result = few_labels(
        pretrained, shapes_store, layer=1, labels_per_class=[1, 2], subsets=2, seed=4
    )
    train, test = (
        (extract_features(pretrained, records, layers=[1])[:, 0], records.labels)
        for records in (shapes_store.split("train+validation"), shapes_store.split("test"))
    )
    assert result.rows == tuple(
        few_labels_accuracy(train, test, labels_per_class=count, subsets=2, seed=4)
        for count in (1, 2)
    )
    assert (result.layer, result.test_images, result.finetune_steps) == (1, 16, 0)


def test_what_is_fine_tuned_learns_from_the_same_subsets(pretrained, shapes_store):
    seen = []

    def fine_tuned(records):
        seen.append(records.labels.tolist())
        return 0.25 * len(seen)

    result = few_labels(
        pretrained, shapes_store, layer=0, labels_per_class=[3], subsets=2, fine_tuned=fine_tuned
    )
    assert result.rows[0].fine_tuned.accuracies == (0.25, 0.5)
    assert result.rows[0].fine_tuned.mean == 0.375
    assert [np.bincount(labels).tolist() for labels in seen] == [[3, 3], [3, 3]]
