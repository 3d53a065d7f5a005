"""Results as people read them on a terminal: a few lines of text for each kind.

    print(table(result))

What is printed is what the result holds; where it lies is for the caller to add.
"""

from functools import singledispatch

from igpt.amounts import counted
from igpt.evaluation.bound import PassesCurve
from igpt.evaluation.few_labels import FewLabelsResult, FewLabelsRow
from igpt.evaluation.likelihood import LikelihoodResult
from igpt.evaluation.masks import MasksResult
from igpt.evaluation.outliers import OWN, ImageSet, OutliersResult
from igpt.evaluation.probe import LayerProbes, ProbeFit
from igpt.evaluation.proportions import Share
from igpt.formats.convert import Converted
from igpt.model.config import OBJECTIVE_WORDS
from igpt.report.verdicts import (
    NOTHING,
    RAW,
    Beside,
    along_verdict,
    chance,
    class_names,
    few_labels_verdict,
    likelihood_interval,
    likelihood_verdict,
    masks_verdict,
    outliers_verdict,
    percent,
    probe_share,
    probe_verdict,
    raw_share,
    share_text,
    tuned_share,
    tuned_verdict,
)
from igpt.runs.along import Along
from igpt.runs.finetune import FinetuneResult
from igpt.runs.palette import PaletteReport
from igpt.runs.search import SearchResult

_SETTINGS = {"lbfgs": "penalty", "ridge": "penalty", "sgd": "rate", "neighbors": "neighbors"}
"""What a solver's setting is."""


_WIDEST = 12
"""Classes up to which a confusion matrix goes beside the accuracy of each."""

_NAME = 24  # letters of a class's name that are shown


@singledispatch
def table(result: object, beside: Beside = NOTHING) -> str:
    """Return a result as lines of text.

    Args:
        result: Of any kind that a command measures.
        beside: What else is known of the same network and images, to judge it by.

    Raises:
        TypeError: There is no table for this kind.
    """
    raise TypeError(f"there is no table for a {type(result).__name__}")


def _lines(*lines: str) -> str:
    return "\n".join(line for line in lines if line)


@table.register
def _(result: PaletteReport, beside: Beside = NOTHING) -> str:
    psnr = "infinite" if result.psnr_db is None else f"{result.psnr_db:.2f} dB"
    return (
        f"{counted(result.size, 'color')}, fitted to images of "
        f"{result.image_size}x{result.image_size} pixels; on {counted(result.images, 'image')} of "
        f"{result.split} the mean squared error is {result.mean_squared_error:.2f}, the PSNR {psnr}"
    )


@table.register
def _(result: LikelihoodResult, beside: Beside = NOTHING) -> str:
    hidden = " (hidden pixels)" if result.objective == "masked" else ""
    at_most = "at most " if result.objective == "diffusion" else ""
    text = (
        f"{at_most}{result.nats_per_pixel:.4f} nats, {result.bits_per_pixel:.4f} bits per pixel"
        f"{hidden} over {counted(result.images, 'image')}"
    )
    if result.nats_per_pixel_from_second is not None:
        text += f"; {result.nats_per_pixel_from_second:.4f} nats over pixels 2 to n"
    if result.draws is not None:
        text += f", a bound by {counted(result.draws, 'mask')} of each"
    if result.draw_spread is not None:
        text += f"; {result.draw_spread:.4f} nats of standard deviation over them"
    if result.bits_per_dimension is not None and result.color_bits_per_pixel is not None:
        text += (
            f"\n8-bit images: {result.bits_per_dimension:.4f} bits per dimension at most, tokens "
            f"{result.bits_per_pixel / 3:.4f} and the colors behind them "
            f"{result.color_bits_per_pixel / 3:.4f}"
        )
    if result.standard_error is not None:
        low, high = likelihood_interval(result)
        text += f"\n95 % interval over such images: {low:.4f} to {high:.4f} nats"
    return _lines(text, likelihood_verdict(result))


@table.register
def _(result: PassesCurve, beside: Beside = NOTHING) -> str:
    lines = ["passes  nats per pixel, at most"]
    for row in result.rows:
        spread = "" if row.draw_spread is None else f" +- {row.draw_spread:.4f}"
        lines.append(f"{row.passes:6}  {row.nats_per_pixel:.4f}{spread}")
    lines.append(
        f"of {counted(result.images, 'image')} as they are drawn in so many passes, by "
        f"{counted(result.draws, 'mask')} of each, with the standard deviation over masks; "
        f"{counted(result.pixels, 'pass', 'passes')}: one pixel at a time"
    )
    return _lines(*lines)


