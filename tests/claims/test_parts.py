"""Every claim's numbers by hand, from made-up measurements."""

import dataclasses

import pytest

from igpt.claims import (
    ablations,
    depth,
    fine_tuning,
    loss_and_probe,
    objectives,
    palette,
    transfer,
)
from igpt.claims.ablations import spikes
from igpt.claims.networks import Network
from igpt.claims.reproduce import CLAIMS, judged
from igpt.claims.scale import SCALES
from igpt.evaluation.few_labels import Accuracies, FewLabelsResult, FewLabelsRow
from igpt.evaluation.masks import MasksResult
from igpt.evaluation.probe import JointProbe, LayerProbe, LayerProbes, ProbeFit
from igpt.runs.along import Along, Snapshot


def values(claim, measured):
    """Return one seed's number for each part, None for what could not be measured."""
    parts, _ = judged(CLAIMS[claim], [measured])
    return {part.name: part.values[0] for part in parts}


def missed(claim, measured):
    """Return the controls that one seed misses."""
    _, controls = judged(CLAIMS[claim], [measured])
    return {control.name for control in controls if not control.met}


def probes(*accuracies, best, together=None, raw=None, edge=(), validation=()):
    rows = [
        LayerProbe(
            layer=layer,
            setting=1e-3,
            validation_accuracy=held,
            test_accuracy=accuracy,
            at_edge=layer in edge,
        )
        for layer, (accuracy, held) in enumerate(
            zip(accuracies, validation or accuracies, strict=True)
        )
    ]
    joint = together and JointProbe(
        layers=(0, 1), setting=1e-3, validation_accuracy=0.0, test_accuracy=together
    )
    pixels = raw and ProbeFit(setting=1e-3, validation_accuracy=0.0, test_accuracy=raw)
    return LayerProbes(
        solver="lbfgs", best_layer=best, test_accuracy=accuracies[best], layers=tuple(rows),
        concatenated=joint, raw_pixels=pixels, records={},
    )  # fmt: skip


def network(accuracy, nats=1.0, **settings):
    settings = {"under_plateau": 0.1, "edge": False, **settings}
    return Network(
        weights=10, learning_rate=0.01, nats_per_pixel=nats, test_accuracy=accuracy, **settings
    )


def test_depth():
    # the best inner layer by validation is 2, though 1 is better on test
    probe = probes(
        0.3, 0.62, 0.6, 0.5, 0.45, 0.4, best=2, validation=(0.1, 0.5, 0.6, 0.5, 0.5, 0.9)
    )
    assert values("depth", depth.Measured(probe=probe, under_plateau=0.1)) == pytest.approx(
        {"rises": 0.3, "falls": 0.2, "middle": 0.55 - 0.425}
    )
    shallow = depth.Measured(probe=probes(0.3, 0.5, best=1), under_plateau=None)
    assert values("depth", shallow) == {"rises": None, "falls": None, "middle": None}


def test_a_curve_that_only_rises_has_no_middle():
    rising = depth.Measured(probe=probes(0.1, 0.2, 0.3, 0.4, 0.5, 0.6, best=5), under_plateau=0.1)
    assert values("depth", rising)["falls"] < 0
    assert values("depth", rising)["middle"] < 0


def test_depth_says_nothing_on_the_plateau_or_at_the_edge_of_a_grid():
    flat = probes(0.3, 0.5, 0.4, best=1)
    assert missed("depth", depth.Measured(probe=flat, under_plateau=0.01)) == set()
    assert missed("depth", depth.Measured(probe=flat, under_plateau=None)) == set()
    assert missed("depth", depth.Measured(probe=flat, under_plateau=-0.01)) == {"plateau"}
    cut = probes(0.3, 0.5, 0.4, best=1, edge=(2,))
    assert missed("depth", depth.Measured(probe=cut, under_plateau=0.01)) == {"penalties"}
    assert values("depth", depth.Measured(probe=cut, under_plateau=0.01))["falls"] is None


def test_more_features():
    measured = probes(0.3, 0.5, best=1, together=0.6, edge=(0,))
    assert values("more-features", measured) == pytest.approx({"together": 0.1})
    cut = probes(0.3, 0.5, best=1, together=0.6, edge=(1,))
    assert missed("more-features", cut) == {"penalties"}


def along(losses, accuracies):
    return Along(
        snapshots=tuple(
            Snapshot(step=step, nats_per_pixel=loss, best_layer=0, validation_accuracy=0.0,
                     test_accuracy=accuracy, layers=())
            for step, (loss, accuracy) in enumerate(zip(losses, accuracies, strict=True))
        )
    )  # fmt: skip


def sizes(small, large, under_plateau=0.1):
    return loss_and_probe.Measured(
        along={"small": small, "large": large}, under_plateau=under_plateau
    )


