"""The `igpt` command: reads arguments, calls one library function, prints.

Nothing heavy is imported before a command runs, so that help comes at once. What a user can get
wrong arrives here as `IgptError` and leaves as one line on stderr, with exit code 2.
"""

import dataclasses
import difflib
import json
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO, get_args

import click

from igpt import __version__
from igpt.errors import DataError, IgptError
from igpt.pixels.filters import ResamplingFilter
from igpt.values import to_dict

if TYPE_CHECKING:
    from igpt.evaluation.outliers import OutliersResult
    from igpt.evaluation.probe import LayerProbes
    from igpt.runs.rates import SearchResult

_PATH = click.Path(path_type=Path)


class _Commands(click.Group):
    """Commands in the order of the work, and the nearest name for one that does not exist."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        if args and args[0] not in self.commands and not args[0].startswith("-"):
            close = difflib.get_close_matches(args[0], self.commands, n=1, cutoff=0.5)
            hint = f"did you mean {close[0]!r}?" if close else f"see {ctx.command_path} --help"
            ctx.fail(f"there is no command {args[0]!r}; {hint}")
        return super().resolve_command(ctx, args)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit: 0 if all went well, 2 for what the user can put right."""
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _note
            _igpt.main(
                args=list(arguments) if arguments is not None else None, standalone_mode=False
            )
        code = 0
    except click.exceptions.Abort:
        code = _complain("stopped", code=130)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message())
        code = 2
    except click.ClickException as error:
        where = getattr(getattr(error, "ctx", None), "command_path", "igpt")
        message = " ".join(error.format_message().split())
        code = _complain(f"{message} (see {where} --help)")
    except IgptError as error:
        code = _complain(str(error), code=getattr(error, "exit_code", 2))
    except KeyboardInterrupt:
        code = _complain("stopped; nothing half-written was left", code=130)
    except BrokenPipeError:
        code = 1
    sys.exit(code)


