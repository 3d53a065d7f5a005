import numpy as np
import pytest
from tests.evaluation.test_few_labels import blobs

from igpt.errors import ConfigError, DataError
from igpt.evaluation.cheap_probes import neighbors_probe, ridge_probe


def splits(spread=0.7):
    return [blobs(records=150, seed=seed, spread=spread) for seed in range(3)]


def normal_equations(features, labels, penalty):
    """Least squares on classes as -1 and 1, intercept free: the weights from the formula."""
    targets = np.where(labels[:, None] == np.arange(4), 1.0, -1.0)
    mean, level = features.mean(axis=0), targets.mean(axis=0)
    rows = features - mean
    gram = rows.T @ rows / len(rows) + penalty * np.eye(rows.shape[1])
    weight = np.linalg.solve(gram, rows.T @ (targets - level) / len(rows))
    return lambda x: ((x - mean) @ weight + level).argmax(axis=1)


def test_ridge_is_the_normal_equations_solution():
    train, validation, test = splits()
    for penalty in (1e0, 1e-2, 1e-5):
        found = ridge_probe(train, validation, test, penalties=[penalty])
        predict = normal_equations(*train, penalty)
        assert found.validation_accuracy == (predict(validation[0]) == validation[1]).mean()
        both = [np.concatenate(pair) for pair in zip(train, validation, strict=True)]
        predict = normal_equations(*both, penalty)
        assert found.test_accuracy == (predict(test[0]) == test[1]).mean()


def test_neighbors_are_the_nearest_by_cosine_one_by_one():
    train, validation, test = splits()
    found = neighbors_probe(train, validation, test, neighbors=[3])
    features = np.concatenate([train[0], validation[0]])
    labels = np.concatenate([train[1], validation[1]])
    mean, deviation = features.mean(axis=0), features.std(axis=0)
    known = (features - mean) / deviation
    right = 0
    for x, label in zip((test[0] - mean) / deviation, test[1], strict=True):
        cosines = [x @ k / np.linalg.norm(x) / np.linalg.norm(k) for k in known]
        votes = np.bincount(labels[np.argsort(cosines)[-3:]], minlength=4)
        right += votes.argmax() == label
    assert found.test_accuracy == right / len(test[1])


def test_the_setting_is_chosen_on_validation_and_the_first_of_equals():
    train, validation, test = splits()
    found = ridge_probe(train, validation, test)
    best = max(found.validation_accuracies.values())
    assert found.validation_accuracy == best
    equals = [setting for setting, a in found.validation_accuracies.items() if a == best]
    assert found.setting == max(equals)
    far = [blobs(records=60, seed=seed, spread=50.0) for seed in range(3)]
    assert neighbors_probe(*far, neighbors=[1, 5]).setting == 1
    assert neighbors_probe(*far, neighbors=[1, 5]).test_accuracy == 1.0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda s: ridge_probe(*s, penalties=[0.0]), "penalty is positive and finite, got"),
        (lambda s: ridge_probe(*s, penalties=[]), "a setting or more to choose from, got none"),
        (lambda s: neighbors_probe(*s, neighbors=[151]), "between 1 and the 150 training records"),
    ],
)
def test_settings_that_cannot_be_are_refused(call, message):
    with pytest.raises(ConfigError, match=message):
        call(splits())


def test_features_that_are_not_finite_are_refused():
    train, validation, test = splits()
    train[0][3, 2] = np.nan
    with pytest.raises(DataError, match="record 3 the first of them"):
        ridge_probe(train, validation, test)
