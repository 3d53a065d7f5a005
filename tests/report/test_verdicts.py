"""What results say, in a sentence."""

import dataclasses

import pytest
from tests.report.conftest import new_finetuned, probes

from igpt.evaluation.likelihood import LikelihoodResult
from igpt.evaluation.masks import MasksResult
from igpt.evaluation.outliers import ForeignSet, ImageSet, OutliersResult
from igpt.evaluation.proportions import Share
from igpt.report.read import read_runs
from igpt.report.verdicts import (
    NOTHING,
    Beside,
    chance,
    judged,
    likelihood_verdict,
    masks_verdict,
    outliers_verdict,
    probe_verdict,
    tuned_verdict,
)
from igpt.runs.finetune import FinetuneResult


def test_what_is_surely_better_helped():
    rivals = {"the network untrained": Share(310, 1000), "raw pixels": Share(240, 1000)}
    assert judged("Pretraining", Share(666, 1000), rivals, chance=0.1) == (
        "Pretraining helped: 66.6 % against 31.0 % for the network untrained and 24.0 % for raw "
        "pixels."
    )


def test_what_few_images_cannot_tell_is_said_with_what_they_can():
    assert judged("The network", Share(32, 60), {"raw pixels": Share(36, 60)}, chance=0.2) == (
        "Whether the network helped cannot be told: 53.3 % against 60.0 % for raw pixels; 60 test "
        "images tell differences from about 18 points on."
    )


def test_what_is_surely_worse_did_not_help():
    text = judged("Fine-tuning", Share(20, 60), {"a linear probe": Share(50, 60)}, chance=None)
    assert text == "Fine-tuning did not help: 33.3 % against 83.3 % for a linear probe."


def test_whether_something_helped_is_told_by_the_first_of_its_rivals():
    text = judged(
        "Pretraining", Share(53, 100),
        {"the network untrained": Share(50, 100), "raw pixels": Share(20, 100)}, chance=None,
    )  # fmt: skip
    assert text.startswith("Whether pretraining helped cannot be told: 53.0 % against 50.0 %")
    assert "it is more than 20.0 % for raw pixels" in text


def test_an_accuracy_that_may_be_chance_is_said_to_be():
    text = judged("The network", Share(7, 20), {"raw pixels": Share(2, 20)}, chance=0.3)
    assert text.endswith("not surely more than chance, 30.0 %.")
    assert judged("It", Share(7, 20), {}, chance=0.3).startswith("Not surely other than chance")
    assert judged("It", Share(17, 20), {}, chance=0.3).startswith("More than chance: 85.0 %")
    assert judged("It", Share(17, 20), {}, chance=None) == ""


def test_accuracies_on_other_images_are_not_compared():
    assert judged("It", Share(66, 100), {"raw pixels": Share(2, 50)}, chance=None) == ""


def test_one_image_tells_nothing():
    text = judged("It", Share(1, 1), {"raw pixels": Share(0, 1)}, chance=None)
    assert text.endswith("1 test image can tell no difference at all.")


def test_chance_is_the_share_of_the_commonest_class():
    assert chance(((3, 1), (0, 6))) == 0.6
    assert chance(None) is None


def test_pretraining_is_judged_by_the_network_untrained():
    probe, untrained = probes(0.4, 0.6, raw=0.3), probes(0.2, 0.3)
    beside = Beside(untrained=untrained)
    text = "Pretraining helped: 60.0 % against 30.0 % for the network untrained and 30.0 % for raw"
    assert probe_verdict(probe, beside).startswith(text)
    assert probe_verdict(probe, NOTHING).startswith("The network helped: 60.0 % against 30.0 %")


def test_the_probes_of_an_untrained_network_are_judged_as_such():
    untrained = dataclasses.replace(probes(0.2, 0.3), untrained=True)
    said = probe_verdict(untrained, Beside(probe=probes(0.4, 0.6), untrained=untrained))
    assert said.startswith("Pretraining helped: 60.0 % against 30.0 %")
    assert probe_verdict(untrained, Beside(untrained=untrained)) == ""


