"""How much memory a training step takes on each device, reckoned from its shapes.

    step = Step(model=model, training=training, precision="bfloat16", devices=8, strategy="fsdp")
    step.peak().total, step.peak().activations

A step's memory is followed through the moments at which it can be highest, and the highest one is
told, by parts that were there together:

| moment | weights, moments | gradients | activations | logits |
| --- | --- | --- | --- | --- |
| at the loss, and back at it | all | those of earlier microbatches | all | all |
| back at final norm | all | color head | all blocks | - |
| back in last block | all | color head, that block | all blocks, one at work | - |
| back in first block | all | all | one block, at work | - |
| back in embeddings | all | all | - | - |
| at the update | all | all | - | - |
| at validation (fsdp) | all, and whole weights | - | - | - |

What a block keeps for its gradients, in bytes for each token, with e = 4 bytes an element in
float32 and 2 in 16 bits; the residual stream and the norms are float32 in either:

    h, h'                               8 d          the two residual streams
    normalized h, h'                    8 d          on a processor only; a GPU computes them again
    1/rms of both                       8
    inputs of q, k, v and of the MLP    2 e d
    q, k, v                             3 e d
    attention's output                  e d          attention itself is never n x n: its kernels
    its log-sum-exp                     4 heads      keep a number for each head and token
    MLP before and after activation     8 e d

With `checkpoint_activations` each block keeps its input, 4 d, and one block at a time all of it.
Under 16 bits each matrix also has a copy in 16 bits, from the forward pass to its own backward;
with fsdp, blocks are fetched in 16 bits instead.
`benchmarks/memory.py` sets these figures beside measured ones. Blocks that are compiled keep less:
for them this is an upper bound.
"""

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Literal

from igpt.model.config import ModelConfig
from igpt.training.config import TrainingConfig

Strategy = Literal["alone", "ddp", "fsdp"]

_FLOAT = 4  # bytes of a float32
_MOMENTS = 2  # Adam's; Muon has one, of matrices
_TOKEN = 8  # bytes of an int64
_FETCHED_BLOCKS = 2  # by fsdp at once: the one at work and the next


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Bytes on one device when a step takes the most, by part."""

    weights: int
    """In float32; with fsdp this device's share."""
    copies: int
    """Of the matrices in 16 bits, which autocast makes."""
    gradients: int
    moments: int
    """Adam's two, and means of the weights if they are asked for."""
    activations: int
    """What the blocks and the final norm keep, and the block at work has besides."""
    logits: int
    """Of every color at every scored pixel, and what the loss makes of them, in float32."""
    fetched: int
    """Weights and gradients of other devices, with fsdp."""
    saving: int
    """Copy of weights and moments that is being saved beside the training, on a processor."""
    batch: int
    """The tokens, also of batches that are made ready ahead."""
    moment: str
    """When that is."""

    @property
    def total(self) -> int:
        """All of it."""
        return sum(self.parts().values())

    def parts(self) -> dict[str, int]:
        """Return the bytes by name."""
        return {
            field.name: getattr(self, field.name) for field in fields(self) if field.type is int
        }


