"""NorMuon (Li et al. 2025, arXiv 2510.05491): Muon whose steps are as long for every neuron.

Muon makes all singular values of a step about 1, and yet some rows of it, a neuron each, stay much
longer than others. Here each row is divided by the root of a running mean of its squares, and the
whole by what gives it Muon's length again.
"""

from typing import Any

import torch

_EPSILON = 1e-8


class NorMuon(torch.optim.Muon):
    """`torch.optim.Muon`, with steps of the length that Adam's usually have, row by row alike."""

    def __init__(self, groups: list[dict[str, Any]], *, lr: float, beta2: float = 0.95) -> None:
        """Take groups of matrices (neurons, inputs), the rate, and how slowly the mean moves."""
        super().__init__(groups, lr=lr, adjust_lr_fn="match_rms_adamw")
        self._beta2 = beta2

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Update the matrices that have gradients."""
        moved = [
            (matrix, group, matrix.clone())
            for group in self.param_groups
            for matrix in group["params"]
            if matrix.grad is not None
        ]
        for matrix, _, _ in moved:
            matrix.zero_()  # so that Muon leaves its step alone, with nothing lost to rounding
        super().step()
        for matrix, group, before in moved:
            rate = float(group["lr"])
            step = -matrix / rate if rate else matrix
            squares = step.square().mean(dim=1, keepdim=True)
            mean = self.state[matrix].setdefault("row_squares", torch.zeros_like(squares))
            if rate:
                mean.lerp_(squares, 1 - self._beta2)
            step /= mean.sqrt() + _EPSILON
            length = 0.2 * rate * step.numel() ** 0.5
            matrix.copy_(before * (1 - rate * group["weight_decay"]))
            matrix.sub_(step * (length / step.norm().clamp(min=_EPSILON)))
