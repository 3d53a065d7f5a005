"""In what runs differ."""

import dataclasses

from tests.report.conftest import RECIPE, new_finetuned, new_run, probes

from igpt.report.differences import difference_tables
from igpt.report.read import read_runs


def tables(*runs):
    return difference_tables(read_runs([run.path for run in runs]))


def with_rate(rate: float):
    return dataclasses.replace(
        RECIPE, training=dataclasses.replace(RECIPE.training, learning_rate=rate)
    )


def test_settings_that_differ_stand_side_by_side_and_no_others(tmp_path, tiny_palette):
    rates = {"a": 0.01, "b": 0.003, "c": 0.01}
    runs = [
        new_run(tmp_path / name, tiny_palette, recipe=with_rate(r)) for name, r in rates.items()
    ]
    (table,) = tables(*runs)
    assert table.settings == {"training.learning_rate": ("0.01", "0.003", "0.01")}
    assert [run.label for run in table.runs] == ["a", "b", "c"]


def test_results_stand_below_with_their_intervals(tmp_path, tiny_palette):
    runs = [new_run(tmp_path / name, tiny_palette) for name in "ab"]
    runs[0].write("probe.json", probes(0.4, 0.5, raw=0.3))
    (table,) = tables(*runs)
    assert table.settings == {}
    dash = "\N{EN DASH}"
    assert table.results["pretrained"] == (f"50.0% (47.4{dash}52.6%)", dash)
    assert table.results["raw pixels"] == (f"30.0% (27.7{dash}32.4%)", dash)
    assert table.results["steps"] == ("900", "900")


def test_runs_are_compared_with_those_of_their_kind(tmp_path, tiny_palette):
    pretraining, tuning = (
        new_run(tmp_path / "a", tiny_palette),
        new_finetuned(tmp_path / "b", tiny_palette),
    )
    assert tables(pretraining, tuning) == []
    both = tables(pretraining, tuning, new_finetuned(tmp_path / "c", tiny_palette, test=0.5))
    assert [[run.label for run in table.runs] for table in both] == [["b", "c"]]
    assert both[0].results["fine-tuned"] == ("81.3%", "50.0%")
