"""Every claim's numbers by hand, from made-up measurements."""

import dataclasses

import pytest

from igpt.claims import ablations, fine_tuning, objectives, palette, size
from igpt.claims.ablations import spikes
from igpt.claims.reproduce import CLAIMS, judged
from igpt.evaluation.few_labels import Accuracies, FewLabelsResult, FewLabelsRow
from igpt.evaluation.masks import MasksResult
from igpt.evaluation.probe import JointProbe, LayerProbe, LayerProbes
from igpt.runs.along import Along, Snapshot


def values(claim, measured):
    """Return one seed's number for each part, None for what could not be measured."""
    parts = judged(CLAIMS[claim], [measured])
    return {part.name: part.values[0] if part.values else None for part in parts}


def probes(*accuracies, best, together=None):
    rows = [
        LayerProbe(layer=layer, setting=1e-3, validation_accuracy=0.0, test_accuracy=accuracy)
        for layer, accuracy in enumerate(accuracies)
    ]
    joint = together and JointProbe(
        layers=(0, 1), setting=1e-3, validation_accuracy=0.0, test_accuracy=together
    )
    return LayerProbes(
        solver="lbfgs", best_layer=best, test_accuracy=accuracies[best], layers=tuple(rows),
        concatenated=joint, records={},
    )  # fmt: skip


def test_depth():
    assert values("depth", probes(0.3, 0.5, 0.6, 0.45, best=2)) == pytest.approx(
        {"rises": 0.3, "falls": 0.15, "middle": 0.55 - 0.375}
    )
    assert values("depth", probes(0.3, 0.5, best=1))["middle"] is None  # nothing lies between


def test_more_features():
    measured = probes(0.3, 0.5, best=1, together=0.6)
    assert values("more-features", measured) == pytest.approx({"together": 0.1})


def along(losses, accuracies):
    return Along(
        snapshots=tuple(
            Snapshot(step=step, nats_per_pixel=loss, best_layer=0, validation_accuracy=0.0,
                     test_accuracy=accuracy, layers=())
            for step, (loss, accuracy) in enumerate(zip(losses, accuracies, strict=True))
        )
    )  # fmt: skip


def test_loss_and_probe_at_equal_loss_lies_between_snapshots():
    measured = {
        "small": along([3.0, 2.0, 1.5], [0.2, 0.3, 0.4]),
        "large": along([2.0, 1.0], [0.4, 0.8]),
    }
    assert values("loss-and-probe", measured) == pytest.approx(
        {"along": 1.0, "size-loss": 0.5, "size-probe": 0.4, "equal-loss": 0.6 - 0.4}
    )
    measured["large"] = along([1.2, 1.0], [0.4, 0.8])
    assert values("loss-and-probe", measured)["equal-loss"] is None


def test_an_accuracy_that_never_changes_goes_with_no_loss():
    measured = {"small": along([3.0, 2.0], [0.2, 0.2]), "large": along([2.0, 1.0], [0.4, 0.8])}
    assert values("loss-and-probe", measured)["along"] is None


def masks(*, unmasked, single_mean, modal):
    return MasksResult(
        layer=0, penalty=None, seed=0, masks=5, single=(), unmasked=unmasked,
        single_mean=single_mean, modal=modal,
    )  # fmt: skip


def test_objectives():
    measured = objectives.Measured(
        probe=0.9,
        bert_probe=masks(unmasked=0.75, single_mean=0.6, modal=0.7),
        tuned=0.95,
        bert_tuned=masks(unmasked=0.93, single_mean=0.88, modal=0.92),
    )
    assert values("objectives", measured) == pytest.approx(
        {"probe": 0.2, "catches-up": 0.2 - 0.03, "masks-probe": 0.1, "masks-tuned": 0.04}
    )


def test_fine_tuning():
    measured = fine_tuning.Measured(
        probe=0.8, joint=0.9, class_only=0.85, best_layer=0.88, best_is_last=False, scratch=0.5,
        scratch_by_dropout={"0.0": 0.4, "0.1": 0.5}, scratch_steps=400, steps_to_scratch=100,
    )  # fmt: skip
    assert values("fine-tuning", measured) == pytest.approx(
        {"joint": 0.05, "head": 0.02, "over-probe": 0.1, "pretrained": 0.35, "sooner": 0.75}
    )
    never = dataclasses.replace(measured, best_is_last=True, steps_to_scratch=None)
    assert values("fine-tuning", never)["head"] is None
    assert values("fine-tuning", never)["sooner"] == -1.0


def few_labels(*rows):
    """Return a result of rows with labels a class, mean, deviation and mean of fine-tuning."""
    made = [
        FewLabelsRow(
            labels_per_class=labels, mean=mean, standard_deviation=deviation, accuracies=(),
            penalties=(), converged=True,
            fine_tuned=Accuracies(mean=tuned, standard_deviation=None, accuracies=()),
        )
        for labels, mean, deviation, tuned in rows
    ]  # fmt: skip
    return FewLabelsResult(
        layer=0, layer_chosen="given", test_images=1, subsets=2, seed=0, finetune_steps=1,
        rows=tuple(made),
    )  # fmt: skip


def test_low_data():
    measured = few_labels((4, 0.7, 0.05, 0.4), (25, 0.8, 0.02, 0.7), (400, 0.85, 0.01, 0.9))
    assert values("low-data", measured) == pytest.approx(
        {"more-labels": 0.05, "steadier": 0.04, "probe-wins": 0.3}
    )
    single = few_labels((4, 0.7, None, 0.4))
    assert values("low-data", single) == {
        "more-labels": None, "steadier": None, "probe-wins": pytest.approx(0.3),
    }  # fmt: skip


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
    assert values("resolution", {6: 0.5, 8: 0.3, 11: 0.6}) == pytest.approx({"grows": 0.1})


def test_size():
    measured = {
        "small": size.Network(weights=10, test_accuracy=0.5, nats_per_pixel=2.0),
        "base": size.Network(weights=20, test_accuracy=0.9, nats_per_pixel=9.0),
        "large": size.Network(weights=30, test_accuracy=0.6, nats_per_pixel=1.75),
    }
    assert values("size", measured) == pytest.approx({"probe": 0.1, "loss": 0.25})


def test_ablations():
    accuracies = {
        "base": 0.50, "bert": 0.40, "beta2-0.999": 0.49, "weight-decay": 0.51, "tied": 0.45,
        "non-zero-heads": 0.48, "sparse-initialization": 0.53, "mask-0.2": 0.41, "mask-0.35": 0.37,
    }  # fmt: skip
    measured = {
        name: ablations.Network(
            test_accuracy=accuracy, nats_per_pixel=1.0, spikes=3 if name == "beta2-0.999" else 1
        )
        for name, accuracy in accuracies.items()
    }
    assert values("ablations", measured) == pytest.approx(
        {
            "beta2": 2.0, "weight-decay": 0.01, "untied": 0.05, "zero-heads": 0.02,
            "initialization": 0.03, "float32": None, "mask-0.2": 0.01, "mask-more": 0.03,
        }
    )  # fmt: skip
    measured["float32"] = dataclasses.replace(measured["base"], test_accuracy=0.52)
    assert values("ablations", measured)["float32"] == pytest.approx(0.02)


def test_spikes_stand_out_from_the_steps_before():
    losses = [2.0 - 0.005 * step for step in range(200)]
    assert spikes(losses) == 0
    losses[120] += 1
    losses[150] += 0.1
    assert spikes(losses) == 1
