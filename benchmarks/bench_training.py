"""Training steps: ours, as `igpt.training.loop.train` takes them, beside transformers' ImageGPT.

Rows 1 and 2 (steps on the CPU), 3 (BERT beside autoregressive), 12 (memory), 13 (a GPU) and 15
(growth with the number of pixels).

Each contender is a process of its own, so that memory can be told apart and none inherits another's
allocator settings or compiled code. They still take turns: a process works only in its turn, and
sends back its own wall and processor time. On a GPU, whose memory only one of them may need, they
are threads that run one after the other. Before anything is timed, losses and gradients of both
networks with the same weights are checked equal in float32, at the size that is timed.

"As shipped" is what a plain PyTorch loop over the peer's network does: float32, `AdamW` with its
defaults, the system's malloc. "Tuned" has fused Adam and our malloc setting. The peer's dropout of
0.1 is off everywhere, which is in its favor.
"""

import contextlib
import dataclasses
import gc
import multiprocessing
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any
from unittest import mock

import torch
import torch.nn.functional as F
from harness import Contender, arguments, processor, race, resident_memory, write_row

from igpt.data.batches import Batch
from igpt.formats.huggingface import their_weights
from igpt.model.config import SIZES, ModelConfig
from igpt.model.transformer import ImageGPT
from igpt.objectives.autoregressive import autoregressive
from igpt.objectives.masked import masked
from igpt.training import loop
from igpt.training.config import TrainingConfig
from igpt.training.optimizer import build_optimizer

PEAK = 989e12
"""Assumed operations a second: H100 or H200 SXM, dense bfloat16, without sparsity."""
SMALL = ModelConfig(layers=8, width=256, heads=8)
TOY = ModelConfig(layers=2, width=32, heads=2, image_size=8, colors=16)


@dataclass(frozen=True, kw_only=True)
class Work:
    """What one process does, again and again."""

    model: ModelConfig
    images: int
    peer: bool = False
    fused: bool = True
    """Fused Adam; ours always has it."""
    keep_memory: bool = True
    """Set malloc as our training does."""
    compiled: bool = False
    precision: str = "float32"
    device: str = "cpu"
    toy: bool = False
    """In a thread instead of a process, which starts at once: only to try the script."""

    @property
    def tokens(self) -> int:
        return self.images * self.model.positions


class Turns:
    """Called after each step: tells what the steps of this turn took, then waits for the next."""

    def __init__(self, connection: Connection, device: str) -> None:
        self.connection = connection
        self.device = device
        self.before = resident_memory()
        self.steps = 1  # the first turn is one step, the warm-up
        self.clocks = time.perf_counter(), time.process_time()

    def __call__(self) -> bool:
        self.steps -= 1
        if self.steps:
            return False
        self.connection.send(self.report())
        self.steps = self.connection.recv()
        self.clocks = time.perf_counter(), time.process_time()
        return self.steps == 0

    def report(self) -> dict[str, float]:
        memory = resident_memory() - self.before
        if self.device == "cuda":
            torch.cuda.synchronize()
            memory = torch.cuda.max_memory_allocated()
        wall, cpu = self.clocks
        return {
            "wall": time.perf_counter() - wall,
            "cpu": time.process_time() - cpu,
            "memory": memory,
        }


def work(connection: Connection, job: Work, threads: int) -> None:
    """Train in this process, as long as the parent wants."""
    torch.set_num_threads(threads)
    if job.device == "cuda":  # what the contender before left
        torch._dynamo.reset()
        gc.collect()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    take_steps = peer_steps if job.peer else our_steps
    try:
        warm_up(job)  # what libraries hold is no part of a step's memory
        take_steps(job, Turns(connection, job.device))
    except torch.OutOfMemoryError as error:
        connection.send({"error": str(error).splitlines()[0]})
    except BaseException:
        connection.close()  # or the other end waits for ever
        raise


def warm_up(job: Work) -> None:
    """Load and start all that a step needs, with a tiny network."""
    model = (peer_network(TOY) if job.peer else ImageGPT(TOY)).to(job.device)
    tokens = random_tokens(Work(model=TOY, images=1)).to(job.device)
    loss = peer_loss(model, tokens) if job.peer else autoregressive(model, tokens)["loss"]
    loss.backward()


