"""Section 4.4: features get better with the input resolution."""

from igpt.claims.claim import Claim, Part, growth
from igpt.claims.controls import all_past_plateau, inner_penalties
from igpt.claims.display import curve
from igpt.claims.laboratory import Laboratory
from igpt.claims.networks import Network

Measured = dict[int, Network]
"""By the images' side in pixels, rising."""


def _measure(laboratory: Laboratory, seed: int) -> Measured:
    scale = laboratory.scale
    return {
        scale.recipe_of(network).model.image_size: laboratory.network(network, seed)
        for network in scale.resolutions
    }


def _accuracies(measured: Measured) -> dict[int, float]:
    return {side: network.test_accuracy for side, network in measured.items()}


CLAIM = Claim[Measured](
    name="resolution",
    title="More pixels, better features",
    source="section 4.4, table 2",
    paper="On ImageNet iGPT-L's best layer reaches 60.3 % at 32x32 and 65.2 % at 48x48, and "
    "iGPT-XL's 68.7 % at 64x64.",
    networks=lambda scale: scale.resolutions,
    measure=_measure,
    parts=(
        Part(
            name="grows",
            statement="probe accuracy grows with the input resolution",
            paper="+4.9 from 32 to 48",
            quantity="accuracy at the highest resolution minus at the lowest",
            value=growth(lambda network: network.test_accuracy),
        ),
    ),
    controls=(
        all_past_plateau(lambda networks: list(networks.values())),
        inner_penalties(lambda networks: sum(row.edge for row in networks.values())),
    ),
    rows=_accuracies,
    head="pixels a side",
    draw=lambda axes, seeds: curve(axes, [_accuracies(measured) for measured in seeds]),
    below="pixels a side (paper, ImageNet: L at 32 60.3, L at 48 65.2, XL at 64 68.7)",
)
