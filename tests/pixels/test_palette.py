import errno
import os
import pickle
import threading
from pathlib import Path

import numpy as np
import pytest

from igpt.errors import DataError
from igpt.pixels import palette as palette_module
from igpt.pixels.nearest import nearest_table
from igpt.pixels.palette import Palette, pack_colors, unpack_colors


def random_colors(size, seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, (size, 3)).astype(np.float32)


def random_pixels(*shape, seed=1):
    return np.random.default_rng(seed).integers(256, size=(*shape, 3), dtype=np.uint8)


def grey_colors(size):
    return np.repeat(np.linspace(-1, 1, size, dtype=np.float32)[:, None], 3, axis=1)


def repeated_colors(size):
    return np.concatenate([random_colors(size)] * 2)[::-1].copy()


def lattice_colors(size):
    """Centers in the middle between bytes, and on them: ties everywhere."""
    steps = np.arange(0, 256, size) / 127.5 - 1
    return np.stack(np.meshgrid(steps, steps, steps), -1).reshape(-1, 3).astype(np.float32)


def by_distance(colors, pixels):
    """The lowest index of the least distance in float64, summed red, green, blue."""
    tokens = []
    for part in np.array_split(pixels.reshape(-1, 3) / 127.5 - 1, max(1, len(pixels) // 500)):
        r, g, b = ((part[:, i, None] - colors[:, i].astype(np.float64)) ** 2 for i in range(3))
        tokens.append(np.argmin(r + g + b, axis=1))
    return np.concatenate(tokens)


PALETTES = {
    "2": random_colors(2),
    "3": random_colors(3),
    "512": random_colors(512),
    "grey 16": grey_colors(16),
    "grey 256": grey_colors(256),
    "each twice": repeated_colors(100),
    "all the same": np.full((4, 3), 0.25, np.float32),
    "lattice": lattice_colors(51),
    "clustered": (random_colors(300) * 0.01).astype(np.float32),
}


@pytest.mark.parametrize("colors", PALETTES.values(), ids=PALETTES)
def test_a_token_is_the_nearest_color_and_of_equally_near_ones_the_lowest(colors):
    pixels = random_pixels(100_000)
    expected = by_distance(colors, pixels)
    table = nearest_table(Palette(colors).colors)
    np.testing.assert_array_equal(table.reshape(-1)[pack_colors(pixels)], expected)
    few = Palette(colors).encode(pixels[:20_000])
    np.testing.assert_array_equal(few, expected[:20_000])


def test_thousands_of_colors_are_told_apart_exactly():
    colors, pixels = random_colors(5000), random_pixels(100_000)
    palette = Palette(colors)
    tokens = palette.encode(pixels)
    assert palette._table is not None
    np.testing.assert_array_equal(tokens[:20_000], by_distance(colors, pixels[:20_000]))
    np.testing.assert_array_equal(tokens[-5000:], Palette(colors).encode(pixels[-5000:]))


@pytest.mark.slow
def test_the_largest_palette_is_exact():
    colors, pixels = random_colors(65_536), random_pixels(500)
    table = nearest_table(colors)
    np.testing.assert_array_equal(
        table.reshape(-1)[pack_colors(pixels)], by_distance(colors, pixels)
    )


def test_neighbors_across_every_border_inside_the_table_are_exact():
    colors = random_colors(40)
    edges = np.array([0, 7, 8, 15, 16, 63, 64, 127, 128, 191, 192, 255], np.uint8)
    pixels = np.stack(np.meshgrid(edges, edges, edges), -1).reshape(-1, 3)
    tokens = nearest_table(colors).reshape(-1)[pack_colors(pixels)]
    np.testing.assert_array_equal(tokens, by_distance(colors, pixels))


def test_many_small_images_come_to_use_the_table_and_their_tokens_stay(monkeypatch):
    monkeypatch.setattr(palette_module, "_FEW_COLORS", 100)
    palette, pixels = Palette(random_colors(8)), random_pixels(60)
    few = palette.encode(pixels)
    assert palette._table is None
    np.testing.assert_array_equal(palette.encode(pixels), few)
    assert palette._table is not None
    np.testing.assert_array_equal(palette.encode(pixels), few)


@pytest.mark.parametrize("shape", [(), (0,), (5,), (2, 3), (2, 3, 4, 5)])
@pytest.mark.parametrize("limit", [0, 65_536], ids=["table", "few"])
def test_tokens_have_the_shape_of_the_image(shape, limit, monkeypatch):
    monkeypatch.setattr(palette_module, "_FEW_COLORS", limit)
    palette = Palette(random_colors(2))
    tokens = palette.encode(random_pixels(*shape))
    assert tokens.shape == shape
    assert tokens.dtype == np.uint16
    assert palette.decode(tokens).shape == (*shape, 3)


def test_packing_keeps_red_highest_and_is_undone():
    assert pack_colors(np.array([1, 2, 3], np.uint8)) == 1 * 65536 + 2 * 256 + 3
    pixels = random_pixels(7, 9)
    np.testing.assert_array_equal(unpack_colors(pack_colors(pixels)), pixels)


def test_pieces_looked_up_by_several_threads_are_put_together_in_order(monkeypatch):
    monkeypatch.setattr(palette_module, "_FEW_COLORS", 0)
    monkeypatch.setattr(palette_module, "_PIXELS_AT_ONCE", 100)
    palette, pixels = Palette(random_colors(60)), random_pixels(35, 30)  # the last piece is short
    expected = by_distance(palette.colors, pixels).reshape(35, 30)
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
    with pytest.raises(DataError, match=r"could not read the palette .*palette\.npy: No such file"):
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


def with_table(tmp_path, monkeypatch):
    """A saved palette of 5 colors whose table lies beside it, pixels, and their tokens."""
    monkeypatch.setattr(palette_module, "_FEW_COLORS", 1)
    Palette(random_colors(5)).save(tmp_path / "p.npy")
    palette, pixels = Palette.load(tmp_path / "p.npy"), random_pixels(300)
    tokens = palette.encode(pixels)
    return tmp_path / f"p.{palette.fingerprint}.table.npy", pixels, tokens


def refuse_to_build(colors):
    raise AssertionError("the table was there")


def test_the_table_is_kept_beside_the_palette_and_not_made_again(tmp_path, monkeypatch):
    table, pixels, tokens = with_table(tmp_path, monkeypatch)
    assert table.stat().st_size == 2 * 2**24 + 128
    written = table.stat().st_mtime_ns
    monkeypatch.setattr(palette_module, "nearest_table", refuse_to_build)
    np.testing.assert_array_equal(Palette.load(tmp_path / "p.npy").encode(pixels), tokens)
    assert table.stat().st_mtime_ns == written
    assert sorted(tmp_path.iterdir()) == sorted([table, tmp_path / "p.npy"])


@pytest.mark.parametrize("damage", ["empty", "truncated", "no array", "wrong shape", "all zero"])
def test_a_damaged_table_is_made_again(damage, tmp_path, monkeypatch):
    table, pixels, tokens = with_table(tmp_path, monkeypatch)
    whole = table.read_bytes()
    if damage == "wrong shape":
        np.save(table, np.zeros(5, np.uint16))
    else:
        table.write_bytes(
            {
                "empty": b"",
                "truncated": whole[:-1],
                "no array": b"nothing",
                "all zero": whole[:128] + bytes(len(whole) - 128),
            }[damage]
        )
    np.testing.assert_array_equal(Palette.load(tmp_path / "p.npy").encode(pixels), tokens)
    assert table.read_bytes() == whole


def test_another_palette_under_the_same_name_gets_its_own_table(tmp_path, monkeypatch):
    _, pixels, _ = with_table(tmp_path, monkeypatch)
    other = Palette(random_colors(5, seed=7))
    other.save(tmp_path / "p.npy")
    tokens = Palette.load(tmp_path / "p.npy").encode(pixels)
    np.testing.assert_array_equal(tokens, by_distance(other.colors, pixels))


def test_a_folder_that_cannot_be_written_means_no_table_file(tmp_path, monkeypatch):
    monkeypatch.setattr(palette_module, "_FEW_COLORS", 1)
    Palette(random_colors(5)).save(tmp_path / "p.npy")
    palette, pixels = Palette.load(tmp_path / "p.npy"), random_pixels(300)

    def full(self, data):
        self.open("wb").close()
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_bytes", full)
    np.testing.assert_array_equal(palette.encode(pixels), by_distance(palette.colors, pixels))
    assert [*tmp_path.iterdir()] == [tmp_path / "p.npy"]


def test_a_full_disk_leaves_no_half_palette(tmp_path, monkeypatch):
    def full(self, data):
        self.open("wb").close()
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(DataError, match=r"could not write .*p\.npy: No space left"):
        Palette(random_colors(5)).save(tmp_path / "p.npy")
    assert not [*tmp_path.iterdir()]


def test_threads_share_one_table(tmp_path, monkeypatch):
    monkeypatch.setattr(palette_module, "_FEW_COLORS", 1)
    palette, pixels, made, tokens = Palette(random_colors(5)), random_pixels(300), [], []
    palette.save(tmp_path / "p.npy")

    def counted(colors):
        made.append(colors)
        return nearest_table(colors)

    monkeypatch.setattr(palette_module, "nearest_table", counted)
    threads = [
        threading.Thread(target=lambda: tokens.append(palette.encode(pixels))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1
    for found in tokens:
        np.testing.assert_array_equal(found, by_distance(palette.colors, pixels))
    assert len(tokens) == 4
