"""What the command line says, above all when something is wrong: one line, exit code 2."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from benchmarks.released import released_network
from scipy.special import log_softmax
from scipy.stats import spearmanr

import igpt as igpt_library
from igpt.cli import main
from igpt.evaluation.probe import probe_features
from igpt.evaluation.solvers import lbfgs, ridge
from igpt.pixels.images import read_image, write_png
from tests.conftest import write_shapes

TINY_RUN = (
    "model.image_size=4", "model.layers=2", "model.width=16", "training.batch_size=8",
    "training.warmup_steps=2", "training.validate_every=50", "training.learning_rate=0.003",
    "finetune.training.validate_every=10", "finetune.training.batch_size=8",
    "finetune.training.learning_rate=0.003",
)  # fmt: skip


@pytest.fixture
def igpt(capsys):
    """Run a command here and return its exit code, output and complaints."""

    def run(*arguments):
        capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            main([str(argument) for argument in arguments])
        told = capsys.readouterr()
        return stop.value.code, told.out, told.err

    return run


@pytest.fixture
def refused(igpt):
    """Run a command that must fail, and return the one line it says."""

    def run(*arguments):
        code, out, told = igpt(*arguments)
        assert code == 2
        assert out == ""
        *_, line = told.splitlines()
        assert line.startswith("igpt: ")
        assert "Traceback" not in told
        return line

    return run


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder in which the README's commands have been run, at toy size."""
    folder = tmp_path_factory.mktemp("made")
    write_shapes(folder / "images", images=80)

    def run(*arguments):
        with pytest.raises(SystemExit) as stop:
            main([str(argument) for argument in arguments])
        assert stop.value.code == 0

    settings = [f"--set={setting}" for setting in TINY_RUN]
    run("data", "prepare", folder / "images", "--image-size", 8, "--out", folder / "store",
        "--validation-fraction", 0.2, "--test-fraction", 0.2)  # fmt: skip
    run("palette", "fit", folder / "store", "--size", 16, "--out", folder / "palette.npy")
    run("pretrain", "digits-quickstart", "--data", folder / "store", "--palette",
        folder / "palette.npy", "--out", folder / "run", "--steps", 60, *settings)  # fmt: skip
    run("evaluate", folder / "run", "--data", folder / "store", "--split", "test")
    run("probe", folder / "run", "--data", folder / "store")
    run("probe", folder / "run", "--data", folder / "store", "--untrained")
    run("finetune", folder / "run", "--data", folder / "store", "--out", folder / "tuned",
        "--steps", 60)  # fmt: skip
    return folder


def test_every_step_leaves_its_file(made, igpt):
    report = json.loads((made / "palette.json").read_text())
    assert report["size"] == 16
    assert (made / "palette.png").is_file()
    evaluation = json.loads((made / "run" / "evaluation.json").read_text())
    assert evaluation["splits"]["test"]["images"] == 16
    assert 0 < evaluation["splits"]["test"]["nats_per_pixel"] < np.log(16)
    assert json.loads((made / "tuned" / "finetune.json").read_text())["test_accuracy"] > 0.8


def test_probe_json_tells_of_every_layer(made):
    probe = json.loads((made / "run" / "probe.json").read_text())
    assert [row["layer"] for row in probe["layers"]] == [0, 1, 2]
    for row in probe["layers"]:
        assert {"validation_accuracy", "test_accuracy", "setting", "converged"} <= row.keys()
    best = max(probe["layers"], key=lambda row: row["validation_accuracy"])
    assert (probe["best_layer"], probe["test_accuracy"]) == (best["layer"], best["test_accuracy"])
    assert probe["raw_pixels"]["test_accuracy"] > 0.8
    assert json.loads((made / "run" / "probe-untrained.json").read_text())["raw_pixels"] is None


