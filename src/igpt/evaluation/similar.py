"""Images like these: the nearest neighbors of an image in a network's features.

    near = nearest(features, queries, count=5)
    near.numbers[0], near.distances[0]      # of the first query's neighbors, the nearest first

Near is by the cosine between features whose mean over the searched images is zero and whose
standard deviation is one: the raw features of different images all point the same way, for nearly
all of their length is a direction that every image shares.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float64, Int64
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import StandardScaler

from igpt.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Neighbors:
    """The nearest of some images, for each query."""

    numbers: Int64[np.ndarray, "query neighbor"]
    """Which images, the nearest first."""
    distances: Float64[np.ndarray, "query neighbor"]
    """One minus the cosine: 0 for the same direction, 1 for none in common, 2 for the opposite."""


def nearest(
    features: Float[np.ndarray, "image feature"],
    queries: Float[np.ndarray, "query feature"],
    *,
    count: int = 5,
) -> Neighbors:
    """Return which images are most like each query.

    Args:
        features: Of the images that are searched.
        queries: Of those to find the like of, from the same layer of the same network.
        count: Neighbors of each.

    Raises:
        ConfigError: There are not so many images.
    """
    if not 1 <= count <= len(features):
        raise ConfigError(
            f"neighbors are counted from 1 to the {len(features)} images there are, got {count}"
        )
    scaler = StandardScaler().fit(features.astype(np.float64))
    search = NearestNeighbors(n_neighbors=count, metric="cosine", algorithm="brute")
    search.fit(scaler.transform(features.astype(np.float64)))
    distances, numbers = search.kneighbors(scaler.transform(queries.astype(np.float64)))
    return Neighbors(numbers=numbers.astype(np.int64), distances=distances.astype(np.float64))
