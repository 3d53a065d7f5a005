"""What `config.json` says of a model's folder: shape, classes, objective and checksums.

    values, description = read_description(folder)     # the file as it is, and what it says
    description.model                                  # the network's shape
    model_identity(folder)                             # tells this model from others

Nothing is loaded here; `igpt.model.pretrained` does that.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from igpt.errors import CheckpointError, ConfigError
from igpt.files import digest, read_json
from igpt.model.config import MASK_PROBABILITY, AskedObjective, ModelConfig
from igpt.pixels.preparation import Preparation
from igpt.seals import crc32c, fingerprint, unsealed
from igpt.values import from_dict

FORMAT = 2
_WITHOUT_CHECKSUMS = 1
"""The format before, which is read as well."""
WEIGHTS, PALETTE, CONFIG = "model.safetensors", "palette.npy", "config.json"
MODEL_FILES = (WEIGHTS, PALETTE)
"""The files of a model's folder beside `config.json`."""


@dataclass(frozen=True, kw_only=True)
class ModelDescription:
    """What `config.json` says."""

    format: int = FORMAT
    model: ModelConfig
    class_names: tuple[str, ...] | None
    class_layer: int | None
    mask_probability: float = MASK_PROBABILITY
    objective: AskedObjective = "auto"
    """What it was trained by; "auto" in folders older than the question."""
    preparation: Preparation | None = None
    """How the images that it learned from were made ready; None where that is not known."""
    sha256: dict[str, str] = field(default_factory=dict)
    """Of the other files by name; none in a folder of format 1."""
    crc32c: int | None = None
    """Of the weights, which loading checks; the same in no time."""

    def __post_init__(self) -> None:
        """Reject what fits no network of this shape."""
        self.model.check_layer(self.class_layer)
        self.model.objective(self.objective)
        if not 0 < self.mask_probability < 1:
            raise ConfigError(
                f"mask_probability must lie between 0 and 1, got {self.mask_probability}"
            )


def model_identity(folder: Path) -> str:
    """Return the `Pretrained.identity` of a model folder without loading it.

    Raises:
        CheckpointError: There is none, or its `config.json` is damaged.
    """
    return identity_of(folder, read_description(folder)[0])


def model_sha256(folder: Path) -> dict[str, str]:
    """Return the checksums of `MODEL_FILES` by name, as `config.json` has them; none of format 1.

    Raises:
        CheckpointError: There is none, or it is damaged.
    """
    return read_description(folder)[1].sha256


def read_description(folder: Path) -> tuple[dict[str, Any], ModelDescription]:
    """Return what `config.json` holds, as it is and as a description.

    Raises:
        CheckpointError: There is none, or it is damaged or of another format.
    """
    path = folder / CONFIG
    values = read_json(path)
    known = unsealed(values, path, error=CheckpointError)
    if values.get("format") not in (FORMAT, _WITHOUT_CHECKSUMS):
        raise CheckpointError(
            f"{folder} is of model format {values.get('format')}, but this igpt reads format "
            f"{FORMAT}; install the igpt that wrote it"
        )
    known.pop("class_reads_start", None)  # of heads from `transformers`, until 0.1.0
    try:
        return values, from_dict(ModelDescription, known, name="a model's config")
    except ConfigError as error:
        raise CheckpointError(f"{path} is no model's config: {error}; copy it again") from error


def identity_of(folder: Path, values: dict[str, Any]) -> str:
    """Return the identity of the model whose `config.json` holds these values."""
    if values["format"] == _WITHOUT_CHECKSUMS:
        values |= {"crc32c": crc32c(folder / WEIGHTS), "palette": digest(folder / PALETTE)}
    return fingerprint(values)
