"""Small trainings that studies are made of: each is run once, measured once, and kept.

    trials = Trials(data=..., palette=..., out=...)
    trials.validation_loss("muon-rate-0.004-seed0", recipe)
    trials.outcome("muon-rate-0.004-seed1", recipe, measures)

    out/
    ├── runs/NAME/         an ordinary run, which a stopped process goes on with
    └── outcomes/NAME.json what was measured of it; NAME-test.json on test images

The same name with another recipe, other images or colors, or measured of others, is refused.
Recipes are raced on validation images; `Measures.held_out` is test for what was chosen so.
"""

import dataclasses
import functools
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NoReturn

import numpy as np

from igpt.claims.plan import digest as digest_of
from igpt.data.store import Records, RecordStore
from igpt.errors import ConfigError
from igpt.evaluation.features import extract_features
from igpt.evaluation.likelihood import evaluate
from igpt.evaluation.protocol import Labelled, probe_features
from igpt.evaluation.solvers import lbfgs
from igpt.files import digest, read_json, write_json
from igpt.model.config import ModelConfig
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

    held_out: Literal["validation", "test"] = "validation"
    """The split that is measured; what is to be chosen must not be measured on test images."""
    likelihood: int = 5000
    """Held-out images whose likelihood is measured."""
    learned: int = 6000
    """Training images that probes are fitted to."""
    chosen: int = 2000
    """Validation images by which a probe's layer and penalty are chosen."""
    tested: int = 3000
    """Held-out images, others than those, that the best layer's probe is tested on."""

    @property
    def passes(self) -> int:
        """Images that go through the network."""
        return self.likelihood + self.learned + self.chosen + self.tested


@dataclass(frozen=True, kw_only=True)
class Subject:
    """What an outcome is of: what was trained on what, and how it was measured."""

    recipe: str
    """The recipe's digest."""
    data: str
    """The store's identity."""
    palette: str
    """The colors' fingerprint."""
    measures: Measures


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a network came to; one that diverged has learned nothing."""

    subject: Subject
    nats_per_pixel: float
    """Of the held-out images."""
    nats_per_pixel_from_second: float
    """Leaving out each image's first pixel."""
    probe_accuracy: float
    """Of the layer best on the images to choose by, on others held out."""
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

    def subject(self, recipe: Recipe, measures: Measures) -> Subject:
        """Return what an outcome of a recipe is of."""
        return Subject(
            recipe=digest_of(self.recipe(recipe)), data=self.store.identity,
            palette=self.colors.fingerprint, measures=measures,
        )  # fmt: skip

    def is_done(self, name: str) -> bool:
        """Say whether a training has come to its end."""
        path = self.out / "runs" / name
        return self._divergence(name).is_file() or (RunFolder.is_at(path) and RunFolder(path).ended)

    def trained(self, name: str, recipe: Recipe) -> RunFolder:
        """Return a run at its end, trained as far as it is not yet.

        Raises:
            ConfigError: There is another one of this name.
            TrainingDiverged: It did, now or before.
        """
        path = self.out / "runs" / name
        if RunFolder.is_at(path):
            known = RunFolder(path).pretraining
            of = (self.store.identity, self.colors.fingerprint)
            if (known.data.sha256, known.palette) != of or not self.recipe(recipe).asks_for(
                known.recipe
            ):
                self._refuse(path)
            if self._divergence(name).is_file():
                raise TrainingDiverged(str(read_json(self._divergence(name))["message"]))
            if RunFolder(path).ended:
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

    @staticmethod
    def _refuse(path: Path) -> NoReturn:
        raise ConfigError(
            f"{path} is of another recipe, of other images or colors, or measured on others; "
            "choose another --out"
        )

    def _outcome(self, name: str, measures: Measures) -> Path:
        of_test = "-test" if measures.held_out == "test" else ""
        return self.out / "outcomes" / f"{name}{of_test}.json"

    def _divergence(self, name: str) -> Path:
        return self.out / "runs" / name / "diverged.json"

    def validation_loss(self, name: str, recipe: Recipe) -> float:
        """Return a training's last nats per pixel on validation; infinite if it diverged."""
        try:
            lines = read_metrics(self.trained(name, recipe).metrics)
        except TrainingDiverged:
            return math.inf
        return float(lines[-1].get("validation_nats_per_pixel", math.inf))

    def kept(self, name: str, recipe: Recipe, measures: Measures) -> Outcome | None:
        """Return what was measured of a training; None if nothing was yet.

        Raises:
            ConfigError: It is of another training, or was measured otherwise.
        """
        file = self._outcome(name, measures)
        if not file.is_file():
            return None
        values = unsealed(read_json(file), file, error=ConfigError)
        known = from_dict(Outcome, values, name=str(file))
        if known.subject != self.subject(recipe, measures):
            self._refuse(file)
        return known

    def outcome(self, name: str, recipe: Recipe, measures: Measures) -> Outcome:
        """Return what a training came to, trained and measured if that was not done yet.

        Raises:
            ConfigError: There is another training of this name.
        """
        if (known := self.kept(name, recipe, measures)) is not None:
            return known
        subject = self.subject(recipe, measures)
        try:
            run = self.trained(name, recipe)
            found = self._measured(run, subject, measures)
        except TrainingDiverged as error:
            found = Outcome(
                subject=subject, nats_per_pixel=math.log(self.colors.size),
                nats_per_pixel_from_second=math.log(self.colors.size),
                probe_accuracy=1 / len(self.store.class_names or "?"), probe_layer=0, seconds=0.0,
                weights=self.recipe(recipe).model.parameters, sha256="", diverged=str(error),
            )  # fmt: skip
        file = self._outcome(name, measures)
        file.parent.mkdir(parents=True, exist_ok=True)
        write_json(file, sealed(to_dict(found)))
        return found

    def _measured(self, run: RunFolder, subject: Subject, measures: Measures) -> Outcome:
        pretrained = load_folder(run.model, device=self.device)
        held_out, validation = self.store.split(measures.held_out), self.store.split("validation")
        likelihood = evaluate(pretrained, held_out, images=measures.likelihood)
        parts = [
            features(pretrained, records)
            for records in (
                self.store.split("train").sample(measures.learned),
                *chosen_and_tested(validation, held_out, measures),
            )
        ]
        fits = probe_features(lbfgs(), *parts)
        best = max(range(len(fits)), key=lambda layer: fits[layer].validation_accuracy)
        assert likelihood.nats_per_pixel_from_second is not None, "there is more than one pixel"
        return Outcome(
            subject=subject,
            nats_per_pixel=likelihood.nats_per_pixel,
            nats_per_pixel_from_second=likelihood.nats_per_pixel_from_second,
            probe_accuracy=fits[best].test_accuracy,
            probe_layer=best,
            seconds=read_metrics(run.metrics)[-1]["seconds"],
            weights=pretrained.model.config.parameters,
            sha256=digest(run.model / WEIGHTS),
        )


def chosen_and_tested(
    validation: Records, held_out: Records, measures: Measures
) -> tuple[Records, Records]:
    """Return images to choose a probe by, and others to test it on.

    Where both are of validation, they are drawn together and parted.
    """
    if measures.held_out == "test":
        return validation.sample(measures.chosen), held_out.sample(measures.tested)
    drawn = validation.sample(measures.chosen + measures.tested)
    rows = np.random.default_rng(0).permutation(len(drawn))
    part = round(len(drawn) * measures.chosen / (measures.chosen + measures.tested))
    return drawn.chosen(rows[:part]), drawn.chosen(rows[part:])


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
    """Return the operations of a training by igpt's own count, and those of Muon's updates."""
    model, training = recipe.model, recipe.training
    images = training.batch_size * training.steps
    learning = float(model.flops_per_token * model.positions * images)
    return learning + (training.steps * muon_flops(model) if training.needs_whole_matrices else 0)


def muon_flops(model: ModelConfig) -> float:
    """Return the operations of making the updates of all blocks orthogonal.

    Five rounds of Newton and Schulz for each matrix X of m by n, m the smaller side: X X', its
    square, and their product with X (Jordan et al. 2024; `torch.optim.Muon`). Adam's are not
    counted, some 20 a weight.
    """
    width = model.width
    longer = (3 * width, width, 4 * width, 4 * width)
    rounds = 5 * sum(4 * width**2 * side + 2 * width**3 for side in longer)
    return float(model.layers * rounds)


def measuring_flops(recipe: Recipe, measures: Measures) -> float:
    """Return about the operations of measuring it: a third of training on as many images."""
    model = recipe.model
    return model.flops_per_token / 3 * model.positions * measures.passes


def with_seed(recipe: Recipe, seed: int) -> Recipe:
    """Return a recipe with other first weights and another order of the images."""
    return dataclasses.replace(recipe, training=dataclasses.replace(recipe.training, seed=seed))
