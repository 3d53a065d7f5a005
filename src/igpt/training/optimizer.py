"""Adam for a pixel transformer, and which of its weights decay."""

import torch
from torch import nn

from igpt.training.config import TrainingConfig


def build_optimizer(model: nn.Module, config: TrainingConfig) -> torch.optim.AdamW:
    """Return Adam with decoupled weight decay; with `weight_decay=0` it is plain Adam.

    Only the projections' matrices decay; embeddings, gains and biases do not. The fused form is
    several times faster than the loop over weights, on CPU as on GPU.
    """
    decayed = {
        f"{prefix}.weight"
        for prefix, module in model.named_modules()
        if isinstance(module, nn.Linear)
    }
    named = list(model.named_parameters())
    groups = [
        {"params": [p for n, p in named if n in decayed], "weight_decay": config.weight_decay},
        {"params": [p for n, p in named if n not in decayed], "weight_decay": 0.0},
    ]
    betas = (config.beta1, config.beta2)
    return torch.optim.AdamW(groups, lr=config.learning_rate, betas=betas, fused=True)
