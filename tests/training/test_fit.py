"""A training goes on from what was saved as if nothing had been, and overwrites nothing else."""

import dataclasses
import json
import shutil
import signal
from pathlib import Path

import pytest
import torch
from tests.conftest import TINY, random_tokens

from igpt.data.batches import Batch
from igpt.errors import CheckpointError, DataError
from igpt.model.pretrained import Pretrained
from igpt.objectives.autoregressive import autoregressive
from igpt.training.config import TrainingConfig
from igpt.training.fit import EarlyStop, fit
from igpt.training.metrics import read_metrics
from igpt.training.signals import Interrupted
from igpt.training.state import Checkpoints

CONFIG = TrainingConfig(
    steps=8, warmup_steps=2, learning_rate=0.01, validate_every=3, checkpoint_every=2,
    prepare_ahead=0,  # so that a batch is asked for in its step
)  # fmt: skip
STOP = EarlyStop(measure="score", patience=2)
WAYS = pytest.mark.parametrize("early_stop", [None, STOP], ids=["to the end", "early stop"])


class Training:
    """A small training in a folder, which counts its steps and validations."""

    def __init__(self, folder, palette, *, early_stop=None, scores=None, snapshots=()):
        self.folder, self.palette, self.early_stop = folder, palette, early_stop
        self.scores, self.snapshots = scores, snapshots
        self.steps, self.validated = [], []
        self.at_step = self.at_validation = lambda number: None
        folder.mkdir(exist_ok=True)

    def go_on(self, *, seconds=None, config=CONFIG):
        torch.manual_seed(0)
        pretrained = Pretrained.build(TINY, self.palette)

        def batch_at(step):
            self.at_step(step)
            self.steps.append(step)
            return Batch(tokens=random_tokens(4, seed=step), labels=None)

        def validate(updates):
            self.at_validation(updates)
            self.validated.append(updates)
            if self.scores is not None:
                return {"score": self.scores[updates]}
            with torch.no_grad():
                loss = autoregressive(pretrained.model, random_tokens(4, seed=99))["loss"]
            return {"score": -loss.item()}

        return fit(
            self.folder, pretrained, training=config, objective=autoregressive, batch_at=batch_at,
            validate=validate, fingerprint="a", records=40, early_stop=self.early_stop,
            snapshot_steps=self.snapshots, seconds=seconds,
        )  # fmt: skip

    def outcome(self):
        """Return all that does not depend on the clock."""
        clock = ("images_per_second", "tokens_per_second", "seconds")
        lines = [
            {name: value for name, value in line.items() if name not in clock}
            for line in read_metrics(self.folder / "metrics.jsonl")
        ]
        weights = {
            path.relative_to(self.folder): path.read_bytes()
            for path in sorted(self.folder.rglob("*.safetensors"))
        }
        return lines, weights


def test_float16_goes_on_with_the_scale_that_its_loss_had(tmp_path, tiny_palette):
    config = dataclasses.replace(CONFIG, precision="float16")
    whole = Training(tmp_path / "whole", tiny_palette)
    wanted = whole.go_on(config=config)
    assert wanted.loss_scale is not None
    assert wanted.loss_scale.steps_since == 8
    parts = Training(tmp_path / "parts", tiny_palette)
    while not (found := parts.go_on(config=config, seconds=0.0)).finished:
        pass
    assert found.loss_scale == wanted.loss_scale
    (lines, weights), (wanted_lines, wanted_weights) = parts.outcome(), whole.outcome()
    assert lines == wanted_lines
    model = Path("model", "model.safetensors")
    assert weights[model] == wanted_weights[model]


@WAYS
@pytest.mark.parametrize(
    "settings",
    [{"prepare_ahead": 3}, {"background_saving": True}],
    ids=["batches made ready ahead", "states written beside"],
)
def test_what_is_done_beside_the_training_changes_nothing(
    tmp_path, tiny_palette, early_stop, settings
):
    beside = dataclasses.replace(CONFIG, **settings)
    without, whole, parts = (
        Training(tmp_path / name, tiny_palette, early_stop=early_stop)
        for name in ("without", "whole", "parts")
    )
    without.go_on()
    whole.go_on(config=beside)
    while not parts.go_on(config=beside, seconds=0.0).finished:
        pass
    assert whole.outcome() == without.outcome()
    assert parts.outcome()[0] == without.outcome()[0]


@pytest.mark.parametrize("steps", [4, 8], ids=["on the way", "at the end"])
def test_a_state_that_cannot_be_written_beside_the_training_ends_it(training, steps):
    def get_in_the_way(step):
        if step == steps - 1:
            shutil.rmtree(training.folder / "state")
            (training.folder / "state").write_text("")

    training.at_step = get_in_the_way
    config = dataclasses.replace(CONFIG, background_saving=True)
    with pytest.raises(DataError, match=r"could not write .*step-00000\d"):
        training.go_on(config=config)
    assert steps <= len(training.steps)


