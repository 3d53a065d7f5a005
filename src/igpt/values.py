"""Plain values to checked ones and back: what is written as JSON is read as the type it was.

    to_dict(result)                                    # dicts, lists, texts and numbers only
    from_dict(ProbeResult, values, name="a probe")     # every field is there, and of its type

One converter for recipes, settings and results. Types are those of the annotations: dataclasses,
`tuple[X, ...]`, `list[X]`, `dict[str, X]`, `Literal`, unions and plain ones. A number without a
fraction will do for a float; nothing else is converted, so "12" is no 12. NaN and infinities are
no numbers: JSON has none, and no setting or figure is one.
"""

import dataclasses
import math
import types
from collections.abc import Mapping
from typing import Any, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from igpt.errors import ConfigError, nearest_name

Value = TypeVar("Value")

SEEDS = 2**32
"""How many seeds there are: scikit-learn's generators take 32 bits."""

LATER = types.MappingProxyType({"later": True})
"""Metadata of a dataclass's field that came after values of the class had been put on record.

What tells one value from others (`to_dict` with `for_record`) leaves the field out while it has its
default, so that those on record are known again.
"""

_SHOWN = 80  # letters of a value that messages show


def to_dict(value: Any, *, for_record: bool = False) -> Any:
    """Return the same in values that JSON has.

    Args:
        value: Dataclasses, mappings, lists, tuples and plain values, in one another.
        for_record: Leave out fields that are `LATER` and have their default.
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        pairs = ((field, getattr(value, field.name)) for field in dataclasses.fields(value))
        return {
            field.name: to_dict(inner, for_record=for_record)
            for field, inner in pairs
            if not (for_record and field.metadata == LATER and inner == field.default)
        }
    if isinstance(value, Mapping):
        return {str(key): to_dict(inner, for_record=for_record) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [to_dict(inner, for_record=for_record) for inner in value]
    return value


def from_dict(cls: type[Value], values: Any, *, name: str = "a recipe") -> Value:
    """Return the value of the dataclass `cls` that `to_dict` made these values of.

    Args:
        cls: A dataclass.
        values: Plain values, an object.
        name: What messages call it.

    Raises:
        ConfigError: A field is unknown, missing, of another type or impossible; the message names
            it by its path, such as `training.steps`.
    """
    return cast(Value, _read(cls, values, "", name))


def require_choices(value: Any) -> None:
    """See that every field of a dataclass whose type is a `Literal` is one of its choices.

    Raises:
        ConfigError: One is not; the message names the nearest.
    """
    for name, hint in get_type_hints(type(value)).items():
        if get_origin(hint) is Literal:
            _read(hint, getattr(value, name), name, name)


def require_seed(seed: int) -> None:
    """See that the generators of all libraries take this seed.

    Raises:
        ConfigError: One would not.
    """
    if not 0 <= seed < SEEDS:
        raise ConfigError(f"a seed must lie in [0, {SEEDS:,}), got {_shown(seed)}")


def _read(hint: Any, value: Any, path: str, name: str) -> Any:
    if hint is Any or (hint is type(None) and value is None):
        return value
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return _read_union(arguments, value, path, name)
    if origin is Literal:
        if value in arguments:
            return value
        raise ConfigError(
            f"{path} has no choice {_shown(value)}{nearest_name(str(value)[:_SHOWN], arguments)}"
        )
    if dataclasses.is_dataclass(hint) and isinstance(value, dict):
        return _read_fields(hint, value, path, name)
    if origin in (tuple, list) and isinstance(value, list | tuple):
        inner = (_read(arguments[0], item, f"{path}[{i}]", name) for i, item in enumerate(value))
        return origin(inner)
    if origin is dict and isinstance(value, dict):
        return {
            key: _read(arguments[1], item, _join(path, key), name) for key, item in value.items()
        }
    if hint is float and type(value) in (int, float) and _is_finite(value):
        return float(value)
    if hint is not float and type(value) is hint:
        return value
    raise ConfigError(f"{path or name} should be {_name_of(hint)}, got {_shown(value)}")


def _is_finite(value: int | float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number that is larger than any float
        return False


def _read_union(options: tuple[Any, ...], value: Any, path: str, name: str) -> Any:
    for option in options:
        try:
            return _read(option, value, path, name)
        except ConfigError:
            if isinstance(value, dict | list) and len(options) == 2 and type(None) in options:
                raise  # what does not fit is further in
    wanted = " or ".join(_name_of(option) for option in options)
    raise ConfigError(f"{path or name} should be {wanted}, got {_shown(value)}")


def _read_fields(cls: Any, values: dict[str, Any], path: str, name: str) -> Any:
    hints = get_type_hints(cls)
    fields = {field.name: field for field in dataclasses.fields(cls)}
    for key in values:
        if key not in fields:
            raise ConfigError(
                f"{name} has no setting {_join(path, key)!r}{nearest_name(key, fields)}"
            )
    for key, field in fields.items():
        needed = field.default is field.default_factory is dataclasses.MISSING
        if needed and key not in values:
            raise ConfigError(f"{name} lacks {_join(path, key)!r}")
    return cls(
        **{key: _read(hints[key], value, _join(path, key), name) for key, value in values.items()}
    )


def _join(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def _name_of(hint: Any) -> str:
    if hint is type(None):
        return "null"
    origin = get_origin(hint) or hint
    names = {int: "a whole number", float: "a number", str: "a text", bool: "true or false",
             dict: "an object", list: "a list", tuple: "a list"}  # fmt: skip
    return names.get(origin, "an object")