def test_figures_come_as_json_too(made, igpt):
    code, out, _ = igpt("evaluate", made / "run", "--data", made / "store", "--json")
    assert code == 0
    assert json.loads(out)["bits_per_pixel"] > 0
    kept = (made / "run" / "probe.json").read_bytes()
    _, out, _ = igpt("probe", made / "run", "--data", made / "store", "--layer", 1, "--json")
    assert json.loads(out)["best_layer"] == 1
    assert (made / "run" / "probe.json").read_bytes() == kept  # one layer does not replace all
    _, out, _ = igpt("evaluate", made / "run", "--data", made / "store", "--images", 3, "--json")
    assert json.loads(out)["images"] == 3
    kept = json.loads((made / "run" / "evaluation.json").read_text())
    assert kept["splits"]["test"]["images"] == 16
    _, out, _ = igpt("pretrain", "--resume", made / "run", "--json")
    assert json.loads(out)["step"] == 59
    _, out, _ = igpt("finetune", "--resume", made / "tuned", "--json")
    assert json.loads(out)["layer"] == 2


def test_images_are_completed_sampled_and_described(made, igpt, tmp_path):
    write_png(tmp_path / "a.png", np.full((9, 12, 3), 200, dtype=np.uint8))
    arguments = ("complete", made / "run", tmp_path / "a.png", "--rows", 2, "--samples", 3)
    code, _, _ = igpt(*arguments, "--out", tmp_path / "out")
    assert code == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "a-1.png",
        "a-2.png",
        "a-3.png",
        "completions.png",
    ]
    igpt(*arguments, "--out", tmp_path / "again")
    for path in (tmp_path / "out").iterdir():  # the same seed draws the same pixels
        assert path.read_bytes() == (tmp_path / "again" / path.name).read_bytes()
    assert igpt("complete", made / "run", "--data", made / "store", "--count", 2)[0] == 0
    assert (made / "run" / "completions.png").is_file()
    assert igpt("sample", made / "run", "--samples", 3, "--out", tmp_path / "s.png")[0] == 0
    assert (tmp_path / "s.png").is_file()
    code, _, _ = igpt(
        "features", made / "run", "--data", made / "store", "--layer", 1, "--out",
        tmp_path / "f.npz",
    )  # fmt: skip
    assert code == 0
    with np.load(tmp_path / "f.npz") as arrays:
        assert arrays["test_features"].shape == (16, 1, 16)
        assert arrays["test_labels"].shape == (16,)
        assert arrays["class_names"].tolist() == ["left", "top"]


def test_the_report_is_one_page(made, igpt, tmp_path):
    code, _, _ = igpt("report", made / "run", made / "tuned", "--out", tmp_path / "report.html")
    assert code == 0
    assert (tmp_path / "report.html").read_text().lstrip().lower().startswith("<!doctype html>")


def test_help_and_version_come_without_complaint(igpt):
    assert igpt("--help")[0] == 0
    assert igpt("probe", "--help")[0] == 0
    for alone in ([], ["data"]):
        code, out, told = igpt(*alone)
        assert (code, told) == (2, "")
        assert len(out.splitlines()) > 5
    code, out, _ = igpt("--version")
    assert (code, out.startswith("igpt, version ")) == (0, True)


