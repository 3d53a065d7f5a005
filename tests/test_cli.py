"""What the command line says, above all when something is wrong: one line, exit code 2."""

import dataclasses
import errno
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
from igpt.data.store import RecordStore
from igpt.errors import DataError
from igpt.evaluation.solvers import SolverName
from igpt.formats.convert import Target
from igpt.formats.huggingface import Head
from igpt.model.pretrained import Pretrained
from igpt.pixels.images import read_image, write_png
from igpt.pixels.tokenizer import ImageTokenizer
from tests.conftest import TINY, random_model, write_shapes

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


@pytest.fixture(scope="module")
def there(tmp_path_factory):
    """What lies at the paths that are right, by the names they have in the tests below."""
    folder = tmp_path_factory.mktemp("there")
    for file in ("x/config.json", "run/recipe.json", "y/store.json", "d/store.json", "p"):
        (folder / file).parent.mkdir(exist_ok=True)
        (folder / file).write_text("{}")
    return {name: folder / name for name in ("x", "run", "y", "d", "p")}


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


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_s_script_knows_every_command(shell):
    commands = [name for name in app() if not name.startswith("-")]
    script = app().generate_completion(shell=shell)
    assert {"few-labels", "data", "serve"} <= {*commands}
    assert all(name in script for name in (*commands, "--concatenate", "neighbors"))


