"""Which classes are taken for which."""

import numpy as np

from igpt.evaluation.confusion import confusion


def test_images_of_each_class_are_counted_by_what_they_were_taken_for():
    labels, predicted = np.array([0, 0, 0, 1, 3]), np.array([0, 1, 0, 1, 0])
    assert confusion(labels, predicted, classes=4) == (
        (2, 1, 0, 0), (0, 1, 0, 0), (0, 0, 0, 0), (1, 0, 0, 0),
    )  # fmt: skip


def test_of_over_a_hundred_classes_no_table_is_kept():
    labels = np.arange(101)
    assert confusion(labels, labels, classes=101) is None
    assert len(confusion(labels[:100], labels[:100], classes=100)) == 100
