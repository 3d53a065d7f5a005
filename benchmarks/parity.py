"""Is it the same network? igpt beside `transformers` and beside the formulas, number by number.

    python benchmarks/parity.py            # small shapes, then iGPT-S's; about two minutes
    python benchmarks/parity.py --small    # seconds

Weights are random, gains and heads too, and every weight matters. Each line tells the largest
absolute difference of one quantity. Exit code 1 if one is over its bound.
"""

import argparse
import dataclasses
import sys
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.released import released_network
from igpt.formats.huggingface import Head, read_huggingface, their_weights, write_huggingface
from igpt.formats.tensorflow import read_tensorflow
from igpt.model.classes import class_logits
from igpt.model.config import SIZES, ModelConfig
from igpt.model.pretrained import Pretrained
from igpt.model.sampling import SamplingConfig, continue_tokens
from igpt.model.transformer import ImageGPT
from igpt.objectives.autoregressive import color_losses
from igpt.pixels.palette import Palette
from igpt.pixels.tokenizer import ImageTokenizer

SMALL = ModelConfig(image_size=8, colors=32, layers=3, width=48, heads=4)
FIXTURES = Path(__file__).parents[1] / "tests" / "fixtures" / "tensorflow"


@dataclasses.dataclass(frozen=True)
class Row:
    """One quantity: how far apart the two are, and how far they may be."""

    shape: str
    quantity: str
    difference: float
    bound: float

    @property
    def holds(self) -> bool:
        """Whether the difference is within its bound."""
        return self.difference <= self.bound


def randomized(config: ModelConfig, *, classes: int | None = None, seed: int = 0) -> Pretrained:
    """Return a network whose every weight matters, with a random palette."""
    torch.manual_seed(seed)
    model = ImageGPT(dataclasses.replace(config, initialization="released"), classes=classes)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "gain" in name:
                weight.uniform_(0.5, 1.5)
            elif "head" in name:
                weight.normal_(std=1 / config.width**0.5)
            elif "embedding" in name:
                weight.normal_(std=0.5)
            elif "bias" in name:
                weight.normal_(std=0.1)
    colors = np.random.default_rng(seed).uniform(-1, 1, (config.colors, 3)).astype(np.float32)
    return Pretrained(
        model=model.eval(),
        tokenizer=ImageTokenizer(Palette(colors), config.image_size),
        class_names=classes and tuple(f"class {number}" for number in range(classes)),
    )


def distance(ours: Tensor, theirs: Tensor) -> float:
    """Return the largest absolute difference."""
    assert ours.shape == theirs.shape
    return (ours.double() - theirs.double()).abs().max().item()