def test_a_shell_completes_commands_options_and_choices(tmp_path):
    (tmp_path / "igpt.bash").write_text(app().generate_completion(shell="bash"))
    typed = ("igpt few", "igpt data pre", "igpt probe --sol", "igpt probe --solver ne")
    ask = "COMP_WORDS=({}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); _igpt; echo ${{COMPREPLY[@]}}"
    lines = ["source igpt.bash", *(ask.format(line) for line in typed)]
    done = subprocess.run(
        ["bash", "-c", "; ".join(lines)], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert done.stdout.split() == ["few-labels", "prepare", "--solver", "neighbors"], done.stderr


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
        (["evaluate", "x", "--data", "y", "--seed", "4294967296"], "Must be < 4294967296"),
        (["evaluate", "x", "--data", ""], "--data is empty, where a path is wanted"),
        (["complete", "x", ""], "IMAGES is empty, where a path is wanted"),
        (["sample", "x", "--out="], "--out is empty, where a path is wanted"),
        (["sample", "x\0y"], "RUN holds a NUL character, got 'x\\x00y'"),
        (["recipes", "a\0b"], "NAME holds a NUL character"),
        (["sample", "x", "--out", f"a/{'b' * 256}.png"], "has a name of more than 255 bytes"),
        (["sample", "x\ny"], "x\\ny holds no model"),
        (["sample", "x", "--out", "a.jpg"], "samples are written as .png, got --out a.jpg"),
        (["masks", "x", "--data", "y", "--masks", "2147483648"], "Must be < 2147483648"),
        (["palette", "fit", "x", "--size", "1", "--out", "p.npy"], "Must be >= 2"),
        (["outliers", "x", "--data", "y", "--images", "0"], "Must be > 0"),
        (["probe", "x", "--data", "y", "--solver", "rigde"], 'Did you mean "ridge"?'),
        (["probe", "x", "--data", "y", "--steps", "5"], "go with --solver sgd"),
        (["recipes", "igpt-z"], "there is no recipe 'igpt-z'; did you mean 'igpt-"),
        (["pretrain"], "RECIPE is missing"),
        (["pretrain", "cifar10-tiny"], "--palette is missing"),
        (["pretrain", "cifar-tiny", *TRAINED[1:]], "did you mean 'cifar10-tiny'"),
        (["pretrain", *TRAINED, "--steps", "many"], 'unable to convert "many" into int'),
        (["pretrain", *TRAINED, "--set", "model.layer=3"], "did you mean 'layers'"),
        (["pretrain", *TRAINED, "--set", "model.colors=9"], "follows the palette"),
        (["pretrain", *TRAINED, "--set", " model.colors =9"], "follows the palette"),
        (["pretrain", "--resume", "r"], "use igpt resume RUN"),
        (["pretrain", *TRAINED, "--search-rates=0.1"], "use igpt search RECIPE --rates"),
        (["finetune"], "RUN is missing"),
        (["finetune", "--resume", "r"], "use igpt resume RUN"),
        (["finetune", *TUNED, "--search-rates"], "use igpt search RUN --rates"),
        (["finetune", *TUNED, "--set=finetune.dropout=0.1"], "'finetune.' here: --set dropout=0.1"),
        (["finetune", *TUNED, "--set", " finetune.dropout=0.1"], "here: --set dropout=0.1"),
        (["resume", "nowhere"], "nowhere holds no run (no recipe.json)"),
        (["search", *TRAINED, "--rates", "0.1,0.3"], "got 0.1, 0.3"),
        (["search", *TRAINED, "--rates", "0.1,0"], "got 0.1, 0"),
        (["search", *TRAINED, "--rates", "nan"], "got nan"),
        (["search", *TRAINED, "--rates="], "got none"),
        (["search", *TRAINED, "--rates", "0.1;0.01"], "such as 0.01,0.003, got '0.1;0.01'"),
        (["search", "--rates", *TRAINED], "RECIPE|RUN is missing"),
        (["search", *TRAINED, "--set=training.learning_rate=1"], "decides training.learning_rate"),
        (["search", *TUNED, "--set=training.learning_rate=1"], "decides training.learning_rate"),
        (["search", *TUNED, "--set", "training.learning_rate =1"], "decides training.learning_rat"),
        (["search", *TRAINED, "--from-scratch"], "no --from-scratch"),
        (["search", "cifar10-tiny", *TUNED[1:]], "takes --palette"),
        (["search", "cifar-tiny", *TUNED[1:]], "did you mean 'cifar10-tiny'"),
        (["search", "some/run", *TRAINED[1:]], "leave out --palette"),
        (["complete", "run"], "give either IMAGES or --data, and not both"),
        (
            ["complete", "run", "--data", "d", "--out", "o"],
            "--overwrite and --filter go with IMAGES",
        ),
        (["complete", "run", "a.png", "--count", "2"], "--count goes with --data"),
        (
            ["complete", "x", "a.png", "--box", "1,2,3"],
            "LEFT,TOP,RIGHT,BOTTOM in pixels of the net",
        ),
        (["complete", "x", "a.png", "--box", "1,2,3,x"], "such as 4,4,8,8, got '1,2,3,x'"),
        (["complete", "x", "a.png", "--mask", "nowhere.png"], "nowhere.png does not exist"),
        (["complete", "x", "a.png", "--mask", "d"], "is a folder, where a file is wanted"),
        (
            ["complete", "x", "a.png", "--rows", "1", "--box", "1,1,2,2"],
            "give one of --rows, --mask and --box",
        ),
        (["sample", "x", "--passes", "0"], "passes must be at least 1, got 0"),
        (["evaluate", "x", "--data", "y", "--passes", "0"], "Must be > 0"),
        (["evaluate", "x", "--data", "y", "--draws", "0"], "Must be > 0"),
        (["evaluate", "x", "--data", "y", "--passes", "2", "--eight-bit"], "leave out --passes"),
        (["pretrain", *TRAINED, "--set=objective=diffusion"], "set model.causal=false with it"),
        (["pretrain", *TRAINED, "--set=model.order=zigzag"], "no reading order 'zigzag'"),
        (["surprise", "run", "a.png", "--count", "2"], "--count goes with --data"),
        (["surprise", "run", "a.png", "--seed", "5"], "--seed goes with --data"),
        (["sample", "x", "--top-p", "3"], "top_p must lie in (0, 1], got 3.0"),
        (["evaluate", "nowhere", "--data", "y"], "nowhere holds no model"),
        (["evaluate", "x", "--data", "nowhere"], "nowhere does not exist; make a record store"),
        (["evaluate", "y", "--data", "y"], "y holds no model"),
        (["evaluate", "x", "--data", "x"], "x holds no store.json; make a record store"),
        (["pretrain", *TRAINED[:3], "--palette", "d", *TRAINED[5:]], "is a folder, where a file"),
        (["pretrain", *TRAINED[:5], "--out", "run"], "run already holds a run; choose another"),
        (["finetune", "run", "--data", "d", "--out", "run"], "go on with igpt resume"),
        (["along", "x", "--data", "d"], "x holds no run (no recipe.json)"),
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
    arguments, message, igpt, there, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    code, out, err = igpt(*(there.get(argument, argument) for argument in arguments))
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


def test_a_folder_called_digits_goes_before_those_of_scikit_learn(igpt, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_png(tmp_path / "digits" / "a.png", np.zeros((8, 8, 3), np.uint8))
    code, out, _ = igpt("data", "prepare", "digits", "--image-size", 8, "--out", "store")
    assert code == 0
    assert "store: 1 train images" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("complete ar photo.png --box 1,1,3,3", "(BERT or diffusion), which draws any region"),
        ("complete bert photo.png --box 1,1,3,9", "LEFT,TOP,RIGHT,BOTTOM in pixels"),
        ("complete bert photo.png --box 0,0,4,4", "the box hides every pixel"),
        ("complete bert photo.png --mask photo.png", "is 5x5, and a mask is of the size"),
        ("complete bert photo.png --mask black.png", "hides no pixel"),
        ("complete bert photo.png --mask white.png", "hides every pixel"),
        ("complete ar photo.png --passes 3", "and this one is autoregressive; leave them out"),
        ("sample ar --most-certain-first", "and this one is autoregressive; leave them out"),
    ],
)
def test_a_region_that_a_network_does_not_draw_is_one_line(
    igpt, tiny_palette, tmp_path, monkeypatch, arguments, message
):
    for name, causal in (("ar", True), ("bert", False)):
        model = random_model(dataclasses.replace(TINY, causal=causal))
        tokenizer = ImageTokenizer(tiny_palette, 4)
        Pretrained(model=model, tokenizer=tokenizer).save(tmp_path / name)
    for name, size, level in (("photo", 5, 9), ("black", 4, 0), ("white", 4, 255)):
        write_png(tmp_path / f"{name}.png", np.full((size, size, 3), level, np.uint8))
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.iterdir())
    code, out, err = igpt(*arguments.split(), "--device", "cpu")
    assert (code, out, len(err.splitlines())) == (2, "", 1)
    assert message in err
    assert sorted(tmp_path.iterdir()) == before