def _note(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Show our own warnings as one line, and others as Python does."""
    if category is UserWarning:
        print(f"igpt: note: {message}", file=sys.stderr)
    else:
        print(warnings.formatwarning(message, category, filename, lineno, line), file=sys.stderr)


def _complain(message: str, *, code: int = 2) -> int:
    print(f"igpt: {message}", file=sys.stderr)
    return code


def _print(result: Any, as_json: bool, table: str) -> None:
    click.echo(json.dumps(to_dict(result), indent=2) if as_json else table)


def _options(*decorators: Callable[..., Any]) -> Callable[[Any], Any]:
    def decorate(function: Any) -> Any:
        for decorator in reversed(decorators):
            function = decorator(function)
        return function

    return decorate


_DATA = click.option("--data", type=_PATH, required=True, help="Record store to read.")
_DEVICE = click.option(
    "--device", default="auto", show_default=True, help="cpu, cuda, cuda:1 ...; auto: a GPU if any."
)
_COUNT = click.IntRange(min=1)
_SEED = click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
_JSON = click.option("--json", "as_json", is_flag=True, help="Print the figures as JSON.")
_SECONDS = click.option(
    "--seconds", type=float, help="Stop after so long, saved; go on later with --resume."
)

_PAPER = "paper"  # --search-rates without a list


def _rates(
    context: click.Context, option: click.Parameter, text: str | None
) -> tuple[float, ...] | str | None:
    """Read a list of learning rates."""
    if text is None or text == _PAPER:
        return text
    try:
        return tuple(float(rate) for rate in text.split(",")) if text else ()
    except ValueError as error:
        raise click.BadParameter(
            f"wants learning rates from high to low, such as 0.01,0.003, or none, got {text!r}"
        ) from error


_SEARCH = _options(
    click.option(
        "--search-rates", "rates", is_flag=False, flag_value=_PAPER, callback=_rates,
        metavar="[RATES]",
        help="Train with one learning rate after another, such as 0.01,0.003,0.001, until "
        "validation gets worse, each in a folder of its own in --out; alone: the paper's rates. "
        "The same command again goes on.",
    ),
    click.option(
        "--fold-validation", is_flag=True,
        help="Learn from train and validation images together; after a search, in a last run "
        "with the best rate, final/ in --out.",
    ),
)  # fmt: skip
_SETTINGS = click.option(
    "--set", "settings", multiple=True, metavar="PATH=VALUE",
    help="Set a field of the recipe, such as training.steps=500; see igpt recipes NAME.",
)  # fmt: skip
_SAMPLING = _options(
    click.option("--temperature", type=float, default=1.0, show_default=True,
                 help="Below 1 for safer colors; 0 for always the likeliest."),
    click.option("--top-k", type=int, help="Draw from the k likeliest colors only."),
    click.option("--top-p", type=float, help="Draw from the likeliest colors of this probability."),
    click.option("--compile", is_flag=True,
                 help="Compile first: takes seconds, and pays from a few batches on."),
    _SEED,
)  # fmt: skip
_FILTERS = get_args(ResamplingFilter)
_FILTER = click.option(
    "--filter",
    type=click.Choice(_FILTERS),
    default="box",
    show_default=True,
    help="How to resample; all are antialiased.",
)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="igpt")
def _igpt() -> None:
    """Generative pretraining from pixels.

    Images become tokens, a transformer learns to predict them, and its middle layers turn out to
    know what is in the picture.
    """


@_igpt.command()
@click.option("--out", type=_PATH, default=Path("runs/quickstart"), show_default=True)
@_DEVICE
@_SEED
@_JSON
def quickstart(out: Path, device: str, seed: int, as_json: bool) -> None:
    """The whole method on scikit-learn's digits, in minutes and without network."""
    from igpt.quickstart import quickstart, summary_table

    summary = quickstart(out, device=device, seed=seed)
    _print(summary, as_json, summary_table(summary, out))


@_igpt.command()
@click.argument("name", required=False)
def recipes(name: str | None) -> None:
    """List the recipes, or print every setting of one."""
    from igpt.runs.recipes import RECIPES, find_recipe

    if name:
        click.echo(json.dumps(to_dict(find_recipe(name)), indent=2))
        return
    for known, recipe in RECIPES.items():
        click.echo(
            f"{known:18} {recipe.model.parameters / 1e6:8.1f}M weights  {recipe.description}"
        )


@_igpt.group(cls=_Commands)
def data() -> None:
    """Turn images into a record store."""


@data.command("prepare")
@click.argument("source")
@click.option(
    "--image-size", type=_COUNT, required=True, help="Side of the stored images, in pixels."
)
@click.option("--out", type=_PATH, required=True, help="Folder of the new store.")
@_FILTER
@click.option(
    "--validation-fraction",
    type=float,
    default=0.1,
    show_default=True,
    help="Held out from train, if the source has no validation split. ImageNet: 0.04.",
)
@click.option(
    "--test-fraction",
    type=float,
    default=0.1,
    show_default=True,
    help="Held out from train, if the source has no test split; 0 for none.",
)
@_SEED
@click.option("--strict", is_flag=True, help="Refuse broken files rather than skip and count them.")
@click.option("--enlarge", is_flag=True, help="Allow images smaller than --image-size.")
@click.option("--limit", type=_COUNT, help="Use only so many images of each split, drawn by seed.")
@click.option(
    "--placements",
    type=int,
    default=4,
    show_default=True,
    help="For the source 'digits': places at which each digit is put.",
)
@click.option("--palette", type=_PATH, help="For token arrays: the palette they stand for.")
@click.option(
    "--crops",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Make N random crops of each whole training image, as the paper does for ImageNet, "
    "rather than its centered square. Train on them with --set augmentation=none.",
)
@click.option(
    "--fast-jpeg",
    is_flag=True,
    help="With --crops: let the JPEG decoder shrink images as far as crops stay twice "
    "--image-size. The crops are the same, their pixels differ: 31 dB PSNR, 44 or more if --filter "
    "is not box.",
)
def data_prepare(source: str, out: Path, palette: Path | None, **options: Any) -> None:  # fmt: skip
    """Read SOURCE once and store its images at one size.

    SOURCE is a folder of images (class folders are labels), a folder of parquet files in the hub's
    layout, the name of a hub data set such as uoft-cs/cifar10, 'digits', which ships with
    scikit-learn, or, with --palette, the authors' token arrays: tokens/imagenet for
    tokens/imagenet_trX.npy, imagenet_teX.npy and so on, with labels in imagenet_trY.npy.
    """
    from igpt.data.prepare import prepare_store
    from igpt.data.store import StoreConfig

    store = prepare_store(source, out, StoreConfig(**options), palette=palette)
    click.echo(store.summary())


@_igpt.group(cls=_Commands)
def palette() -> None:
    """Find the few hundred colors that stand in for all."""


@palette.command("fit")
@click.argument("store", type=_PATH)
@click.option(
    "--size",
    type=click.IntRange(2, 65536),
    default=512,
    show_default=True,
    help="Number of colors.",
)
@click.option("--out", type=_PATH, required=True, help="The palette file, .npy.")
@click.option("--grey", is_flag=True, help="Levels of grey instead of colors.")
@click.option("--image-size", type=_COUNT, help="Fit at this size, if not the store's own.")
@_SEED
@_JSON
def palette_fit(
    store: Path,
    size: int,
    out: Path,
    grey: bool,
    image_size: int | None,
    seed: int,
    as_json: bool,
) -> None:
    """Fit a palette to the train split of STORE, by k-means.

    Beside it: OUT.json with the distortion it causes, and OUT.png, originals above quantized.
    """
    from igpt.runs.palette import fit_palette_file

    report = fit_palette_file(store, out, size=size, grey=grey, image_size=image_size, seed=seed)
    table = (
        f"{out}: {report.size} colors; on {report.images} images of {report.split} the "
        f"mean squared error is {report.mean_squared_error:.2f}, "
        f"the PSNR {report.psnr_db:.2f} dB\n"
        f"{out.with_suffix('.png')}: originals above quantized"
    )
    _print(report, as_json, table)


@_igpt.command()
@click.argument("recipe", required=False)
@click.option("--data", type=_PATH, help="Record store to learn from.")
@click.option("--palette", type=_PATH, help="Palette file.")
@click.option("--out", type=_PATH, help="Folder of the new run.")
@click.option("--resume", "resumed", type=_PATH, metavar="RUN", help="Go on with this run instead.")
@click.option("--steps", type=_COUNT, help="Short for --set training.steps=...")
@_SETTINGS
@_SEARCH
@_SECONDS
@_DEVICE
@_JSON
def pretrain(
    recipe: str | None,
    data: Path | None,
    palette: Path | None,
    out: Path | None,
    resumed: Path | None,
    steps: int | None,
    settings: tuple[str, ...],
    rates: tuple[float, ...] | str | None,
    fold_validation: bool,
    seconds: float | None,
    device: str,
    as_json: bool,
) -> None:
    """Pretrain a network by RECIPE, or go on with a run.

    A run that is stopped, by Ctrl-C or otherwise, loses nothing but the steps since its last
    checkpoint: igpt pretrain --resume RUN
    """
    if steps is not None:
        settings = (*settings, f"training.steps={steps}")
    if resumed is not None:
        _refuse_search(rates, fold_validation)
        if recipe or out or palette or settings:
            raise click.UsageError(
                "--resume goes on with the run as it is; leave out the recipe, --palette, --out, "
                "--steps and --set"
            )
        from igpt.runs.resume import resume

        run = resume(resumed, data=data, device=device, seconds=seconds)
    else:
        from igpt.runs.recipes import find_recipe, with_settings

        if recipe is None:
            raise click.UsageError("missing RECIPE (see igpt recipes), or --resume RUN")
        if any(setting.startswith("model.colors=") for setting in settings):
            raise click.UsageError("model.colors follows the palette; fit one with --size instead")
        chosen = with_settings(find_recipe(recipe), settings)
        if data is None or palette is None or out is None:
            raise click.UsageError("a new run wants --data, --palette and --out")
        if rates is not None:
            _refuse_rate(settings, "training.learning_rate")
            from igpt.runs.rates import PRETRAINING_RATES
            from igpt.runs.search import search_pretraining

            result = search_pretraining(
                chosen, name=recipe, data=data, palette=palette, out=out, device=device,
                rates=PRETRAINING_RATES if isinstance(rates, str) else rates,
                fold_validation=fold_validation, seconds=seconds,
            )  # fmt: skip
            _print(result, as_json, _search_table(result, out))
            return
        from igpt.runs.pretrain import pretrain

        run = pretrain(
            chosen, name=recipe, data=data, palette=palette, out=out, device=device,
            seconds=seconds, fold_validation=fold_validation,
        )  # fmt: skip
    if as_json:
        from igpt.training.metrics import read_metrics

        click.echo(json.dumps(read_metrics(run.metrics)[-1], indent=2))


def _search_table(result: "SearchResult", out: Path) -> str:
    """Return a search's tries as a small table, and what came of it."""
    title = "validation accuracy" if result.kind == "finetune" else "validation nats per pixel"
    lines = [f"learning rate  {title}"]
    for row in result.tries:
        mark = "  best" if row.learning_rate == result.best else ""
        lines.append(f"{row.learning_rate:13g}  {result.score_text(row):>{len(title)}}{mark}")
    if result.best is None or result.run is None:
        return "\n".join([*lines, "not finished; the same command again goes on"])
    if not result.turned:
        lines.append("none was worse than the one before; still lower rates may be better")
    folded = ", train and validation together" if result.run == "final" else ""
    test = "" if result.test_accuracy is None else f", test accuracy {result.test_accuracy:.2%}"
    lines.append(f"{out / result.run}: learning rate {result.best:g}{folded}{test}")
    return "\n".join(lines)


def _refuse_search(rates: object, fold_validation: bool) -> None:
    if rates is not None or fold_validation:
        raise click.UsageError(
            "--resume goes on with one run as it is; leave out --search-rates and "
            "--fold-validation, or to go on with a search give its own command again"
        )


def _refuse_rate(settings: tuple[str, ...], name: str) -> None:
    if any(setting.startswith(f"{name}=") for setting in settings):
        raise click.UsageError(f"--search-rates decides {name}; leave out its --set")


@_igpt.command()
@click.argument("run", type=_PATH)
@_DATA
@click.option("--split", default="test", show_default=True, help="train, validation or test.")
@click.option("--images", type=_COUNT, help="Measure only the first so many.")
@_SEED
@_DEVICE
@_JSON
def evaluate(
    run: Path,
    data: Path,
    split: str,
    images: int | None,
    seed: int,
    device: str,
    as_json: bool,
) -> None:
    """Measure how well RUN predicts held-out images, in nats and bits per pixel."""
    from igpt.runs.measure import evaluate_run

    result = evaluate_run(run, data=data, split=split, images=images, seed=seed, device=device)
    hidden = " (hidden pixels)" if result.objective == "masked" else ""
    table = (
        f"{split}: {result.nats_per_pixel:.4f} nats, {result.bits_per_pixel:.4f} bits per "
        f"pixel{hidden} over {result.images} images"
    )
    if result.nats_per_pixel_from_second is not None:
        table += f"; {result.nats_per_pixel_from_second:.4f} nats over pixels 2 to n"
    _print(result, as_json, table)


@_igpt.command()
@click.argument("run", type=_PATH)
@_DATA
@click.option("--layer", "layers", type=int, multiple=True, help="A layer, 0 to L; all by default.")
@click.option("--untrained", is_flag=True, help="The same network with fresh weights, to compare.")
@click.option(
    "--concatenate",
    type=_COUNT,
    default=1,
    show_default=True,
    help="Also probe so many layers around the best as one feature; the paper: 5.",
)
@click.option(
    "--solver",
    type=click.Choice(("lbfgs", "sgd", "ridge", "neighbors")),
    default="lbfgs",
    show_default=True,
    help="sgd is the paper's for ImageNet; the last two are cheap checks.",
)
@_SEED
@_DEVICE
@_JSON
def probe(
    run: Path,
    data: Path,
    layers: tuple[int, ...],
    as_json: bool,
    **options: Any,
) -> None:
    """Fit a linear probe to every layer's features, beside raw pixels."""
    from igpt.runs.measure import probe_run

    result = probe_run(run, data=data, layers=layers or None, **options)
    if options["solver"] != "lbfgs":
        _print(result, as_json, _other_probe_table(result))
        return
    lines = ["layer  validation    test  penalty  converged"]
    lines += [
        f"{row.layer:5}  {row.validation_accuracy:10.2%}  {row.test_accuracy:6.2%}  "
        f"{row.setting:7.0e}  {'yes' if row.converged else 'NO'}"
        for row in result.layers
    ]
    if result.raw_pixels is not None:
        lines.append(f"raw pixels         {result.raw_pixels.test_accuracy:9.2%}")
    lines += _concatenated_line(result)
    lines.append(f"best layer by validation: {result.best_layer}, test {result.test_accuracy:.2%}")
    _print(result, as_json, "\n".join(lines))


@_igpt.command()
@click.argument("run", type=_PATH)
@_DATA
@click.option("--masks", type=_COUNT, default=5, show_default=True, help="Masks of each image.")
@click.option("--layer", type=int, help="Layer to read; the best of igpt probe by default.")
@_SEED
@_DEVICE
@_JSON
def masks(run: Path, as_json: bool, **options: Any) -> None:
    """Classify by a BERT RUN under several masks: the modal class, beside one mask and none."""
    from igpt.runs.measure import masks_run

    result = masks_run(run, **options)
    table = (
        f"layer {result.layer}, "
        + ("class head" if result.penalty is None else f"penalty {result.penalty:.0e}")
        + ", test accuracy\n"
        f"modal class of {result.masks} masks  {result.modal:.2%}\n"
        f"one mask, on average    {result.single_mean:.2%}\n"
        f"no mask                 {result.unmasked:.2%}"
    )
    _print(result, as_json, table)


def _concatenated_line(result: "LayerProbes") -> list[str]:
    joined = result.concatenated
    if joined is None:
        return []
    first, *_, last = joined.layers
    return [f"layers {first} to {last} as one  {joined.test_accuracy:9.2%}"]


def _other_probe_table(result: "LayerProbes") -> str:
    lines = ["layer  validation    test  setting"]
    lines += [
        f"{row.layer:5}  {row.validation_accuracy:10.2%}  {row.test_accuracy:6.2%}  "
        f"{row.setting:7g}"
        for row in result.layers
    ]
    lines += _concatenated_line(result)
    lines.append(f"best layer by validation: {result.best_layer}, test {result.test_accuracy:.2%}")
    if result.rank_correlation is not None:
        lines.append(f"ranks the layers as L-BFGS does: Spearman's {result.rank_correlation:.2f}")
    return "\n".join(lines)


@_igpt.command()
@click.argument("run", type=_PATH)
@_DATA
@_DEVICE
@_JSON
def along(run: Path, as_json: bool, **options: Any) -> None:
    """Measure loss and probes of RUN as it was on the way (training.snapshots) and at its end."""
    from igpt.runs.along import along_run

    rows = along_run(run, **options).snapshots
    lines = ["   step    nats  best layer    test"]
    lines += [
        f"{row.step:7}  {row.nats_per_pixel:.4f}  {row.best_layer:10}  {row.test_accuracy:6.2%}"
        for row in rows
    ]
    _print(rows, as_json, "\n".join(lines))


@_igpt.command("few-labels")
@click.argument("run", type=_PATH)
@_DATA
@click.option(
    "--labels", "labels_per_class", type=_COUNT, multiple=True, default=(4, 25, 400),
    show_default=True, help="Labels of each class; give it several times for several rows.",
)  # fmt: skip
@click.option("--subsets", type=_COUNT, default=5, show_default=True, help="Random draws of each.")
@click.option("--layer", type=int, help="Layer to read; the best of igpt probe by default.")
@click.option(
    "--fine-tune", "finetune_steps", type=click.IntRange(min=0), default=0, show_default=True,
    metavar="STEPS", help="Also fine-tune all weights on each subset, for so many steps.",
)  # fmt: skip
@_SEED
@_DEVICE
@_JSON
def few_labels(run: Path, as_json: bool, **options: Any) -> None:
    """Probe RUN with a handful of labels a class, on random subsets."""
    from igpt.runs.measure import few_labels_run

    result = few_labels_run(run, **options)
    lines = [f"layer {result.layer}, {result.layer_chosen}", "labels a class  test accuracy"]
    for row in result.rows:
        spread = row.standard_deviation
        told = "" if spread is None else f" +- {100 * spread:.2f}"
        lines.append(f"{row.labels_per_class:14}  {100 * row.mean:.2f}{told} %")
        if row.fine_tuned is not None:
            lines[-1] += f", fine-tuned {100 * row.fine_tuned.mean:.2f} %"
    lines.append(f"mean and standard deviation over {result.subsets} random subsets")
    _print(result, as_json, "\n".join(lines))


@_igpt.command()
@click.argument("run", type=_PATH, required=False)
@click.option("--data", type=_PATH, help="Labelled record store.")
@click.option("--out", type=_PATH, help="Folder of the new run.")
@click.option("--resume", "resumed", type=_PATH, metavar="RUN", help="Go on with this run instead.")
@click.option("--steps", type=_COUNT, help="Short for --set finetune.training.steps=...")
@click.option(
    "--from-scratch", is_flag=True,
    help="The baseline: RUN's network with fresh weights, classes only; see finetune.dropout.",
)  # fmt: skip
@_SETTINGS
@_SEARCH
@_SECONDS
@_DEVICE
@_JSON
def finetune(
    run: Path | None,
    data: Path | None,
    out: Path | None,
    resumed: Path | None,
    steps: int | None,
    from_scratch: bool,
    settings: tuple[str, ...],
    rates: tuple[float, ...] | str | None,
    fold_validation: bool,
    seconds: float | None,
    device: str,
    as_json: bool,
) -> None:
    """Teach a pretrained RUN classes, with a joint pixel loss; keeps the best weights."""
    from igpt.runs import finetune as finetuning
    from igpt.runs.resume import resume

    if steps is not None:
        settings = (*settings, f"training.steps={steps}")
    if from_scratch:
        settings = ("from_scratch=true", "pixel_coefficient=0", *settings)
    if resumed is not None:
        _refuse_search(rates, fold_validation)
        if run or out or settings:
            raise click.UsageError(
                "--resume goes on with the run as it is; leave out RUN, --out, --steps, --set and "
                "--from-scratch"
            )
        tuned = resume(resumed, data=data, device=device, seconds=seconds)
    else:
        if run is None or data is None or out is None:
            raise click.UsageError("fine-tuning wants RUN, --data and --out, or --resume RUN")
        from igpt.runs.recipes import with_settings

        config = with_settings(finetuning.config_for(run), settings)
        if rates is not None:
            _refuse_rate(settings, "training.learning_rate")
            from igpt.runs.rates import FINETUNING_RATES
            from igpt.runs.search import search_finetuning

            result = search_finetuning(
                run, data=data, out=out, config=config, device=device,
                rates=FINETUNING_RATES if isinstance(rates, str) else rates,
                fold_validation=fold_validation, seconds=seconds,
            )  # fmt: skip
            _print(result, as_json, _search_table(result, out))
            return
        tuned = finetuning.finetune(
            run, data=data, out=out, config=config, device=device, seconds=seconds,
            fold_validation=fold_validation,
        )  # fmt: skip
    result = tuned.read("finetune.json", finetuning.FinetuneResult)
    if result is not None:
        measured = "validation" if result.test_accuracy is None else "test"
        accuracy = getattr(result, f"{measured}_accuracy")
        told = "measured by its search" if accuracy is None else f"{accuracy:.2%}"
        _print(result, as_json, f"{tuned.path}: {measured} accuracy {told}")


@_igpt.command()
@click.argument("claim", required=False)
@click.option("--list", "listed", is_flag=True, help="Print what each claim costs.")
@click.option("--scale", default="tiny", show_default=True, help="tiny, small or paper.")
@click.option("--data", type=_PATH, help="Record store to learn from; tiny has the digits.")
@click.option(
    "--labelled", type=_PATH, help="Record store for probes and fine-tuning, if not --data."
)
@click.option("--seeds", type=_COUNT, default=3, show_default=True, help="How many.")
@click.option("--out", type=_PATH, default=Path("claims"), show_default=True)
@_SETTINGS
@_DEVICE
@_JSON
def reproduce(claim: str | None, listed: bool, as_json: bool, device: str, **options: Any) -> None:
    """Run a CLAIM of the paper, or 'all', and tell whether it holds at this scale.

    A reproduction that is stopped goes on when the same command is given again; networks are
    shared between claims.
    """
    from igpt.claims import page
    from igpt.claims import reproduce as reproduction

    if listed:
        found = reproduction.costs()
        _print([dataclasses.asdict(cost) for cost in found], as_json, page.costs_table(found))
        return
    if claim is None:
        raise click.UsageError("missing CLAIM; igpt reproduce --list tells them")
    results = []
    for name in reproduction.CLAIMS if claim == "all" else [claim]:
        try:
            results.append(reproduction.reproduce(name, device=device, **options))
        except DataError as error:
            if claim != "all" or not results:
                raise
            click.echo(f"igpt: {name} is left out: {error}", err=True)
    told = "\n\n".join(page.result_text(result) for result in results)
    _print(results if claim == "all" else results[0], as_json, told)


@_igpt.command()
@click.argument("folders", type=_PATH, nargs=-1, required=True)
@click.option("--out", type=_PATH, default=Path("claims.md"), show_default=True)
def claims(folders: tuple[Path, ...], out: Path) -> None:
    """Write one Markdown page about what igpt reproduce left in FOLDERS, figures beside it."""
    from igpt.claims.page import write_page

    write_page(folders, out)
    click.echo(f"{out}")


@_igpt.command()
@click.argument("run", type=_PATH)
@click.argument("images", type=_PATH, nargs=-1)
@click.option("--data", type=_PATH, help="Complete test images of this store instead of files.")
@click.option("--count", type=_COUNT, help="With --data: how many; 8 by default.")
@click.option("--rows", type=int, help="Rows that are given; half of them by default.")
@click.option("--samples", type=_COUNT, default=4, show_default=True, help="Completions of each.")
@click.option(
    "--out", type=_PATH, help="With IMAGES: folder for the pictures; completions/ by default."
)
@click.option(
    "--filter", type=click.Choice(_FILTERS), help="With IMAGES: how to resample; box by default."
)
@_SAMPLING
@_DEVICE
def complete(
    run: Path,
    images: tuple[Path, ...],
    data: Path | None,
    count: int | None,
    rows: int | None,
    samples: int,
    out: Path | None,
    filter: ResamplingFilter | None,
    temperature: float,
    top_k: int | None,
    top_p: float | None,
    compile: bool,
    seed: int,
    device: str,
) -> None:
    """Finish half-seen IMAGES, as a grid and each by itself.

    With --data instead of IMAGES, test images of a record store are finished, and the grid is kept
    as completions.png in the run, where the report finds it.
    """
    from igpt.model.sampling import SamplingConfig
    from igpt.runs.pictures import complete_files, complete_records

    if bool(images) == (data is not None):
        raise click.UsageError("give either IMAGES or --data, and not both")
    if data is not None and (out or filter):
        raise click.UsageError("--out and --filter go with IMAGES; --data writes into the run")
    if images and count:
        raise click.UsageError("--count goes with --data")
    sampling = SamplingConfig(temperature=temperature, top_k=top_k, top_p=top_p, compile=compile)
    if data is not None:
        written = complete_records(
            run, data, count=count or 8, rows=rows, samples=samples, sampling=sampling, seed=seed,
            device=device,
        )  # fmt: skip
    else:
        written = complete_files(
            run, images, out or Path("completions"), rows=rows, samples=samples,
            filter=filter or "box", sampling=sampling,
            seed=seed, device=device,
        )  # fmt: skip
    click.echo(f"{written}: given | {samples} completions | original, a row an image")


@_igpt.command()
@click.argument("run", type=_PATH)
@click.option("--samples", type=_COUNT, default=16, show_default=True)
@click.option("--out", type=_PATH, default=Path("samples.png"), show_default=True)
@_SAMPLING
@_DEVICE
def sample(
    run: Path,
    samples: int,
    out: Path,
    temperature: float,
    top_k: int | None,
    top_p: float | None,
    compile: bool,
    seed: int,
    device: str,
) -> None:
    """Draw images from nothing, as one PNG."""
    from igpt.model.sampling import SamplingConfig
    from igpt.runs.pictures import sample_file

    sampling = SamplingConfig(temperature=temperature, top_k=top_k, top_p=top_p, compile=compile)
    sample_file(run, out, samples=samples, sampling=sampling, seed=seed, device=device)
    click.echo(f"{out}: {samples} samples")


@_igpt.command()
@click.argument("run", type=_PATH)
@click.argument("images", type=_PATH, nargs=-1)
@click.option("--data", type=_PATH, help="Draw test images of this store instead of files.")
@click.option("--count", type=_COUNT, help="With --data: how many; 8 by default.")
@click.option("--out", type=_PATH, help="With IMAGES: the picture; surprise.png by default.")
@click.option(
    "--filter", type=click.Choice(_FILTERS), help="With IMAGES: how to resample; box by default."
)
@_SEED
@_DEVICE
@_JSON
def surprise(
    run: Path,
    images: tuple[Path, ...],
    data: Path | None,
    count: int | None,
    out: Path | None,
    filter: ResamplingFilter | None,
    seed: int,
    device: str,
    as_json: bool,
) -> None:
    """Tell how likely RUN finds IMAGES, and draw which pixels surprise it.

    With --data instead of IMAGES, test images of a record store are drawn, and the picture is kept
    as surprise.png in the run, where the report finds it.
    """
    from igpt.runs.pictures import surprise_file, surprise_records

    if bool(images) == (data is not None):
        raise click.UsageError("give either IMAGES or --data, and not both")
    if data is not None and (out or filter):
        raise click.UsageError("--out and --filter go with IMAGES; --data writes into the run")
    if images and count:
        raise click.UsageError("--count goes with --data")
    if data is not None:
        out = run / "surprise.png"
        found = surprise_records(run, data, count=count or 8, seed=seed, device=device)
        told = {f"test image {number}": value for number, value in found.items()}
    else:
        out = out or Path("surprise.png")
        nats = surprise_file(run, images, out, filter=filter or "box", device=device)
        told = {str(image): value for image, value in zip(images, nats, strict=True)}
    lines = [f"{image}: {value:.4f} nats per pixel" for image, value in told.items()]
    lines.append(
        f"{out}: image | in the palette's colors | surprise, by the scale below: from 0 nats to "
        "those of a color drawn blindly, or more"
    )
    _print(told, as_json, "\n".join(lines))


@_igpt.command()
@click.argument("run", type=_PATH)
@_DATA
@click.option(
    "--other", "others", type=_PATH, multiple=True, metavar="STORE",
    help="Record store of foreign images; give it several times for several.",
)  # fmt: skip
@click.option(
    "--images", type=_COUNT, default=1000, show_default=True, help="Images of each set at most."
)
@_SEED
@_DEVICE
@_JSON
def outliers(run: Path, as_json: bool, **options: Any) -> None:
    """Try to tell foreign images from RUN's own test images by their likelihood.

    Foreign are noise, flat colors, scikit-learn's digits, the test images with their pixels
    shuffled, and other stores. Simple images come out as *more* likely than the run's own, which is
    a known failure: an AUROC near 0. The table is kept in the run, as outliers.json, beside
    outliers.png, how the losses are spread, and extremes.png, the likeliest and unlikeliest test
    images.
    """
    from igpt.runs.measure import outliers_run

    result = outliers_run(run, **options)
    _print(result, as_json, _outliers_table(result))


def _outliers_table(result: "OutliersResult") -> str:
    own, foreign = to_dict(result.own), [to_dict(row) for row in result.foreign]
    rows = [{"name": "own test images", **own}, *foreign]
    width = max(len(row["name"]) for row in rows)
    lines = [f"{'':{width}}  images  nats per pixel    AUROC: loss  typicality"]
    for row in rows:
        told = f"{row['nats_per_pixel']:7.4f} +- {row['standard_deviation']:6.4f}"
        line = f"{row['name']:{width}}  {row['images']:6}  {told}"
        if "auroc_loss" in row:
            line += f"  {row['auroc_loss']:9.3f}  {row['auroc_typicality']:10.3f}"
        lines.append(line)
    likelier = [row.name for row in result.foreign if row.auroc_loss < 0.5]
    lines.append(
        "AUROC: how often a foreign image scores higher than an own one; 0.5 is chance\n"
        "loss: the higher, the more foreign; typicality: the farther from the "
        f"{result.typical_nats_per_pixel:.4f} nats of validation images, to either side"
    )
    if likelier:
        lines.append(
            f"likelier than the run's own images: {', '.join(likelier)}. A low loss says that an "
            "image is easy to predict, not that it is like those of training"
        )
    return "\n".join(lines)


@_igpt.command()
@click.argument("run", type=_PATH)
@_DATA
@click.option("--layer", "layers", type=int, multiple=True, help="A layer, 0 to L; all by default.")
@click.option("--out", type=_PATH, required=True, help="The .npz file.")
@_DEVICE
def features(run: Path, data: Path, layers: tuple[int, ...], out: Path, device: str) -> None:
    """Write pooled features of every split to one .npz file.

    For each split: NAME_features (image, layer, width) and, where there are labels, NAME_labels;
    beside them, layers and class_names.
    """
    from igpt.runs.measure import write_features

    shapes = write_features(run, data=data, layers=layers or None, out=out, device=device)
    for name, shape in shapes.items():
        click.echo(f"{out}: {name} {' x '.join(map(str, shape))}")


@_igpt.command()
@click.argument("source")
@click.argument("destination", type=_PATH)
@click.option(
    "--to",
    type=click.Choice(("igpt", "huggingface")),
    help="What to write; by default igpt's own kind, or from that, transformers'.",
)
@click.option(
    "--head",
    type=click.Choice(("colors", "classes")),
    help="With --to huggingface: the head that is written; classes if there are any.",
)
@click.option("--palette", type=_PATH, help="For a TensorFlow checkpoint: kmeans_centers.npy.")
@click.option("--heads", type=_COUNT, help="Attention heads, where nothing else tells.")
@click.option("--revision", help="For a hub name: a branch, tag or commit.")
@click.option("--widen", is_flag=True, help="Accept half-precision weights, as float32.")
@_JSON
def convert(source: str, destination: Path, as_json: bool, **options: Any) -> None:
    """Write the model at SOURCE as the folder DESTINATION, bit for bit.

    SOURCE is a run or model folder, a folder that transformers saved, a name on the Hugging Face
    hub such as openai/imagegpt-small, or a TensorFlow checkpoint of the authors', by its path
    without .index, with --palette.
    """
    import dataclasses

    from igpt.formats.convert import convert

    done = convert(source, destination, **options)
    model = done.model
    table = (
        f"{destination}: {done.written} from {done.read}, "
        f"{'autoregressive' if model.causal else 'BERT'}, {model.layers} layers of width "
        f"{model.width}, {model.heads} heads, {model.parameters:,} weights, "
        f"{model.colors} colors, {model.image_size}x{model.image_size} pixels"
        + (f", {done.classes} classes" if done.classes else "")
    )
    if done.left_out:
        table += f"\nleft out: {'; '.join(done.left_out)}"
    _print(dataclasses.asdict(done), as_json, table)


@_igpt.command()
@click.argument("run", type=_PATH)
@click.argument("name")
@click.option(
    "--to",
    type=click.Choice(("igpt", "huggingface")),
    default="igpt",
    show_default=True,
    help="Kind of folder to publish.",
)
@click.option("--license", "license_name", help="Of the weights, such as apache-2.0 or cc-by-4.0.")
@click.option("--branch", help="Instead of the main branch.")
@click.option("--private", is_flag=True, help="If the model is new there: for you alone.")
@click.option("--message", help="Commit message.")
@click.option("--dry-run", type=_PATH, metavar="FOLDER", help="Write it to FOLDER only, to look.")
def push(run: Path, name: str, **options: Any) -> None:
    """Publish RUN's model as NAME, owner/model, on the Hugging Face hub, with a model card.

    Log in first with hf auth login, or set HF_TOKEN.
    """
    from igpt.report.publish import push

    click.echo(push(run, name, **options))


@_igpt.command()
@click.argument("runs", type=_PATH, nargs=-1, required=True)
@click.option("--out", type=_PATH, default=Path("report.html"), show_default=True)
def report(runs: tuple[Path, ...], out: Path) -> None:
    """Tell about RUNS on one page that needs nothing else."""
    from igpt.report.page import write_report

    write_report(runs, out)
    click.echo(f"{out}: {len(runs)} {'run' if len(runs) == 1 else 'runs'}")
