"""The small scale of the claims in pieces of ten minutes, on a machine that keeps nothing.

    python benchmarks/gpu/claims_small.py --list                      # what there is to do, in order
    python benchmarks/gpu/claims_small.py --home HOME --out OUT --seconds 500

A piece takes what earlier pieces brought home (HOME, a folder that may be missing), goes on with
the first seed's first claim that lacks something, and so on until its seconds are over. Whatever is
finished is written to OUT at once, without weights: settings, metrics and measures of every run, a
few hundred kilobytes each. HOME of the next piece is OUT of this one. When all is done, what lies
there is a folder of `igpt claims`.

A network that is not finished when the seconds are over is begun again by the next piece, so the
seconds must be more than the longest network's: `--list` reckons them. The same script at toy size:

    python benchmarks/gpu/claims_small.py --scale tiny --seeds 2 --claims depth size \\
        --set training.steps=8 --set training.warmup_steps=2 --home HOME --out OUT --seconds 60
"""

import argparse
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from igpt.claims.costs import costs, network_minutes
from igpt.claims.page import result_text
from igpt.claims.reproduce import CLAIMS, reproduce
from igpt.claims.scale import find_scale
from igpt.data.config import StoreConfig
from igpt.data.prepare import prepare_store
from igpt.errors import IgptError

DATA = Path("shared/data")
LIGHT = {".json", ".jsonl", ".txt", ".png", ".npy"}
"""Endings of what comes home; weights, states and images do not."""
HEAVY = {"state", "snapshots", "model", "pretrained", "samples", "data"}
"""Folders that stay."""
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
        shutil.copytree(given.home, folder)
    sources = {} if given.scale == "tiny" else stores(work)
    common = dict(scale=given.scale, settings=given.settings, out=work, **sources)
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
        state = "done" if result.seeds else "to go on with"
        spent = time.monotonic() - started
        print(f"{name}, seed {seed}: {state}, {spent:.0f} s", flush=True)
        bring_home(folder, given.out)
    for name in given.claims:  # what is whole is judged, in seconds
        try:
            print(result_text(reproduce(name, seconds=20, **common)), flush=True)
        except IgptError as error:
            print(f"{name}: {error}", flush=True)
    bring_home(folder, given.out)


def tasks(seeds: int, claims: list[str]) -> Iterator[tuple[int, str]]:
    """Yield seed by seed, so that every claim has something early."""
    for seed in range(seeds):
        for name in claims:
            yield seed, name


def stores(folder: Path) -> dict[str, Path]:
    """Prepare Tiny ImageNet to learn from and CIFAR-10 for its labels; half a minute on 16 cores."""
    config = StoreConfig(image_size=32)
    made = {"data": folder / "tiny-imagenet", "labelled": folder / "cifar10"}
    prepare_store(str(DATA / "tiny-imagenet-32x32"), made["data"], config)
    prepare_store(str(DATA / "cifar10"), made["labelled"], config)
    return made


def bring_home(folder: Path, out: Path) -> None:
    """Copy what is light of finished runs, and all results and plans."""
    for file in folder.rglob("*"):
        inner = file.relative_to(folder)
        if file.suffix not in LIGHT or HEAVY & set(inner.parts) or not file.is_file():
            continue
        run = folder / inner.parts[0] / inner.parts[1] if inner.parts[0] == "runs" else None
        if run is not None and not any((run / name).is_file() for name in FINISHED):
            continue
        (out / inner).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, out / inner)


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