def our_steps(job: Work, turns: Turns) -> None:
    torch.manual_seed(0)
    config = TrainingConfig(
        learning_rate=1e-4, precision=job.precision, compile=job.compiled, warmup_steps=0
    )
    model = ImageGPT(job.model).to(job.device)
    batch = Batch(tokens=random_tokens(job), labels=None)
    unset = contextlib.nullcontext()
    if not job.keep_memory:
        unset = mock.patch.object(loop, "keep_freed_memory")
    with unset:
        for _ in loop.train(
            model,
            build_optimizer(model, config),
            objective=autoregressive if job.model.causal else masked,
            batch_at=lambda step: batch,
            config=config,
        ):
            if turns():
                break


def peer_steps(job: Work, turns: Turns) -> None:
    if job.keep_memory:
        loop.keep_freed_memory()
    torch.manual_seed(0)
    model = peer_network(job.model).to(job.device)
    tokens = random_tokens(job).to(job.device)
    if job.compiled:
        for block in model.transformer.h:
            block.compile()
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=1e-4, betas=(0.9, 0.95), weight_decay=0.0, fused=job.fused or None
    )
    stop = False
    while not stop:
        with loop.autocast(torch.device(job.device), job.precision):
            loss = peer_loss(model, tokens)
        loss.backward()
        loss.item()
        torch.nn.utils.get_total_norm([p.grad for p in model.parameters()]).item()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        stop = turns()


def peer_network(config: ModelConfig) -> Any:
    from transformers import ImageGPTConfig, ImageGPTForCausalImageModeling

    dropout_off = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
    return ImageGPTForCausalImageModeling(
        ImageGPTConfig(
            vocab_size=config.colors + 1,
            n_positions=config.positions,
            n_embd=config.width,
            n_layer=config.layers,
            n_head=config.heads,
            use_cache=False,  # as its Trainer sets it
            **dropout_off,
        )
    ).train()


def peer_loss(model: Any, tokens: torch.Tensor) -> torch.Tensor:
    """The loss of all pixels: the start token goes in first, as its documentation samples."""
    start = tokens.new_full((len(tokens), 1), model.config.vocab_size - 1)
    logits = model(input_ids=torch.cat([start, tokens[:, :-1]], dim=1)).logits
    return F.cross_entropy(logits.flatten(0, 1).float(), tokens.flatten())


def random_tokens(job: Work) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(job.model.colors, (job.images, job.model.positions), generator=generator)


def check_equal(job: Work, *, bound: float = 1e-3) -> str:
    """See that both networks have the same loss and gradients with the same weights, in float32.

    A gradient may differ by `bound` of its largest entry.
    """
    torch.manual_seed(0)
    model = ImageGPT(job.model).to(job.device)
    peer = peer_network(job.model).to(job.device)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "head" in name:
                parameter.normal_(std=0.1)
            if "gain" in name:
                parameter.uniform_(0.5, 1.5)
    ours = {name: parameter.detach() for name, parameter in model.named_parameters()}
    missing, unknown = peer.load_state_dict(their_weights(ours, job.model, "colors"), strict=False)
    assert not missing, missing
    assert not unknown, unknown
    tokens = random_tokens(dataclasses.replace(job, images=1)).to(job.device)
    loss, wanted = autoregressive(model, tokens)["loss"], peer_loss(peer, tokens)
    torch.testing.assert_close(loss, wanted, rtol=1e-5, atol=0)
    loss.backward()
    wanted.backward()
    gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    theirs = dict(peer.named_parameters())
    for name, gradient in their_weights(gradients, job.model, "colors").items():
        if name.endswith(".bias"):
            continue  # ours has none
        reference = theirs[name].grad
        error = (gradient - reference).abs().max() / reference.abs().max()
        assert error < bound, (name, error)
    gradients_too = f"every gradient ({bound:g} of its largest entry)"
    return f"loss (1e-5) and {gradients_too} equal the peer's in float32"


