"""Each seed's trained networks: pretrained, fine-tuned, and at the learning rate that is best.

They are ordinary run folders, in `runs/` of the laboratory's folder, trained when first asked for
and gone on with where they were stopped. One that diverged is not tried again: its folder says so
in `diverged.json`. What is read from them is the matter of `igpt.claims.laboratory`.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from igpt.claims.images import SeedImages, alone
from igpt.claims.networks import Finetuned
from igpt.claims.scale import SEARCH_SEED
from igpt.data.store import FOLDED, RecordStore
from igpt.errors import ConfigError, IgptError
from igpt.files import read_json, write_json
from igpt.runs.finetune import FinetuneResult, finetune
from igpt.runs.pretrain import pretrain
from igpt.runs.recipes import FinetuneConfig
from igpt.runs.resume import ensure
from igpt.runs.run import FinetuneSettings, RunFolder
from igpt.training.loop import TrainingDiverged
from igpt.training.metrics import read_metrics

_DIVERGED = "diverged.json"


class OutOfTime(IgptError):
    """The time that was given is over; everything is saved."""


@dataclass(frozen=True)
class SeedRuns(SeedImages):
    """The networks that a scale's claims are about, by name and seed."""

    device: str = "auto"
    deadline: float | None = None
    """When to stop, by `time.monotonic`; None for never."""

    def pretrained(self, network: str, seed: int) -> RunFolder:
        """Return the finished pretraining run of a network.

        Raises:
            ConfigError: There is one by another recipe in its place.
            OutOfTime: The deadline has come.
            TrainingDiverged: It did, now or before.
        """
        path = self.path / "runs" / f"{network}-seed{seed}"
        recipe = self.scale.recipe_of(network, seed)
        data = self.learned_from(network, seed)

        def start() -> RunFolder:
            return pretrain(
                recipe, name=network, data=data,
                palette=self.palette(self.scale.colors_of(network), seed), out=path,
                device=self.device, seconds=self._left(),
            )  # fmt: skip

        def asked(run: RunFolder) -> bool:
            return recipe.asks_for(run.pretraining.recipe)

        def finished(run: RunFolder) -> bool:
            if run.metrics.is_file():
                return run.ended
            # of one that was measured and sent home, no more than results may be left
            return any((path / name).is_file() for name in ("evaluation.json", "probe.json"))

        return self._trained(path, start, data, asked=asked, finished=finished)

    def finetuned(
        self,
        network: str,
        seed: int,
        name: str,
        config: FinetuneConfig | None = None,
        *,
        fold_validation: bool = False,
    ) -> Finetuned:
        """Return a finished fine-tuning run of a pretrained network.

        Args:
            network: The pretrained one.
            seed: Of both.
            name: What this fine-tuning is called.
            config: How; by default as the network's recipe has it.
            fold_validation: Learn from train and validation images together, for all of the steps.

        Raises:
            ConfigError: There is one by other settings, or of other images, in its place.
            OutOfTime: The deadline has come.
            TrainingDiverged: It did, now or before.
        """
        source = self.pretrained(network, seed)
        path = source.path.with_name(f"{source.path.name}-{name}")
        config = config or self.scale.recipe_of(network, seed).finetune
        data = self.labelled_store(seed)

        def start() -> RunFolder:
            return finetune(
                source.path, data=data, out=path, config=config, device=self.device,
                seconds=self._left(), fold_validation=fold_validation,
            )  # fmt: skip

        def asked(run: RunFolder) -> bool:
            made, split = run.settings, FOLDED if fold_validation else "train"
            given = split, source.pretraining.palette, RecordStore.open(data).identity
            return (
                isinstance(made, FinetuneSettings)
                and config.asks_for(made.config)
                and given == (made.split, made.palette, made.data.sha256)
            )

        def finished(run: RunFolder) -> bool:
            result = run.read("finetune.json", FinetuneResult)
            return result is not None and result.test_accuracy is not None

        run = self._trained(path, start, data, asked=asked, finished=finished)
        result = run.require("finetune.json", FinetuneResult)
        assert result.test_accuracy is not None
        return Finetuned(
            run=run,
            test_accuracy=result.test_accuracy,
            validation_accuracy=result.validation_accuracy,
            best_step=result.best_step,
        )

    def _trained(
        self,
        path: Path,
        start: Callable[[], RunFolder],
        data: Path,
        *,
        asked: Callable[[RunFolder], bool],
        finished: Callable[[RunFolder], bool],
    ) -> RunFolder:
        """Return a run that was asked for, trained to its end if it is not yet."""
        with alone(path):
            run = RunFolder(path)
            if path.exists() and not asked(RunFolder.open(path)):
                raise ConfigError(
                    f"{path} was made by another recipe than this igpt has for it, or of other "
                    "images; choose another --out"
                )
            if (path / _DIVERGED).is_file():
                raise TrainingDiverged(str(read_json(path / _DIVERGED)["message"]))
            if path.exists() and finished(run):
                return run
            left = self._left()
            try:
                run = ensure(path, start, data=data, device=self.device, seconds=left)
            except TrainingDiverged as error:
                write_json(path / _DIVERGED, {"message": f"{path.name}: {error}"})
                raise
            if not finished(run):
                raise OutOfTime(f"{path} is not finished; go on with the same command")
            return run

    def _left(self) -> float | None:
        """Return the seconds until the deadline; None for no end of them."""
        if self.deadline is None:
            return None
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise OutOfTime("the time is over; go on with the same command")
        return left

    def metrics(self, network: str, seed: int) -> Path:
        """Return the file with a line for each step of a network, even of one that diverged."""
        return RunFolder(self.path / "runs" / f"{network}-seed{seed}").metrics

    def seconds(self, network: str, seed: int) -> float:
        """Return how long a network's run was trained; 0 where nothing says so any more."""
        metrics = self.metrics(network, seed)
        lines = read_metrics(metrics) if metrics.is_file() else []
        return lines[-1]["seconds"] if lines else 0.0

    def at_best_rate(self, size: str) -> str:
        """Return the name of a network of `sizes` with the rate that is best on validation.

        The scale's rates are tried on a seed that counts for nothing else. One that diverges is
        worse than any other.
        """
        names = [self.scale.at_rate(size, rate) for rate in self.scale.rates] or [size]
        if len(names) == 1:
            return names[0]
        losses = {}
        for name in names:
            try:
                metrics = read_metrics(self.pretrained(name, SEARCH_SEED).metrics)
                losses[name] = metrics[-1]["validation_nats_per_pixel"]
            except TrainingDiverged:
                losses[name] = math.inf
        return min(names, key=lambda name: losses[name])