def test_loss_and_probe_at_equal_loss_lies_between_snapshots():
    small = along([3.0, 2.0, 1.5], [0.2, 0.3, 0.4])
    measured = sizes(small, along([2.0, 1.0], [0.4, 0.8]))
    assert values("loss-and-probe", measured) == pytest.approx(
        {"along": 1.0, "size-loss": 0.5, "size-probe": 0.4, "equal-loss": 0.6 - 0.4}
    )
    measured = sizes(small, along([1.2, 1.0], [0.4, 0.8]))
    assert values("loss-and-probe", measured)["equal-loss"] is None
    assert missed("loss-and-probe", sizes(small, small, under_plateau=-0.1)) == {"plateau"}


def test_an_accuracy_that_never_changes_goes_with_no_loss():
    measured = sizes(along([3.0, 2.0], [0.2, 0.2]), along([2.0, 1.0], [0.4, 0.8]))
    assert values("loss-and-probe", measured)["along"] is None


def masks(*, unmasked, single_mean, modal):
    return MasksResult(
        layer=0, penalty=None, seed=0, masks=5, single=(), unmasked=unmasked,
        single_mean=single_mean, modal=modal,
    )  # fmt: skip


def test_transfer():
    measured = transfer.Measured(
        probe=probes(0.5, 0.7, best=1, raw=0.4),
        untrained=0.45,
        supervised=transfer.Supervised(source_accuracy=0.9, chance=0.2, target_accuracy=0.8),
        under_plateau=0.1,
    )
    assert values("transfer", measured) == pytest.approx(
        {"over-raw": 0.3, "over-untrained": 0.25, "over-supervised": -0.1}
    )
    weak = dataclasses.replace(measured.supervised, source_accuracy=0.5)  # of 0.6 half way
    untaught = dataclasses.replace(measured, supervised=weak)
    assert missed("transfer", untaught) == {"supervised"}
    assert values("transfer", untaught)["over-supervised"] is None
    assert values("transfer", untaught)["over-raw"] == pytest.approx(0.3)


def test_objectives():
    measured = objectives.Measured(
        probe=0.9,
        raw_pixels=0.5,
        bert_probe=masks(unmasked=0.75, single_mean=0.6, modal=0.7),
        tuned=0.95,
        bert_tuned=masks(unmasked=0.93, single_mean=0.88, modal=0.92),
        diffusion_probe=0.8,
        diffusion_tuned=0.9,
    )
    assert values("objectives", measured) == pytest.approx(
        {"probe": 0.2, "catches-up": 0.2 - 0.03, "masks-probe": 0.1, "masks-tuned": 0.04}
    )
    assert missed("objectives", dataclasses.replace(measured, raw_pixels=0.8)) == {"bert"}


def test_fine_tuning():
    measured = fine_tuning.Measured(
        raw_pixels=0.4, probe=0.8, same_labels=0.91, joint=0.9, class_only=0.85, best_layer=0.88,
        scratch=0.5, scratch_tried={}, scratch_steps=400, steps_to_scratch=100,
    )  # fmt: skip
    assert values("fine-tuning", measured) == pytest.approx(
        {"joint": 0.05, "head": 0.02, "over-probe": 0.11, "pretrained": 0.35, "sooner": 0.75}
    )
    never = dataclasses.replace(measured, steps_to_scratch=None)
    assert values("fine-tuning", never)["sooner"] == -1.0
    at_once = dataclasses.replace(measured, steps_to_scratch=0)
    assert values("fine-tuning", at_once)["sooner"] == 1.0
    nowhere = dataclasses.replace(measured, scratch_steps=0)
    assert values("fine-tuning", nowhere)["sooner"] is None


def test_the_accuracy_before_the_first_step_counts_as_reached_after_none():
    metrics = [
        {"step": 0.0, "validation_accuracy_at_start": 0.3},
        {"step": 9.0, "validation_accuracy": 0.5},
        {"step": 19.0, "validation_accuracy": 0.6},
    ]
    reached = {accuracy: fine_tuning.steps_until(accuracy, metrics) for accuracy in (0.3, 0.6, 0.7)}
    assert reached == {0.3: 0, 0.6: 20, 0.7: None}


def test_what_is_better_than_a_network_at_chance_is_nothing():
    measured = fine_tuning.Measured(
        raw_pixels=0.4, probe=0.8, same_labels=0.91, joint=0.9, class_only=0.85, best_layer=0.88,
        scratch=0.1, scratch_tried={}, scratch_steps=400, steps_to_scratch=100,
    )  # fmt: skip
    assert missed("fine-tuning", measured) == {"scratch"}
    found = values("fine-tuning", measured)
    assert found["pretrained"] is found["sooner"] is None
    assert found["over-probe"] is not None


def few_labels(*rows, memorized=1.0):
    """Return a result of rows with labels a class, mean, deviation and mean of fine-tuning."""
    made = [
        FewLabelsRow(
            labels_per_class=labels, mean=mean, standard_deviation=deviation, accuracies=(),
            penalties=(), converged=True, memorized=memorized,
            fine_tuned=Accuracies(mean=tuned, standard_deviation=None, accuracies=()),
        )
        for labels, mean, deviation, tuned in rows
    ]  # fmt: skip
    return FewLabelsResult(
        layer=0, layer_chosen="given", test_images=1, subsets=2, seed=0, finetune_steps=1,
        rows=tuple(made),
    )  # fmt: skip


