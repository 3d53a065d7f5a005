from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def save_image() -> Callable[..., Path]:
    """Save an image whose every pixel is `shade`, so that a record tells where it came from."""

    def save(path: Path, shade: int = 0, *, width: int = 8, height: int = 8) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((height, width, 3), shade, dtype=np.uint8)).save(path)
        return path

    return save


@pytest.fixture
def class_folders(tmp_path: Path, save_image: Callable[..., Path]) -> Path:
    """Ten 8x8 images of cats with shades 0 to 9, and ten of dogs with shades 10 to 19."""
    for shade in range(20):
        kind = "cat" if shade < 10 else "dog"
        save_image(tmp_path / "source" / kind / f"{shade:02}.png", shade)
    return tmp_path / "source"
