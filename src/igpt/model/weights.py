"""Named tensors in one safetensors file: written whole, read with every fault named.

Both a model's folder and a run's saved state are made of such files; nothing is ever unpickled.
"""

import hashlib
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save, save_file
from torch import Tensor

from igpt.errors import CheckpointError, DataError
from igpt.files import written_aside

_CHECKSUM = "checksum"  # its key among the file's metadata


def write_tensors(
    path: Path, tensors: dict[str, Tensor], *, metadata: dict[str, str] | None = None
) -> None:
    """Write the tensors to `path`, which must lie in a folder that is itself written aside.

    Safetensors writes beside it first, under a name of which nothing else knows.

    Raises:
        DataError: The disk is full or the place cannot be written to.
    """
    tied = len({tensor.data_ptr() for tensor in tensors.values()}) < len(tensors)
    copied = {
        name: tensor.clone() if tied else tensor.contiguous() for name, tensor in tensors.items()
    }
    path.touch()
    mode = path.stat().st_mode  # as other files have it; safetensors' own would be for us alone
    try:
        save_file(copied, path, metadata)
    except SafetensorError as error:  # safetensors wraps the system's error in its own
        raise DataError(
            f"could not write {path.name}: {error}; free some space or choose another place"
        ) from error
    path.chmod(mode)


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read every tensor of `path` to the CPU.

    Raises:
        CheckpointError: The file is missing, cut off or not safetensors.
    """
    if not path.is_file():
        raise CheckpointError(f"{path} is missing; is the folder a whole copy?")
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise CheckpointError(
            f"{path} is no whole safetensors file ({error}); copy it again, or go back to an "
            "earlier checkpoint"
        ) from error


def write_sealed(path: Path, tensors: dict[str, Tensor]) -> None:
    """Write a few tensors to a file, whole or not at all, with a checksum in it.

    Raises:
        DataError: The disk is full or the place cannot be written to.
    """
    whole = {name: tensor.contiguous() for name, tensor in tensors.items()}
    with written_aside(path) as aside:
        aside.write_bytes(save(whole, {_CHECKSUM: _checksum(tensors)}))


def read_sealed(path: Path) -> dict[str, Tensor]:
    """Read what `write_sealed` wrote.

    Raises:
        CheckpointError: The file is missing, cut off, not safetensors, or was changed.
    """
    tensors = read_tensors(path)
    with safe_open(path, framework="pt", device="cpu") as file:
        known = (file.metadata() or {}).get(_CHECKSUM)
    if known != _checksum(tensors):
        raise CheckpointError(
            f"{path} was changed since it was written (its checksum differs); restore it or make "
            "it again"
        )
    return tensors


def _checksum(tensors: dict[str, Tensor]) -> str:
    """Return the SHA-256 of names, types, shapes and values."""
    sha256 = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        sha256.update(f"{name} {_kind(tensor)} {tuple(tensor.shape)} ".encode())
        sha256.update(tensor.cpu().contiguous().numpy().tobytes())
    return sha256.hexdigest()


def require_matching(path: Path, present: dict[str, Tensor], wanted: dict[str, Tensor]) -> None:
    """Check that `present` has exactly the names, types and shapes of `wanted`.

    Raises:
        CheckpointError: It does not; the message names the first difference.
    """
    for name in sorted(wanted.keys() | present.keys()):
        if name not in present:
            raise CheckpointError(f"{path} lacks {name!r}; is it from another configuration?")
        if name not in wanted:
            raise CheckpointError(
                f"{path} holds {name!r}, which this network does not have; is it from another "
                "configuration?"
            )
        if present[name].dtype != wanted[name].dtype:
            raise CheckpointError(
                f"{path} holds {name!r} in {_kind(present[name])}, but this network needs "
                f"{_kind(wanted[name])}; is it igpt's own?"
            )
        if present[name].shape != wanted[name].shape:
            raise CheckpointError(
                f"{path} holds {name!r} of shape {tuple(present[name].shape)}, but this network "
                f"needs {tuple(wanted[name].shape)}; is it from another configuration?"
            )


def require_finite(path: Path, weights: dict[str, Tensor]) -> None:
    """Check that no weight is NaN or infinite.

    Raises:
        CheckpointError: One is; the message names it.
    """
    for name, weight in weights.items():
        if weight.numel() and not torch.stack(weight.aminmax()).isfinite().all():  # NaN is both
            raise CheckpointError(
                f"{path} holds NaN or infinity in {name!r}, with which nothing can be computed; "
                "did its training diverge? go back to an earlier checkpoint"
            )


def _kind(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")
