"""What the claims of one scale share: data, palettes, trained networks and what is read from them.

Everything is made when first asked for and kept in the laboratory's folder, so that two claims
never train the same network, and a stopped reproduction goes on where it was:

    claims/tiny/
    ├── laboratory.json   scale, settings and data it is for
    ├── data/seed-0 ...   each seed's images: digits placed anew, or given ones held out anew
    ├── palettes/         8-greys-seed0.npy ...
    ├── measures/         of what is no run
    ├── runs/             base-seed0, bert-seed0, base-seed0-joint ...: ordinary run folders
    └── depth.json ...    the plans and results, by igpt.claims.reproduce

A run that diverged is not tried again: its folder says so in `diverged.json`.
"""

import dataclasses
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from igpt.claims.images import SeedImages, alone
from igpt.claims.networks import Finetuned, Network
from igpt.claims.scale import OTHER_CLASSES, SEARCH_SEED, Scale
from igpt.data.store import RecordStore
from igpt.errors import ConfigError, DataError, IgptError
from igpt.evaluation.few_labels import FewLabelsResult
from igpt.evaluation.masks import MasksResult
from igpt.evaluation.probe import LayerProbes
from igpt.files import read_json, write_json
from igpt.runs.along import Along, along_run
from igpt.runs.finetune import FinetuneResult, finetune
from igpt.runs.measure import evaluate_run, few_labels_run, masks_run, probe_run
from igpt.runs.pretrain import pretrain
from igpt.runs.recipes import FinetuneConfig
from igpt.runs.resume import ensure
from igpt.runs.run import DataIdentity, RunFolder
from igpt.training.loop import TrainingDiverged
from igpt.training.metrics import read_metrics
from igpt.values import from_dict, to_dict

_DIVERGED = "diverged.json"

Value = TypeVar("Value")


class OutOfTime(IgptError):
    """The time that was given is over; everything is saved."""


