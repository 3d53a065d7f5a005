"""Paths as texts or `Path`s, in all that users call."""

import inspect
import typing
from pathlib import Path

import pytest

import igpt
from igpt.errors import ConfigError
from igpt.paths import as_path, as_paths


def test_texts_and_paths_become_paths():
    assert as_path("a") == as_path(Path("a")) == Path("a")
    assert as_path(None) is None
    assert as_paths("ab") == as_paths(Path("ab")) == as_paths(["ab"]) == [Path("ab")]
    assert as_paths(()) == []


def hints(function):
    """The types of a function's arguments, and within lists and unions, but for `AnyPath`."""
    waiting = [hint for name, hint in typing.get_type_hints(function).items() if name != "return"]
    while waiting:
        hint = waiting.pop()
        yield hint
        inner = typing.get_args(hint)
        waiting += set(inner) - {Path, str} if {Path, str} <= set(inner) else inner


@pytest.mark.parametrize(
    "name", [name for name in dir(igpt) if inspect.isfunction(getattr(igpt, name))]
)
def test_no_function_for_users_wants_a_path_and_takes_no_text(name):
    assert Path not in list(hints(getattr(igpt, name)))


def test_what_is_loaded_by_a_text_is_what_is_loaded_by_a_path(shapes_store, tiny_palette, tmp_path):
    assert igpt.RecordStore.open(str(shapes_store.path)).path == shapes_store.path
    tiny_palette.save(str(tmp_path / "palette.npy"))
    loaded = igpt.Palette.load(str(tmp_path / "palette.npy"))
    assert loaded.fingerprint == tiny_palette.fingerprint
    file = shapes_store.path.parent / "images" / "top" / "001.png"
    assert (igpt.read_image(str(file)) == igpt.read_image(file)).all()


def test_a_recipe_goes_by_its_name(shapes_store, tmp_path):
    with pytest.raises(ConfigError, match="no recipe 'cifar10-tin'; did you mean 'cifar10-tiny'"):
        igpt.pretrain(
            "cifar10-tin", data=str(shapes_store.path), palette="none.npy", out=str(tmp_path / "a")
        )
