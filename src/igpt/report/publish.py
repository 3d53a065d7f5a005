"""Publishing a run's model on the Hugging Face hub, with a card that says what it is.

The model's folder, a kept probe in it, and the card (`igpt.report.card`) are all that leaves the
machine: no images, states or logs of the run.
"""

import shutil
import tempfile
from pathlib import Path

from igpt.errors import ConfigError
from igpt.files import require_writable, written_aside
from igpt.formats.convert import Target, require_head, write_model
from igpt.formats.hub import errors_explained
from igpt.formats.huggingface import Head
from igpt.formats.load import load
from igpt.outputs import require_outside
from igpt.paths import AnyPath, as_path
from igpt.places import is_hub_name
from igpt.report.card import model_card


def push(
    run: AnyPath,
    name: str,
    *,
    to: Target = "igpt",
    head: Head | None = None,
    license_name: str | None = None,
    branch: str | None = None,
    private: bool = False,
    message: str | None = None,
    dry_run: AnyPath | None = None,
) -> str:
    """Publish the model of a run, with its card, and return where it now is.

    Args:
        run: Run or model folder.
        name: `owner/model` on the hub; made if it is not there.
        to: "igpt" for `igpt.load`, "huggingface" for `transformers`.
        head: For `transformers`, which has one: "classes" or "colors"; classes if there are any.
        license_name: Of the weights, by the hub's names, such as "apache-2.0".
        branch: Branch to commit to, made if it is not there; the main one by default.
        private: Whether a new model is for its owner alone.
        message: Commit message.
        dry_run: Write what would be published to this new folder, and publish nothing.

    Raises:
        CheckpointError: No model there, or the hub refused or could not be reached.
        ConfigError: `name` is no name on the hub, or `transformers` cannot say what the model does,
            or `head` is for igpt's own kind.
        DataError: `dry_run` holds something or cannot be written to.
    """
    run = Path(run)
    dry_run = as_path(dry_run)
    _check_name(name)
    require_head(to, head)
    if dry_run is not None:
        require_outside(dry_run)
        require_writable(dry_run, exclusive=True)
    pretrained = load(run)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "model"
        left_out = write_model(pretrained, folder, to=to, head=head)
        card = model_card(pretrained, run, name=name, to=to, head=head, license_name=license_name)
        (folder / "README.md").write_text(card, encoding="utf-8")
        if dry_run is not None:
            with written_aside(dry_run, exclusive=True) as aside:
                shutil.copytree(folder, aside)
            published = f"{dry_run}: what would be published as {name}"
        else:
            published = _upload(folder, name, branch=branch, private=private, message=message)
    return published + (f"\nleft out: {'; '.join(left_out)}" if left_out else "")


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
