"""Once through a split: its batches on the network's device, hidden pixels and a bar included.

Every measure of images is taken in such a pass. `igpt.data.batches` says what a record is to the
model; here it is only handed on.
"""

from collections.abc import Iterator

from jaxtyping import Bool, Int64
from torch import Tensor
from tqdm import tqdm

from igpt import processes
from igpt.data.batches import evaluation_batches
from igpt.data.store import Records
from igpt.model.pretrained import Pretrained
from igpt.objectives.masked import image_masks

MeasuredBatch = tuple[
    slice, Int64[Tensor, "_batch _position"], Bool[Tensor, "_batch _position"] | None
]
"""Which records these are, their tokens, and which pixels are hidden; None for none of them."""


def measured_batches(
    pretrained: Pretrained,
    records: Records,
    *,
    batch_size: int,
    mask_seed: tuple[int, ...] | None = None,
    title: str | None = None,
) -> Iterator[MeasuredBatch]:
    """Yield all records in order, for the network to be measured on.

    Several processes take turns, so that each yields its share of the batches; whoever measures
    adds up what they found (`igpt.processes.total`, `merge`).

    Args:
        pretrained: Network and tokenizer.
        records: Images, of the network's size or larger.
        batch_size: Images at a time; the last batch may be smaller.
        mask_seed: For a BERT network: hide pixels of each image as in training, drawn from this
            seed and the image's number; by default all pixels are shown.
        title: What to call the progress bar; None for no bar.

    Raises:
        ConfigError: Pixels of an autoregressive network are to be hidden.
        DataError: The records are smaller than the network's images, or tokens of another palette.
    """
    if mask_seed is not None:
        pretrained.model.config.require_bert()
    first, stride = processes.rank() * batch_size, processes.count() * batch_size
    shown = None if title and processes.first() else True
    with tqdm(total=len(records), desc=title, unit="image", disable=shown) as bar:
        for batch in evaluation_batches(
            records, pretrained.tokenizer, batch_size=batch_size, first=first, stride=stride
        ):
            tokens = batch.tokens.to(pretrained.model.device)
            part = slice(first, first + len(tokens))
            hidden = None
            if mask_seed is not None:
                numbers = range(part.start, part.stop)
                hidden = image_masks(tokens, mask_seed, numbers, pretrained.mask_probability)
            yield part, tokens, hidden
            first += stride
            bar.update(min(stride, len(records) - bar.n))
