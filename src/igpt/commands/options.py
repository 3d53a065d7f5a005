"""What several commands share: options with their help, and how results are printed."""

import json
import math
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, is_dataclass
from inspect import BoundArguments
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

from cyclopts import Parameter
from cyclopts.validators import Number

from igpt.errors import ConfigError, DataError
from igpt.model.config import SamplingConfig
from igpt.pixels.filters import ResamplingFilter
from igpt.places import (
    BUILTIN,
    is_picture,
    require_file,
    require_model,
    require_room,
    require_run,
    require_store,
)
from igpt.values import SEEDS, to_dict

# Choices that the library names as well, in modules that are slow to import; a test compares them.
Head = Literal["colors", "classes"]
Solver = Literal["lbfgs", "sgd", "ridge", "neighbors"]
Target = Literal["igpt", "huggingface"]
Tracker = Literal["tensorboard"]


@dataclass(frozen=True)
class Looked:
    """Says of an argument, in its annotation, that something has to be at the path it gives.

    The command line looks before the command runs, so that a wrong path costs no import of torch.
    """

    require: Callable[[Path], None]


Run = Annotated[
    Path,
    Parameter(help="Run or model folder, or a name on the Hugging Face hub."),
    Looked(require_model),
]


@dataclass(frozen=True)
class _MayBeLeftOut:
    """Says of a model, in its annotation, that igpt's own does where none is named."""


RunOrBuiltin = Annotated[
    Path,
    Parameter(
        help="Run or model folder, or a name on the Hugging Face hub; it may be left out, also "
        "before a picture, for the small model that comes with igpt."
    ),
    Looked(require_model),
    _MayBeLeftOut(),
]
"""With `MODEL` as its default."""

Trained = Annotated[Path, Looked(require_run)]
"""The folder of a run, and no other model."""
Stored = Annotated[Path, Looked(require_store)]
"""The folder of a record store."""

Data = Annotated[Path, Parameter(help="Record store to read."), Looked(require_store)]
Palette = Annotated[Path, Parameter(help="Palette file."), Looked(require_file)]
Layer = Annotated[int | None, Parameter(help="Layer to read; the best of igpt probe by default.")]
Layers = Annotated[
    tuple[int, ...],
    Parameter(name="--layer", help="A layer, 0 to L; again for more; all by default."),
]
Settings = Annotated[
    tuple[str, ...],
    Parameter(
        name="--set", metavar="PATH=VALUE",
        help="Set a field of the recipe, such as training.steps=500; again for more.",
    ),
]  # fmt: skip
FromScratch = Annotated[
    bool, Parameter(help="The baseline: RUN's network with fresh weights, classes only.")
]
Sampling = Annotated[SamplingConfig, Parameter(name="*")]
COUNTS = 2**31
"""No number of images, steps or the like is as large; larger ones would never come to an end."""

Count = Annotated[int, Parameter(validator=Number(gt=0, lt=COUNTS))]
Seed = Annotated[
    int, Parameter(help="Decides all that is random.", validator=Number(gte=0, lt=SEEDS))
]
Device = Annotated[str, Parameter(help="cpu, cuda, cuda:1 ...; auto: a GPU if any.")]
Track = Annotated[
    Tracker | None,
    Parameter(help="Also draw the curves there, in RUN/tensorboard; needs the extra igpt[track]."),
]
Overwrite = Annotated[bool, Parameter(help="Replace what is there.")]
Json = Annotated[bool, Parameter(name="--json", help="Print the figures as JSON.")]


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Processes:
    """How many processes share a training."""

    processes: Count | None = None
    """Share each batch among so many, here; torchrun starts them on several machines."""
    patience_minutes: Annotated[float, Parameter(validator=Number(gt=0))] = 30.0
    """How long several processes wait for one that does not answer."""

    def require_room(self, out: Path) -> None:
        """See that a run could be made at `out`, where only this process is to make it.

        Others may have begun it before, and a launcher have started them again.
        """
        if self.processes is None and "TORCHELASTIC_RUN_ID" not in os.environ:
            require_room(out)

    @contextmanager
    def together(self, device: str) -> Iterator[None]:
        """Start the processes, and leave with their exit code; in each of them, let it begin.

        Raises:
            ConfigError: A launcher has started another number of them.
        """
        from igpt import processes

        if self.processes is not None and not processes.launched():
            raise SystemExit(processes.launch(self.processes))
        with processes.together(device, minutes=self.patience_minutes):
            if self.processes not in (None, processes.count()):
                raise ConfigError(
                    f"--processes {self.processes} in one of {processes.count()} that a launcher "
                    "started; leave it out"
                )
            yield


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Training:
    """What every training takes."""

    data: Data
    out: Path
    """New folder for it."""
    steps: Count | None = None
    """Short for --set training.steps=..."""
    asked: Settings = ()
    fold_validation: bool = False
    """Learn from train and validation images together; a search, in a last run at the best rate."""
    seconds: float | None = None
    """Stop after so long, with all saved to go on from."""
    device: Device = "auto"
    as_json: Json = False

    @property
    def settings(self) -> tuple[str, ...]:
        """Those of --set and of --steps."""
        return self.asked if self.steps is None else (*self.asked, f"training.steps={self.steps}")


