"""Results as people read them on a terminal: a few lines of text for each kind.

    print(table(result))

What is printed is what the result holds; where it lies is for the caller to add.
"""

from functools import singledispatch

from igpt.evaluation.few_labels import FewLabelsResult, FewLabelsRow
from igpt.evaluation.likelihood import LikelihoodResult
from igpt.evaluation.masks import MasksResult
from igpt.evaluation.outliers import ImageSet, OutliersResult
from igpt.evaluation.probe import LayerProbes, ProbeFit
from igpt.formats.convert import Converted
from igpt.runs.along import Along
from igpt.runs.finetune import FinetuneResult
from igpt.runs.palette import PaletteReport
from igpt.runs.search import SearchResult

_SETTINGS = {"lbfgs": "penalty", "ridge": "penalty", "sgd": "rate", "neighbors": "neighbors"}
"""What a solver's setting is."""


@singledispatch
def table(result: object) -> str:
    """Return a result as lines of text.

    Raises:
        TypeError: There is no table for this kind.
    """
    raise TypeError(f"there is no table for a {type(result).__name__}")


@table.register
def _(result: PaletteReport) -> str:
    psnr = "infinite" if result.psnr_db is None else f"{result.psnr_db:.2f} dB"
    return (
        f"{result.size} colors, fitted to images of {result.image_size}x{result.image_size} "
        f"pixels; on {result.images} images of {result.split} the mean squared error is "
        f"{result.mean_squared_error:.2f}, the PSNR {psnr}"
    )


@table.register
def _(result: LikelihoodResult) -> str:
    hidden = " (hidden pixels)" if result.objective == "masked" else ""
    text = (
        f"{result.nats_per_pixel:.4f} nats, {result.bits_per_pixel:.4f} bits per pixel{hidden} "
        f"over {result.images} images"
    )
    if result.nats_per_pixel_from_second is not None:
        text += f"; {result.nats_per_pixel_from_second:.4f} nats over pixels 2 to n"
    return text


@table.register
def _(result: LayerProbes) -> str:
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
    return "\n".join(lines)


def _doubts(row: ProbeFit | FewLabelsRow | MasksResult) -> str:
    return "".join(f"  {doubt}" for doubt in row.doubts)


@table.register
def _(result: MasksResult) -> str:
    head = "class head" if result.penalty is None else f"penalty {result.penalty:.0e}"
    return (
        f"layer {result.layer}, {head}, test accuracy{_doubts(result)}\n"
        f"modal class of {result.masks} masks  {result.modal:.2%}\n"
        f"one mask, on average    {result.single_mean:.2%}\n"
        f"no mask                 {result.unmasked:.2%}"
    )


@table.register
def _(result: Along) -> str:
    lines = ["   step    nats  best layer    test"]
    lines += [
        f"{row.step:7}  {row.nats_per_pixel:.4f}  {row.best_layer:10}  {row.test_accuracy:6.2%}"
        for row in result.snapshots
    ]
    return "\n".join(lines)


@table.register
def _(result: FewLabelsResult) -> str:
    lines = [f"layer {result.layer}, {result.layer_chosen}", "labels a class  test accuracy"]
    for row in result.rows:
        spread = row.standard_deviation
        text = f"{row.labels_per_class:14}  {100 * row.mean:.2f}"
        text += " %" if spread is None else f" +- {100 * spread:.2f} %"
        if row.fine_tuned is not None:
            text += f", fine-tuned {100 * row.fine_tuned.mean:.2f} %"
        lines.append(text + _doubts(row))
    lines.append(f"mean and standard deviation over {result.subsets} random subsets")
    return "\n".join(lines)


@table.register
def _(result: FinetuneResult) -> str:
    if result.test_accuracy is not None:
        return f"test accuracy {result.test_accuracy:.2%}"
    if result.validation_accuracy is not None:
        return f"validation accuracy {result.validation_accuracy:.2%}"
    return "trained on all images; its search measures the outcome alone"


@table.register
def _(result: SearchResult) -> str:
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
        lines.append(f"test accuracy {result.test_accuracy:.2%}")
    return "\n".join(lines)


@table.register
def _(result: OutliersResult) -> str:
    rows = [("own test images", result.own), *((row.name, row) for row in result.foreign)]
    width = max(len(name) for name, _ in rows)
    lines = [f"{'':{width}}  images  nats per pixel    AUROC: loss  typicality"]
    lines.append(_image_set("own test images", result.own, width))
    for row in result.foreign:
        aurocs = f"{row.auroc_loss:9.3f}  {row.auroc_typicality:10.3f}"
        lines.append(f"{_image_set(row.name, row, width)}  {aurocs}")
    lines.append(
        "AUROC: how often a foreign image scores higher than an own one; 0.5 is chance\n"
        "loss: the higher, the more foreign; typicality: the farther from the "
        f"{result.typical_nats_per_pixel:.4f} nats of validation images, to either side"
    )
    likelier = [row.name for row in result.foreign if row.auroc_loss < 0.5]
    if likelier:
        lines.append(
            f"likelier than the run's own images: {', '.join(likelier)}. A low loss says that an "
            "image is easy to predict, not that it is like those of training"
        )
    return "\n".join(lines)


def _image_set(name: str, row: ImageSet, width: int) -> str:
    nats = f"{row.nats_per_pixel:7.4f} +- {row.standard_deviation:6.4f}"
    return f"{name:{width}}  {row.images:6}  {nats}"


@table.register
def _(result: Converted) -> str:
    model = result.model
    text = (
        f"{result.written} from {result.read}, {'autoregressive' if model.causal else 'BERT'}, "
        f"{model.layers} layers of width {model.width}, {model.heads} heads, "
        f"{model.parameters:,} weights, {model.colors} colors, "
        f"{model.image_size}x{model.image_size} pixels"
        + (f", {result.classes} classes" if result.classes else "")
    )
    return text + (f"\nleft out: {'; '.join(result.left_out)}" if result.left_out else "")
