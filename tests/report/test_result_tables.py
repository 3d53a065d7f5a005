"""What a terminal shows of each result."""

import dataclasses

import pytest

from igpt.evaluation.bound import PassesCurve, PassesRow
from igpt.evaluation.few_labels import Accuracies, FewLabelsResult, FewLabelsRow
from igpt.evaluation.likelihood import LikelihoodResult
from igpt.evaluation.masks import MasksResult
from igpt.evaluation.outliers import ForeignSet, ImageSet, OutliersResult
from igpt.evaluation.probe import JointProbe, LayerProbe, LayerProbes, ProbeFit
from igpt.formats.convert import Converted
from igpt.model.config import ModelConfig
from igpt.report.tables import table
from igpt.report.verdicts import Beside
from igpt.runs.along import Along, Snapshot
from igpt.runs.finetune import FinetuneResult
from igpt.runs.palette import PaletteReport
from igpt.runs.search import SearchResult, Try


def probes(solver="lbfgs", *, setting=1e-3, converged=True, at_edge=False, **more):
    layers = tuple(
        LayerProbe(
            layer=layer, setting=setting, validation_accuracy=0.5 + layer / 10, test_accuracy=0.5,
            converged=converged, at_edge=at_edge,
        )
        for layer in range(2)
    )  # fmt: skip
    return LayerProbes(
        solver=solver, best_layer=1, test_accuracy=0.5, layers=layers, records={}, **more
    )


def likelihood(objective, from_second):
    return LikelihoodResult(
        objective=objective, images=7, nats_per_pixel=2.0, bits_per_pixel=2.8854,
        nats_per_pixel_from_second=from_second,
    )  # fmt: skip


def tuned(test, validation):
    return FinetuneResult(
        test_accuracy=test, validation_accuracy=validation, best_step=1, steps=2,
        pixel_coefficient=1.0, layer=3, seconds=4.0,
    )  # fmt: skip


def few_labels(deviation, fine_tuned):
    row = FewLabelsRow(
        mean=0.5, standard_deviation=deviation, accuracies=(0.5,), labels_per_class=4,
        penalties=(1e-3,), converged=True, fine_tuned=fine_tuned,
    )  # fmt: skip
    return FewLabelsResult(
        layer=2, layer_chosen="given", test_images=9, subsets=1, seed=0, finetune_steps=0,
        rows=(row,),
    )  # fmt: skip


def search(kind, *scores, **more):
    tries = (Try(learning_rate=rate, score=s) for rate, s in zip((0.1, 0.01), scores, strict=True))
    return SearchResult(kind=kind, settings={}, tries=tuple(tries), **more)


def image_set(**more):
    return {"images": 12, "nats_per_pixel": 1.0, "standard_deviation": 0.25, **more}


RESULTS = [
    (
        PaletteReport(
            mean_squared_error=9.0, psnr_db=38.5, colors_used=16, size=16, grey=False,
            image_size=8, seed=0, split="validation", images=5,
        ),
        ["16 colors, fitted to images of 8x8 pixels; on 5 images of validation", "38.50 dB"],
    ),
    (likelihood("autoregressive", 2.5), ["2.0000 nats, 2.8854 bits", "2.5000 nats over pixels 2"]),
    (likelihood("masked", None), ["per pixel (hidden pixels) over 7 images"]),
    (
        dataclasses.replace(
            likelihood("diffusion", None), draws=8, draw_spread=0.0123, standard_error=0.1,
            chance_nats_per_pixel=4.0, color_bits_per_pixel=6.0, bits_per_dimension=2.9618,
        ),
        ["at most 2.0000 nats, 2.8854 bits per pixel over 7 images, a bound by 8 masks of each; "
         "0.0123 nats of standard deviation over them\n8-bit images: 2.9618 bits per dimension at "
         "most, tokens 0.9618 and the colors behind them 2.0000\n",
         "at least 50.0 % of that is saved"],
    ),
    (
        PassesCurve(images=7, draws=2, seed=0, pixels=16, rows=(
            PassesRow(passes=4, nats_per_pixel=2.5, draw_spread=0.25),
            PassesRow(passes=16, nats_per_pixel=2.0, draw_spread=None),
        )),
        ["     4  2.5000 +- 0.2500\n    16  2.0000\n", "16 passes: one pixel at a time"],
    ),
    (probes(), ["layer  validation    test  penalty", "60.00%  50.00%    1e-03", "validation: 1,"]),
    (probes(converged=False), ["did not converge"]),
    (probes(at_edge=True), ["1e-03  at the edge of its grid"]),
    (probes("neighbors", setting=20.0, converged=None), ["test  neighbors", "50.00%         20"]),
    (
        probes("ridge", rank_correlation=0.9, concatenated=JointProbe(
            layers=(0, 1), setting=1.0, validation_accuracy=0.5, test_accuracy=0.75)),
        ["layers 0 to 1 as one  75.00%", "Spearman's 0.90"],
    ),
    (
        probes(raw_pixels=ProbeFit(setting=1.0, validation_accuracy=0.1, test_accuracy=0.2)),
        ["raw pixels         20.00%"],
    ),
    (
        MasksResult(layer=3, penalty=None, seed=0, masks=5, modal=0.5, single=(0.25,),
                    single_mean=0.25, unmasked=0.75),
        ["layer 3, class head", "modal class of 5 masks  50.00%", "no mask                 75.00%"],
    ),
    (
        Along(snapshots=(Snapshot(step=4, nats_per_pixel=1.5, best_layer=2,
                                  validation_accuracy=0.5, test_accuracy=0.25, layers=(0.25,)),)),
        ["      4  1.5000           2  25.00%"],
    ),
    (few_labels(None, None), ["layer 2, given", "             4  50.00 %\n"]),
    (
        few_labels(0.01, Accuracies(mean=0.25, standard_deviation=None, accuracies=(0.25,))),
        ["50.00 +- 1.00 %, fine-tuned 25.00 %"],
    ),
    (tuned(0.5, 0.25), ["test accuracy 50.00%"]),
    (tuned(None, 0.25), ["validation accuracy 25.00%"]),
    (tuned(None, None), ["its search measures the outcome alone"]),
    (search("pretrain", 3.0, 2.5), ["validation nats per pixel\n", "not finished; the same"]),
    (
        search("pretrain", None, 2.5, best=0.01, turned=False, run="final"),
        ["diverged", "2.5000  best", "none was worse", "once more at the best"],
    ),
    (
        search("finetune", 0.5, 0.25, best=0.1, turned=True, run="rate-0.1", test_accuracy=0.75),
        ["validation accuracy\n", "50.00%  best", "test accuracy 75.00%"],
    ),
    (
        OutliersResult(
            seed=0, typical_nats_per_pixel=1.25, validation_images=3, own=ImageSet(**image_set()),
            foreign=(ForeignSet(**image_set(name="flat", auroc_loss=0.1, auroc_typicality=0.9)),),
        ),
        ["own test images      12   1.0000 +- 0.2500\n", "0.100       0.900", "0.5 is chance",
         "1.2500 nats of validation", "The loss finds flat likelier than own images."],
    ),
    (
        Converted(read="igpt", written="huggingface", model=ModelConfig(), classes=10,
                  objective="autoregressive", left_out=("the color head",)),
        ["huggingface from igpt, autoregressive, 24 layers", "10 classes", "left out: the color"],
    ),
]  # fmt: skip