def test_what_does_not_fit_a_model_is_one_line(igpt, tiny_palette, shapes_store, tmp_path):
    model = Pretrained(model=random_model(), tokenizer=ImageTokenizer(tiny_palette, 4))
    model.save(tmp_path / "model")
    arguments = ("evaluate", tmp_path / "model", "--data", shapes_store.path)
    for more, message in (
        (["--split", "tset"], "did you mean 'test'"),
        (["--device", "cud"], "no device 'cud' here; try --device cpu"),
        (["--draws", "2"], "and this one is autoregressive; leave them out"),
        (["--passes", "2"], "(BERT or diffusion), and this one is autoregressive"),
    ):
        code, out, err = igpt(*arguments, *more)
        assert (code, out, len(err.splitlines())) == (2, "", 1)
        assert message in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("report run --out store/store.json", "lies in the store"),
        ("report run --out page.html", "page.html is there already"),
        ("sample run --out run/recipe.png", "lies in the run"),
        ("sample run --out photo.png", "photo.png is there already"),
        ("surprise run photo.png --out photo.png", "photo.png is read and would be replaced"),
        ("complete run completions.png --out . --overwrite", "completions.png is read and would"),
        ("complete run photo.png --out folder", "folder/photo-2.png is there already"),
        ("features run --data store --out features.npz", "features.npz is there already"),
        ("palette fit store --out palette.npy", "palette.json is there already"),
        ("data show store --out photo.png", "photo.png is there already"),
        ("claims tiny --out page.html", "page.html is there already"),
        ("claims tiny --out folder.md", "folder-figures would be replaced"),
        ("convert run run/model", "lies in the run"),
        ("push run some/model --dry-run store/model", "lies in the store"),
    ],
)
def test_no_command_writes_onto_what_is_there(igpt, tmp_path, monkeypatch, arguments, message):
    for name in ("store/store.json", "run/recipe.json", "run/provenance.json", "photo.png",
                 "completions.png", "folder/photo-2.png", "features.npz", "palette.json",
                 "page.html", "folder-figures/notes.png"):  # fmt: skip
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("mine")
    before = {path: path.is_file() and path.read_text() for path in tmp_path.rglob("*")}
    monkeypatch.chdir(tmp_path)
    code, out, err = igpt(*arguments.split())
    assert (code, out, len(err.splitlines())) == (2, "", 1)
    assert message in err
    after = {path: path.is_file() and path.read_text() for path in tmp_path.rglob("*")}
    assert after == before


