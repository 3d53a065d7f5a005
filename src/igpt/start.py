"""From a folder of photographs to a classifier, in one command: `igpt start`.

    result = start("photos", out=Path("runs/photos"), minutes=20)
    print(result.table(Path("runs/photos")))

What is chosen is told before the training, and kept in `start.json`, so that the same call goes on
with it after Ctrl-C or a crash, wherever that came; `igpt.looking` sees what images there are,
`igpt.choosing` has the rules, `igpt.stages` what is done. Without labels there are features and
outliers in the place of probes and fine-tuning.

    runs/photos/
    ├── start.json       what was asked for, and what was chosen, in full
    ├── data/            the record store, if the source was none
    ├── palette.npy, pretrain/, finetune/, report.html
    ├── features.npz     without labels
    └── summary.json
"""

import dataclasses
import math
import shlex
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from igpt.amounts import estimate, spoken
from igpt.choosing import Choice, Images, Machine, choose, require_possible
from igpt.data.prepare import prepare_store
from igpt.data.store import RecordStore
from igpt.errors import CheckpointError, ConfigError
from igpt.evaluation.probe import LayerProbes
from igpt.evaluation.proportions import Share
from igpt.files import read_json, remove_abandoned, write_json
from igpt.looking import (
    described,
    is_labelled,
    require_colors,
    store_config,
    why_labels_are_unused,
)
from igpt.model.config import ModelConfig
from igpt.model.pretrained import Pretrained
from igpt.paths import AnyPath
from igpt.pixels.palette import Palette
from igpt.places import kind_of, require_room
from igpt.processes import choose_device
from igpt.report.verdicts import share_text, verdicts
from igpt.runs.features import write_features
from igpt.runs.finetune import FinetuneResult
from igpt.runs.finetune import check as check_finetuning
from igpt.runs.measure import outliers_run
from igpt.runs.pretrain import check as check_pretraining
from igpt.runs.recipes import Recipe
from igpt.seals import sealed, unsealed
from igpt.settings import with_settings
from igpt.stages import Stages, say
from igpt.training.config import TrainingConfig
from igpt.training.estimate import time_step
from igpt.training.precision import settled
from igpt.values import from_dict, to_dict

CHOSEN, SUMMARY = "start.json", "summary.json"

_TIMED_IMAGES = 8  # in the steps that are timed on a CPU


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What `igpt start` was asked for; another folder has to be given for something else."""

    source: str
    """In full."""
    minutes: float
    seed: int
    settings: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Begun:
    """What `start.json` holds, beside a checksum of it."""

    asked: Asked
    choice: Choice


@dataclass(frozen=True, kw_only=True)
class StartResult:
    """What `summary.json` holds: accuracies on the test images, None without labels."""

    images: int
    """To learn from."""
    test_images: int
    nats_per_pixel: float
    """Of test images, or of training images where there are no others."""
    colors: int
    """Of the palette; without any learning, each pixel would cost the logarithm of that."""
    raw_pixel_accuracy: float | None = None
    untrained_accuracy: float | None = None
    """Of the best layer's probe; so is the next but one."""
    best_layer: int | None = None
    best_layer_accuracy: float | None = None
    fine_tuned_accuracy: float | None = None
    verdicts: tuple[str, ...] = ()
    """What the accuracies say, a sentence each."""
    next_line: str
    """The command to type next."""
    seconds: float
    """Of the call that finished it."""

    def table(self, out: Path) -> str:
        """Return the figures as a small table, where the report lies in `out`, and what is next."""
        chance = float(np.log(self.colors))
        rows = [("test loss", f"{self.nats_per_pixel:.3f} nats per pixel (chance {chance:.3f})")]
        accuracies = (
            ("raw pixels, logistic regression", self.raw_pixel_accuracy),
            ("network untrained, best layer", self.untrained_accuracy),
            (f"pretrained, layer {self.best_layer}", self.best_layer_accuracy),
            ("fine-tuned", self.fine_tuned_accuracy),
        )
        known = [(name, share) for name, share in accuracies if share is not None]
        rows = [
            (name, share_text(Share.of(share, self.test_images))) for name, share in known
        ] + rows
        rows.append(("time", spoken(self.seconds)))
        title = f"Accuracy on {self.test_images} test images:" if known else "Without labels:"
        return "\n".join([
            title,
            *(f"  {name:32} {value}" for name, value in rows),
            *self.verdicts,
            f"report: {out / 'report.html'}",
            f"next: {self.next_line}",
        ])  # fmt: skip


