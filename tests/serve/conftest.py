from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fastapi.testclient import TestClient
from tests.conftest import TINY, random_model
from tests.report.conftest import DATA, new_run, probes
from tests.serve.serving import asking

from igpt.evaluation.probe import LayerProbes
from igpt.model.description import model_identity
from igpt.model.pretrained import Pretrained
from igpt.pixels.palette import Palette
from igpt.pixels.tokenizer import ImageTokenizer
from igpt.runs.kept import MadeFrom
from igpt.serve.limits import Limits

BERT = replace(TINY, causal=False)
SMALL = Limits(max_upload=5000, max_pixels=300, max_samples=4)


@pytest.fixture(scope="package")
def pretrained() -> Pretrained:
    palette = Palette(np.random.default_rng(0).uniform(-1, 1, (16, 3)).astype(np.float32))
    return Pretrained(model=random_model(), tokenizer=ImageTokenizer(palette, 4))


def two_folders(pretrained: Pretrained, folder: Path) -> list[Path]:
    pretrained.save(folder / "a")
    bert = Pretrained(model=random_model(BERT), tokenizer=pretrained.tokenizer)
    bert.save(folder / "bert" / "model")
    return [folder / "a", folder / "bert" / "model"]


@pytest.fixture(scope="package")
def folders(pretrained, tmp_path_factory) -> list[Path]:
    """Two models in folders of their own: an autoregressive one and a BERT."""
    return two_folders(pretrained, tmp_path_factory.mktemp("served"))


@pytest.fixture
def own_folders(pretrained, tmp_path) -> list[Path]:
    """The same for a test that changes them."""
    return two_folders(pretrained, tmp_path / "secret")


def run_with_probes(
    path: Path, pretrained: Pretrained, *, probe: LayerProbes, untrained: LayerProbes
) -> Path:
    run = new_run(path, pretrained.palette)
    pretrained.save(run.model)
    made_from = MadeFrom(model=model_identity(run.model), store=DATA.sha256, settings={})
    run.write("probe.json", probe, {"all": made_from})
    run.write("probe-untrained.json", untrained, {"all": made_from})
    return path


@pytest.fixture(scope="package")
def probed(pretrained, tmp_path_factory) -> Path:
    """A run whose layers were probed."""
    path = tmp_path_factory.mktemp("runs") / "probed"
    probe = probes(0.41, 0.5678, raw=0.3833)
    return run_with_probes(path, pretrained, probe=probe, untrained=probes(0.2, 0.21))


@pytest.fixture(scope="package")
def client(folders) -> Iterator[TestClient]:
    with asking(folders) as one:
        yield one


@pytest.fixture(scope="package")
def strict(folders) -> Iterator[TestClient]:
    with asking(folders, SMALL, names=["Box.local"]) as one:
        yield one
