"""What `store.json` says of a store: what was asked for, what came of it, and a checksum a file.

    description, identity = read_description(Path("data/cifar10"))
    write_json(path / STORE, described(description))

It is the store's manifest. A split of few records is three files in a folder of its name, and one
of many is a row of shards, folders of three such files each, numbered from 00000:

    train/images.npy         uint8 (record, size, size, 3)
    train/labels.npy         int64 (record), if the split is labelled
    train/names.npy          UTF-8 bytes (record), which file each was made of
    train/00000/images.npy   the same of the first records of many

Nothing is read here but `store.json`.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from igpt.data.account import Account
from igpt.data.config import StoreConfig
from igpt.errors import ConfigError, DataError
from igpt.files import digest, read_json
from igpt.places import STORE, require_store
from igpt.seals import fingerprint, sealed, unsealed
from igpt.values import from_dict, to_dict

FORMAT = 5
"""Raised whenever an older igpt could not read a store any more, or this one not an older store.
A store that needs nothing of it is written as one of the format before."""

_WITHOUT_SHARDS = 4
_WITHOUT_CHECKSUMS = 3
"""Read as well: of its files, the pixels alone have a checksum."""


@dataclass(frozen=True, kw_only=True)
class StoredShard:
    """What is known of one piece of a split without reading it."""

    records: int
    sha256: dict[str, str] = field(default_factory=dict)
    """Of each of its files by name; none in a store of format 3."""
    crc32c: int | None = None
    """Of `images.npy`; the same in no time."""


@dataclass(frozen=True, kw_only=True)
class StoredSplit:
    """What is known of one split without reading it."""

    records: int
    labelled: bool
    sha256: dict[str, str] = field(default_factory=dict)
    """As of a shard, if the split is in one piece."""
    crc32c: int | None = None
    """The same."""
    checksum: int | None = None
    """CRC-32 of the pixels, in a store of format 3."""
    shards: tuple[StoredShard, ...] = ()
    """What it is made of, if it is in several pieces."""

    def __post_init__(self) -> None:
        """Reject what contradicts itself."""
        of_shards = sum(shard.records for shard in self.shards)
        if self.shards and of_shards != self.records:
            raise ConfigError(f"the shards of a split hold {of_shards} of {self.records} records")

    @property
    def files(self) -> tuple[str, ...]:
        """Names of the files of each piece."""
        return ("images.npy", "names.npy", *(("labels.npy",) if self.labelled else ()))

    def pieces(self) -> Iterator[tuple[str, StoredShard]]:
        """Yield each shard, with its folder in that of the split; if it is in one piece, that."""
        if not self.shards:
            piece = StoredShard(records=self.records, sha256=self.sha256, crc32c=self.crc32c)
            yield "", piece
        for number, shard in enumerate(self.shards):
            yield shard_name(number), shard


def shard_name(number: int) -> str:
    """Return the folder of a shard in that of its split."""
    return f"{number:05}"


@dataclass(frozen=True, kw_only=True)
class StoreDescription:
    """What `store.json` holds."""

    source: str
    """The location that the images came from."""
    config: StoreConfig
    """What was asked for, with the fractions that came of it."""
    token_palette: str | None
    """Fingerprint of the palette, if the records are token arrays in its colors."""
    class_names: tuple[str, ...] | None
    splits: dict[str, StoredSplit]
    """Those of "train", "validation" and "test" that there are."""
    account: Account
    """What became of every file of the source."""
    made_with: dict[str, str]
    """Versions of the libraries that shape the pixels."""


def described(description: StoreDescription) -> dict[str, Any]:
    """Return what `store.json` is to hold, with its checksum."""
    values = _plain(to_dict(description))
    is_new = (
        "drop_duplicates" in values["config"]
        or "duplicates" in values["account"]
        or any("shards" in split for split in values["splits"].values())
    )
    return sealed({"format": FORMAT if is_new else _WITHOUT_SHARDS, **values})


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    """Return the same without what came with format 5, where nothing is said by it."""
    places = [(values["config"], "drop_duplicates"), (values["account"], "duplicates")]
    for place, key in [*places, *((split, "shards") for split in values["splits"].values())]:
        if not place[key]:
            del place[key]
    return values


def read_description(path: Path) -> tuple[StoreDescription, str]:
    """Return what `store.json` says of the store in `path`, and the store's identity.

    Raises:
        DataError: There is no store, or the file is damaged or of another format.
    """
    file = path / STORE
    require_store(path)
    values = unsealed(read_json(file, error=DataError), file, error=DataError)
    version = values.pop("format", FORMAT)
    if version not in (FORMAT, _WITHOUT_SHARDS, _WITHOUT_CHECKSUMS):
        raise DataError(
            f"{path} is a store of format {version}, and this igpt reads format {FORMAT}; "
            "prepare it again"
        )
    try:
        description = from_dict(StoreDescription, values, name="a store")
    except ConfigError as error:
        raise DataError(f"{file} is damaged: {error}; prepare the store again") from error
    if version == _WITHOUT_CHECKSUMS:
        return description, digest(file)[:16]  # by which runs that began with it know it
    contents = {
        "image_size": description.config.image_size,
        "filter": description.config.filter,
        "cropped": description.config.crops > 0,
        "token_palette": description.token_palette,
        "class_names": description.class_names,
        "splits": _plain(to_dict(description))["splits"],
    }
    return description, fingerprint(contents)