@dataclass
class Process(Contender):
    """A contender in a process of its own."""

    job: Work | None = None
    memory: int = 0
    """Most that it held, in bytes: above its start on the CPU, of the GPU's memory there."""
    connection: Connection | None = field(default=None, repr=False)
    worker: Any = field(default=None, repr=False)
    first_seconds: float = 0.0
    """Of the warm-up step, with whatever was compiled."""

    @classmethod
    def start(cls, name: str, job: Work, *, repeats: int = 1) -> "Process":
        """Start the process, and come back when it has done a step.

        Raises:
            torch.OutOfMemoryError: It needs more than there is.
        """
        context = multiprocessing.get_context("spawn")  # inherits nothing but the environment
        connection, theirs = context.Pipe()
        in_thread = job.toy or job.device == "cuda"  # whose memory is told apart anyhow
        make = threading.Thread if in_thread else context.Process
        worker = make(target=work, args=(theirs, job, torch.get_num_threads()), daemon=True)
        worker.start()
        if not in_thread:
            theirs.close()
        contender = cls(
            name, run=lambda: None, units=job.tokens, repeats=repeats, job=job,
            connection=connection, worker=worker,
        )  # fmt: skip
        contender.run = lambda: contender.take_turn(1)
        contender.first_seconds = contender.receive()["wall"]
        return contender

    def receive(self) -> dict[str, Any]:
        assert self.connection is not None
        report = self.connection.recv()
        if "error" in report:
            raise torch.OutOfMemoryError(report["error"])
        self.memory = max(self.memory, int(report["memory"]))
        return report

    def take_turn(self, steps: int) -> dict[str, Any]:
        assert self.connection is not None
        self.connection.send(steps)
        return self.receive()

    def time_once(self, device: torch.device) -> None:
        report = self.take_turn(self.repeats)
        self.seconds.append(report["wall"] / self.repeats)
        self.loads.append(report["cpu"] / report["wall"])

    def stop(self) -> None:
        assert self.connection is not None
        self.connection.send(0)
        self.worker.join()
        self.connection.close()


def race_processes(
    jobs: dict[str, Work], *, rounds: int, repeats: int = 1, device: str = "cpu", warmup: int = 0
) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """Return the results and the memory of each contender, by its name.

    On a GPU, whose memory each needs for itself, they do not take turns but follow one another. One
    that runs out of memory is left out, and its memory says so.
    """
    if device == "cuda" and len(jobs) > 1:
        results, memory = [], {}
        for name, job in jobs.items():
            found, held = race_processes(
                {name: job}, rounds=rounds, repeats=repeats, device=device, warmup=warmup
            )
            results += found
            memory |= held
        return results, memory
    contenders, memory = [], {}
    for name, job in jobs.items():
        if job.toy and job.compiled:
            continue  # which takes long
        try:
            contenders.append(Process.start(name, job, repeats=repeats))
        except torch.OutOfMemoryError as error:
            memory[name] = str(error)
    results = race(contenders, rounds=rounds, warmup=warmup, device=device)
    for contender, result in zip(contenders, results, strict=True):
        memory[contender.name] = f"{contender.memory / 2**20:.0f} MiB"
        result["memory_bytes"] = contender.memory
        result["first_step_seconds"] = contender.first_seconds
        contender.stop()
    return results, memory


def step_jobs(base: Work) -> dict[str, Work]:
    peer = dataclasses.replace(base, peer=True)
    jobs = {
        "igpt": base,
        "igpt, compiled": dataclasses.replace(base, compiled=True),
        "igpt, default malloc": dataclasses.replace(base, keep_memory=False),
        "transformers, as shipped": dataclasses.replace(peer, fused=False, keep_memory=False),
        "transformers, tuned": peer,
        "transformers, tuned and compiled": dataclasses.replace(peer, compiled=True),
    }
    if "bf16" in processor():  # elsewhere it is slower, and nobody would use it
        half = {"precision": "bfloat16"}
        jobs |= {
            f"{name}, bfloat16": dataclasses.replace(job, **half)
            for name, job in jobs.items()
            if not name.endswith(("malloc", "as shipped"))
        }
    return jobs


