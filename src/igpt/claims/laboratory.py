"""What the claims of one scale share: data, palettes, trained networks and what is read from them.

Everything is made when first asked for and kept in the laboratory's folder, so that two claims
never train the same network, and a stopped reproduction goes on where it was:

    claims/tiny/
    ├── laboratory.json   scale, settings and data it is for
    ├── data/             the digits, if no other data was given
    ├── palettes/         8-greys.npy ...
    ├── runs/             base-seed0, bert-seed0, base-seed0-joint ...: ordinary run folders
    └── depth.json ...    the results, by igpt.claims.reproduce
"""

import dataclasses
from pathlib import Path

from filelock import FileLock

from igpt.claims.scale import Colors, Scale
from igpt.data.config import StoreConfig
from igpt.data.prepare import prepare_store
from igpt.data.store import RecordStore
from igpt.errors import ConfigError, DataError
from igpt.evaluation.few_labels import FewLabelsResult
from igpt.evaluation.masks import MasksResult
from igpt.evaluation.probe import LayerProbes
from igpt.files import read_json, write_json
from igpt.runs.along import Along, along_run
from igpt.runs.finetune import FinetuneResult, finetune
from igpt.runs.measure import evaluate_run, few_labels_run, masks_run, probe_run
from igpt.runs.palette import fit_palette_file, read_report
from igpt.runs.pretrain import pretrain
from igpt.runs.recipes import FinetuneConfig
from igpt.runs.resume import ensure
from igpt.runs.run import DataIdentity, RunFolder
from igpt.training.metrics import read_metrics

_PLACEMENTS = 3  # of each digit


