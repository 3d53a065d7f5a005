"""How pixels may be averaged when an image is resized; apart, so that `--help` needs no NumPy."""

from typing import Literal

ResamplingFilter = Literal["box", "bilinear", "hamming", "bicubic", "lanczos"]
"""Pillow's filters, all of them antialiased."""

DEFAULT_FILTER: ResamplingFilter = "box"
"""Area averaging. What the published models were trained with is not known."""