@pytest.fixture
def counted():
    return probes(
        raw_pixels=ProbeFit(setting=1.0, validation_accuracy=0.1, test_accuracy=0.2),
        confusion=((3, 1, 0), (2, 2, 0), (0, 2, 0)), class_names=("cat", "a dog", "x" * 99),
    )  # fmt: skip


def test_every_class_has_its_accuracy_and_what_it_is_taken_for(counted):
    printed = table(dataclasses.replace(counted, records={"test": 10})).splitlines()
    head = next(line for line in printed if line.startswith("class"))
    assert head.split() == ["class", "right", "images", "accuracy", "taken", "for", "0", "1", "2"]
    rows = [line.split() for line in printed[printed.index(head) + 1 :][:3]]
    assert rows[0] == ["0", "cat", "3", "4", "75.00%", "3", "1", "0"]
    assert rows[1] == ["1", "a", "dog", "2", "4", "50.00%", "2", "2", "0"]
    assert rows[2] == ["2", "x" * 24, "0", "2", "0.00%", "0", "2", "0"]


def test_accuracies_have_their_counts_intervals_chance_and_a_verdict(counted):
    printed = table(dataclasses.replace(counted, records={"test": 10})).splitlines()
    assert printed[-4:] == [
        "layer 1: 50.0 %, 5 of 10 images, 95 % interval 23.7 to 76.3 %",
        "raw pixels: 20.0 %, 2 of 10 images, 95 % interval 5.7 to 51.0 %",
        "chance: 40.0 %, always naming the commonest class",
        "Whether the network helped cannot be told: 50.0 % against 20.0 % for raw pixels; 10 test "
        "images tell differences from about 50 points on; not surely more than chance, 40.0 %.",
    ]


def test_many_classes_have_no_matrix(counted):
    confusion = tuple(tuple(int(i == j) for j in range(13)) for i in range(13))
    result = dataclasses.replace(counted, confusion=confusion, class_names=None)
    printed = table(result)
    assert "taken for" not in printed
    assert "   12  12         1       1   100.00%" in printed


def test_the_verdict_of_a_fine_tuning_is_on_the_terminal():
    result = dataclasses.replace(tuned(0.5, 0.25), test_images=500)
    probe = dataclasses.replace(probes(), records={"test": 500}, test_accuracy=0.3)
    assert table(result, Beside(probe=probe)).splitlines() == [
        "test accuracy 50.0 %, 250 of 500 images, 95 % interval 45.6 to 54.4 %",
        "Fine-tuning helped: 50.0 % against 30.0 % for a linear probe.",
    ]


def test_a_loss_stands_beside_chance_and_its_interval():
    result = dataclasses.replace(
        likelihood("autoregressive", None), standard_error=0.1, chance_nats_per_pixel=6.24
    )
    assert table(result).splitlines()[1:] == [
        "95 % interval over such images: 1.8040 to 2.1960 nats",
        "A color drawn blindly costs 6.24 nats; 67.9 % of that is saved.",
    ]


@pytest.mark.parametrize(("result", "texts"), RESULTS)
def test_a_result_is_a_few_lines(result, texts):
    printed = table(result)
    for text in texts:
        assert text in printed


def test_what_has_no_table_is_our_mistake():
    with pytest.raises(TypeError, match="no table for a int"):
        table(3)
