import pickle

import numpy as np
import pandas
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from igpt.errors import ConfigError, DataError
from igpt.evaluation.logistic import LinearProbe, total_variance


def overlapping_classes(records=400, features=8, classes=4, seed=0):
    generator = np.random.default_rng(seed)
    labels = np.arange(records) % classes
    centers = np.random.default_rng(99).normal(size=(classes, features))
    return centers[labels] + 2 * generator.normal(size=(records, features)), labels


def ill_conditioned_classes(records=600, seed=0):
    """Features as pooled ones are: far from zero, and the classes where they vary least."""
    generator = np.random.default_rng(seed)
    labels = np.arange(records) % 4
    along = generator.normal(size=(records, 12))
    along[:, 8:] += np.random.default_rng(99).normal(size=(4, 4))[labels]
    rotation = np.linalg.qr(np.random.default_rng(98).normal(size=(12, 12)))[0]
    return along * np.logspace(0, -4, 12) @ rotation + 2, labels


def scikit_learn(features, labels, l2):
    inverse_penalty = 1 / (l2 * len(features))
    return LogisticRegression(C=inverse_penalty, tol=1e-10, max_iter=100_000).fit(features, labels)


def objective(features, labels, l2, weight, intercept):
    logits = features @ weight.T + intercept
    right = logits[np.arange(len(labels)), labels]
    losses = np.log(np.exp(logits).sum(axis=1)) - right
    return losses.mean() + l2 / 2 * np.square(weight).sum()


@pytest.mark.parametrize("l2", [1.0, 1e-2, 1e-4])
def test_the_optimum_is_that_of_scikit_learn(l2):
    features, labels = overlapping_classes()
    probe = LinearProbe(l2, tolerance=1e-8).fit(features, labels)
    reference = scikit_learn(features, labels, l2)
    assert probe.converged_
    np.testing.assert_allclose(probe.weight_, reference.coef_, atol=1e-5)
    np.testing.assert_allclose(probe.intercept_, reference.intercept_, atol=1e-5)
    assert probe.score(features, labels) == reference.score(features, labels)


@pytest.mark.parametrize("l2", [1e-2, 1e-5, 1e-8, 1e-11])
def test_whitening_leaves_the_optimum_that_the_features_as_they_are_have(l2):
    features, labels = ill_conditioned_classes()
    probe = LinearProbe(l2, tolerance=1e-7).fit(features, labels)
    raw = LogisticRegression(
        C=1 / (l2 * len(features)), solver="newton-cholesky", tol=1e-10, max_iter=500
    ).fit(features, labels)
    assert probe.converged_
    assert probe.iterations_ < 50
    ours = objective(features, labels, l2, probe.weight_, probe.intercept_)
    theirs = objective(features, labels, l2, raw.coef_, raw.intercept_)
    assert ours == pytest.approx(theirs, rel=1e-12)
    np.testing.assert_allclose(probe.weight_, raw.coef_, atol=1e-6 * np.abs(raw.coef_).max())
    np.testing.assert_allclose(
        probe.predict_proba(features), raw.predict_proba(features), atol=1e-6
    )


def test_the_optimum_of_a_stronger_penalty_is_no_optimum_of_a_weaker_one():
    features, labels = ill_conditioned_classes()
    strong = LinearProbe(1e-8).fit(features, labels)
    weak = LinearProbe(1e-9).fit(features, labels, start=strong)
    assert weak.iterations_ > 5
    assert weak.score(features, labels) > strong.score(features, labels)


def test_small_variances_outlast_float32():
    features, labels = ill_conditioned_classes()
    single = LinearProbe(1e-9, tolerance=1e-3, dtype="float32").fit(features, labels)
    double = LinearProbe(1e-9, tolerance=1e-7).fit(features, labels)
    assert single.converged_
    np.testing.assert_allclose(
        single.predict_proba(features), double.predict_proba(features), atol=5e-3
    )


