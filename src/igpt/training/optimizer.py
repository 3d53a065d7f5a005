"""Adam for a pixel transformer: which of its weights decay, and which have a rate of their own."""

import torch
from torch import nn

from igpt.training.config import TrainingConfig


def build_optimizer(model: nn.Module, config: TrainingConfig) -> torch.optim.AdamW:
    """Return Adam with decoupled weight decay; with `weight_decay=0` it is plain Adam.

    Only the projections' matrices decay; embeddings, gains and biases do not. The class head, if
    there is one, is a group by itself. Each group has a `rate_factor`, by which `train` multiplies
    the rate of the step. The fused form is several times faster than the loop over weights, on CPU
    as on GPU.
    """
    decayed = {
        f"{prefix}.weight"
        for prefix, module in model.named_modules()
        if isinstance(module, nn.Linear)
    }
    named = dict(model.named_parameters())
    head = {name for name in named if name.startswith("class_head.")}
    head_factor = (config.head_learning_rate or config.learning_rate) / config.learning_rate
    groups = [
        {
            "params": [named[name] for name in named if name in names],
            "weight_decay": decay,
            "rate_factor": factor,
        }
        for names, decay, factor in (
            (decayed - head, config.weight_decay, 1.0),
            (named.keys() - decayed - head, 0.0, 1.0),
            (head, config.weight_decay, head_factor),
        )
        if names
    ]
    betas = (config.beta1, config.beta2)
    return torch.optim.AdamW(groups, lr=config.learning_rate, betas=betas, fused=True)
