"""What the claims of one scale share: data, palettes, trained networks and what is read from them.

Everything is made when first asked for and kept in the laboratory's folder, so that two claims
never train the same network, and a stopped reproduction goes on where it was:

    claims/tiny/
    ├── laboratory.json   scale, settings and data it is for
    ├── data/             the digits, if no other data was given
    ├── palettes/         8-greys.npy ...
    ├── runs/             base-seed0, bert-seed0, base-seed0-joint ...: ordinary run folders
    └── depth.json ...    the findings, by igpt.claims.reproduce
"""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

from filelock import FileLock

from igpt.claims.scale import Scale
from igpt.data.prepare import prepare_store
from igpt.data.store import RecordStore, StoreConfig
from igpt.errors import ConfigError, DataError
from igpt.evaluation.few_labels import FewLabelsResult
from igpt.evaluation.masks import MasksResult
from igpt.evaluation.probe import LayerProbes
from igpt.files import read_json, write_json
from igpt.runs import finetune, pretrain
from igpt.runs.along import Along, along_run
from igpt.runs.measure import Evaluation, evaluate_run, few_labels_run, masks_run, probe_run
from igpt.runs.palette import fit_palette_file
from igpt.runs.recipes import with_settings
from igpt.runs.resume import resume
from igpt.runs.run import DataIdentity, RunFolder
from igpt.training.metrics import read_metrics

_PLACEMENTS = 3  # of each digit


