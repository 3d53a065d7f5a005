"""Several processes go on with a run as one: all in shares or whole, and all for as many steps."""

import shutil
import time

from tests.conftest import SHAPES_RECIPE, losses, with_training
from tests.parallel.group import run_in_group

from igpt import processes
from igpt.runs.pretrain import pretrain
from igpt.runs.resume import resume
from igpt.runs.run import LONGER, DataIdentity


def make_the_model_again(folder, given):
    """Its state is in shares, which every process reads, and the first makes the model alone."""
    recipe = with_training(SHAPES_RECIPE, parallel="fsdp")
    run = pretrain(recipe, out=folder / "run", seconds=0.0, **given)
    processes.by_first(lambda: shutil.rmtree(run.model))
    resume(run.path, seconds=0.0)
    assert (run.model / "model.safetensors").is_file()


def test_a_missing_model_is_made_again_of_shares(given, tmp_path):
    run_in_group(2, make_the_model_again, tmp_path, given)


def go_on_further(folder, given):
    """The second process looks only when the first has written how many steps there are to be."""
    run = pretrain(SHAPES_RECIPE, out=folder / "run", seconds=0.0, **given)
    if processes.rank() == 1:
        reopen = DataIdentity.reopen

        def late(*arguments):
            deadline = time.monotonic() + 60
            while not (run.path / LONGER).exists() and time.monotonic() < deadline:
                time.sleep(0.01)
            return reopen(*arguments)

        DataIdentity.reopen = late
    resume(run.path, steps=15)
    assert len(losses(run.path)) == 15


def test_more_steps_are_given_by_all_however_late_one_is(given, tmp_path):
    run_in_group(2, go_on_further, tmp_path, given)