def start(
    source: str | Path,
    *,
    out: AnyPath,
    minutes: float = 20.0,
    device: str = "auto",
    seed: int = 0,
    settings: Sequence[str] = (),
) -> StartResult:
    """Choose and run everything from images to a report; called again, go on with it.

    Args:
        source: A record store, or what `igpt data prepare` takes: a folder, an archive, a data set
            on the hub, "digits".
        out: Folder for everything.
        minutes: That it may take, from the palette to the report; the trainings get as many steps
            as fit, by the time of a step here.
        device: `cpu`, `cuda` ...; `auto` for the first GPU, or else the CPU.
        seed: Decides all that is random.
        settings: Fields of the chosen recipe to set otherwise, `PATH=VALUE`.

    Raises:
        ConfigError: `out` holds something else, or a setting cannot be.
        DataError: There are no images at `source`, or none that can be read.
        CheckpointError: What `out` holds is damaged.
        Interrupted: SIGINT or SIGTERM came in a training; everything is saved.
    """
    out = Path(out)
    if not 0 < minutes < math.inf:
        raise ConfigError(f"--minutes must be more than 0 and finite, got {minutes:g}")
    began, chosen = time.monotonic(), choose_device(device)
    location = str(source)
    if Path(location).exists():
        location = str(Path(location).resolve())
    asked = Asked(source=location, minutes=minutes, seed=seed, settings=tuple(settings))
    begun = _reopen(out, asked)
    if begun is None:
        begun = _begin(out, asked, chosen)
    else:
        say(f"going on with what {out / CHOSEN} says was chosen")
        if (out / SUMMARY).is_file() and (out / "report.html").is_file():
            return from_dict(StartResult, read_json(out / SUMMARY), name=SUMMARY)
    recipe, grey = begun.choice.recipe, begun.choice.grey
    store = RecordStore.open(_data(out, asked))
    stages = Stages(out=out, data=store.path, recipe=recipe, name="start", device=device, seed=seed)
    side, colors = recipe.model.image_size, recipe.model.colors
    total = 6 if is_labelled(store) else 5
    say(f"[1/{total}] palette: {colors} {'greys' if grey else 'colors'}")
    stages.fit_palette(colors, grey=grey, image_size=side)
    say(f"[2/{total}] pretraining: predict the next pixel, without any label")
    stages.pretrain()
    say(f"[3/{total}] likelihood of images it has not seen")
    split = next(name for name in ("test", "validation", "train") if name in store.splits)
    nats = stages.evaluate(split).nats_per_pixel
    result = StartResult(
        images=store.splits["train"].records,
        test_images=store.splits[split].records,
        nats_per_pixel=nats,
        colors=colors,
        next_line=_similar(stages),
        seconds=0.0,
    )
    if is_labelled(store):
        say("[4/6] linear probes of every layer, of raw pixels and of the network untrained")
        probed, untrained = stages.probe(), stages.probe(untrained=True)
        say("[5/6] fine-tuning: now with labels")
        result = _with_labels(result, stages, probed, untrained, stages.finetune())
    else:
        say("[4/5] features of every image, and images unlike the others")
        _without_labels(stages, store)
    say(f"[{total}/{total}] half-seen images, completed; report")
    if "test" in store.splits:
        stages.complete()
    stages.report()
    result = dataclasses.replace(result, seconds=time.monotonic() - began)
    write_json(out / SUMMARY, to_dict(result))
    return result


def _with_labels(
    result: StartResult,
    stages: Stages,
    probed: LayerProbes,
    untrained: LayerProbes,
    tuned: FinetuneResult,
) -> StartResult:
    """Return the result with what labels gave; next is the better of two classifiers."""
    assert probed.raw_pixels is not None
    better = (tuned.validation_accuracy or 0.0) >= probed.best.validation_accuracy
    run = shlex.quote(str(stages.tuned if better else stages.run))
    return dataclasses.replace(
        result,
        raw_pixel_accuracy=probed.raw_pixels.test_accuracy,
        untrained_accuracy=untrained.test_accuracy,
        best_layer=probed.best_layer,
        best_layer_accuracy=probed.test_accuracy,
        fine_tuned_accuracy=tuned.test_accuracy,
        verdicts=verdicts(probed, untrained, tuned),
        next_line=f"igpt classify {run} photo.jpg",
    )


def _without_labels(stages: Stages, store: RecordStore) -> None:
    features = stages.out / "features.npz"
    if not features.exists():
        write_features(stages.run, data=stages.data, out=features, device=stages.device)
    if {"test", "validation"} <= store.splits.keys():
        outliers_run(
            stages.run, data=stages.data, seed=stages.seed, device=stages.device, reuse=True
        )


