"""Results of reproductions for readers: some lines on a terminal, and one page about all.

`page.jinja` has the page's words.
"""

import itertools
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from igpt.amounts import counted, spoken
from igpt.claims.claim import ClaimResult, PartResult
from igpt.claims.costs import Cost, scale_cost
from igpt.claims.plan import FixedPlan, read_plan
from igpt.claims.power import MOST, POWER
from igpt.claims.reproduce import CLAIMS, read_result
from igpt.claims.scale import SCALES
from igpt.claims.verdict import RULE, Verdict
from igpt.errors import ConfigError, DataError
from igpt.files import written_aside
from igpt.outputs import require_free
from igpt.paths import AnyPath, as_paths
from igpt.report.templates import template

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
    """Return a part's mean over the seeds and its 95 % interval, in its unit."""
    if part.mean is None:
        return "not measured"
    scale, digits, unit = _UNITS[part.unit]
    text = f"{scale * part.mean:+.{digits}f}{unit}"
    if part.interval:
        low, high = (f"{scale * end:+.{digits}f}" for end in part.interval)
        text += f" ({low} to {high})"
    return text


def margin_text(part: PartResult) -> str:
    """Return the smallest effect of a part that is worth telling, in its unit."""
    scale, _, unit = _UNITS[part.unit]
    return f"{scale * part.margin:g}{unit}".replace("1 points", "1 point")


def power_text(part: PartResult) -> str:
    """Return how many seeds a part takes to be told, as its spread is so far."""
    counted = sum(value is not None for value in part.values)
    if part.deviation is None:
        return "unknown before two seeds"
    needed = f"over {MOST:,}" if part.seeds_needed is None else f"{part.seeds_needed:,}"
    scale, digits, unit = _UNITS[part.unit]
    return (
        f"{needed} seeds for {margin_text(part)}, as seeds differ by "
        f"{scale * part.deviation:.{digits}f}{unit}; {counted} so far"
    )


def summary(result: ClaimResult) -> str:
    """Return what became of a claim's parts in a line: `holds (3 of 4 parts hold, ...)`."""
    if result.verdict == "unfinished":
        return f"unfinished: {len(result.seeds)} of {counted(result.planned, 'seed')}"
    count = Counter(part.verdict for part in result.parts)
    words: dict[Verdict, tuple[str, str]] = {  # of one part, of several
        "holds": ("holds", "hold"), "does not hold": ("does not", "do not"),
        "cannot be told": ("cannot be told", "cannot be told"),
        "not measurable": ("is not measurable", "are not measurable"),
    }  # fmt: skip
    found = [
        f"{count[verdict]} {text[count[verdict] > 1]}"
        for verdict, text in words.items()
        if count[verdict]
    ]
    of = f"of {len(result.parts)} part{'s' if len(result.parts) > 1 else ''} "
    return f"{result.verdict} ({of}{', '.join(found)})"


def result_text(result: ClaimResult) -> str:
    """Return a claim's result in a few lines."""
    lines = [f"{result.claim}: {result.title}"]
    for part in result.parts:
        lines.append(f"  {part.statement}: {part.verdict}")
        lines.append(f"    {part.quantity}")
        lines.append(f"    ours {part_value(part)}; paper {part.paper}")
        if part.verdict == "cannot be told":
            lines.append(f"    it would take {power_text(part)}")
    seen = sum(seed is not None for seed in result.measured)
    lines += [
        f"  control missed in {seen - control.met} of {counted(seen, 'seed')}: {control.statement}"
        for control in result.controls
        if control.met < seen
    ]
    lines += [f"  left to another scale: {part}, since {why}" for part, why in result.left.items()]
    lines += [f"  diverged: {text}" for text in result.diverged]
    lines.append(
        f"  {summary(result).upper()}; {result.scale}, {result.data}, seeds: {len(result.seeds)}, "
        f"pretraining: {spoken(result.seconds)}"
    )
    return "\n".join(lines)


def power_table(result: ClaimResult) -> str:
    """Return how many seeds each part of a claim takes, reckoned from the seeds there are."""
    lines = [f"{result.claim}: seeds that tell each part's margin in {POWER:.0%} of cases"]
    lines += [f"  {part.name:15} {power_text(part)}" for part in result.parts]
    return "\n".join(lines)


def costs_table(costs: Sequence[Cost]) -> str:
    """Return what each claim says, and costs at each scale."""
    lines = [f"{claim.name:15} {claim.title}" for claim in CLAIMS.values()]
    for name, group in itertools.groupby(costs, key=lambda cost: cost.scale):
        scale = SCALES[name]
        lines += ["", f"{name}: {scale.description}"]
        lines.append("  claim           parts  left  networks  fine-tuning steps  seeds  all seeds")
        lines += [
            f"  {cost.claim:15} {cost.parts:5}  {cost.left:4}  {cost.runs:8}  "
            f"{cost.finetuning_steps:17,}  {cost.seeds:5}  {_duration(cost.seeds * cost.minutes)}"
            for cost in group
        ]
        total = scale_cost(scale)
        search = f", and {_duration(total.search_minutes)} to search rates" if scale.rates else ""
        lines.append(
            f"  all, each network once: {_duration(total.minutes)} a seed, "
            f"{_duration(total.seeds * total.minutes)} for {counted(total.seeds, 'seed')}{search}"
        )
    lines += [
        "",
        "Networks are shared between claims. Times are of training, reckoned from the operations; "
        "probes come on top. Parts that are left belong to another scale, and their plan says why.",
    ]
    return "\n".join(lines)


