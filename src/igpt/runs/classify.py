"""Classifying: what is in photographs, by a fine-tuned run or by a probe that a run kept.

    result = classify_files("runs/a", ["photo.jpg", "folder"])
    result.images[0].file, result.images[0].class_name, result.images[0].probability

Which classifier it is, and how often it was right of test images, goes with the answer.
"""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tqdm import tqdm

from igpt.data.loose import SkippedFile, loose_files, read_squares
from igpt.files import written_aside
from igpt.formats.load import load
from igpt.model.classes import Classified, Classifier
from igpt.model.pretrained import Pretrained
from igpt.outputs import require_ending, require_free
from igpt.paths import AnyPath, as_path, as_paths
from igpt.processes import choose_device
from igpt.runs.finetune import FinetuneResult
from igpt.runs.reuse import kept, run_at


@dataclass(frozen=True, kw_only=True)
class ClassifierSummary:
    """What names the classes, and how far it is to be trusted."""

    kind: Literal["class head", "probe"]
    layer: int
    classes: int
    test_accuracy: float | None
    """None where nothing says: of a model outside of its run."""
    test_images: int | None
    calibration_error: float | None
    """Of a probe: how far its probabilities were from how often it was right, on average."""
    note: str = ""
    """What is to be kept in mind."""

    @property
    def text(self) -> str:
        """The same in a line."""
        line = f"by the {self.kind} of layer {self.layer}, {self.classes} classes"
        if self.test_accuracy is None:
            line += "; its test accuracy is not known here"
        else:
            line += f"; test accuracy {self.test_accuracy:.1%}"
            if self.test_images is not None:
                right = round(self.test_accuracy * self.test_images)
                line += f" ({right} of {self.test_images})"
        if self.calibration_error is not None:
            line += f", probabilities off by {self.calibration_error:.3f} on average"
        return line + (f"; {self.note}" if self.note else "")


@dataclass(frozen=True, kw_only=True)
class ClassifiedFiles:
    """What is in some files."""

    classifier: ClassifierSummary
    images: tuple[Classified, ...]
    skipped: tuple[SkippedFile, ...]
    """Files that could not be read."""


def classify_files(
    path: AnyPath,
    images: AnyPath | Sequence[AnyPath],
    *,
    out: AnyPath | None = None,
    overwrite: bool = False,
    device: str = "auto",
) -> ClassifiedFiles:
    """Return which classes are in image files, by a run's class head or its kept probe.

    Images are cut and resized as those were that the classifier learned from. Only a few are in
    memory at a time.

    Args:
        path: Run or model folder, or what else `load` takes.
        images: Files, and folders, zip or tar files of them.
        out: Also write a table, .csv: a row a file, with the probability of each class.
        overwrite: Whether a table that is there may be replaced.
        device: `cpu`, `cuda` ...; `auto` for the first GPU, or else the CPU.

    Raises:
        CheckpointError: No model at `path`, or its probe is damaged or of an earlier model.
        ConfigError: It has neither a class head nor a kept probe, or `out` may not be written.
        DataError: None of the images can be read.
    """
    path = Path(path)
    out = as_path(out)
    images = as_paths(images)
    if out is not None:
        require_ending(out, ".csv", "a table of classes is")
        require_free(out, reads=images, overwrite=overwrite)
    loose = loose_files(images)
    pretrained = load(path, device=choose_device(device))
    classifier = pretrained.classifier()
    found: list[Classified] = []
    bar = tqdm(total=len(loose.files), desc="classify", unit="image", disable=None)
    with bar:
        for part in read_squares(loose, classifier.tokenizer):
            found += classifier.classify_squares(part.squares, part.names)
            bar.update(len(part.names))
    loose.require_some_read()
    result = ClassifiedFiles(
        classifier=_summary(path, pretrained, classifier),
        images=tuple(found),
        skipped=tuple(loose.skipped),
    )
    if out is not None:
        _write_table(result, classifier.class_names, out)
    return result


def _summary(path: Path, pretrained: Pretrained, classifier: Classifier) -> ClassifierSummary:
    causal, probe = pretrained.model.config.causal, classifier.probe
    accuracy, images, error, note = None, None, None, ""
    if probe is not None:
        accuracy, images = probe.test_accuracy, probe.test_images
        error = probe.calibration.error
    elif (run := run_at(path)) and (result := kept(run, "finetune.json", FinetuneResult)[0]):
        accuracy = result.test_accuracy
        images = result.test_images
        if images is None and result.confusion:
            images = sum(map(sum, result.confusion))
    if not causal:
        note = "all pixels are shown" + (
            "" if probe or accuracy is None else ", where that was measured under masks"
        )
    return ClassifierSummary(
        kind=classifier.kind,
        layer=classifier.layer,
        classes=len(classifier.class_names),
        test_accuracy=accuracy,
        test_images=images,
        calibration_error=error,
        note=note,
    )


def _write_table(result: ClassifiedFiles, class_names: Sequence[str], out: Path) -> None:
    """Write file, class, probability and then that of each class, in their own order."""
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["file", "class", "probability", *class_names])
    for image in result.images:
        in_order = sorted(image.ranking, key=lambda one: one.number)
        probabilities = [one.probability for one in in_order]
        rows.writerow([image.file, image.class_name, image.probability, *probabilities])
    with written_aside(out) as aside:
        aside.write_text(text.getvalue(), encoding="utf-8", errors="surrogateescape")
