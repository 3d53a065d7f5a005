"""Settings as they are typed: `path=value`, for any field of a recipe or of a part of one.

    with_settings(recipe, ["model.layers=12", "augmentation=flip"])

What a recipe has, and which values it takes, is its own affair (`igpt.runs.recipes`).
"""

from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

from igpt.errors import ConfigError, nearest_name
from igpt.files import parse_json
from igpt.values import from_dict, to_dict

Config = TypeVar("Config")


def with_settings(config: Config, settings: Sequence[str]) -> Config:
    """Return a recipe, or a part of one, with fields set by their paths, such as `model.layers=12`.

    Values are JSON; a bare word is a text.

    Raises:
        ConfigError: A setting is no `path=value`, or names no field, or its value cannot be.
    """
    values = to_dict(config)
    for setting in settings:
        path, equals, text = setting.partition("=")
        if not equals:
            raise ConfigError(f"a setting looks like training.steps=500, got {setting!r}")
        *parents, name = path.strip().split(".")
        part: Any = values
        for depth, parent in enumerate(parents, start=1):
            parts = [key for key, value in part.items() if isinstance(value, dict)]
            if parent not in parts:
                raise ConfigError(
                    f"there is no part {'.'.join(parents[:depth])!r}{nearest_name(parent, parts)}"
                )
            part = part[parent]
        names = [key for key, value in part.items() if not isinstance(value, dict)]
        if name not in names:
            elsewhere = [known for known in _paths(values) if known.endswith(f".{name}")]
            hint = f"; did you mean {elsewhere[0]}?" if elsewhere and not parents else ""
            raise ConfigError(f"there is no setting {path!r}{hint or nearest_name(name, names)}")
        try:
            part[name] = parse_json(text)
        except ValueError:
            part[name] = text
    return from_dict(type(config), values)


def _paths(values: dict[str, Any], prefix: str = "") -> Iterator[str]:
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _paths(value, f"{prefix}{name}.")
        else:
            yield prefix + name
