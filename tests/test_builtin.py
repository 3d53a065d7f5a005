"""The model that comes with igpt: at hand without a name, a network or images of one's own."""

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest

import igpt
from igpt.cli import main
from igpt.data.config import StoreConfig
from igpt.data.store import Records
from igpt.evaluation.likelihood import evaluate
from igpt.pixels.images import write_png
from igpt.pixels.opening import readable_endings
from igpt.places import BUILTIN, is_picture, located
from igpt.runs.kept import read_kept
from igpt.runs.measure import Evaluation, evaluate_run

FOLDER = located(Path(BUILTIN))
CIFAR10 = Path(__file__).parents[2] / "shared" / "data" / "cifar10"


@pytest.fixture
def command(tmp_path, monkeypatch, capsys):
    """Run a command in an empty folder, and return its exit code, output and complaints."""
    monkeypatch.chdir(tmp_path)

    def run(line):
        with pytest.raises(SystemExit) as stop:
            main(line.split())
        printed = capsys.readouterr()
        return stop.value.code, printed.out, printed.err

    return run


def slopes(images=16, size=12):
    """Return images that need no file: colors that change evenly from corner to corner."""
    rows, columns = np.mgrid[:size, :size] / (size - 1)
    phases = np.linspace(0, 1, images)[:, None, None]
    channels = [(rows + phases) % 1, (columns + 2 * phases) % 1, (rows * columns + phases) % 1]
    return (255 * np.stack(channels, axis=-1)).round().astype(np.uint8)


def kept_figures():
    return read_kept(FOLDER / "evaluation.json", Evaluation)[0].splits["test"]


def test_its_name_stands_for_it_where_nothing_else_is_called_so(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shipped = igpt.load("builtin")
    assert len(shipped.classifier().class_names) == 10
    assert igpt.verify("builtin").whole
    shutil.copytree(FOLDER, "builtin")
    shutil.rmtree("builtin/probe")
    assert igpt.load("builtin").kept_probe() is None  # the folder here goes before it


def test_it_is_small_enough_to_be_shipped():
    assert sum(file.stat().st_size for file in FOLDER.rglob("*")) <= 16 * 2**20


def test_it_predicts_images_that_need_no_file_as_it_did_when_it_was_made():
    pretrained = igpt.load("builtin")
    size = pretrained.model.config.image_size
    records = Records(name="test", images=slopes(size=size), labels=None, class_names=None)
    assert evaluate(pretrained, records).nats_per_pixel == pytest.approx(2.02009, rel=1e-4)


def test_its_card_has_the_figures_that_are_kept():
    card, figures = (FOLDER / "README.md").read_text(), kept_figures()
    probe = igpt.load("builtin").kept_probe()
    assert f"{figures.nats_per_pixel:.4f} nats, {figures.bits_per_pixel:.4f} bits" in card
    assert (
        f"{100 * probe.test_accuracy:.2f} %, {probe.test_right:,} of {probe.test_images:,}" in card
    )
    assert figures.bits_per_pixel == pytest.approx(figures.nats_per_pixel / math.log(2))


def test_its_card_has_the_words_that_the_next_one_will_have():
    template = (Path(__file__).parents[1] / "scripts" / "builtin-card.md").read_text()
    fixed = {line for line in template.splitlines() if "{" not in line}
    assert fixed <= {*(FOLDER / "README.md").read_text().splitlines()}


@pytest.mark.slow
@pytest.mark.skipif(not CIFAR10.is_dir(), reason="CIFAR-10 is not there")
def test_its_card_s_loss_comes_out_again(tmp_path):
    all_test_images = StoreConfig(image_size=32, limit=10_000)
    igpt.prepare_store(str(CIFAR10), tmp_path / "data", all_test_images)
    again = evaluate_run(BUILTIN, data=tmp_path / "data", device="cpu")
    assert again.images == kept_figures().images == 10_000
    assert again.nats_per_pixel == pytest.approx(kept_figures().nats_per_pixel, abs=1e-5)


@pytest.mark.filterwarnings("default:no RUN is named")
def test_commands_without_a_run_are_by_it_and_say_so(command, tmp_path):
    write_png(tmp_path / "photo.png", slopes(1, size=24)[0])
    for line, printed in (
        ("complete photo.png --samples 2", "completions/completions.png: given | 2 completions"),
        ("sample --samples 2", "samples.png: 2 samples"),
        ("classify photo.png photo.png", "10 classes; test accuracy"),
        ("features photo.png --layer 1 --out f.npz", "f.npz: 1 files; layers 1, 128 numbers each"),
        ("surprise photo.png --json", '"photo.png": '),
    ):
        code, out, err = command(line)
        assert code == 0, err
        assert printed in out
        assert err.splitlines()[-1].startswith("igpt: note: no RUN is named, so this is by builtin")
    assert json.loads(out)["photo.png"] > 0


@pytest.mark.filterwarnings("default:no RUN is named")
def test_a_run_that_is_misspelled_is_not_taken_for_a_picture(command, tmp_path):
    (tmp_path / "photos" / "run.png").mkdir(parents=True)
    write_png(tmp_path / "photos" / "photo.png", slopes(1)[0])
    for line, message in (
        ("complete photos/rnu photos/photo.png", "there is no photos/rnu"),
        ("complete rnu photos/photo.png", "rnu holds no model"),
        ("complete photos/run.png photos/photo.png", "photos/run.png holds no model"),
        ("complete photos", "another model, such as builtin, which comes with igpt"),
        ("classify photoss.png", "photoss.png"),
        ("complete", "give either IMAGES or --data"),
    ):
        code, out, err = command(line)
        assert (code, out) == (2, "")
        assert message in err.splitlines()[-1]
    assert {path.name for path in tmp_path.iterdir()} == {"photos"}


def test_what_is_taken_for_a_picture_can_be_read():
    taken = {ending for ending in readable_endings() if is_picture(Path(f"photo{ending}"))}
    assert {".jpg", ".jpeg", ".png", ".heic", ".webp"} <= taken
    assert not any(map(is_picture, map(Path, ("runs/a", "model.ckpt-7", "palette.npy", "jpg"))))
