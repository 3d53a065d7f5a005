"""The small scale of the claims in pieces of ten minutes, on a machine that keeps nothing.

    python -m benchmarks.gpu.claims_small --list            # what there is to do
    python -m benchmarks.gpu.claims_small --home HOME --out OUT --seconds 500

A piece takes what earlier pieces brought home (HOME, which may be missing), goes on with the first
seed's first claim that lacks something, and so on until its seconds are over. Whatever is finished
is in OUT at once, a parcel (`benchmarks.gpu.parcel`): settings, metrics and measures of every run,
and the weights that later claims of the seed begin from. HOME of the next piece is OUT of this one;
when all is done, it is unpacked into a folder for `igpt claims`.

Probes are not cut short, and may take a minute more than the seconds. A network that is not
finished when these are over is begun again by the next piece, so the seconds must be more than the
longest network's: `--list` reckons them. The same script at toy size:

    python -m benchmarks.gpu.claims_small --scale tiny --seeds 2 --claims depth size \\
        --set training.steps=8 --set training.warmup_steps=2 --home HOME --out OUT --seconds 60
"""

import argparse
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.gpu.parcel import pack, unpack
from igpt.claims.costs import costs, network_minutes
from igpt.claims.page import result_text
from igpt.claims.reproduce import CLAIMS, reproduce
from igpt.claims.scale import SEARCH_SEED, find_scale
from igpt.data.config import StoreConfig
from igpt.data.prepare import prepare_store
from igpt.errors import IgptError
from igpt.runs.run import RunFolder

DATA = Path("shared/data")
LIGHT = {".json", ".jsonl", ".txt", ".png", ".npy"}
"""Endings of what comes home; weights, states and images do not."""
HEAVY = {"state", "snapshots", "model", "pretrained", "samples", "data"}
"""Folders that stay, but for a model's `config.json`, by which its kept measures know it."""
SOURCES = {
    "base": ("fine-tuning", "low-data", "objectives"),
    "bert": ("objectives",),
}
"""Networks whose weights come home until these claims of their seed are done."""
FINISHED = ("evaluation.json", "probe.json", "finetune.json", "diverged.json")
"""A run that has one of these needs no weights any more, once its claim is measured."""


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--scale", default="small")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--claims", nargs="*", default=list(CLAIMS))
    parser.add_argument("--set", action="append", default=[], dest="settings")
    parser.add_argument("--home", type=Path)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--seconds", type=float, default=500)
    given = parser.parse_args()
    if given.list:
        list_work(given.scale, given.claims)
        return
    end = time.monotonic() + given.seconds
    work = Path(tempfile.mkdtemp(prefix="claims-"))
    folder = work / given.scale
    if given.home and given.home.is_dir():
        unpack(given.home, folder)
    sources = {} if given.scale == "tiny" else stores(work)
    common = dict(scale=given.scale, settings=given.settings, out=work, **sources)
    done: set[tuple[int, str]] = set()
    for seed, name in tasks(given.seeds, given.claims):
        left = end - time.monotonic()
        if left <= 0:
            break
        started = time.monotonic()
        try:
            share = (seed + 1, given.seeds)
            result = reproduce(name, seeds=given.seeds, share=share, seconds=left, **common)
        except IgptError as error:  # one claim's fault is not the end of the others
            print(f"{name}, seed {seed}: {error}", flush=True)
            continue
        state = "to go on with"
        if result.seeds:
            done.add((seed, name))
            state = "done"
        spent = time.monotonic() - started
        print(f"{name}, seed {seed}: {state}, {spent:.0f} s", flush=True)
        pack(folder, worth_bringing(folder, done), given.out)
    for name in given.claims:
        if all((seed, name) in done for seed in range(given.seeds)):  # nothing is left to measure
            print(result_text(reproduce(name, **common)), flush=True)
    pack(folder, worth_bringing(folder, done), given.out)


def tasks(seeds: int, claims: list[str]) -> Iterator[tuple[int, str]]:
    """Yield seed by seed, so that every claim has something early."""
    for seed in range(seeds):
        for name in claims:
            yield seed, name


def stores(folder: Path) -> dict[str, Path]:
    """Prepare Tiny ImageNet to learn from and CIFAR-10 for its labels."""
    config = StoreConfig(image_size=32)
    made = {"data": folder / "tiny-imagenet", "labelled": folder / "cifar10"}
    prepare_store(str(DATA / "tiny-imagenet-32x32"), made["data"], config)
    prepare_store(str(DATA / "cifar10"), made["labelled"], config)
    return made


def worth_bringing(folder: Path, done: set[tuple[int, str]]) -> Iterator[Path]:
    """Yield what is light of finished runs, all results and plans, and weights still needed."""
    for file in folder.rglob("*"):
        inner = file.relative_to(folder)
        config = inner.parts[2:] == ("model", "config.json")
        heavy = HEAVY & set(inner.parts) and not config
        if file.suffix not in LIGHT or heavy or not file.is_file():
            continue
        run = folder / inner.parts[0] / inner.parts[1] if inner.parts[0] == "runs" else None
        if run is None or finished(run):
            yield file
    for run in (folder / "runs").glob("*-seed*"):
        network, _, seed = run.name.partition("-seed")
        later = [claim for claim in SOURCES.get(network, ()) if (int(seed), claim) not in done]
        if later and (run / "probe.json").is_file():
            yield from (file for file in run.glob("model/*") if file.name != "config.json")


def finished(run: Path) -> bool:
    """Return whether a run is trained, and measured if it is to be."""
    searched = run.name.endswith(f"-seed{SEARCH_SEED}") and RunFolder.is_at(run)
    return (searched and RunFolder(run).ended) or any((run / name).is_file() for name in FINISHED)


def list_work(name: str, claims: list[str]) -> None:
    """Print what each network and each claim takes."""
    scale = find_scale(name)
    rows = {network for claim in claims for network in CLAIMS[claim].networks(scale)}
    for network in sorted(rows):
        print(f"{network:24} {60 * network_minutes(scale, network):6.0f} s")
    for cost in costs():
        if cost.scale == name and cost.claim in claims:
            print(f"{cost.claim:24} {60 * cost.minutes:6.0f} s a seed, networks it shares included")


if __name__ == "__main__":
    main()
