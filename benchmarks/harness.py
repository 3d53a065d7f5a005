"""Two ways to do one thing, timed against each other in one run.

    ours, peer = Contender("igpt", step), Contender("transformers", peer_step)
    write_row("training-step", "training step ...", race([ours, peer], rounds=5), ours="igpt")

Contenders take turns, so that whatever slows the machine down slows them alike. Each is warmed up
first; a round is disturbed, dropped and counted if its processor time is far below what its threads
had while undisturbed: then somebody else had the processor. Figures are medians. Every benchmark
checks that its contenders give the same answer before it times them, writes one JSON file a row
into benchmarks/results/, and `python benchmarks/results.py` makes benchmarks/RESULTS.md of them.
"""

import argparse
import gc
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

import torch

RESULTS = Path(__file__).parent / "results"
_LIBRARIES = ("igpt", "torch", "transformers", "numpy", "scipy", "scikit-learn", "pillow")
_DISTURBED = 0.8
"""A round counts only with this share of the processor time per second of the calmest round."""


@dataclass
class Contender:
    """One way to do the thing."""

    name: str
    run: Callable[[], Any]
    """Does it once."""
    units: float = 1.0
    """How many of what is counted (images, steps, tokens) one run makes."""
    repeats: int = 1
    """Runs in one round, for what is too quick to time once."""
    seconds: list[float] = field(default_factory=list)
    """Of each round, for one run."""
    loads: list[float] = field(default_factory=list)
    """Processor seconds a second of each round."""

    def time_once(self, device: torch.device) -> None:
        """Run a round and keep its time."""
        gc.collect()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        cpu, wall = time.process_time(), time.perf_counter()
        for _ in range(self.repeats):
            self.run()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        self.seconds.append(wall / self.repeats)
        self.loads.append(cpu / wall)

    def result(self, device: torch.device) -> dict[str, Any]:
        """Return the median and spread of the undisturbed rounds."""
        kept = self.seconds
        if device.type == "cpu":
            calm = max(self.loads)
            kept = [
                second
                for second, load in zip(self.seconds, self.loads, strict=True)
                if load >= _DISTURBED * calm
            ]
        median = statistics.median(kept)
        return {
            "name": self.name,
            "seconds": median,
            "per_second": self.units / median,
            "fastest": min(kept),
            "slowest": max(kept),
            "rounds": len(kept),
            "disturbed": len(self.seconds) - len(kept),
        }


def race(
    contenders: Sequence[Contender],
    *,
    rounds: int = 5,
    warmup: int = 1,
    device: torch.device | str = "cpu",
) -> list[dict[str, Any]]:
    """Let the contenders take turns and return each one's result, in their order."""
    device = torch.device(device)
    for contender in contenders:
        for _ in range(warmup):
            contender.run()
    for _ in range(rounds):
        for contender in contenders:
            contender.time_once(device)
    return [contender.result(device) for contender in contenders]


