import numpy as np
import pytest
from tests.conftest import blobs

from igpt.errors import ConfigError
from igpt.evaluation.logistic import LinearProbe
from igpt.evaluation.sgd import SGDConfig
from igpt.evaluation.solvers import NEIGHBORS, lbfgs, neighbors, ridge, sgd, solver_named


def fitted(solver, features, labels, start=None):
    """The classifiers of a single layer, one a setting."""
    settings = np.array([solver.settings])
    (classifiers,) = solver.fit(features[:, None], labels, settings, [start])
    return list(classifiers)


def test_ridge_is_the_normal_equations_solution():
    (features, labels), (other, _) = blobs(150, seed=0), blobs(150, seed=1)
    targets = np.where(labels[:, None] == np.arange(4), 1.0, -1.0)
    mean, level = features.mean(axis=0), targets.mean(axis=0)
    rows = features - mean
    solver = ridge([1e0, 1e-2, 1e-5])
    for penalty, classifier in zip(solver.settings, fitted(solver, features, labels), strict=True):
        gram = rows.T @ rows / len(rows) + penalty * np.eye(rows.shape[1])
        weight = np.linalg.solve(gram, rows.T @ (targets - level) / len(rows))
        wanted = ((other - mean) @ weight + level).argmax(axis=1)
        assert classifier.score(other, wanted) == 1.0


def test_neighbors_are_the_nearest_by_cosine_one_by_one():
    (features, labels), (other, truth) = blobs(150, seed=0), blobs(60, seed=1, spread=0.7)
    mean, deviation = features.mean(axis=0), features.std(axis=0)
    known = (features - mean) / deviation
    right = 0
    for x, label in zip((other - mean) / deviation, truth, strict=True):
        cosines = [x @ k / np.linalg.norm(x) / np.linalg.norm(k) for k in known]
        votes = np.bincount(labels[np.argsort(cosines)[-3:]], minlength=4)
        right += votes.argmax() == label
    (classifier,) = fitted(neighbors([3]), features, labels)
    assert classifier.score(other, truth) == right / 60


def test_l_bfgs_goes_from_the_strongest_penalty_to_the_weakest_and_on_from_a_start():
    features, labels = blobs(150)
    solver = lbfgs([1e-4, 1e-1, 1e-2, 1e-2])
    assert solver.settings == (1e-1, 1e-2, 1e-4)
    fits = fitted(solver, features, labels)
    assert [fit.l2 for fit in fits] == [1e-1, 1e-2, 1e-4]
    again = fitted(lbfgs([1e-4]), features, labels, start=fits[-1])
    assert again[0].iterations_ == 0


def test_rates_are_tried_from_the_highest_on():
    assert sgd(SGDConfig(learning_rates=(0.1, 10.0, 1.0, 0.1))).settings == (10.0, 1.0, 0.1)


def test_every_layer_has_classifiers_of_its_own():
    features, labels = blobs(150)
    both = np.stack([features, features[:, ::-1]], axis=1)
    settings = np.array([[1e-1, 1e-2], [1e-3, 1e-2]])
    fits = [list(row) for row in lbfgs().fit(both, labels, settings, [None, None])]
    assert [[fit.l2 for fit in row] for row in fits] == [[1e-1, 1e-2], [1e-2, 1e-3]]
    alone = LinearProbe(1e-2).fit(features[:, ::-1], labels)
    np.testing.assert_allclose(fits[1][0].weight_, alone.weight_, atol=1e-3)


def test_a_solver_is_known_by_its_name_and_asks_for_no_more_neighbors_than_there_are():
    assert solver_named("neighbors", records=30).settings == (1, 5, 10, 20)
    assert solver_named("neighbors", records=1000).settings == NEIGHBORS
    assert solver_named("sgd", records=30).side_by_side
    with pytest.raises(ConfigError, match="no solver 'rigde'; did you mean 'ridge'"):
        solver_named("rigde", records=30)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ridge([0.0]), "penalty is positive and finite, got"),
        (lambda: ridge([]), "a setting or more to choose from, got none"),
        (lambda: lbfgs([]), "a setting or more to choose from, got none"),
        (lambda: SGDConfig(learning_rates=()), "rates are positive and finite, got"),
        (lambda: fitted(neighbors([151]), *blobs(150)), "between 1 and the 150 training records"),
        (lambda: fitted(neighbors([0]), *blobs(150)), "between 1 and the 150 training records"),
    ],
)
def test_settings_that_cannot_be_are_refused(make, message):
    with pytest.raises(ConfigError, match=message):
        make()
