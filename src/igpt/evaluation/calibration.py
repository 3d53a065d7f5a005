"""Calibration: what a probe's probabilities have to be raised to so that they mean what they say.

A probe is chosen to be right as often as can be, not to know how sure it may be. One number mends
most of that: all logits are divided by a temperature, which no ranking of the classes feels (Guo et
al. 2017, "On Calibration of Modern Neural Networks", ICML, section 4.2). It is fitted on validation
images, by the probe that learned from the training images alone: of those that a probe has seen, it
is always too sure.

    temperature = fit_temperature(logits, labels)
    expected_calibration_error(softmax(logits / temperature, axis=1), labels)
"""

import numpy as np
from jaxtyping import Float, Integer
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax
from sklearn.metrics import log_loss

from igpt.evaluation.logistic import LinearProbe
from igpt.model.kept_probe import Calibration

TEMPERATURES = (1e-3, 1e3)
"""The lowest and the highest that are tried. A strong penalty leaves logits far too small."""

BINS = 15
"""Of sureness, from 0 to 1, in the expected calibration error; as in Guo et al."""

_Labelled = tuple[Float[np.ndarray, "_record _feature"], Integer[np.ndarray, " _record"]]


def smoothed_loss(
    temperature: float,
    logits: Float[np.ndarray, "record label"],
    labels: Integer[np.ndarray, " record"],
) -> float:
    """Return the mean cross entropy at a temperature, with one record's worth of doubt.

    Of n records, a part of 1 / (n + 2) of what is right is spread over all classes: where a probe
    is right of all of 20 validation images, that does not show that it is never wrong (as in Platt
    1999, "Probabilistic Outputs for Support Vector Machines", section 2.2).

    Args:
        temperature: By which logits are divided.
        logits: Of each class.
        labels: Index of the right class of each; one that is no class of theirs is left out.
    """
    doubt = 1 / (len(labels) + 2)
    logs = log_softmax(logits / temperature, axis=1)
    right = logs[np.arange(len(labels)), labels]
    return float(-((1 - doubt) * right + doubt * logs.mean(axis=1)).mean())


def fit_temperature(
    logits: Float[np.ndarray, "record label"], labels: Integer[np.ndarray, " record"]
) -> float:
    """Return the temperature of the least `smoothed_loss`; 1 where there are no records.

    Arguments as there.
    """
    if not len(labels):
        return 1.0
    low, high = np.log(TEMPERATURES)
    found = minimize_scalar(
        lambda power: smoothed_loss(float(np.exp(power)), logits, labels),
        bounds=(low, high),
        method="bounded",
    )
    return float(np.exp(found.x))


def expected_calibration_error(
    probabilities: Float[np.ndarray, "record label"],
    labels: Integer[np.ndarray, " record"],
    *,
    bins: int = BINS,
) -> float:
    """Return how far the probability of the likeliest class is from how often it is right.

    The mean over bins of like probabilities, weighed by the records in them.

    Args:
        probabilities: Of each class.
        labels: Index of the right class of each record.
        bins: Of equal width, from 0 to 1.
    """
    sure = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == labels
    number = np.minimum((sure * bins).astype(int), bins - 1)
    gaps = np.bincount(number, weights=right - sure, minlength=bins)
    return float(np.abs(gaps).sum() / len(labels))


def calibrated(
    probe: LinearProbe, test: _Labelled, *, by: LinearProbe, held_out: _Labelled
) -> Calibration:
    """Return at which temperature a probe's probabilities mean most, and how much.

    Args:
        probe: The one to calibrate.
        test: What is measured: features and labels.
        by: The same probe, fitted to less.
        held_out: What the temperature is fitted on: features and labels that `by` has not seen.
    """
    logits, labels = _known(by, held_out)
    temperature = fit_temperature(logits, labels)
    tested, truth = _known(probe, test)
    measured = {}
    for name, divided in (("_before", tested), ("", tested / temperature)):
        probabilities = softmax(divided, axis=1)
        measured[f"error{name}"] = expected_calibration_error(probabilities, truth)
        classes = np.arange(probabilities.shape[1])
        measured[f"log_loss{name}"] = float(log_loss(truth, probabilities, labels=classes))
    return Calibration(temperature=temperature, images=len(labels), **measured)


def _known(
    probe: LinearProbe, records: _Labelled
) -> tuple[Float[np.ndarray, "record label"], Integer[np.ndarray, " record"]]:
    """Return logits and class indices of the records whose class the probe has learned."""
    features, labels = records
    known = np.isin(labels, probe.classes_)
    # of every class: `decision_function` has one number for two
    logits = features[known].astype(np.float64) @ probe.weight_.T + probe.intercept_
    return logits, np.searchsorted(probe.classes_, labels[known])
