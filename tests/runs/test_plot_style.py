"""One style of plot, for light paper and for dark."""

import matplotlib
import pytest

from igpt.runs.plots import INK, run_colors


def luminance(color: str) -> float:
    """Relative luminance, as the Web Content Accessibility Guidelines define it."""
    shares = matplotlib.colors.to_rgb(color)
    light = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in shares]
    return 0.2126 * light[0] + 0.7152 * light[1] + 0.0722 * light[2]


def contrast(color: str, paper: str) -> float:
    high, low = sorted((luminance(color), luminance(paper)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("count", [1, 8, 9, 30])
def test_every_color_can_be_read_by_day_and_by_night(count):
    for color in (INK, *run_colors(count)):
        assert contrast(color, "#ffffff") >= 3  # what the guidelines ask of graphics
        assert contrast(color, "#14181d") >= 3


@pytest.mark.parametrize("count", [1, 8, 9, 30])
def test_every_run_has_a_color_of_its_own(count):
    assert len(set(run_colors(count))) == count
