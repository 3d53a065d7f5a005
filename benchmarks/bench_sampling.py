"""Half an image given, half drawn: ours beside `generate` of transformers (rows 4, 5, 12, 14).

Both have the same weights and are checked to complete greedily token for token before anything is
timed. Then each draws from its distribution at temperature 1, as its documentation does. Where a
whole completion by the peer takes minutes, both draw `drawn` tokens after the same 512 in every
round, and the title says so, and the whole half once.
"""

import tempfile
import time
from pathlib import Path

import torch
from harness import Contender, arguments, peak_memory, race, write_row

from igpt.formats.huggingface import write_huggingface
from igpt.model.config import SIZES, ModelConfig
from igpt.model.pretrained import Pretrained
from igpt.model.sampling import SamplingConfig, continue_tokens
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
    from transformers import ImageGPTForCausalImageModeling

    from igpt.pixels.palette import Palette
    from igpt.pixels.tokenizer import ImageTokenizer

    torch.manual_seed(0)
    model = ImageGPT(config).eval()
    torch.nn.init.normal_(model.color_head.weight, std=0.1)
    colors = np.random.default_rng(0).uniform(-1, 1, (config.colors, 3)).astype(np.float32)
    tokenizer = ImageTokenizer(Palette(colors), config.image_size)
    with tempfile.TemporaryDirectory() as room:
        folder = Path(room) / "theirs"
        write_huggingface(Pretrained(model=model, tokenizer=tokenizer), folder)
        peer = ImageGPTForCausalImageModeling.from_pretrained(folder).eval()
    return model.to(device), peer.to(device)


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
) -> None:
    """Time completions of `batch` images, `drawn` tokens after half of them."""
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

    compiled = SamplingConfig(compile=True)
    began = time.perf_counter()
    continue_tokens(model, given, compiled, limit=half + 2)  # compiles the one step there is
    compiling = time.perf_counter() - began

    limit = half + drawn
    options = {"max_new_tokens": drawn, "do_sample": True, "top_k": 0, "temperature": 1.0}
    contenders = [
        Contender("igpt", lambda: continue_tokens(model, given, limit=limit), batch),
        Contender(
            "igpt, compiled", lambda: continue_tokens(model, given, compiled, limit=limit), batch
        ),
        Contender("transformers, generate", lambda: peer.generate(context, **options), batch),
    ]
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


def main() -> None:
    """Run the rows asked for."""
    options = arguments((__doc__ or "").splitlines()[0]).parse_args()
    toy, rounds, device = options.toy, options.rounds, options.device
    rows = options.only or (["14"] if device == "cuda" else ["4", "5", "12"])
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
    if "14" in rows:
        for size, batch, drawn in (
            ("igpt-s", 1, 512), ("igpt-s", 64, 512), ("igpt-s", 16, 128), ("igpt-s", 128, 128),
            ("igpt-l", 1, 128), ("igpt-l", 128, 128), ("igpt-l", 16, 128),
        ):  # fmt: skip
            config = tiny if toy else SIZES[size]
            completion_row(
                f"14-gpu-{size}-batch-{batch}", config, size, batch=batch,
                drawn=min(drawn, config.positions // 2), rounds=rounds, device=device,
                dtype=torch.bfloat16, reach="10x" if batch == 1 else "4x",
            )  # fmt: skip


if __name__ == "__main__":
    main()
