"""Whether this machine has what igpt needs, and what igpt would make of it: `igpt doctor`.

    found = examine()
    print(found.table())

torch is imported as late as possible: that it cannot be is one of the things to find.
"""

import os
import platform
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Literal

from packaging.requirements import Requirement

from igpt.amounts import size_text

State = Literal["ok", "note", "wrong"]

_LEAST_SPACE, _LITTLE_SPACE = 100 * 10**6, 2 * 10**9  # bytes: nothing fits; may soon be too little


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that was looked at."""

    name: str
    value: str
    state: State = "ok"
    """`note`: something could be better; `wrong`: igpt cannot work so."""
    remedy: str = ""


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """All that was looked at."""

    findings: tuple[Finding, ...]

    @property
    def well(self) -> bool:
        """Whether nothing is wrong that stops igpt."""
        return all(finding.state != "wrong" for finding in self.findings)

    def table(self) -> str:
        """Return a line for each finding, and one for all."""
        width = max(len(finding.name) for finding in self.findings)
        lines = []
        for finding in self.findings:
            mark = "" if finding.state == "ok" else f"  [{finding.state}]"
            remedy = f" {finding.remedy}" if finding.remedy else ""
            lines.append(f"{finding.name:{width}}  {finding.value}{mark}{remedy}")
        wrong = sum(finding.state == "wrong" for finding in self.findings)
        lines.append(f"{wrong} wrong" if wrong else "nothing is wrong")
        return "\n".join(lines)


def examine(*, folder: Path = Path(), hub: bool = False) -> Diagnosis:
    """Look at versions, devices, threads, disk and compilers.

    Args:
        folder: Where the work is to be done.
        hub: Whether to ask if the Hugging Face hub can be reached; or else the network is left
            alone.
    """
    found = [_python(), *_packages(), *_extras(), *_torch(), _compiler(), _space(folder)]
    if hub:
        found.append(_hub())
    return Diagnosis(findings=tuple(found))


def _python() -> Finding:
    return Finding(
        name="igpt", value=f"{version('igpt')}, Python {platform.python_version()}, "
        f"{platform.system()} {platform.machine()}, {sys.prefix}",
    )  # fmt: skip


def _packages() -> Iterator[Finding]:
    """Yield the required packages in one line, and each that is missing or too old in its own."""
    texts = []
    for text in requires("igpt") or ():
        wanted = Requirement(text)
        if wanted.marker is not None and not wanted.marker.evaluate({"extra": ""}):
            continue
        try:
            there = version(wanted.name)
        except PackageNotFoundError:
            there = None
        if there is None or not wanted.specifier.contains(there, prereleases=True):
            yield Finding(
                name=wanted.name, value=there or "not installed", state="wrong",
                remedy=f"pip install '{wanted.name}{wanted.specifier}'",
            )  # fmt: skip
        elif wanted.name != "torch":
            texts.append(f"{wanted.name} {there}")
    yield Finding(name="packages", value=", ".join(texts))


def _extras() -> Iterator[Finding]:
    extras = {
        "transformers": "to use exported models with it: pip install 'igpt[huggingface]'",
        "pillow-heif": "to read HEIC photos: pip install 'igpt[heif]'",
        "uvicorn": "for the page of igpt serve: pip install 'igpt[web]'",
        "tensorboard": "for --track tensorboard: pip install 'igpt[track]'",
    }
    for name, purpose in extras.items():
        try:
            yield Finding(name=name, value=version(name))
        except PackageNotFoundError:
            yield Finding(name=name, value="not installed", remedy=f"(optional, {purpose})")


def _torch() -> Iterator[Finding]:
    try:
        import torch
    except Exception as error:  # whatever a broken installation raises
        reason = str(error).partition("\n")[0]
        yield Finding(
            name="torch", value=f"cannot be imported: {reason}", state="wrong",
            remedy="install it anew, for this machine: https://pytorch.org/get-started/locally",
        )  # fmt: skip
        return
    from igpt.processes import allowed_cores
    from igpt.training.estimate import multiplication_speed

    built = f"for CUDA {torch.version.cuda}" if torch.version.cuda else "for the CPU"
    yield Finding(name="torch", value=f"{version('torch')}, {built}")
    threads, cores = torch.get_num_threads(), allowed_cores()
    speed = f"{multiplication_speed() / 1e9:,.0f} GFLOP/s in a large multiplication"
    text = f"{threads} thread{'s' * (threads != 1)} on {cores} core{'s' * (cores != 1)}, {speed}"
    if threads > cores:
        yield Finding(
            name="threads", value=text, state="note",
            remedy=f"more threads than cores slow each other: OMP_NUM_THREADS={cores}",
        )  # fmt: skip
    elif threads < cores and "OMP_NUM_THREADS" in os.environ:
        limit = os.environ["OMP_NUM_THREADS"]
        yield Finding(
            name="threads", value=text, state="note",
            remedy=f"OMP_NUM_THREADS={limit} is set; unset it if nothing else runs here",
        )  # fmt: skip
    else:
        yield Finding(name="threads", value=text)
    yield from _devices()


def _devices() -> Iterator[Finding]:
    import torch

    from igpt.processes import choose_device

    for number in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(number)
        yield Finding(
            name=f"cuda:{number}", value=f"{properties.name}, {size_text(properties.total_memory)}"
        )
    if torch.version.cuda and not torch.cuda.is_available():
        yield Finding(
            name="cuda", value="no GPU can be used", state="note",
            remedy="torch is built for one: see nvidia-smi, or take the smaller build for the CPU",
        )  # fmt: skip
    device = choose_device("auto")
    fast = device.type == "cuda" and torch.cuda.is_bf16_supported()
    yield Finding(
        name="would choose",
        value=f"{device.type}, {'bfloat16' if fast else 'float32'}; compiled only if asked, "
        "--set training.compile=true",
    )


def _compiler() -> Finding:
    found = next((name for name in ("g++", "clang++", "cl") if shutil.which(name)), None)
    if found:
        return Finding(name="C++ compiler", value=str(shutil.which(found)))
    return Finding(
        name="C++ compiler", value="none", state="note",
        remedy="training.compile=true needs one on a CPU: apt install g++, or leave it out",
    )  # fmt: skip


def _space(folder: Path) -> Finding:
    place = folder.resolve()
    free = shutil.disk_usage(place).free
    text = f"{size_text(free)} free in {place}"
    if not os.access(place, os.W_OK):
        return Finding(
            name="disk", value=f"{place} cannot be written to", state="wrong",
            remedy="go to another folder",
        )  # fmt: skip
    if free < _LITTLE_SPACE:
        state: State = "wrong" if free < _LEAST_SPACE else "note"
        return Finding(name="disk", value=text, state=state, remedy="free some space")
    return Finding(name="disk", value=text)


def _hub() -> Finding:
    from huggingface_hub import HfApi

    try:
        HfApi().model_info("openai/imagegpt-small", timeout=10)
    except Exception as error:  # of whichever library speaks to the network
        reason = str(error).partition("\n")[0][:100] or type(error).__name__
        return Finding(
            name="hub", value=f"cannot be reached: {reason}", state="note",
            remedy="see HF_ENDPOINT, HF_HUB_OFFLINE and proxies; igpt works without it",
        )  # fmt: skip
    return Finding(name="hub", value="can be reached")