@dataclasses.dataclass(frozen=True, kw_only=True)
class Finetuned:
    """A finished fine-tuning run, and what is known of it."""

    run: RunFolder
    test_accuracy: float
    validation_accuracy: float
    best_step: int
    """Updates after which the weights were kept."""


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
            scale = dataclasses.replace(scale, palette=scale.digits)
            data = path / "data"
            if not (data / "store.json").is_file():
                side = max(scale.recipe_of(name).model.image_size for name in scale.resolutions)
                config = StoreConfig(image_size=side, placements=_PLACEMENTS)
                prepare_store("digits", data, config)
        labelled = labelled or data
        for name in ("train", "validation", "test"):
            RecordStore.open(data).split(name)
            RecordStore.open(labelled).split(name).require_labels()
        given = {
            "scale": scale.name,
            "settings": list(scale.settings),
            "data": DataIdentity.of(RecordStore.open(data), data).sha256,
            "labelled": DataIdentity.of(RecordStore.open(labelled), labelled).sha256,
        }
        file = path / "laboratory.json"
        if not file.is_file():
            write_json(file, given)
        known = read_json(file)
        other = [name for name in given if known.get(name) != given[name]]
        if other:
            raise ConfigError(
                f"{path} holds reproductions with other {other[0]} than these; choose another --out"
            )
        return cls(path=path, scale=scale, data=data, labelled=labelled, device=device)

    @property
    def name(self) -> str:
        """What the data is called: the store's source, without the folders it lies in."""
        return Path(RecordStore.open(self.data).source).name

    @property
    def colorful(self) -> bool:
        """Whether the images have colors."""
        images = RecordStore.open(self.data).split("train").sample(100).images
        return bool((images != images[..., :1]).any())

    def palette(self, colors: Colors, *, seed: int = 0) -> Path:
        """Return the file of a palette of the training images; beside it, its report."""
        file = self.path / "palettes" / f"{colors.name}{f'-seed{seed}' if seed else ''}.npy"
        if not (file.exists() and file.with_suffix(".json").exists()):
            fit_palette_file(
                self.data, file, size=colors.size, grey=colors.grey, seed=seed, overwrite=True
            )
        return file

    def distortion(self, colors: Colors, *, seed: int) -> float | None:
        """Return what a palette loses on held-out images, as a PSNR in dB; None if nothing."""
        return read_report(self.palette(colors, seed=seed)).psnr_db

    def pretrained(self, network: str, seed: int) -> RunFolder:
        """Return the finished pretraining run of a network.

        Raises:
            ConfigError: There is one by another recipe in its place.
        """
        path = self.path / "runs" / f"{network}-seed{seed}"
        recipe = self.scale.recipe_of(network, seed)

        def start() -> RunFolder:
            palette = self.palette(self.scale.colors_of(network))
            return pretrain(
                recipe, name=network, data=self.data, palette=palette, out=path, device=self.device
            )

        with _alone(path):
            if path.exists() and RunFolder.open(path).pretraining.recipe != recipe:
                raise ConfigError(
                    f"{path} was made by another recipe than this igpt has for it; choose "
                    "another --out"
                )
            if any((path / name).is_file() for name in ("evaluation.json", "probe.json")):
                return RunFolder.open(path)  # it was finished before it was measured
            return ensure(path, start, data=self.data, device=self.device)

    def seconds(self, network: str, seed: int) -> float:
        """Return how long a network's finished run was trained."""
        return read_metrics(self.pretrained(network, seed).metrics)[-1]["seconds"]

    def finetuned(
        self, network: str, seed: int, name: str, config: FinetuneConfig | None = None
    ) -> Finetuned:
        """Return a finished fine-tuning run of a network, kept under this name.

        Args:
            network: The pretrained one.
            seed: Of its run.
            name: What tells the fine-tuning from others of the same network.
            config: How; by default as the scale's recipe has it.
        """
        source = self.pretrained(network, seed)
        path = source.path.with_name(f"{source.path.name}-{name}")
        config = config or self.scale.recipe_of(network, seed).finetune
        run = RunFolder(path)
        with _alone(path):
            result = run.read("finetune.json", FinetuneResult)
            if result is None or result.test_accuracy is None:
                ensure(
                    path,
                    lambda: finetune(
                        source.path, data=self.labelled, out=path, config=config, device=self.device
                    ),
                    data=self.labelled,
                    device=self.device,
                )
        result = run.require("finetune.json", FinetuneResult)
        assert result.test_accuracy is not None
        assert result.validation_accuracy is not None
        return Finetuned(
            run=run,
            test_accuracy=result.test_accuracy,
            validation_accuracy=result.validation_accuracy,
            best_step=result.best_step,
        )

    def probe(self, network: str, seed: int) -> LayerProbes:
        """Return the probes of a network's every layer; of the base, of several together too."""
        layers = self.scale.recipe_of(network).model.layers + 1
        return probe_run(
            self.pretrained(network, seed).path,
            data=self.labelled,
            concatenate=min(self.scale.concatenate, layers) if network == "base" else 1,
            raw=False,
            device=self.device,
            reuse=True,
        )

    def loss(self, network: str, seed: int) -> float:
        """Return the nats per pixel of a network on the test images."""
        path = self.pretrained(network, seed).path
        return evaluate_run(path, data=self.data, device=self.device, reuse=True).nats_per_pixel

    def along(self, network: str, seed: int) -> Along:
        """Return the loss and the probes of a network, snapshot by snapshot."""
        self.probe(network, seed)  # of its end, as the other claims have it
        path = self.pretrained(network, seed).path
        return along_run(path, data=self.labelled, held_out=self.data, device=self.device)

    def masks(self, run: RunFolder, seed: int) -> MasksResult:
        """Return the accuracies under masks of a BERT run, pretrained and probed or fine-tuned."""
        return masks_run(run.path, data=self.labelled, seed=seed, device=self.device, reuse=True)

    def few_labels(self, seed: int) -> FewLabelsResult:
        """Return what the base network makes of a handful of labels."""
        self.probe("base", seed)  # which decides the layer
        return few_labels_run(
            self.pretrained("base", seed).path,
            data=self.labelled,
            labels_per_class=self.scale.labels_per_class,
            subsets=self.scale.subsets,
            finetune_steps=self.scale.few_label_steps,
            seed=seed,
            device=self.device,
            reuse=True,
        )


def _alone(run: Path) -> FileLock:
    """Return the lock that keeps other reproductions from training the same run meanwhile."""
    run.parent.mkdir(parents=True, exist_ok=True)
    return FileLock(run.with_name(f".{run.name}.lock"))