def _duration(minutes: float) -> str:
    for size, unit in ((60 * 24 * 365, "years"), (60 * 24, "days"), (60, "hours")):
        if minutes >= size:
            return f"{minutes / size:,.1f} {unit}"
    return f"{minutes:.0f} minutes"


def read_planned(folder: Path, claim: str) -> tuple[ClaimResult, FixedPlan]:
    """Return a claim's result in the folder of a scale, and the plan that it was made under.

    Raises:
        DataError: One is missing or damaged, or the result is of another plan, or that of another
            rule than this igpt's.
    """
    file = folder / f"{claim}.json"
    result, fixed = read_result(file), read_plan(folder, claim)
    if fixed is None:
        raise DataError(f"{file} has no plan beside it; reproduce it again, into another --out")
    if (result.plan, result.planned) != (fixed.digest, fixed.seeds):
        raise DataError(
            f"{file} was made under another plan than the one beside it; reproduce it again"
        )
    if fixed.plan.rule != RULE:
        raise DataError(
            f"{file} was judged by another rule than this igpt's; reproduce it into another --out"
        )
    return result, fixed


def write_page(
    folders: AnyPath | Sequence[AnyPath], out: AnyPath, *, overwrite: bool = False
) -> None:
    """Write a Markdown page about every claim in `folders`; figures go into a folder beside it.

    Args:
        folders: What `reproduce` made, such as `claims/tiny`.
        out: The page, say `claims.md`; its figures then go into `claims-figures`. An earlier page
            there is replaced with its figures.
        overwrite: Replace any other file too, but no other folder.

    Raises:
        ConfigError: The page may not be written, or the figures' folder holds something else.
        DataError: There is no result in a folder, or one is damaged, of another plan, or without
            its figure.
    """
    out = Path(out)
    folders = as_paths(folders)
    figures = out.with_name(f"{out.stem}-figures")
    require_free(out, overwrite=overwrite, page=_MARK)
    if figures.exists() and not _holds_only_figures(figures):
        raise ConfigError(
            f"{figures} would be replaced, but holds more than figures; choose another --out"
        )
    files = [file for folder in folders for file in _results_in(folder)]
    planned = [read_planned(file.parent, file.stem) for file in files]
    names = [_figure(*one) for one in planned]
    if len(set(names)) < len(names):
        raise DataError(
            f"two of the folders hold results of the same claim, scale, settings and data "
            f"({max(names, key=names.count)}); give one of them"
        )
    page = template("page.jinja", escape=False, folder="claims").render(
        planned=planned,
        rule=RULE,
        summary=summary,
        margin_text=margin_text,
        power_text=power_text,
        figures=figures.name,
        figure=_figure,
        conditions=_conditions,
        anchor=_anchor,
        counted=counted,
        spoken=spoken,
        part_value=part_value,
        mark=_MARK,
    )
    with written_aside(figures) as aside:
        aside.mkdir()
        for name, file in zip(names, files, strict=True):
            (aside / name).write_bytes(file.with_suffix(".png").read_bytes())
    with written_aside(out) as aside:
        aside.write_text(page + "\n")


def _results_in(folder: Path) -> list[Path]:
    found = [file for name in CLAIMS if (file := folder / f"{name}.json").is_file()]
    if not found:
        raise DataError(
            f"no claim's result in {folder}; give the folder of a scale, such as claims/tiny, or "
            "run igpt reproduce first"
        )
    for file in found:
        if not file.with_suffix(".png").is_file():
            raise DataError(f"{file} has no figure beside it; reproduce it again, which draws one")
    return found


def _holds_only_figures(folder: Path) -> bool:
    endings = tuple(f"-{name}.png" for name in CLAIMS)
    return folder.is_dir() and all(file.name.endswith(endings) for file in folder.iterdir())


def _settings(fixed: FixedPlan) -> list[str]:
    """Return what was set otherwise than the scale has it, as `path=value`."""
    return list(fixed.plan.scale.get("settings", ()))


def _conditions(result: ClaimResult, fixed: FixedPlan) -> str:
    """Return under what a claim was judged: scale, data and what was set otherwise."""
    fields = (
        setting[setting.rfind(".", 0, setting.index("=")) + 1 :] for setting in _settings(fixed)
    )
    return ", ".join((result.scale, result.data, *fields))


def _figure(result: ClaimResult, fixed: FixedPlan) -> str:
    otherwise = f"-{fixed.digest[:8]}" if _settings(fixed) else ""
    return f"{result.scale}-{result.data}{otherwise}-{result.claim}.png"


def _anchor(result: ClaimResult, fixed: FixedPlan) -> str:
    text = f"{result.claim} {_conditions(result, fixed)}".lower()
    return "".join(c if c.isalnum() or c in "-_" else "-" if c == " " else "" for c in text)
