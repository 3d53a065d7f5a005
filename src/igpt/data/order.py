"""The order of the records: which of them each process reads at each step.

Nothing here remembers where training is. The order is worked out from the seed and the step, so a
resumed run goes on where it stopped, and a run on four processes reads the batches of a run on one.
"""

from functools import lru_cache

import numpy as np
from jaxtyping import Int64

from igpt.errors import ConfigError
from igpt.randomness import Stream, stream


@lru_cache(maxsize=4)  # a shuffle of ImageNet takes as long as a small step, and serves thousands
def epoch_order(records: int, seed: int, epoch: int) -> Int64[np.ndarray, " records"]:
    """Return all record numbers, shuffled for this epoch; read-only, since calls share it."""
    order = stream(Stream.ORDER, seed, epoch).permutation(records)
    order.setflags(write=False)
    return order


def records_at_step(
    step: int, *, records: int, batch_size: int, seed: int, rank: int = 0, ranks: int = 1
) -> Int64[np.ndarray, " local_batch"]:
    """Return the numbers of the records that `rank` reads at `step`.

    A pure function of its arguments: resuming at step 7,000 needs no saved loader state, and
    the ranks' shares of a batch make up the same batch for any number of ranks. Records that do
    not fill a last batch are left out of that epoch; the next one shuffles anew.

    Raises:
        ConfigError: A batch cannot be shared out evenly.
    """
    assert batch_size <= records, f"batch_size={batch_size} is more than {records} records"
    if batch_size % ranks:
        raise ConfigError(f"batch_size={batch_size} does not divide among {ranks} processes")
    epoch, index = divmod(step, records // batch_size)
    order = epoch_order(records, seed=seed, epoch=epoch)
    return order[index * batch_size : (index + 1) * batch_size][rank::ranks]
