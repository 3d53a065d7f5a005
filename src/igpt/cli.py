"""The `igpt` command: all commands in their groups, and how what went wrong is said.

The commands are functions in `igpt.commands`: their signatures are what the parser reads, their
docstrings what `--help` shows, and nothing of either is written twice. Nothing heavy is imported
before a command runs, so that help comes at once. What a user can get wrong arrives here as
`IgptError`, or from the parser, and leaves as one line on stderr, with exit code 2.
"""

import sys
import warnings
from collections.abc import Callable, Sequence
from io import TextIOWrapper
from typing import Any, TextIO

from cyclopts import (
    App,
    CycloptsError,
    Group,
    MissingArgumentError,
    Parameter,
    UnusedCliTokensError,
)

from igpt.commands import draw, measure, prepare, publish, train
from igpt.errors import ConfigError, IgptError


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit: 0 if all went well, 2 for what the user can put right."""
    arguments = sys.argv[1:] if arguments is None else arguments
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # names of classes and files are of any language
            stream.reconfigure(errors="backslashreplace")
    try:
        _refuse_moved(arguments)
        with warnings.catch_warnings():
            warnings.showwarning = _note
            app()(arguments)
        code = 0
    except CycloptsError as error:
        where = " ".join(["igpt", *(error.command_chain or ())])
        code = _complain(f"{_line(error)} (see {where} --help)")
    except IgptError as error:
        code = _complain(str(error), code=getattr(error, "exit_code", 2))
    except KeyboardInterrupt:
        code = _complain("stopped; nothing half-written was left", code=130)
    except BrokenPipeError:
        code = 1
    sys.exit(code)


def app() -> App:
    """Return the parser of all commands, in the order of the work."""
    app = App(
        name="igpt",
        help="""Generative pretraining from pixels.

        Images become tokens, a transformer learns to predict them, and its middle layers turn out
        to know what is in the picture.
        """,
        default_parameter=Parameter(negative=(), show_default=_shown_default),
        print_error=False,
        exit_on_error=False,
        suppress_keyboard_interrupt=False,
        result_action="return_value",
    )
    data = App(name="data", help="Turn images into a record store.")
    data.command(prepare.data_prepare, name="prepare")
    data.command(prepare.data_show, name="show")
    palette = App(name="palette", help="Find the few hundred colors that stand in for all.")
    palette.command(prepare.palette_fit, name="fit")
    _add(app, "To begin with", prepare.quickstart, prepare.recipes)
    _add(app, "Images to tokens", data, palette)
    _add(app, "Train", train.pretrain, train.finetune, train.resume, train.search)
    _add(app, "Measure", measure.evaluate, measure.probe, measure.few_labels, measure.masks,
         measure.along, measure.outliers, measure.features)  # fmt: skip
    _add(app, "Draw", draw.complete, draw.sample, draw.surprise)
    _add(app, "Report", publish.report, publish.reproduce, publish.claims)
    _add(app, "Share", publish.convert, publish.push)
    others = Group.create_ordered("Other")
    for flag in ("--help", "--version"):
        app[flag].group = others
    app.register_install_completion_command(
        group=others, help="Teach your shell, bash, zsh or fish, to complete igpt."
    )
    return app


def _add(app: App, title: str, *commands: App | Callable[..., None]) -> None:
    """Add commands as a group; help lists them in this order, not by the alphabet."""
    group = Group.create_ordered(title)
    for index, command in enumerate(commands):
        if isinstance(command, App):
            command.group, command.sort_key = group, index
            app.command(command)
        else:
            app.command(command, group=group, sort_key=index)


def _shown_default(value: Any) -> str | None:
    """Return how help shows a default; None for those that go without saying."""
    if value is None or value is False or value == ():
        return None
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _line(error: CycloptsError) -> str:
    """Return what the parser has to say, in one line."""
    if isinstance(error, UnusedCliTokensError):
        return f"nothing more was expected, got {' '.join(error.unused_tokens or ())!r}"
    text = " ".join(str(error).split())
    if isinstance(error, MissingArgumentError) and error.keyword is None:
        text = text.replace("requires an argument", "is missing")
    return text


def _refuse_moved(arguments: Sequence[str]) -> None:
    """Name the commands that took the place of earlier options.

    Raises:
        ConfigError: One of those options is there.
    """
    if not arguments or arguments[0] not in ("pretrain", "finetune"):
        return
    given = {argument.partition("=")[0] for argument in arguments}
    if "--resume" in given:
        raise ConfigError("--resume is a command of its own now; use igpt resume RUN")
    if "--search-rates" in given:
        start = "RECIPE" if arguments[0] == "pretrain" else "RUN"
        raise ConfigError(
            f"--search-rates is a command of its own now; use igpt search {start} --rates ..."
        )


def _note(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Show our own warnings as one line, and others as Python does."""
    if category is UserWarning:
        print(f"igpt: note: {message}", file=sys.stderr)
    else:
        print(warnings.formatwarning(message, category, filename, lineno, line), file=sys.stderr)


def _complain(message: str, *, code: int = 2) -> int:
    print(f"igpt: {message}", file=sys.stderr)
    return code
