"""Table 1: features learned from other images, without labels, against supervised networks' ones.

Where pretraining has another source than the labels, that is the transfer; or else a network learns
from the images of half of the classes, and is probed on the other half. The supervised network
(`igpt.claims.convnet`) learns the labels of the images that pretraining saw, and its features are
probed like ours. The paper's is a ResNet-152; ours is small, and says so.
"""

from dataclasses import dataclass

from igpt.claims.claim import Claim, Control, Part
from igpt.claims.controls import inner_penalties, past_plateau
from igpt.claims.convnet import convnet_accuracy, pooled_features, train_convnet
from igpt.claims.display import bars
from igpt.claims.laboratory import Laboratory
from igpt.claims.scale import OTHER_CLASSES, Scale
from igpt.data.store import RecordStore
from igpt.errors import DataError
from igpt.evaluation.probe import LayerProbes
from igpt.evaluation.protocol import probe_features
from igpt.evaluation.solvers import solver_named
from igpt.processes import choose_device


@dataclass(frozen=True, kw_only=True)
class Supervised:
    """What a convolutional network that learned the source's labels is worth."""

    source_accuracy: float
    """On the source's own test images."""
    chance: float
    """Of the source's classes."""
    target_accuracy: float
    """Of a probe of its features on the target's test images."""


@dataclass(frozen=True, kw_only=True)
class Measured:
    """Test accuracies on the target."""

    probe: LayerProbes
    """Of the network pretrained on the source, and of raw pixels."""
    untrained: float
    """Of the same network with fresh weights, its best layer."""
    supervised: Supervised
    under_plateau: float | None


def _network(scale: Scale) -> str:
    return "base" if scale.other_source else OTHER_CLASSES


def _measure(laboratory: Laboratory, seed: int) -> Measured:
    network = _network(laboratory.scale)
    probe = laboratory.probe(network, seed)
    return Measured(
        probe=probe,
        untrained=laboratory.untrained(network, seed).test_accuracy,
        supervised=laboratory.kept(
            f"convnet-seed{seed}", Supervised, lambda: _supervised(laboratory, seed)
        ),
        under_plateau=laboratory.under_plateau(network, seed),
    )


def _supervised(laboratory: Laboratory, seed: int) -> Supervised:
    if laboratory.scale.other_source:
        places = (laboratory.store(seed), laboratory.labelled_store(seed))
    else:
        places = (laboratory.half("first", seed), laboratory.half("second", seed))
    source, target = (RecordStore.open(place) for place in places)
    if source.class_names is None:
        raise DataError(
            f"{source.path} has no labels for a supervised network to learn; give a labelled "
            "store as --data"
        )
    scale, device = laboratory.scale, choose_device(laboratory.device)
    size = scale.recipe_of("base").model.image_size
    network = train_convnet(
        source.split("train"), image_size=size, seed=seed, epochs=scale.convnet_epochs,
        device=str(device),
    )  # fmt: skip
    parts = [target.split(name) for name in ("train", "validation", "test")]
    train, validation, test = (
        (pooled_features(network, part, image_size=size)[:, None], part.require_labels())
        for part in parts
    )
    solver = solver_named("lbfgs", records=len(parts[0]), seed=seed, device=str(device))
    (fit,) = probe_features(solver, train, validation, test, title="supervised features")
    return Supervised(
        source_accuracy=convnet_accuracy(network, source.split("test"), image_size=size),
        chance=1 / len(source.class_names),
        target_accuracy=fit.test_accuracy,
    )


def _raw(measured: Measured) -> float:
    assert measured.probe.raw_pixels is not None
    return measured.probe.raw_pixels.test_accuracy


def _rows(measured: Measured) -> dict[str, float]:
    return {
        "raw\npixels": _raw(measured),
        "untrained": measured.untrained,
        "pretrained\nelsewhere": measured.probe.test_accuracy,
        "supervised\nelsewhere": measured.supervised.target_accuracy,
    }


CLAIM = Claim[Measured](
    name="transfer",
    title="Features carry over to other images, as far as supervised ones",
    source="table 1, section 4.3",
    paper="Probes of iGPT-L, pretrained on ImageNet without labels, reach 96.3 % on CIFAR-10, "
    "82.8 % on CIFAR-100 and 95.5 % on STL-10; of a ResNet-152 that learned ImageNet's labels 94 % "
    "on CIFAR-10 and 78.0 % on CIFAR-100.",
    networks=lambda scale: [_network(scale)],
    measure=_measure,
    parts=(
        Part(
            name="over-raw",
            statement="features learned from other images beat raw pixels",
            quantity="probe accuracy pretrained elsewhere minus that of raw pixels",
            value=lambda measured: measured.probe.test_accuracy - _raw(measured),
        ),
        Part(
            name="over-untrained",
            statement="and those of fresh weights",
            quantity="probe accuracy pretrained elsewhere minus that of the untrained network",
            value=lambda measured: measured.probe.test_accuracy - measured.untrained,
        ),
        Part(
            name="over-supervised",
            statement="and those of a network that learned the other images' labels",
            paper="+2.3 (CIFAR-10), +4.8 (CIFAR-100), over a ResNet-152",
            quantity="probe accuracy pretrained elsewhere minus that of a small convolutional "
            "network's features, supervised elsewhere",
            value=lambda measured: (
                measured.probe.test_accuracy - measured.supervised.target_accuracy
            ),
        ),
    ),
    controls=(
        past_plateau(lambda measured: measured.under_plateau),
        inner_penalties(lambda measured: int(bool(measured.probe.best.at_edge))),
        Control(
            name="supervised",
            statement="the supervised network has learned its labels",
            quantity="half of the way from chance to all right, which its accuracy exceeds",
            at_least=0.0,
            parts=("over-supervised",),
            value=lambda measured: (
                measured.supervised.source_accuracy - (1 + measured.supervised.chance) / 2
            ),
        ),
    ),
    rows=_rows,
    draw=lambda axes, seeds: bars(axes, [_rows(measured) for measured in seeds]),
    below="paper, CIFAR-10: iGPT-L 96.3, ResNet-152 94",
)
