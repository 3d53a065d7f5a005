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
"""

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from igpt.claims.images import alone
from igpt.claims.networks import Network
from igpt.claims.scale import OTHER_CLASSES, Scale
from igpt.claims.trained import SeedRuns
from igpt.data.store import RecordStore
from igpt.errors import ConfigError, DataError
from igpt.evaluation.few_labels import FewLabelsResult
from igpt.evaluation.masks import MasksResult
from igpt.evaluation.probe import LayerProbes
from igpt.files import read_json, write_json
from igpt.runs.along import Along, along_run
from igpt.runs.measure import evaluate_run, few_labels_run, masks_run, probe_run
from igpt.runs.run import DataIdentity, RunFolder
from igpt.training.loop import TrainingDiverged
from igpt.values import from_dict, to_dict

Value = TypeVar("Value")


@dataclasses.dataclass(frozen=True)
class Laboratory(SeedRuns):
    """A scale, its data and its folder."""

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
        many = self._many(data)
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

    def _many(self, data: Path) -> bool:
        """Return whether labelled images are more than L-BFGS is for."""
        return RecordStore.open(data).splits["train"].records > self.scale.lbfgs_images

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
        data = self.labelled_store(seed)
        many = self._many(data)
        return along_run(
            run.path,
            data=data,
            held_out=self.store(seed),
            solver="sgd" if many else "lbfgs",
            sgd=self.scale.sgd,
            folder=self.path / "features" / run.path.name / "along" if many else None,
            device=self.device,
        )

    def require_few_images(self, seed: int) -> None:
        """See that probes under masks can be fitted, which only L-BFGS does.

        Raises:
            DataError: There are more labelled images than that is for.
        """
        data = self.labelled_store(seed)
        if self._many(data):
            raise DataError(
                f"{data} has more than the {self.scale.lbfgs_images:,} labelled training images "
                "that probes under masks are fitted to, features in memory; give fewer with "
                "--labelled"
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
