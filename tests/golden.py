"""Figures that no change may move unnoticed: short trainings, and all that is measured of them.

    python -m tests.golden        # measures, and writes tests/golden.json

The command line is what measures, so that code may move under it. `tests/test_golden.py` compares.
"""

import contextlib
import io
import json
import platform
import re
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

import igpt
from igpt.cli import main
from igpt.pixels.images import read_image
from tests.conftest import write_shapes

FILE = Path(__file__).with_name("golden.json")

_MODEL = ("model.image_size=6", "model.layers=2", "model.width=16", "model.heads=2")
_TRAINING = ("steps=6", "warmup_steps=2", "batch_size=8", "learning_rate=0.003", "validate_every=3",
             "validation_images=10")  # fmt: skip
_SETTINGS = [
    f"--set={setting}"
    for setting in (
        *_MODEL, "augmentation=flip",
        *(f"training.{setting}" for setting in _TRAINING),
    )
]  # fmt: skip
_TUNING = [f"--set=training.{setting}" for setting in _TRAINING]


def machine() -> str:
    """Tell the machine whose figures are the same to the last bit."""
    cpuinfo = Path("/proc/cpuinfo")
    names = re.findall(r"model name\s*: (.*)", cpuinfo.read_text()) if cpuinfo.is_file() else []
    processor = names[0] if names else platform.processor()
    return f"{processor}, PyTorch {torch.__version__}, NumPy {np.__version__}"


def measure(folder: Path) -> dict[str, Any]:
    """Run the commands in `folder` and return the figures they gave, by name."""
    write_shapes(folder / "images", images=80)
    store, palette = folder / "store", folder / "palette.npy"
    _run("data", "prepare", folder / "images", "--image-size", 8, "--out", store,
         "--validation-fraction", 0.2, "--test-fraction", 0.2)  # fmt: skip
    _run("palette", "fit", store, "--size", 12, "--out", palette)
    new = ("--data", store, "--palette", palette)
    ar, bert = folder / "ar", folder / "bert"
    _run("pretrain", "digits-quickstart", *new, "--out", ar, *_SETTINGS)
    _run("pretrain", "digits-quickstart", *new, "--out", bert, *_SETTINGS,
         "--set=model.causal=false")  # fmt: skip
    joint, scratch = folder / "joint", folder / "scratch"
    _run("finetune", ar, "--data", store, "--out", joint, *_TUNING)
    _run("finetune", ar, "--data", store, "--out", scratch, *_TUNING, "--from-scratch",
         "--set=dropout=0.1")  # fmt: skip
    evaluation = {
        name: _figures("evaluate", run, "--data", store)["nats_per_pixel"]
        for name, run in (("ar", ar), ("bert", bert))
    }
    probe = _figures("probe", ar, "--data", store)
    ridge = _figures("probe", ar, "--data", store, "--solver", "ridge")
    _run("complete", ar, "--data", store, "--count", 2, "--samples", 2)
    _run("report", ar, bert, joint, scratch, "--out", folder / "report.html")
    return {
        "palette": np.load(palette).tolist(),
        "palette_psnr_db": json.loads(palette.with_suffix(".json").read_text())["psnr_db"],
        "losses": {run.name: _losses(run) for run in (ar, bert, joint, scratch)},
        "nats_per_pixel": evaluation,
        "probe": [
            [row["validation_accuracy"], row["test_accuracy"], row["setting"]]
            for row in probe["layers"]
        ],
        "ridge": [[row["validation_accuracy"], row["test_accuracy"]] for row in ridge["layers"]],
        "coefficients": _coefficients(ar, store),
        "completion": read_image(ar / "completions.png")[::21, ::21]
        .tobytes()
        .hex(),  # a byte a pixel
        "report": re.findall(r"<b>([\d.%]+)</b>", (folder / "report.html").read_text()),
    }


def _run(*arguments: object) -> str:
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.suppress(SystemExit):
        main([str(argument) for argument in arguments])
    return out.getvalue()


def _figures(*arguments: object) -> Any:
    return json.loads(_run(*arguments, "--json"))


def _losses(run: Path) -> list[dict[str, float]]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    kept = ("loss", "class_loss", "pixel_loss", "gradient_norm", "validation_nats_per_pixel",
            "validation_accuracy", "validation_accuracy_at_start")  # fmt: skip
    return [{name: line[name] for name in kept if name in line} for line in lines]


def _coefficients(run: Path, store: Path) -> list[float]:
    """Return the first weights of a probe on the run's last layer."""
    records = igpt.RecordStore.open(store).split("train")
    features = igpt.extract_features(igpt.load(run), records)[:, -1]
    probe = igpt.LinearProbe(1e-3).fit(features, records.require_labels())
    return probe.weight_[0].tolist()


if __name__ == "__main__":
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as room:
        figures = measure(Path(room))
    lines = (
        f"{json.dumps(name)}: {json.dumps(value)}"
        for name, value in {"machine": machine(), **figures}.items()
    )
    FILE.write_text("{\n" + ",\n".join(lines) + "\n}\n")
