"""How weights and gradients are spread over processes: every process has all, or a share of each.

    spread = spread_over_processes(model, objective, "ddp", precision="bfloat16")
    losses = spread.objective(spread.model, tokens, labels, generator)

| | weights, gradients, moments | what is sent, each step |
| --- | --- | --- |
| one process | all | nothing |
| ddp | all in each process | gradients |
| fsdp | a share in each | weights, for the forward and the backward pass, and gradients |

With fsdp on several machines each machine has all weights in its shares, if they fit, so that
weights travel inside machines and only gradients between them.

All give the same means over the whole batch and the same updates, but for the order in which
numbers are added. Where blocks are multiplied in 16 bits, fsdp also sends them in 16 bits, half as
much, and keeps no other copy of them: matrices are those that autocast would have made, gains of
norms are rounded too. Shares, gradients when they are added up, and all outside the blocks stay in
float32. PyTorch's own wrappers do the work (`DistributedDataParallel`, `fully_shard`).
They wrap what ends in the losses rather than the network, so that an objective may use the network
as it likes. What only fsdp needs is imported where it is used: it takes as long as half of PyTorch.

With fsdp, the network that was given is empty (on PyTorch's "meta" device) while another, of
shares, learns. In `Spread.whole` it has all weights, and measures and draws as ever.
"""

import contextlib
import copy
import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from igpt import processes
from igpt.files import digest, refusals_told
from igpt.hardware import Arithmetic
from igpt.model.transformer import ImageGPT
from igpt.objectives.autoregressive import Objective
from igpt.training.config import BYTES_A_WEIGHT, TrainingConfig, crowds, sharing

Strategy = Literal["alone", "ddp", "fsdp"]


class Spread:
    """A network that learns in this process alone."""

    def __init__(self, model: ImageGPT, objective: Objective) -> None:
        self.model = model
        """Whose weights learn; those of this process."""
        self.objective = objective
        """The objective, to be called with that model."""

    def adding_up(self, *, last: bool) -> AbstractContextManager[None]:
        """Return the context of a part of a batch, whose gradients are sent only after the last."""
        return contextlib.nullcontext()

    def norm(self, gradients: Sequence[Tensor]) -> Tensor:
        """Return the length of all gradients together."""
        return nn.utils.get_total_norm(gradients)

    def whole(self) -> AbstractContextManager[None]:
        """Return a context in which the network that was given has all weights."""
        return contextlib.nullcontext()

    def whole_weights(self) -> dict[str, Tensor]:
        """Return all weights by name, for the first process to write; others get none."""
        return dict(self.model.state_dict()) if processes.first() else {}