def step_row(
    row: str,
    title: str,
    base: Work,
    *,
    rounds: int,
    as_shipped: float,
    at_its_best: float,
    eager: bool = False,
) -> None:
    checked = check_equal(base)
    jobs = step_jobs(base)
    if base.model.layers > 8:  # together they would not fit into 24 GiB
        del jobs["igpt, default malloc"]
    jobs = {name: job for name, job in jobs.items() if not (eager and job.compiled)}
    results, memory = race_processes(jobs, rounds=rounds)
    operations = base.model.flops_per_token * base.tokens
    ours = min((r for r in results if r["name"].startswith("igpt")), key=seconds)
    peers = [r for r in results if not r["name"].startswith("igpt")]
    (shipped,) = (peer for peer in peers if peer["name"].endswith("as shipped"))
    write_row(
        row, title, results, ours=ours["name"], unit="tokens",
        reach=f"{as_shipped:g}x as shipped, {at_its_best:g}x at its best",
        reached=seconds(shipped) >= as_shipped * seconds(ours)
        and min(map(seconds, peers)) >= at_its_best * seconds(ours),
        figures={f"memory of a step, {name}": held for name, held in memory.items()}
        | {f"GFLOP/s, {ours['name']}": f"{operations / seconds(ours) / 1e9:.0f}"},
        notes=[
            checked,
            "GFLOP/s by 6 N + 12 L d n a token, masked attention counted in full.",
        ],
    )  # fmt: skip


def seconds(result: dict[str, Any]) -> float:
    return result["seconds"]


def bert_row(base: Work, *, rounds: int) -> None:
    bert = dataclasses.replace(base, model=dataclasses.replace(base.model, causal=False))
    results, memory = race_processes({"igpt, BERT": bert, "igpt": base}, rounds=rounds)
    write_row(
        "03-bert-step", f"BERT beside autoregressive step, {described(base)}", results,
        ours="igpt, BERT", reach="1x: not slower than autoregressive", unit="tokens",
        figures={f"memory of a step, {name}": held for name, held in memory.items()},
        notes=[
            "BERT's attention has no mask to skip half of its work; it saves 85 % of the color "
            "head and of the loss."
        ],
    )  # fmt: skip


def memory_row(name: str, base: Work) -> None:
    """Peak memory after two steps, each contender alone in its process."""
    jobs = step_jobs(base)
    chosen = ("igpt", "transformers, as shipped", "transformers, tuned")
    results, _ = race_processes({name: jobs[name] for name in chosen}, rounds=1)
    kept = [{key: result[key] for key in ("name", "memory_bytes")} for result in results]
    write_row(
        f"12-training-memory-{name}", f"Peak memory of training, {described(base)}", kept,
        ours="igpt", reach="2x: at most half the peer's memory", measure="memory_bytes",
        notes=[
            "Peak resident memory after two steps, less that of the process before it made its "
            "network."
        ],
    )  # fmt: skip


def growth_row(base: Work, sizes: Sequence[int], *, rounds: int) -> None:
    jobs = {
        f"{size**2} tokens": dataclasses.replace(
            base, model=dataclasses.replace(base.model, image_size=size)
        )
        for size in sizes
    }
    repeats = 5 if base.device == "cuda" else 1
    results, _ = race_processes(jobs, rounds=rounds, repeats=repeats, device=base.device)
    figures = {}
    least = jobs[results[0]["name"]]
    memory = max(1, results[0]["memory_bytes"])
    for result in results:
        job = jobs[result["name"]]
        operations = job.model.flops_per_token * job.tokens
        figures[result["name"]] = {
            "time": round(result["seconds"] / results[0]["seconds"], 2),
            "operations": round(operations / (least.model.flops_per_token * least.tokens), 2),
            "memory": round(result["memory_bytes"] / memory, 2),
            "memory_MiB": round(result["memory_bytes"] / 2**20),
            "n_by_n_float32_MiB": job.model.heads * job.model.positions**2 * 4 / 2**20,
        }
    write_row(
        "15-gpu-growth" if base.device == "cuda" else "15-growth",
        f"Growth of a step with its tokens, {base.model.layers} layers of width "
        f"{base.model.width}, images: {base.images}",
        results, ours=results[0]["name"], unit="tokens",
        reach="no faster than the operations; memory in proportion to the tokens",
        figures=figures,
        notes=[
            "Relative to the first size; operations are 6 N + 12 L d n a token. One layer's n x n "
            "scores would take what the last figure says; none is held."
        ],
    )  # fmt: skip