def write_row(
    row: str,
    title: str,
    results: Sequence[dict[str, Any]],
    *,
    ours: str,
    reach: str = "",
    reached: bool | None = None,
    unit: str = "runs",
    measure: Literal["seconds", "memory_bytes"] = "seconds",
    notes: Sequence[str] = (),
    figures: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Print a row of the table, with the ratio of each peer's time to ours, and keep it as JSON.

    Args:
        row: Number of the row in the table and a short name, `06-tokenize`: the file's name.
        title: What was done, on what.
        results: What `race` returned (several races put together are well too).
        ours: Name of our contender, which the others are compared with.
        reach: What was hoped for, in words.
        reached: Whether that was reached; if None, results.py compares the fastest peer's ratio
            with the number that `reach` starts with, as in "2x".
        unit: What `units` counts.
        measure: What is compared, a key of every result; the ratio is of the others' to ours.
        notes: Sentences to stand under the row: what was checked, why it falls short.
        figures: Anything else measured, such as memory.
    """
    (base,) = (result for result in results if result["name"] == ours)
    for result in results:
        result["ratio"] = result[measure] / base[measure]
    value = {
        "row": row,
        "title": title,
        "reach": reach,
        "reached": reached,
        "unit": unit,
        "measure": measure,
        "ours": ours,
        "command": "python " + " ".join(_shown_arguments()),
        "results": list(results),
        "figures": figures or {},
        "notes": list(notes),
        "machine": machine(),
    }
    if "--toy" not in sys.argv:
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / f"{row}.json").write_text(json.dumps(value, indent=2) + "\n")
    print(f"{title}  [reach: {reach or '-'}]")
    for result in results:
        if measure == "memory_bytes":
            mebibytes = result["memory_bytes"] / 2**20
            print(f"  {result['name']:38} {mebibytes:12.0f} MiB  {result['ratio']:8.2f}x ours")
            continue
        print(
            f"  {result['name']:38} {result['seconds'] * 1e3:12.3f} ms "
            f"({result['fastest'] * 1e3:.3f} to {result['slowest'] * 1e3:.3f}; "
            f"{result['rounds']} rounds, {result['disturbed']} dropped) "
            f"{result['per_second']:12.1f} {unit}/s  {result['ratio']:8.2f}x ours' time",
            flush=True,
        )
    for name, figure in value["figures"].items():
        print(f"  {name}: {figure}")
    return value


def _shown_arguments() -> list[str]:
    return [f"benchmarks/{Path(sys.argv[0]).name}", *sys.argv[1:]]


def machine() -> dict[str, Any]:
    """Return what a figure depends on: processor, threads, allocator settings, versions, commit."""
    versions = {}
    for name in _LIBRARIES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    settings = ("MALLOC_", "LD_PRELOAD", "OMP_", "OPENBLAS_", "MKL_")
    return {
        "processor": processor(),
        "cores": os.cpu_count(),
        "torch_threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "python": platform.python_version(),
        "versions": versions,
        "environment": {
            name: value for name, value in os.environ.items() if name.startswith(settings)
        },
        "commit": _commit(),
        "date": time.strftime("%Y-%m-%d"),
    }


def processor() -> str:
    """Return the processor's name and the widest arithmetic it is known to have."""
    cpuinfo = Path("/proc/cpuinfo")
    flags = ""
    name = platform.processor() or platform.machine()
    if cpuinfo.is_file():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                name = line.partition(":")[2].strip()
            if line.startswith("flags"):
                flags = line
    widest = next((f for f in ("amx_bf16", "avx512_bf16", "avx512f", "avx2") if f in flags), "")
    return f"{name} ({widest})" if widest else name


def _commit() -> str | None:
    """Return the commit, and whether anything but results differs from it."""

    def git(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["git", *arguments], cwd=Path(__file__).parents[1],
            capture_output=True, text=True, check=False,
        )  # fmt: skip

    commit = git("describe", "--always", "--abbrev=10").stdout.strip()
    written = [":!benchmarks/results", ":!benchmarks/RESULTS.md"]
    changed = git("diff", "--quiet", "HEAD", "--", ".", *written).returncode
    return f"{commit}-dirty" if commit and changed else commit or None


def peak_memory(code: str, *arguments: str) -> dict[str, int]:
    """Run Python code in a process of its own and return its peak resident memory, in bytes.

    The code prints two numbers, its memory before the work began and at its end
    (`resident_memory()`, from this module); "growth" is what the work added.
    """
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=Path(__file__).parents[1],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), "src"])},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(done.stderr)
    before, peak = (int(word) for word in done.stdout.split()[-2:])
    return {"before": before, "peak": peak, "growth": peak - before}


def resident_memory() -> int:
    """Return the peak resident memory of this process so far, in bytes.

    Linux's own count, for `ru_maxrss` of a process that a large one started begins with what the
    large one held.
    """
    status = Path("/proc/self/status")
    if status.is_file():
        (line,) = (line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def arguments(description: str) -> argparse.ArgumentParser:
    """Return a parser with the options that every benchmark has."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--rounds", type=int, default=5, help="Rounds after the warm-up.")
    parser.add_argument("--device", default="cpu", help="cpu or cuda.")
    parser.add_argument("--data", help="Folder of CIFAR-10's parquet files, for rows 6, 8, 10, 11.")
    parser.add_argument(
        "--toy", action="store_true", help="Tiny sizes, to try the script itself; nothing is kept."
    )
    parser.add_argument("--only", action="append", help="A row's number, such as 6; all if none.")
    return parser