@table.register
def _(result: LayerProbes, beside: Beside = NOTHING) -> str:
    name = _SETTINGS[result.solver]
    width = max(7, len(name))
    lines = [f"layer  validation    test  {name:>{width}}"]
    for row in result.layers:
        setting = f"{row.setting:.0e}" if name == "penalty" else f"{row.setting:g}"
        accuracies = f"{row.validation_accuracy:10.2%}  {row.test_accuracy:6.2%}"
        lines.append(f"{row.layer:5}  {accuracies}  {setting:>{width}}{_doubts(row)}")
    if result.raw_pixels is not None:
        row = result.raw_pixels
        lines.append(f"raw pixels         {row.test_accuracy:6.2%}{_doubts(row)}")
    if result.concatenated is not None:
        row = result.concatenated
        first, *_, last = row.layers
        lines.append(f"layers {first} to {last} as one  {row.test_accuracy:6.2%}{_doubts(row)}")
    lines.append(f"best layer by validation: {result.best_layer}, test {result.test_accuracy:.2%}")
    if result.rank_correlation is not None:
        lines.append(f"ranks the layers as L-BFGS does: Spearman's {result.rank_correlation:.2f}")
    lines += _classes(result)
    shares = {f"layer {result.best_layer}": probe_share(result), RAW: raw_share(result)}
    lines += [f"{name}: {share_text(share)}" for name, share in shares.items() if share]
    lines += _chance(result)
    return _lines(*lines, probe_verdict(result, beside))


def _classes(result: LayerProbes | FinetuneResult) -> list[str]:
    """Return how often each class is right, and what it is taken for, a line each."""
    if result.confusion is None:
        return []
    names = [name[:_NAME] for name in class_names(result)]
    width = max(5, *map(len, names))
    wide = len(names) <= _WIDEST
    cell = max(len(str(max(map(max, result.confusion)))), len(str(len(names)))) + 1
    heads = "".join(f"{number:{cell}}" for number in range(len(names)))
    head = f"class  {'':{width}}  right  images  accuracy"
    lines = [f"{head}  taken for{heads}" if wide else head]
    for number, (name, row) in enumerate(zip(names, result.confusion, strict=True)):
        right, images = row[number], sum(row)
        accuracy = f"{right / images:8.2%}" if images else f"{'-':>8}"
        line = f"{number:5}  {name:{width}}  {right:5}  {images:6}  {accuracy}"
        taken = "".join(f"{count:{cell}}" for count in row)
        lines.append(f"{line}           {taken}" if wide else line)
    return lines


def _chance(result: LayerProbes | FinetuneResult) -> list[str]:
    share = chance(result.confusion)
    return [] if share is None else [f"chance: {percent(share)}, always naming the commonest class"]


def _doubts(row: ProbeFit | FewLabelsRow | MasksResult) -> str:
    return "".join(f"  {doubt}" for doubt in row.doubts)


@table.register
def _(result: MasksResult, beside: Beside = NOTHING) -> str:
    head = "class head" if result.penalty is None else f"penalty {result.penalty:.0e}"
    modal = Share.of(result.modal, result.test_images) if result.test_images else None
    return _lines(
        f"layer {result.layer}, {head}, test accuracy{_doubts(result)}",
        f"modal class of {counted(result.masks, 'mask')}  {result.modal:.2%}",
        f"one mask, on average    {result.single_mean:.2%}",
        f"no mask                 {result.unmasked:.2%}",
        f"modal class: {share_text(modal)}" if modal else "",
        masks_verdict(result),
    )


@table.register
def _(result: Along, beside: Beside = NOTHING) -> str:
    lines = ["   step    nats  best layer    test  95 % interval"]
    for row in result.snapshots:
        line = f"{row.step:7}  {row.nats_per_pixel:.4f}  {row.best_layer:10}  "
        line += f"{row.test_accuracy:6.2%}"
        if row.test_images:
            low, high = Share.of(row.test_accuracy, row.test_images).interval
            line += f"  {low:.1%} to {high:.1%}"
        lines.append(line)
    return _lines(*lines, along_verdict(result))


