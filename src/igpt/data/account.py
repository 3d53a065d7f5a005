"""The account of a collection: what became of every file that was found.

Each is read, or skipped with its reason and counted, or ignored and counted by its kind. Nothing is
lost without a line. `igpt data prepare` prints the account, and `store.json` keeps it.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int64

from igpt.amounts import counted
from igpt.errors import printable

_EXAMPLES = 3
_MOST_KINDS = 12
_MOST_CLASSES = 20


@dataclass(frozen=True, kw_only=True)
class Skipped:
    """Images that could not be used, for one reason."""

    reason: str
    images: int
    examples: tuple[str, ...]
    """What is to be said of the first few of them, with their names."""


@dataclass(frozen=True, kw_only=True)
class Account:
    """What became of every file of a source."""

    read: int
    """Images that records were made of."""
    skipped: tuple[Skipped, ...]
    """Images that could not be used, the most frequent reason first."""
    ignored: dict[str, int]
    """How many other files and folders there were, by ending or kind."""
    left_out: int
    """Images that `limit` did not draw."""
    duplicates: int = 0
    """Images that were dropped, since they are the same as others."""
    notes: tuple[str, ...]
    """What was decided that somebody might have expected otherwise."""
    classes: dict[str, dict[str, int]]
    """Records of each class in each split; empty without labels."""

    @property
    def images_skipped(self) -> int:
        """Count the images that could not be used."""
        return sum(skipped.images for skipped in self.skipped)

    def text(self) -> str:
        """Return the account as lines for a person, without a line end at the end."""
        lines = [f"read {counted(self.read, 'image')}, skipped {self.images_skipped:,}"]
        if self.duplicates:
            lines[0] += f", dropped {counted(self.duplicates, 'duplicate')}"
        if self.left_out:
            lines[0] += f", left out {self.left_out:,} by the limit"
        for skipped in self.skipped:
            examples = "; ".join(skipped.examples)
            lines.append(f"skipped {skipped.images:,} ({skipped.reason}), such as: {examples}")
        if self.ignored:
            lines.append(f"ignored: {self._kinds()}")
        lines += [f"note: {note}" for note in self.notes]
        return "\n".join([*map(printable, lines), *self._table()])

    def _kinds(self) -> str:
        kinds = sorted(self.ignored.items(), key=lambda kind: -kind[1])
        shown = [f"{count:,} {kind}" for kind, count in kinds[:_MOST_KINDS]]
        if more := kinds[_MOST_KINDS:]:
            shown.append(f"{sum(count for _, count in more):,} of {len(more)} more kinds")
        return ", ".join(shown)

    def _table(self) -> list[str]:
        """Return the lines of the table of classes, or of its beginning if there are many."""
        splits = list(dict.fromkeys(split for counts in self.classes.values() for split in counts))
        rows = [["class", *splits]]
        rows += [
            [printable(name), *(f"{counts.get(split, 0):,}" for split in splits)]
            for name, counts in self.classes.items()
        ]
        more = rows[1 + _MOST_CLASSES :] if len(rows) > 1 + 2 * _MOST_CLASSES else []
        rows = rows[: len(rows) - len(more)]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = [
            "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])])
            for row in rows
        ]
        if more:
            lines.append(f"... and {len(more):,} more classes; all of them are in store.json")
        return lines if self.classes else []


def skipped_by_reason(skipped: Iterable[tuple[str, str]]) -> tuple[Skipped, ...]:
    """Group images, given as the reason why each is skipped and what is to be said of it."""
    messages: dict[str, list[str]] = {}
    for reason, message in skipped:
        messages.setdefault(reason, []).append(message)
    return tuple(
        Skipped(reason=reason, images=len(of_kind), examples=tuple(of_kind[:_EXAMPLES]))
        for reason, of_kind in sorted(messages.items(), key=lambda item: -len(item[1]))
    )


def all_skipped(parts: Iterable[tuple[Skipped, ...]]) -> tuple[Skipped, ...]:
    """Return what `skipped_by_reason` would of all the images of some parts, in their order."""
    of_reason: dict[str, Skipped] = {}
    for skipped in (skipped for part in parts for skipped in part):
        known = of_reason.get(skipped.reason)
        examples = skipped.examples if known is None else known.examples + skipped.examples
        of_reason[skipped.reason] = Skipped(
            reason=skipped.reason,
            images=skipped.images + (0 if known is None else known.images),
            examples=examples[:_EXAMPLES],
        )
    return tuple(sorted(of_reason.values(), key=lambda skipped: -skipped.images))


def count_classes(
    class_names: tuple[str, ...] | None, labels: Mapping[str, Int64[np.ndarray, " _record"]]
) -> dict[str, dict[str, int]]:
    """Return how many records of each class there are in each split that has labels."""
    names = class_names or ()
    counts = {
        split: np.bincount(numbers, minlength=len(names)) for split, numbers in labels.items()
    }
    return {
        name: {split: int(counts[split][index]) for split in counts}
        for index, name in enumerate(names)
    }