def test_large_fits_begin_in_float32_and_end_as_exactly():
    features, labels = overlapping_classes()
    wanted = LinearProbe(1e-4, tolerance=1e-7).fit(features, labels)
    probe = LinearProbe(1e-4, tolerance=1e-7, single_from=0).fit(features, labels)
    assert probe.converged_
    np.testing.assert_allclose(probe.weight_, wanted.weight_, atol=1e-5)


def test_iterations_in_float32_count_too():
    features, labels = overlapping_classes()
    cut = LinearProbe(1e-4, max_iterations=3, single_from=0).fit(features, labels)
    assert (cut.iterations_, cut.converged_) == (3, False)


def test_a_path_has_the_optimum_of_each_penalty_strongest_first():
    features, labels = overlapping_classes()
    path = list(LinearProbe(tolerance=1e-8).fit_path(features, labels, [1e-4, 1.0, 1e-2, 1.0]))
    assert [probe.l2 for probe in path] == [1.0, 1e-2, 1e-4]
    for probe in path:
        alone = LinearProbe(probe.l2, tolerance=1e-8).fit(features, labels)
        np.testing.assert_allclose(probe.weight_, alone.weight_, atol=1e-5)


def test_weights_and_intercepts_sum_to_zero_over_the_classes():
    probe = LinearProbe(tolerance=1e-8).fit(*overlapping_classes())
    np.testing.assert_allclose(probe.weight_.sum(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(probe.intercept_.sum(), 0, atol=1e-10)


def test_badly_scaled_and_correlated_features_have_the_same_optimum():
    features, labels = overlapping_classes()
    features = features @ (np.eye(8) + 5 * np.ones((8, 8))) * np.logspace(-1, 2, 8) + 30
    probe = LinearProbe(1e-3, tolerance=1e-6).fit(features, labels)
    assert probe.converged_
    assert probe.iterations_ < 60
    reference = LogisticRegression(
        C=1 / (1e-3 * len(features)), solver="newton-cg", tol=1e-10, max_iter=1000
    ).fit(features, labels)
    np.testing.assert_allclose(probe.weight_, reference.coef_, atol=1e-4)
    np.testing.assert_allclose(
        probe.predict_proba(features), reference.predict_proba(features), atol=1e-4
    )


def test_copied_and_constant_features_do_no_harm():
    features, labels = overlapping_classes()
    padded = np.concatenate(
        [features, features, np.full((400, 1), 0.1), np.zeros((400, 2))], axis=1
    )
    probe = LinearProbe(1e-2, tolerance=1e-8).fit(padded, labels)
    once = LinearProbe(2e-2 / 4, tolerance=1e-8).fit(features, labels)  # two halves cost one half
    assert probe.converged_
    np.testing.assert_allclose(probe.weight_[:, :8], probe.weight_[:, 8:16], atol=1e-6)
    np.testing.assert_allclose(probe.weight_[:, :8] * 2, once.weight_, atol=1e-5)
    np.testing.assert_allclose(probe.weight_[:, 16:], 0, atol=1e-5)


@pytest.mark.parametrize("l2", [1e-3, 1e-9])
def test_three_equal_channels_are_one_at_a_third_of_the_penalty(l2):
    features, labels = ill_conditioned_classes()
    three = LinearProbe(l2, tolerance=1e-8).fit(np.tile(features, 3), labels)
    one = LinearProbe(l2 / 3, tolerance=1e-8).fit(features, labels)
    np.testing.assert_allclose(
        three.predict_proba(np.tile(features, 3)), one.predict_proba(features), atol=1e-6
    )


def test_more_features_than_records_can_be_fitted():
    features, labels = overlapping_classes(records=20, features=50)
    probe = LinearProbe(1e-2, tolerance=1e-8).fit(features, labels)
    assert probe.converged_
    np.testing.assert_allclose(probe.weight_, scikit_learn(features, labels, 1e-2).coef_, atol=1e-5)


@pytest.mark.parametrize("scale", [1e-2, 1e6])
def test_scaling_the_features_scales_the_optimum(scale):
    features, labels = overlapping_classes()
    plain = LinearProbe(1e-2, tolerance=1e-7).fit(features, labels)
    scaled = LinearProbe(1e-2 * scale**2, tolerance=1e-7).fit(features * scale, labels)
    assert scaled.converged_
    np.testing.assert_allclose(scaled.weight_ * scale, plain.weight_, atol=1e-4)


def test_two_classes_have_the_probabilities_of_a_sigmoid_with_half_the_penalty():
    features, labels = overlapping_classes(classes=2)
    probe = LinearProbe(1e-2, tolerance=1e-8).fit(features, labels)
    reference = scikit_learn(features, labels, 1e-2 / 2)
    np.testing.assert_allclose(
        probe.predict_proba(features), reference.predict_proba(features), atol=1e-6
    )
    np.testing.assert_allclose(probe.weight_[1] - probe.weight_[0], reference.coef_[0], atol=1e-5)


def test_float32_finds_the_same_optimum():
    features, labels = overlapping_classes()
    single = LinearProbe(1e-2, tolerance=1e-4, dtype="float32")
    single.fit(features.astype(np.float32), labels)
    double = LinearProbe(1e-2, tolerance=1e-8).fit(features, labels)
    assert single.converged_
    np.testing.assert_allclose(single.weight_, double.weight_, atol=2e-3)


def test_a_warm_start_reaches_the_same_optimum_sooner():
    features, labels = overlapping_classes()
    cold = LinearProbe(1e-2, tolerance=1e-8).fit(features, labels)
    near = LinearProbe(2e-2, tolerance=1e-8).fit(features, labels)
    warm = LinearProbe(1e-2, tolerance=1e-8).fit(features, labels, start=near)
    np.testing.assert_allclose(warm.weight_, cold.weight_, atol=1e-6)
    np.testing.assert_allclose(warm.intercept_, cold.intercept_, atol=1e-6)
    assert warm.iterations_ <= cold.iterations_


def test_a_start_at_the_optimum_takes_no_iterations():
    features, labels = overlapping_classes()
    once = LinearProbe(tolerance=1e-7).fit(features, labels)
    weight = once.weight_
    again = once.fit(features, labels, start=once)
    assert again.iterations_ == 0
    np.testing.assert_allclose(again.weight_, weight, rtol=1e-10)


def test_a_start_may_lack_a_class():
    features, labels = overlapping_classes()
    start = LinearProbe(1e-2).fit(features[labels != 1], labels[labels != 1])
    warm = LinearProbe(1e-2, tolerance=1e-8).fit(features, labels, start=start)
    cold = LinearProbe(1e-2, tolerance=1e-8).fit(features, labels)
    np.testing.assert_allclose(
        warm.predict_proba(features), cold.predict_proba(features), atol=1e-6
    )


def test_a_fit_that_was_cut_short_says_so():
    features, labels = overlapping_classes()
    probe = LinearProbe(max_iterations=1).fit(features, labels)
    assert not probe.converged_
    assert probe.iterations_ == 1
    assert probe.gradient_norm_ > probe.tolerance


def test_a_tolerance_out_of_reach_ends_and_says_so():
    features, labels = overlapping_classes()
    probe = LinearProbe(tolerance=1e-30).fit(features, labels)
    assert not probe.converged_
    assert probe.gradient_norm_ < 1e-7


@pytest.mark.parametrize("iterations", [1, 3])
def test_the_gradient_is_measured_where_the_curvature_at_zero_is_one(iterations):
    features, labels = overlapping_classes(features=5)
    features = features * [1, 10, 1, 0.1, 1] + 2
    probe = LinearProbe(0.1, max_iterations=iterations).fit(features, labels)
    parameters = np.column_stack([probe.weight_, probe.intercept_])

    def value(at):
        return objective(features, labels, 0.1, at[:, :-1], at[:, -1])

    slopes = np.zeros_like(parameters)
    for index in np.ndindex(parameters.shape):
        step = np.zeros_like(parameters)
        step[index] = 1e-6
        slopes[index] = (value(parameters + step) - value(parameters - step)) / 2e-6
    with_ones = np.column_stack([features, np.ones(len(features))])
    curvature = with_ones.T @ with_ones / len(features) / 4 + np.diag([0.1] * 5 + [0])
    centering = np.eye(6)
    centering[5, :5] = -features.mean(axis=0)  # a change of weights that keeps the mean logit
    slopes = slopes @ centering
    curvature = centering.T @ curvature @ centering
    gain = np.einsum("kf,fg,kg", slopes, np.linalg.inv(curvature), slopes)
    assert probe.objective_ == pytest.approx(value(parameters), rel=1e-12)
    assert probe.gradient_norm_ == pytest.approx(gain**0.5, rel=1e-5)


def test_the_total_variance_is_that_of_each_layer_and_one_where_nothing_varies():
    features = np.random.default_rng(0).normal(size=(50, 2, 3)).astype(np.float32)
    features[:, 1] = 7
    wanted = np.square(features[:, 0] - features[:, 0].mean(axis=0)).sum() / 50
    np.testing.assert_allclose(total_variance(features), [wanted, 1.0], rtol=1e-6)


def test_labels_may_be_any_integers():
    features, labels = overlapping_classes(classes=3)
    named = np.array([3, 7, 9], dtype=np.uint8)[labels]
    probe, plain = LinearProbe().fit(features, named), LinearProbe().fit(features, labels)
    assert probe.classes_.tolist() == [3, 7, 9]
    assert set(probe.predict(features)) == {3, 7, 9}
    np.testing.assert_array_equal(probe.weight_, plain.weight_)
    assert probe.score(features, named) == plain.score(features, labels)


def test_probabilities_are_the_softmax_of_the_decision():
    features, labels = overlapping_classes()
    probe = LinearProbe().fit(features, labels)
    exponentials = np.exp(probe.decision_function(features))
    expected = exponentials / exponentials.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(probe.predict_proba(features), expected, rtol=1e-10)
    np.testing.assert_array_equal(probe.predict(features), expected.argmax(axis=1))


def test_the_features_of_the_caller_are_left_alone():
    features, labels = overlapping_classes()
    features.setflags(write=False)
    LinearProbe().fit(features[::-1], labels[::-1])


def test_what_cannot_be_fitted_is_refused():
    features, labels = overlapping_classes()
    broken = features.copy()
    broken[[5, 8], 1] = np.nan, np.inf
    with pytest.raises(DataError, match="2 of 400 records are not, record 5 the first"):
        LinearProbe().fit(broken, labels)
    with pytest.raises(DataError, match="400 rows of features and 399 labels"):
        LinearProbe().fit(features, labels[1:])
    with pytest.raises(DataError, match=r"2 classes or more, got labels \[3\]"):
        LinearProbe().fit(features, np.full(400, 3))
    with pytest.raises(DataError, match="2 classes or more, got labels"):
        LinearProbe().fit(features[:0], labels[:0])
    with pytest.raises(ConfigError, match="l2 must be positive and finite, got 0"):
        LinearProbe(0.0).fit(features, labels)
    with pytest.raises(ConfigError, match=r"got -1\.0"):
        LinearProbe().fit_path(features, labels, [1.0, -1.0])


def test_features_of_another_width_are_refused():
    features, labels = overlapping_classes()
    probe = LinearProbe().fit(features, labels)
    with pytest.raises(DataError, match="7 features, but LinearProbe is expecting 8"):
        probe.score(features[:, 1:], labels)
    with pytest.raises(DataError, match="for 8 features, but these records have 7"):
        LinearProbe().fit(features[:, 1:], labels, start=probe)


def test_not_finite_features_are_refused_by_a_fitted_probe_too():
    features, labels = overlapping_classes()
    probe = LinearProbe().fit(features, labels)
    with pytest.raises(DataError, match="1 of 1 records are not"):
        probe.predict([[np.nan] * 8])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"tolerance": 0.0}, "tolerance must be positive, got 0"),
        ({"dtype": "float16"}, "dtype must be 'float64' or 'float32', got 'float16'"),
    ],
)
def test_settings_that_cannot_be_are_refused_when_fitted_and_not_before(settings, message):
    probe = LinearProbe().set_params(**settings)
    with pytest.raises(ConfigError, match=message):
        probe.fit(*overlapping_classes())


