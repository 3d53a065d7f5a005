import json
from pathlib import Path

import pytest

from igpt.errors import CheckpointError, ConfigError, DataError
from igpt.places import (
    kind_of,
    require_file,
    require_model,
    require_room,
    require_run,
    require_store,
    resuming,
    run_of,
)


@pytest.fixture
def made(tmp_path):
    def make(name, content="{}"):
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)
        return file

    return make


@pytest.mark.parametrize(
    ("files", "kind"),
    [
        (["a/recipe.json", "a/model/config.json"], "run"),
        (["a/search.json"], "search"),
        (["a/store.json"], "store"),
        (["a/config.json"], "model"),
        (["a/notes.txt"], None),
        ([], None),
    ],
)
def test_each_kind_is_told_by_its_files(made, tmp_path, files, kind):
    for name in files:
        made(name)
    assert kind_of(tmp_path / "a") == kind


def test_a_model_of_transformers_is_none_of_ours_and_a_palette_is_a_file(made, tmp_path):
    made("a/config.json", '{"model_type": "imagegpt"}')
    assert kind_of(tmp_path / "a") is None
    assert kind_of(made("palette.npy")) == "palette"


def test_a_search_stands_for_its_outcome_once_it_has_one(made, tmp_path):
    made("a/search.json", json.dumps({"run": None}))
    with pytest.raises(CheckpointError, match="not finished; give the command that began it"):
        run_of(tmp_path / "a")
    made("a/search.json", json.dumps({"run": "rate-0.01"}))
    made("a/rate-0.01/recipe.json")
    assert run_of(tmp_path / "a") == tmp_path / "a" / "rate-0.01"
    require_run(tmp_path / "a")
    require_model(tmp_path / "a")
    assert run_of(tmp_path / "elsewhere") == tmp_path / "elsewhere"


def test_what_is_wanted_is_looked_for(made, tmp_path):
    made("run/recipe.json")
    made("model/config.json")
    made("store/store.json")
    made("checkpoint-7.index")
    file = made("palette.npy")
    require_run(tmp_path / "run")
    for name in ("run", "model", "checkpoint-7"):
        require_model(tmp_path / name)
    require_model(Path("someone/pixels"))  # may be on the hub
    require_store(tmp_path / "store")
    require_file(file)
    for require, name, error, message in (
        (require_run, "store", CheckpointError, "holds no run"),
        (require_model, "store", CheckpointError, "holds no model"),
        (require_store, "run", DataError, "run holds no store.json"),
        (require_store, "nowhere", DataError, "nowhere does not exist"),
        (require_file, "nowhere", DataError, "nowhere does not exist; check the path"),
        (require_file, "store", DataError, "is a folder, where a file is wanted"),
    ):
        with pytest.raises(error, match=message):
            require(tmp_path / name)


def test_a_run_has_room_where_nothing_is(made, tmp_path):
    require_room(tmp_path / "new")
    (tmp_path / "empty").mkdir()
    require_room(tmp_path / "empty")
    made("a run/recipe.json")
    with pytest.raises(ConfigError, match=r"already holds a run; .* igpt resume '.*/a run'"):
        require_room(tmp_path / "a run")
    made("other/notes.txt")
    with pytest.raises(ConfigError, match="is not empty"):
        require_room(tmp_path / "other")


def test_a_line_to_paste_is_quoted():
    assert resuming(Path("my runs/a")) == "igpt resume 'my runs/a'"
