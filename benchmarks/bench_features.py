"""Rows 9 and 10: features of every layer, and the probes fitted to them.

    python benchmarks/bench_features.py [--rounds 5] [--toy] [--only ROW] [--data CIFAR10_FOLDER]

Images and weights of row 9 are made up. Probes are fitted to CIFAR-10's pixels, or, without a
folder of its parquet files, to made-up features (see the notes of each row).
"""

import numpy as np
import torch
from harness import Contender, arguments, race, write_row
from sklearn.linear_model import LogisticRegression
from transformers import ImageGPTConfig, ImageGPTModel

from igpt.data.sources import open_source
from igpt.data.store import Records
from igpt.evaluation.features import extract_features
from igpt.evaluation.logistic import LinearProbe
from igpt.formats.huggingface import their_weights
from igpt.model.config import ModelConfig
from igpt.model.pretrained import Pretrained
from igpt.model.transformer import ImageGPT
from igpt.pixels.images import square
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
    for batch_size in (1, min(8, images)):
        contenders.append(
            Contender(f"transformers, batch {batch_size}", lambda b=batch_size: theirs(b), images)
        )
    write_row(
        f"09-features-{name}", f"Features of every layer, {images} images, {name}, float32",
        race(contenders, rounds=rounds, device=device), ours="igpt", reach="5x", unit="images",
        notes=[f"{images} made-up images and random weights, equal to within 1e-3."],
    )  # fmt: skip


def pixel_features(data: str, records: int) -> tuple[np.ndarray, np.ndarray]:
    """Return CIFAR-10's images at 13x13 as features in [-1, 1], (records, 507), and labels."""
    split = open_source(data).splits["train"]
    assert split.labels is not None
    images = np.stack([square(split.image(index).read()[0], 13) for index in range(records)])
    return images.reshape(records, -1) / 127.5 - 1, split.labels[:records]


def made_up_features(records: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Return features whose standard deviations are 1, 1/2, 1/3 ..., and ten classes."""
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 10, records)
    centers = generator.normal(size=(10, width))
    latent = generator.normal(size=(records, width)) + 0.3 * centers[labels]
    turn = np.linalg.qr(generator.normal(size=(width, width)))[0]
    return latent * np.arange(1, width + 1) ** -1.0 @ turn, labels


def probes_row(
    features: np.ndarray, labels: np.ndarray, kind: str, rounds: int, device: str
) -> None:
    """Time the probes of one layer, five penalties, from the strongest to the weakest."""
    records, width = features.shape
    objectives: dict[str, list[float]] = {}
    converged: list[bool] = []

    def value(weight: np.ndarray, intercept: np.ndarray, l2: float) -> float:
        logits = torch.from_numpy(features @ weight.T + intercept)
        loss = torch.nn.functional.cross_entropy(logits, torch.from_numpy(labels))
        return loss.item() + l2 / 2 * np.square(weight).sum()

    def ours() -> None:
        fits = LinearProbe(device=device).fit_path(features, labels, PENALTIES)
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
        [Contender("igpt", ours), Contender("scikit-learn", theirs)],
        rounds=rounds,
        warmup=0,  # a minute each
        device=device,
    )
    excess = np.subtract(objectives["igpt"], objectives["scikit-learn"])
    assert excess.max() < 1e-6, excess
    write_row(
        "10-probes",
        f"Probes of one layer, 5 penalties, {records} x {width} ({kind}), 10 classes, float64",
        results, ours="igpt", reach="15x", unit="layers",
        notes=["One layer stands for the 25; ours shares what the penalties have in common."],
        figures={"objectives": objectives, "igpt converged": converged},
    )  # fmt: skip


def main() -> None:
    """Run the rows asked for."""
    options = arguments((__doc__ or "").splitlines()[0]).parse_args()
    only, rounds = options.only or ["9", "10"], options.rounds
    if "9" in only and options.toy:
        tiny = ModelConfig(image_size=8, layers=2, width=32, heads=4)
        features_row(tiny, 8, rounds, options.device, "toy")
    elif "9" in only:
        wide = ModelConfig(layers=8, width=256, heads=8)
        features_row(wide, 16, rounds, options.device, "width-256")
        features_row(ModelConfig(), 4, rounds, options.device, "igpt-s")
    if "10" in only:
        records = 500 if options.toy else 45_000
        if options.data is not None:
            kind, (features, labels) = "CIFAR-10's pixels", pixel_features(options.data, records)
        else:
            kind = "made up"
            features, labels = made_up_features(records, 16 if options.toy else 512)
        probes_row(features, labels, kind, rounds, options.device)


if __name__ == "__main__":
    main()
