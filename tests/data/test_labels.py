import datetime
import math

import pytest

from igpt.data.labels import read_labels, renamed
from igpt.errors import ConfigError, DataError


@pytest.mark.parametrize(
    ("values", "numbers", "names"),
    [
        (["b", "a"], [1, 0], ("a", "b")),
        ([10, 9], [1, 0], ("9", "10")),  # in the order of numbers, not of words
        (["10", "9", "0"], [2, 1, 0], ("0", "9", "10")),  # so are texts of them, as in a table
        (["10", "9", "09"], [1, 2, 0], ("09", "10", "9")),  # but not what is no number's text
        ([True, False], [1, 0], ("False", "True")),
        ([2.0, 0.0], [1, 0], ("0", "2")),
        ([1, -1], [1, 0], ("-1", "1")),
        (["cafe\u0301", "caf\u00e9"], [0, 0], ("caf\u00e9",)),
    ],
)
def test_plain_values_are_classes(values, numbers, names):
    labels, class_names = read_labels("x", values)
    assert (labels.tolist(), class_names) == (numbers, names)


def test_words_of_digits_may_stay_in_alphabetical_order():
    numbers, names = read_labels("x", ["10", "9"], alphabetical=True)
    assert (numbers.tolist(), names) == ([0, 1], ("10", "9"))


@pytest.mark.parametrize("values", [[None, None], [-1, -1], ["", ""], [math.nan], []])
def test_labels_that_are_all_withheld_are_none(values):
    assert read_labels("x", values) == (None, None)


def test_numbers_of_names_are_kept_with_names_that_no_record_has():
    labels, names = read_labels("x", [2, 0], ["a", "b", "c"])
    assert (labels.tolist(), names) == ([2, 0], ("a", "b", "c"))


@pytest.mark.parametrize(
    ("values", "names", "message"),
    [
        ([0, -1, 1], None, "x has labels for 2 of its 3 records"),
        (["a", None], None, "x has labels for 1 of its 2 records"),
        ([0, 3], ["a", "b"], "x has the label 3, outside its 2 names"),
        ([-1, 1], ["a", "b"], "x has labels for 1 of its 2 records"),
        ([[0, 1]], None, "several labels a record"),
        ([0.5], None, "labels such as 0.5"),
        ([math.inf], None, "labels such as inf"),
        ([datetime.date(2020, 1, 1)], None, "labels such as datetime"),
        ([1, "a"], None, "mixes numbers and words"),
    ],
)
def test_what_is_no_class_is_refused_with_the_way_on(values, names, message):
    with pytest.raises(DataError, match=rf"{message}.*--no-labels"):
        read_labels("x", values, names)


def test_classes_are_renamed_and_keep_their_numbers():
    assert renamed(("a", "b", "c"), ["b=bee", "a=x=y"]) == ("x=y", "bee", "c")
    assert renamed(("a", "b"), ["a=b", "b=a"]) == ("b", "a")
    assert renamed(None, []) is None


@pytest.mark.parametrize(
    ("names", "change", "message"),
    [
        (("cat", "dog"), "cta=tom", "no class is called 'cta'; did you mean 'cat'"),
        (("cat", "dog"), "cat=dog", "two classes would be called 'dog'"),
        (None, "cat=dog", "there are no labels"),
    ],
)
def test_a_class_that_cannot_be_renamed_is_refused(names, change, message):
    with pytest.raises(ConfigError, match=message):
        renamed(names, [change])