def test_other_solvers_are_not_compared_with_logistic_regression():
    ridge = probes(0.4, 0.6, solver="ridge")
    assert probe_verdict(ridge, Beside(untrained=probes(0.2))) == ""


def tuned(test: float | None, images: int | None) -> FinetuneResult:
    return FinetuneResult(
        test_accuracy=test, validation_accuracy=0.5, best_step=1, steps=2, pixel_coefficient=1.0,
        layer=3, seconds=4.0, test_images=images,
    )  # fmt: skip


def test_fine_tuning_is_judged_by_the_linear_probe():
    beside = Beside(probe=probes(0.4, 0.6, raw=0.3))
    text = tuned_verdict(tuned(0.8, 1440), beside)
    assert text == (
        "Fine-tuning helped: 80.0 % against 60.0 % for a linear probe and 30.0 % for raw pixels."
    )
    for unknown in (tuned(0.8, None), tuned(None, None), tuned(0.8, 100)):
        assert tuned_verdict(unknown, beside) == ""


@pytest.mark.parametrize(
    ("nats", "text"),
    [
        (3.12, "A color drawn blindly costs 6.24 nats; 50.0 % of that is saved."),
        (6.5, "No better than a color drawn blindly, which costs 6.24 nats."),
    ],
)
def test_a_loss_is_told_beside_that_of_chance(nats, text):
    result = LikelihoodResult(
        objective="autoregressive", images=7, nats_per_pixel=nats, bits_per_pixel=1.0,
        nats_per_pixel_from_second=None, chance_nats_per_pixel=6.24,
    )  # fmt: skip
    assert likelihood_verdict(result) == text
    assert likelihood_verdict(dataclasses.replace(result, chance_nats_per_pixel=None)) == ""


def test_masks_are_judged_by_a_single_one():
    result = MasksResult(
        layer=3, penalty=None, seed=0, masks=5, modal=0.8, single=(0.5,), single_mean=0.5,
        unmasked=0.8, test_images=500,
    )  # fmt: skip
    text = masks_verdict(result)
    assert text.startswith("Voting over masks helped: 80.0 % against 50.0 % for one mask")
    assert "it is not surely other than 80.0 % for no mask" in text


@pytest.mark.parametrize(
    ("aurocs", "text"),
    [
        ((0.9, 0.6, 0.1), "The loss tells s0 from own images; it hardly tells s1 from them; it "
                          "finds s2 likelier than them."),
        ((0.6, 0.1), "The loss hardly tells s0 from own images; it finds s1 likelier than them."),
        ((0.1,), "The loss finds s0 likelier than own images."),
    ],
)  # fmt: skip
def test_foreign_images_are_told_or_not_or_likelier(aurocs, text):
    losses = {"images": 12, "nats_per_pixel": 2.3, "standard_deviation": 0.4}
    result = OutliersResult(
        seed=0, typical_nats_per_pixel=2.3, validation_images=4, own=ImageSet(**losses),
        foreign=tuple(
            ForeignSet(name=f"s{number}", auroc_loss=auroc, auroc_typicality=0.5, **losses)
            for number, auroc in enumerate(aurocs)
        ),
    )  # fmt: skip
    assert outliers_verdict(result) == text


def test_a_fine_tuning_is_compared_with_the_run_it_began_from_and_no_other(real):
    first, bert, last = read_runs(real.paths)
    assert last.beside([first, bert, last]).probe == real.probe
    assert last.beside([bert, last]).probe is None
    assert first.beside([first]).untrained == real.untrained


def test_what_the_terminal_compares_with_is_what_the_run_keeps(real, tmp_path, tiny_palette):
    assert Beside.of(real.autoregressive) == Beside(probe=real.probe, untrained=real.untrained)
    assert Beside.of(real.tuned).probe == real.probe
    assert Beside.of(real.autoregressive / "model") == NOTHING
    elsewhere = new_finetuned(tmp_path / "tuned", tiny_palette)
    assert Beside.of(elsewhere.path) == NOTHING
