"""What reproductions found, for readers: some lines on a terminal, and one page about all."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from igpt.claims.reproduce import CLAIMS, Cost
from igpt.claims.scale import SCALES
from igpt.errors import ConfigError, DataError
from igpt.files import written_aside

_NAMES = {"points": " points", "nats": " nats", "dB": " dB", "": ""}


def part_value(part: dict[str, Any]) -> str:
    """Return a part's mean over the seeds and its standard error, in its unit."""
    if part["mean"] is None:
        return "not measured"
    scale, digits = (
        (100, 2) if part["unit"] == "points" else (1, 4 if part["unit"] == "nats" else 2)
    )
    text = f"{scale * part['mean']:+.{digits}f}"
    if part["standard_error"] is not None:
        text += f" ± {scale * part['standard_error']:.{digits}f}"
    return text + _NAMES[part["unit"]]


def result_text(result: dict[str, Any]) -> str:
    """Return a claim's result in a few lines."""
    lines = [f"{result['claim']}: {result['title']}"]
    for part in result["parts"]:
        lines.append(f"  {part['statement']}: {part['verdict']}")
        lines.append(f"    {part['quantity']}")
        lines.append(f"    ours {part_value(part)}; paper {part['paper']}")
    seeds = len(result["seeds"])
    lines.append(
        f"  {result['verdict'].upper()} ({result['scale']}, {result['data']}, {seeds} "
        f"seed{'s' * (seeds > 1)}, {result['seconds'] / 60:.0f} minutes of pretraining)"
    )
    return "\n".join(lines)


def costs_table(costs: Sequence[Cost]) -> str:
    """Return what each claim costs at each scale, for one seed."""
    lines = []
    for scale in SCALES.values():
        lines.append(f"{scale.name}: {scale.description}")
        lines.append("  claim           networks  fine-tuning steps  training FLOPs  here")
        for cost in costs:
            if cost.scale == scale.name:
                lines.append(
                    f"  {cost.claim:15} {cost.runs:8}  {cost.finetuning_steps:17,}  "
                    f"{cost.training_flops:14.1e}  {_duration(cost.hours)}"
                )
    lines.append(
        "One seed each; networks are shared between claims. Times are of training at the speed of "
        "a few steps just measured; probes come on top."
    )
    return "\n".join(lines)


def _duration(hours: float) -> str:
    for size, unit in ((24 * 365, "years"), (24, "days"), (1, "hours")):
        if hours >= size:
            return f"{hours / size:,.1f} {unit}"
    return f"{60 * hours:.0f} minutes"


def write_page(folders: Sequence[Path], out: Path) -> None:
    """Write a Markdown page about every claim in `folders`; figures go into a folder beside it.

    Args:
        folders: What `reproduce` made, such as `claims/tiny`.
        out: The page, say `claims.md`; its figures then go into `claims-figures`.

    Raises:
        ConfigError: The figures' folder holds something else.
        DataError: There is no result in the folders, or one is damaged.
    """
    pictures = out.with_name(f"{out.stem}-figures")
    if pictures.exists() and any(file.suffix != ".png" for file in pictures.iterdir()):
        raise ConfigError(
            f"{pictures} would be replaced, but holds more than figures; choose another --out"
        )
    results = []
    for folder in folders:
        for name in CLAIMS:
            file = folder / f"{name}.json"
            if not file.is_file():
                continue
            try:
                results.append(
                    (file.with_suffix(".png").read_bytes(), json.loads(file.read_text()))
                )
            except (OSError, json.JSONDecodeError) as error:
                raise DataError(f"{file} is damaged: {error}; reproduce it again") from error
    if not results:
        raise DataError(
            f"no claim's result in {', '.join(map(str, folders))}; run igpt reproduce first"
        )
    names = [_picture(result) for _, result in results]
    if len(set(names)) < len(names):
        raise DataError(
            f"two of the folders hold results of the same claim, scale and data "
            f"({max(names, key=names.count)}); give one of them"
        )
    with written_aside(pictures) as aside:
        aside.mkdir()
        for name, (picture, _) in zip(names, results, strict=True):
            (aside / name).write_bytes(picture)
    with written_aside(out) as aside:
        aside.write_text(_page([result for _, result in results], pictures.name))


def _picture(result: dict[str, Any]) -> str:
    return f"{result['scale']}-{result['data']}-{result['claim']}.png"


def _page(results: Sequence[dict[str, Any]], pictures: str) -> str:
    lines = [
        "# The paper's claims",
        "",
        "Written by `igpt claims` from what `igpt reproduce` measured; do not edit. The paper is "
        "Chen et al. 2020.",
        "",
        f"**The rule**, fixed before the runs: {results[0]['rule']}",
        "",
        "| claim | scale, data | seeds | pretraining | verdict |",
        "| --- | --- | --- | --- | --- |",
    ]
    lines += [
        f"| [{result['title']}](#{_anchor(result)}) | {result['scale']}, {result['data']} | "
        f"{len(result['seeds'])} | {result['seconds'] / 60:.0f} min | {result['verdict']} |"
        for result in results
    ]
    for result in results:
        made = result["provenance"]
        lines += [
            "",
            f"## {result['claim']}: {result['scale']}, {result['data']}",
            "",
            f"**{result['title']}** ({result['source']}): {result['verdict']}.",
            "",
            f"The paper: {result['paper']}",
            "",
            "| the paper says | its figures | measured here | ours | verdict |",
            "| --- | --- | --- | --- | --- |",
        ]
        lines += [
            f"| {part['statement']} | {part['paper']} | {part['quantity']}"
            f"{_margin(part)} | {part_value(part)} | {part['verdict']} |"
            for part in result["parts"]
        ]
        heads = list(result["table"][0])
        lines += ["", f"| {' | '.join(heads)} |", f"| {' | '.join('---' for _ in heads)} |"]
        lines += [f"| {' | '.join(row.values())} |" for row in result["table"]]
        lines += [
            "",
            f"![{result['title']}]({pictures}/{_picture(result)})",
            "",
            f"`{made['command']}`, commit {made['commit']}, {made['processor']}, "
            f"{made['threads']} thread{'s' * (made['threads'] != 1)}, PyTorch "
            f"{made['libraries']['torch']}; {result['seconds'] / 60:.0f} minutes of pretraining in "
            f"{len(result['seeds'])} seeds of {', '.join(result['runs'])}.",
        ]
    lines += [
        "",
        "Ours are means over the seeds, in the parts with the standard error of the mean, in the "
        "tables with the standard deviation. Networks are shared between claims, so the minutes "
        "overlap.",
        "",
    ]
    return "\n".join(lines)


def _margin(part: dict[str, Any]) -> str:
    margin = part["equal_within"]
    return "" if margin is None else f" (equal within {100 * margin:g} point)"


def _anchor(result: dict[str, Any]) -> str:
    text = f"{result['claim']} {result['scale']} {result['data']}".lower()
    return "".join(c if c.isalnum() or c in "-_" else "-" if c == " " else "" for c in text)
