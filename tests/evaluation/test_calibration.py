"""Probabilities that mean what they say."""

import numpy as np
import pytest
from scipy.special import softmax
from tests.conftest import blobs

from igpt.evaluation.calibration import (
    calibrated,
    expected_calibration_error,
    fit_temperature,
    smoothed_loss,
)
from igpt.evaluation.logistic import LinearProbe


def drawn(temperature, records=2000, classes=3, seed=0):
    """Logits and labels whose right temperature is this one."""
    generator = np.random.default_rng(seed)
    logits = 2 * generator.normal(size=(records, classes))
    labels = [generator.choice(classes, p=row) for row in softmax(logits / temperature, axis=1)]
    return logits, np.array(labels)


@pytest.mark.parametrize("temperature", [0.3, 1.0, 4.0])
def test_the_temperature_is_that_of_a_search_through_a_fine_grid(temperature):
    logits, labels = drawn(temperature)
    found = fit_temperature(logits, labels)
    grid = np.exp(np.linspace(-3, 3, 2001))
    best = grid[np.argmin([smoothed_loss(one, logits, labels) for one in grid])]
    assert found == pytest.approx(best, rel=3e-3)
    assert found == pytest.approx(temperature, rel=0.2)


def test_what_is_always_right_is_not_taken_for_certain():
    logits = 30 * np.eye(4)[np.arange(20) % 4]
    labels = np.arange(20) % 4
    sure = softmax(logits / fit_temperature(logits, labels), axis=1).max()
    # one record's worth of doubt in 22, a quarter of it on the right class
    assert sure == pytest.approx(1 - 3 / 4 / 22, abs=1e-3)
    assert fit_temperature(logits[:0], labels[:0]) == 1.0


def test_the_error_is_the_gap_between_sureness_and_being_right_in_each_bin():
    probabilities = np.array([[0.9, 0.1], [0.95, 0.05], [0.45, 0.55], [0.4, 0.6]])
    labels = np.array([0, 1, 1, 0])
    # bins of 0.5 to 0.75 and 0.75 to 1: half right in each, sure of 0.575 and 0.925
    found = expected_calibration_error(probabilities, labels, bins=4)
    assert found == pytest.approx((2 * abs(0.5 - 0.925) + 2 * abs(0.5 - 0.575)) / 4)


def test_a_probe_that_is_too_sure_is_calibrated_on_what_it_has_not_seen():
    features, labels = blobs(200, spread=0.7)
    probe = LinearProbe(1e-6).fit(features[:60], labels[:60])
    test = blobs(2000, spread=0.7, seed=1)
    found = calibrated(probe, test, by=probe, held_out=(features[60:], labels[60:]))
    assert found.temperature > 1
    assert found.images == 140
    assert found.error < found.error_before
    assert found.log_loss < found.log_loss_before
