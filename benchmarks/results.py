"""benchmarks/RESULTS.md from the JSON files that the benchmarks left in benchmarks/results/.

    python benchmarks/results.py

One line a row of the table, what each row depends on below it. Rows may come from different
machines: they are then lettered, and each row says which it ran on. Toy runs are left out.
"""

import argparse
import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
_OF_A_RUN = ("commit", "date")
"""What a row's machine says that does not tell one machine from another."""

Row = dict[str, Any]


def read_rows(folder: Path) -> list[Row]:
    """Return the rows that are no toys, by number and name."""
    rows = []
    for path in sorted(folder.glob("*.json")):
        row = json.loads(path.read_text())
        if "--toy" in row["command"].split():
            print(f"{path.name} is of a toy run and is left out", file=sys.stderr)
            continue
        rows.append(row)
    return sorted(rows, key=lambda row: (_number(row), row["row"]))


def render(rows: Sequence[Row]) -> str:
    """Return the whole document."""
    machines: list[dict[str, Any]] = []
    for row in rows:
        if _lasting(row["machine"]) not in machines:
            machines.append(_lasting(row["machine"]))
    lettered = len(machines) > 1
    letters = [chr(ord("A") + machines.index(_lasting(row["machine"]))) for row in rows]
    lines = [
        "# Benchmarks",
        "",
        "Written by `python benchmarks/results.py`; `make bench` takes every figure anew.",
        "Contenders take turns in one process, figures are medians of undisturbed rounds, and a",
        "ratio is a peer's time divided by ours. That a row's contenders give the same answer was",
        "checked before they were timed. Why rows fall short, and what was tried, is in",
        "[docs/log.md](../docs/log.md) under the day and the machine.",
        "",
    ]
    for letter, machine in zip("ABCDEFGHIJKLMNOPQRSTUVWXYZ", machines, strict=False):
        ran = [row for row, on in zip(rows, letters, strict=True) if on == letter]
        lines.append(f"- {f'Machine {letter}: ' if lettered else ''}{_machine(machine, ran)}")
    header = ["row", "what", "ours", "peers", "ratio", "reach", "reached"]
    if lettered:
        header.append("machine")
    lines += ["", _cells(header), _cells(["---"] * len(header))]
    for row, letter in zip(rows, letters, strict=True):
        lines.append(_cells(_line(row) + ([letter] if lettered else [])))
    for row, letter in zip(rows, letters, strict=True):
        lines += ["", *_section(row, letter if lettered else "")]
    return "\n".join(lines) + "\n"


def reached(row: Row) -> bool | None:
    """Return whether the row got as far as hoped, or None if that cannot be told.

    A benchmark says so itself, or else its reach starts with a ratio to the fastest peer, `2x`.
    """
    if row.get("reached") is not None:
        return row["reached"]
    wanted = re.match(r"([\d.]+)\s?x\b", row["reach"])
    peers = _peers(row)
    if wanted is None or not peers:
        return None
    return min(peer["ratio"] for peer in peers) >= float(wanted.group(1))


def _line(row: Row) -> list[str]:
    """Return the cells of one line of the table."""
    (ours,) = (result for result in row["results"] if result["name"] == row["ours"])
    others = [result for result in row["results"] if result is not ours]
    return [
        str(_number(row)),
        row["title"],
        _absolute(ours, row["unit"]),
        "; ".join(f"{other['name']}: {_absolute(other, row['unit'])}" for other in others) or "-",
        "; ".join(_ratio(other) for other in others) or "-",
        row["reach"] or "-",
        {True: "yes", False: "no", None: "-"}[reached(row)],
    ]


