"""What a type checker knows of igpt: `py.typed`, the stub of the package, and annotations."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

SOURCES = Path(__file__).parents[1] / "src"
CONFIG = """[mypy]
strict = true
[mypy-igpt.*]
follow_imports = silent
[mypy-sklearn.*]
ignore_missing_imports = true
"""
USER = """from pathlib import Path
import numpy as np
import igpt

pretrained = igpt.load("runs/a")
tokens = pretrained.tokenizer.encode(["cat.jpg", np.zeros((12, 12, 3), dtype=np.uint8)])
logits = pretrained.model(tokens)
names: list[str] = [found.class_name for found in pretrained.classify(["cat.jpg"])]
recipe: igpt.Recipe = igpt.with_settings(igpt.RECIPES["cifar10-tiny"], ["training.steps=10"])
run = igpt.pretrain(recipe, data="data", palette="palette.npy", out=Path("runs/b"))
probes = igpt.probe_run(run.path, data="data/photos")
best: int = probes.best_layer
features = igpt.ImageGPTFeatures("runs/a", layer="best").fit_transform(["cat.jpg", "dog.png"])
accuracy: float = igpt.LinearProbe(l2=1e-3).fit(features, ["cat", "dog"]).score(features, ["a"])
"""


def strictly(code, folder):
    """Return what `mypy --strict` has to say about a user's code."""
    (folder / "user.py").write_text(code)
    (folder / "mypy.ini").write_text(CONFIG)
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "user.py"],
        cwd=folder, capture_output=True, text=True, timeout=250,
        env={**os.environ, "MYPYPATH": str(SOURCES)},
    )  # fmt: skip
    assert not done.stderr, done.stderr
    return done.stdout


@pytest.mark.slow
def test_mypy_strict_has_nothing_against_a_user_s_code_and_knows_the_types(tmp_path):
    assert strictly(USER, tmp_path).startswith("Success")
    wrong = strictly(USER + 'probes.best_layr\nigpt.pretrain("cifar10")\nbest = probes\n', tmp_path)
    assert wrong.count("error:") >= 3
    assert 'has no attribute "best_layr"' in wrong


def test_the_package_says_that_it_is_typed():
    assert (SOURCES / "igpt" / "py.typed").is_file()
