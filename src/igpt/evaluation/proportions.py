"""How sure an accuracy is: so many right of so many images, and what that tells.

    share = Share.of(0.533, 60)
    share.interval                        # Wilson's, at 95 %: (0.409, 0.654)
    share.compared_with(Share(36, 60))    # "open": their difference may be nothing

An accuracy on a few images is a guess at the accuracy on all such images. How far off it may be is
told by Wilson's score interval (Wilson 1927), which is right for few images and near 0 and 1, too.
Two accuracies differ where Newcombe's interval of their difference, made of the two Wilson
intervals, leaves out 0 (Newcombe 1998, "Interval estimation for the difference between independent
proportions", Statistics in Medicine 17, method 10).

That interval is for images that were drawn independently. Here both classifiers answer the same
images, of which only the counts are kept: as they mostly find the same ones hard, their difference
is surer than it says, and a difference that is called one, is one. A paired test would see some
that this one leaves open.
"""

import bisect
import math
from dataclasses import dataclass
from typing import Literal

from scipy.stats import binomtest

CONFIDENCE = 0.95

Comparison = Literal["better", "worse", "open"]


@dataclass(frozen=True)
class Share:
    """So many right of so many."""

    right: int
    total: int

    @classmethod
    def of(cls, share: float, total: int) -> "Share":
        """Return the count behind a share of so many, or behind the mean of several such shares."""
        return cls(round(share * total), total)

    @property
    def value(self) -> float:
        """The share itself."""
        return self.right / self.total

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's score interval at `CONFIDENCE`."""
        found = binomtest(self.right, self.total).proportion_ci(CONFIDENCE, method="wilson")
        return float(found.low), float(found.high)

    def difference_interval(self, other: "Share") -> tuple[float, float]:
        """Return Newcombe's interval at `CONFIDENCE` of this share less the other."""
        (low, high), (other_low, other_high) = self.interval, other.interval
        difference = self.value - other.value
        return (
            difference - math.hypot(self.value - low, other_high - other.value),
            difference + math.hypot(high - self.value, other.value - other_low),
        )

    def compared_with(self, other: "Share") -> Comparison:
        """Return whether this is surely more than the other, surely less, or neither."""
        low, high = self.difference_interval(other)
        return "better" if low > 0 else "worse" if high < 0 else "open"

    @property
    def smallest_difference(self) -> float:
        """From which difference on two shares of so many, this one between them, can be told."""

        def told(right: int) -> bool:
            first = max(0, min(self.right - right // 2, self.total - right))
            return (
                Share(first + right, self.total).compared_with(Share(first, self.total)) != "open"
            )

        return bisect.bisect_left(range(self.total), True, key=told) / self.total
