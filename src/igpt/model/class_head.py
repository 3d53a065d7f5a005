"""A class head that learns on mapped features, and is a plain linear head once it is saved.

Pooled features are ill-conditioned: nearly all of their length is one direction that every image
shares, and classes differ by a thousandth of it. A head on the raw features hardly moves at the
rates that suit a network. So it learns on features of mean zero and variance one, by a map that is
fixed before the first step; what the map is, `igpt.evaluation.probed_head` decides.

As map and head are both linear and without bias, their product is a head on raw features, which is
all that a model's folder holds: whoever loads it need not know that there was a map.
"""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


class MappedHead(nn.Module):
    """logits = weight · map · features; the weight learns, and the map does not."""

    map: Float[Tensor, "mapped width"]

    def __init__(
        self, map: Float[Tensor, "mapped width"], weight: Float[Tensor, "label mapped"]
    ) -> None:
        super().__init__()
        self.register_buffer("map", map)
        self.weight = nn.Parameter(weight)

    def forward(self, features: Float[Tensor, "batch width"]) -> Float[Tensor, "batch label"]:
        """Return the logits of each class."""
        return F.linear(F.linear(features, self.map), self.weight)


def fold(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return a network's weights by name, with the map of its class head folded into the head."""
    if "class_head.map" not in weights:
        return weights
    weights = dict(weights)
    head, map = weights["class_head.weight"], weights.pop("class_head.map")
    weights["class_head.weight"] = (head.double() @ map.double()).to(head.dtype)
    return weights
