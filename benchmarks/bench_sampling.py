"""Half an image given, half drawn: ours beside `generate` of transformers (rows 4, 5, 12, 14, 21).

Both have the same weights and are checked to complete greedily token for token before anything is
timed. Then each draws from its distribution at temperature 1, as its documentation does. Where a
whole completion by the peer takes minutes, both draw `drawn` tokens after the same 512 in every
round, and the title says so, and the whole half once.

Rows 4, 5 and 14 are of random weights, whose pixels hardly depend on each other: guesses would hold
as they never do, so igpt draws them one at a time. Row 14 has windows too, to see what passes over
them take on a GPU, where none are chosen by themselves. Row 21 is of trained networks, each named
with a store whose test images are completed, `--trained RUN STORE`, and of the same made wider and
deeper by weights that change nothing of what they compute.
"""

import itertools
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from harness import Contender, arguments, peak_memory, race, write_row

from igpt.data.batches import images_at_size
from igpt.data.store import RecordStore
from igpt.formats.huggingface import write_huggingface
from igpt.formats.load import load
from igpt.model.config import SIZES, ModelConfig
from igpt.model.pretrained import Pretrained
from igpt.model.sampling import Pace, SamplingConfig, continue_tokens
from igpt.model.transformer import ImageGPT

MEMORY_BYTES = {"H100": 3.35e12, "H200": 4.8e12}
"""Bytes a second of an SXM's memory: no decoding can read weights and cache faster."""

_OURS = """
import sys, torch
from harness import resident_memory
from igpt.model.config import ModelConfig
from igpt.model.sampling import continue_tokens
from igpt.model.transformer import ImageGPT
model = ImageGPT(ModelConfig(layers=8, width=256, heads=8)).eval()
continue_tokens(model, torch.zeros(1, 1020, dtype=torch.long))
before = resident_memory()
continue_tokens(model, torch.zeros(32, 1000, dtype=torch.long))
print(before, resident_memory())
"""
_PEER = """
import sys, torch
from harness import resident_memory
from transformers import ImageGPTConfig, ImageGPTForCausalImageModeling
config = ImageGPTConfig(n_embd=256, n_layer=8, n_head=8)
model = ImageGPTForCausalImageModeling(config).eval()
model.generate(torch.zeros(1, 1020, dtype=torch.long), max_length=1024)
before = resident_memory()
model.generate(torch.zeros(32, 1001, dtype=torch.long), max_length=1025)
print(before, resident_memory())
"""


def networks(config: ModelConfig, device: str) -> tuple[ImageGPT, torch.nn.Module]:
    """Return ours and theirs with the same random weights, of which every one matters."""
    import numpy as np

    from igpt.pixels.palette import Palette
    from igpt.pixels.tokenizer import ImageTokenizer

    torch.manual_seed(0)
    model = ImageGPT(config).eval()
    torch.nn.init.normal_(model.color_head.weight, std=0.1)
    colors = np.random.default_rng(0).uniform(-1, 1, (config.colors, 3)).astype(np.float32)
    tokenizer = ImageTokenizer(Palette(colors), config.image_size)
    peer = theirs(Pretrained(model=model, tokenizer=tokenizer))
    return model.to(device), peer.to(device)


