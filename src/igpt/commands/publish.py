"""What others see: the report, the paper's claims, and models in other people's formats."""

import sys
import time
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from cyclopts.types import PositiveFloat

from igpt.commands.options import (
    Count,
    Data,
    Device,
    Head,
    Json,
    Overwrite,
    Settings,
    Target,
    Trained,
    show,
)
from igpt.errors import ConfigError, IgptError


def report(
    runs: tuple[Trained, ...], /, *, out: Path = Path("report.html"), overwrite: Overwrite = False
) -> None:
    """Show RUNS on one page that needs nothing else; an earlier report there is replaced.

        igpt report runs/a runs/a-ft --out report.html

    Args:
        runs: Run folders.
        out: The page.
    """
    from igpt.report.page import write_report

    write_report(runs, out, overwrite=overwrite)
    print(f"{out}: {len(runs)} {'run' if len(runs) == 1 else 'runs'}")


def reproduce(
    claim: str | None = None, /, *, costs: Annotated[bool, Parameter(name="--list")] = False,
    power: bool = False, scale: str = "tiny", data: Data | None = None,
    labelled: Path | None = None, seeds: Count | None = None, out: Path = Path("claims"),
    settings: Settings = (), device: Device = "auto", seconds: PositiveFloat | None = None,
    share: str | None = None, as_json: Json = False,
) -> None:  # fmt: skip
    """Run a CLAIM of the paper, or all, and judge whether it holds at this scale.

        igpt reproduce depth --scale tiny

    What will be judged is fixed before the first run. A reproduction that is stopped goes on when
    the same command is given again; networks are shared between claims.

    Args:
        claim: Its name, or "all".
        costs: List the claims instead, and what each costs.
        power: Say instead how many seeds each part takes, from the spread of those measured.
        scale: tiny, small or paper. Tiny has the digits, the others need --data.
        labelled: Record store for probes and fine-tuning, if not --data.
        seeds: How many; more than were planned are an amendment.
        out: Folder; everything goes into a folder of the scale's name there.
        seconds: Stop, to go on later, after so long.
        share: Measure one of several shares of the seeds, such as 1/2, beside another process.
    """
    from igpt.claims import page
    from igpt.claims import reproduce as reproduction
    from igpt.claims.costs import costs as known_costs
    from igpt.training.signals import Interrupted

    if costs:
        known = known_costs()
        show(known, as_json=as_json, text=page.costs_table(known))
        return
    if claim is None:
        raise ConfigError("CLAIM is missing; igpt reproduce --list prints them")
    names = list(reproduction.CLAIMS) if claim == "all" else [claim]
    if power:
        files = [out / scale / f"{reproduction.find_claim(name).name}.json" for name in names]
        found = [reproduction.read_result(file) for file in files if file.is_file()]
        if not found:
            raise ConfigError(f"nothing was measured in {out / scale}; run igpt reproduce first")
        show(found, as_json=as_json, text="\n\n".join(map(page.power_table, found)))
        return
    end = None if seconds is None else time.monotonic() + seconds
    results = []
    for name in names:
        try:
            result = reproduction.reproduce(
                name, scale=scale, data=data, labelled=labelled, seeds=seeds, out=out,
                settings=settings, device=device, share=_share(share),
                seconds=None if end is None else end - time.monotonic(),
            )  # fmt: skip
            results.append(result)
        except IgptError as error:
            if claim != "all" or not results or isinstance(error, Interrupted):
                raise
            print(f"igpt: {name} is left out: {error}", file=sys.stderr)
    text = "\n\n".join(page.result_text(result) for result in results)
    show(results if claim == "all" else results[0], as_json=as_json, text=text)


def _share(text: str | None) -> tuple[int, int] | None:
    """Return the two numbers of a share such as 1/2."""
    if text is None:
        return None
    numbers = text.split("/")
    if len(numbers) != 2 or not all(number.isdecimal() for number in numbers):
        raise ConfigError(f"a share is such as 1/2, got {text!r}")
    return int(numbers[0]), int(numbers[1])


def claims(
    folders: tuple[Path, ...], /, *, out: Path = Path("claims.md"), overwrite: Overwrite = False
) -> None:
    """Write one Markdown page about what igpt reproduce left in FOLDERS, figures beside it.

    An earlier such page there is replaced.

        igpt claims claims/tiny --out claims.md

    Args:
        folders: Of a scale each.
        out: The page.
    """
    from igpt.claims.page import write_page

    write_page(folders, out, overwrite=overwrite)
    print(out)


def convert(
    source: str, destination: Path, /, *, to: Target | None = None, head: Head | None = None,
    palette: Path | None = None, heads: Count | None = None, revision: str | None = None,
    widen: bool = False, as_json: Json = False,
) -> None:  # fmt: skip
    """Write the model at SOURCE as the folder DESTINATION, bit for bit.

        igpt convert runs/a exported

    SOURCE is a run or model folder, a folder that transformers saved, a name on the Hugging Face
    hub such as openai/imagegpt-small, or a TensorFlow checkpoint of the authors', by its path
    without .index, with --palette.

    Args:
        source: What to read.
        destination: The new folder.
        to: What to write; by default igpt's own kind, or from that, transformers'.
        head: With --to huggingface: the head that is written; classes if there are any.
        palette: For a TensorFlow checkpoint: kmeans_centers.npy.
        heads: Attention heads, where nothing else says how many.
        revision: For a hub name: a branch, tag or commit.
        widen: Accept half-precision weights, as float32.
    """
    from igpt.formats.convert import convert

    result = convert(
        source, destination, to=to, head=head, palette=palette, heads=heads, revision=revision,
        widen=widen,
    )  # fmt: skip
    show(result, as_json=as_json, at=destination)


def push(
    run: Path, name: str, /, *, to: Target = "igpt", head: Head | None = None,
    license: str | None = None, branch: str | None = None, private: bool = False,
    message: str | None = None,
    dry_run: Annotated[Path | None, Parameter(metavar="FOLDER")] = None,
) -> None:  # fmt: skip
    """Publish RUN's model as NAME on the Hugging Face hub, with a model card.

        igpt push runs/a someone/pixels --license apache-2.0

    Log in first with hf auth login, or set HF_TOKEN.

    Args:
        run: Run or model folder.
        name: owner/model.
        to: Kind of folder to publish.
        head: With --to huggingface: the head that is published; classes if there are any.
        license: Of the weights, such as apache-2.0 or cc-by-4.0.
        branch: Instead of the main branch.
        private: If the model is new there: for you alone.
        message: Commit message.
        dry_run: Write it to this folder only, to look.
    """
    from igpt.report.publish import push

    where = push(
        run, name, to=to, head=head, license_name=license, branch=branch, private=private,
        message=message, dry_run=dry_run,
    )  # fmt: skip
    print(where)
