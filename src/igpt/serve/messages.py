"""What is asked of the server and what it answers, as types: OpenAPI's descriptions come from them.

A network's tokens are in its own reading order, as `ImageTokenizer.encode` returns them. Where each
lies in the picture, `ServedModel.reading` says.
"""

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import ConfigDict, Field, with_config

from igpt.model.config import ModelConfig, ObjectiveName
from igpt.pixels.palette import MOST_COLORS
from igpt.serve.limits import Limits
from igpt.values import SEEDS

State = Literal["not loaded", "loading", "ready", "failed"]
Draws = Literal["what follows", "any region"]
"""Which pixels of an image a network draws: those after the given ones, in its reading order, or
any."""

Token = Annotated[int, Field(ge=0, lt=MOST_COLORS)]
Position = Annotated[int, Field(ge=0, lt=2**20)]

_answer = with_config(ConfigDict(use_attribute_docstrings=True))
_asked = with_config(ConfigDict(use_attribute_docstrings=True, extra="forbid"))


@_answer
@dataclass(frozen=True, kw_only=True)
class Problem:
    """Why there is no answer."""

    detail: str
    """In one line: what was wanted, what came, what to try."""


@_answer
@dataclass(frozen=True, kw_only=True)
class ModelState:
    """A model that is served, and whether it is in memory."""

    name: str
    state: State


@_answer
@dataclass(frozen=True, kw_only=True)
class Served:
    """What this server has."""

    version: str
    """Of igpt."""
    limits: Limits
    models: tuple[ModelState, ...]


@_answer
@dataclass(frozen=True, kw_only=True)
class ServedModel:
    """A model that is in memory."""

    name: str
    network: ModelConfig
    learned_by: ObjectiveName
    parameters: int
    """Weights of the network."""
    draws: Draws
    palette: tuple[tuple[int, int, int], ...]
    """Red, green and blue of each token's color."""
    reading: tuple[int, ...]
    """Of each pixel of the picture, row by row: which of the tokens is its own."""
    half: int
    """Tokens in the half of an image that is usually given."""


@_answer
@dataclass(frozen=True, kw_only=True)
class Encoded:
    """A picture as a network sees it: its middle, as a square of the network's size."""

    tokens: tuple[int, ...]
    """In reading order."""


@_asked
@dataclass(frozen=True, kw_only=True)
class TokensAsked:
    """A whole picture."""

    tokens: tuple[Token, ...]
    """In reading order, one for each position."""


@_asked
@dataclass(frozen=True, kw_only=True)
class PixelAsked:
    """A pixel of a picture."""

    tokens: tuple[Token, ...]
    """In reading order, one for each position. An autoregressive network looks at those before the
    pixel, and others at all but it."""
    position: Position
    """Of the pixel, in reading order."""


@_asked
@dataclass(frozen=True, kw_only=True)
class CompletionAsked:
    """Images that are to be drawn, and from what."""

    tokens: tuple[Token, ...] = ()
    """The picture, in reading order, one token for each position; none at all to draw from nothing.
    What is not given of it is not looked at."""
    given: Annotated[int, Field(ge=0, lt=2**20)] | None = None
    """How many of the tokens are given; half of the picture by default."""
    hidden: tuple[Position, ...] | None = None
    """In place of `given`: positions that are to be drawn; any, of a network that draws any region.
    """
    samples: Annotated[int, Field(ge=1)] = 4
    """Images, drawn side by side; the server's limits say how many at most."""
    temperature: Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)] = 1.0
    """Divides the logits; below 1 for safer colors, 0 for always the likeliest."""
    top_k: Annotated[int, Field(ge=1, le=MOST_COLORS)] | None = None
    """Draw from the k likeliest colors only."""
    top_p: Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)] | None = None
    """Draw from the fewest likeliest colors that together have this probability."""
    passes: Annotated[int, Field(ge=1, le=2**20)] | None = None
    """Of a network that draws any region: draw so many pixels at a time that it takes so many
    passes; one at a time by default, which is slowest and best."""
    seed: Annotated[int, Field(ge=0, lt=SEEDS)] = 0
    """The same seed and the rest give the same images on the same machine."""


@_answer
@dataclass(frozen=True, kw_only=True)
class Waiting:
    """Others are drawn first; comes every second until it is one's turn."""

    event: Literal["waiting"] = "waiting"
    ahead: int
    """How many requests wait up to this one."""


@_answer
@dataclass(frozen=True, kw_only=True)
class Drawn:
    """Pixels of one of the images."""

    event: Literal["drawn"] = "drawn"
    sample: int
    """Which image, from 0."""
    positions: tuple[int, ...]
    """Of the pixels, in reading order."""
    tokens: tuple[int, ...]
    """Of each, its color."""


@_answer
@dataclass(frozen=True, kw_only=True)
class Done:
    """All images are whole; nothing comes after it."""

    event: Literal["done"] = "done"
    seconds: float
    """Of drawing."""


@_answer
@dataclass(frozen=True, kw_only=True)
class Failed:
    """Something went wrong on the way; nothing comes after it."""

    event: Literal["failed"] = "failed"
    detail: str


DrawingEvent = Annotated[Waiting | Drawn | Done | Failed, Field(discriminator="event")]


@_answer
@dataclass(frozen=True, kw_only=True)
class SurpriseMap:
    """How much each pixel of a picture surprises a network, given those before it."""

    nats: tuple[float, ...]
    """Of each pixel, in reading order."""
    nats_per_pixel: float
    """Their mean."""
    chance_nats_per_pixel: float
    """Of a network that knows nothing: the logarithm of how many colors there are."""


@_answer
@dataclass(frozen=True, kw_only=True)
class ColorChance:
    """A color, and how probable a network finds it at a pixel."""

    token: int
    probability: float


@_answer
@dataclass(frozen=True, kw_only=True)
class PixelDistribution:
    """What a network expects at a pixel."""

    likeliest: tuple[ColorChance, ...]
    """The likeliest colors, 12 at most."""
    others: float
    """Probability of all other colors together."""
    own: ColorChance
    """The color that the picture has there."""
    nats: float
    """How much that color surprises the network: minus the logarithm of its probability."""
