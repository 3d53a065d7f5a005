"""Which part of an image is to be drawn, as a command is told it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from igpt.commands.options import Looked
from igpt.errors import ConfigError
from igpt.places import require_file

Box = tuple[int, int, int, int]  # as in `igpt.pixels.regions`, which is slow to import


def _read_box(_: Any, tokens: Sequence[Any]) -> Box:
    text = tokens[-1].value
    try:
        left, top, right, bottom = (int(number) for number in text.split(","))
    except ValueError as error:
        raise ValueError(
            f"expected LEFT,TOP,RIGHT,BOTTOM in pixels of the network's images, such as 4,4,8,8, "
            f"got {text!r}"
        ) from error
    return left, top, right, bottom


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Region:
    """The part that is not given."""

    rows: int | None = None
    """Rows that are given; half of the image by default. Or else ..."""
    mask: Annotated[
        Annotated[Path, Looked(require_file)] | None,
        Parameter(
            help="... a picture without transparency whose white is drawn, of the size of the "
            "network's images, which photos are cropped and shrunk to; or ..."
        ),
    ] = None
    box: Annotated[
        Box | None,
        Parameter(
            converter=_read_box, n_tokens=1, metavar="LEFT,TOP,RIGHT,BOTTOM",
            help="... a box that is drawn, in pixels of the network's images; right and bottom are "
            "the first that are not. Only networks trained with hidden pixels (BERT or diffusion) "
            "draw any region.",
        ),
    ] = None  # fmt: skip

    def check(self) -> None:
        """See that it is said in one way.

        Raises:
            ConfigError: It is said in several.
        """
        if sum(value is not None for value in (self.rows, self.mask, self.box)) > 1:
            raise ConfigError("give one of --rows, --mask and --box")


REGION = Region()
