import numpy as np
import pytest
from tests.conftest import blobs, random_model

from igpt.data.batches import images_at_size
from igpt.errors import ConfigError, DataError
from igpt.evaluation.features import extract_features
from igpt.evaluation.probe import LayerProbe, LayerProbes, probe, rank_correlation
from igpt.evaluation.protocol import probe_features
from igpt.evaluation.sgd import SGDConfig
from igpt.evaluation.solvers import Solver, lbfgs, ridge, sgd, solver_named
from igpt.model.pretrained import Pretrained
from igpt.pixels.tokenizer import ImageTokenizer


def splits(layers=3, noise=4.0):
    """Features of layers that know more and more, and labels, of three splits."""

    def split(seed):
        features, labels = blobs(150, seed=seed)
        added = noise * np.random.default_rng(seed).normal(size=(150, layers, 6))
        return features[:, None] + added * np.linspace(2, 0.5, layers)[:, None], labels

    return [split(seed) for seed in range(3)]


SOLVERS = [
    lbfgs([1e-1, 1e-4]),
    sgd(SGDConfig(learning_rates=(1e4, 0.1), steps=40)),
    ridge([1e1, 1e-4]),
]


@pytest.mark.parametrize("solver", SOLVERS)
def test_the_setting_best_on_validation_is_fitted_again_to_both_and_scored_on_test(solver):
    train, validation, test = splits()
    rows = np.tile(solver.settings, (3, 1))
    if solver.scaled:
        rows *= train[0].var(axis=0).sum(axis=1)[:, None]
    tried = [list(row) for row in solver.fit(*train, rows, [None] * 3)]
    together = [np.concatenate(parts) for parts in zip(train, validation, strict=True)]
    for layer, fit in enumerate(probe_features(solver, train, validation, test)):
        accuracies = [one.score(validation[0][:, layer], validation[1]) for one in tried[layer]]
        assert fit.validation_accuracy == max(accuracies)
        assert fit.setting == pytest.approx(rows[layer, accuracies.index(max(accuracies))])
        again = solver.fit(*together, np.full((3, 1), fit.setting), [None] * 3)
        (refit,) = list(again)[layer]
        wanted = refit.score(test[0][:, layer], test[1])
        assert fit.test_accuracy == pytest.approx(wanted, abs=0.01)  # starts elsewhere


class Guess:
    """A classifier that is right as often as its setting says."""

    def __init__(self, setting, start=None):
        self.setting, self.start = setting, start

    def score(self, features, labels):
        return min(self.setting, 0.75)

    def predict(self, features):
        return np.zeros(len(features), dtype=np.int64)


def test_of_equally_good_settings_the_first_is_chosen_and_the_last_fit_starts_from_it():
    fits = []

    def fit(features, labels, settings, starts):
        fits.append([[Guess(s, start) for s in row] for row, start in zip(settings, starts)])  # noqa: B905
        return fits[-1]

    solver = Solver(settings=(0.5, 0.8, 0.9), fit=fit, side_by_side=True)
    rows = probe_features(solver, *splits(layers=2))
    assert [row.setting for row in rows] == [0.8, 0.8]
    tried, again = fits
    assert [row[0].start for row in again] == [row[1] for row in tried]
    assert [row[0].start for row in tried] == [None, None]


def chosen_by(accuracies, *, records=400, **options):
    """What a solver chooses whose settings 0, 1, 2 ... are so accurate, and which it fitted."""
    fitted = []

    def fit(features, labels, settings, starts):
        def one(setting):
            fitted.append(setting)
            return Always(accuracies[int(setting)])

        return ((one(setting) for setting in row) for row in settings.tolist())

    solver = Solver(settings=tuple(map(float, range(len(accuracies)))), fit=fit, **options)
    split = (np.zeros((records, 1, 1)), np.arange(records) % 2)
    (row,) = probe_features(solver, split, split, split)
    return row, fitted[:-1]


class Always:
    """A classifier that is right so often."""

    def __init__(self, accuracy):
        self.accuracy = accuracy

    def predict(self, features):
        return np.zeros(len(features), dtype=np.int64)

    def score(self, features, labels):
        return self.accuracy


