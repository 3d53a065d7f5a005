"""Publishing a run's model on the Hugging Face hub, with a card that says what it is.

The card is made from what the run keeps: recipe, provenance, figures. It tells how to load the
model, and whose licence it has. Nothing else of the run (its images, states, logs) leaves the
machine.
"""

import json
import shutil
import tempfile
from pathlib import Path

from igpt.errors import ConfigError
from igpt.files import written_aside
from igpt.formats.convert import Target, what_is_left_out
from igpt.formats.hub import errors_explained, is_hub_name
from igpt.formats.huggingface import ARCHITECTURES, write_huggingface
from igpt.formats.load import load
from igpt.model.pretrained import ONE_POSITION_OFF, Pretrained
from igpt.runs.evaluate import Evaluation
from igpt.runs.finetune import FinetuneResult
from igpt.runs.probe import LayerProbes
from igpt.runs.provenance import Provenance
from igpt.runs.run import PretrainSettings, RunFolder
from igpt.values import to_dict


def push(
    run: Path,
    name: str,
    *,
    to: Target = "igpt",
    license_name: str | None = None,
    branch: str | None = None,
    private: bool = False,
    message: str | None = None,
    dry_run: Path | None = None,
) -> str:
    """Publish the model of a run, with its card, and return where it now is.

    Args:
        run: Run or model folder.
        name: `owner/model` on the hub; made if it is not there.
        to: "igpt" for `igpt.load`, "huggingface" for `transformers`.
        license_name: Of the weights, by the hub's names, such as "apache-2.0".
        branch: Branch to commit to, made if it is not there; the main one by default.
        private: Whether a new model is for its owner alone.
        message: Commit message.
        dry_run: Write what would be published to this new folder, and publish nothing.

    Raises:
        CheckpointError: No model there, or the hub refused or could not be reached.
        ConfigError: `name` is no name on the hub, or `transformers` cannot say what the model does.
    """
    _check_name(name)
    if dry_run is not None and dry_run.exists():
        raise ConfigError(f"{dry_run} is there already; choose another place, or remove it")
    pretrained = load(run)
    left_out: list[str] = []
    with tempfile.TemporaryDirectory() as room:
        folder = Path(room) / "model"
        if to == "igpt":
            pretrained.save(folder)
        else:
            left_out = what_is_left_out(pretrained, write_huggingface(pretrained, folder))
        card = model_card(pretrained, run, name=name, to=to, license_name=license_name)
        (folder / "README.md").write_text(card)
        if dry_run is not None:
            with written_aside(dry_run) as aside:
                shutil.copytree(folder, aside)
            told = f"{dry_run}: what would be published as {name}"
        else:
            told = _upload(folder, name, branch=branch, private=private, message=message)
    return told + (f"\nleft out: {'; '.join(left_out)}" if left_out else "")


def _check_name(name: str) -> None:
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(name)
        if not is_hub_name(name):
            raise HFValidationError("there is no owner")
    except HFValidationError as error:
        reason = " ".join(str(error).split())
        raise ConfigError(
            f"a model on the hub is named owner/model, got {name!r}: {reason}"
        ) from error


def _upload(
    folder: Path, name: str, *, branch: str | None, private: bool, message: str | None
) -> str:
    from huggingface_hub import HfApi

    api = HfApi(library_name="igpt")
    with errors_explained("publish", name):
        api.create_repo(name, private=private, exist_ok=True)
        if branch is not None:
            api.create_branch(name, branch=branch, exist_ok=True)
        done = api.upload_folder(
            repo_id=name,
            folder_path=folder,
            revision=branch,
            commit_message=message or "Model and card",
        )
    return f"{name}: {done.commit_url}"


