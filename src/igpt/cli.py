"""The `igpt` command: all commands in their groups, and how what went wrong is said.

The commands are functions in `igpt.commands`: their signatures are what the parser reads, their
docstrings what `--help` shows, and nothing of either is written twice. Nothing heavy is imported
before a command runs, so that help comes at once. What a user can get wrong arrives here as
`IgptError`, or from the parser, and leaves as one line on stderr, with exit code 2; so does what
the machine refuses where nothing expected it. Tracebacks are for faults of our own.
"""

import errno
import io
import itertools
import os
import shlex
import sys
import traceback
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TextIO, get_args

from cyclopts import (
    App,
    ArgumentCollection,
    CycloptsError,
    Group,
    MissingArgumentError,
    Parameter,
    UnusedCliTokensError,
)

from igpt.commands import check, draw, measure, photos, plan, prepare, publish, serve, train
from igpt.commands.options import fill_in, look_at
from igpt.errors import ConfigError, IgptError, printable
from igpt.places import PREPARING, kind_of, resuming
from igpt.training.signals import Interrupted

_LONGEST_NAME = 255  # bytes, on every file system in use

_ADVICE = {
    errno.ENOSPC: "free some space",
    errno.EDQUOT: "free some space",
    errno.EACCES: "ask for the right to it, or choose another place",
    errno.EMFILE: "allow more open files, with ulimit -n",
    errno.EIO: "the disk may be failing; copy what is on it",
}
"""What to try, by the number of an error that no command knows how to explain."""

_THEMSELVES = ("start", "quickstart", "resume", "search", "reproduce", "along")
"""The commands that go on where they were stopped when they are given again."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit.

    The code is 0 if all went well, 1 where the answer is no or nobody reads what is printed, 2 for
    what the user or the machine's owner can put right, and 130 after Ctrl-C. What went wrong is one
    line on stderr; with IGPT_DEBUG=1 the traceback stands above it.
    """
    _prepare_streams()
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # its notes are for its own developers
    code = _flushed(_run(sys.argv[1:] if arguments is None else arguments))
    if "TORCHELASTIC_RUN_ID" in os.environ:
        # PyTorch's caches keep a group of processes, whose threads may abort as Python ends
        os._exit(code)
    sys.exit(code)


def _run(arguments: Sequence[str]) -> int:
    try:
        _refuse_moved(arguments)
        _refuse_several(arguments)
        with warnings.catch_warnings():
            warnings.showwarning = _note
            command, bound, _ = app().parse_args(arguments)
            fill_in(bound)
            look_at(bound)
            command(*bound.args, **bound.kwargs)
    except CycloptsError as error:
        where = " ".join(["igpt", *(error.command_chain or ())])
        return _complain(f"{_line(error)} (see {where} --help)")
    except Interrupted as error:
        again = _to_go_on(arguments)
        return _complain(f"{error.done}; go on with {again}" if again else str(error),
                         code=error.exit_code)  # fmt: skip
    except IgptError as error:
        return _complain(str(error))
    except SystemExit as stop:  # of a command whose answer is no
        return int(stop.code or 0)
    except KeyboardInterrupt:
        again = _to_go_on(arguments)
        how = f"; go on with {again}" if again else ""
        return _complain(f"stopped; nothing half-written was left{how}", code=130)
    except BrokenPipeError:
        return 1
    except Exception as error:
        reason = _of_the_machine(error)
        if reason is None:
            raise  # a fault of ours, which only its traceback explains
        return _complain(f"{reason} (IGPT_DEBUG=1 shows where)")
    return 0


def _to_go_on(arguments: Sequence[str]) -> str:
    """Return the line to type after Ctrl-C, quoted for a shell; empty if there is nothing to it."""
    name = arguments[0] if arguments else ""
    if name in _THEMSELVES:
        return shlex.join(["igpt", *arguments])
    outs = [value for option, value in itertools.pairwise(arguments) if option == "--out"]
    outs += [argument[6:] for argument in arguments if argument.startswith("--out=")]
    if name == "data" and any((Path(out) / PREPARING).is_dir() for out in outs):
        return shlex.join(["igpt", *arguments])
    runs = [path for path in map(Path, outs) if kind_of(path) == "run"]
    return resuming(runs[-1]) if name in ("pretrain", "finetune") and runs else ""


def _of_the_machine(error: Exception) -> str | None:
    """Return what is wrong if memory, a disk or a text failed where nothing expected it."""
    if isinstance(error, OSError):
        what = f"{error.filename}: " if error.filename is not None else ""
        advice = f"; {_ADVICE[error.errno]}" if error.errno in _ADVICE else ""
        return f"{what}{error.strerror or error}{advice}"
    if isinstance(error, UnicodeError):
        return f"a text is broken: {error}"
    if isinstance(error, RecursionError):
        return "something is nested without end"
    if isinstance(error, OverflowError):
        return f"a number is too large: {error}"
    text = str(error).lower()  # torch has errors of its own, and says nothing but this
    if isinstance(error, MemoryError) or "not enough memory" in text or "out of memory" in text:
        return "there is not enough memory; try smaller numbers, or a machine that has more"
    return None