class _Losses(nn.Module):
    """A network and its objective as one module, whose output is the losses."""

    def __init__(self, model: ImageGPT, objective: Objective) -> None:
        super().__init__()
        self.model, self.objective = model, objective

    def forward(
        self, tokens: Tensor, labels: Tensor | None, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """Return the losses by name."""
        return self.objective(self.model, tokens, labels, generator)


class _Replicated(Spread):
    """Every process has all weights; gradients are averaged."""

    def __init__(self, model: ImageGPT, objective: Objective) -> None:
        super().__init__(model, self._losses)
        # Without the search for weights that get no gradient, DDP would also lay the gradients out
        # anew after the first step, and a resumed run would add them up in another order.
        self.wrapped = DistributedDataParallel(
            _Losses(model, objective), find_unused_parameters=True, gradient_as_bucket_view=True
        )

    def _losses(
        self,
        model: ImageGPT,
        tokens: Tensor,
        labels: Tensor | None,
        generator: torch.Generator,
    ) -> dict[str, Tensor]:
        return self.wrapped(tokens, labels, generator)

    def adding_up(self, *, last: bool) -> AbstractContextManager[None]:
        return contextlib.nullcontext() if last else self.wrapped.no_sync()


class _Sharded(Spread):
    """Every process has a share of each weight, and fetches the others' when it needs them."""

    def __init__(self, model: ImageGPT, objective: Objective, precision: Arithmetic) -> None:
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

        device = model.device
        weights = dict(model.state_dict())
        self.given = model.to("meta")
        sharded = copy.deepcopy(self.given)
        sharded.load_state_dict(weights, assign=True)
        if sharded.config.tied:
            sharded.color_head.weight = sharded.token_embedding
        weights.clear()
        shares = _sharing(sum(weight.numel() for weight in model.parameters()), device)
        copies = processes.count() // shares  # over which gradients are added up, too
        shape = {"copies": copies, "shares": shares} if copies > 1 else {"shares": shares}
        mesh = init_device_mesh(device.type, tuple(shape.values()), mesh_dim_names=tuple(shape))
        policy = MixedPrecisionPolicy()
        if precision != "float32":
            policy = MixedPrecisionPolicy(
                param_dtype=getattr(torch, precision), reduce_dtype=torch.float32,
                cast_forward_inputs=False,  # the residual stream stays as it is
            )  # fmt: skip
        for block in sharded.blocks:
            fully_shard(block, mesh=mesh, mp_policy=policy)
        self.wrapped = _Losses(sharded, objective)
        self._sharding = fully_shard(self.wrapped, mesh=mesh)
        super().__init__(sharded, self._losses)

    def _losses(
        self,
        model: ImageGPT,
        tokens: Tensor,
        labels: Tensor | None,
        generator: torch.Generator,
    ) -> dict[str, Tensor]:
        return self.wrapped(tokens, labels, generator)

    def adding_up(self, *, last: bool) -> AbstractContextManager[None]:
        self._sharding.set_requires_all_reduce(last)  # over copies
        return contextlib.nullcontext()

    def norm(self, gradients: Sequence[Tensor]) -> Tensor:
        return _whole(nn.utils.get_total_norm(gradients))

    @contextmanager
    def whole(self) -> Iterator[None]:
        weights = {name: _whole(share) for name, share in self.model.state_dict().items()}
        self.given.load_state_dict(weights, assign=True)
        weights.clear()
        try:
            yield
        finally:
            self.given.to("meta")

    def whole_weights(self) -> dict[str, Tensor]:
        weights = {}
        for name, share in self.model.state_dict().items():
            weight = _whole(share)  # one after the other, so that a device need not hold them all
            if processes.first():
                weights[name] = weight.cpu()
        return weights


def spread_over_processes(
    model: ImageGPT,
    objective: Objective,
    strategy: Strategy,
    *,
    precision: Arithmetic = "float32",
) -> Spread:
    """Return the network as it learns, in this process and the others.

    Args:
        model: The network.
        objective: Makes its losses.
        strategy: How it is spread.
        precision: At which it is multiplied, and at which fsdp sends its blocks.
    """
    if strategy == "fsdp":
        return _Sharded(model, objective, precision)
    return (_Replicated if strategy == "ddp" else Spread)(model, objective)


def choose_strategy(
    config: TrainingConfig, parameters: int, device: torch.device
) -> tuple[Strategy, str]:
    """Return how weights are to be spread over the processes there are, and why, in a line.

    By default each process has all, unless weights, gradients and Adam's moments, 16 bytes a
    weight, would take over half of a device's memory; with Muon always. A process that no launcher
    started has all of them, whatever is asked for.
    """
    count, asked = processes.count(), config.parallel
    if count == 1 and (asked != "fsdp" or not distributed.is_initialized()):
        return "alone", ""
    needed, there = parameters * BYTES_A_WEIGHT, _memory(device)
    (crowded,) = processes.agree(crowds(parameters, there))
    whole = config.needs_whole_matrices
    strategy = asked if asked != "auto" else "fsdp" if crowded and not whole else "ddp"
    shares = 1 if strategy == "ddp" else _sharing(parameters, device)
    kept = needed / shares
    reason = (
        "as training.parallel says"
        if asked != "auto"
        else "since Muon needs whole matrices"
        if whole
        else f"since all, {_size(needed)}, are {'over' if crowded else 'at most'} half of the "
        f"{_size(there)} of memory"
    )
    return strategy, (
        f"{'one process' if count == 1 else f'{count} processes'} by {strategy}"
        f"{f' within each {shares}' if 1 < shares < count else ''}: {_size(kept)} of weights, "
        f"gradients and moments in each, {reason}"
    )


def mean_over_processes(measures: dict[str, float]) -> dict[str, float]:
    """Return means over the whole batch, from those of this process's share of it."""
    count = processes.count()
    if count == 1:
        return measures
    sums = processes.total(list(measures.values()))
    return {name: value / count for name, value in zip(measures, sums, strict=True)}


def is_sharded(model: nn.Module) -> bool:
    """Say whether this process has only a share of the weights."""
    return any(hasattr(parameter, "full_tensor") for parameter in model.parameters())


def write_shares(
    folder: Path, tensors: dict[str, Tensor], group: processes.Group | None = None
) -> dict[str, str]:
    """Write every process's share of some tensors into a folder that all of them see.

    PyTorch's distributed checkpoint, as safetensors files: nothing in it is pickled.

    Args:
        folder: Where.
        tensors: By name.
        group: That the processes speak in.

    Returns:
        SHA-256 of every file, by name.

    Raises:
        DataError: The disk is full or cannot be written to, for this process or another.
    """
    from torch.distributed import checkpoint

    writer = checkpoint.HuggingFaceStorageWriter(str(folder), save_distributed=True)
    try:
        checkpoint.save(dict(tensors), storage_writer=writer, process_group=group)
    except checkpoint.CheckpointException as error:
        with refusals_told(folder):
            raise next(iter(error.failures.values()))[0] from error
    mine = sorted(folder.glob(f"shard-{processes.rank() + 1:05d}-*"))
    sha256: dict[str, str] = {}
    for part in processes.gather({file.name: digest(file) for file in mine}, group):
        sha256 |= part
    return sha256


def shares_in(folder: Path) -> dict[str, torch.Size]:
    """Return the shapes of the whole tensors that a folder holds in shares, by name."""
    from torch.distributed import checkpoint

    known = checkpoint.HuggingFaceStorageReader(str(folder)).read_metadata().state_dict_metadata
    return {name: getattr(tensor, "size") for name, tensor in known.items()}  # noqa: B009


def read_shares(folder: Path, tensors: dict[str, Tensor]) -> None:
    """Read this process's share of some tensors, in place, however many processes wrote them.

    All processes must do so together, unless the tensors are whole: those are read alone.
    """
    from torch.distributed import checkpoint

    reader = checkpoint.HuggingFaceStorageReader(str(folder))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "torch.distributed is")  # alone, which is no fault
        alone = not any(hasattr(tensor, "full_tensor") for tensor in tensors.values())
        checkpoint.load(dict(tensors), storage_reader=reader, no_dist=alone)


def _sharing(parameters: int, device: torch.device) -> int:
    """Return among how many processes fsdp shares the weights, the same in each process."""
    count = processes.count()
    here = int(os.environ.get("LOCAL_WORLD_SIZE", count))
    (shares,) = processes.agree(
        sharing(parameters, _memory(device), devices=count, per_machine=here)
    )
    return shares


def _memory(device: torch.device) -> int:
    """Return the bytes of memory that a process has to itself."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    pages = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return pages // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def _size(amount: float) -> str:
    unit, name = (2**30, "GiB") if amount >= 2**30 else (2**20, "MiB")
    return f"{amount / unit:,.1f} {name}"


def _whole(tensor: Tensor) -> Tensor:
    """Return all of what may be a share of a tensor; every process must ask for it."""
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor
