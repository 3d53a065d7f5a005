import errno
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from igpt.errors import CheckpointError, ConfigError, DataError
from igpt.files import write_json
from igpt.pixels.images import write_png
from igpt.report.page import write_report
from igpt.runs.recipes import RECIPES, with_settings
from igpt.values import to_dict

RECIPE = with_settings(RECIPES["digits-quickstart"], ["training.steps=900"])
DATA = {"path": "data/digits", "sha256": "57a79cc51254a403"}


PROVENANCE = {
    "igpt": "0.1.0", "commit": "66904fb", "command": "igpt pretrain digits --out a",
    "started": "2026-11-26T10:00:00+0000", "python": "3.11.7", "libraries": {"torch": "2"},
    "system": "Linux", "processor": "AMD", "cores": 2, "threads": 2, "device": "cpu",
}  # fmt: skip


def write_run(path: Path, palette, *, steps: int = 900, **settings) -> Path:
    """Write a pretraining run that has trained so far, and measured nothing."""
    values = {
        "format": 2, "kind": "pretrain", "name": "digits", "recipe": to_dict(RECIPE),
        "data": DATA, "split": "train", "filter": "box", "palette": palette.fingerprint,
    }  # fmt: skip
    values["recipe"] |= {
        name: settings.pop(name) for name in ("model", "description") if name in settings
    }
    write_json(path / "recipe.json", {**values, **settings})
    write_json(path / "provenance.json", PROVENANCE)
    palette.save(path / "palette.npy")
    lines = [
        {"step": step, "loss": 2 - step / 1000, "tokens_per_second": 1234.0, "seconds": step / 9}
        for step in range(steps)
    ]
    if lines:
        lines[-1]["validation_nats_per_pixel"] = 1.1
    write_metrics(path, lines)
    return path


def write_finetuned(path: Path, palette) -> Path:
    values = to_dict(RECIPE)
    write_json(
        path / "recipe.json",
        {
            "format": 2, "kind": "finetune", "source": "runs/a", "config": values["finetune"],
            "model": values["model"], "mask_probability": 0.15, "data": DATA, "split": "train",
            "measure_test": True, "palette": palette.fingerprint,
        },
    )  # fmt: skip
    palette.save(path / "palette.npy")
    write_metrics(
        path,
        [
            {"step": step, "loss": 3.0, "class_loss": 2.3, "validation_accuracy": 0.5 + step / 99}
            for step in range(10)
        ],
    )
    write_json(
        path / "finetune.json",
        {
            "test_accuracy": 0.8127, "validation_accuracy": 0.591, "best_step": 10, "steps": 10,
            "pixel_coefficient": 1.0, "layer": 4, "seconds": 17.5,
        },
    )  # fmt: skip
    return path


def write_metrics(path: Path, lines) -> None:
    (path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def probe(*accuracies: float, raw: float | None = 0.3833) -> dict:
    rows = [
        {
            "layer": layer, "validation_accuracy": accuracy - 0.01, "test_accuracy": accuracy,
            "setting": 1e-3, "converged": True, "gradient_norm": 1e-6,
        }
        for layer, accuracy in enumerate(accuracies)
    ]  # fmt: skip
    best = accuracies.index(max(accuracies))
    return {
        "solver": "lbfgs",
        "raw_pixels": None
        if raw is None
        else {
            "setting": 1e-3,
            "validation_accuracy": 0.3,
            "test_accuracy": raw,
        },
        "best_layer": best,
        "test_accuracy": accuracies[best],
        "layers": rows,
        "records": {"test": 1440},
    }


@pytest.fixture
def run(tmp_path, tiny_palette) -> Path:
    return write_run(tmp_path / "a", tiny_palette)


@pytest.fixture
def full_run(run) -> Path:
    """The run with everything that can be known of it."""
    likelihood = {
        "objective": "autoregressive", "images": 1440, "nats_per_pixel": 0.7476,
        "bits_per_pixel": 1.0786, "nats_per_pixel_from_second": None,
    }  # fmt: skip
    write_json(run / "evaluation.json", {"splits": {"test": likelihood}})
    write_json(run / "probe.json", probe(0.41, 0.5678, 0.52))
    write_json(run / "probe-untrained.json", probe(0.2, 0.21, 0.2233, raw=None))
    for name in ("completions", "palette", "samples/step-000300", "samples/step-000600"):
        write_png(run / f"{name}.png", np.zeros((8, 8, 3), np.uint8))
    return run


def other_probe(correlation: float | None) -> dict:
    rows = [
        {"layer": layer, "validation_accuracy": 0.4, "test_accuracy": 0.4321, "setting": 0.001}
        for layer in range(3)
    ]
    return {
        "solver": "ridge", "best_layer": 2, "test_accuracy": 0.4321, "layers": rows,
        "rank_correlation": correlation, "records": {"test": 1440},
    }  # fmt: skip


ROW = {"accuracies": [], "penalties": [], "converged": True}
FEW_LABELS = {
    "layer": 3, "subsets": 5, "test_images": 1440, "layer_chosen": "given", "seed": 0,
    "finetune_steps": 0,
    "rows": [
        {"labels_per_class": 4, "mean": 0.3141, "standard_deviation": 0.0272, **ROW},
        {
            "labels_per_class": 2500, "mean": 0.55, "standard_deviation": None, **ROW,
            "fine_tuned": {"mean": 0.4219, "standard_deviation": None, "accuracies": []},
        },
    ],
}  # fmt: skip
MASKS = {
    "layer": 2, "penalty": 1e-4, "masks": 5, "modal": 0.6161, "single_mean": 0.5959,
    "unmasked": 0.6262, "seed": 0, "single": [],
}  # fmt: skip
SPREAD = {"images": 1234, "nats_per_pixel": 2.3456, "standard_deviation": 0.4567}
OUTLIERS = {
    "seed": 0, "typical_nats_per_pixel": 2.3211, "validation_images": 432, "own": SPREAD,
    "foreign": [
        {"name": "noise", **SPREAD, "auroc_loss": 0.987, "auroc_typicality": 0.976},
        {"name": "flat", **SPREAD, "auroc_loss": 0.004, "auroc_typicality": 0.965},
    ],
}  # fmt: skip


@pytest.fixture
def fuller_run(full_run) -> Path:
    """The run with everything that the quickstart does not measure, too."""
    write_json(full_run / "probe-ridge.json", other_probe(0.7153))
    write_json(full_run / "probe-neighbors.json", other_probe(None))
    write_json(full_run / "probe-sgd.json", other_probe(-1.0))
    write_json(full_run / "few-labels.json", FEW_LABELS)
    write_json(full_run / "masks.json", MASKS)
    write_json(full_run / "outliers.json", OUTLIERS)
    for name in ("surprise", "outliers", "extremes"):
        write_png(full_run / f"{name}.png", np.zeros((8, 8, 3), np.uint8))
    return full_run


@pytest.fixture
def full_page(full_run, tmp_path, tiny_palette) -> str:
    return page_of(full_run, write_finetuned(tmp_path / "tuned", tiny_palette))


def page_of(*runs: Path) -> str:
    out = runs[0].parent / "report.html"
    write_report(runs, out)
    return out.read_text()


def sections(page: str) -> list[str]:
    return re.findall(r'<section id="(\w+)"', page)


def test_what_goes_beyond_the_quickstart_is_told_too(fuller_run, tmp_path, tiny_palette):
    page = page_of(fuller_run, write_finetuned(tmp_path / "tuned", tiny_palette))
    for figure in (
        "ridge regression", "nearest neighbors", "SGD", "43.2%", "0.72", "-1.00", "0.001",
        "31.4%", "2.7%", "2,500", "42.2%", "61.6%", "59.6%", "62.6%", "1e-04",
        "1,234", "2.3456", "0.4567", "2.3211", "432 validation images", "98.7%", "0.4%", "96.5%",
        "images: flat.", "log 8 = 2.08",
    ):  # fmt: skip
        assert figure in page
    assert page.count("data:image/png;base64,") == 4 + 1 + 3  # with the palette's swatches
    assert sections(page) == [
        "runs", "palette", "loss", "likelihood", "probe", "features", "completions", "finetuning",
        "provenance",
    ]  # fmt: skip
    check_tags(page)
    assert page == page_of(fuller_run, tmp_path / "tuned")


def test_a_surprise_map_alone_has_its_section(run):
    write_png(run / "surprise.png", np.zeros((8, 8, 3), np.uint8))
    page = page_of(run)
    assert sections(page) == ["runs", "palette", "loss", "likelihood", "missing", "provenance"]
    assert "AUROC" not in page


def test_the_page_loads_nothing(full_page):
    addresses = re.findall(r"""(?:src|href|srcset|data)\s*=\s*["']([^"']*)""", full_page)
    assert len(addresses) > 5
    assert all(address.startswith(("data:image/png;base64,", "#")) for address in addresses)
    assert all(address.startswith("#") for address in re.findall(r"url\(([^)]*)", full_page))
    assert not re.search(r"<(script|link|iframe|object)|@import", full_page)


def test_every_tag_is_closed(full_page):
    check_tags(full_page)


def check_tags(page):
    open_tags = []

    class Checker(HTMLParser):
        def handle_starttag(self, tag, attrs):
            if tag not in ("meta", "img", "br"):
                open_tags.append(tag)

        def handle_endtag(self, tag):
            assert open_tags.pop() == tag

    Checker().feed(page)
    assert open_tags == []


def test_the_figures_of_all_results_are_told(full_page):
    for figure in (
        "56.8%", "38.3%", "22.3%", "81.3%", "0.7476", "1.0786", "1,440", "458,688", "1,234",
        "igpt pretrain digits --out a", "66904fb", "torch 2", "57a79cc51254a403", "log 8 = 2.08",
    ):  # fmt: skip
        assert figure in full_page
    assert sections(full_page) == [
        "runs", "palette", "loss", "probe", "completions", "finetuning", "provenance",
    ]  # fmt: skip


def test_what_is_not_measured_has_no_section_but_a_command(run):
    page = page_of(run)
    assert sections(page) == ["runs", "palette", "loss", "missing", "provenance"]
    for command in ("evaluate", "probe", "complete", "finetune"):
        assert f"igpt {command} {run}" in page


def test_a_run_that_has_only_begun_is_told_of(tmp_path, tiny_palette):
    run = write_run(tmp_path / "a", tiny_palette, steps=0)
    (run / "provenance.json").unlink()
    (run / "palette.npy").unlink()
    page = page_of(run)
    assert sections(page) == ["runs", "missing", "provenance"]
    assert f"igpt resume {run}" in page
    assert "not finished" in page


def test_the_best_layer_is_the_one_of_validation(run):
    write_json(run / "probe.json", {**probe(0.9, 0.8), "best_layer": 1, "test_accuracy": 0.8})
    page = page_of(run)
    assert "<b>80.0%</b><span>pretrained features" in page
    assert re.search(r'<tr class="best"><th scope="row">1</th>', page)


def test_a_fit_that_did_not_converge_is_said(run):
    probed = probe(0.4, 0.5)
    write_json(run / "probe.json", probed)
    assert "did not converge" not in page_of(run)
    probed["layers"][0]["converged"] = False
    write_json(run / "probe.json", probed)
    assert "the fit on layer 0 did not converge" in page_of(run)


def test_what_a_run_says_is_escaped(tmp_path, tiny_palette):
    words = "<b>bold</b> & $x$ </pre><script>alert(1)</script>"
    run = write_run(tmp_path / "<i>", tiny_palette, name=words, description=words)
    write_json(
        run / "provenance.json", {**PROVENANCE, "command": words, "libraries": {words: words}}
    )
    foreign = [{**row, "name": words} for row in OUTLIERS["foreign"]]
    write_json(run / "outliers.json", {**OUTLIERS, "foreign": foreign})
    page = page_of(run)
    assert "<script" not in page
    assert "<b>bold" not in page
    assert "<i>" not in page
    assert page.count("&lt;b&gt;bold&lt;/b&gt;") >= 6


def test_two_runs_of_one_name_are_told_apart(tmp_path, tiny_palette):
    runs = [write_run(tmp_path / folder / "a", tiny_palette) for folder in ("one", "two")]
    out = tmp_path / "report.html"
    write_report(runs, out)
    titles = re.findall(r"<h3>(?:<span.*?</i>)?(.*?)(?:</span>)?</h3>", out.read_text())
    assert titles == 2 * [str(run) for run in runs]


def test_a_run_given_twice_is_told_of_once(run):
    assert page_of(run, run.parent / "b" / ".." / "a") == page_of(run)


def test_every_run_has_a_color_of_its_own_in_all_plots(tmp_path, tiny_palette):
    runs = [write_run(tmp_path / f"run-{number}", tiny_palette, steps=3) for number in range(12)]
    page = page_of(*runs)
    colors = re.findall(r'class="card" style="border-top-color: (#\w+)', page)
    assert len(set(colors)) == 12
    assert all(f"stroke: {color}" in page for color in colors)


def test_the_newest_samples_are_the_last_in_number_not_in_spelling(run):
    for step in (5, 999_999, 1_000_000):
        write_png(run / "samples" / f"step-{step:06}.png", np.full((4, 4, 3), 9, np.uint8))
    page = page_of(run)
    assert "at step 1,000,000" in page
    assert re.findall(r"<figcaption>step ([\d,]+)<", page) == ["5", "999,999", "1,000,000"]


def test_the_same_runs_make_the_same_page(full_run):
    assert page_of(full_run) == page_of(full_run)


def test_a_bert_run_promises_no_completions(tmp_path, tiny_palette):
    model = {**to_dict(RECIPE)["model"], "causal": False}
    page = page_of(write_run(tmp_path / "a", tiny_palette, model=model))
    assert "BERT: 15% hidden pixels" in page
    assert "igpt complete" not in page


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("probe.json", '{"raw_pix'),
        ("probe.json", '{"best_layer": 1, "test_accuracy": 0.5, "layers": [{"layer": 1}]}'),
        ("probe.json", '{"best_layer": 1, "test_accuracy": 0.5}'),
        ("probe-untrained.json", "[]"),
        ("evaluation.json", '{"test": {"nats_per_pixel": 1}}'),
        ("evaluation.json", '{"test": 3}'),
        ("probe-ridge.json", '{"best_layer": 1, "test_accuracy": 0.5, "layers": [{"layer": 1}]}'),
        ("probe-sgd.json", json.dumps({**other_probe(None), "rank_correlation": "high"})),
        ("few-labels.json", json.dumps({**FEW_LABELS, "rows": [{"labels_per_class": 4}]})),
        (
            "few-labels.json",
            json.dumps({**FEW_LABELS, "rows": [{**FEW_LABELS["rows"][0], "fine_tuned": "so"}]}),
        ),
        ("masks.json", '{"layer": 1}'),
        ("outliers.json", "[]"),
        ("outliers.json", json.dumps({**OUTLIERS, "own": None})),
        ("outliers.json", json.dumps({**OUTLIERS, "foreign": [SPREAD]})),
        ("outliers.json", json.dumps({**OUTLIERS, "foreign": 3})),
        ("finetune.json", '{"test_accuracy": "high"}'),
        ("provenance.json", "3"),
        ("recipe.json", "{}"),
        ("recipe.json", '{"format": 2, "kind": "pretrain", "data": {}}'),
        ("metrics.jsonl", '{"step": "one"}\n'),
    ],
)
def test_a_damaged_file_is_one_line_that_names_it(run, name, text):
    (run / name).write_text(text)
    with pytest.raises(CheckpointError, match=re.escape(str(run))) as caught:
        page_of(run)
    assert "\n" not in str(caught.value)
    assert name.partition(".")[0] in str(caught.value)
    assert not (run.parent / "report.html").exists()


def test_bytes_that_are_no_text_are_one_line(run):
    (run / "probe.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(CheckpointError, match=r"probe\.json is damaged"):
        page_of(run)


def test_a_damaged_picture_is_one_line(run):
    for name in ("completions", "surprise"):
        (run / f"{name}.png").write_bytes(b"\x89PNG")
        with pytest.raises(DataError, match=rf"{name}\.png"):
            page_of(run)
        (run / f"{name}.png").unlink()


def test_a_folder_that_is_no_run_is_refused_and_nothing_written(tmp_path, run):
    (tmp_path / "empty").mkdir()
    with pytest.raises(CheckpointError, match=r"empty holds no run"):
        write_report([run, tmp_path / "empty"], tmp_path / "report.html")
    assert not (tmp_path / "report.html").exists()


def test_no_runs_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="at least one run"):
        write_report([], tmp_path / "report.html")


def test_a_folder_is_not_replaced_by_a_page(run):
    with pytest.raises(ConfigError, match=r"try .*report\.html"):
        write_report([run], run)
    assert (run / "recipe.json").is_file()


def test_a_full_disk_leaves_nothing(tmp_path, run, monkeypatch):
    def full(self, *_, **__):
        self.open("wb").close()
        raise OSError(errno.ENOSPC, "No space left on device")

    before = sorted(tmp_path.rglob("*"))
    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(DataError, match=r"could not write .*report\.html: No space left"):
        write_report([run], tmp_path / "report.html")
    assert sorted(tmp_path.rglob("*")) == before