def beside_transformers(
    config: ModelConfig, *, name: str, images: int = 2, completed: int | None = None
) -> Iterator[Row]:
    """Compare a network with the folder it exports, as `transformers` runs it.

    Args:
        config: Shape of the network.
        name: What to call it.
        images: How many are compared.
        completed: Pixels that greedy completion draws; half an image by default.
    """
    from transformers import ImageGPTForCausalImageModeling, ImageGPTForImageClassification

    pretrained = randomized(config, classes=10)
    model = pretrained.model
    generator = torch.Generator().manual_seed(1)
    tokens = torch.randint(config.colors, (images, config.positions), generator=generator)
    start = torch.full((images, 1), config.colors)
    inputs = torch.cat([start, tokens[:, :-1]], dim=1)

    with tempfile.TemporaryDirectory() as room:
        folder = Path(room)
        write_huggingface(pretrained, folder / "colors", head="colors")
        write_huggingface(pretrained, folder / "classes", head="classes")
        theirs = ImageGPTForCausalImageModeling.from_pretrained(folder / "colors").eval()
        classifier = ImageGPTForImageClassification.from_pretrained(folder / "classes").eval()
        yield from _processing(pretrained, folder / "colors", name)
        yield Row(name, "weights after ours -> transformers -> ours", _round_trip(model, folder), 0)

    with torch.no_grad():
        logits, states = model(tokens), list(model.states(tokens))
        out = theirs(inputs, output_hidden_states=True)
        yield Row(name, "logits", distance(logits, out.logits), 1e-5)
        hidden = [
            block.ln_1(state)
            for block, state in zip(theirs.transformer.h, out.hidden_states, strict=False)
        ]
        hidden.append(out.hidden_states[-1])
        yield Row(
            name,
            "normalized states, every layer",
            max(distance(*pair) for pair in zip(states, hidden, strict=True)),
            2e-5,
        )
        yield Row(
            name,
            "class logits, start token first",
            distance(class_logits(model, tokens), classifier(inputs).logits),
            1e-5,
        )
    loss = color_losses(model(tokens), tokens)[:, :-1].mean()
    their_loss = theirs(inputs, labels=inputs).loss
    yield Row(name, "loss over pixels 1 to n-1, nats", distance(loss, their_loss), 1e-5)
    yield Row(
        name,
        "gradients of every weight, relative to the largest entry",
        _gradient_distance(model, loss, theirs, their_loss, "colors"),
        1e-4,
    )
    labels = torch.arange(images) % 10
    yield Row(
        name,
        "gradients of the class loss, relative to the largest entry",
        _gradient_distance(
            model,
            F.cross_entropy(class_logits(model, tokens), labels),
            classifier,
            classifier(inputs, labels=labels).loss,
            "classes",
        ),
        1e-4,
    )
    given = config.positions - (completed or config.positions // 2)
    drawn = continue_tokens(model, tokens[:, :given], SamplingConfig(temperature=0.0))
    generated = theirs.generate(
        torch.cat([start, tokens[:, :given]], dim=1),
        max_length=config.positions + 1,
        do_sample=False,
    )[:, 1:]
    yield Row(
        name,
        f"greedy completion of {config.positions - given} pixels, tokens that differ",
        (drawn != generated).sum().item(),
        0,
    )


def _gradient_distance(
    model: ImageGPT, loss: Tensor, theirs: torch.nn.Module, their_loss: Tensor, head: Head
) -> float:
    """Return the largest difference of any weight's gradients, relative to their largest entry."""
    model.zero_grad()
    loss.backward()
    their_loss.backward()
    gradients = {
        key: torch.zeros_like(weight) if weight.grad is None else weight.grad
        for key, weight in model.named_parameters()
    }
    ours = their_weights(gradients, model.config, head)
    return max(
        distance(ours[key], weight.grad) / weight.grad.abs().max().item()
        for key, weight in theirs.named_parameters()
        if weight.grad is not None and (model.config.bias or not key.endswith(".bias"))
    )


def _round_trip(model: ImageGPT, folder: Path) -> float:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # the classifier's folder has no color head
        loaded = [
            read_huggingface(folder / head).model.state_dict() for head in ("classes", "colors")
        ]
    back = {**loaded[0], **loaded[1]}
    assert back.keys() == model.state_dict().keys()
    return max(distance(back[name], weight) for name, weight in model.state_dict().items())


def _processing(pretrained: Pretrained, folder: Path, name: str) -> Iterator[Row]:
    from PIL import Image
    from transformers import AutoImageProcessor

    from igpt.pixels.images import square

    size = pretrained.model.config.image_size
    generator = np.random.default_rng(2)
    images = generator.integers(0, 256, (8, 3 * size + 1, 3 * size + 1, 3), dtype=np.uint8)
    processor = AutoImageProcessor.from_pretrained(folder)
    theirs = processor([Image.fromarray(image) for image in images], return_tensors="pt")
    ours = pretrained.tokenizer.encode(np.stack([square(i, size, "bilinear") for i in images]))
    yield Row(
        name,
        f"tokens that differ of {ours.numel():,}, images resized by a bilinear filter",
        (ours != theirs["input_ids"]).sum().item(),
        0,
    )


def beside_the_formulas() -> Iterator[Row]:
    """Compare what is read from the TensorFlow fixtures with the formulas over their variables."""
    for kind in ("ar", "bert"):
        folder = FIXTURES / kind
        variables = dict(np.load(folder / "expected.npz"))
        prefix = folder / "model.ckpt-7"
        model = read_tensorflow(prefix, palette=FIXTURES / "kmeans_centers.npy").model.double()
        generator = np.random.default_rng(3)
        tokens = generator.integers(0, model.config.colors, (3, model.config.positions))
        hidden = None if model.config.causal else generator.random(tokens.shape) < 0.3
        states, logits = released_network(variables, tokens, hidden)
        with torch.no_grad():
            inputs = torch.from_numpy(tokens), None if hidden is None else torch.from_numpy(hidden)
            ours, our_states = model(*inputs), list(model.states(*inputs))
        name = f"TensorFlow fixture, {kind}"
        yield Row(name, "logits (float64)", distance(ours, torch.from_numpy(logits)), 1e-12)
        yield Row(
            name,
            "normalized states, every layer (float64)",
            distance(torch.stack(our_states), torch.from_numpy(states)),
            1e-12,
        )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--small", action="store_true", help="Leave iGPT-S's shape out.")
    arguments = parser.parse_args()
    biased = dataclasses.replace(SMALL, bias=True)
    parts = [
        beside_the_formulas(),
        beside_transformers(SMALL, name="3 x 48, 8x8"),
        beside_transformers(biased, name="3 x 48, 8x8, biases"),
    ]
    if not arguments.small:
        parts.append(beside_transformers(SIZES["igpt-s"], name="igpt-s", images=1, completed=64))
    rows = []
    print("| network | quantity | largest difference | bound | |\n| --- | --- | --- | --- | --- |")
    for part in parts:
        for row in part:
            rows.append(row)
            verdict = "holds" if row.holds else "DIFFERS"
            figures = f"{row.difference:.3g} | {row.bound:g}"
            print(f"| {row.shape} | {row.quantity} | {figures} | {verdict} |", flush=True)
    sys.exit(not all(row.holds for row in rows))


if __name__ == "__main__":
    main()
