"""What a training step takes with its batches made when asked for, and made ready ahead.

    OMP_NUM_THREADS=1 python benchmarks/ahead.py               # leaves other cores to the batches
    python benchmarks/ahead.py --rounds 5 --images 32

Pictures of 500x375 pixels, as ImageNet's are, lie in memory as their middle squares; each step cuts
`random-resize-crop` from some and learns from them. The network gets as many layers as make its
arithmetic take as long as that. Both ways take turns, so that what else the machine does falls on
both; where it does much, the work of the learning thread, to which a step comes down once there are
cores for the rest, tells more than the clock. Nothing is kept: the table is for docs/log.md.
"""

import argparse
import statistics
import time

import numpy as np
import torch

from igpt import processes
from igpt.data.ahead import prepared_ahead
from igpt.data.batches import TokenBatches
from igpt.data.store import Records
from igpt.model.config import ModelConfig
from igpt.model.transformer import ImageGPT
from igpt.objectives.autoregressive import autoregressive
from igpt.pixels.images import square
from igpt.pixels.palette import Palette
from igpt.pixels.tokenizer import ImageTokenizer
from igpt.training.config import TrainingConfig
from igpt.training.loop import train
from igpt.training.optimizer import build_optimizer

HEIGHT, WIDTH, COLORS = 375, 500, 64
MOST_LAYERS = 64


def pictures(count: int) -> Records:
    """Return middle squares of made-up pictures: smooth, with grain."""
    generator = np.random.default_rng(0)
    images = np.empty((count, HEIGHT, HEIGHT, 3), np.uint8)
    for image in images:
        coarse = generator.integers(0, 256, (12, 16, 3)).repeat(32, 0).repeat(32, 1)
        grain = generator.integers(-20, 21, (HEIGHT, WIDTH, 3))
        image[:] = square((coarse[:HEIGHT, :WIDTH] + grain).clip(0, 255).astype(np.uint8), HEIGHT)
    return Records(name="train", images=images, labels=None, class_names=None)


def seconds_of(batches: TokenBatches, layers: int, steps: int, ahead: int) -> tuple[float, float]:
    """Return the seconds of a step, and what of them the thread that learns was at work.

    Without layers, batches are only made.
    """
    side = batches.tokenizer.image_size
    config = ModelConfig(image_size=side, colors=COLORS, layers=max(layers, 1), width=32, heads=4)
    training = TrainingConfig(steps=steps + 1, batch_size=batches.batch_size)
    model = ImageGPT(config)
    clocks = []
    with prepared_ahead(
        batches.at, range(steps + 1), ahead=ahead, device=torch.device("cpu")
    ) as batch_at:
        learning = (
            train(
                model, build_optimizer(model, training), objective=autoregressive,
                batch_at=batch_at, config=training,
            )
            if layers
            else map(batch_at, range(steps + 1))
        )  # fmt: skip
        for _ in learning:  # the first begins what the others find begun
            clocks.append((time.perf_counter(), time.thread_time()))
    (began, worked), (ended, worked_by_then) = clocks[0], clocks[-1]
    return (ended - began) / steps, (worked_by_then - worked) / steps


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--images", type=int, default=16, help="In a batch.")
    parser.add_argument("--side", type=int, default=8, help="Of the network's images.")
    parser.add_argument("--ahead", type=int, default=2)
    parser.add_argument("--steps", type=int, default=8, help="In each turn.")
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    palette = Palette(np.random.default_rng(1).uniform(-1, 1, (COLORS, 3)).astype(np.float32))
    batches = TokenBatches(
        pictures(4 * asked.images), ImageTokenizer(palette, asked.side), batch_size=asked.images,
        seed=0, augmentation="random-resize-crop",
    )  # fmt: skip
    (_, made), (_, one), (_, four) = (
        seconds_of(batches, layers, asked.steps, 0) for layers in (0, 1, 4)
    )
    a_layer = max(four - one, 1e-9) / 3
    layers = round(min(MOST_LAYERS, max(1, 1 + (2 * made - one) / a_layer)))
    print(
        f"{torch.get_num_threads()} thread(s) compute, cores idle: {processes.has_idle_cores()}; "
        f"{asked.images} crops of {HEIGHT}x{HEIGHT} to {asked.side}x{asked.side} take "
        f"{made * 1e3:.1f} ms ({asked.images / made:,.0f} images/s); {layers} layers"
    )
    ratios = []
    for _ in range(asked.rounds):
        turns = {
            ahead: seconds_of(batches, layers, asked.steps, ahead) for ahead in (0, asked.ahead)
        }
        (alone, work), (beside, work_beside) = turns[0], turns[asked.ahead]
        ratios.append(alone / beside)
        print(
            f"  when asked for {alone * 1e3:7.1f} ms a step ({work * 1e3:6.1f} of the learning "
            f"thread), {asked.ahead} ahead {beside * 1e3:7.1f} ms ({work_beside * 1e3:6.1f}): "
            f"{alone / beside:.2f} times as fast",
            flush=True,
        )
    print(f"median of {asked.rounds}: {statistics.median(ratios):.2f} times as fast")


if __name__ == "__main__":
    main()
