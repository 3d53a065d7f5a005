"""The models that are served: each under a name, loaded when it is first asked for.

    models = Models([Path("runs/a"), Path("openai/imagegpt-small")], device="auto")
    pretrained = await models["a"].loaded()

What goes wrong with files of the server's is printed where it runs, and nobody else gets to know a
path of them. All that networks compute, they compute on one thread, where requests take turns.
"""

import asyncio
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import ParamSpec, TypeVar

from igpt.errors import IgptError, printable
from igpt.formats.load import load
from igpt.model.pretrained import Pretrained
from igpt.places import run_of
from igpt.processes import choose_device
from igpt.report.verdicts import Beside
from igpt.serve.messages import ModelState, State

Arguments = ParamSpec("Arguments")
Value = TypeVar("Value")


class Unknown(IgptError):
    """There is no model of this name."""


class Unavailable(IgptError):
    """Something of the server's own is missing or broken."""


class Model:
    """A model under a name."""

    def __init__(self, name: str, path: Path, device: str) -> None:
        self.name = name
        self._path = path
        self._device = device
        self._loading: asyncio.Task[Pretrained] | None = None

    @property
    def state(self) -> ModelState:
        """Whether it is in memory."""
        task = self._loading
        state: State = "not loaded"
        if task is not None:
            failed = task.done() and (task.cancelled() or task.exception() is not None)
            state = "failed" if failed else "ready" if task.done() else "loading"
        return ModelState(name=self.name, state=state)

    async def loaded(self) -> Pretrained:
        """Return the model, once it is loaded; what failed before is tried again.

        Raises:
            Unavailable: It cannot be loaded.
        """
        if self._loading is None or self.state.state == "failed":
            read = partial(load, self._path, device=self._device)
            self._loading = asyncio.create_task(self._from_files(read, "could not be loaded"))
        return await asyncio.shield(self._loading)

    async def probes(self) -> Beside:
        """Return the probes that its run keeps: of it, and of the network untrained.

        Raises:
            Unavailable: They cannot be read.
        """
        read = partial(Beside.of, run_of(self._path))
        return await self._from_files(read, "has a run that could not be read")

    async def _from_files(self, read: Callable[[], Value], what: str) -> Value:
        try:
            return await asyncio.to_thread(read)
        except IgptError as error:
            print(f"igpt: {error}", file=sys.stderr, flush=True)
            raise Unavailable(f"{self.name} {what}; where igpt serve runs, it says why") from error


class Models:
    """All models that are served, by name, and the thread on which they compute."""

    def __init__(self, paths: Sequence[Path], *, device: str) -> None:
        """Name the models after their folders.

        Args:
            paths: Runs, model folders and names on the hub.
            device: `cpu`, `cuda` ...; `auto` for the first GPU, or else the CPU.

        Raises:
            ConfigError: There is no such device.
        """
        device = str(choose_device(device))
        self._models: dict[str, Model] = {}
        for path in paths:
            name = self._new_name(path)
            self._models[name] = Model(name, path, device)
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="networks")

    def __getitem__(self, name: str) -> Model:
        """Return the model of this name.

        Raises:
            Unknown: There is none.
        """
        if name not in self._models:
            raise Unknown(f"no model of that name is served; choose from {', '.join(self._models)}")
        return self._models[name]

    @property
    def states(self) -> tuple[ModelState, ...]:
        """All of them, in their order."""
        return tuple(model.state for model in self._models.values())

    async def compute(
        self,
        function: Callable[Arguments, Value],
        *arguments: Arguments.args,
        **named: Arguments.kwargs,
    ) -> Value:
        """Call a function on the thread where networks compute, after what was asked before."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._worker, partial(function, *arguments, **named))

    def close(self) -> None:
        """Have what waits for the thread not be done any more."""
        self._worker.shutdown(wait=False, cancel_futures=True)

    def _new_name(self, path: Path) -> str:
        folder = path if path.name not in ("", "..", "model") else path.resolve()
        if folder.name == "model" and folder.parent.name:
            folder = folder.parent
        name = stem = printable(folder.name) or "model"
        number = 1
        while name in self._models:
            number += 1
            name = f"{stem}-{number}"
        return name
