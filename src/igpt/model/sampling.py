"""New tokens from a causal network, many pixels at a time where that is faster.

What chance decides is drawn beforehand: at every pixel each color is given a time to wait, at
random, and the color is drawn whose probability divided by its wait is the largest (an exponential
race, which is Gumbel-max without logarithms). With the waits known an image is a function of the
network, and can be found otherwise than pixel by pixel. The next pixels are guessed, and a window
of them is read in one pass. What the pass makes of them is right as far as the guesses were, and
for one pixel more; and what it makes of the others are better guesses. So every pass gains a pixel
at least, and several where the guesses hold. A pixel's first guess is the color above it, or in
other orders than row by row what lies as far back.

That is the same image, not one that is like it, as far as logits are the same numbers. Products of
one row and of several add up in another order, so that logits differ in their last bits, and where
two colors were equally near to being drawn within these bits, the other one may be. From there on
the image is another one, drawn from the same distribution all the same. In float32 that is to be
expected once in a million pixels of a CIFAR-10 network, and less often where colors are surer; in
80,000 there was none. In bfloat16 it is once in some 260 pixels of that network, and once in 7,000
of one of digits. The same seed, batch and settings give the same pixels again in any case.

This file knows tokens, not images; `igpt.evaluation.completion` turns the one into the other.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from igpt.errors import ConfigError
from igpt.model.cached import CachedNetwork
from igpt.model.config import SamplingConfig
from igpt.model.transformer import ImageGPT

_REACHED = 1e-9
"""A sum of probabilities that falls short of top_p by no more has reached it: rounding."""

_WINDOWS = (4, 8, 16, 32)
_GROWTH = 0.43
"""The power of the window by which what a pass gains grows, more or less: 2.4 pixels with windows
of 8 and 3.1 with 16 on a network of CIFAR-10, twice that on one of digits."""
_LEAST_PASSES = 12
"""What fewer passes gained says little of what others will."""
_MOST_SEQUENCES = {"cpu": 1}
"""Where windows were measured to be faster, and with how many images side by side at most: of two
images of CIFAR-10 they are as fast as one pixel at a time, of three and four slower, since all wait
for the one whose passes gain the least."""
_MOST_WAITS = 2**28
"""Bytes; waits that would take more are drawn pixel by pixel, and no windows are read."""
_SIGHT = {"cuda": 256}
_LEAST_REPLAYS = 8
"""Fewer passes than that are not worth a recording."""


@dataclass(frozen=True, kw_only=True)
class Pace:
    """How many pixels are read at a time, and what a GPU does of it; no pixel depends on it."""

    window: int | None = None
    """Pixels of each image in a pass; 1 for one at a time, None to choose as it goes."""
    sight: int | None = None
    """A pixel looks at a multiple of so many places in the cache; None for 256 on a GPU, where one
    recording then serves many passes, and 1 on a CPU."""
    record: bool = True
    """Whether a GPU records the launches of a pass, and repeats them."""

    def __post_init__(self) -> None:
        """Reject what would not go on."""
        for name in ("window", "sight"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise ConfigError(f"{name} must be at least 1, got {value}")


def draw(
    logits: Float[Tensor, "*shape color"], config: SamplingConfig, generator: torch.Generator | None
) -> Int[Tensor, "*shape"]:
    """Return one color for each row of logits; see `choose`.

    Args:
        logits: Of any shape.
        config: How to draw.
        generator: Source of the draw, on the same device; torch's own if None.
    """
    waits = None
    if not config.is_greedy:
        waits = torch.empty(logits.shape, device=logits.device).exponential_(generator=generator)
    return choose(logits, config, waits)


def choose(
    logits: Float[Tensor, "*shape color"],
    config: SamplingConfig,
    waits: Float[Tensor, "*shape color"] | None,
) -> Int[Tensor, "*shape"]:
    """Return the color of each row whose probability, divided by its wait, is the largest.

    With waits that are exponentially distributed each color is chosen as often as its probability
    says. That is how `torch.multinomial` does it, without its checks, which have a GPU's queue run
    empty.

    `top_k` leaves exactly so many colors, `top_p` the fewest likeliest that together reach it; of
    equally likely colors, those that come first in the palette. With both, a color must pass both.

    Args:
        logits: Of any shape.
        config: How to draw; below a temperature of 0.000001, the likeliest color.
        waits: A positive number for each color; None where none are needed, without temperature.
    """
    if config.is_greedy:
        return logits.argmax(dim=-1)
    assert waits is not None
    weights = (logits.float() / config.temperature).softmax(dim=-1)
    if config.top_k is not None or config.top_p is not None:
        weights = weights * _kept(logits, config)
    return (weights / waits).argmax(dim=-1)


def _kept(
    logits: Float[Tensor, "*shape color"], config: SamplingConfig
) -> Bool[Tensor, "*shape color"]:
    """Return which colors pass `top_k` and `top_p`."""
    ordered, colors = logits.sort(dim=-1, descending=True, stable=True)
    kept = torch.ones_like(ordered, dtype=torch.bool)
    if config.top_k is not None:
        kept[..., config.top_k :] = False
    if config.top_p is not None:  # the color that crosses the threshold still belongs
        probability = (ordered.double() / config.temperature).softmax(dim=-1)
        kept &= probability.cumsum(dim=-1) - probability < config.top_p - _REACHED
        kept[..., 0] = True  # however small top_p is
    return torch.empty_like(kept).scatter_(-1, colors, kept)


@torch.inference_mode()
def continue_tokens(
    model: ImageGPT,
    given: Int[Tensor, "batch given"],
    config: SamplingConfig | None = None,
    *,
    samples: int = 1,
    limit: int | None = None,
    generator: torch.Generator | None = None,
    pace: Pace | None = None,
) -> Int[Tensor, "sequence position"]:
    """Return images that begin with the `given` tokens: whole ones, or their first `limit` tokens.

    Args:
        model: A causal network.
        given: The first tokens of each image; none at all, `(batch, 0)`, to draw from nothing.
        config: How to draw.
        samples: How often to go on from each image; those of one image follow one another.
        limit: Tokens of each image that are wanted, those given included; all by default.
        generator: Source of the draws, on the model's device; torch's own if None.
        pace: How many pixels to read at a time; by default what was measured to be fastest, unless
            `config.one_at_a_time`.

    Raises:
        ConfigError: The network is not causal, more is given than an image has, or
            `config.compile` without a compiler.
    """
    config, pace = config or SamplingConfig(), pace or Pace()
    model.config.require_causal()
    positions, count = model.config.positions, given.shape[1]
    if count > positions:
        raise ConfigError(f"{count} pixels are given, but an image has only {positions}")
    if limit is not None:
        if not count <= limit <= positions:
            raise ConfigError(
                f"limit must lie between the {count} pixels given and the {positions} of an image, "
                f"got {limit}"
            )
        positions = limit
    if count == positions or not len(given) * samples:  # nothing to draw
        images = F.pad(given, (0, positions - count)).repeat_interleave(samples, dim=0)
        return images.to(model.device)
    images = _Drawing(model, given, samples, positions, config, generator, pace)
    for _ in images.passes():
        pass
    return images.tokens


@torch.inference_mode()
def continue_in_passes(
    model: ImageGPT,
    given: Int[Tensor, "batch given"],
    config: SamplingConfig | None = None,
    *,
    samples: int = 1,
    generator: torch.Generator | None = None,
) -> Iterator[tuple[Int[Tensor, "sequence position"], Int[Tensor, " sequence"]]]:
    """Yield whole images as far as they are drawn: tokens, and how many of each image are right.

    Some passes go by between one and the next; a GPU makes a few hundred at a time. The tokens are
    the same tensor each time, which the next pass goes on with. The last are those that
    `continue_tokens` returns; see there.

    Raises:
        ConfigError: The network is not causal, no pixel is left to draw, or `config.compile`
            without a compiler.
    """
    model.config.require_causal()
    positions = model.config.positions
    if given.shape[1] >= positions:
        raise ConfigError(
            f"{given.shape[1]} pixels are given of an image that has {positions}; give one less"
        )
    images = _Drawing(
        model, given, samples, positions, config or SamplingConfig(), generator, Pace()
    )
    yield images.tokens, images.drawn
    for _ in images.passes():
        yield images.tokens, images.drawn


def _first_window(
    config: SamplingConfig, pace: Pace, device: torch.device, shape: tuple[int, int, int]
) -> int:
    """Return how many pixels to read at a time at first; `shape` is (pixel, sequence, color)."""
    if config.one_at_a_time or 4 * math.prod(shape) > _MOST_WAITS:
        return 1
    if pace.window is not None:
        return pace.window
    if shape[1] > _MOST_SEQUENCES.get(device.type, 0):
        return 1
    return _best_window(1.0)


def _best_window(ease: float) -> int:
    """Return the window that should be fastest, where passes gain so many times the usual."""

    def speed(window: int) -> float:
        if window == 1:
            return 0.9  # a little less than it is, as there is no way back from it
        # What a pass takes on a CPU, beside one over a single pixel.
        time = 1.3 + 0.044 * (window - 1)
        return min(window, ease * window**_GROWTH) / time

    return max((1, *_WINDOWS), key=speed)


class _Drawing:
    """Images that are being drawn, of which each may be at another pixel."""

    def __init__(
        self,
        model: ImageGPT,
        given: Int[Tensor, "batch given"],
        samples: int,
        positions: int,
        config: SamplingConfig,
        generator: torch.Generator | None,
        pace: Pace,
    ) -> None:
        device, sequences, count = model.device, len(given) * samples, given.shape[1]
        shape = (positions - count, sequences, model.config.colors)
        self._config, self._generator, self._record = config, generator, pace.record
        self._count, self._positions, self._row = count, positions, model.config.image_size
        self._window = _first_window(config, pace, device, shape)
        windows = self._window > 1
        self._may_change = windows and pace.window is None and not config.compile
        # Of each image, the next pixel, before which all are drawn, and the first of which nothing
        # has been guessed.
        self._next = torch.full((sequences, 1), count, device=device)
        self._unguessed = self._next.clone()
        room = positions + (max(self._window, *_WINDOWS) if windows else 0)  # to look beyond
        self._tokens = torch.zeros(sequences, room, dtype=torch.long, device=device)
        self._tokens[:, :count] = given.repeat_interleave(samples, dim=0)
        self._waits = self._draw_waits(shape) if windows and not config.is_greedy else None
        self._network = CachedNetwork(
            model,
            sequences=sequences,
            room=room,
            sight=pace.sight or _SIGHT.get(device.type, 1),
            level=sequences == 1 or not windows,
            compiled=config.compile,
        )
        logits = self._network.read(given, samples=samples)
        self._keep(self._next, self._colors(logits[:, None], self._next), 1)

    @property
    def tokens(self) -> Int[Tensor, "sequence position"]:
        """The images; what is not drawn yet is a guess."""
        return self._tokens[:, : self._positions]

    @property
    def drawn(self) -> Int[Tensor, " sequence"]:
        """How many pixels of each image are no guesses."""
        return self._next.squeeze(1)

    def passes(self) -> Iterator[None]:
        """Draw what is left, and let others see how far it has come."""
        seen, graph = 0, None
        passes, ease = 0, 0.0
        places = self._next.flatten().tolist()
        while (low := min(places)) < self._positions:
            high = max(places)
            if high + self._window > seen:
                if self._may_change and self._window > 1 and passes >= _LEAST_PASSES:
                    self._window = _best_window(ease / passes)
                seen, graph = self._network.sight(high + self._window), None
            # So many passes see enough, and are needed for certain.
            needed = math.ceil((self._positions - low) / self._window)
            times = max(1, min((seen - high) // self._window, needed))
            graph = self._repeat(partial(self._step, seen), times, graph)
            places = self._next.flatten().tolist()
            passes += times
            ease += (min(places) - low) / self._window**_GROWTH  # the slowest is waited for
            yield

    def _repeat(
        self, step: Callable[[], None], times: int, graph: torch.cuda.CUDAGraph | None
    ) -> torch.cuda.CUDAGraph | None:
        """Call `step` so often, on a GPU by a recording of what it launches, and return that.

        Launching its hundreds of small kernels one by one takes longer than running them.
        """
        device = self._next.device
        if graph is None and device.type == "cuda" and self._record and times >= _LEAST_REPLAYS:
            aside = torch.cuda.Stream(device)
            aside.wait_stream(torch.cuda.current_stream(device))
            with torch.cuda.stream(aside):  # where libraries and the compiler may still allocate
                step()
            torch.cuda.current_stream(device).wait_stream(aside)
            graph = torch.cuda.CUDAGraph()
            if self._generator is not None:
                graph.register_generator_state(self._generator)
            with torch.cuda.graph(graph):
                step()
            times -= 1
        for _ in range(times):
            step() if graph is None else graph.replay()
        return graph

    def _step(self, seen: int) -> None:
        """Read a window of each image, and keep what is right of it."""
        window = self._window
        places = self._next + torch.arange(window, device=self._next.device)
        read = places - 1
        if window > 1:  # what has not been guessed is as in the nearest row above that has been
            rows = ((read - self._unguessed).div(self._row, rounding_mode="floor") + 1).clamp(min=0)
            read = (read - rows * self._row).clamp(min=0)
        tokens = self._tokens.gather(1, read)
        colors = self._colors(self._network.logits(tokens, places, seen), places)
        gained = 1
        if window > 1:
            gained = (colors[:, :-1] == tokens[:, 1:]).cumprod(dim=1).sum(dim=1, keepdim=True) + 1
        self._keep(places, colors, gained)

    def _keep(
        self,
        places: Int[Tensor, "sequence window"],
        colors: Int[Tensor, "sequence window"],
        gained: Int[Tensor, "sequence 1"] | int,
    ) -> None:
        """Write down colors: so many that are right, and guesses after them."""
        self._tokens.scatter_(1, places, colors)
        torch.maximum(self._unguessed, places[:, -1:] + 1, out=self._unguessed)
        self._next.add_(gained).clamp_(max=self._positions)

    def _colors(
        self,
        logits: Float[Tensor, "sequence window color"],
        places: Int[Tensor, "sequence window"],
    ) -> Int[Tensor, "sequence window"]:
        """Return what is drawn at these places."""
        if self._waits is None:
            return draw(logits, self._config, self._generator)
        pixel = (places - self._count).clamp(max=len(self._waits) - 1)
        image = torch.arange(len(places), device=places.device)[:, None]
        return choose(logits, self._config, self._waits[pixel, image])

    def _draw_waits(self, shape: tuple[int, int, int]) -> Float[Tensor, "pixel sequence color"]:
        """Return the waits of all pixels, as drawing them one after the other has them."""
        waits = torch.empty(shape, device=self._next.device)
        for of_pixel in waits:
            of_pixel.exponential_(generator=self._generator)
        return waits
