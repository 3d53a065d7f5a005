"""From a folder of photographs to a classifier, in one command: `igpt start`.

    result = start("photos", out=Path("runs/photos"), minutes=20)
    print(result.table(Path("runs/photos")))

What is chosen is told before the training, and kept in `start.json`, so that the same call goes on
with it after Ctrl-C or a crash, wherever that came; `igpt.choosing` has the rules, `igpt.stages`
what is done. Without labels there are features and outliers in the place of probes and
fine-tuning.

    runs/photos/
    ├── start.json       what was asked for, and what was chosen, in full
    ├── data/            the record store, if the source was none
    ├── palette.npy, pretrain/, finetune/, report.html
    ├── features.npz     without labels
    └── summary.json
"""

import dataclasses
import shlex
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from igpt.amounts import estimate, spoken
from igpt.choosing import Choice, Images, Machine, choose, held_out, stored_size
from igpt.data.config import SourceConfig, StoreConfig
from igpt.data.prepare import prepare_store
from igpt.data.sources import SourceSplit, open_source
from igpt.data.store import RecordStore
from igpt.errors import CheckpointError, ConfigError, DataError
from igpt.evaluation.probe import LayerProbes
from igpt.evaluation.proportions import Share
from igpt.files import read_json, remove_abandoned, write_json
from igpt.model.config import ModelConfig
from igpt.paths import AnyPath
from igpt.pixels.images import to_grey
from igpt.pixels.palette import pack_colors
from igpt.places import kind_of, require_room
from igpt.processes import choose_device
from igpt.report.verdicts import share_text, verdicts
from igpt.runs.features import write_features
from igpt.runs.finetune import FinetuneResult
from igpt.runs.measure import outliers_run
from igpt.runs.recipes import with_settings
from igpt.seals import sealed, unsealed
from igpt.stages import Stages, say
from igpt.training.config import TrainingConfig
from igpt.training.estimate import time_step
from igpt.values import from_dict, to_dict

CHOSEN, SUMMARY = "start.json", "summary.json"

_LOOKED_AT = 24  # image files whose size is looked at
_SAMPLED = 200  # records whose colors are
_COLORED = 8  # levels that the channels of a grey pixel may be apart, by JPEG
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
    data: str
    """The record store."""
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
    if not minutes > 0:
        raise ConfigError(f"--minutes must be more than 0, got {minutes:g}")
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
    choice, store = begun.choice, RecordStore.open(Path(begun.data))
    stages = Stages(
        out=out, data=Path(begun.data), recipe=choice.recipe, name="start", device=device, seed=seed
    )
    side = choice.recipe.model.image_size
    total = 6 if _labelled(store) else 5
    say(f"[1/{total}] palette: {choice.colors} {'greys' if choice.grey else 'colors'}")
    stages.fit_palette(choice.colors, grey=choice.grey, image_size=side)
    say(f"[2/{total}] pretraining: predict the next pixel, without any label")
    stages.pretrain()
    say(f"[3/{total}] likelihood of images it has not seen")
    split = next(name for name in ("test", "validation", "train") if name in store.splits)
    nats = stages.evaluate(split).nats_per_pixel
    result = StartResult(
        images=store.splits["train"].records,
        test_images=store.splits[split].records,
        nats_per_pixel=nats,
        colors=choice.colors,
        next_line=_similar(stages),
        seconds=0.0,
    )
    if _labelled(store):
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


def _begin(out: Path, asked: Asked, device: torch.device) -> Begun:
    """Prepare the store, choose, tell what was chosen, and keep it."""
    data = Path(asked.source)
    if kind_of(data) != "store":
        data = out / "data"
        if kind_of(data) != "store":
            say(f"reading {asked.source}")
            prepare_store(asked.source, data, _store_config(asked))
    store = RecordStore.open(data)
    say(store.summary())
    if store.token_palette is not None:
        raise ConfigError(
            f"{data} holds tokens of a palette of their own; igpt pretrain takes them as they are"
        )
    images = described(store)
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
    begun = Begun(asked=asked, data=str(data), choice=dataclasses.replace(choice, recipe=recipe))
    for line in choice.reasons:
        say(f"  {line}")
    for setting in asked.settings:
        say(f"  as asked: {setting}")
    for line in choice.warnings:
        say(f"  note: {line}")
    say(
        f"in all {estimate(choice.seconds)}, of {asked.minutes:g} minutes; Ctrl-C at any time: the "
        "same line goes on"
    )
    write_json(out / CHOSEN, sealed(to_dict(begun)))
    return begun


def _store_config(asked: Asked) -> StoreConfig:
    """Return how to store the images of a source, by a look at a few of them."""
    source = open_source(asked.source, SourceConfig(seed=asked.seed))
    train = source.splits["train"]
    validation, test = held_out(len(train))
    return StoreConfig(
        image_size=stored_size(_smaller_side(train)),
        validation_fraction=None if "validation" in source.splits else validation,
        test_fraction=None if "test" in source.splits else test,
        enlarge=True,
        seed=asked.seed,
    )


def _smaller_side(split: SourceSplit) -> int:
    """Return the side, in pixels, that nine in ten of some images have at least."""
    sides = []
    for number in np.unique(np.linspace(0, len(split) - 1, _LOOKED_AT).astype(int)):
        try:
            sides.append(min(split.image(int(number)).read().shape[1:3]))
        except (DataError, OSError):
            continue  # which is told when all are read
    return int(np.percentile(sides, 10, method="lower")) if sides else 1


def described(store: RecordStore) -> Images:
    """Return what choices are made by."""
    train = store.split("train")
    pixels = np.asarray(train.sample(_SAMPLED).images)
    grey = bool((np.ptp(pixels.astype(np.int16), axis=-1) <= _COLORED).mean() > 0.99)
    labels = train.labels if _labelled(store) else None
    counts = [] if labels is None else np.bincount(labels, minlength=len(store.class_names or ()))
    records = {name: split.records for name, split in store.splits.items()}
    return Images(
        train=len(train),
        validation=records.get("validation", 0),
        test=records.get("test", 0),
        size=store.config.image_size,
        grey=grey,
        colors=len(np.unique(pack_colors((to_grey(pixels) if grey else pixels).reshape(-1, 3)))),
        classes=len(counts),
        smallest_class=int(min(counts, default=0)),
    )


def _labelled(store: RecordStore) -> bool:
    """Say whether there are labels to probe and fine-tune with: in all splits, of two classes."""
    splits = [store.splits.get(name) for name in ("train", "validation", "test")]
    classes = store.class_names or ()
    return len(classes) > 1 and all(split is not None and split.labelled for split in splits)