@dataclasses.dataclass(frozen=True)
class Laboratory(SeedImages):
    """A scale, its data and its folder."""

    device: str = "auto"
    deadline: float | None = None
    """When to stop, by `time.monotonic`; None for never."""

    @classmethod
    def open(
        cls,
        path: Path,
        scale: Scale,
        *,
        data: Path | None = None,
        labelled: Path | None = None,
        device: str = "auto",
        deadline: float | None = None,
    ) -> "Laboratory":
        """Return the laboratory in `path`, set up if it is not there yet.

        Args:
            path: Its folder.
            scale: Size of everything.
            data: Record store to learn from; the digits, if the scale has them, by default.
            labelled: Record store with labels; `data` by default.
            device: `cpu`, `cuda` ...; `auto` for the first GPU, or else the CPU.
            deadline: When to stop, resumable, by `time.monotonic`; None for never.

        Raises:
            ConfigError: The folder is another laboratory's.
            DataError: The scale wants data, or it is missing or has no labels.
        """
        if data is None:
            if scale.digits is None:
                raise DataError(
                    f"the scale {scale.name!r} is for {scale.description.partition(';')[0]}; give "
                    "a record store with --data (igpt data prepare makes one)"
                )
            scale = dataclasses.replace(scale, palette=scale.digits)
        else:
            scale = dataclasses.replace(scale, plateau=None)
        scale = dataclasses.replace(scale, other_source=labelled is not None)
        given = {"scale": scale.name, "settings": list(scale.settings)}
        for name, store in (("data", data), ("labelled", labelled or data)):
            if store is None:
                given[name] = "digits"
                continue
            opened = RecordStore.open(store)
            for split in ("train", "validation", "test"):
                records = opened.split(split)
                if name == "labelled":
                    records.require_labels()
            given[name] = DataIdentity.of(opened, store).sha256
        file = path / "laboratory.json"
        if not file.is_file():
            write_json(file, given)
        known = read_json(file)
        other = [name for name in given if known.get(name) != given[name]]
        if other:
            raise ConfigError(
                f"{path} holds reproductions with other {other[0]} than these; choose another --out"
            )
        return cls(
            path=path, scale=scale, data=data, labelled=labelled, device=device, deadline=deadline
        )

    @property
    def identities(self) -> dict[str, str]:
        """What tells its data, and that with labels, from others."""
        known = read_json(self.path / "laboratory.json")
        return {name: known[name] for name in ("data", "labelled")}

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

        def finished(run: RunFolder) -> bool:
            # of one that was measured and sent home, no more than results may be left
            if any((path / name).is_file() for name in ("evaluation.json", "probe.json")):
                return True
            return run.ended

        with alone(path):
            if path.exists() and not recipe.asks_for(RunFolder.open(path).pretraining.recipe):
                raise ConfigError(
                    f"{path} was made by another recipe than this igpt has for it; choose "
                    "another --out"
                )
            return self._trained(path, start, finished, data)

    def _trained(
        self,
        path: Path,
        start: Callable[[], RunFolder],
        finished: Callable[[RunFolder], bool],
        data: Path,
    ) -> RunFolder:
        """Return a run, trained to its end if it is not yet."""
        run = RunFolder(path)
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

    def network(self, name: str, seed: int) -> Network:
        """Return what most claims compare networks by; one that diverged has learned nothing."""
        recipe = self.scale.recipe_of(name, seed)
        shape = {"weights": recipe.model.parameters, "learning_rate": recipe.training.learning_rate}
        try:
            probe = self.probe(name, seed)
            loss = self.loss(name, seed)
        except TrainingDiverged as error:
            classes = RecordStore.open(self.labelled_store(seed)).class_names or ()
            return Network(
                **shape, nats_per_pixel=math.log(recipe.model.colors),
                test_accuracy=1 / len(classes), under_plateau=None, edge=False, diverged=str(error),
            )  # fmt: skip
        return Network(
            **shape,
            nats_per_pixel=loss,
            test_accuracy=probe.test_accuracy,
            under_plateau=self.under_plateau(name, seed),
            edge=bool(probe.best.at_edge),
        )

    def under_plateau(self, network: str, seed: int) -> float | None:
        """Return how far a network's loss is below the plateau; None where there is none to see."""
        recipe = self.scale.recipe_of(network)
        same = recipe.model.image_size == self.scale.recipe_of("base").model.image_size
        if self.scale.plateau is None or not recipe.model.causal or not same:
            return None
        return self.scale.plateau - self.loss(network, seed)

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
            ConfigError: There is one by other settings in its place.
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

        def finished(run: RunFolder) -> bool:
            result = run.read("finetune.json", FinetuneResult)
            return result is not None and result.test_accuracy is not None

        with alone(path):
            run = self._trained(path, start, finished, data)
        result = run.require("finetune.json", FinetuneResult)
        assert result.test_accuracy is not None
        return Finetuned(
            run=run,
            test_accuracy=result.test_accuracy,
            validation_accuracy=result.validation_accuracy,
            best_step=result.best_step,
        )

    def kept(self, name: str, kind: type[Value], make: Callable[[], Value]) -> Value:
        """Return a measure that is no run's, from `measures/NAME.json` if it was made before."""
        file = self.path / "measures" / f"{name}.json"
        with alone(file):
            if not file.is_file():
                write_json(file, to_dict(make()))
        return from_dict(kind, read_json(file), name=str(file))

    def untrained(self, network: str, seed: int) -> LayerProbes:
        """Return the probes of the same network with fresh weights, on the images of `probe`."""
        return self._probed(network, seed, untrained=True)

    def probe(self, network: str, seed: int) -> LayerProbes:
        """Return the probes of a network's every layer.

        Of the base, of several together and of raw pixels too; of the network that learned from
        half of the classes, on the other half.
        """
        layers = self.scale.recipe_of(network).model.layers + 1
        base, other = network == "base", network == OTHER_CLASSES
        return self._probed(
            network,
            seed,
            concatenate=min(self.scale.concatenate, layers) if base else 1,
            raw=base or other,
        )

    def _probed(
        self,
        network: str,
        seed: int,
        *,
        untrained: bool = False,
        concatenate: int = 1,
        raw: bool = False,
    ) -> LayerProbes:
        """Return probes of a network's every layer, by the solver that the images call for."""
        run, data = self.pretrained(network, seed), self.probed_on(network, seed)
        many = RecordStore.open(data).splits["train"].records > self.scale.lbfgs_images
        kind = f"{'untrained-' * untrained}seed{seed}"
        return probe_run(
            run.path,
            data=data,
            untrained=untrained,
            concatenate=concatenate,
            raw=raw,
            solver="sgd" if many else "lbfgs",
            sgd=self.scale.sgd,
            folder=self.path / "features" / run.path.name / kind if many else None,
            device=self.device,
            seed=seed if untrained else 0,
            reuse=True,
        )

    def loss(self, network: str, seed: int) -> float:
        """Return the nats per pixel of a network on the test images."""
        path, data = self.pretrained(network, seed).path, self.learned_from(network, seed)
        return evaluate_run(path, data=data, device=self.device, reuse=True).nats_per_pixel

    def along(self, network: str, seed: int) -> Along:
        """Return the loss and the probes of a network, snapshot by snapshot."""
        self.probe(network, seed)  # of its end, as the other claims have it
        run = self.pretrained(network, seed)
        known = run.read("along.json", Along)
        steps = self.scale.recipe_of(network).snapshot_steps
        if known is not None and len(known.snapshots) > len(steps):  # all of them, and the end
            return known
        path = run.path
        return along_run(
            path, data=self.labelled_store(seed), held_out=self.store(seed), device=self.device
        )

    def masks(self, run: RunFolder, seed: int) -> MasksResult:
        """Return the accuracies under masks of a BERT run, pretrained and probed or fine-tuned."""
        return masks_run(
            run.path, data=self.labelled_store(seed), seed=seed, device=self.device, reuse=True
        )

    def few_labels(self, seed: int) -> FewLabelsResult:
        """Return what the base network makes of a handful of labels."""
        probed = self.probe("base", seed)  # which decides the layer
        return few_labels_run(
            self.pretrained("base", seed).path,
            data=self.labelled_store(seed),
            layer=None if probed.solver == "lbfgs" else probed.best_layer,
            labels_per_class=self.scale.labels_per_class,
            subsets=self.scale.subsets,
            finetune_steps=self.scale.few_label_steps,
            seed=seed,
            device=self.device,
            reuse=True,
        )