def test_settings_in_turn_end_with_one_worse_than_the_best_by_a_standard_error():
    # of 400 records, an accuracy of 0.5 has a standard error of 0.025
    accuracies = [0.3, 0.5, 0.48, 0.47, 0.9]
    row, fitted = chosen_by(accuracies, in_turn=True)
    assert (row.setting, fitted) == (1, [0, 1, 2, 3])
    row, fitted = chosen_by(accuracies)
    assert (row.setting, fitted) == (4, [0, 1, 2, 3, 4])


def test_a_setting_at_an_edge_says_so():
    assert chosen_by([0.4, 0.5, 0.6])[0].doubts == ("at the edge of its grid",)
    assert chosen_by([0.5, 0.6, 0.5])[0].doubts == ()


def test_a_setting_beyond_which_there_is_none_is_no_edge():
    assert not chosen_by([0.6, 0.5], limit=0.0)[0].at_edge
    assert chosen_by([0.5, 0.6], limit=0.0)[0].at_edge


def test_penalties_grow_with_the_features():
    plain = splits(layers=1)
    scaled = [(10 * features, labels) for features, labels in plain]
    (one,), (other,) = probe_features(lbfgs(), *plain), probe_features(lbfgs(), *scaled)
    assert other.setting == pytest.approx(100 * one.setting)
    assert other.test_accuracy == one.test_accuracy


def test_layers_may_choose_different_settings():
    def fit(features, labels, settings, starts):
        first = features[0, :, 0]  # of each layer
        return [[Guess(-abs(s - x)) for s in row] for row, x in zip(settings, first, strict=True)]

    solver = Solver(settings=(1.0, 2.0, 3.0), fit=fit, side_by_side=True)
    features = np.broadcast_to(np.array([3.0, 1.0])[None, :, None], (8, 2, 1))
    records = (features, np.arange(8) % 2)
    assert [row.setting for row in probe_features(solver, *[records] * 3)] == [3.0, 1.0]


def test_test_labels_do_not_change_the_choice():
    train, validation, (features, labels) = splits()
    shuffled = np.random.default_rng(0).permutation(labels)
    ours = probe_features(lbfgs(), train, validation, (features, labels))
    others = probe_features(lbfgs(), train, validation, (features, shuffled))
    for one, other in zip(ours, others, strict=True):
        assert (one.setting, one.validation_accuracy) == (other.setting, other.validation_accuracy)
        assert one.test_accuracy > other.test_accuracy


def test_l_bfgs_says_whether_both_fits_converged_and_other_solvers_are_silent():
    (fit,) = probe_features(lbfgs([1e-2]), *splits(layers=1))
    assert fit.converged
    assert 0 < fit.gradient_norm <= 1e-4
    (fit,) = probe_features(ridge([1e-2]), *splits(layers=1))
    assert (fit.converged, fit.gradient_norm) == (None, None)


def test_a_class_only_validation_has_is_learned_by_the_last_fit():
    (features, labels), validation, test = splits(layers=1, noise=0)
    train = features[labels != 1], labels[labels != 1]
    (fit,) = probe_features(lbfgs(), train, validation, test)
    assert fit.test_accuracy > fit.validation_accuracy


@pytest.mark.parametrize("solver", SOLVERS)
def test_records_that_do_not_fit_together_are_refused(solver):
    train, validation, (features, labels) = splits()
    broken = np.where(np.arange(6) == 3, np.nan, features)
    with pytest.raises(DataError, match="150 of 150 records are not"):
        probe_features(solver, train, validation, (broken, labels))
    with pytest.raises(DataError, match="for 3 x 6 features, but these records have 2 x 6"):
        probe_features(solver, train, validation, (features[:, 1:], labels))
    with pytest.raises(DataError, match="150 rows of features and 149 labels"):
        probe_features(solver, train, validation, (features, labels[1:]))


@pytest.fixture
def pretrained(tiny_palette):
    return Pretrained(model=random_model(), tokenizer=ImageTokenizer(tiny_palette, 4))


@pytest.fixture
def parts(shapes_store):
    return [shapes_store.split(name) for name in ("train", "validation", "test")]


def test_every_layer_of_a_network_is_probed_and_the_best_one_reported(
    pretrained, shapes_store, parts
):
    probes = probe(pretrained, shapes_store, solver="ridge", raw=False)
    features = [(extract_features(pretrained, part), part.labels) for part in parts]
    fits = probe_features(ridge(), *features)
    assert probes.layers == tuple(LayerProbe(layer=n, **vars(fit)) for n, fit in enumerate(fits))
    assert probes.best.validation_accuracy == max(fit.validation_accuracy for fit in fits)
    assert probes.test_accuracy == probes.best.test_accuracy
    assert probes.records == {"train": 51, "validation": 13, "test": 16}