@table.register
def _(result: FewLabelsResult, beside: Beside = NOTHING) -> str:
    lines = [f"layer {result.layer}, {result.layer_chosen}", "labels a class  test accuracy"]
    for row in result.rows:
        spread = row.standard_deviation
        text = f"{row.labels_per_class:14}  {100 * row.mean:.2f}"
        text += " %" if spread is None else f" +- {100 * spread:.2f} %"
        if row.fine_tuned is not None:
            text += f", fine-tuned {100 * row.fine_tuned.mean:.2f} %"
        lines.append(text + _doubts(row))
    lines.append(
        f"mean and standard deviation over {counted(result.subsets, 'random subset')}, on "
        f"{counted(result.test_images, 'test image')}"
    )
    return _lines(*lines, few_labels_verdict(result, beside))


@table.register
def _(result: FinetuneResult, beside: Beside = NOTHING) -> str:
    if result.test_accuracy is not None:
        share = tuned_share(result)
        accuracy = share_text(share) if share else f"{result.test_accuracy:.2%}"
        return _lines(
            *_classes(result),
            f"test accuracy {accuracy}",
            *_chance(result),
            tuned_verdict(result, beside),
        )
    if result.validation_accuracy is not None:
        return f"validation accuracy {result.validation_accuracy:.2%}"
    return "trained on all images; its search measures the outcome alone"


@table.register
def _(result: SearchResult, beside: Beside = NOTHING) -> str:
    title = "validation accuracy" if result.kind == "finetune" else "validation nats per pixel"
    lines = [f"learning rate  {title}"]
    for row in result.tries:
        mark = "  best" if row.learning_rate == result.best else ""
        lines.append(f"{row.learning_rate:13g}  {result.score_text(row):>{len(title)}}{mark}")
    if result.best is None:
        return "\n".join([*lines, "not finished; the same command again goes on"])
    if not result.turned:
        lines.append("none was worse than the one before; still lower rates may be better")
    if result.run == "final":
        lines.append("trained once more at the best, on train and validation images together")
    if result.test_accuracy is not None:
        tested = result.test_images and Share.of(result.test_accuracy, result.test_images)
        accuracy = share_text(tested) if tested else f"{result.test_accuracy:.2%}"
        lines.append(f"test accuracy {accuracy}")
    return "\n".join(lines)


@table.register
def _(result: OutliersResult, beside: Beside = NOTHING) -> str:
    width = max(len(name) for name in (OWN, *(row.name for row in result.foreign)))
    lines = [f"{'':{width}}  images  nats per pixel    AUROC: loss  typicality"]
    lines.append(_image_set(OWN, result.own, width))
    for row in result.foreign:
        aurocs = f"{row.auroc_loss:9.3f}  {row.auroc_typicality:10.3f}"
        lines.append(f"{_image_set(row.name, row, width)}  {aurocs}")
    lines.append(
        "AUROC: how often a foreign image scores higher than an own one; 0.5 is chance\n"
        "loss: the higher, the more foreign; typicality: the farther from the "
        f"{result.typical_nats_per_pixel:.4f} nats of validation images, to either side"
    )
    if any(row.auroc_loss < 0.5 for row in result.foreign):
        lines.append(
            "a low loss says that an image is easy to predict, not that it is like those of "
            "training"
        )
    return _lines(*lines, outliers_verdict(result))


def _image_set(name: str, row: ImageSet, width: int) -> str:
    nats = f"{row.nats_per_pixel:7.4f} +- {row.standard_deviation:6.4f}"
    return f"{name:{width}}  {row.images:6}  {nats}"


@table.register
def _(result: Converted, beside: Beside = NOTHING) -> str:
    model = result.model
    text = (
        f"{result.written} from {result.read}, {OBJECTIVE_WORDS[result.objective]}, "
        f"{counted(model.layers, 'layer')} of width {model.width}, "
        f"{counted(model.heads, 'head')}, {counted(model.parameters, 'weight')}, "
        f"{counted(model.colors, 'color')}, {model.image_size}x{model.image_size} pixels"
        + (f", {counted(result.classes, 'class', 'classes')}" if result.classes else "")
    )
    return text + (f"\nleft out: {'; '.join(result.left_out)}" if result.left_out else "")
