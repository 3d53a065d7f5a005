"""Table 2: several layers together are better features than the best one alone."""

from igpt.claims.claim import Claim, Part
from igpt.claims.controls import inner_penalties
from igpt.claims.display import bars
from igpt.evaluation.probe import JointProbe, LayerProbes


def _joint(probe: LayerProbes) -> JointProbe:
    assert probe.concatenated is not None
    return probe.concatenated


def _accuracies(probe: LayerProbes) -> dict[str, float]:
    joint = _joint(probe)
    several = f"{len(joint.layers)} layers around it"
    return {"best layer": probe.test_accuracy, several: joint.test_accuracy}


CLAIM = Claim[LayerProbes](
    name="more-features",
    title="Several layers together beat the best one",
    source="table 2, section 4.4",
    paper="Five layers of iGPT-XL, centered on the best one, as one feature: 72.0 % against 68.7 % "
    "on ImageNet.",
    measure=lambda laboratory, seed: laboratory.probe("base", seed),
    parts=(
        Part(
            name="together",
            statement="layers around the best one, taken together, are better features",
            paper="+3.3",
            quantity="accuracy of the layers together minus that of the best layer",
            value=lambda probe: _joint(probe).test_accuracy - probe.test_accuracy,
        ),
    ),
    controls=(
        inner_penalties(lambda probe: bool(probe.best.at_edge) + bool(_joint(probe).at_edge)),
    ),
    rows=_accuracies,
    draw=lambda axes, seeds: bars(axes, [_accuracies(probe) for probe in seeds]),
    below="paper, iGPT-XL on ImageNet: 68.7 and 72.0 (5 layers)",
)
