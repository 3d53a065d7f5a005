"""A small supervised convolutional network: what features are to be compared with (table 1).

The paper compares probes of iGPT with those of networks that learned with labels, such as a
ResNet-152. Where such a network would be too much, this one stands for them: three stages of two
3x3 convolutions each, halving the image between them, trained on labels of images that are
moved by a pixel or two, and read where the classifier reads it, after the mean over the image.

    network = train_convnet(store.split("train"), image_size=32, seed=0, epochs=20)
    features = pooled_features(network, store.split("test"), image_size=32)  # (image, 256)
"""

import numpy as np
import torch
from jaxtyping import Float, Float32, UInt8
from torch import Tensor, nn
from torch.nn import functional as F

from igpt.data.batches import images_at_size
from igpt.data.order import records_at_step
from igpt.data.store import Records
from igpt.model.transformer import seed_weights

_WIDTHS = (64, 128, 256)
_BATCH = 64
_RATE = 2e-3  # AdamW's, warmed up over a tenth of the steps, then down a cosine
_DECAY = 0.05
_SHIFT = 2  # pixels that images are moved by in training, either way


class ConvNet(nn.Module):
    """Three stages of convolutions, a mean over the image, and one linear layer."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        inputs = 3
        for stage, width in enumerate(_WIDTHS):
            if stage:
                layers.append(nn.MaxPool2d(2, ceil_mode=True))
            for _ in range(2):
                layers += [
                    nn.Conv2d(inputs, width, 3, padding=1, bias=False),
                    nn.BatchNorm2d(width),
                    nn.ReLU(),
                ]
                inputs = width
        self.stages = nn.Sequential(*layers)
        self.head = nn.Linear(inputs, classes)

    def pooled(self, x: Float[Tensor, "image 3 size size"]) -> Float[Tensor, "image feature"]:
        """Return the features that the head reads."""
        return self.stages(x).mean(dim=(2, 3))

    def forward(self, x: Float[Tensor, "image 3 size size"]) -> Float[Tensor, "image class"]:
        """Return the logits of the classes."""
        return self.head(self.pooled(x))


def train_convnet(
    records: Records, *, image_size: int, seed: int, epochs: int, device: str = "cpu"
) -> ConvNet:
    """Return a network that has learned the labels of some images, in evaluation mode.

    Args:
        records: Labelled images.
        image_size: Side at which it sees them.
        seed: Decides weights, order and shifts.
        epochs: Passes over the images.
        device: Where to train.

    Raises:
        DataError: There are no labels, or the images are smaller.
    """
    labels = torch.from_numpy(records.require_labels()).to(device)
    assert records.class_names is not None
    images = _images(records, image_size).to(device)
    batch = min(_BATCH, len(images))
    steps = epochs * (len(images) // batch)
    seed_weights(seed)
    network = ConvNet(len(records.class_names)).to(device)
    optimizer = torch.optim.AdamW(network.parameters(), lr=_RATE, weight_decay=_DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, _RATE, steps, pct_start=0.1)
    for step in range(steps):
        numbers = records_at_step(step, records=len(images), batch_size=batch, seed=seed)
        seen, known = (part[torch.tensor(numbers)] for part in (images, labels))
        shifts = torch.randint(-_SHIFT, _SHIFT + 1, (2,)).tolist()
        loss = F.cross_entropy(network(torch.roll(_scaled(seen), shifts, dims=(2, 3))), known)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return network.eval()


@torch.inference_mode()
def pooled_features(
    network: ConvNet, records: Records, *, image_size: int
) -> Float32[np.ndarray, "image feature"]:
    """Return the features that a network's head reads of some images.

    Raises:
        DataError: The images are smaller.
    """
    device = next(network.parameters()).device
    images = _images(records, image_size)
    parts = [network.pooled(_scaled(part.to(device))) for part in images.split(1024)]
    return torch.cat(parts).float().cpu().numpy()


@torch.inference_mode()
def convnet_accuracy(network: ConvNet, records: Records, *, image_size: int) -> float:
    """Return the share of images whose class a network says.

    Raises:
        DataError: There are no labels, or the images are smaller.
    """
    features = torch.from_numpy(pooled_features(network, records, image_size=image_size))
    answers = network.head.cpu()(features).argmax(dim=1).numpy()
    return float(np.mean(answers == records.require_labels()))


def _images(records: Records, size: int) -> UInt8[Tensor, "image 3 size size"]:
    images = torch.from_numpy(np.array(images_at_size(records, size)))
    return images.permute(0, 3, 1, 2)


def _scaled(images: UInt8[Tensor, "image 3 size size"]) -> Float32[Tensor, "image 3 size size"]:
    return images.float() / 127.5 - 1
