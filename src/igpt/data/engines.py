"""Who does the work on the images of a source: threads here, or the processes of a cluster.

    for read in Threads(workers=8).map(Squaring(config), split, numbers):
        ...                              # what was made of each image, in the order of `numbers`

The work is a function of some images and their numbers alone, so whoever does it, the outcome is
the same. `igpt.data.on_ray` has an engine for sets that outgrow a machine.
"""

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol, TypeVar, runtime_checkable

import numpy as np
from jaxtyping import Int64

from igpt.data.sources import SourceImage, SourceSplit
from igpt.pixels.decoding import DecodingBudget

_CHUNK = 8  # images a thread takes at a time: small ones are read faster than they are handed out

Outcome = TypeVar("Outcome")
Work = Callable[[Callable[[int], SourceImage], Sequence[int]], list[Outcome]]
"""Given what gives the image of a number, and some numbers, returns the outcome of each. It may be
sent to another process."""


@runtime_checkable
class Engine(Protocol):
    """Does some work on all of many images."""

    @property
    def budget(self) -> DecodingBudget | None:
        """What bounds the memory of images decoded at the same time; None for each by itself."""

    def map(
        self, work: Work[Outcome], split: SourceSplit, numbers: Int64[np.ndarray, " image"]
    ) -> Iterator[Outcome]:
        """Yield the outcome for each image in order, with a bounded number of them under way.

        Raises:
            ConfigError: The engine cannot read these images.
        """
        ...


class Threads:
    """Threads of this process, since what decodes and resamples lets others run meanwhile."""

    def __init__(self, workers: int | None = None) -> None:
        """Have `workers` of them, one for each core by default."""
        self.budget = DecodingBudget()
        self._workers = workers or os.cpu_count() or 1

    def map(
        self, work: Work[Outcome], split: SourceSplit, numbers: Int64[np.ndarray, " image"]
    ) -> Iterator[Outcome]:
        """Yield the outcome for each image in order, with a bounded number of them under way."""
        with ThreadPoolExecutor(self._workers) as pool:
            under_way: deque[Future[list[Outcome]]] = deque()
            for start in range(0, len(numbers), _CHUNK):
                chunk = numbers[start : start + _CHUNK].tolist()
                under_way.append(pool.submit(work, split.image, chunk))
                if len(under_way) > 4 * self._workers:
                    yield from under_way.popleft().result()
            while under_way:
                yield from under_way.popleft().result()
