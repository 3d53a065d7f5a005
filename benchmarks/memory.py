"""What a training step was reckoned to take, beside what its allocations come to.

    python benchmarks/memory.py                 # the CPU's, counted by PyTorch's profiler
    python benchmarks/memory.py --device cuda   # a GPU's, counted by its allocator
    python benchmarks/memory.py --processes 2   # DDP and FSDP2, the first process's

Peaks are those of the second step, weights and Adam's moments included. Nothing is kept: the table
is for docs/log.md.
"""

import argparse
import functools
import gc
import itertools
import tempfile
import warnings
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import distributed, multiprocessing
from torch.profiler import ProfilerActivity, profile

from igpt import processes
from igpt.data.batches import Batch
from igpt.model.config import MASK_PROBABILITY, ModelConfig
from igpt.model.transformer import ImageGPT
from igpt.objectives.autoregressive import autoregressive
from igpt.objectives.masked import masked
from igpt.planning.memory import Step
from igpt.training.config import TrainingConfig
from igpt.training.loop import train
from igpt.training.optimizer import build_optimizer
from igpt.training.parallel import spread_over_processes

STEPS = 2


@dataclass(frozen=True)
class Shape:
    """A network and a batch; images, and at a time, are those of one process."""

    layers: int
    width: int
    heads: int
    side: int
    colors: int
    images: int
    at_a_time: int


SHAPES = (
    Shape(4, 64, 4, 16, 64, 4, 4),
    Shape(4, 64, 4, 16, 512, 8, 2),
    Shape(6, 96, 4, 14, 8, 4, 2),
    Shape(8, 64, 4, 16, 64, 4, 4),
    Shape(12, 128, 2, 8, 16, 1, 1),
    Shape(2, 256, 8, 8, 32, 2, 2),
)
LARGE = (Shape(12, 256, 8, 32, 512, 8, 8), Shape(24, 512, 8, 32, 512, 4, 4))  # for a GPU


def make_step(
    shape: Shape, *, causal: bool = True, precision: str = "float32", checkpointed: bool = False,
    compiled: bool = False, devices: int = 1, strategy: str = "alone", fused_norms: bool = False,
) -> Step:  # fmt: skip
    """Return the step of a shape."""
    return Step(
        model=ModelConfig(
            layers=shape.layers, width=shape.width, heads=shape.heads, image_size=shape.side,
            colors=shape.colors, causal=causal,
        ),
        training=TrainingConfig(
            steps=STEPS, batch_size=shape.images * devices, microbatch_size=shape.at_a_time,
            precision=precision, checkpoint_activations=checkpointed, compile=compiled,
        ),
        precision=precision, devices=devices, strategy=strategy, fused_norms=fused_norms,
        scored=1.0 if causal else MASK_PROBABILITY,
    )  # fmt: skip


def measured_peak(step: Step, device: str = "cpu") -> int:
    """Return the most bytes that are allocated during the last of a few steps of training."""
    gc.collect()  # or what it frees later would be counted
    if device == "cpu":
        with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
            for number in _steps(step, device):
                if number == STEPS - 2:
                    with torch.profiler.record_function("from here on"):
                        pass
        return _highest(profiled)
    peak = 0
    for _ in _steps(step, device):
        peak = torch.cuda.max_memory_allocated()
        torch.cuda.reset_peak_memory_stats()
    return peak


def _steps(step: Step, device: str):
    """Train, and yield the number of each step once it is done."""
    torch.manual_seed(0)
    model = ImageGPT(step.model).to(device)
    objective = autoregressive
    if not step.model.causal:
        objective = functools.partial(masked, probability=MASK_PROBABILITY)
    spread = spread_over_processes(model, objective, step.strategy, precision=step.precision)
    tokens = torch.randint(step.model.colors, (step.images, step.model.positions), device=device)
    for done in train(
        spread.model, build_optimizer(spread.model, step.training), objective=objective,
        batch_at=lambda _: Batch(tokens, None), config=step.training, spread=spread,
    ):  # fmt: skip
        yield done.step


def _highest(profiled: profile) -> int:
    """Return the most bytes that were allocated at a time after the mark."""
    events = profiled.profiler.kineto_results.events()
    (mark,) = (event.start_ns() for event in events if event.name() == "from here on")
    changes = sorted(
        (event.start_ns(), event.nbytes()) for event in events if event.name() == "[memory]"
    )
    allocated = peak = 0
    for moment, size in changes:
        allocated += size
        if moment >= mark:
            peak = max(peak, allocated)
    return peak


def table(shapes, device: str, compiled: bool, devices: int = 1, strategy: str = "alone") -> None:
    """Print a row for each shape, objective, precision, and with or without checkpointing."""
    ways = itertools.product(shapes, (True, False), ("float32", "bfloat16"), (False, True))
    for shape, causal, precision, checkpointed in ways:
        step = make_step(
            shape, causal=causal, precision=precision, checkpointed=checkpointed,
            compiled=compiled, devices=devices, strategy=strategy, fused_norms=device != "cpu",
        )  # fmt: skip
        measured, peak = measured_peak(step, device), step.peak()
        if processes.first():
            print(
                f"{shape.layers:3} x {shape.width:4}, {shape.heads} heads, {shape.side}x"
                f"{shape.side}, {shape.colors:3} colors, {shape.at_a_time} of {shape.images} "
                f"{'AR' if causal else 'BERT':4} {precision:8} {strategy:5} "
                f"{'checkpointed' if checkpointed else '':12} measured {measured / 1e6:9.2f} MB  "
                f"reckoned {peak.total / 1e6:9.2f} ({peak.total / measured - 1:+.1%}, "
                f"{peak.moment})",
                flush=True,
            )


def _in_group(rank: int, ranks: int, meeting: str, shapes, compiled: bool) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group(
        "gloo", init_method=f"file://{meeting}", rank=rank, world_size=ranks
    )
    warnings.filterwarnings("ignore", "find_unused_parameters")
    for strategy in ("ddp", "fsdp"):
        table(shapes, "cpu", compiled, ranks, strategy)
    distributed.destroy_process_group()


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--processes", type=int, default=1, help="On the CPU, by gloo.")
    parser.add_argument("--compile", action="store_true", help="Compile the blocks.")
    parser.add_argument("--first", type=int, help="Only so many shapes.")
    arguments = parser.parse_args()
    shapes = (LARGE if arguments.device == "cuda" else SHAPES)[: arguments.first]
    if arguments.processes == 1:
        table(shapes, arguments.device, arguments.compile)
        return
    with tempfile.TemporaryDirectory() as folder:
        multiprocessing.spawn(
            _in_group,
            (arguments.processes, str(Path(folder, "meeting")), shapes, arguments.compile),
            nprocs=arguments.processes,
        )


if __name__ == "__main__":
    main()
