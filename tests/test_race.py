"""The race's own promises: how rates are searched, and what its table says."""

import dataclasses
import math
import sys

import pytest
import torch
from benchmarks import race
from benchmarks.race_table import Entered, Race, rate, verdicts, winners
from benchmarks.trials import Measures, Outcome, Subject, muon_flops

from igpt.errors import ConfigError
from igpt.files import read_json
from igpt.model.config import ModelConfig
from igpt.runs.provenance import provenance
from igpt.runs.recipes import find_recipe
from igpt.settings import with_settings


@pytest.mark.parametrize(
    ("losses", "wanted"),
    [
        ({0.1: 2.0, 0.2: 1.0, 0.4: 3.0}, None),  # the best has others on either side
        ({0.1: 2.0, 0.2: 1.0, 0.4: 0.5}, 0.8),
        ({0.1: 0.5, 0.2: 1.0, 0.4: 3.0}, 0.05),
        ({0.1: math.inf, 0.2: math.inf, 0.4: math.inf}, 0.05),
    ],
)
def test_a_further_rate_is_tried_where_the_best_is_at_an_edge(losses, wanted):
    assert race.next_rate(losses, left=1) == wanted
    assert race.next_rate(losses, left=0) is None


def test_a_search_ends_beside_the_best_rate_or_where_a_loss_is_missing():
    def curve(rate):
        return abs(math.log(rate / 0.9))

    losses, best = race.search(curve, [0.1, 0.2, 0.4], extensions=3)
    assert list(losses) == [0.1, 0.2, 0.4, 0.8, 1.6]
    assert best == 0.8
    losses, best = race.search(
        lambda r: curve(r) if r < 0.4 else None, [0.1, 0.2, 0.4], extensions=3
    )
    assert (list(losses), best) == ([0.1, 0.2], None)


def entered(name, nats, accuracies, settings=()):
    outcomes = {
        str(seed): Outcome(
            subject=Subject(recipe="a", data="b", palette="c", measures=Measures()),
            nats_per_pixel=loss, nats_per_pixel_from_second=loss, probe_accuracy=accuracy,
            probe_layer=2, seconds=1.0, weights=10, sha256="",
        )
        for seed, (loss, accuracy) in enumerate(zip(nats, accuracies, strict=True))
    }  # fmt: skip
    return Entered(
        name=name, settings=settings, learning_rate=0.1, rates={}, steps=1, flops=1.0,
        seconds_per_step=None, outcomes=outcomes,
    )  # fmt: skip


def test_an_entry_is_compared_within_each_seed():
    paper = entered("paper", [3.0, 3.5, 4.0], [0.3, 0.4, 0.5])
    better = entered("better", [2.9, 3.41, 3.89], [0.2, 0.31, 0.39])
    unclear = entered("unclear", [3.5, 3.0, 4.0], [0.3, 0.5, 0.4])
    found = verdicts([unclear, paper, better])
    nats, probe = found["better"]
    assert nats.mean == pytest.approx(0.1)
    assert (nats.verdict, probe.verdict) == ("holds", "does not hold")
    assert [one.verdict for one in found["unclear"]] == ["cannot be told"] * 2


def test_settings_that_are_better_are_told_with_their_gains():
    paper = entered("paper", [3.0, 3.5, 4.0], [0.3, 0.4, 0.5])
    better = entered("better", [2.9, 3.41, 3.89], [0.3, 0.4, 0.51], settings=("a.b=1", "a.c=2"))
    costly = entered("costly", [2.9, 3.41, 3.89], [0.2, 0.31, 0.39], settings=("a.d=3",))
    race = Race(
        equal="operations", entries=(paper, costly, better), measures=Measures(),
        base=find_recipe("cifar10-tiny"), made=provenance(torch.device("cpu")),
    )  # fmt: skip
    (line,) = winners(race).splitlines()
    assert line.startswith('"a.b=1", "a.c=2",  # +0.1000 [')
    assert line.endswith(", 3 seeds")


