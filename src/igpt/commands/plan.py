"""Before a training begins: `igpt plan`."""

import dataclasses
from typing import Annotated, Literal

from cyclopts import Parameter
from cyclopts.validators import Number

from igpt.commands.options import Json, Settings, show
from igpt.errors import ConfigError
from igpt.hardware import Hardware, parse_devices
from igpt.model.config import ModelConfig

_SIZES, _SIDES = ("igpt-s", "igpt-m", "igpt-l", "igpt-xl"), (32, 48, 64)

Positive = Annotated[float | None, Parameter(validator=Number(gt=0))]


def plan(
    recipe: str | None = None, /, *, devices: str | None = None, asked: Settings = (),
    mfu: Annotated[float | None, Parameter(validator=(Number(gt=0), Number(lte=1)))] = None,
    parallel: Literal["auto", "ddp", "fsdp"] | None = None, memory_gb: Positive = None,
    peak_tflops: Positive = None, link_gbps: Positive = None, as_json: Json = False,
) -> None:  # fmt: skip
    """Reckon what a training by RECIPE takes: memory, days, what is sent; nothing is run.

        igpt plan igpt-l --devices 64xH100

    Without RECIPE, the published networks at 32, 48 and 64 pixels, a line each, with the settings
    that make them fit.

    Args:
        recipe: Its name, as igpt recipes lists them.
        devices: How many of which, such as 64xH100, T4 or 8; this machine's by default.
        mfu: Share of the devices' peak that is reached; by default one that was measured.
        parallel: Short for --set training.parallel=...
        memory_gb: Of each device, if not as known.
        peak_tflops: Dense peak of each device at the recipe's precision.
        link_gbps: Gigabytes a second each way, of the slowest link between devices.
    """
    from igpt.planning.plan import Plan, fitted, make_plan
    from igpt.planning.tables import overview, plan_text
    from igpt.runs.recipes import RECIPES, find_recipe
    from igpt.settings import with_settings

    if parallel is not None:
        asked = (*asked, f"training.parallel={parallel}")
    found = with_settings(find_recipe(recipe or "igpt-s"), asked)
    kind, count = _devices(devices, found.model, memory_gb, peak_tflops, link_gbps)
    if recipe is not None:
        result = make_plan(
            recipe, found.model, found.training, kind=kind, devices=count, mfu=mfu,
            workload=found.workload,
        )  # fmt: skip
        show(result, as_json=as_json, text=plan_text(result))
        return
    rows: list[tuple[str, ModelConfig, Plan | str]] = []
    for name in _SIZES:
        for side in _SIDES:
            settings = (*asked, f"model.image_size={side}")
            size = with_settings(RECIPES[name], settings)
            try:
                training = fitted(
                    size.model, size.training, kind=kind, devices=count, workload=size.workload
                )
            except ConfigError as error:
                rows.append((name, size.model, str(error)))
                continue
            if training is None:
                rows.append((name, size.model, "fits in no way that igpt has"))
                continue
            row = make_plan(
                name, size.model, training, kind=kind, devices=count, mfu=mfu,
                workload=size.workload,
            )  # fmt: skip
            rows.append((name, size.model, row))
    plans = [row if isinstance(row, Plan) else None for *_, row in rows]
    show(plans, as_json=as_json, text=overview(rows, kind, count))


def _devices(
    text: str | None, model: ModelConfig, memory_gb: float | None, peak_tflops: float | None,
    link_gbps: float | None,
) -> tuple[Hardware, int]:  # fmt: skip
    """Return the devices meant: known ones, this machine's, or those of the figures given.

    Raises:
        ConfigError: A number of devices alone, and this machine has no GPU.
    """
    kind, count = (None, 0) if text is None else parse_devices(text)
    if kind is None and (memory_gb is None or peak_tflops is None):
        from igpt.planning.here import this_machine

        kind, here = this_machine(model)
        if count > 1 and not kind.is_gpu:
            raise ConfigError(
                f"{count} devices of which kind? There is no GPU here; say --devices {count}xH100, "
                "or give --memory-gb, --peak-tflops and --link-gbps"
            )
        count = count or here
    kind = kind or Hardware(name="device", memory=0, float16=0.0, float32=0.0)
    if memory_gb is not None:
        kind = dataclasses.replace(kind, memory=round(memory_gb * 1e9))
    if peak_tflops is not None:
        peak = peak_tflops * 1e12
        kind = dataclasses.replace(kind, float16=peak, float32=peak)
    if link_gbps is not None:
        kind = dataclasses.replace(kind, link=link_gbps * 1e9, network=link_gbps * 1e9)
    count = count or 1
    if not kind.peak("float32") or (count > 1 and not kind.bandwidth(count)):
        raise ConfigError(
            f"there is no figure for {kind.name}; give --memory-gb, --peak-tflops and, for several "
            "devices, --link-gbps"
        )
    return kind, count