def test_low_data():
    rows = ((4, 0.7, 0.05, 0.4), (25, 0.8, 0.02, 0.7), (400, 0.85, 0.01, 0.9))
    assert values("low-data", few_labels(*rows)) == pytest.approx(
        {"more-labels": 0.05, "steadier": 0.04, "probe-wins": 0.3}
    )
    single = few_labels((4, 0.7, None, 0.4))
    assert values("low-data", single) == {
        "more-labels": None, "steadier": None, "probe-wins": pytest.approx(0.3),
    }  # fmt: skip
    forgetful = few_labels(*rows, memorized=0.9)
    assert missed("low-data", forgetful) == {"memorized"}
    assert values("low-data", forgetful)["probe-wins"] is None


def test_palette():
    row = palette.PaletteRow
    measured = (
        row(size=8, grey=False, psnr_db=22.0, test_accuracy=0.3),
        row(size=64, grey=False, psnr_db=28.0, test_accuracy=0.5),
        row(size=512, grey=False, psnr_db=33.0, test_accuracy=None),
        row(size=4096, grey=False, psnr_db=None, test_accuracy=0.6),
        row(size=64, grey=True, psnr_db=25.0, test_accuracy=0.4),
    )
    assert values("palette", measured) == pytest.approx(
        {"faithful": 3.0, "more-colors": 5.0, "probe": 0.3, "color": 0.1}
    )
    assert values("palette", measured[:2] + measured[4:])["faithful"] is None


def test_resolution():
    measured = {6: network(0.5), 8: network(0.3), 11: network(0.6, edge=True)}
    assert missed("resolution", measured) == {"penalties"}
    measured[11] = network(0.6)
    assert values("resolution", measured) == pytest.approx({"grows": 0.1})


def test_size():
    measured = {
        "small": network(0.5, nats=2.0), "base": network(0.9, nats=9.0),
        "large": network(0.6, nats=1.75),
    }  # fmt: skip
    assert values("size", measured) == pytest.approx({"probe": 0.1, "loss": 0.25})
    measured["small"] = network(0.5, nats=2.0, under_plateau=-0.2)
    assert missed("size", measured) == {"plateau"}


def test_ablations():
    accuracies = {
        "paper": 0.50, "bert": 0.40, "beta2-0.999": 0.49, "weight-decay": 0.51, "tied": 0.45,
        "non-zero-heads": 0.48, "sparse-initialization": 0.47, "mask-0.2": 0.41, "mask-0.25": 0.39,
        "mask-0.3": 0.38, "mask-0.35": 0.37,
    }  # fmt: skip
    measured = {
        name: ablations.Ablated(network=network(accuracy), spikes=3 if name == "beta2-0.999" else 1)
        for name, accuracy in accuracies.items()
    }
    assert values("ablations", measured) == pytest.approx(
        {
            "beta2": 2.0, "weight-decay": 0.01, "untied": 0.05, "zero-heads": 0.02,
            "initialization": 0.03, "float32": None, "mask-0.2": 0.01, "mask-more": 0.02,
        }
    )  # fmt: skip
    measured["float32"] = ablations.Ablated(network=network(0.52), spikes=0)
    assert values("ablations", measured)["float32"] == pytest.approx(0.02)


def test_parts_that_a_scale_leaves_are_not_judged_and_their_networks_not_trained():
    tiny, left = SCALES["tiny"], SCALES["tiny"].left["ablations"]
    networks = CLAIMS["ablations"].networks(tiny)
    assert networks == ["base", "beta2-0.999", "sparse-initialization"]
    measured = {
        name: ablations.Ablated(network=network(0.5), spikes=0)
        for name in ("paper", "beta2-0.999", "sparse-initialization")
    }
    parts, _ = judged(CLAIMS["ablations"], [measured] * 3, left=left)
    assert [part.name for part in parts] == ["beta2", "initialization"]


def test_spikes_stand_out_from_the_steps_before():
    losses = [2.0 - 0.005 * step for step in range(200)]
    assert spikes(losses) == 0
    losses[120] += 1
    losses[150] += 0.1
    assert spikes(losses) == 1


def test_a_part_without_enough_seeds_is_not_measurable():
    good, flat = (sizes(along([2.0, 1.0], [0.2, 0.3 + 0.01 * seed]), along([2.0, 0.9], [0.3, 0.5]),
                        under_plateau=under) for seed, under in ((1, 0.1), (2, -0.1)))  # fmt: skip
    parts, (control,) = judged(CLAIMS["loss-and-probe"], [good, good, good, flat])
    assert control.met == 3
    assert {part.verdict for part in parts} != {"not measurable"}
    assert all(part.values[3] is None for part in parts)
    parts, _ = judged(CLAIMS["loss-and-probe"], [good, good, good, flat, None])
    assert {part.verdict for part in parts} == {"not measurable"}
