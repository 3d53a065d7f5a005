"""PyTorch files of others, which are pickles: read as named tensors, or not at all.

A pickle is a program. PyTorch's own reader runs nothing of it but what makes tensors; what is left
to refuse here is a small file that takes all memory: compressed, with one number that stands for
many, or with an array of any length in it.
"""

import mmap
import pickle
import warnings
import zipfile
from pathlib import Path

import torch
from torch import Tensor

from igpt.errors import CheckpointError


def read_pickle(path: Path) -> dict[str, Tensor]:
    """Return the tensors in a PyTorch file of nothing but tensors.

    Raises:
        CheckpointError: It is damaged, holds anything else, wants to run code, or would take far
            more memory than it takes space.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns of what it then refuses
            _require_no_bomb(path)
            weights = torch.load(path, map_location="cpu", weights_only=True)
    except CheckpointError:
        raise
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path} holds more than tensors, and reading it could run code; get the weights as "
            "safetensors"
        ) from error
    except Exception as error:  # the unpickler may fail in any way on a broken file
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise CheckpointError(
            f"{path} is no whole PyTorch file ({reason}); copy it again"
        ) from error
    if not isinstance(weights, dict) or not all(
        isinstance(name, str) and isinstance(weight, Tensor) and weight.layout is torch.strided
        for name, weight in weights.items()
    ):
        raise CheckpointError(f"{path} holds no named tensors; save the model's state_dict there")
    _require_room(path, sum(weight.numel() * weight.element_size() for weight in weights.values()))
    return weights


def _require_no_bomb(path: Path) -> None:
    """Refuse a pickle of a few bytes that takes gigabytes of memory while it is read."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        if data.find(b"\nbytearray\n") >= 0:  # which may be asked for at any length
            raise pickle.UnpicklingError("it makes a bytearray")
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as parts:
            # torch compresses none of them; and they may lie one upon the other
            _require_room(path, sum(part.file_size for part in parts.infolist()))


def _require_room(path: Path, wanted: int) -> None:
    """Refuse what would take far more memory than the file takes space."""
    if wanted > (held := path.stat().st_size):
        raise CheckpointError(
            f"{path} is {held:,} bytes long and would expand to {wanted:,}; weights do not, so get "
            "them from elsewhere, as safetensors"
        )