def test_a_batch_that_cannot_be_made_ends_the_training_at_its_step(training):
    training.at_step = lambda step: step == 5 and fail()
    with pytest.raises(DataError, match="the picture cannot be written"):
        training.go_on(config=dataclasses.replace(CONFIG, prepare_ahead=3))
    assert len(read_metrics(training.folder / "metrics.jsonl")) == 5


def everything(folder):
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.mark.parametrize("when", ["in the last validation", "as the last state is settled"])
def test_asked_to_stop_at_the_very_end_it_does_not_let_the_caller_go_on(
    training, monkeypatch, when
):
    settle = Checkpoints.settle

    def asked_while_settling(self, memory):
        if memory.finished:
            signal.raise_signal(signal.SIGTERM)
        settle(self, memory)

    if when == "in the last validation":
        training.at_validation = lambda updates: (
            updates == 8 and signal.raise_signal(signal.SIGTERM)
        )
    else:
        monkeypatch.setattr(Checkpoints, "settle", asked_while_settling)
    with pytest.raises(Interrupted, match="stopped after the last step, all saved; go on") as stop:
        training.go_on()
    assert stop.value.exit_code == 143
    monkeypatch.undo()
    training.go_on()
    assert training.steps == list(range(8))


def fail(*_):
    raise DataError("the picture cannot be written")


@pytest.fixture
def training(tmp_path, tiny_palette):
    return Training(tmp_path / "run", tiny_palette)


@WAYS
def test_a_validation_that_fails_loses_no_step_and_is_repeated(tmp_path, tiny_palette, early_stop):
    whole = Training(tmp_path / "whole", tiny_palette, early_stop=early_stop)
    wanted = whole.go_on()
    parts = Training(tmp_path / "parts", tiny_palette, early_stop=early_stop)
    for _ in whole.validated:
        parts.at_validation = lambda updates: updates in parts.validated or fail()
        with pytest.raises(DataError, match="the picture cannot be written"):
            parts.go_on()
        parts.validated.append(len(parts.steps))  # it fails once
    again = parts.go_on()
    assert parts.steps == whole.steps
    assert parts.outcome() == whole.outcome()
    assert (again.best_score, again.best_updates) == (wanted.best_score, wanted.best_updates)
    assert again.finished


def test_what_fails_after_a_validation_counts_its_score_once(tmp_path, tiny_palette):
    scores = {0: 0.1, 3: 0.5, 6: 0.4, 8: 0.3}
    whole = Training(tmp_path / "w", tiny_palette, early_stop=STOP, scores=scores, snapshots=[6])
    whole.go_on()
    parts = Training(tmp_path / "p", tiny_palette, early_stop=STOP, scores=scores, snapshots=[6])
    parts.folder.joinpath("snapshots").write_text("in the way")
    with pytest.raises(DataError, match="snapshots"):
        parts.go_on()
    parts.folder.joinpath("snapshots").unlink()
    memory = parts.go_on()
    assert parts.validated == [0, 3, 6, 6, 8]
    assert (memory.without_gain, memory.best_updates) == (2, 3)
    assert parts.outcome() == whole.outcome()


@WAYS
def test_a_finished_training_without_its_states_is_left_alone(tmp_path, tiny_palette, early_stop):
    scores = {0: 0.1, 3: 0.5, 6: 0.4, 8: 0.3}
    training = Training(tmp_path / "run", tiny_palette, early_stop=early_stop, scores=scores)
    wanted = training.go_on()
    shutil.rmtree(training.folder / "state")
    before = everything(training.folder)
    memory = training.go_on()
    assert memory.finished
    assert (memory.updates, memory.seconds) == (wanted.updates, wanted.seconds)
    assert (memory.best_score, memory.best_updates) == (wanted.best_score, wanted.best_updates)
    assert everything(training.folder) == before


@pytest.mark.parametrize("lost", ["metrics.jsonl", "model", None])
def test_what_no_state_accounts_for_is_not_overwritten(training, lost):
    training.go_on(seconds=0.0)
    shutil.rmtree(training.folder / "state")
    if lost == "metrics.jsonl":
        (training.folder / lost).unlink()
    elif lost:
        shutil.rmtree(training.folder / lost)
    before = everything(training.folder)
    with pytest.raises(CheckpointError, match=r"but no state/ to go on from, .*; put state/ back"):
        training.go_on()
    assert everything(training.folder) == before


def test_a_training_killed_before_its_first_update_was_saved_starts_again(training):
    def killed(step):
        if step == 1:
            raise KeyboardInterrupt

    training.at_step = killed
    with pytest.raises(KeyboardInterrupt):
        training.go_on()
    assert len(read_metrics(training.folder / "metrics.jsonl")) == 1
    training.at_step = lambda step: None
    assert training.go_on().finished
    assert training.steps == [0, *range(8)]


