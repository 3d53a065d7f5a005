import errno
import os
import pickle
import threading
from pathlib import Path

import numpy as np
import pytest

from igpt.errors import DataError
from igpt.pixels import palette as palette_module
from igpt.pixels.nearest import nearest, nearest_table
from igpt.pixels.palette import Palette, pack_colors, unpack_colors


def random_colors(size, seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, (size, 3)).astype(np.float32)


def random_pixels(*shape, seed=1):
    return np.random.default_rng(seed).integers(256, size=(*shape, 3), dtype=np.uint8)


def test_thousands_of_colors_are_told_apart_exactly():
    colors, pixels = random_colors(5000), random_pixels(100_000)
    tokens = Palette(colors).encode(pixels)
    np.testing.assert_array_equal(tokens[:20_000], nearest(colors, pixels[:20_000]))
    np.testing.assert_array_equal(tokens[-5000:], Palette(colors).encode(pixels[-5000:]))


@pytest.fixture
def tables_made(monkeypatch) -> list[np.ndarray]:
    """The colors of every palette that a table is made for."""
    made = []

    def counted(colors):
        made.append(colors)
        return nearest_table(colors)

    monkeypatch.setattr(palette_module, "nearest_table", counted)
    return made


def test_many_small_images_come_to_use_the_table_and_their_tokens_stay(tables_made):
    palette, pixels = Palette(random_colors(8), few_colors=100), random_pixels(60)
    few = palette.encode(pixels)
    assert not tables_made
    np.testing.assert_array_equal(palette.encode(pixels), few)
    assert len(tables_made) == 1
    np.testing.assert_array_equal(palette.encode(pixels), few)
    assert len(tables_made) == 1


@pytest.mark.parametrize("shape", [(), (0,), (5,), (2, 3), (2, 3, 4, 5)])
@pytest.mark.parametrize("limit", [0, 65_536], ids=["table", "few"])
def test_tokens_have_the_shape_of_the_image(shape, limit):
    palette = Palette(random_colors(2), few_colors=limit)
    tokens = palette.encode(random_pixels(*shape))
    assert tokens.shape == shape
    assert tokens.dtype == np.uint16
    assert palette.decode(tokens).shape == (*shape, 3)


@pytest.mark.parametrize(
    ("pixels", "message"),
    [
        (
            np.zeros((4, 4, 3)),
            r"be uint8 .*, got float64 of shape \(4, 4, 3\); scale levels",
        ),
        (np.zeros((4, 4, 3), np.int64), "got int64"),
        (np.zeros((4, 4, 1), np.uint8), r"of shape \(4, 4, 1\)"),
        (np.zeros((4, 4, 4), np.uint8), "leave transparency out"),
    ],
)
@pytest.mark.parametrize("few_colors", [0, 100])
def test_what_is_no_pixels_is_refused(pixels, message, few_colors):
    with pytest.raises(DataError, match=message):
        Palette(random_colors(4), few_colors=few_colors).encode(pixels)


def test_packing_keeps_red_highest_and_is_undone():
    assert pack_colors(np.array([1, 2, 3], np.uint8)) == 1 * 65536 + 2 * 256 + 3
    pixels = random_pixels(7, 9)
    np.testing.assert_array_equal(unpack_colors(pack_colors(pixels)), pixels)


def test_pieces_looked_up_by_several_threads_are_put_together_in_order():
    palette = Palette(random_colors(20), few_colors=0)
    pixels = random_pixels(500, 600)  # more than two pieces of 2^17
    expected = nearest(palette.colors, pixels.reshape(-1, 3)).reshape(500, 600)
    np.testing.assert_array_equal(palette.encode(pixels), expected)
    np.testing.assert_array_equal(palette.encode(pixels[::-1, ::2]), expected[::-1, ::2])


def test_tokens_are_shown_as_the_rounded_color():
    palette = Palette(np.array([[-1, 0, 1], [0.5, -0.5, 0.004]], np.float32))
    # 127.5 * (c + 1) = 0, 127.5, 255 and 191.25, 63.75, 128.01; halves go to the even number
    assert palette.decode(np.array([0, 1])).tolist() == [[0, 128, 255], [191, 64, 128]]


def test_the_colors_of_a_palette_survive_their_own_tokens():
    pixels = np.unique(random_pixels(512), axis=0)
    palette = Palette(pixels / 127.5 - 1)
    np.testing.assert_array_equal(palette.encode(pixels), np.arange(len(pixels)))
    np.testing.assert_array_equal(palette.decode(palette.encode(pixels)), pixels)


@pytest.mark.parametrize("tokens", [[0, 512], [-1, 3]])
def test_tokens_of_another_palette_are_refused(tokens):
    with pytest.raises(DataError, match=r"lie in \[0, 512\), but these go from .* another palette"):
        Palette(random_colors(512)).decode(np.array(tokens))


