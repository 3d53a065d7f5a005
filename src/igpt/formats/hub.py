"""Models on the Hugging Face hub: fetched into its cache, or from the cache alone when offline.

    folder = fetch("openai/imagegpt-small")     # a folder that `igpt.formats.load` can read

Only the files that a model needs are fetched: its config, its palette and one set of weights.
The cache, tokens, mirrors and the offline mode are `huggingface_hub`'s (HF_HOME, HF_TOKEN,
HF_ENDPOINT, HF_HUB_OFFLINE). What goes the other way is in `igpt.report.publish`.
"""

import re
from pathlib import Path

from igpt.errors import CheckpointError
from igpt.formats.huggingface import WEIGHT_FILES, check_settings, read_settings, shards_of


def is_hub_name(name: str) -> bool:
    """Tell whether this has the form of a model's name on the hub, `owner/name`."""
    return re.fullmatch(r"\w[\w.-]*/[\w.-]+", name) is not None


def fetch(name: str, *, revision: str | None = None) -> Path:
    """Return the folder in the hub's cache that holds the model of this name.

    Args:
        name: Such as "openai/imagegpt-small".
        revision: A branch, tag or commit; the main branch by default.

    Raises:
        CheckpointError: There is no such model or revision, it holds no weights, or the hub cannot
            be reached and the cache does not have it.
    """
    # imported when used: it takes a second, and files of one's own need none of it
    import huggingface_hub
    from huggingface_hub import constants, errors

    def download(file: str, revision: str | None) -> Path:
        try:
            return Path(huggingface_hub.hf_hub_download(name, file, revision=revision))
        except errors.GatedRepoError as error:
            raise CheckpointError(
                f"the model {name} is open only to whom its owner lets in; ask there, then log in "
                "with hf auth login"
            ) from error
        except errors.RepositoryNotFoundError as error:
            raise CheckpointError(
                f"there is no folder {name}, and no model of that name on the hub (or only a "
                "private one); check the name, or log in with hf auth login"
            ) from error
        except errors.RevisionNotFoundError as error:
            raise CheckpointError(
                f"the model {name} has no revision {revision!r}; give a branch, tag or commit of it"
            ) from error
        except errors.EntryNotFoundError:  # also where there is no network: it is not in the cache
            raise
        except (errors.HTTPError, OSError, ValueError) as error:
            reason = (str(error) or type(error).__name__).splitlines()[0]
            raise CheckpointError(
                f"could not fetch {file} of {name}: {reason}; try again, what was fetched is kept"
            ) from error

    try:
        config = download("config.json", revision)
    except errors.LocalEntryNotFoundError as error:
        raise CheckpointError(
            f"there is no folder {name}; the hub could not be reached to look for a model of that "
            "name, and its cache does not have it"
        ) from error
    except errors.EntryNotFoundError as error:
        raise CheckpointError(f"the model {name} on the hub has no config.json") from error
    folder = config.parent
    commit = folder.name  # so that all files are of one, whatever happens on the hub meanwhile

    def find(file: str) -> Path | None:
        try:
            return download(file, commit)
        except errors.LocalEntryNotFoundError as error:
            if constants.HF_HUB_OFFLINE:
                return None  # there is the cache only
            raise CheckpointError(
                f"the hub could not be reached to fetch {file} of {name}; try again, what was "
                "fetched is kept"
            ) from error
        except errors.EntryNotFoundError:
            return None

    def require(files: list[str]) -> None:
        for file in files:
            if find(file) is None:
                raise CheckpointError(
                    f"the model {name} lacks {file}, on the hub or, offline, in the cache"
                )

    settings = read_settings(config)
    if "model_type" not in settings:
        require(["palette.npy", "model.safetensors"])
        return folder
    check_settings(settings, name)  # before gigabytes of another network are fetched
    find("preprocessor_config.json")
    for file in WEIGHT_FILES:
        path = find(file)
        if path is not None:
            if path.suffix == ".json":
                require(shards_of(path))
            return folder
    raise CheckpointError(
        f"the model {name} has no weights that can be read ({', '.join(WEIGHT_FILES)}), on the hub "
        "or, offline, in the cache"
    )
