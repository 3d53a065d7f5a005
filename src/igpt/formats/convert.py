"""A model of any kind, written as another kind: what `igpt convert` does.

convert("model.ckpt-1000000", Path("igpt-s"), palette="kmeans_centers.npy")   # -> igpt's own
convert("openai/imagegpt-small", Path("igpt-s"))                              # -> igpt's own
convert("runs/a", Path("exported"))                                           # -> transformers
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from igpt.errors import ConfigError
from igpt.files import require_writable
from igpt.formats.huggingface import Head, write_huggingface
from igpt.formats.load import Kind, load, locate
from igpt.model.config import ModelConfig, ObjectiveName
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
    if head is not None and to == "igpt":
        raise ConfigError("an igpt model keeps both heads; --head goes with --to huggingface")
    pretrained = load(folder, palette=palette, heads=heads, widen=widen)
    left_out: list[str] = []
    if to == "igpt":
        pretrained.save(destination, exclusive=True, probe=pretrained.kept_probe())
        classes = pretrained.model.classes
    else:
        head = write_huggingface(pretrained, destination, head=head)
        classes = pretrained.model.classes if head == "classes" else None
        left_out = what_is_left_out(pretrained, head)
    return Converted(
        read=kind,
        written=to,
        model=pretrained.model.config,
        objective=pretrained.learned_by,
        classes=classes,
        left_out=tuple(left_out),
    )


def what_is_left_out(pretrained: Pretrained, head: Head) -> list[str]:
    """Return what a folder of `transformers` with this head does not say of the network."""
    left_out = []
    if head == "classes":
        left_out += ["the color head (--head colors writes that instead)", ONE_POSITION_OFF]
    elif pretrained.model.classes:
        left_out.append("the class head (--head classes writes that instead)")
    if pretrained.probe_folder is not None:
        left_out.append("the kept probe, which igpt classify reads (--to igpt takes it along)")
    return [*left_out, crop_first(pretrained)]


def crop_first(pretrained: Pretrained) -> str:
    """Return what to do for `transformers` with a photo, of which igpt sees the middle."""
    size = pretrained.model.config.image_size
    return (
        "the cropping: the image processor of transformers stretches a photo to a square, where "
        "igpt cuts out its middle; crop first, with PIL.ImageOps.fit(image, "
        f"({size}, {size}), {_FIT[pretrained.tokenizer.preparation.filter]})"
    )