def gpu_row(name: str, base: Work, *, theirs: int, utilization: float, rounds: int) -> None:
    """Tokens and images a second and model FLOPs utilization of one size in bfloat16.

    The peer takes `theirs` images a step, since its scores of every pair of pixels need room.
    """
    config, images = base.model, base.images
    checked = check_equal(base, bound=1e-2)
    ours = dataclasses.replace(base, compiled=not base.toy)
    peer = dataclasses.replace(base, images=theirs, peer=True)
    jobs = {
        "igpt": ours,
        "igpt, BERT": dataclasses.replace(ours, model=dataclasses.replace(config, causal=False)),
        "igpt, eager": base,
        "transformers": peer,
        "transformers, compiled": dataclasses.replace(peer, compiled=True),
    }
    results, memory = race_processes(jobs, rounds=rounds, repeats=5, device=base.device, warmup=2)
    figures: dict[str, Any] = {f"memory, {key}": held for key, held in memory.items()}
    for result in results:
        rate = result["per_second"]
        figures[f"{result['name']}: images a second"] = round(rate / config.positions, 1)
        figures[f"{result['name']}: MFU"] = round(rate * config.flops_per_token / PEAK, 4)
    # seconds a token: the batches differ, so that a step's time would tell nothing
    for result in results:
        for measure in ("seconds", "fastest", "slowest"):
            result[measure] /= jobs[result["name"]].tokens
    write_row(
        f"13-gpu-{name}",
        f"Training {name} in bfloat16, a token of {images} images a step (the peer: {theirs})",
        results, ours="igpt", unit="tokens", figures=figures,
        reach=f"2.5x, and {utilization:.0%} MFU",
        reached=figures["igpt: MFU"] >= utilization
        and min(seconds(r) for r in results if jobs[r["name"]].peer) >= 2.5 * seconds(results[0]),
        notes=[
            checked,
            f"MFU = tokens/s * (6 N + 12 L d n) / {PEAK:g}: N weights that are multiplied, L "
            "layers, width d, n tokens, masked attention counted in full; the peak is an H100 or "
            "H200 SXM's in dense bfloat16.",
            "Contenders ran one after the other, each alone on the GPU.",
        ],
    )  # fmt: skip


def described(job: Work) -> str:
    model = job.model
    return (
        f"{model.layers} layers of width {model.width}, {model.positions} tokens, batch "
        f"{job.images}"
    )


def main() -> None:
    parser = arguments(__doc__.splitlines()[0])
    parser.add_argument("--eager", action="store_true", help="Rows 1, 2: nothing compiled.")
    options = parser.parse_args()
    toy, rounds, device = options.toy, options.rounds, options.device
    default = ["13", "15"] if device == "cuda" else ["1", "2", "3", "12", "15"]
    rows = options.only or default
    small = Work(model=TOY if toy else SMALL, images=2 if toy else 4, toy=toy)
    large = Work(model=TOY if toy else SIZES["igpt-s"], images=1, toy=toy)
    if "1" in rows:
        step_row(
            "01-training-step", f"Training step, {described(small)}", small, rounds=rounds,
            as_shipped=8, at_its_best=2.2, eager=options.eager,
        )  # fmt: skip
    if "2" in rows:
        step_row(
            "02-training-step-igpt-s", f"Training step of iGPT-S, {described(large)}", large,
            rounds=rounds, as_shipped=6.5, at_its_best=2, eager=options.eager,
        )  # fmt: skip
    if "3" in rows:
        bert_row(small, rounds=rounds)
    if "12" in rows:
        memory_row("width-256", small)
        memory_row("igpt-s", large)
    if "13" in rows:
        for name, images, theirs, utilization in (
            ("igpt-s", 96, 16, 0.45), ("igpt-m", 32, 8, 0.5), ("igpt-l", 16, 4, 0.55),
        ):  # fmt: skip
            base = small if toy else Work(model=SIZES[name], images=images, device=device)
            gpu_row(
                name, dataclasses.replace(base, precision="bfloat16"),
                theirs=base.images if toy else theirs, utilization=utilization, rounds=rounds,
            )  # fmt: skip
    if "15" in rows:
        one = dataclasses.replace(small, images=1)
        if device == "cuda":
            one = dataclasses.replace(large, images=8, precision="bfloat16", device=device)
        growth_row(one, (4, 8, 12) if toy else (16, 32, 48, 64), rounds=rounds)


if __name__ == "__main__":
    main()