# As one of scikit-learn's own


FAILED_HERE = {
    "check_do_not_raise_errors_in_init_or_set_params": "tests check the types of arguments, and "
    "only tests do; tests/runs/test_image_features.py checks it where they are not"
}


@parametrize_with_checks([LinearProbe()], expected_failed_checks=lambda _: FAILED_HERE)
def test_scikit_learn_finds_nothing_wrong(estimator, check):
    check(estimator)


def test_it_goes_into_pipelines_grids_and_cross_validation():
    features, labels = overlapping_classes()
    pipeline = make_pipeline(StandardScaler(), LinearProbe())
    scores = cross_val_score(pipeline, features, labels, cv=4)
    assert scores.shape == (4,)
    assert scores.min() > 0.3
    grid = GridSearchCV(LinearProbe(), {"l2": [1e3, 1e-2]}, cv=3).fit(features, labels)
    assert grid.best_params_ == {"l2": 1e-2}
    by_area = cross_val_score(LinearProbe(), features, labels == 1, scoring="roc_auc", cv=3)
    assert by_area.min() > 0.6


def test_texts_are_labels_as_good_as_numbers():
    features, labels = overlapping_classes(classes=3)
    named = np.array(["cat", "dog", "cow"])[labels]
    probe, plain = LinearProbe().fit(features, list(named)), LinearProbe().fit(features, labels)
    assert probe.classes_.tolist() == ["cat", "cow", "dog"]
    assert probe.score(features, named) == plain.score(features, labels)