@pytest.mark.parametrize("solver", ["lbfgs", "sgd", "ridge", "neighbors"])
def test_the_best_layers_mistakes_are_counted_on_the_test_images(pretrained, shapes_store, solver):
    probes = probe(
        pretrained, shapes_store, solver=solver, raw=False, concatenate=2, sgd=SGDConfig(steps=10)
    )
    counts = np.array(probes.confusion)
    truth = shapes_store.split("test").require_labels()
    assert counts.sum(axis=1).tolist() == np.bincount(truth).tolist()
    assert np.trace(counts) / counts.sum() == probes.test_accuracy


@pytest.mark.parametrize("solver", ["sgd", "ridge"])
def test_features_on_disk_give_the_same(pretrained, shapes_store, tmp_path, solver):
    given = {"solver": solver, "raw": False, "sgd": SGDConfig(steps=10)}
    in_memory = probe(pretrained, shapes_store, **given)
    folder = tmp_path / "features"
    assert probe(pretrained, shapes_store, **given, folder=folder) == in_memory
    assert np.load(folder / "learned.npy").shape == (64, 4, 24)
    assert probe(pretrained, shapes_store, **given, folder=folder) == in_memory


def test_raw_pixels_are_probed_beside_the_layers(pretrained, shapes_store, parts):
    probes = probe(pretrained, shapes_store, layers=[1])
    assert [row.layer for row in probes.layers] == [1]
    pixels = [images_at_size(part, 4).reshape(len(part), 1, -1) / 127.5 - 1 for part in parts]
    labelled = [(x, part.labels) for x, part in zip(pixels, parts, strict=True)]
    (wanted,) = probe_features(lbfgs(), *labelled)
    assert probes.raw_pixels.setting == pytest.approx(wanted.setting)
    assert probes.raw_pixels.test_accuracy == pytest.approx(wanted.test_accuracy, abs=1e-6)


@pytest.mark.parametrize("solver", ["lbfgs", "neighbors"])
def test_neighboring_layers_are_probed_as_one_feature(pretrained, shapes_store, parts, solver):
    probes = probe(pretrained, shapes_store, solver=solver, concatenate=2, raw=False)
    layers = probes.concatenated.layers
    assert len(layers) == 2
    assert probes.best_layer in layers
    joined = [
        extract_features(pretrained, part, layers=layers).reshape(len(part), 1, -1)
        for part in parts
    ]
    labelled = [(x, part.labels) for x, part in zip(joined, parts, strict=True)]
    (wanted,) = probe_features(solver_named(solver, records=51), *labelled)
    assert probes.concatenated.test_accuracy == wanted.test_accuracy


def test_layers_that_are_not_there_are_refused(pretrained, shapes_store):
    with pytest.raises(ConfigError, match="between 0 and 3 for this network, got 7"):
        probe(pretrained, shapes_store, layers=[7])
    with pytest.raises(ConfigError, match="between 1 and the 4 layers probed, got 5"):
        probe(pretrained, shapes_store, concatenate=5)


def probes_with(accuracies):
    layers = tuple(
        LayerProbe(layer=layer, setting=1.0, validation_accuracy=accuracy, test_accuracy=0.0)
        for layer, accuracy in accuracies.items()
    )
    return LayerProbes(solver="ridge", best_layer=0, test_accuracy=0.0, layers=layers, records={})


def test_rankings_of_layers_are_compared_by_spearmans_correlation():
    ours = probes_with({0: 0.1, 1: 0.4, 2: 0.3})
    assert rank_correlation(ours, probes_with({2: 0.7, 1: 0.9, 0: 0.2, 3: 1.0})) == 1.0
    # ranks 1, 3, 2 against 3, 1, 2: 1 - 6 * (4 + 4 + 0) / (3 * 8)
    assert rank_correlation(ours, probes_with({0: 0.9, 1: 0.1, 2: 0.5})) == pytest.approx(-1.0)
    assert rank_correlation(ours, probes_with({0: 0.2, 1: 0.9})) is None
    assert rank_correlation(ours, probes_with({0: 0.5, 1: 0.5, 2: 0.5})) is None