@pytest.mark.parametrize(
    ("colors", "message"),
    [
        (np.zeros((4, 3), np.uint8), "floats in .* got uint8; divide bytes by 127.5"),
        (np.zeros((3, 4)), r"shape \(size, 3\).* got \(3, 4\)"),
        (np.zeros(3), r"got \(3,\)"),
        (np.zeros((1, 3)), "2 to 65,536 colors"),
        (np.zeros((65_537, 3)), r"got \(65537, 3\)"),
        (np.full((2, 3), np.nan), "NaN or infinity"),
        (np.full((2, 3), 1e300), r"lie in \[-1, 1\]"),
        (np.array([[0, 1, 2], [255, 0, 0.0]]), "go from 0 to 255; divide bytes by 127.5"),
    ],
)
def test_what_is_no_palette_is_refused(colors, message):
    with pytest.raises(DataError, match=message):
        Palette(colors)


def test_a_palette_cannot_be_changed():
    given = random_colors(4)
    palette = Palette(given)
    with pytest.raises(ValueError, match="read-only"):
        palette.colors[0] = 0
    with pytest.raises(ValueError, match="read-only"):
        palette.rgb[0] = 0
    given[:] = 0
    np.testing.assert_array_equal(palette.colors, random_colors(4))


def test_a_palette_comes_back_from_its_file(tmp_path):
    path = tmp_path / "made" / "palette-9.npy"
    saved = Palette(random_colors(9))
    saved.save(path)
    loaded = Palette.load(path)
    np.testing.assert_array_equal(loaded.colors, saved.colors)
    assert loaded.fingerprint == saved.fingerprint != Palette(random_colors(9, seed=1)).fingerprint
    np.testing.assert_array_equal(np.load(path), saved.colors)


def whole_file(tmp_path):
    Palette(random_colors(9)).save(tmp_path / "whole.npy")
    return (tmp_path / "whole.npy").read_bytes()


def test_broken_palette_files_are_refused(tmp_path):
    path, whole = tmp_path / "palette.npy", whole_file(tmp_path)
    with pytest.raises(DataError, match=r"could not read .*palette\.npy: No such file"):
        Palette.load(path)
    for content in (b"", b"no array", whole[:-5], whole[:40]):
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"palette\.npy is not a whole \.npy file"):
            Palette.load(path)
    path.write_bytes(pickle.dumps({"colors": 1}))
    with pytest.raises(DataError, match="is not a whole"):
        Palette.load(path)
    np.save(path, np.array([{"colors": 1}]), allow_pickle=True)
    with pytest.raises(DataError, match="is not a whole"):
        Palette.load(path)
    np.savez(tmp_path / "several.npz", a=np.zeros(3))
    with pytest.raises(DataError, match="is not a whole"):
        Palette.load(tmp_path / "several.npz")
    np.save(path, np.zeros((4, 3), np.uint8))
    with pytest.raises(DataError, match=r"palette\.npy holds no palette: .*uint8"):
        Palette.load(path)
    with pytest.raises(DataError, match="Is a directory"):
        Palette.load(tmp_path)


def test_no_damage_to_a_palette_file_raises_anything_but_a_data_error(tmp_path):
    path, generator = tmp_path / "palette.npy", np.random.default_rng(0)
    whole = np.frombuffer(whole_file(tmp_path), np.uint8)
    for _ in range(500):
        damaged = whole.copy()
        damaged[generator.integers(128, size=2)] = generator.integers(256, size=2)
        path.write_bytes(damaged.tobytes())
        try:
            loaded = Palette.load(path)
        except DataError:
            continue
        assert loaded.size >= 2


def test_a_full_disk_leaves_no_half_palette(tmp_path, monkeypatch):
    def full(self, data):
        self.open("wb").close()
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(DataError, match=r"could not write .*p\.npy: No space left"):
        Palette(random_colors(5)).save(tmp_path / "p.npy")
    assert not [*tmp_path.iterdir()]


def test_threads_share_one_table(tables_made):
    palette, pixels, tokens = Palette(random_colors(5), few_colors=1), random_pixels(300), []
    threads = [
        threading.Thread(target=lambda: tokens.append(palette.encode(pixels))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(tables_made) == 1
    assert len(tokens) == 4
    for encoded in tokens:
        np.testing.assert_array_equal(encoded, nearest(palette.colors, pixels))


def test_the_table_of_all_colors_stays_in_memory(tmp_path):
    """It takes 34 MB, which nobody wants beside each palette."""
    Palette(random_colors(16)).save(tmp_path / "palette.npy")
    palette = Palette(np.load(tmp_path / "palette.npy"), few_colors=0)
    palette.encode(np.zeros((2, 3), np.uint8))
    assert [file.name for file in tmp_path.iterdir()] == ["palette.npy"]
