"""Batches made ready while the steps before them learn, so that a step waits for none.

    with prepared_ahead(batches.at, range(start, steps), ahead=2, device=device) as batch_at:
        for step in range(start, steps):
            batch = batch_at(step)  # on the device; the next two are under way

A batch is a pure function of its step, so it is the same whoever makes it, and when. Threads make
them: what takes the time, in Pillow, NumPy and PyTorch, lets go of Python's lock, and threads read
the very arrays that are mapped into this process. No more than `ahead` are under way or waiting.

For a GPU a batch is also copied there, from pinned memory and beside what the GPU computes.
"""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from itertools import islice

import torch

from igpt.data.batches import Batch

BatchAt = Callable[[int], Batch]
"""Returns the batch of a step."""


@contextmanager
def prepared_ahead(
    batch_at: BatchAt, steps: range, *, ahead: int, device: torch.device
) -> Iterator[BatchAt]:
    """Let the batches of some steps be made ready ahead while in the block.

    Args:
        batch_at: Makes the batch of a step; several threads call it at a time.
        steps: Those that will be asked for, in this order, perhaps not to the last.
        ahead: How many batches are under way or ready while one is learned from; 0 for none, and
            then each is made when it is asked for.
        device: Where they are wanted.

    Yields:
        What returns the batch of a step, or raises the error that it could not be made for. When
        the block ends, however it ends, nothing is under way any more.
    """
    if not ahead:
        yield batch_at
        return
    copies = _Copies(device) if device.type == "cuda" else None

    def make(step: int) -> tuple[Batch, torch.Event | None]:
        batch = batch_at(step)
        return (batch, None) if copies is None else copies.begin(batch)

    coming, made = iter(steps), deque[tuple[int, Future]]()

    def at(step: int) -> Batch:
        begin()
        number, future = made.popleft()
        assert number == step, f"step {step} is asked for, and that of step {number} comes next"
        batch, copied = future.result()
        begin()
        return batch if copies is None else copies.end(batch, copied)

    def begin() -> None:
        for step in islice(coming, ahead - len(made)):
            made.append((step, pool.submit(make, step)))

    pool = ThreadPoolExecutor(ahead, thread_name_prefix="batch")
    try:
        yield at
    finally:
        pool.shutdown(cancel_futures=True)


class _Copies:
    """Batches on their way to a GPU, in a stream beside that in which it computes."""

    def __init__(self, device: torch.device) -> None:
        self._device, self._stream = device, torch.cuda.Stream(device)

    def begin(self, batch: Batch) -> tuple[Batch, torch.Event]:
        """Return the batch as it will be on the GPU, and the event of its being there."""
        with torch.cuda.stream(self._stream):
            labels = None if batch.labels is None else self._moved(batch.labels)
            return Batch(self._moved(batch.tokens), labels), self._stream.record_event()

    def end(self, batch: Batch, copied: torch.Event) -> Batch:
        """Return the batch, which the stream that computes waits for."""
        computing = torch.cuda.current_stream(self._device)
        computing.wait_event(copied)
        for part in (batch.tokens, batch.labels):
            if part is not None:
                part.record_stream(computing)  # so that its memory is not another's too soon
        return batch

    def _moved(self, part: torch.Tensor) -> torch.Tensor:
        return part.pin_memory().to(self._device, non_blocking=True)
