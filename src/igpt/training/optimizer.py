"""The optimizers of a pixel transformer: which of its weights each has, and which of them decay."""

from typing import Any

import torch
from torch import nn

from igpt.training.config import TrainingConfig
from igpt.training.normuon import NorMuon


class Together(torch.optim.Optimizer):
    """Several optimizers as one, which have groups of weights each, and one state."""

    def __init__(self, *parts: torch.optim.Optimizer) -> None:
        """Take over the groups of the `parts`, which are as new."""
        super().__init__([group for part in parts for group in part.param_groups], {})
        self._parts = parts
        for part in parts:
            part.state = self.state

    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Let each update its weights."""
        for part in self._parts:
            part.step()


def build_optimizer(model: nn.Module, config: TrainingConfig) -> torch.optim.Optimizer:
    """Return Adam with decoupled weight decay, plain with `weight_decay=0`; or Muon beside it.

    Only the projections' matrices decay; embeddings, gains and biases do not. The class head, if
    there is one, is a group by itself. Each group has a `rate_factor`, by which `train` multiplies
    the rate of the step. Adam's fused form is several times faster than the loop over weights, on
    CPU as on GPU.

    Muon (Jordan et al. 2024) is for the blocks' matrices: the direction of a step is that of the
    gradients' momentum with all singular values about 1. It is PyTorch's, whose steps are scaled to
    the length that Adam's usually have (Liu et al. 2025, arXiv 2502.16982), so that a rate that is
    good for one is near that of the other. NorMuon is `igpt.training.normuon`.
    """
    matrices = {
        f"{prefix}.weight"
        for prefix, module in model.named_modules()
        if isinstance(module, nn.Linear)
    }
    named = dict(model.named_parameters())
    head = {name for name in named if name.startswith("class_head.")}
    of_muon = {name for name in matrices if name.startswith("blocks.")}
    if config.optimizer == "adam":
        of_muon = set()
    head_factor = (config.head_learning_rate or config.learning_rate) / config.learning_rate

    def group(names: set[str], decay: float, factor: float) -> dict[str, Any]:
        parameters = [named[name] for name in named if name in names]
        return {"params": parameters, "weight_decay": decay, "rate_factor": factor}

    rate, decay = config.learning_rate, config.weight_decay
    shares = (
        (matrices - head - of_muon, decay, 1.0),
        (named.keys() - matrices - head, 0.0, 1.0),
        (head, decay, head_factor),
    )
    adam = torch.optim.AdamW(
        [group(names, decay, factor) for names, decay, factor in shares if names],
        lr=rate, betas=(config.beta1, config.beta2), fused=True,
    )  # fmt: skip
    if not of_muon:
        return adam
    groups = [group(of_muon, decay, 1.0)]
    if config.optimizer == "normuon":
        return Together(NorMuon(groups, lr=rate), adam)
    return Together(torch.optim.Muon(groups, lr=rate, adjust_lr_fn="match_rms_adamw"), adam)
