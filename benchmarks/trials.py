"""Small trainings that studies are made of: each is run once, measured once, and kept.

    trials = Trials(data=..., palette=..., out=...)
    trials.validation_loss("muon-rate-0.004-seed0", recipe)
    trials.outcome("muon-rate-0.004-seed1", recipe, measures)

    out/
    ├── runs/NAME/         an ordinary run, which a stopped process goes on with
    └── outcomes/NAME.json what was measured of it

The same name with another recipe, or other images or colors, is refused.
"""

import dataclasses
import functools
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from igpt.data.store import Records, RecordStore
from igpt.errors import ConfigError
from igpt.evaluation.features import extract_features
from igpt.evaluation.likelihood import evaluate
from igpt.evaluation.protocol import Labelled, probe_features
from igpt.evaluation.solvers import lbfgs
from igpt.files import digest, read_json, write_json
from igpt.model.description import WEIGHTS
from igpt.model.pretrained import Pretrained, load_folder
from igpt.pixels.palette import Palette
from igpt.runs.pretrain import for_palette, pretrain
from igpt.runs.recipes import Recipe
from igpt.runs.resume import ensure
from igpt.runs.run import RunFolder
from igpt.seals import sealed, unsealed
from igpt.training.loop import TrainingDiverged
from igpt.training.metrics import read_metrics
from igpt.values import from_dict, to_dict


@dataclass(frozen=True, kw_only=True)
class Measures:
    """Of how many images a network is measured, always the same ones."""

    likelihood: int = 5000
    """Test images whose likelihood is measured."""
    learned: int = 6000
    """Training images that probes are fitted to."""
    chosen: int = 2000
    """Validation images by which a probe's layer and penalty are chosen."""
    tested: int = 5000
    """Test images that the best layer's probe is tested on."""

    @property
    def passes(self) -> int:
        """Images that go through the network."""
        return self.likelihood + self.learned + self.chosen + self.tested


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a network came to; one that diverged has learned nothing."""

    nats_per_pixel: float
    """Of the test images."""
    nats_per_pixel_from_second: float
    """Leaving out each image's first pixel."""
    probe_accuracy: float
    """Of the layer best on validation, on the test images."""
    probe_layer: int
    seconds: float
    """That the training took, on a machine that may have done other things."""
    weights: int
    sha256: str
    """Of the file with the weights; empty of one that diverged."""
    diverged: str = ""


