"""What the command line says, above all when something is wrong: one line, exit code 2."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from igpt.cli import app, main
from igpt.commands import options
from igpt.evaluation.solvers import SolverName
from igpt.formats.convert import Target
from igpt.formats.huggingface import Head
from igpt.model.pretrained import Pretrained
from igpt.pixels.images import read_image, write_png
from igpt.pixels.tokenizer import ImageTokenizer
from tests.conftest import random_model

FIXTURE = str(Path(__file__).parent / "fixtures" / "tensorflow" / "ar")
TRAINED = ("cifar10-tiny", "--data", "d", "--palette", "p", "--out", "o")
TUNED = ("run", "--data", "d", "--out", "o")


@pytest.fixture
def igpt(capsys):
    """Run a command here and return its exit code, output and complaints."""

    def run(*arguments):
        capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            main([str(argument) for argument in arguments])
        printed = capsys.readouterr()
        return stop.value.code, printed.out, printed.err

    return run


def test_help_and_version_come_without_complaint(igpt):
    for arguments in ([], ["data"], ["--help"], ["probe", "--help"]):
        code, out, err = igpt(*arguments)
        assert (code, err) == (0, "")
        assert out.startswith("Usage: igpt ")
    assert igpt("--version") == (0, "0.1.0\n", "")


def test_help_lists_the_commands_in_the_order_of_the_work(igpt):
    _, out, _ = igpt("--help")
    names = ["quickstart", "data", "palette", "pretrain", "resume", "probe", "complete", "report",
             "push", "--install-completion"]  # fmt: skip
    assert sorted(names, key=lambda name: out.index(f"│ {name} ")) == names


def test_a_shell_can_complete_every_command():
    script = app().generate_completion(shell="bash")
    assert all(name in script for name in ("few-labels", "--concatenate", "neighbors"))


def test_recipes_are_listed_and_shown(igpt):
    code, out, _ = igpt("recipes")
    assert code == 0
    assert "cifar10-tiny" in out
    _, out, _ = igpt("recipes", "igpt-s")
    assert json.loads(out)["model"]["width"] == 512


@pytest.mark.parametrize(
    ("written", "known"),
    [
        (options.Head, Head),
        (options.Solver, SolverName),
        (options.Target, Target),
    ],
)
def test_the_choices_are_those_of_the_library(written, known):
    assert get_args(written) == get_args(known)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["prob"], 'Unknown command "prob". Did you mean "probe"?'),
        (["data", "prepar"], 'Unknown command "prepar". Did you mean "prepare"?'),
        (["evaluate", "x", "--dta", "y"], "Did you mean --data instead of --dta?"),
        (["evaluate", "x", "--data", "y", "--dvice", "cpu"], "Did you mean --device?"),
        (["evaluate"], "RUN is missing. (see igpt evaluate --help)"),
        (["evaluate", "x"], "--data is missing. (see igpt evaluate --help)"),
        (["evaluate", "x", "--data"], "--data requires an argument"),
        (["evaluate", "x", "--data", "y", "z"], "nothing more was expected, got 'z'"),
        (["evaluate", "x", "--data", "y", "--images", "0"], "Must be > 0"),
        (["evaluate", "x", "--data", "y", "--seed", "-1"], "Must be >= 0"),
        (["palette", "fit", "x", "--size", "1", "--out", "p.npy"], "Must be >= 2"),
        (["outliers", "x", "--data", "y", "--images", "0"], "Must be > 0"),
        (["probe", "x", "--data", "y", "--solver", "rigde"], 'Did you mean "ridge"?'),
        (["probe", "x", "--data", "y", "--steps", "5"], "go with --solver sgd"),
        (["recipes", "igpt-z"], "there is no recipe 'igpt-z'; did you mean 'igpt-"),
        (["pretrain"], "RECIPE is missing"),
        (["pretrain", "cifar10-tiny"], "--palette is missing"),
        (["pretrain", "cifar-tiny", *TRAINED[1:]], "did you mean 'cifar10-tiny'"),
        (["pretrain", *TRAINED, "--steps", "x"], 'unable to convert "x" into int'),
        (["pretrain", *TRAINED, "--set", "model.layer=3"], "did you mean 'layers'"),
        (["pretrain", *TRAINED, "--set", "model.colors=9"], "follows the palette"),
        (["pretrain", "--resume", "r"], "use igpt resume RUN"),
        (["pretrain", *TRAINED, "--search-rates=0.1"], "use igpt search RECIPE --rates"),
        (["finetune"], "RUN is missing"),
        (["finetune", "--resume", "r"], "use igpt resume RUN"),
        (["finetune", *TUNED, "--search-rates"], "use igpt search RUN --rates"),
        (["finetune", *TUNED, "--set=finetune.dropout=0.1"], "'finetune.' here: --set dropout=0.1"),
        (["resume", "nowhere"], "nowhere holds no run (no recipe.json)"),
        (["search", *TRAINED, "--rates", "0.1,0.3"], "got 0.1, 0.3"),
        (["search", *TRAINED, "--rates", "0.1,0"], "got 0.1, 0"),
        (["search", *TRAINED, "--rates", "nan"], "got nan"),
        (["search", *TRAINED, "--rates="], "got none"),
        (["search", *TRAINED, "--rates", "0.1;0.01"], "such as 0.01,0.003, got '0.1;0.01'"),
        (["search", "--rates", *TRAINED], "RECIPE|RUN is missing"),
        (["search", *TRAINED, "--set=training.learning_rate=1"], "decides training.learning_rate"),
        (["search", *TUNED, "--set=training.learning_rate=1"], "decides training.learning_rate"),
        (["search", *TRAINED, "--from-scratch"], "no --from-scratch"),
        (["search", "cifar10-tiny", *TUNED[1:]], "takes --palette"),
        (["search", "cifar-tiny", *TUNED[1:]], "did you mean 'cifar10-tiny'"),
        (["search", "some/run", *TRAINED[1:]], "leave out --palette"),
        (["complete", "run"], "give either IMAGES or --data, and not both"),
        (["complete", "run", "--data", "d", "--out", "o"], "--out and --filter go with IMAGES"),
        (["complete", "run", "a.png", "--count", "2"], "--count goes with --data"),
        (["surprise", "run", "a.png", "--count", "2"], "--count goes with --data"),
        (["sample", "x", "--top-p", "3"], "top_p must lie in (0, 1], got 3.0"),
        (["evaluate", "nowhere", "--data", "x"], "nowhere holds no model"),
        (["outliers", "nowhere", "--data", "x"], "nowhere holds no model"),
        (["report"], "RUNS is missing"),
        (["report", "nowhere"], "nowhere holds no run"),
        (["reproduce"], "igpt reproduce --list"),
        (["reproduce", "dept"], "did you mean 'depth'"),
        (["reproduce", "depth", "--scale", "smal"], "did you mean 'small'"),
        (["convert", FIXTURE, "out"], "FOLDER --palette kmeans_centers.npy"),
        (["data", "prepare", "./nowhere", "--image-size", "8", "--out", "o"], "nowhere"),
        (["palette", "fit", "nowhere", "--out", "p.npy"], "nowhere does not exist"),
    ],
)
def test_what_cannot_be_is_one_line_and_exit_code_2(
    arguments, message, igpt, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    code, out, err = igpt(*arguments)
    assert (code, out) == (2, "")
    (line,) = err.splitlines()
    assert line.startswith("igpt: ")
    assert message in line
    assert list(tmp_path.iterdir()) == []


def test_names_of_any_language_are_printed_under_any_locale(tmp_path, igpt):
    for name in ("caf\u00e9", "\u732b"):
        write_png(tmp_path / "images" / name / "a.png", np.zeros((8, 8, 3), np.uint8))
    (tmp_path / "images" / "caf\u00e9" / "two\nlines.png").write_bytes(b"broken")
    code = "from igpt.cli import main; import sys; main(sys.argv[1:])"
    arguments = ["data", "prepare", "images", "--image-size", "8", "--out", "store"]
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], cwd=tmp_path, capture_output=True, text=True,
        timeout=60, env=os.environ | {"PYTHONIOENCODING": "ascii:strict", "PYTHONUTF8": "0"},
    )  # fmt: skip
    assert done.returncode == 0
    assert "caf\\xe9" in done.stdout
    assert "two\\nlines.png is not an image" in done.stdout


def test_a_store_is_made_and_shown(igpt, tmp_path):
    for split in ("train", "val"):
        for name in ("ant", "bee"):
            write_png(tmp_path / "images" / split / name / "a.png", np.zeros((8, 8, 3), np.uint8))
    store, sheet = tmp_path / "store", tmp_path / "sheet.png"
    code, out, _ = igpt("data", "prepare", tmp_path / "images", "--image-size", 8, "--out", store,
                        "--split", "test=val", "--validation-fraction", 0)  # fmt: skip
    assert code == 0
    assert "2 train, 2 test images of 8x8 pixels, 2 classes" in out
    code, out, _ = igpt("data", "show", store, "--out", sheet)
    assert code == 0
    assert out.splitlines()[-3:] == [
        "ant        1     1", "bee        1     1", f"{sheet}: some records of every class"
    ]  # fmt: skip
    assert read_image(sheet).shape[2] == 3


def test_what_does_not_fit_a_model_is_one_line(igpt, tiny_palette, shapes_store, tmp_path):
    model = Pretrained(model=random_model(), tokenizer=ImageTokenizer(tiny_palette, 4))
    model.save(tmp_path / "model")
    arguments = ("evaluate", tmp_path / "model", "--data", shapes_store.path)
    for more, message in (
        (["--split", "tset"], "did you mean 'test'"),
        (["--device", "cud"], "no device 'cud' here; try --device cpu"),
    ):
        code, out, err = igpt(*arguments, *more)
        assert (code, out, len(err.splitlines())) == (2, "", 1)
        assert message in err


def test_ctrl_c_is_one_line_and_exit_code_130(tmp_path):
    code = (
        "import igpt.data.prepare as r\n"
        "def stop(*a, **k): raise KeyboardInterrupt\n"
        "r.prepare_store = stop\n"
        "from igpt.cli import main\n"
        "main(['data', 'prepare', 'digits', '--image-size', '8', '--out', 'store'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 130
    assert done.stderr == "igpt: stopped; nothing half-written was left\n"