def run_in_shell(folder, redirected, *arguments):
    """Run a command whose streams go elsewhere."""
    line = f'"$0" -m igpt "$@" {redirected}'
    return subprocess.run(
        ["bash", "-c", line, sys.executable, *map(str, arguments)], cwd=folder,
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("redirected", "code", "line"),
    [
        (">/dev/full", 2, "igpt: No space left on device; free some space (IGPT_DEBUG=1 shows"),
        (">&-", 0, ""),
        ("| true; exit ${PIPESTATUS[0]}", 1, ""),
    ],
)
def test_an_output_that_nobody_can_read_is_no_traceback(tmp_path, redirected, code, line):
    done = run_in_shell(tmp_path, redirected, "recipes")
    assert done.returncode == code
    assert done.stderr.startswith(line)
    assert len(done.stderr.splitlines()) == len(line.splitlines())


@pytest.mark.parametrize("redirected", ["2>/dev/full", "2>&-", "<&- >&- 2>&-"])
def test_work_goes_on_where_complaints_cannot_be_printed(tmp_path, redirected):
    write_shapes(tmp_path / "images", images=4)
    (tmp_path / "images" / "left" / "odd.png").write_bytes(b"broken")
    done = run_in_shell(
        tmp_path, redirected, "data", "prepare", "images", "--image-size", 8, "--out", "store"
    )
    assert done.returncode == 0
    assert RecordStore.open(tmp_path / "store").account


def test_what_the_machine_refuses_is_one_line_and_its_traceback_only_if_wished(
    igpt, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    code, out, err = igpt("data", "prepare", "a" * 300, "--image-size", 8, "--out", "store")
    assert (code, out, len(err.splitlines())) == (2, "", 1)
    assert "File name too long" in err
    monkeypatch.setenv("IGPT_DEBUG", "1")
    code, out, err = igpt("data", "prepare", "a" * 300, "--image-size", 8, "--out", "store")
    assert (code, out) == (2, "")
    assert err.startswith("Traceback")
    assert err.splitlines()[-1].startswith("igpt: ")


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (
            OSError(errno.EMFILE, "Too many open files", "a.npy"),
            "a.npy: Too many open files; allow",
        ),
        (OSError(errno.EIO, "Input/output error"), "Input/output error; the disk may be failing"),
        (MemoryError(), "there is not enough memory"),
        (
            RuntimeError("[enforce fail] DefaultCPUAllocator: not enough memory: 9"),
            "not enough mem",
        ),
        (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid"), "a text is broken"),
        (RecursionError(), "nested without end"),
        (OverflowError("int too large"), "a number is too large: int too large"),
    ],
)
def test_no_error_of_the_machine_is_a_traceback(igpt, monkeypatch, error, line):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr("igpt.data.prepare.prepare_store", fail)
    code, out, err = igpt("data", "prepare", "digits", "--image-size", 8, "--out", "store")
    assert (code, out, len(err.splitlines())) == (2, "", 1)
    assert line in err


def test_a_fault_of_ours_keeps_its_traceback(monkeypatch):
    def fail(*_, **__):
        raise ZeroDivisionError

    monkeypatch.setattr("igpt.data.prepare.prepare_store", fail)
    with pytest.raises(ZeroDivisionError):
        main(["data", "prepare", "digits", "--image-size", "8", "--out", "store"])