def test_recipes_are_listed_and_shown(igpt):
    code, out, _ = igpt("recipes")
    assert code == 0
    assert "cifar10-tiny" in out
    _, out, _ = igpt("recipes", "igpt-s")
    assert json.loads(out)["model"]["width"] == 512


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["prob"], "there is no command 'prob'; did you mean 'probe'"),
        (["data", "prepar"], "there is no command 'prepar'; did you mean 'prepare'"),
        (["evaluate", "x", "--dta", "y"], "No such option '--dta'. Did you mean '--data'?"),
        (["evaluate"], "Missing argument 'RUN'"),
        (["evaluate", "x"], "Missing option '--data'"),
        (["recipes", "igpt-z"], "there is no recipe 'igpt-z'; did you mean 'igpt-"),
        (["pretrain", "cifar-tiny"], "did you mean 'cifar10-tiny'"),
        (["pretrain"], "missing RECIPE (see igpt recipes), or --resume RUN"),
        (["pretrain", "cifar10-tiny"], "a new run wants --data, --palette and --out"),
        (["pretrain", "cifar10-tiny", "--resume", "r"], "goes on with the run as it is"),
        (["pretrain", "cifar10-tiny", "--steps", "x"], "'x' is not a valid integer"),
        (["pretrain", "cifar10-tiny", "--set", "model.layer=3"], "did you mean 'layers'"),
        (["pretrain", "--resume", "nowhere"], "nowhere holds no run (no recipe.json)"),
        *(
            (
                [
                    "pretrain",
                    "cifar10-tiny",
                    "--data",
                    "d",
                    "--palette",
                    "p",
                    "--out",
                    "o",
                    f"--search-rates={rates}",
                ],
                message,
            )
            for rates, message in (
                ("0.1,0.3", "positive and descend, such as 0.01,0.003,0.001, got 0.1, 0.3"),
                ("0.1,0", "got 0.1, 0"),
                ("nan", "got nan"),
                ("", "got none"),
                ("0.1;0.01", "from high to low, such as 0.01,0.003, or none, got '0.1;0.01'"),
            )
        ),
        (["pretrain", "--search-rates", "cifar10-tiny"], "or none, got 'cifar10-tiny'"),
        (["pretrain", "--resume", "r", "--search-rates"], "leave out --search-rates and"),
        (["finetune", "--resume", "r", "--fold-validation"], "leave out --search-rates and"),
        (
            [
                "pretrain",
                "cifar10-tiny",
                "--data",
                "d",
                "--palette",
                "p",
                "--out",
                "o",
                "--search-rates",
                "--set",
                "training.learning_rate=1",
            ],
            "--search-rates decides training.learning_rate; leave out its --set",
        ),
        (["finetune"], "fine-tuning wants RUN, --data and --out, or --resume RUN"),
        (["finetune", "--resume", "nowhere"], "nowhere holds no run"),
        (["pretrain", "cifar10-tiny", "--set", "model.colors=9"], "follows the palette"),
        (["evaluate", "x", "--data", "y", "--images", "0"], "0 is not in the range x>=1"),
        (["evaluate", "x", "--data", "y", "--seed", "-1"], "-1 is not in the range x>=0"),
        (["palette", "fit", "x", "--size", "1", "--out", "p.npy"], "not in the range 2<=x<=65536"),
        (["complete", "run", "--data", "d", "--out", "o"], "--out and --filter go with IMAGES"),
        (["complete", "run", "a.png", "--count", "2"], "--count goes with --data"),
        (["surprise", "run", "a.png", "--count", "2"], "--count goes with --data"),
        (["outliers", "x", "--data", "y", "--images", "0"], "0 is not in the range x>=1"),
        (["outliers", "nowhere", "--data", "x"], "nowhere holds no model"),
        (["complete", "run"], "give either IMAGES or --data, and not both"),
        (["evaluate", "nowhere", "--data", "x"], "nowhere holds no model"),
        (["report", "nowhere"], "nowhere holds no run"),
        (["sample", "x", "--top-p", "3"], "top_p must lie in (0, 1], got 3.0"),
        (["data", "prepare", "./nowhere", "--image-size", "8", "--out", "o"], "nowhere"),
        (["palette", "fit", "nowhere", "--out", "p.npy"], "nowhere does not exist"),
    ],
)
def test_what_cannot_be_is_one_line_and_exit_code_2(
    arguments, message, refused, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    assert message in refused(*arguments)
    assert list(tmp_path.iterdir()) == []


def test_bad_combinations_with_a_run_are_told(made, refused, tmp_path):
    run, store = made / "run", made / "store"
    assert "no device 'cud'" in refused("evaluate", run, "--data", store, "--device", "cud")
    assert "between 0 and 2 for this network, got 7" in refused(
        "probe", run, "--data", store, "--layer", 7
    )
    assert "rows must lie between 0 and 3" in refused("complete", run, "--data", store, "--rows", 4)
    assert "did you mean" in refused("evaluate", run, "--data", store, "--split", "tset")
    assert "already holds a run; choose another --out" in refused(
        "pretrain", "cifar10-tiny", "--data", store, "--palette", made / "palette.npy",
        "--out", run,
    )  # fmt: skip
    assert "written as .npz" in refused(
        "features", run, "--data", store, "--out", tmp_path / "f.npy"
    )
    assert "written as .npy" in refused("palette", "fit", store, "--out", tmp_path / "p")
    assert "8x8 pixels, and 12x12 are wanted" in refused(
        "pretrain", "cifar10-tiny", "--data", store, "--palette", made / "palette.npy",
        "--out", tmp_path / "run",
    )  # fmt: skip
    (tmp_path / "no.png").write_text("not a picture")
    assert "no.png is not an image" in refused("complete", run, tmp_path / "no.png")


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((16, 4), dtype=np.float32), "(16, 4)"),
        (np.full((16, 3), np.nan, dtype=np.float32), "nan"),
    ],
)
def test_a_palette_that_is_none_is_told(made, refused, tmp_path, array, message):
    np.save(tmp_path / "p.npy", array)
    line = refused(
        "pretrain", "cifar10-tiny", "--data", made / "store", "--palette", tmp_path / "p.npy",
        "--out", tmp_path / "run",
    )  # fmt: skip
    assert message in line.lower()
    assert not (tmp_path / "run").exists()


