"""The page in which one sees a network draw."""

from typing import Annotated

from cyclopts import Parameter
from cyclopts.validators import Number

from igpt.commands.options import Device, Run
from igpt.serve.limits import Limits

LIMITS = Limits()


def serve(
    models: tuple[Run, ...] = (), /, *, host: str = "127.0.0.1",
    port: Annotated[int, Parameter(validator=Number(gte=0, lt=2**16))] = 8000,
    allow_host: tuple[str, ...] = (), limits: Annotated[Limits, Parameter(name="*")] = LIMITS,
    device: Device = "auto",
) -> None:  # fmt: skip
    """Open a page on which MODELS finish pictures, pixel by pixel; Ctrl-C ends it.

    Without any it is the small one that comes with igpt.

        igpt serve runs/a runs/bert

    It needs the extra igpt[web]. Only this machine reaches it, unless --host says otherwise; then
    all who reach the address may use it, for there is no password.

    Args:
        models: Runs, model folders or names on the hub, to see side by side.
        host: Address to listen on; 0.0.0.0 for all of this machine's.
        port: 0 for any that is free.
        allow_host: A name by which others call this machine; again for more.
    """
    from igpt.serve.server import serve as serve_models

    serve_models(
        models, host=host, port=port, names=allow_host, limits=limits, device=device,
        announce=lambda address: print(f"{address} (Ctrl-C ends it)", flush=True),
    )  # fmt: skip
