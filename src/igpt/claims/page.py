"""Results of reproductions for readers: some lines on a terminal, and one page about all.

`page.jinja` has the page's words.
"""

from collections.abc import Sequence
from pathlib import Path

from igpt.claims.claim import ClaimResult, PartResult
from igpt.claims.reproduce import CLAIMS, Cost
from igpt.claims.scale import SCALES
from igpt.errors import ConfigError, DataError
from igpt.files import read_json, written_aside
from igpt.outputs import require_free
from igpt.report.templates import template
from igpt.values import from_dict

_UNITS = {
    "points": (100, 2, " points"),
    "nats": (1, 4, " nats"),
    "dB": (1, 2, " dB"),
    "": (1, 2, ""),
}
"""What a part's number is multiplied with to be shown, its digits, and its unit's name."""


_MARK = "Written by `igpt claims` from what `igpt reproduce` measured"
"""Tells the page from others."""


def part_value(part: PartResult) -> str:
    """Return a part's mean over the seeds and its standard error, in its unit."""
    if part.mean is None:
        return "not measured"
    scale, digits, unit = _UNITS[part.unit]
    text = f"{scale * part.mean:+.{digits}f}"
    if part.standard_error is not None:
        text += f" ± {scale * part.standard_error:.{digits}f}"
    return text + unit


def result_text(result: ClaimResult) -> str:
    """Return a claim's result in a few lines."""
    lines = [f"{result.claim}: {result.title}"]
    for part in result.parts:
        lines.append(f"  {part.statement}: {part.verdict}")
        lines.append(f"    {part.quantity}")
        lines.append(f"    ours {part_value(part)}; paper {part.paper}")
    lines.append(
        f"  {result.verdict.upper()} ({result.scale}, {result.data}, seeds: {len(result.seeds)}, "
        f"pretraining: {_minutes(result)} min)"
    )
    return "\n".join(lines)


def costs_table(costs: Sequence[Cost]) -> str:
    """Return what each claim costs at each scale, for one seed."""
    lines = []
    for scale in SCALES.values():
        lines.append(f"{scale.name}: {scale.description}")
        lines.append("  claim           networks  fine-tuning steps  training FLOPs  time there")
        lines += [
            f"  {cost.claim:15} {cost.runs:8}  {cost.finetuning_steps:17,}  "
            f"{cost.training_flops:14.1e}  {_duration(cost.minutes)}"
            for cost in costs
            if cost.scale == scale.name
        ]
    lines.append(
        "One seed each; networks are shared between claims. Times are of training, reckoned from "
        "the operations; probes come on top."
    )
    return "\n".join(lines)


def _duration(minutes: float) -> str:
    for size, unit in ((60 * 24 * 365, "years"), (60 * 24, "days"), (60, "hours")):
        if minutes >= size:
            return f"{minutes / size:,.1f} {unit}"
    return f"{minutes:.0f} minutes"


def read_result(file: Path) -> ClaimResult:
    """Return the result that `reproduce` wrote as this file.

    Raises:
        DataError: It is missing, damaged, or of another igpt.
    """
    try:
        return from_dict(ClaimResult, read_json(file, error=DataError), name="it")
    except ConfigError as error:
        raise DataError(
            f"{file} is damaged or of an earlier igpt: {error}; reproduce it again"
        ) from error


def write_page(folders: Sequence[Path], out: Path, *, overwrite: bool = False) -> None:
    """Write a Markdown page about every claim in `folders`; figures go into a folder beside it.

    Args:
        folders: What `reproduce` made, such as `claims/tiny`.
        out: The page, say `claims.md`; its figures then go into `claims-figures`. An earlier page
            there is replaced with its figures.
        overwrite: Replace any other file too, but no other folder.

    Raises:
        ConfigError: The page may not be written, or the figures' folder holds something else.
        DataError: There is no result in the folders, or one is damaged.
    """
    figures = out.with_name(f"{out.stem}-figures")
    require_free(out, overwrite=overwrite, page=_MARK)
    if figures.exists() and not _holds_only_figures(figures):
        raise ConfigError(
            f"{figures} would be replaced, but holds more than figures; choose another --out"
        )
    files = [folder / f"{name}.json" for folder in folders for name in CLAIMS]
    files = [file for file in files if file.is_file()]
    results = [read_result(file) for file in files]
    if not results:
        raise DataError(
            f"no claim's result in {', '.join(map(str, folders))}; run igpt reproduce first"
        )
    names = [_figure(result) for result in results]
    if len(set(names)) < len(names):
        raise DataError(
            f"two of the folders hold results of the same claim, scale and data "
            f"({max(names, key=names.count)}); give one of them"
        )
    page = template("page.jinja", escape=False, folder="claims").render(
        results=results,
        figures=figures.name,
        figure=_figure,
        anchor=_anchor,
        minutes=_minutes,
        part_value=part_value,
        mark=_MARK,
    )
    with written_aside(figures) as aside:
        aside.mkdir()
        for name, file in zip(names, files, strict=True):
            (aside / name).write_bytes(file.with_suffix(".png").read_bytes())
    with written_aside(out) as aside:
        aside.write_text(page + "\n")


def _holds_only_figures(folder: Path) -> bool:
    endings = tuple(f"-{name}.png" for name in CLAIMS)
    return folder.is_dir() and all(file.name.endswith(endings) for file in folder.iterdir())


def _figure(result: ClaimResult) -> str:
    return f"{result.scale}-{result.data}-{result.claim}.png"


def _minutes(result: ClaimResult) -> str:
    return f"{result.seconds / 60:.0f}"


def _anchor(result: ClaimResult) -> str:
    text = f"{result.claim} {result.scale} {result.data}".lower()
    return "".join(c if c.isalnum() or c in "-_" else "-" if c == " " else "" for c in text)