def test_of_two_classes_the_decision_is_one_number_whose_sign_decides():
    features, labels = overlapping_classes(classes=2)
    probe = LinearProbe().fit(features, labels)
    decision = probe.decision_function(features)
    odds = probe.predict_proba(features)
    np.testing.assert_allclose(decision, np.log(odds[:, 1] / odds[:, 0]), rtol=1e-8)
    np.testing.assert_array_equal(decision > 0, probe.predict(features) == 1)


def test_a_probe_is_shown_by_what_was_set_and_copied_without_what_was_learned():
    probe = LinearProbe(0.01, max_iterations=7)
    assert repr(probe) == "LinearProbe(l2=0.01, max_iterations=7)"
    copied = clone(probe.fit(*overlapping_classes()))
    assert copied.get_params() == probe.get_params()
    with pytest.raises(NotFittedError):
        copied.predict(overlapping_classes()[0])


def test_a_path_leaves_the_probe_it_was_asked_of_unfitted():
    features, labels = overlapping_classes()
    probe = LinearProbe()
    strong, weak = probe.fit_path(features, labels, [1.0, 1e-2])
    assert strong.n_features_in_ == weak.n_features_in_ == 8
    with pytest.raises(NotFittedError):
        probe.predict(features)


def test_a_fitted_probe_outlasts_pickling():
    features, labels = overlapping_classes()
    probe = LinearProbe().fit(features, labels)
    again = pickle.loads(pickle.dumps(probe))
    np.testing.assert_array_equal(again.predict_proba(features), probe.predict_proba(features))


def test_names_of_features_are_kept_and_held_against():
    features, labels = overlapping_classes()
    frame = pandas.DataFrame(features, columns=list("abcdefgh"))
    probe = LinearProbe().fit(frame, labels)
    assert probe.feature_names_in_.tolist() == list("abcdefgh")
    with pytest.raises(DataError, match="feature names should match"):
        probe.predict(frame[list("hgfedcba")])


def test_records_count_for_the_accuracy_as_much_as_they_weigh():
    features, labels = overlapping_classes()
    probe = LinearProbe().fit(features, labels)
    right = probe.predict(features) == labels
    assert probe.score(features, labels, sample_weight=right) == 1.0