def test_images_without_labels_cannot_be_probed_or_fine_tuned(made, refused, tmp_path):
    images = tmp_path / "images"
    for number in range(20):
        write_png(images / f"{number}.png", np.full((8, 8, 3), number * 9, dtype=np.uint8))
    with pytest.raises(SystemExit):
        main(["data", "prepare", str(images), "--image-size", "8", "--out", str(tmp_path / "s")])
    assert "have no labels" in refused("probe", made / "run", "--data", tmp_path / "s")
    line = refused("finetune", made / "run", "--data", tmp_path / "s", "--out", tmp_path / "tuned")
    assert "have no labels" in line
    assert not (tmp_path / "tuned").exists()


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
    assert done.stderr.strip().splitlines()[-1].startswith("igpt: stopped")
    assert "Traceback" not in done.stderr


def test_the_published_figures_commands_run_on_small_files_of_their_formats(tmp_path, igpt):
    """docs/released-weights.md: nats per pixel over token files, and the probe of every layer."""
    fixtures = Path(__file__).parent / "fixtures" / "tensorflow"
    palette, generator = fixtures / "kmeans_centers.npy", np.random.default_rng(0)
    tokens = {}
    for part, count in (("tr", 30), ("va", 12), ("te", 9)):
        tokens[part] = generator.integers(0, 16, (count, 16))
        np.save(tmp_path / f"imagenet_{part}X.npy", tokens[part])
        np.save(tmp_path / f"imagenet_{part}Y.npy", np.eye(3)[np.arange(count) % 3])

    assert igpt("convert", fixtures / "ar" / "model.ckpt-7", tmp_path / "igpt",
                "--palette", palette)[0] == 0  # fmt: skip
    assert igpt("data", "prepare", tmp_path / "imagenet", "--image-size", 4, "--palette", palette,
                "--out", tmp_path / "store")[0] == 0  # fmt: skip
    code, out, _ = igpt("evaluate", tmp_path / "igpt", "--data", tmp_path / "store", "--json")
    assert code == 0
    _, logits = released_network(dict(np.load(fixtures / "ar" / "expected.npz")), tokens["te"])
    likelihood = np.take_along_axis(log_softmax(logits, axis=-1), tokens["te"][..., None], axis=-1)
    assert json.loads(out)["nats_per_pixel"] == pytest.approx(-likelihood.mean(), rel=1e-6)
    code, out, _ = igpt("probe", tmp_path / "igpt", "--data", tmp_path / "store", "--json")
    assert code == 0
    assert [row["layer"] for row in json.loads(out)["layers"]] == [0, 1, 2]