def test_entries_are_stacked_by_their_names():
    assert race.settings_of("muon+linear") == (*race.ENTRIES["muon"], *race.ENTRIES["linear"])
    with pytest.raises(ConfigError, match=r"no entry 'mouon', the nearest is 'muon'|muon"):
        race.settings_of("mouon")


def test_a_best_rate_at_the_edge_of_those_tried_is_marked():
    one = entered("one", [3.0], [0.3])
    tried = {"0.05": 2.0, "0.1": 1.0, "0.2": None}
    assert rate(dataclasses.replace(one, rates=tried)) == "0.1"
    assert rate(dataclasses.replace(one, rates=tried, learning_rate=0.05)) == "0.05*"
    assert rate(dataclasses.replace(one, learning_rate=None)) == ""


def test_muon_s_updates_are_counted():
    """By hand: 5 rounds for matrices of 2 by 6, 2 by 2, 2 by 8 and 8 by 2."""
    model = ModelConfig(image_size=4, colors=4, layers=3, width=2, heads=1)
    of_one = sum(2 * (2 * 2 * side) * 2 + 2 * 2**3 for side in (6, 2, 8, 8))
    assert muon_flops(model) == 3 * 5 * of_one


def test_a_race_is_run_shared_timed_and_not_run_again(given, tmp_path, monkeypatch, capsys):
    small = ("model.image_size=4", "model.layers=1", "model.width=8", "model.heads=2",
             "training.steps=2", "training.warmup_steps=0", "training.batch_size=4")  # fmt: skip
    command = [
        "race", "--data", given["data"], "--palette", given["palette"], "--out", tmp_path / "race",
        "--seeds", "1", "--rates", "0.01", "--extensions", "0", "--images", "8", "--learned", "24",
        "--entries", "muon", *(f"--set={setting}" for setting in small),
    ]  # fmt: skip

    def run(*more):
        monkeypatch.setattr(sys, "argv", [str(word) for word in (*command, *more)])
        race.main()
        return capsys.readouterr().out

    assert "| muon |  |" in run("--share", "1/2")  # the paper's alone
    assert "2 steps" in run("--list")
    run("--time", "--rounds", "1")
    whole = run()
    known = read_json(tmp_path / "race" / "race.json")["entries"]
    assert [(one["name"], len(one["outcomes"])) for one in known] == [("paper", 1), ("muon", 1)]
    assert all(one["seconds_per_step"] > 0 for one in known)
    runs = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("metrics.jsonl")}
    assert len(runs) == 4  # a rate and a seed each
    assert run() == whole
    assert {path: path.stat().st_mtime_ns for path in runs} == runs

    timed = read_json(tmp_path / "race" / "steps.json")["seconds_per_step"]
    run("--time", "--rounds", "9", "--entries", "linear")  # more than the steps of a training
    later = read_json(tmp_path / "race" / "steps.json")["seconds_per_step"]
    assert later.pop("linear") > 0
    assert later == timed
    assert "| muon |" in run("--table", "--entries", "linear")  # what is known is judged with it
    assert "| muon |" not in run("--held-out", "test", "--entries", "paper")
    names = {file.name for file in (tmp_path / "race" / "outcomes").glob("paper-*")}
    assert names == {"paper-rate-0.01-seed1.json", "paper-rate-0.01-seed1-test.json"}
    with pytest.raises(SystemExit, match="measured on others"):
        run("--images", "4")


@pytest.mark.parametrize(("name", "of"), [("modern-tiny", "cifar10-tiny"), ("modern", "cifar10")])
def test_the_modern_recipes_are_others_with_what_won(name, of):
    """And with no more: the settings are those that were raced, at the rate that was found."""
    won = race.settings_of("muon+squared-relu+linear")
    modern = find_recipe(name)
    assert modern == with_settings(
        dataclasses.replace(find_recipe(of), description=modern.description),
        [*won, "training.learning_rate=0.008"],
    )
