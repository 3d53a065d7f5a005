"""What travels to and from a machine that keeps nothing (benchmarks/gpu)."""

import json

import pytest
from benchmarks.gpu.claims_small import worth_bringing
from benchmarks.gpu.parcel import pack, unpack
from benchmarks.gpu.record import Attempt, for_steps, seconds_per_step

from igpt.claims.scale import SEARCH_SEED
from igpt.errors import DataError
from igpt.runs.pretrain import pretrain
from igpt.runs.recipes import find_recipe
from igpt.runs.resume import resume
from igpt.settings import with_settings
from tests.conftest import SHAPES_RECIPE


def contents(folder):
    files = (file for file in folder.rglob("*") if file.is_file())
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in files}


def filled(folder, names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)


def test_a_parcel_of_several_parts_comes_back_as_it_was(tmp_path, monkeypatch):
    monkeypatch.setattr("benchmarks.gpu.parcel.PART", 100)
    there, parcel, back = tmp_path / "there", tmp_path / "parcel", tmp_path / "back"
    filled(there, ["a.json", "runs/b/metrics.jsonl", "left/behind.txt"])
    pack(there, [there / "a.json", there / "runs/b/metrics.jsonl"], parcel)
    parts = sorted(parcel.iterdir())
    assert len(parts) > 2
    assert max(part.stat().st_size for part in parts) == 100
    unpack(parcel, back)
    assert contents(back) == {n: n.encode() for n in ("a.json", "runs/b/metrics.jsonl")}

    parts[-1].unlink()
    with pytest.raises(DataError, match=f"has {len(parts) - 1} of {len(parts)} parts"):
        unpack(parcel, tmp_path / "again")
    assert not (tmp_path / "again").exists()


def test_a_smaller_parcel_leaves_no_part_of_a_larger_one(tmp_path, monkeypatch):
    monkeypatch.setattr("benchmarks.gpu.parcel.PART", 100)
    there, parcel = tmp_path / "there", tmp_path / "parcel"
    filled(there, ["a", "b"])
    (there / "b").write_bytes(bytes(range(256)) * 4)
    pack(there, [there / "a", there / "b"], parcel)
    pack(there, [there / "a"], parcel)
    unpack(parcel, tmp_path / "back")
    assert contents(tmp_path / "back") == {"a": b"a"}


def test_of_claims_comes_home_what_later_pieces_need(tmp_path):
    light = ["depth.json", "depth.plan.json", "runs/base-seed0/probe.json",
             "runs/base-seed0/metrics.jsonl", "runs/base-seed0/model/config.json"]  # fmt: skip
    weights = ["runs/base-seed0/model/model.safetensors"]
    stays = ["runs/base-seed0/state/step-000001/state.json", "data/seed-1/store.json",
             "runs/large-seed0/model/config.json", "runs/large-seed0/recipe.json"]  # fmt: skip
    filled(tmp_path, [*light, *weights, *stays])

    def brought(done):
        found = (file.relative_to(tmp_path).as_posix() for file in worth_bringing(tmp_path, done))
        return sorted(found)

    assert brought(set()) == sorted(light + weights)
    claims = ("fine-tuning", "low-data", "objectives")
    assert brought({(0, claim) for claim in claims}) == sorted(light)
    assert brought({(1, claim) for claim in claims}) == sorted(light + weights)


def test_of_a_rate_that_was_tried_all_comes_home_once_it_ended_or_diverged(given, tmp_path):
    path = tmp_path / "runs" / f"base-seed{SEARCH_SEED}"
    run = pretrain(SHAPES_RECIPE, out=path, seconds=0.0, **given)

    def comes_home():
        return run.metrics in worth_bringing(tmp_path, set())

    assert not comes_home()
    kept = run.metrics.read_bytes()
    run.metrics.write_bytes(b"")
    assert not comes_home()
    (path / "diverged.json").write_text("{}")
    assert comes_home()
    (path / "diverged.json").unlink()
    run.metrics.write_bytes(kept)
    resume(path, device="cpu")
    assert comes_home()


def test_a_step_is_timed_once_all_is_warm(tmp_path):
    file, seconds = tmp_path / "metrics.jsonl", [30.0, 31.0, 31.5, 31.6, 31.7, 31.8, 31.9]
    lines = [{"step": step, "seconds": spent} for step, spent in enumerate(seconds)]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert seconds_per_step(file) == pytest.approx(0.1)


@pytest.mark.parametrize("name", ["modern", "igpt-s", "claims-tiny"])
def test_a_recipe_takes_the_steps_that_a_machine_has_time_for(name):
    for steps in (60, 9_000):
        settings = for_steps(steps, validations=4)[1::2]
        training = with_settings(find_recipe(name), settings).training
        assert (training.steps, training.warmup_steps) == (steps, steps // 20)


def test_of_a_record_comes_home_what_measures_need_and_no_more(tmp_path):
    work, back = tmp_path / "work", tmp_path / "back"
    comes = ["palette.npy", "run/recipe.json", "run/metrics.jsonl", "run/probe.json",
             "run/probe/classifier.json", "run/probe/classifier.safetensors",
             "run/model/config.json", "run/model/model.safetensors"]  # fmt: skip
    stays = ["data/train/images.npy", "pace/metrics.jsonl", "run/state/step-000009/state.json",
             "run/snapshots/step-000004/config.json"]  # fmt: skip
    filled(work, [*comes, *stays])
    at = Attempt(work=work, out=tmp_path / "out", device="cpu", end=0.0)
    at.bring_home()
    unpack(tmp_path / "out", back)
    assert sorted(contents(back)) == sorted(comes)
    assert not at.igpt("info", "anything")  # no seconds are left