def test_a_folder_that_cannot_be_converted_is_told_in_a_line(tmp_path, refused):
    fixture = Path(__file__).parent / "fixtures" / "tensorflow" / "ar"
    assert "FOLDER --palette kmeans_centers.npy" in refused("convert", fixture, tmp_path / "out")
    assert "holds no model" in refused("convert", tmp_path, tmp_path / "out")
    assert "leave out --palette" in refused(
        "data", "prepare", "digits", "--image-size", 12, "--out", tmp_path / "store",
        "--palette", fixture.parent / "kmeans_centers.npy",
    )  # fmt: skip
    assert not list(tmp_path.iterdir())


def test_few_labels_are_read_from_the_best_layer_and_kept(made, igpt, refused, tmp_path):
    run, store = made / "run", made / "store"
    code, out, _ = igpt("few-labels", run, "--data", store, "--labels", 2, "--labels", 8,
                        "--subsets", 3, "--json")  # fmt: skip
    assert code == 0
    result = json.loads(out)
    assert result == json.loads((run / "few-labels.json").read_text())
    assert result["layer"] == json.loads((run / "probe.json").read_text())["best_layer"]
    assert [row["labels_per_class"] for row in result["rows"]] == [2, 8]
    assert all(len(row["accuracies"]) == 3 for row in result["rows"])
    assert "ask for" in refused("few-labels", run, "--data", store, "--labels", 4000)
    assert "layer must lie between 0 and 2" in refused(
        "few-labels", run, "--data", store, "--layer", 9
    )
    assert "run igpt probe first, or give --layer" in refused(
        "few-labels", run / "model", "--data", store
    )


def test_a_run_is_measured_along_its_training(made, igpt, refused, tmp_path):
    assert "keeps no snapshots" in refused("along", made / "run", "--data", made / "store")
    assert "give the pretraining run" in refused("along", made / "tuned", "--data", made / "store")
    settings = [f"--set={setting}" for setting in (*TINY_RUN, "snapshots=1")]
    run = tmp_path / "run"
    code, _, _ = igpt("pretrain", "digits-quickstart", "--data", made / "store", "--palette",
                      made / "palette.npy", "--out", run, "--steps", 8, *settings)  # fmt: skip
    assert code == 0
    code, out, _ = igpt("along", run, "--data", made / "store")
    assert code == 0
    assert [line.split()[0] for line in out.splitlines()] == ["step", "4", "8"]


def test_claims_that_cannot_be_reproduced_are_told_in_a_line(igpt, refused, tmp_path):
    out = tmp_path / "claims"
    assert "did you mean 'depth'" in refused("reproduce", "dept", "--out", out)
    assert "igpt reproduce --list" in refused("reproduce")
    assert "did you mean 'small'" in refused("reproduce", "depth", "--scale", "smal")
    assert "with --data" in refused("reproduce", "depth", "--scale", "small", "--out", out)
    missing = tmp_path / "nothing"
    assert "does not exist" in refused("reproduce", "depth", "--data", missing, "--out", out)
    assert not out.exists()
    assert "run igpt reproduce first" in refused("claims", tmp_path)
    code, told, _ = igpt("reproduce", "--list")
    assert code == 0
    assert told.count("ablations") == 3


def test_learning_rates_are_searched_and_told(made, igpt, tmp_path):
    store, settings = made / "store", [f"--set={setting}" for setting in TINY_RUN]
    settings.remove("--set=training.learning_rate=0.003")
    settings.remove("--set=finetune.training.learning_rate=0.003")
    command = ["pretrain", "digits-quickstart", "--data", store, "--palette", made / "palette.npy",
               "--out", tmp_path / "a", "--steps", 4, *settings]  # fmt: skip
    code, out, _ = igpt(*command, "--search-rates", "--fold-validation", "--json")
    assert code == 0
    result = json.loads(out)
    assert result == json.loads((tmp_path / "a" / "search.json").read_text())
    assert result["tries"][0]["learning_rate"] == 0.01
    code, told, _ = igpt(*command, "--search-rates", "--fold-validation")  # told again
    assert told.splitlines()[0] == "learning rate  validation nats per pixel"
    assert f"{tmp_path / 'a' / 'final'}: learning rate" in told
    code, out, _ = igpt("finetune", made / "run", "--data", store, "--out", tmp_path / "b",
                        "--steps", 10, "--search-rates", "0.003,0.001")  # fmt: skip
    assert code == 0
    assert "test accuracy" in out.splitlines()[-1]
    code, out, _ = igpt("finetune", "--resume", tmp_path / "b" / "rate-0.003")
    assert (code, "accuracy" in out) == (0, True)
    code, out, _ = igpt("finetune", made / "run", "--data", store, "--out", tmp_path / "c",
                        "--steps", 3, "--fold-validation")  # fmt: skip
    assert (code, "test accuracy" in out) == (0, True)


