import time

import pytest

from igpt.amounts import counted, estimate, size_text, spoken, until

HOUR, DAY = 3600, 86_400


@pytest.mark.parametrize(
    ("number", "text"), [(0, "0 classes"), (1, "1 class"), (1440, "1,440 classes")]
)
def test_one_is_no_plural(number, text):
    assert counted(number, "class", "classes") == text
    assert counted(number, "layer").endswith("layer" if number == 1 else "layers")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.3, "less than a second"),
        (1, "1 second"),
        (89, "89 seconds"),
        (90, "2 minutes"),
        (21 * 60, "21 minutes"),
        (80 * 60, "80 minutes"),
        (1.5 * HOUR, "1.5 hours"),
        (3 * HOUR, "3 hours"),
        (20 * HOUR, "20 hours"),
        (1_505_465, "17 days"),
        (2 * 365 * DAY, "2 years"),
        (34_338.6 * 365 * DAY, "more than 100 years"),
        (float("inf"), "more than 100 years"),
    ],
)
def test_a_duration_is_told_in_the_unit_that_fits(seconds, text):
    assert spoken(float(seconds)) == text


def test_an_end_has_the_day_if_it_is_not_today_s():
    now = time.mktime((2026, 11, 26, 16, 19, 0, 0, 0, -1))  # a Thursday
    assert estimate(21.0 * 60, now=now) == "about 21 minutes, until 16:40"
    assert until(10.0 * HOUR, now=now) == "Friday 02:19"
    assert until(17.0 * DAY, now=now) == "2026-12-13"
    assert estimate(3.0 * 365 * DAY, now=now) == "about 3 years"  # nobody waits for that day


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (896, "896 B"), (1200, "1.2 kB"), (34_000_000, "34 MB"), (5e15, "5000 TB")],
)
def test_a_size_is_told_in_the_unit_that_fits(count, text):
    assert size_text(int(count)) == text
