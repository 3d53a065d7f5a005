"""Plans as a person reads them: one in full, or many, a line each."""

from collections.abc import Iterator, Sequence

from igpt.hardware import Hardware
from igpt.model.config import OBJECTIVE_WORDS, ModelConfig
from igpt.planning.plan import Plan

_PAPER = {(24, 512): "76M", (36, 1024): "455M", (48, 1536): "1.4B", (60, 3072): "6.8B"}
"""Parameters as the paper tells them (sections 3.3 and 4.4), by layers and width."""

_PARTS = {
    "weights": "weights",
    "copies": "their 16-bit copies",
    "gradients": "gradients",
    "moments": "Adam's moments",
    "activations": "activations",
    "logits": "logits and their loss",
    "fetched": "fetched from other devices",
    "saving": "copy that is being saved",
    "batch": "tokens",
}


def plan_text(plan: Plan) -> str:
    """Return a plan in full."""
    model, training = plan.model, plan.training
    kind = OBJECTIVE_WORDS[plan.objective]
    blocks = [
        f"{plan.name} on {_devices(plan.kind, plan.devices)}: {model.layers} layers of width "
        f"{model.width}, {model.image_size}x{model.image_size} pixels, {kind}; {plan.precision}, "
        f"{_how(plan)}",
        _size_lines(plan),
        _memory_lines(plan),
        _time_lines(plan),
    ]
    notes = list(_precision_notes(plan))
    if training.compile:
        notes.append("compiled blocks keep less than is reckoned here")
    if notes:
        blocks.append("\n".join(notes))
    return "\n\n".join(blocks)


def paper_parameters(model: ModelConfig) -> str:
    """Return the paper's number of parameters of a network, as it tells it; empty if it has none.

    The size of its images, which adds a little, is not told there.
    """
    return _PAPER.get((model.layers, model.width), "")


def overview(
    rows: Sequence[tuple[str, ModelConfig, Plan | str]], kind: Hardware, devices: int
) -> str:
    """Return a line for each network: its size, and what its plan will take, or why it has none."""
    lines = [
        f"on {_devices(kind, devices)}, {kind.usable / 1e9:.1f} GB of each to be used",
        f"{'':8} {'pixels':>7} {'parameters':>11} {'paper':>6} {'FLOPs/token':>12} {'by':>6} "
        f"{'at a time':>9} {'activations':>11} {'GB':>6} {'tokens/s':>11} {'days':>15}",
    ]
    for name, model, plan in rows:
        line = (
            f"{name:8} {f'{model.image_size}x{model.image_size}':>7} "
            f"{model.parameters / 1e6:10,.1f}M {paper_parameters(model):>6} "
            f"{model.flops_per_token:12.3e} "
        )
        if isinstance(plan, str):
            lines.append(line + plan)
            continue
        again = "again" if plan.training.checkpoint_activations else "kept"
        lines.append(
            f"{line}{plan.strategy:>6} {plan.microbatch:9} {again:>11} "
            f"{plan.memory.total / 1e9:6.1f} {plan.tokens_per_second[0]:11,.0f} "
            f"{_range(plan.days, '{:,.1f}'):>15}"
        )
    plans = [plan for *_, plan in rows if isinstance(plan, Plan)]
    if plans:
        lines.append(
            f"at {plans[0].mfu:.0%} of the peak, which fewer images at a time than it was measured "
            "with may not reach"
        )
        lines += _precision_notes(plans[0])
    if devices > 1:
        lines.append(
            "tokens/s, and the first figure of days, if all that is sent hides behind the "
            "arithmetic; the second if none does"
        )
    return "\n".join(lines)


def _precision_notes(plan: Plan) -> Iterator[str]:
    if plan.precision == "bfloat16" and not plan.kind.bfloat16:
        yield (
            f"{plan.kind.name} has no arithmetic for bfloat16; --set training.precision=auto takes "
            f"{plan.kind.precision}"
        )


def _devices(kind: Hardware, count: int) -> str:
    return f"{count} x {kind.name}" if count > 1 else kind.name


def _how(plan: Plan) -> str:
    if plan.strategy == "alone":
        return f"{plan.microbatch} of {plan.training.batch_size} images at a time"
    return (
        f"{plan.strategy}, {plan.microbatch} of each device's "
        f"{plan.training.batch_size // plan.devices} images at a time"
    )