@pytest.mark.parametrize("solver", ["sgd", "ridge", "neighbors"])
def test_other_solvers_keep_a_file_of_their_own_and_compare_their_ranking(made, igpt, solver):
    run, store = made / "run", made / "store"
    before = (run / "probe.json").read_text()
    code, out, _ = igpt("probe", run, "--data", store, "--solver", solver)
    assert code == 0
    assert "best layer by validation" in out
    result = json.loads((run / f"probe-{solver}.json").read_text())
    assert [row["layer"] for row in result["layers"]] == [0, 1, 2]
    best = max(result["layers"], key=lambda row: row["validation_accuracy"])
    assert result["test_accuracy"] == best["test_accuracy"]
    known = [row["validation_accuracy"] for row in json.loads(before)["layers"]]
    ours = [row["validation_accuracy"] for row in result["layers"]]
    wanted = spearmanr(ours, known).statistic if len(set(ours)) > 1 < len(set(known)) else None
    assert result["rank_correlation"] == (wanted if wanted is None else pytest.approx(wanted))
    assert (run / "probe.json").read_text() == before


def test_neighboring_layers_are_probed_as_one_feature(made, igpt, refused):
    run, store = made / "run", made / "store"
    code, out, _ = igpt("probe", run / "model", "--data", store, "--concatenate", 2, "--json")
    assert code == 0
    result = json.loads(out)
    pretrained, store_ = igpt_library.load(run), igpt_library.RecordStore.open(store)
    layers = result["concatenated"]["layers"]
    assert len(layers) == 2
    assert result["best_layer"] in layers
    splits = [store_.split(name) for name in ("train", "validation", "test")]
    joined = [
        igpt_library.extract_features(pretrained, split, layers=layers).reshape(len(split), 1, -1)
        for split in splits
    ]
    parts = [(x, split.require_labels()) for x, split in zip(joined, splits, strict=True)]
    assert (
        result["concatenated"]["test_accuracy"] == probe_features(lbfgs(), *parts)[0].test_accuracy
    )
    assert "concatenate must lie between 1 and the 3 layers probed, got 4" in refused(
        "probe", run, "--data", store, "--concatenate", 4
    )
    code, out, _ = igpt("probe", run / "model", "--data", store, "--concatenate", 2, "--solver",
                        "ridge", "--json")  # fmt: skip
    assert code == 0
    least_squares = json.loads(out)["concatenated"]
    joined = [
        igpt_library.extract_features(pretrained, split, layers=least_squares["layers"]).reshape(
            len(split), 1, -1
        )
        for split in splits
    ]
    parts = [(x, split.require_labels()) for x, split in zip(joined, splits, strict=True)]
    assert least_squares["test_accuracy"] == probe_features(ridge(), *parts)[0].test_accuracy
    code, out, _ = igpt("probe", run / "model", "--data", store, "--concatenate", 3, "--solver",
                        "sgd")  # fmt: skip
    assert code == 0
    assert "layers 0 to 2 as one" in out
    assert "an untrained network is probed by lbfgs" in refused(
        "probe", run, "--data", store, "--solver", "ridge", "--untrained"
    )