class _Dropping(io.FileIO):
    """A file that takes everything: what cannot be written is dropped."""

    def write(self, data: Any, /) -> int:
        try:
            return super().write(data)
        except OSError:
            return len(data)


def _prepare_streams() -> None:
    """See that all can be printed, whatever the names of files hold and wherever it goes.

    A number that was closed is given to nothing else: what is meant for stderr would go into the
    file that got it. No work is lost because nobody reads stderr, or its disk is full.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest free number, which is this one
    if sys.stdout is None:
        sys.stdout = os.fdopen(1, "w", closefd=False)
    if sys.stderr is None or sys.stderr is sys.__stderr__:
        encoding = None if sys.stderr is None else sys.stderr.encoding
        file = io.BufferedWriter(_Dropping(2, "w", closefd=False))
        sys.stderr = io.TextIOWrapper(file, encoding=encoding, line_buffering=True)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # names of classes and files are of any language
            stream.reconfigure(errors="backslashreplace")


def _flushed(code: int) -> int:
    """Print what is still to be printed, and return the exit code."""
    try:
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        code = code or 1
    except OSError as error:
        code = code or _complain(f"could not print: {error.strerror}")
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes once more
    return code


def app() -> App:
    """Return the parser of all commands, in the order of the work."""
    app = App(
        name="igpt",
        help="""Generative pretraining from pixels.

        Images become tokens, a transformer learns to predict them, and its middle layers turn out
        to know what is in the picture.
        """,
        default_parameter=Parameter(negative=(), show_default=_shown_default),
        config=_check_paths,
        print_error=False,
        exit_on_error=False,
        suppress_keyboard_interrupt=False,
        result_action="return_value",
    )
    data = App(name="data", help="Turn images into a record store.")
    data.command(prepare.data_prepare, name="prepare")
    data.command(prepare.data_verify, name="verify")
    data.command(prepare.data_show, name="show")
    palette = App(name="palette", help="Find the few hundred colors that stand in for all.")
    palette.command(prepare.palette_fit, name="fit")
    _add(app, "To begin with", prepare.start, prepare.quickstart, prepare.recipes)
    _add(app, "Images to tokens", data, palette)
    _add(app, "Train", plan.plan, train.pretrain, train.finetune, train.resume, train.search)
    _add(app, "Measure", measure.evaluate, measure.probe, measure.few_labels, measure.masks,
         measure.along, measure.outliers)  # fmt: skip
    _add(app, "Use", photos.classify, photos.similar, photos.features)
    _add(app, "Draw", draw.complete, draw.sample, draw.surprise, serve.serve)
    _add(app, "Report", publish.report, publish.reproduce, publish.claims)
    _add(app, "Share", publish.convert, publish.push)
    _add(app, "Check", check.info, check.verify, check.doctor)
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


def _check_paths(_: App, __: tuple[str, ...], arguments: ArgumentCollection) -> None:
    """Refuse paths that no file can have, before any work.

    Raises:
        ConfigError: One is empty, holds a NUL character or is too long.
    """
    for argument in arguments:
        is_path = Path in (argument.hint, *get_args(argument.hint))
        for value in (token.value for token in argument.tokens):
            if "\0" in value:
                raise ConfigError(f"{argument.name} holds a NUL character, got {value!r}")
            if is_path and not value:
                raise ConfigError(f"{argument.name} is empty, where a path is wanted")
            if is_path and max(map(len, os.fsencode(value).split(b"/"))) > _LONGEST_NAME:
                raise ConfigError(
                    f"{argument.name} has a name of more than {_LONGEST_NAME} bytes, got "
                    f"{value[:40]!r}..."
                )


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


def _refuse_several(arguments: Sequence[str]) -> None:
    """See that only what several processes can share is started in several.

    Raises:
        ConfigError: torchrun started another command.
    """
    several = int(os.environ.get("WORLD_SIZE", "1")) > 1 and "TORCHELASTIC_RUN_ID" in os.environ
    if several and arguments and arguments[0] not in ("pretrain", "finetune", "resume"):
        raise ConfigError(
            f"igpt {arguments[0]} works in one process; only pretrain, finetune and resume are "
            "shared by several"
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
        print(f"igpt: note: {printable(str(message))}", file=sys.stderr)
    else:
        print(warnings.formatwarning(message, category, filename, lineno, line), file=sys.stderr)


def _complain(message: str, *, code: int = 2) -> int:
    """Say what is wrong in one line, and return the exit code."""
    if os.environ.get("IGPT_DEBUG") == "1":
        traceback.print_exc()
    print(f"igpt: {printable(message)}", file=sys.stderr)
    return code
