"""The fine-tuning objective: a class from pooled features, alone or with a pixel loss.

The class head reads the mean over all positions of one layer's normalized state, by default the
final norm's, through one projection without bias. The paper adds the generative loss
(section 2.3: L_GEN + L_CLF), which its code weighs by a coefficient.

The head's part is done in float32 whatever the rest: what tells classes apart is about a thousandth
of the pooled features, less than bfloat16 can hold. Pixels of a BERT network are hidden with either
loss, since they are when it is measured.
"""

from dataclasses import dataclass
from itertools import islice

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from igpt.model.classes import read_class
from igpt.model.config import MASK_PROBABILITY
from igpt.model.transformer import ImageGPT
from igpt.objectives.autoregressive import color_losses
from igpt.objectives.masked import hidden_color_loss, random_mask


@dataclass(frozen=True, kw_only=True)
class Classification:
    """Classification alone or joint with the pixel loss (an `Objective`)."""

    pixel_coefficient: float = 1.0
    """Weight of the pixel loss beside the class loss; 0 for classification alone."""
    layer: int | None = None
    """Layer whose state the class head reads; the last by default, which the paper found best."""
    mask_probability: float = MASK_PROBABILITY
    """How many pixels of a BERT network are hidden."""

    def __call__(
        self,
        model: ImageGPT,
        tokens: Int[Tensor, "batch position"],
        labels: Int[Tensor, " batch"] | None,
        generator: torch.Generator,
    ) -> dict[str, Float[Tensor, ""]]:
        """Return `loss` and its parts, `class_loss` and `pixel_loss`, in nats.

        Source: Chen et al. 2020, section 2.3.
        """
        assert labels is not None
        hidden = None
        if not model.config.causal:
            hidden = random_mask(tokens, generator, self.mask_probability)
        states = model.states(tokens, hidden)
        read = next(islice(states, model.config.check_layer(self.layer), None))
        class_loss = F.cross_entropy(read_class(model, read), labels)
        if self.pixel_coefficient == 0:
            return {"loss": class_loss, "class_loss": class_loss}
        final = read
        for state in states:  # the later ones
            final = state
        if hidden is None:
            pixel_loss = color_losses(model.color_head(final), tokens).mean()
        else:
            pixel_loss = hidden_color_loss(model, final, tokens, hidden)
        loss = class_loss + self.pixel_coefficient * pixel_loss
        return {"loss": loss, "class_loss": class_loss, "pixel_loss": pixel_loss}