def _similar(stages: Stages) -> str:
    run, data = (shlex.quote(str(path)) for path in (stages.run, stages.data))
    return f"igpt similar {run} photo.jpg --among {data}"


def _reopen(out: Path, asked: Asked) -> Begun | None:
    """Return what was begun in `out`; None if nothing was.

    Raises:
        ConfigError: `out` holds something else.
        CheckpointError: `start.json` is damaged.
    """
    remove_abandoned(out.parent, out.name)
    remove_abandoned(out)
    file = out / CHOSEN
    if not file.is_file():
        if (out / "data").is_dir() and {path.name for path in out.iterdir()} == {"data"}:
            return None  # stopped before anything was chosen
        require_room(out)
        return None
    values = unsealed(read_json(file), file, error=CheckpointError)
    try:
        begun = from_dict(Begun, values, name="it")
    except ConfigError as error:
        raise CheckpointError(
            f"{file} is damaged or of an earlier igpt: {error}; choose another --out"
        ) from error
    for name, value in vars(asked).items():
        if (known := getattr(begun.asked, name)) != value:
            raise ConfigError(
                f"{out} was begun with another {name}, {known!r} and not {value!r}; give the same, "
                "or choose another --out"
            )
    return begun


def _data(out: Path, asked: Asked) -> Path:
    """Return the record store: the source, or else what is made of it."""
    source = Path(asked.source)
    return source if kind_of(source) == "store" else out / "data"


def _begin(out: Path, asked: Asked, device: torch.device) -> Begun:
    """Prepare the store, choose, tell what was chosen, and keep it once all of it can be."""
    require_possible(asked.settings)  # before hours of reading
    data = _data(out, asked)
    made = kind_of(data) != "store"
    if made:
        say(f"reading {asked.source}")
        prepare_store(asked.source, data, store_config(asked.source, asked.seed))
    store = RecordStore.open(data)
    if not made and str(data) != asked.source:  # stopped between the store and `start.json`
        if (known := (store.source, store.config.seed)) != (asked.source, asked.seed):
            raise ConfigError(
                f"{data} holds images of {known[0]} by seed {known[1]}, and not of {asked.source} "
                f"by seed {asked.seed}; give the same, or choose another --out"
            )
        say(f"{data} is there, and taken as it is")
    say(store.summary())
    if store.token_palette is not None:
        raise ConfigError(
            f"{data} holds tokens of a palette of their own; igpt pretrain takes them as they are"
        )
    images, unused = described(store), why_labels_are_unused(store)
    machine = Machine(
        device=device.type,
        threads=torch.get_num_threads(),
        bfloat16=device.type == "cuda" and torch.cuda.is_bf16_supported(),
    )

    def seconds_per_image(model: ModelConfig, training: TrainingConfig) -> float:
        timed = _TIMED_IMAGES if device.type == "cpu" else training.batch_size
        return time_step(model, training, device, images=min(timed, training.batch_size))

    choice = choose(
        images, machine, minutes=asked.minutes, seconds_per_image=seconds_per_image, seed=asked.seed
    )
    recipe = with_settings(choice.recipe, asked.settings)
    _require_fit(recipe, store, images, device)
    begun = Begun(asked=asked, choice=dataclasses.replace(choice, recipe=recipe))
    for line in choice.reasons:
        say(f"  {line}")
    for setting in asked.settings:
        say(f"  as asked: {setting}")
    for line in (*choice.warnings, *([unused] if unused else [])):
        say(f"  note: {line}")
    say(
        f"in all {estimate(choice.seconds)}, of {asked.minutes:g} minutes; Ctrl-C at any time: the "
        "same line goes on"
    )
    write_json(out / CHOSEN, sealed(to_dict(begun)))
    return begun


def _require_fit(recipe: Recipe, store: RecordStore, images: Images, device: torch.device) -> None:
    """See that every stage can do with these images what was chosen and asked for.

    Raises:
        ConfigError: One cannot.
        DataError: The images are smaller than the network's.
    """
    model, tuning = recipe.model, recipe.finetune
    greys = np.linspace(-1, 1, model.colors, dtype=np.float32)  # any palette will do here
    palette = Palette(greys[:, None].repeat(3, axis=1))
    training = settled(recipe.training, device, model)
    check_pretraining(dataclasses.replace(recipe, training=training), store, palette, device)
    require_colors(store, model.image_size, model.colors, grey=images.grey)
    if images.classes:
        network = Pretrained.build(model, palette, mask_probability=recipe.mask_probability)
        training = settled(tuning.training, device, model)
        check_finetuning(network, dataclasses.replace(tuning, training=training), store, device)
