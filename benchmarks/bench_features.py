"""Rows 9 and 10: features of every layer, and the probes fitted to them.

Images, weights and the features that probes are fitted to are made up (see the notes of each row).
"""

import numpy as np
import torch
from harness import Contender, arguments, race, write_row
from sklearn.linear_model import LogisticRegression
from transformers import ImageGPTConfig, ImageGPTModel

from igpt.data.records import Records
from igpt.evaluation.features import extract_features
from igpt.evaluation.linear_probe import LinearProbe
from igpt.model.config import ModelConfig
from igpt.model.huggingface import their_weights
from igpt.model.pretrained import Pretrained
from igpt.model.transformer import ImageGPT
from igpt.pixels.palette import Palette
from igpt.pixels.tokenizer import ImageTokenizer

PENALTIES = (1e-2, 1e-3, 1e-4, 1e-5, 1e-6)


@torch.no_grad()
def peer_of(model: ImageGPT) -> ImageGPTModel:
    """Return the `transformers` network with the same weights."""
    config = model.config
    peer = ImageGPTModel(
        ImageGPTConfig(
            vocab_size=config.colors + 1, n_positions=config.positions, n_embd=config.width,
            n_layer=config.layers, n_head=config.heads, activation_function="quick_gelu",
            use_cache=False,
        )
    ).eval()  # fmt: skip
    theirs = their_weights(model.state_dict(), config, "colors")
    prefix = "transformer."
    peer.load_state_dict(
        {name.removeprefix(prefix): w for name, w in theirs.items() if name.startswith(prefix)}
    )
    return peer.to(model.device)


def features_row(config: ModelConfig, images: int, rounds: int, device: str, name: str) -> None:
    """Time the features of every layer."""
    torch.manual_seed(0)
    generator = np.random.default_rng(0)
    palette = Palette(generator.uniform(-1, 1, (config.colors, 3)).astype(np.float32))
    size = config.image_size
    pixels = generator.integers(0, 256, (images, size, size, 3), dtype=np.uint8)
    records = Records(name="made up", images=pixels, labels=None, class_names=None)
    model = ImageGPT(config).eval().to(device)
    tokenizer = ImageTokenizer(palette, size)
    pretrained = Pretrained(model=model, tokenizer=tokenizer)
    peer = peer_of(model)

    @torch.inference_mode()
    def theirs(batch_size: int) -> np.ndarray:
        found = []
        for part in np.split(pixels, range(batch_size, images, batch_size)):
            tokens = tokenizer.encode(part).to(device)
            start = torch.full_like(tokens[:, :1], config.colors)
            states = peer(
                torch.cat([start, tokens[:, :-1]], dim=1), output_hidden_states=True
            ).hidden_states
            norms = [block.ln_1 for block in peer.h] + [torch.nn.Identity()]
            pooled = [norm(h).mean(dim=1) for norm, h in zip(norms, states, strict=True)]
            found.append(torch.stack(pooled, dim=1).cpu().numpy())
        return np.concatenate(found)

    wanted = extract_features(pretrained, records)
    np.testing.assert_allclose(theirs(1), wanted, atol=1e-3, rtol=1e-3)
    contenders = [Contender("igpt", lambda: extract_features(pretrained, records), images)]
    for batch_size in (1, 8):
        contenders.append(
            Contender(f"transformers, batch {batch_size}", lambda b=batch_size: theirs(b), images)
        )
    write_row(
        f"09-features-{name}", f"Features of every layer, {images} images, {name}, float32",
        race(contenders, rounds=rounds, device=device), ours="igpt", reach="5x", unit="images",
        notes=[f"{images} made-up images and random weights, equal to within 1e-3."],
    )  # fmt: skip


def probes_row(records: int, width: int, rounds: int, device: str) -> None:
    """Time the probes of one layer, five penalties, from the strongest to the weakest."""
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 10, records)
    centers = generator.normal(size=(10, width))
    latent = generator.normal(size=(records, width)) + 0.3 * centers[labels]
    turn = np.linalg.qr(generator.normal(size=(width, width)))[0]
    features = (
        latent * np.arange(1, width + 1) ** -1.0 @ turn
    )  # standard deviations 1, 1/2, 1/3 ...
    objectives: dict[str, list[float]] = {}
    converged: list[bool] = []

    def value(weight: np.ndarray, intercept: np.ndarray, l2: float) -> float:
        logits = torch.from_numpy(features @ weight.T + intercept)
        loss = torch.nn.functional.cross_entropy(logits, torch.from_numpy(labels))
        return loss.item() + l2 / 2 * np.square(weight).sum()

    def ours() -> None:
        fits: list[LinearProbe] = []
        for l2 in PENALTIES:
            probe = LinearProbe(l2, device=device)
            fits.append(probe.fit(features, labels, start=fits[-1] if fits else None))
        converged[:] = [fit.converged_ for fit in fits]
        objectives["igpt"] = [value(f.weight_, f.intercept_, f.l2) for f in fits]

    def theirs() -> None:
        fits = [
            LogisticRegression(C=1 / (l2 * records), max_iter=1000).fit(features, labels)
            for l2 in PENALTIES
        ]
        objectives["scikit-learn"] = [
            value(f.coef_, f.intercept_, l2) for f, l2 in zip(fits, PENALTIES, strict=True)
        ]

    results = race(
        [Contender("igpt", ours), Contender("scikit-learn", theirs)], rounds=rounds, device=device
    )
    excess = np.subtract(objectives["igpt"], objectives["scikit-learn"])
    assert excess.max() < 1e-6, excess
    write_row(
        "10-probes", f"Probes of one layer, 5 penalties, {records} x {width}, 10 classes, float64",
        results, ours="igpt", reach="15x", unit="layers",
        notes=["Made-up features whose standard deviations fall as 1/k: not features of images.",
               "A stated sample of the 25 layers: one."],
        figures={"objectives": objectives, "igpt converged": converged},
    )  # fmt: skip


def main() -> None:
    """Run the rows asked for."""
    options = arguments(__doc__ or "").parse_args()
    only, rounds = options.only or ["9", "10"], min(options.rounds, 2 if options.toy else 3)
    if "9" in only and options.toy:
        tiny = ModelConfig(image_size=8, layers=2, width=32, heads=4)
        features_row(tiny, 8, rounds, options.device, "toy")
    elif "9" in only:
        wide = ModelConfig(layers=8, width=256, heads=8)
        features_row(wide, 16, rounds, options.device, "width-256")
        features_row(ModelConfig(), 8, 1, options.device, "igpt-s")
    if "10" in only:
        records, width = (500, 16) if options.toy else (45_000, 512)
        probes_row(records, width, 1 if not options.toy else rounds, options.device)


if __name__ == "__main__":
    main()