@dataclasses.dataclass(frozen=True)
class Laboratory:
    """A scale, its data and its folder."""

    path: Path
    scale: Scale
    data: Path
    """Record store that networks learn from."""
    labelled: Path
    """Record store with labels, for probes and fine-tuning."""
    device: str = "auto"

    @classmethod
    def open(
        cls,
        path: Path,
        scale: Scale,
        *,
        data: Path | None = None,
        labelled: Path | None = None,
        device: str = "auto",
    ) -> "Laboratory":
        """Return the laboratory in `path`, set up if it is not there yet.

        Args:
            path: Its folder.
            scale: Size of everything.
            data: Record store to learn from; the digits, if the scale has them, by default.
            labelled: Record store with labels; `data` by default.
            device: `cpu`, `cuda` ...; `auto` for the first GPU, or else the CPU.

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
            size, grey = scale.digits
            scale = dataclasses.replace(scale, palette_size=size, grey=grey)
            data = path / "data"
            if not (data / "store.json").is_file():
                side = max(scale.resolutions)
                config = StoreConfig(image_size=side, placements=_PLACEMENTS)
                prepare_store("digits", data, config)
        labelled = labelled or data
        for name in ("train", "validation", "test"):
            RecordStore.open(data).split(name)
            RecordStore.open(labelled).split(name).require_labels()
        told = {
            "scale": scale.name,
            "settings": list(scale.settings),
            "data": DataIdentity.of(RecordStore.open(data), data).sha256,
            "labelled": DataIdentity.of(RecordStore.open(labelled), labelled).sha256,
        }
        file = path / "laboratory.json"
        known = read_json(file) if file.is_file() else None
        if known is None:
            write_json(path / "laboratory.json", told)
        elif known != told:
            other = next(name for name in told if known.get(name) != told[name])
            raise ConfigError(
                f"{path} holds reproductions with other {other} than these; choose another --out"
            )
        return cls(path=path, scale=scale, data=data, labelled=labelled, device=device)

    @property
    def name(self) -> str:
        """What the data is called: the store's source, without the folders it lies in."""
        return Path(RecordStore.open(self.data).source).name

    @property
    def colorful(self) -> bool:
        """Whether the images have colors."""
        images = RecordStore.open(self.data).split("train").first(100).images
        return bool((images != images[..., :1]).any())

    def palette(self, size: int, *, grey: bool, seed: int = 0) -> Path:
        """Return the file of a palette of the training images; beside it, its distortion."""
        name = f"{size}{'-greys' if grey else ''}{f'-seed{seed}' if seed else ''}.npy"
        file = self.path / "palettes" / name
        if not (file.exists() and file.with_suffix(".json").exists()):
            fit_palette_file(self.data, file, size=size, grey=grey, seed=seed)
        return file

    def distortion(self, size: int, *, grey: bool, seed: int) -> float:
        """Return what a palette loses on held-out images, as a PSNR in decibels."""
        file = self.palette(size, grey=grey, seed=seed)
        return json.loads(file.with_suffix(".json").read_text())["psnr_db"]

    def pretrained(self, variant: str, seed: int) -> RunFolder:
        """Return the finished pretraining run of a variant.

        Raises:
            ConfigError: There is one by another recipe in its place.
        """
        name = self.scale.same_as(variant)
        path = self.path / "runs" / f"{name}-seed{seed}"
        size, grey = self.scale.palette_size, self.scale.grey
        if name.startswith("palette-"):
            size, grey = self.scale.palettes[name.removeprefix("palette-")]
        recipe = self.scale.recipe_of(name, seed)
        recipe = dataclasses.replace(recipe, model=dataclasses.replace(recipe.model, colors=size))
        with _alone(path):
            if path.exists():
                run = RunFolder.open(path)
                if run.pretraining.recipe != recipe:
                    raise ConfigError(
                        f"{path} was made by another recipe than this igpt has for it; choose "
                        "another --out"
                    )
                if (run.path / "evaluation.json").is_file() or (run.path / "probe.json").is_file():
                    return run  # it was finished before it was measured
                return resume(path, data=self.data, device=self.device)
            return pretrain.pretrain(
                recipe,
                name=name,
                data=self.data,
                palette=self.palette(size, grey=grey),
                out=path,
                device=self.device,
            )

    def seconds(self, variant: str, seed: int) -> float:
        """Return how long a variant's finished run was trained."""
        return read_metrics(self.pretrained(variant, seed).metrics)[-1]["seconds"]

    def probe(self, variant: str, seed: int) -> LayerProbes:
        """Return `probe.json` of a variant's run."""
        run = self.pretrained(variant, seed)
        return run.read("probe.json", LayerProbes) or probe_run(
            run.path,
            data=self.labelled,
            concatenate=min(self.scale.concatenate, self.scale.recipe_of(variant).model.layers + 1),
            raw=False,
            device=self.device,
        )

    def loss(self, variant: str, seed: int) -> float:
        """Return the nats per pixel of a variant's run on the test images."""
        run = self.pretrained(variant, seed)
        known = (run.read("evaluation.json", Evaluation) or Evaluation()).splits.get("test")
        measured = known or evaluate_run(run.path, data=self.data, device=self.device)
        return measured.nats_per_pixel

    def along(self, variant: str, seed: int) -> Along:
        """Return `along.json` of a variant's run, snapshot by snapshot."""
        self.probe(variant, seed)  # of its end, which is then not measured twice
        run = self.pretrained(variant, seed)
        return along_run(run.path, data=self.labelled, held_out=self.data, device=self.device)

    def masks(self, run: RunFolder, seed: int) -> MasksResult:
        """Return `masks.json` of a run, pretrained and probed or fine-tuned."""
        return run.read("masks.json", MasksResult) or masks_run(
            run.path, data=self.labelled, seed=seed, device=self.device
        )

    def few_labels(self, seed: int) -> FewLabelsResult:
        """Return `few-labels.json` of the base run."""
        self.probe("base", seed)  # which tells the best layer
        run = self.pretrained("base", seed)
        return run.read("few-labels.json", FewLabelsResult) or few_labels_run(
            run.path,
            data=self.labelled,
            labels_per_class=self.scale.labels_per_class,
            subsets=self.scale.subsets,
            finetune_steps=self.scale.few_label_steps,
            seed=seed,
            device=self.device,
        )

    def finetuned(
        self, variant: str, seed: int, name: str, settings: Sequence[str] = ()
    ) -> RunFolder:
        """Return the finished fine-tuning run of a variant's run, kept under this name."""
        source = self.pretrained(variant, seed)
        path = source.path.with_name(f"{source.path.name}-{name}")
        with _alone(path):
            if path.exists():
                run = RunFolder.open(path)
                tuned = run.read("finetune.json", finetune.FinetuneResult)
                if tuned is not None and tuned.test_accuracy is not None:
                    return run
                return resume(path, data=self.labelled, device=self.device)
            return finetune.finetune(
                source.path,
                data=self.labelled,
                out=path,
                config=with_settings(self.scale.recipe_of(variant, seed).finetune, settings),
                device=self.device,
            )


def _alone(run: Path) -> FileLock:
    """Return the lock that keeps other reproductions from training the same run meanwhile."""
    run.parent.mkdir(parents=True, exist_ok=True)
    return FileLock(run.with_name(f".{run.name}.lock"))
