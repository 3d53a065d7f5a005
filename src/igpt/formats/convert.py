"""A model of any kind, written as another kind: what `igpt convert` does.

convert("model.ckpt-1000000", Path("igpt-s"), palette="kmeans_centers.npy")   # -> igpt's own
convert("openai/imagegpt-small", Path("igpt-s"))                              # -> igpt's own
convert("runs/a", Path("exported"))                                           # -> transformers
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from igpt.errors import CheckpointError, ConfigError
from igpt.files import require_writable
from igpt.formats.huggingface import Head, write_huggingface
from igpt.formats.load import Kind, load, locate
from igpt.model.config import ModelConfig, ObjectiveName
from igpt.model.kept_probe import KeptProbe
from igpt.model.pretrained import ONE_POSITION_OFF, Pretrained
from igpt.outputs import require_outside
from igpt.paths import AnyPath
from igpt.pixels.filters import ResamplingFilter

Target = Literal["igpt", "huggingface"]

_FIT = {name: f"PIL.Image.Resampling.{name.upper()}" for name in get_args(ResamplingFilter)}
"""The filters, as Pillow names them."""


@dataclass(frozen=True, kw_only=True)
class Converted:
    """What was read and what was written."""

    read: Kind
    written: Target
    model: ModelConfig
    objective: ObjectiveName
    """It was trained by."""
    classes: int | None
    """Classes of the class head that was written; None if there is none."""
    left_out: tuple[str, ...]
    """What the source has and the new folder has no room for."""


def convert(
    source: Path | str,
    destination: AnyPath,
    *,
    to: Target | None = None,
    head: Head | None = None,
    palette: Path | str | None = None,
    heads: int | None = None,
    revision: str | None = None,
    widen: bool = False,
) -> Converted:
    """Write the model at `source` as a folder of another kind; every weight keeps its bits.

    Args:
        source: What `load` takes.
        destination: Folder to make; must not exist, or be empty.
        to: "igpt" or "huggingface"; by default the latter from an igpt model, else the former.
        head: Which head goes into a folder of `transformers`, "colors" or "classes".
        palette: As in `load`; so are the rest.
        heads: Number of attention heads.
        revision: A branch, tag or commit on the hub.
        widen: Accept half-precision weights.

    Raises:
        CheckpointError: There is no model, or it is broken.
        ConfigError: `transformers` cannot say what the network does.
        DataError: `destination` holds something or cannot be written to, or the palette is missing
            or broken.
    """
    destination = Path(destination)
    require_outside(destination)
    require_writable(destination, exclusive=True)
    folder, kind = locate(source, revision=revision)
    to = to or ("huggingface" if kind == "igpt" else "igpt")
    require_head(to, head)
    pretrained = load(folder, palette=palette, heads=heads, widen=widen)
    left_out = write_model(pretrained, destination, to=to, head=head)
    return Converted(
        read=kind,
        written=to,
        model=pretrained.model.config,
        objective=pretrained.learned_by,
        classes=None if head == "colors" else pretrained.model.classes,
        left_out=left_out,
    )


def require_head(to: Target, head: Head | None) -> None:
    """See that a head is chosen only where there is one.

    Raises:
        ConfigError: It is for igpt's own kind.
    """
    if head is not None and to == "igpt":
        raise ConfigError("an igpt model keeps both heads; --head goes with --to huggingface")


def write_model(
    pretrained: Pretrained, folder: Path, *, to: Target, head: Head | None = None
) -> tuple[str, ...]:
    """Write a model as a new folder of a kind, and return what that does not hold of it.

    Raises:
        ConfigError: `transformers` cannot say what the network does.
        DataError: `folder` holds something or cannot be written to.
    """
    probe, kept = _kept_probe(pretrained)
    if to == "igpt":
        pretrained.save(folder, exclusive=True, probe=probe)
        return () if probe is not None else tuple(kept)
    left_out = []
    if write_huggingface(pretrained, folder, head=head) == "classes":
        left_out += ["the color head (--head colors writes that instead)", ONE_POSITION_OFF]
    elif pretrained.model.classes:
        left_out.append("the class head (--head classes writes that instead)")
    return (*left_out, *kept, _crop_first(pretrained))


def _kept_probe(pretrained: Pretrained) -> tuple[KeptProbe | None, list[str]]:
    """Return the kept probe if it is of this model, and what to say where it is left out."""
    try:
        probe = pretrained.kept_probe()
    except CheckpointError as error:
        return None, [f"the kept probe ({error})"]
    return probe, [] if probe is None else ["the kept probe (--to igpt takes it along)"]


def _crop_first(pretrained: Pretrained) -> str:
    """Return what to do for `transformers` with a photo, of which igpt sees the middle."""
    size = pretrained.model.config.image_size
    return (
        "the cropping: the image processor of transformers stretches a photo to a square, where "
        "igpt cuts out its middle; crop first, with PIL.ImageOps.fit(image, "
        f"({size}, {size}), {_FIT[pretrained.tokenizer.preparation.filter]})"
    )