def test_figures_that_are_no_numbers_are_refused():
    with pytest.raises(DataError, match=r"rows\.1\.nats came out as nan, .*igpt verify"):
        options.show({"rows": [{"nats": 1.0}, {"nats": float("nan")}]}, as_json=True)


def test_what_several_processes_cannot_share_is_refused_in_each(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "igpt", "verify", tmp_path], capture_output=True, text=True,
        timeout=60, env={**os.environ, "WORLD_SIZE": "2", "TORCHELASTIC_RUN_ID": "a"},
    )  # fmt: skip
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "igpt verify works in one process; only pretrain, finetune and resume" in done.stderr


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


def interrupted(folder, module, *arguments):
    """Return what a command says whose work is stopped by Ctrl-C in the middle."""
    name, _, function = module.rpartition(".")
    code = (
        "import importlib, sys\n"
        f"module = importlib.import_module({name!r})\n"  # igpt.quickstart is the function
        "def stop(*a, **k): raise KeyboardInterrupt\n"
        f"module.{function} = stop\n"
        "from igpt.cli import main\n"
        "main(sys.argv[1:])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)], cwd=folder, capture_output=True,
        text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 130
    return done.stderr.splitlines()[-1]


def test_after_ctrl_c_there_is_a_whole_line_to_paste(tmp_path):
    said = interrupted(tmp_path, "igpt.quickstart.prepare_store", "quickstart", "--out", "my q")
    assert said.endswith("; go on with igpt quickstart --out 'my q'")
    (tmp_path / "my run").mkdir()
    for name in ("my run/recipe.json", "d/store.json", "p"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("{}")
    arguments = ("cifar10-tiny", "--data", "d", "--palette", "p", "--out")
    said = interrupted(tmp_path, "igpt.places.require_writable", "pretrain", *arguments, "my run")
    assert said.endswith("; go on with igpt resume 'my run'")
    said = interrupted(tmp_path, "igpt.places.require_writable", "pretrain", *arguments, "new")
    assert said.endswith("nothing half-written was left")


def test_a_plan_is_reckoned_for_devices_that_are_not_here(igpt):
    code, out, _ = igpt("plan", "igpt-l", "--devices", "64xH100", "--mfu", "0.4", "--json")
    figures = json.loads(out)
    assert (code, figures["devices"], figures["mfu"], figures["fits"]) == (0, 64, 0.4, True)
    code, out, _ = igpt("plan", "--devices", "64xH100")
    assert (code, len([line for line in out.splitlines() if line.startswith("igpt-")])) == (0, 12)


def test_a_network_whose_batch_does_not_divide_has_a_line_that_says_so(igpt):
    code, out, _ = igpt("plan", "--devices", "128xH100")
    lines = {line.split()[0]: line for line in out.splitlines() if line.startswith("igpt-")}
    assert (code, len(lines)) == (0, 4)
    assert "batch_size=64 does not divide among 128 devices; choose" in lines["igpt-xl"]
    assert "does not" not in lines["igpt-l"]


def test_a_plan_takes_all_settings_that_memory_depends_on(igpt):
    def planned(*arguments):
        code, out, err = igpt("plan", *arguments, "--devices", "8xH100", "--json")
        assert code == 0, err
        return json.loads(out)

    plain, dropped = planned("igpt-s"), planned("igpt-s", "--set=dropout=0.1")
    assert dropped["memory"]["activations"] > plain["memory"]["activations"]
    few, many = planned("igpt-s-bert"), planned("igpt-s-bert", "--set=mask_probability=0.6")
    assert many["memory"]["logits"] == pytest.approx(4 * few["memory"]["logits"])
    rows = planned("--set=model.causal=false", "--set=objective=diffusion", "--set=dropout=0.1")
    assert {row["objective"] for row in rows if row} == {"diffusion"}
    crowded = planned("--set=training.optimizer=muon")
    assert any(crowded)
    assert all(row["strategy"] == "ddp" for row in crowded if row)