def model_card(
    pretrained: Pretrained,
    run: Path,
    *,
    name: str,
    to: Target = "igpt",
    license_name: str | None = None,
) -> str:
    """Return the README of a model on the hub: what it is, how it was made, what it reaches.

    Args:
        pretrained: The model.
        run: Its run folder, or a model folder, about which less is known.
        name: `owner/model`.
        to: For whom the folder is: "igpt" or "huggingface".
        license_name: Of the weights.
    """
    from huggingface_hub import ModelCardData

    config = pretrained.model.config
    task = "image-classification" if pretrained.class_names else "unconditional-image-generation"
    header = ModelCardData(
        license=license_name,
        library_name="igpt" if to == "igpt" else "transformers",
        pipeline_tag=task,
        tags=["igpt", "image-gpt", "generative-pretraining"],
    )
    objective = "autoregressive" if config.causal else "masked (BERT)"
    about = [
        f"# {name.partition('/')[2]}",
        "An image GPT (Chen et al., *Generative Pretraining from Pixels*, ICML 2020), "
        f"{objective}, for {config.image_size}x{config.image_size} images of {config.colors} "
        f"palette colors: {config.layers} layers of width {config.width}, {config.heads} heads, "
        f"{config.parameters / 1e6:.2f} million weights.",
    ]
    if pretrained.class_names:
        shown = ", ".join(pretrained.class_names[:20])
        more = len(pretrained.class_names) - 20
        about.append(f"Classes: {shown}{f' and {more} more' if more > 0 else ''}.")
    known = RunFolder.open(run) if (run / "recipe.json").is_file() else None
    parts = [
        *about,
        "## How to load it",
        _loading(pretrained, name, to),
        *(_training(known) if known else ()),
        *(_figures(known, pixels=to == "igpt" or not pretrained.class_names) if known else ()),
        "## Licence",
        f"The weights: {license_name}." if license_name else "Their owner has not named one yet.",
        "The palette and the weights belong together: tokens mean nothing under another palette.",
    ]
    return f"---\n{header.to_yaml()}\n---\n\n" + "\n\n".join(parts) + "\n"


def _loading(pretrained: Pretrained, name: str, to: Target) -> str:
    if to == "igpt":
        classes = "classes = igpt.predict(pretrained, records)  # of a record store's split\n"
        return (
            "```python\nimport igpt\n\n"
            f'pretrained = igpt.load("{name}")\n'
            "tokens = pretrained.tokenizer.encode(images)  # uint8 (batch, height, width, 3)\n"
            "logits = pretrained.model(tokens)  # (batch, position, color)\n"
            f"{classes if pretrained.class_names else ''}```\n\n"
            f"or, on the command line, `igpt probe {name} --data STORE` and the like."
        )
    kind = ARCHITECTURES["classes" if pretrained.class_names else "colors"]
    note = f" But {ONE_POSITION_OFF}." if pretrained.class_names else ""
    return (
        f"```python\nfrom transformers import AutoImageProcessor, {kind}\n\n"
        f'processor = AutoImageProcessor.from_pretrained("{name}")\n'
        f'model = {kind}.from_pretrained("{name}")\n```\n\n'
        f'`igpt.load("{name}")` loads the same.{note}'
    )


def _training(run: RunFolder) -> list[str]:
    settings, provenance = run.settings, run.read("provenance.json", Provenance)
    data = settings.data
    if isinstance(settings, PretrainSettings):
        what = "Kind: pretrain." + (f" Recipe: {settings.name}." if settings.name else "")
        values = to_dict(settings.recipe)
        del values["finetune"]
    else:
        what = f"Kind: finetune, of {Path(settings.source).name}."
        values = to_dict(settings.config)
    lines = [f"{what} Images: {Path(data.path).name} (store {data.sha256})."]
    if provenance:
        lines.append(
            f"igpt {provenance.igpt}, commit {provenance.commit}, PyTorch "
            f"{provenance.libraries['torch']}, on {provenance.device}."
        )
    written = json.dumps(values, indent=2)
    lines.append(
        f"<details><summary>Every setting</summary>\n\n```json\n{written}\n```\n</details>"
    )
    return ["## How it was made", *lines]


def _figures(run: RunFolder, *, pixels: bool) -> list[str]:
    """Return what was measured, with igpt; of predicting pixels only if the folder can."""
    rows: list[tuple[str, str]] = []
    evaluation = run.read("evaluation.json", Evaluation) if pixels else None
    for split, found in (evaluation.splits if evaluation else {}).items():
        rows.append(
            (
                f"nats per pixel, {split} ({found.images} images)",
                f"{found.nats_per_pixel:.4f}",
            )
        )
    probe = run.read("probe.json", LayerProbes)
    if probe:
        rows.append(
            (
                f"linear probe, layer {probe.best_layer}, test accuracy",
                f"{probe.test_accuracy:.2%}",
            )
        )
        if probe.raw_pixels is not None:
            rows.append(("the same on raw pixels", f"{probe.raw_pixels.test_accuracy:.2%}"))
    tuned = run.read("finetune.json", FinetuneResult)
    if tuned and tuned.test_accuracy is not None:
        rows.append(("fine-tuned, test accuracy", f"{tuned.test_accuracy:.2%}"))
    if not rows:
        return []
    table = "\n".join(f"| {what} | {figure} |" for what, figure in rows)
    return ["## Figures", "As measured with igpt.", f"| what | figure |\n| --- | --- |\n{table}"]
