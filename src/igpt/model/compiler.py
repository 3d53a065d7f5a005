"""Whether `torch.compile` has what it needs; what is compiled is decided where it runs."""

import shutil

import torch

from igpt.errors import ConfigError


def require_compiler(device: torch.device, setting: str) -> None:
    """See that there is a compiler.

    Args:
        device: Where the compiled code is to run.
        setting: What the user calls for it with, such as `training.compile=true`.

    Raises:
        ConfigError: None that torch could use on this device.
    """
    compilers = ("g++", "clang++", "cl") if device.type == "cpu" else ("gcc", "clang", "cc", "cl")
    if not any(map(shutil.which, compilers)):
        raise ConfigError(
            f"{setting} needs a compiler ({', '.join(compilers)}), and none was found; install "
            "one, or do without"
        )