@dataclass(frozen=True, kw_only=True)
class Step:
    """A training step of one device, as far as its memory and work depend on it."""

    model: ModelConfig
    training: TrainingConfig
    precision: Literal["float32", "bfloat16", "float16"]
    """At which the matrices are multiplied."""
    devices: int = 1
    strategy: Strategy = "alone"
    copies: int = 1
    """With fsdp, how often all weights are there: once, or once in each machine."""
    fused_norms: bool = True
    """Norms are one kernel, as on a GPU, and keep nothing but their input."""
    scored: float = 1.0
    """Share of the pixels whose logits are computed: 1, or of a BERT network those hidden."""
    dropout: bool = False
    ahead: int = 0
    """Batches that are ready, or being made, beside the one that is learned from."""
    copied_to_save: bool = False
    """Whether what is being saved is a copy, in the memory that the training is in."""

    @property
    def images(self) -> int:
        """Of a batch, those of this device."""
        return self.training.batch_size // self.devices

    @property
    def shares(self) -> int:
        """Among how many devices the weights are shared."""
        return self.devices // self.copies if self.strategy == "fsdp" else 1

    @property
    def microbatch(self) -> int:
        """Images that are in memory at once."""
        return min(self.images, self.training.microbatch_size or self.images)

    @property
    def microbatches(self) -> int:
        """How many follow each other in a step."""
        return -(-self.images // self.microbatch)

    def peak(self) -> Memory:
        """Return the memory at its highest."""
        return max(self._moments(), key=lambda memory: memory.total)

    @property
    def kept(self) -> int:
        """Numbers that are kept of each weight between steps, beside itself, at most."""
        return _MOMENTS + (self.training.averaging > 0)

    @property
    def block_weights(self) -> int:
        """Weights of one block."""
        return self.model.block_parameters

    @property
    def other_weights(self) -> int:
        """Weights outside the blocks: embeddings, final norm and color head."""
        return self.model.parameters - self.model.layers * self.block_weights

    @property
    def element(self) -> int:
        """Bytes of a number that is multiplied."""
        return 4 if self.precision == "float32" else 2

    def _block_kept(self) -> int:
        """Return the bytes that a block keeps of each token, beside its input."""
        model, element = self.model, self.element
        norms = 2 * _FLOAT + (0 if self.fused_norms else 2 * _FLOAT * model.width)
        kept = _FLOAT * model.width + norms + 14 * element * model.width + _FLOAT * model.heads
        return kept + (2 * model.width if self.dropout else 0)

    def _block_at_work(self) -> int:
        """Return what a block has besides, of each token, when its gradients need the most.

        That is in the MLP: the gradient of its output, and of the activation, four times as wide.
        """
        width, element = self.model.width, self.element
        return _FLOAT * width + (element * width if element < _FLOAT else 0) + 4 * element * width

    def _moments(self) -> Iterator[Memory]:
        model, element = self.model, self.element
        tokens = self.microbatch * model.positions
        width, layers = model.width, model.layers
        checkpointed = self.training.checkpoint_activations
        shares = self.shares
        all_weights = _FLOAT * model.parameters
        head = _FLOAT * model.colors * width

        stream = _FLOAT * width * tokens
        kept = self._block_kept() * tokens
        at_work = self._block_at_work() * tokens
        blocks = layers * (stream if checkpointed else stream + kept)
        norm = stream + _FLOAT * tokens + (0 if self.fused_norms else stream)
        head_input = round(element * width * tokens * self.scored)
        color = model.colors * tokens * self.scored

        # With fsdp blocks come in 16 bits, and need no copies.
        copied = element < _FLOAT and self.strategy != "fsdp"
        block_copies = 2 * 12 * width**2 if copied else 0
        head_copy = 2 * model.colors * width if element < _FLOAT else 0
        copies = layers * block_copies + head_copy
        kept_copies = 0 if checkpointed else layers * block_copies

        # Several microbatches' gradients add up in place; DDP's live in its buckets, and before the
        # last microbatch, when they are not to be sent yet, beside them; so do those of fsdp's
        # shares that there are several copies of.
        kept_gradients = self.microbatches > 1 or self.strategy == "ddp"
        twice = self.microbatches > 1 and (self.strategy == "ddp" or self.copies > 1)
        earlier = all_weights * (2 if twice else 1) // shares if kept_gradients else 0

        def gradients(done: int) -> int:
            return max(earlier, done // shares)

        block_bytes, other_bytes = _FLOAT * self.block_weights, _FLOAT * self.other_weights
        fetched = element * self.block_weights
        fetching = _FETCHED_BLOCKS * fetched + other_bytes if self.strategy == "fsdp" else 0
        # a block's gradients, as they come and, in float32, as they are added up over devices
        with_gradients = fetching and fetching + fetched + block_bytes + other_bytes
        # that of one of the MLP's matrices, a third of a block, before it is added to the others
        matrix = block_bytes // 3
        passing = matrix + (matrix // 2 if block_copies else 0) if kept_gradients else 0

        saving = 0
        if self.copied_to_save:  # with fsdp also the model, in the first process
            saving = (1 + self.kept) * all_weights // shares
            saving += all_weights if self.strategy == "fsdp" else 0

        def at(moment: str, **parts: int) -> Memory:
            names = ("copies", "gradients", "activations", "logits", "fetched")
            return Memory(
                moment=moment,
                weights=all_weights // shares,
                moments=self.kept * all_weights // shares,
                saving=saving,
                batch=_TOKEN * self.images * model.positions * (1 + self.ahead),
                **{name: parts.get(name, 0) for name in names},
            )

        end = blocks + norm + head_input
        yield at(
            "at the loss", copies=copies, gradients=earlier, activations=end,
            logits=round((2 * _FLOAT + element % _FLOAT) * color), fetched=fetching,
        )  # fmt: skip
        yield at(
            "back at the loss", copies=kept_copies + head_copy, gradients=earlier,
            activations=end, logits=round(3 * _FLOAT * color), fetched=fetching,
        )  # fmt: skip
        yield at(
            "back at final norm", copies=kept_copies, gradients=gradients(head),
            activations=blocks + norm + 3 * stream, fetched=fetching,
        )  # fmt: skip
        yield at(
            "back in last block", copies=kept_copies or block_copies,
            gradients=gradients(head + matrix) + passing, fetched=with_gradients,
            activations=blocks + (kept if checkpointed else 0) + at_work,
        )  # fmt: skip
        yield at(
            "back in first block", copies=block_copies,
            gradients=gradients(head + (layers - 1) * block_bytes + matrix) + passing,
            activations=stream + kept + at_work, fetched=with_gradients,
        )  # fmt: skip
        yield at(
            "back in embeddings", gradients=gradients(all_weights),
            activations=2 * stream, fetched=with_gradients,
        )  # fmt: skip
        yield at("at the update", gradients=all_weights // shares)
        if self.strategy == "fsdp":
            yield at("at validation", fetched=all_weights)