def widened(model: ImageGPT, config: ModelConfig) -> ImageGPT:
    """Return a network of this larger shape that computes what `model` does, to rounding.

    What is new of the residual stream stays zero, and what was there is so much larger that its
    root mean square is what it was; heads keep the scale of their logits; new layers add nothing.
    """
    old, wide = model.config, ImageGPT(config).eval()
    stream = (config.width / old.width) ** 0.5
    scale = ((config.width // config.heads) / (old.width // old.heads)) ** 0.25
    features = old.width // old.heads
    with torch.no_grad():
        for parameter in wide.parameters():
            parameter.zero_()
        for new, weight in (
            (wide.token_embedding, model.token_embedding),
            (wide.position_embedding, model.position_embedding),
            (wide.start_embedding, model.start_embedding),
        ):
            new[..., : old.width] = weight * stream
        wide.final_norm.gain[: old.width] = model.final_norm.gain / stream
        wide.color_head.weight[:, : old.width] = model.color_head.weight
        for into, block in zip(wide.blocks, model.blocks, strict=False):
            for norm in ("attention_norm", "mlp_norm"):
                getattr(into, norm).gain[: old.width] = getattr(block, norm).gain / stream
            qkv = into.attention.query_key_value.weight.unflatten(0, (3, config.heads, -1))
            taken = block.attention.query_key_value.weight.unflatten(0, (3, old.heads, -1))
            qkv[:, : old.heads, :features, : old.width] = taken
            qkv[:2] *= scale
            out = into.attention.output.weight.unflatten(1, (config.heads, -1))
            taken = block.attention.output.weight.unflatten(1, (old.heads, -1))
            out[: old.width, : old.heads, :features] = taken * stream
            into.mlp.input.weight[: 4 * old.width, : old.width] = block.mlp.input.weight
            into.mlp.output.weight[: old.width, : 4 * old.width] = block.mlp.output.weight * stream
    return wide


def passes(model: ImageGPT, draw: Callable[[], object]) -> int:
    """Return how often the network is asked to draw."""
    shapes: list[torch.Size] = []
    with model.color_head.register_forward_hook(lambda _, __, found: shapes.append(found.shape)):
        draw()
    return len(shapes)


def trained_row(
    row: str, pretrained: Pretrained, model: ImageGPT, store: Path, name: str, *, batch: int,
    rounds: int, reach: str, compiled: bool, device: str,
) -> None:  # fmt: skip
    """Time completions of `batch` test images by a trained network, with windows and without."""
    config, tokenizer = model.config, pretrained.tokenizer
    on_gpu = device == "cuda"  # where no window is chosen by itself, and weights are in bfloat16
    dtype, usual = (torch.bfloat16, 16) if on_gpu else (torch.float32, None)
    records = RecordStore.open(store).split("test")
    half = config.positions // 2
    chosen = records.varied(batch)
    given = tokenizer.encode(images_at_size(records.chosen(chosen), config.image_size))[:, :half]
    peer = theirs(Pretrained(model=model, tokenizer=tokenizer)).float().to(device)
    model, given = model.float().to(device), given.to(device)
    context = F.pad(given, (1, 0), value=config.colors)

    def draw(
        seed: int, *, window: int | None = usual, record: bool = True, **settings: bool
    ) -> torch.Tensor:
        generator = torch.Generator(device).manual_seed(seed)
        sampling, pace = SamplingConfig(**settings), Pace(window=window, record=record)
        return continue_tokens(model, given, sampling, generator=generator, pace=pace)

    count = min(16, half)
    ours = continue_tokens(model, given, SamplingConfig(temperature=0.0), limit=half + count)
    wanted = peer.generate(context, max_new_tokens=count, do_sample=False)[:, 1:]
    assert torch.equal(ours, wanted), "greedy completions differ"
    model, peer = model.to(dtype), peer.to(dtype)
    singly = [draw(seed, one_at_a_time=True) for seed in range(rounds)]
    curve = {}
    for window in (1, 4, 8, 16, 32, *(() if on_gpu else (None,))):
        drawn = [draw(seed, window=window) for seed in range(rounds)]
        needed = [
            passes(model, partial(draw, seed, window=window, record=False))
            for seed in range(rounds)
        ]
        other = sum(
            (one != many).any(dim=1).sum().item() for one, many in zip(singly, drawn, strict=True)
        )
        which = "windows as chosen" if window is None else f"windows of {window}"
        curve[f"passes, {which}"] = round(sum(needed) / rounds, 1)
        curve[f"images that differ from one at a time, {which}"] = f"{other} of {batch * rounds}"
    seeds = [itertools.count() for _ in range(4)]
    options = {"max_new_tokens": half, "do_sample": True, "top_k": 0, "temperature": 1.0}
    contenders = [
        Contender("igpt", lambda: draw(next(seeds[0])), batch),
        Contender("igpt, one at a time", lambda: draw(next(seeds[1]), one_at_a_time=True), batch),
    ]
    if compiled:
        contenders += [
            Contender("igpt, compiled", lambda: draw(next(seeds[2]), compile=True), batch),
            Contender(
                "igpt, compiled, one at a time",
                lambda: draw(next(seeds[3]), compile=True, one_at_a_time=True), batch,
            ),
        ]  # fmt: skip
    contenders.append(
        Contender("transformers, generate", lambda: peer.generate(context, **options), batch)
    )
    with torch.inference_mode():
        results = race(contenders, rounds=rounds, device=device)
    write_row(
        row, f"Half-image completion by a trained network, {name}, batch {batch}", results,
        ours="igpt", reach=reach, unit="images", figures=curve,
        notes=[
            f"{half} tokens given, {half} drawn. The first {count} greedy tokens were equal to the "
            "peer's. All of igpt's ways draw with the same seeds, so the same images.",
        ],
    )  # fmt: skip


def theirs(pretrained: Pretrained) -> torch.nn.Module:
    """Return the same network in transformers."""
    from transformers import ImageGPTForCausalImageModeling

    with tempfile.TemporaryDirectory() as room:
        folder = Path(room) / "theirs"
        write_huggingface(pretrained, folder)
        return ImageGPTForCausalImageModeling.from_pretrained(folder).eval()


def completion_row(
    row: str,
    config: ModelConfig,
    name: str,
    *,
    batch: int,
    drawn: int,
    rounds: int,
    reach: str,
    device: str = "cpu",
    dtype: torch.dtype = torch.float32,
    window: int | None = None,
) -> None:
    """Time completions of `batch` images, `drawn` tokens after half of them.

    One pixel at a time, and where there is a `window`, also in windows of so many.
    """
    model, peer = networks(config, device)
    half = config.positions // 2
    given = torch.randint(config.colors, (batch, half), device=device)
    start = torch.full((batch, 1), config.colors, device=device)
    context = torch.cat([start, given], dim=1)
    count = min(16, drawn)
    ours = continue_tokens(model, given[:8], SamplingConfig(temperature=0.0), limit=half + count)
    theirs = peer.generate(context[:8], max_new_tokens=count, do_sample=False)[:, 1:]
    assert torch.equal(ours, theirs), "greedy completions differ"
    model, peer = model.to(dtype), peer.to(dtype)

    one = SamplingConfig(one_at_a_time=True)
    compiled = SamplingConfig(compile=True, one_at_a_time=True)
    began = time.perf_counter()
    continue_tokens(model, given, compiled, limit=half + 2)  # compiles the one step there is
    compiling = time.perf_counter() - began

    limit = half + drawn
    options = {"max_new_tokens": drawn, "do_sample": True, "top_k": 0, "temperature": 1.0}
    contenders = [
        Contender("igpt", lambda: continue_tokens(model, given, one, limit=limit), batch),
        Contender(
            "igpt, compiled", lambda: continue_tokens(model, given, compiled, limit=limit), batch
        ),
        Contender("transformers, generate", lambda: peer.generate(context, **options), batch),
    ]
    if window is not None:
        many = partial(continue_tokens, model, given, limit=limit, pace=Pace(window=window))
        contenders.insert(2, Contender(f"igpt, windows of {window}", many, batch))
    with torch.inference_mode():
        results = race(contenders, rounds=rounds, warmup=0, device=device)
    weights = sum(weight.numel() * weight.element_size() for weight in model.parameters())
    part = "" if drawn == half else f", {drawn} tokens drawn"
    cache = 2 * config.layers * config.width * batch * (half + drawn // 2) * dtype.itemsize
    gpu = torch.cuda.get_device_name() if device == "cuda" else ""
    bandwidth = next((rate for name, rate in MEMORY_BYTES.items() if name in gpu), None)
    write_row(
        row, f"Half-image completion, {name}, batch {batch}{part}", results, ours="igpt",
        reach=reach, unit="images",
        figures={
            **{
                f"milliseconds a token, {result['name']}": round(result["seconds"] / drawn * 1e3, 2)
                for result in results
            },
            "seconds of compiling, in none of the times": round(compiling, 1),
            **(
                {
                    f"share of the floor at {bandwidth / 1e12:g} TB/s, {result['name']}": round(
                        drawn * (weights + cache) / bandwidth / result["seconds"], 4
                    )
                    for result in results
                }
                if bandwidth
                else {}
            ),
        },
        notes=[
            f"{half} tokens given; the first {count} greedy tokens were equal in float32 (of 8 "
            "images at most). Milliseconds a token include the share of reading what was given.",
        ],
    )  # fmt: skip


def memory_row() -> None:
    """Peak memory of drawing the last of 32 images, width 256: all of the cache is in use then."""
    ours, theirs = peak_memory(_OURS), peak_memory(_PEER)
    results = [
        {"name": "igpt", "memory_bytes": ours["growth"]},
        {"name": "transformers, generate", "memory_bytes": theirs["growth"]},
    ]
    write_row(
        "12-sampling-memory", "Peak memory of completing 32 images, 8 layers of width 256", results,
        ours="igpt", reach="2x: at most half the peer's memory", measure="memory_bytes",
        notes=["Growth of the peak resident memory over what the loaded model held before."],
    )  # fmt: skip


def trained_rows(run: Path, store: Path, *, rounds: int, device: str) -> None:
    """Time a run's network as it is, and as wide and deep as those of rows 4 and 5."""
    pretrained = load(run, device="cpu")
    own = pretrained.model.config
    for name, layers, width in (
        ("itself", own.layers, own.width),
        ("w256", 8, 256),
        ("s", 24, 512),
    ):
        shape = replace(own, layers=layers, width=width, heads=own.heads if name == "itself" else 8)
        model = pretrained.model if name == "itself" else widened(pretrained.model, shape)
        label = f"{run.name}, {own.image_size}x{own.image_size}, {own.colors} colors"
        if name != "itself":
            label += f", widened to {layers} layers of width {width}"
        for batch in (1, 16, 64) if device == "cuda" else (1, 8, 32):
            trained_row(
                f"21-windows-{run.name}-{name}-batch-{batch}", pretrained, model, store, label,
                batch=batch, rounds=rounds, reach="4x" if batch == 1 else "", compiled=batch == 1,
                device=device,
            )  # fmt: skip


def main() -> None:
    """Run the rows asked for."""
    parser = arguments((__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--trained", nargs=2, type=Path, action="append", default=[], metavar=("RUN", "STORE"),
        help="A run, and a store whose test images it completes, for row 21; again for more.",
    )  # fmt: skip
    options = parser.parse_args()
    toy, rounds, device = options.toy, options.rounds, options.device
    rows = options.only or (["14"] if device == "cuda" else ["4", "5", "12", "21"])
    tiny = ModelConfig(layers=2, width=32, heads=2, image_size=8, colors=16)
    wide = tiny if toy else ModelConfig(layers=8, width=256, heads=8)
    small = tiny if toy else SIZES["igpt-s"]
    half = wide.positions // 2
    for number, model, name, runs in (
        ("4", wide, "8 layers of width 256", ((1, half, "4x"), (8, half, "6x"), (32, 64, "8x"))),
        ("5", small, "iGPT-S", ((1, 128, "2.5x"), (8, 32, "3x"))),
    ):
        for batch, drawn, reach in runs if number in rows else ():
            row = f"{number.zfill(2)}-completion-batch-{batch}"
            completion_row(
                row, model, name, batch=batch, drawn=min(drawn, half), rounds=rounds, reach=reach
            )
            if drawn < half:
                completion_row(
                    f"{row}-whole", model, name, batch=batch, drawn=half, rounds=1, reach=reach
                )
    if "12" in rows and not toy:
        memory_row()
    for run, store in options.trained if "21" in rows else ():
        trained_rows(run, store, rounds=rounds, device=device)
    if "14" in rows:
        for size, batch, drawn in (
            ("igpt-s", 1, 512), ("igpt-s", 64, 512), ("igpt-s", 16, 128), ("igpt-s", 128, 128),
            ("igpt-l", 1, 128), ("igpt-l", 128, 128), ("igpt-l", 16, 128),
        ):  # fmt: skip
            config = tiny if toy else SIZES[size]
            completion_row(
                f"14-gpu-{size}-batch-{batch}", config, size, batch=batch,
                drawn=min(drawn, config.positions // 2), rounds=rounds, device=device,
                dtype=torch.bfloat16, reach="10x" if batch == 1 else "4x", window=16,
            )  # fmt: skip


if __name__ == "__main__":
    main()