@pytest.mark.parametrize("file", ["state.json", "model.safetensors"])
def test_a_damaged_state_is_set_aside_for_the_one_before(tmp_path, tiny_palette, file):
    whole, broken = (Training(tmp_path / name, tiny_palette) for name in ("whole", "broken"))
    for training in (whole, broken):
        training.at_step = lambda step: step == 5 and fail()
        with pytest.raises(DataError):
            training.go_on()
        training.at_step = lambda step: None
    damaged = broken.folder / "state" / "step-000004" / file
    damaged.write_bytes(damaged.read_bytes()[:-9])
    with pytest.warns(UserWarning, match=r"step-000004 is damaged: .*; it is kept as damaged-step"
                      "-000004, and the run goes on from the state of step 3"):  # fmt: skip
        broken.go_on()
    shutil.rmtree(broken.folder / "state" / "damaged-step-000004")
    whole.go_on()
    assert broken.outcome() == whole.outcome()


def test_without_any_whole_state_all_is_left_as_it_is(training):
    training.go_on(seconds=0.0)
    for file in training.folder.glob("state/*/state.json"):
        file.write_text("{")
    before = everything(training.folder)
    with pytest.raises(CheckpointError, match=r"step-000001 is damaged: .* no whole state before"):
        training.go_on()
    assert everything(training.folder) == before


def test_a_finished_training_whose_newest_state_is_damaged_is_left_alone(training):
    training.go_on()
    (training.folder / "state" / "step-000008" / "state.json").write_text("{")
    before = everything(training.folder)
    assert training.go_on().finished
    assert everything(training.folder) == before


@pytest.mark.parametrize("seconds", [0.0, None], ids=["on the way", "finished"])
@pytest.mark.parametrize("harm", ["lines lost", "a line changed"])
def test_metrics_that_were_lost_or_changed_are_told(training, seconds, harm):
    training.go_on(seconds=0.0)
    training.go_on(seconds=seconds)
    file = training.folder / "metrics.jsonl"
    first, *others = file.read_text().splitlines(keepends=True)
    loss = json.loads(first)["loss"]
    changed = first.replace(str(loss), str(loss + 1))
    file.write_text("".join([first, *others[:-1]] if harm == "lines lost" else [changed, *others]))
    with pytest.raises(CheckpointError, match=r"metrics\.jsonl (has . of the|was changed in)"):
        training.go_on()


def test_a_model_that_is_missing_is_made_again(training):
    training.go_on()
    weights = (training.folder / "model" / "model.safetensors").read_bytes()
    shutil.rmtree(training.folder / "model")
    training.go_on()
    assert (training.folder / "model" / "model.safetensors").read_bytes() == weights
    assert training.steps == list(range(8))


@pytest.mark.parametrize("best", [0, 6, 8])
def test_the_best_model_is_made_again_of_a_state_that_has_it(tmp_path, tiny_palette, best):
    scores = {step: float(step == best) for step in (0, 3, 6, 8)}
    training = Training(tmp_path / "run", tiny_palette, early_stop=STOP, scores=scores)
    training.go_on()
    weights = (training.folder / "model" / "model.safetensors").read_bytes()
    shutil.rmtree(training.folder / "model")
    training.go_on()
    assert (training.folder / "model" / "model.safetensors").read_bytes() == weights


def test_best_weights_that_are_gone_are_told(tmp_path, tiny_palette):
    scores = {0: 0.1, 3: 0.5, 6: 0.4, 8: 0.3}
    training = Training(tmp_path / "run", tiny_palette, early_stop=STOP, scores=scores)
    training.go_on()
    shutil.rmtree(training.folder / "model")
    with pytest.raises(CheckpointError, match="best weights, those of step 3, are in no other"):
        training.go_on()


@pytest.mark.parametrize("harm", ["removed", "renamed"])
@pytest.mark.parametrize("when", ["step 4", "step 5", "validation"])
@WAYS
def test_a_folder_that_goes_away_stops_its_training(tmp_path, tiny_palette, early_stop, when, harm):
    training = Training(tmp_path / "run", tiny_palette, early_stop=early_stop)

    def go_away(number):
        if number == 6 if when == "validation" else when == f"step {number}":
            if harm == "removed":
                shutil.rmtree(training.folder)
            else:
                training.folder.rename(tmp_path / "moved")

    if when == "validation":
        training.at_validation = go_away
    else:
        training.at_step = go_away
    with pytest.raises(CheckpointError, match="was removed, renamed or replaced while the run"):
        training.go_on()
    assert not training.folder.exists()
    if harm == "renamed":
        whole = Training(tmp_path / "whole", tiny_palette, early_stop=early_stop)
        whole.go_on()
        moved = Training(tmp_path / "moved", tiny_palette, early_stop=early_stop)
        moved.go_on()
        assert moved.outcome() == whole.outcome()