def fill_in(bound: BoundArguments) -> None:
    """Put the model that comes with igpt where none was named, and say so in a note.

    None was if nothing was given, or if the first that was given is a picture by its name: no run
    is called photo.jpg. Folders of pictures are not guessed at, as runs are folders with pictures
    in them; before those, its name has to be given.
    """
    parameters, given = bound.signature.parameters, bound.arguments
    first = next(iter(parameters), "")
    if not first or not any(map(_may_be_left_out, get_args(parameters[first].annotation))):
        return
    takes_images = "images" in parameters
    if first in given and takes_images and is_picture(given[first]):
        given["images"] = (given[first], *given.get("images", ()))
    elif first in given or (takes_images and not given):
        return
    given[first] = MODEL
    warnings.warn(
        f"no RUN is named, so this is by {BUILTIN}, the small model that comes with igpt",
        stacklevel=2,
    )


def _may_be_left_out(note: object) -> bool:
    return isinstance(note, _MayBeLeftOut)


def look_at(bound: BoundArguments) -> None:
    """See that there is something at the paths that a command is to read.

    Raises:
        IgptError: There is nothing, or something else.
    """
    for name, value in bound.arguments.items():
        _look(bound.signature.parameters[name].annotation, value)


def _look(hint: Any, value: Any) -> None:
    if is_dataclass(value):
        for name, inner in get_type_hints(type(value), include_extras=True).items():
            _look(inner, getattr(value, name))
    elif get_origin(hint) is Annotated:
        inner, *notes = get_args(hint)
        for note in notes:
            if isinstance(note, Looked):
                note.require(value)
        _look(inner, value)
    elif isinstance(value, tuple):
        inner = get_args(hint)[0] if get_origin(hint) is tuple else hint  # as of *images
        for item in value:
            _look(inner, item)
    elif value is not None:
        for inner in get_args(hint):
            _look(inner, value)


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Pictures:
    """Where images to draw come from, if not from files, and where drawings go."""

    data: Annotated[
        Annotated[Path, Looked(require_store)] | None,
        Parameter(help="Test images of this store instead of files."),
    ] = None
    count: Count | None = None
    """With --data: how many; 8 by default."""
    out: Path | None = None
    """With IMAGES: where to draw, completions/ or surprise.png by default."""
    overwrite: Overwrite = False
    filter: ResamplingFilter | None = None
    """With IMAGES: how to resample, at once to the network's size; by default as its own images
    were."""

    def check(self, images: Sequence[Path]) -> None:
        """See that images come from one source, and that the options are that source's.

        Raises:
            ConfigError: They are not.
        """
        if bool(images) == (self.data is not None):
            raise ConfigError("give either IMAGES or --data, and not both")
        if self.data is not None and (self.out or self.filter or self.overwrite):
            raise ConfigError(
                "--out, --overwrite and --filter go with IMAGES; --data writes into the run"
            )
        if images and self.count:
            raise ConfigError("--count goes with --data")


SAMPLING, PICTURES, PROCESSES = SamplingConfig(), Pictures(), Processes()
MODEL = Path(BUILTIN)


def show(
    result: Any, *, as_json: bool, at: object = None, also: str = "", text: str | None = None,
    run: Path | None = None, data: Path | None = None,
) -> None:  # fmt: skip
    """Print a result.

    Args:
        result: Of a kind that `igpt.report.tables` has a table for, or else with `text`.
        as_json: Print it as JSON instead of all that follows.
        at: What the table is of, such as a file; it goes before it.
        also: A line to print below it.
        text: What to print in the table's stead.
        run: Where to look for what the result can be compared with, ...
        data: ... measured on this store; by default on the run's own.

    Raises:
        DataError: A figure is NaN or infinite, which no whole model gives.
    """
    values = to_dict(result)
    _require_numbers(values, "")
    if as_json:
        print(json.dumps(values, indent=2))
        return
    if text is None:
        from igpt.report.tables import table  # brings all that measures
        from igpt.report.verdicts import Beside

        text = table(result, Beside() if run is None else Beside.of(run, data))
    print(text if at is None else f"{at}: {text}", *([also] if also else []), sep="\n")


def _require_numbers(values: Any, name: str) -> None:
    if isinstance(values, float) and not math.isfinite(values):
        raise DataError(
            f"{name or 'the result'} came out as {values}, which is no number: the model's weights "
            "or the images are broken; igpt verify says which"
        )
    if isinstance(values, dict | list):
        pairs = values.items() if isinstance(values, dict) else enumerate(values)
        for key, value in pairs:
            _require_numbers(value, f"{name}.{key}" if name else str(key))