def test_a_bert_run_is_classified_under_masks(made, igpt, refused, tmp_path):
    run, store = tmp_path / "bert", made / "store"
    settings = [f"--set={setting}" for setting in (*TINY_RUN, "model.causal=false")]
    assert igpt("pretrain", "digits-quickstart", "--data", store, "--palette",
                made / "palette.npy", "--out", run, "--steps", 10, *settings)[0] == 0  # fmt: skip
    assert "run igpt probe first" in refused("masks", run, "--data", store)
    assert igpt("probe", run, "--data", store)[0] == 0
    code, out, _ = igpt("masks", run, "--data", store, "--masks", 3, "--json")
    assert code == 0
    result = json.loads(out)
    assert result == json.loads((run / "masks.json").read_text())
    assert len(result["single"]) == 3
    assert "this one is autoregressive" in refused("masks", made / "run", "--data", store)
    for command in ("outliers", "surprise"):  # which want an autoregressive one instead
        assert "trained with hidden pixels (BERT)" in refused(command, run, "--data", store)


def test_surprise_is_told_in_nats_and_drawn(made, igpt, refused, tmp_path):
    shape = next((made / "images").rglob("*.png"))
    noise = tmp_path / "noise.png"
    write_png(noise, np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8))
    out = tmp_path / "surprise.png"
    code, told, _ = igpt("surprise", made / "run", shape, noise, "--out", out, "--json")
    assert code == 0
    nats = json.loads(told)
    assert nats[str(noise)] > nats[str(shape)]  # what it was trained on is likelier
    assert read_image(out).shape == (2 * 128 + 2 + 4 + 8, 3 * 128 + 2 * 2, 3)  # a scale below
    assert "nothing.png" in refused("surprise", made / "run", tmp_path / "nothing.png")
    code, told, _ = igpt("surprise", made / "run", "--data", made / "store", "--count", 3, "--json")
    assert code == 0
    assert len(json.loads(told)) == 3
    assert read_image(made / "run" / "surprise.png").shape[0] == 3 * 128 + 2 * 2 + 4 + 8
    assert "not both" in refused("surprise", made / "run")
    assert "--data writes into the run" in refused(
        "surprise", made / "run", "--data", made / "store", "--out", out
    )


def test_foreign_images_are_told_by_likelihood(made, igpt, refused, tmp_path):
    run, store = made / "run", made / "store"
    arguments = ("outliers", run, "--data", store, "--images", 12, "--other", store)
    code, out, _ = igpt(*arguments)
    assert code == 0
    assert "0.5 is chance" in out
    result = json.loads((run / "outliers.json").read_text())
    assert [row["name"] for row in result["foreign"]] == [
        "noise", "flat", "digits", "shuffled", str(store),
    ]  # fmt: skip
    assert all(row["images"] == 12 for row in (result["own"], *result["foreign"]))
    same = result["foreign"][-1]  # the run's own images, given as foreign ones
    assert same["auroc_loss"] == same["auroc_typicality"] == pytest.approx(0.5)
    assert same["nats_per_pixel"] == result["own"]["nats_per_pixel"]
    assert json.loads(igpt(*arguments, "--json")[1]) == result  # the same seed, the same images
    assert read_image(run / "extremes.png").shape == (2 * 64 + 2, 10 * 64 + 9 * 2, 3)
    assert read_image(run / "outliers.png").shape[1] == 1200
    before = (run / "outliers.json").read_bytes()
    assert igpt("outliers", run / "model", "--data", store, "--images", 2)[0] == 0
    assert (run / "outliers.json").read_bytes() == before  # a model folder keeps nothing
    assert "nowhere does not exist" in refused(
        "outliers", run, "--data", store, "--other", tmp_path / "nowhere"
    )
    folder = write_shapes(tmp_path / "small", images=20, size=2)
    assert igpt("data", "prepare", folder, "--image-size", 2, "--out", tmp_path / "s")[0] == 0
    assert f"{tmp_path / 's'} are images of 2x2 pixels, and 4x4 are wanted" in refused(
        "outliers", run, "--data", store, "--other", tmp_path / "s"
    )
    assert igpt("data", "prepare", made / "images", "--image-size", 8, "--validation-fraction", 0,
                "--out", tmp_path / "no-validation")[0] == 0  # fmt: skip
    assert "has no validation split" in refused(
        "outliers", run, "--data", tmp_path / "no-validation"
    )