@dataclass(frozen=True, kw_only=True)
class Trials:
    """The trainings of one study, in its folder."""

    data: Path
    palette: Path
    out: Path
    device: str = "cpu"

    @functools.cached_property
    def store(self) -> RecordStore:
        """The images."""
        return RecordStore.open(self.data)

    @functools.cached_property
    def colors(self) -> Palette:
        """What tokens stand for."""
        return Palette.load(self.palette)

    def recipe(self, recipe: Recipe) -> Recipe:
        """Return a recipe as the run has it."""
        return for_palette(recipe, self.colors)

    def is_done(self, name: str, recipe: Recipe) -> bool:
        """Say whether a training has come to its end."""
        run = RunFolder(self.out / "runs" / name)
        if self._divergence(name).is_file():
            return True
        return run.metrics.is_file() and len(read_metrics(run.metrics)) >= recipe.training.steps

    def trained(self, name: str, recipe: Recipe) -> RunFolder:
        """Return a run at its end, trained as far as it is not yet.

        Raises:
            ConfigError: There is another one of this name.
            TrainingDiverged: It did, now or before.
        """
        path = self.out / "runs" / name
        if self._divergence(name).is_file():
            raise TrainingDiverged(str(read_json(self._divergence(name))["message"]))
        if RunFolder.is_at(path):
            known = RunFolder(path).pretraining
            same = (known.recipe, known.data.sha256, known.palette)
            if same != (self.recipe(recipe), self.store.identity, self.colors.fingerprint):
                raise ConfigError(
                    f"{path} was made by another recipe, or of other images or colors; choose "
                    "another --out"
                )
            if self.is_done(name, recipe):
                return RunFolder(path)

        def start() -> RunFolder:
            return pretrain(
                recipe, data=self.data, palette=self.palette, out=path, name=name,
                device=self.device,
            )  # fmt: skip

        try:
            return ensure(path, start, data=self.data, device=self.device)
        except TrainingDiverged as error:
            write_json(self._divergence(name), {"message": str(error)})
            raise

    def _divergence(self, name: str) -> Path:
        return self.out / "runs" / name / "diverged.json"

    def validation_loss(self, name: str, recipe: Recipe) -> float:
        """Return a training's last nats per pixel on validation; infinite if it diverged."""
        try:
            lines = read_metrics(self.trained(name, recipe).metrics)
        except TrainingDiverged:
            return math.inf
        return float(lines[-1].get("validation_nats_per_pixel", math.inf))

    def kept(self, name: str) -> Outcome | None:
        """Return what was measured of a training; None if nothing was yet."""
        file = self.out / "outcomes" / f"{name}.json"
        if not file.is_file():
            return None
        return from_dict(
            Outcome, unsealed(read_json(file), file, error=ConfigError), name=str(file)
        )

    def outcome(self, name: str, recipe: Recipe, measures: Measures) -> Outcome:
        """Return what a training came to, trained and measured if that was not done yet.

        Raises:
            ConfigError: There is another training of this name.
        """
        if (known := self.kept(name)) is not None:
            return known
        try:
            run = self.trained(name, recipe)
            found = self._measured(run, measures)
        except TrainingDiverged as error:
            found = Outcome(
                nats_per_pixel=math.log(self.colors.size),
                nats_per_pixel_from_second=math.log(self.colors.size),
                probe_accuracy=1 / len(self.store.class_names or "?"), probe_layer=0, seconds=0.0,
                weights=self.recipe(recipe).model.parameters, sha256="", diverged=str(error),
            )  # fmt: skip
        file = self.out / "outcomes" / f"{name}.json"
        file.parent.mkdir(parents=True, exist_ok=True)
        write_json(file, sealed(to_dict(found)))
        return found

    def _measured(self, run: RunFolder, measures: Measures) -> Outcome:
        pretrained = load_folder(run.model, device=self.device)
        tested = self.store.split("test")
        likelihood = evaluate(pretrained, tested, images=measures.likelihood)
        counts = {"train": measures.learned, "validation": measures.chosen,
                  "test": measures.tested}  # fmt: skip
        parts = [
            features(pretrained, self.store.split(name).sample(count))
            for name, count in counts.items()
        ]
        fits = probe_features(lbfgs(), *parts)
        best = max(range(len(fits)), key=lambda layer: fits[layer].validation_accuracy)
        assert likelihood.nats_per_pixel_from_second is not None, "there is more than one pixel"
        return Outcome(
            nats_per_pixel=likelihood.nats_per_pixel,
            nats_per_pixel_from_second=likelihood.nats_per_pixel_from_second,
            probe_accuracy=fits[best].test_accuracy,
            probe_layer=best,
            seconds=read_metrics(run.metrics)[-1]["seconds"],
            weights=pretrained.model.config.parameters,
            sha256=digest(run.model / WEIGHTS),
        )


def features(pretrained: Pretrained, records: Records) -> Labelled:
    """Return every layer's features of some images, and their labels."""
    return extract_features(pretrained, records).astype(np.float32), records.require_labels()


def share_of(text: str) -> tuple[int, int]:
    """Return which of how many shares a text such as `1/2` means.

    Raises:
        ConfigError: None.
    """
    first, _, count = text.partition("/")
    share = (int(first), int(count)) if first.isdigit() and count.isdigit() else (0, 0)
    if not 1 <= share[0] <= share[1]:
        raise ConfigError(f"a share is such as 1/2 or 2/2, got {text}")
    return share


def training_flops(recipe: Recipe) -> float:
    """Return the operations of a training by igpt's own count."""
    model, training = recipe.model, recipe.training
    images = training.batch_size * training.steps
    return float(model.flops_per_token * model.positions * images)


def measuring_flops(recipe: Recipe, measures: Measures) -> float:
    """Return about the operations of measuring it: a third of training on as many images."""
    model = recipe.model
    return model.flops_per_token / 3 * model.positions * measures.passes


def with_seed(recipe: Recipe, seed: int) -> Recipe:
    """Return a recipe with other first weights and another order of the images."""
    return dataclasses.replace(recipe, training=dataclasses.replace(recipe.training, seed=seed))