def _size_lines(plan: Plan) -> str:
    model, training = plan.model, plan.training
    multiplied = model.layers * 12 * model.width**2 + model.colors * model.width
    paper = paper_parameters(model)
    return "\n".join(
        [
            f"parameters     {model.parameters / 1e6:,.2f} million"
            + (f"; the paper has {paper}" if paper else ""),
            f"FLOPs a token  {model.flops_per_token:.3e} = 6 N + 12 L d n, with N = "
            f"{multiplied / 1e6:,.1f} million weights that multiply, L = {model.layers}, "
            f"d = {model.width}, n = {model.positions:,}",
            f"FLOPs          {plan.step_flops:.3e} a step of {training.batch_size} images, "
            f"{plan.step_flops * training.steps:.3e} in {training.steps:,} steps",
        ]
    )


def _memory_lines(plan: Plan) -> str:
    """Return the memory by part, with and without activations computed again."""
    pair = (plan.memory, plan.other_memory)
    if plan.training.checkpoint_activations:
        pair = (pair[1], pair[0])
    unit, size = ("GB", 1e9) if max(memory.total for memory in pair) >= 1e9 else ("MB", 1e6)
    lines = [
        f"{unit + ' on each device, at most':28} {'activations kept':>18} {'computed again':>18}"
    ]
    for name, text in _PARTS.items():
        values = [memory.parts()[name] for memory in pair]
        if any(values):
            lines.append(f"  {text:26} {values[0] / size:18.2f} {values[1] / size:18.2f}")
    lines.append(f"  {'in all':26} {pair[0].total / size:18.2f} {pair[1].total / size:18.2f}")
    lines.append(f"  {'when':26} {pair[0].moment:>18} {pair[1].moment:>18}")
    asked = "computed again" if plan.training.checkpoint_activations else "kept"
    usable = f"of {plan.kind.memory / 1e9:.1f} GB, {plan.kind.usable / 1e9:.1f} can be used"
    if plan.fits:
        verdict = f"With activations {asked} it fits: {usable}."
    elif plan.remedies:
        verdict = f"It does not fit: {usable}. It would with {'; or with '.join(plan.remedies)}."
    else:
        verdict = f"It does not fit in any way that igpt has: {usable}."
    return "\n".join([*lines, verdict])


def _time_lines(plan: Plan) -> str:
    peak = plan.kind.peak(plan.precision)
    lines = [
        f"arithmetic     {_seconds(plan.compute_seconds)} a step, at {plan.mfu:.0%} of "
        f"{peak / 1e12:,.4g} TFLOP/s"
        + (" and a forward pass more" if plan.training.checkpoint_activations else "")
    ]
    sent = plan.communication
    if plan.devices > 1:
        parts = []
        if sent.gathered_bytes:
            parts.append(f"weights {sent.gathered_bytes / 1e9:,.2f} GB")
        parts.append(f"gradients {sent.reduced_bytes / 1e9:,.2f} GB")
        share = sent.seconds / plan.compute_seconds
        lines.append(
            f"sent           {_seconds(sent.seconds)} a step, {share:.0%} of the arithmetic: "
            f"{' and '.join(parts)} a device, at {sent.bandwidth / 1e9:g} GB/s"
            + (
                f"; between machines gradients {sent.between_bytes / 1e9:,.2f} GB, at "
                f"{sent.network / 1e9:g} GB/s"
                if sent.between_bytes
                else ""
            )
        )
    lines.append(f"tokens/s       {_range(plan.tokens_per_second, '{:,.0f}')}")
    lines.append(f"days           {_range(plan.days, '{:,.2f}')} for {plan.training.steps:,} steps")
    if plan.devices > 1:
        lines.append(
            "The first is reached if all that is sent hides behind the arithmetic, the second if "
            "none does."
        )
    return "\n".join(lines)


def _seconds(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds >= 1 else f"{seconds * 1e3:.1f} ms"


def _range(pair: tuple[float, float], form: str) -> str:
    first, second = (form.format(value) for value in pair)
    return first if first == second else f"{first} to {second}"
