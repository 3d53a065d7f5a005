"""The card of a published model: what it is, how to load it, how it was made, what it reaches.

It says what the run's folder says (`igpt.report.read`); of the folders of this machine, the names
without the paths to them. The words are in `card.jinja`.
"""

from pathlib import Path
from typing import Any

from igpt.evaluation.proportions import Share
from igpt.formats.convert import Target
from igpt.formats.huggingface import ARCHITECTURES, Head
from igpt.model.config import OBJECTIVE_WORDS
from igpt.model.pretrained import ONE_POSITION_OFF, Pretrained
from igpt.places import run_of
from igpt.report import verdicts
from igpt.report.figures import counts, interval
from igpt.report.read import read_runs
from igpt.report.templates import template
from igpt.runs.run import FinetuneSettings, Settings
from igpt.values import to_dict


def model_card(
    pretrained: Pretrained,
    run: Path,
    *,
    name: str,
    to: Target = "igpt",
    head: Head | None = None,
    license_name: str | None = None,
) -> str:
    """Return the README of a model on the hub, in Markdown, with the hub's header.

    Args:
        pretrained: The model.
        run: Its run folder, a search's, or a model folder, about which less is known.
        name: `owner/model`.
        to: For whom the folder is: "igpt" or "huggingface".
        head: The only one there is, if one was chosen.
        license_name: Of the weights.

    Raises:
        CheckpointError: A file of the run is damaged.
    """
    from huggingface_hub import ModelCardData

    classes = None if head == "colors" else pretrained.class_names
    header = ModelCardData(
        license=license_name,
        library_name="igpt" if to == "igpt" else "transformers",
        pipeline_tag="image-classification" if classes else "unconditional-image-generation",
        tags=["igpt", "image-gpt", "generative-pretraining"],
    )
    run = run_of(run)
    known = read_runs([run])[0] if (run / "recipe.json").is_file() else None
    card = template("card.jinja", escape=False).render(
        header=header.to_yaml(),
        name=name,
        to=to,
        license=license_name,
        model=pretrained.model.config,
        objective=OBJECTIVE_WORDS[pretrained.learned_by],
        classes=classes,
        architecture=ARCHITECTURES["classes" if classes else "colors"],
        one_position_off=ONE_POSITION_OFF,
        run=known,
        folder_name=lambda path: Path(path).name,
        settings=known and _settings(known.settings),
        predicts_pixels=to == "igpt" or not classes,
        behind=_behind,
        verdicts=verdicts,
    )
    return card + "\n"


def _behind(share: Share | None) -> str:
    """Return the counts behind an accuracy, and its interval; nothing where they are not known."""
    return f" ({counts(share)}; 95 % interval {interval(share)})" if share else ""


def _settings(settings: Settings) -> dict[str, Any]:
    """Return what decided the weights, but for the images."""
    if isinstance(settings, FinetuneSettings):
        return to_dict(settings.config)
    recipe = to_dict(settings.recipe)
    del recipe["finetune"]
    return recipe
