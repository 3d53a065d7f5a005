"""Where a result comes from: what is needed to get it again."""

import os
import platform
import shlex
import subprocess
import sys
import time
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import torch


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """What is needed to get a result again: versions, commit, command, machine."""

    igpt: str
    commit: str | None
    """Of the checkout this code runs from, marked if it has changes; None if it is of none."""
    command: str
    started: str
    python: str
    libraries: dict[str, str]
    """Versions by name."""
    system: str
    processor: str
    cores: int | None
    threads: int
    """That PyTorch computes with."""
    device: str


def provenance(device: torch.device) -> Provenance:
    """Return the provenance of what is computed here and now."""
    libraries = ("torch", "numpy", "pillow", "scikit-learn", "scipy", "datasets")
    return Provenance(
        igpt=version("igpt"),
        commit=commit_of(Path(__file__)),
        command=_command(),
        started=time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        python=platform.python_version(),
        libraries={name: version(name) for name in libraries},
        system=platform.platform(),
        processor=_processor(),
        cores=os.cpu_count(),
        threads=torch.get_num_threads(),
        device=torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
    )


def _command() -> str:
    """Return the command line as a user would type it again."""
    program = Path(sys.argv[0])
    as_module = program.name == "__main__.py"
    typed = ["python", "-m", program.parent.name] if as_module else [program.name]
    return shlex.join([*typed, *sys.argv[1:]])


def commit_of(file: Path) -> str | None:
    """Return the commit of the checkout that tracks a file, marked if it has changes.

    Returns:
        None if no checkout tracks it: an installed igpt may lie inside a repository of the user's,
        whose commit says nothing of it.
    """
    git = ("git", "-C", str(file.parent))
    try:
        subprocess.run(
            [*git, "ls-files", "--error-unmatch", file.name],
            capture_output=True, timeout=10, check=True,
        )  # fmt: skip
        done = subprocess.run(
            [*git, "describe", "--always", "--dirty", "--abbrev=12"],
            capture_output=True, text=True, timeout=10, check=True,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
