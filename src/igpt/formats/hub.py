"""Models on the Hugging Face hub: fetched into its cache, or from the cache alone when offline.

    folder = fetch("openai/imagegpt-small")     # a folder that `igpt.formats.load` can read

Only the files that a model needs are fetched, all of one commit: its config, its palette, one set
of weights and a kept probe. The cache, tokens, mirrors and the offline mode are `huggingface_hub`'s
(HF_HOME, HF_TOKEN, HF_ENDPOINT, HF_HUB_OFFLINE). What goes the other way is in
`igpt.report.publish`; what the hub's errors mean to the user is said here for both.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from igpt.errors import CheckpointError
from igpt.files import read_json
from igpt.formats.huggingface import WEIGHT_FILES, check_settings, shards_of
from igpt.model.kept_probe import PROBE

_MEANINGS = {
    "GatedRepoError": "the model {name} is open only to those whom its owner lets in; ask there, "
    "then log in with hf auth login",
    "RepositoryNotFoundError": "there is no folder {name}, and no model of that name on the hub "
    "(or only a private one); check the name, or log in with hf auth login",
    "RevisionNotFoundError": "the model {name} has no revision {revision!r}; give a branch, tag or "
    "commit",
    "LocalEntryNotFoundError": "there is no folder {name}; the hub could not be reached for a "
    "model of that name, and its cache does not have all of one; try again when it can be reached",
    "LocalTokenNotFoundError": "the hub does not let you {doing} {name}; log in with hf auth "
    "login, or set HF_TOKEN, with a token that may",
    # a name or, in publishing, a field of the card such as the licence
    "ValueError": "the hub does not take {name}: {reason}",
    "Exception": "could not {doing} {name}: {reason}; try again, what has arrived is kept",
}
"""What the errors of `huggingface_hub` mean to the user, by class; the nearest base counts."""

_SMALL_FILES = ("preprocessor_config.json", "palette.npy", "*.index.json")


def fetch(name: str, *, revision: str | None = None) -> Path:
    """Return the folder in the hub's cache that holds the model of this name.

    Args:
        name: Such as "openai/imagegpt-small".
        revision: A branch, tag or commit; the main branch by default.

    Raises:
        CheckpointError: There is no such model or revision, it holds no weights, or the hub cannot
            be reached and the cache does not have it.
    """
    folder = _download(name, revision, *_SMALL_FILES)
    config = folder / "config.json"
    if not config.is_file():
        raise CheckpointError(f"the model {name} has no config.json; choose another model")
    settings = read_json(config)
    files, beside = WEIGHT_FILES[:1], [f"{PROBE}/*"]  # igpt's own folders have no others
    if "model_type" in settings:
        check_settings(settings, name)  # before gigabytes of another network are fetched
        files, beside = WEIGHT_FILES, []
    for file in files:
        parts = [file]
        if file.endswith(".index.json"):
            parts = shards_of(folder / file) if (folder / file).is_file() else []
        if parts:
            _download(name, folder.name, *parts, *beside)  # the folder is named for the commit
            if all((folder / part).is_file() for part in parts):
                return folder
    raise CheckpointError(
        f"the model {name} has no weights that can be read ({', '.join(files)}); choose another "
        "model or revision"
    )


def _download(name: str, revision: str | None, *patterns: str) -> Path:
    # imported when used: it takes a second, and files of one's own need none of it
    from huggingface_hub import snapshot_download

    with errors_explained("fetch", name, revision):
        files = ["config.json", *patterns]  # the library warns where no file is wanted
        return Path(snapshot_download(name, revision=revision, allow_patterns=files))


@contextmanager
def errors_explained(
    doing: Literal["fetch", "publish"], name: str, revision: str | None = None
) -> Iterator[None]:
    """Turn what `huggingface_hub` raises in the block into one line for the user.

    Raises:
        CheckpointError: The hub refused, has no such model, or could not be reached.
    """
    from huggingface_hub import errors

    try:
        yield
    except (errors.HTTPError, OSError, ValueError, RuntimeError) as error:  # the last is hf_xet's
        answer, first = error, error.__cause__
        if isinstance(error, errors.LocalEntryNotFoundError):
            # the cache was asked because the hub refused, where it did
            answer = first if isinstance(first, errors.HfHubHTTPError) else error
        kinds = [kind.__name__ for kind in type(answer).__mro__]
        if type(answer) is errors.HfHubHTTPError and answer.response.status_code in (401, 403):
            kinds = ["LocalTokenNotFoundError"]
        meaning = next(_MEANINGS[kind] for kind in kinds if kind in _MEANINGS)
        reason = " ".join(str(answer).split()) or type(answer).__name__
        raise CheckpointError(
            meaning.format(doing=doing, name=name, revision=revision, reason=reason)
        ) from error