def _section(row: Row, letter: str) -> list[str]:
    """Return what stands below the table for one row."""
    lines = [f"## {_number(row)}. {row['title']}", "", f"`{row['command']}`"]
    if row.get("measure") != "memory_bytes":
        lines += ["", *_timings(row)]
    machine = row["machine"]
    points = [f"{name}: {_figure(value)}" for name, value in row["figures"].items()]
    taken = f"Commit {machine['commit']}, {machine['date']}"
    points += [*row["notes"], f"{taken}, machine {letter}." if letter else f"{taken}."]
    return [*lines, "", *(f"- {point}" for point in points)]


def _timings(row: Row) -> list[str]:
    """Return the table of all that was timed."""
    header = ["", "median", f"{row['unit']}/s", "fastest", "slowest", "rounds", "dropped", "ratio"]
    lines = [_cells(header), _cells(["---", *["---:"] * (len(header) - 1)])]
    for result in row["results"]:
        ours = result["name"] == row["ours"]
        lines.append(
            _cells(
                [
                    f"**{result['name']}**" if ours else result["name"],
                    _seconds(result["seconds"]),
                    _plain(result["per_second"]),
                    _seconds(result["fastest"]),
                    _seconds(result["slowest"]),
                    str(result["rounds"]),
                    str(result["disturbed"]),
                    "1" if ours else _ratio(result),
                ]
            )
        )
    return lines


def _machine(machine: dict[str, Any], rows: Sequence[Row]) -> str:
    """Return a sentence on one machine: processor, threads, versions, settings, commits."""
    parts = [machine["processor"], f"{machine['cores']} cores"]
    parts.append(f"{machine['torch_threads']} PyTorch threads")
    if machine["gpu"]:
        parts.append(machine["gpu"])
    parts.append(f"Python {machine['python']}")
    parts += [f"{name} {version}" for name, version in machine["versions"].items()]
    parts += [f"{name}={value}" for name, value in machine["environment"].items()] or [
        "no allocator or thread settings"
    ]
    commits = sorted({str(row["machine"]["commit"]) for row in rows})
    numbers = sorted({_number(row) for row in rows})
    shown = ", ".join(str(number) for number in numbers)
    return f"{', '.join(parts)}; commit {', '.join(commits)}; rows {shown}."


def _lasting(machine: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in machine.items() if name not in _OF_A_RUN}


def _peers(row: Row) -> list[dict[str, Any]]:
    """Return the contenders that are somebody else's."""
    return [
        result
        for result in row["results"]
        if result["name"] != row["ours"] and not result["name"].startswith("igpt")
    ]


def _number(row: Row) -> int:
    return int(row["row"].partition("-")[0])


def _absolute(result: dict[str, Any], unit: str) -> str:
    if "seconds" not in result:
        return f"{_plain(result['memory_bytes'] / 2**20)} MiB"
    return f"{_seconds(result['seconds'])} ({_plain(result['per_second'])} {unit}/s)"


def _ratio(result: dict[str, Any]) -> str:
    return f"{_plain(result['ratio'])}x"


def _seconds(seconds: float) -> str:
    for unit, scale in (("s", 1.0), ("ms", 1e-3)):
        if seconds >= scale:
            return f"{_plain(seconds / scale)} {unit}"
    return f"{_plain(seconds / 1e-6)} µs"


def _plain(number: float) -> str:
    """Return three digits that mean something, without an exponent."""
    if number and abs(number) < 100:
        return f"{number:#.3g}".rstrip(".") if abs(number) >= 0.001 else f"{number:.2e}"
    return f"{number:,.0f}"


def _figure(value: Any) -> str:
    return _plain(value) if isinstance(value, float) else str(value)


def _cells(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description="Write RESULTS.md from results/*.json.")
    parser.add_argument("--results", type=Path, default=HERE / "results")
    parser.add_argument("--out", type=Path, default=HERE / "RESULTS.md")
    arguments = parser.parse_args()
    rows = read_rows(arguments.results)
    arguments.out.write_text(render(rows), encoding="utf-8")
    print(f"{len(rows)} rows in {arguments.out}")


if __name__ == "__main__":
    main()
