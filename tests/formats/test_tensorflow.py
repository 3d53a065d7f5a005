"""The authors' checkpoints; the fixtures were written by TensorFlow 2.21 (see scripts/)."""

import dataclasses
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from benchmarks.released import released_network

import igpt
from igpt.errors import CheckpointError, ConfigError, DataError
from igpt.formats.huggingface import write_huggingface
from igpt.formats.tensorflow import read_network
from igpt.formats.tensorflow_checkpoint import TensorFlowCheckpoint, is_checkpoint, masked_crc
from igpt.pixels.palette import Palette

FIXTURES = Path(__file__).parents[1] / "fixtures" / "tensorflow"
PALETTE = FIXTURES / "kmeans_centers.npy"
KINDS = ("ar", "bert", "ar-classes")


@pytest.fixture
def copied(tmp_path):
    """The autoregressive checkpoint, to be damaged."""
    shutil.copytree(FIXTURES / "ar", tmp_path / "ar")
    return tmp_path / "ar" / "model.ckpt-7"


def expected(kind):
    return dict(np.load(FIXTURES / kind / "expected.npz"))


@pytest.mark.parametrize("kind", KINDS)
def test_every_variable_is_what_tensorflow_reads(kind):
    wanted = expected(kind)
    checkpoint = TensorFlowCheckpoint.open(FIXTURES / kind / "model.ckpt-7")
    assert checkpoint.shards == 3
    assert checkpoint.shapes == {name: wanted[name].shape for name in sorted(wanted)}
    for name, value in wanted.items():
        found = checkpoint.read(name).numpy()
        assert found.dtype == value.dtype
        assert found.tobytes() == value.tobytes()


def test_a_checkpoint_is_found_by_prefix_index_and_folder(copied):
    for path in (copied, copied.with_name("model.ckpt-7.index"), copied.parent):
        assert is_checkpoint(path)
        assert TensorFlowCheckpoint.open(path).prefix == copied
    shutil.copy(copied.with_name("model.ckpt-7.index"), copied.with_name("model.ckpt-8.index"))
    with pytest.raises(CheckpointError, match=r"holds model\.ckpt-7, model\.ckpt-8; give the path"):
        TensorFlowCheckpoint.open(copied.parent)
    assert not is_checkpoint(copied.with_name("model.ckpt-9"))


def test_the_checksum_is_tensorflows():
    # 0xE3069283 is CRC-32C of these bytes (RFC 3720, B.4 has others), then masked as leveldb does
    crc = 0xE3069283
    masked = (((crc >> 15) | (crc << 17 & 0xFFFFFFFF)) + 0xA282EAD8) % 2**32
    assert masked_crc(b"123456789") == masked


def flip(path, offset):
    data = bytearray(path.read_bytes())
    data[offset] ^= 0x40
    path.write_bytes(data)


def test_a_flipped_byte_in_any_shard_is_refused_by_its_variable(copied):
    whole = {path: path.read_bytes() for path in copied.parent.glob("*.data-*")}
    for path, data in whole.items():
        offsets = range(0, len(data), 97)
        for offset in offsets:
            flip(path, offset)
            checkpoint = TensorFlowCheckpoint.open(copied)
            with pytest.raises(CheckpointError, match=rf"{path.name} is damaged in the variable '"):
                for name in checkpoint.shapes:
                    checkpoint.read(name)
            path.write_bytes(data)
        assert len(offsets) > 20


def test_no_flipped_byte_of_the_index_gives_other_numbers(copied):
    index = copied.with_name("model.ckpt-7.index")
    data, wanted, refused = index.read_bytes(), expected("ar"), 0
    for offset in range(len(data)):
        flip(index, offset)
        try:
            checkpoint = TensorFlowCheckpoint.open(copied)
        except CheckpointError:
            refused += 1
        else:  # what was flipped is of no use to anybody
            for name, value in wanted.items():
                assert np.array_equal(checkpoint.read(name).numpy(), value)
        index.write_bytes(data)
    assert refused > 0.9 * (len(data) - 48)


def varint(number):
    """Return a number as protocol buffers and tables write it."""
    data = bytearray()
    while number >= 128:
        data.append(number % 128 | 128)
        number //= 128
    return bytes([*data, number])


def field(number, value):
    """Return a field of a protocol buffer: a number, or bytes."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def block(*entries):
    """Return a block of a table and its checksum, of (shared, rest of the key, value)."""
    data = b"".join(
        varint(shared) + varint(len(rest)) + varint(len(value)) + rest + value
        for shared, rest, value in entries
    )
    data += struct.pack("<II", 0, 1)
    return data + b"\0" + struct.pack("<I", masked_crc(data + b"\0"))


def write_index(path, *entries, times=1):
    """Write an index with good checksums; its one block of entries is named so many times."""
    data = block(*entries)
    handle = varint(0) + varint(len(data) - 5)
    names = block(*((0, b"~%d" % number, handle) for number in range(times)))
    where = varint(len(data)) + varint(len(names) - 5)
    footer = (varint(0) + varint(0) + where).ljust(40, b"\0")
    path.write_bytes(data + names + footer + struct.pack("<Q", 0xDB4775248B80FB57))


HEADER = (0, b"", field(1, 3))


def variable(shape=(2, 2), shard=0):
    dimensions = b"".join(field(2, field(1, length)) for length in shape)
    return field(1, 1) + field(2, dimensions) + field(3, shard) + field(4, 0) + field(5, 16)


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ([(0, b"", field(1, 2**40))], "it tells of 1,099,511,627,776 shards"),
        ([(0, b"", b"")], "it tells of 0 shards"),
        ([HEADER, (0, b"model/wte", variable(shard=3))], "a variable lies in shard 3 of 3"),
        ([HEADER, (0, b"model/wte", variable(shape=(2**63, 0)))], "a variable has the shape"),
        ([HEADER, (0, b"model/wte", variable(shape=(2**64 - 1,)))], "a variable has the shape"),
        ([HEADER, (0, b"w" * 5000, variable())], "a name in it is 5,000 bytes long"),
        (
            [HEADER, (0, b"w", b""), *((n, b"w", b"") for n in range(1, 9000))],
            "a name in it is 4,097 bytes long",
        ),
    ],
)
def test_an_index_with_good_checksums_and_bad_contents_is_refused(copied, entries, message):
    write_index(copied.with_name("model.ckpt-7.index"), *entries)
    with pytest.raises(CheckpointError, match=rf"no whole index .*{message}"):
        TensorFlowCheckpoint.open(copied)


def test_an_index_that_names_one_block_again_and_again_is_refused(copied):
    index = copied.with_name("model.ckpt-7.index")
    write_index(index, HEADER, (0, b"model/wte", variable()))
    assert TensorFlowCheckpoint.open(copied).shapes == {"model/wte": (2, 2)}
    write_index(index, HEADER, (0, b"model/wte", variable()), times=2)
    with pytest.raises(CheckpointError, match="its blocks lie one upon the other"):
        TensorFlowCheckpoint.open(copied)


def test_missing_and_cut_off_files_are_refused(copied):
    shard = copied.with_name("model.ckpt-7.data-00001-of-00003")
    data = shard.read_bytes()
    shard.write_bytes(data[:-9])
    with pytest.raises(CheckpointError, match="00001-of-00003 ends within the variable 'model/"):
        igpt.load(copied, palette=PALETTE)
    shard.unlink()
    with pytest.raises(CheckpointError, match=r"00001-of-00003 is missing: 2 of the 3 shards"):
        igpt.load(copied, palette=PALETTE)
    index = copied.with_name("model.ckpt-7.index")
    index.write_bytes(b"not an index" * 9)
    with pytest.raises(CheckpointError, match="does not end as one does"):
        igpt.load(copied, palette=PALETTE)
    index.unlink()
    with pytest.raises(CheckpointError, match="no TensorFlow checkpoint"):
        igpt.load(copied, palette=PALETTE)


@pytest.mark.parametrize("kind", KINDS)
def test_the_network_gives_the_released_formulas_logits(kind):
    loaded = igpt.load(FIXTURES / kind / "model.ckpt-7", palette=PALETTE)
    config = loaded.model.config
    assert (config.image_size, config.colors, config.layers, config.heads) == (4, 16, 2, 2)
    assert config.causal == (kind != "bert")
    assert loaded.class_names == (("0", "1", "2") if kind == "ar-classes" else None)
    generator = np.random.default_rng(0)
    tokens = generator.integers(0, 16, (3, 16))
    hidden = None if config.causal else generator.random(tokens.shape) < 0.3
    states, logits = released_network(expected(kind), tokens, hidden)
    inputs = torch.from_numpy(tokens), None if hidden is None else torch.from_numpy(hidden)
    model = loaded.model.double()
    ours, our_states = model(*inputs), list(model.states(*inputs))
    np.testing.assert_allclose(ours.detach().numpy(), logits, atol=1e-12, rtol=0)
    np.testing.assert_allclose(torch.stack(our_states).detach().numpy(), states, atol=1e-12, rtol=0)
    if kind == "ar-classes":  # the mean over all positions of the final norm's output
        wanted = states[-1].mean(axis=1) @ expected(kind)["model/clf/wclf"].T.astype(np.float64)
        head = model.class_head(our_states[-1].mean(dim=1))
        np.testing.assert_allclose(head.detach().numpy(), wanted, atol=1e-12, rtol=0)


@pytest.mark.parametrize("kind", ["ar", "ar-classes"])
def test_through_ours_to_transformers_every_bit_is_kept(kind, tmp_path):
    loaded = igpt.load(FIXTURES / kind / "model.ckpt-7", palette=PALETTE)
    loaded.save(tmp_path / "ours")
    write_huggingface(igpt.load(tmp_path / "ours"), tmp_path / "theirs", head="colors")
    back = igpt.load(tmp_path / "theirs").model.state_dict()
    for name, weight in back.items():
        assert torch.equal(weight, loaded.model.state_dict()[name]), name
    # and the bits are those of the variables, wherever they now lie
    stored, wanted = igpt.load(tmp_path / "theirs").model, expected(kind)
    query = stored.blocks[1].attention.query_key_value.weight[:8]
    assert np.array_equal(query.detach().numpy(), wanted["model/h1/attn/q_proj"].reshape(8, 8))
    assert np.array_equal(stored.start_embedding.detach().numpy(), wanted["model/sos"])


def with_variables(checkpoint, **changes):
    """Return the checkpoint as if the index listed other variables."""
    variables = dict(checkpoint.variables)
    for name, change in changes.items():
        name = name.replace("__", "/")
        if change is None:
            del variables[name]
        elif isinstance(change, str):
            variables[change] = variables[name]
        else:
            variables[name] = dataclasses.replace(variables[name], **change)
    return TensorFlowCheckpoint(checkpoint.prefix, checkpoint.shards, variables)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model__wpe": None}, "no weight 'wpe' of 2 axes; is it an image GPT's"),
        ({"model__h1__ln_2__g": None}, "lacks 'h1/ln_2/g'; is it a whole copy"),
        ({"model__ln_f__g": "model/ln_g/g"}, "holds 'ln_g/g', which an image GPT does not have"),
        (
            {"model__h1__mlp__c_fc__w": {"shape": (16, 16)}},
            r"'h1/mlp/c_fc/w' of shape \(16, 16\), where its other weights need \(8, 32\)",
        ),
        ({"model__wpe": {"shape": (15, 8)}}, "has 15 positions, which are no square image"),
        ({"model__sos": {"dtype": 7}}, "holds 'model/sos' of TensorFlow's type 7"),
        ({"model__sos": {"sliced": True}}, "holds 'model/sos' in slices"),
        ({"model__h0__attn__q_proj": {"shape": (8, 8)}}, "h0/attn/q_proj' of 3 axes"),
        ({"model__wte": {"shape": (4, 4, 8)}}, "no weight 'wte' of 2 axes"),
        ({"model__sos": {"dtype": 3}}, "'sos' in int32, and igpt computes"),
    ],
)
def test_what_is_no_igpt_is_refused(changes, message):
    checkpoint = TensorFlowCheckpoint.open(FIXTURES / "ar" / "model.ckpt-7")
    with pytest.raises(CheckpointError, match=message):
        read_network(with_variables(checkpoint, **changes), Palette.load(PALETTE))


def test_half_precision_is_refused_and_widened_when_asked(copied):
    """Rewrite one shard and the index as TensorFlow would for a float16 variable."""
    checkpoint = TensorFlowCheckpoint.open(copied)
    variable = checkpoint.variables["model/sos"]
    half = expected("ar")["model/sos"].astype(np.float16)
    shard = copied.with_name(f"model.ckpt-7.data-{variable.shard:05}-of-00003")
    data = bytearray(shard.read_bytes())
    data[variable.offset : variable.offset + half.nbytes] = half.tobytes()
    shard.write_bytes(data)
    changed = with_variables(
        checkpoint,
        model__sos={
            "dtype": 19,
            "size": half.nbytes,
            "checksum": masked_crc(half.tobytes()),
        },
    )
    palette = Palette.load(PALETTE)
    with pytest.raises(CheckpointError, match=r"'sos' in float16.*igpt convert --widen"):
        read_network(changed, palette)
    loaded = read_network(changed, palette, widen=True)
    assert np.array_equal(loaded.model.start_embedding.detach().numpy(), half.astype(np.float32))


def test_the_palette_must_be_given_and_fit(copied, tmp_path):
    with pytest.raises(DataError, match=r"do not hold their palette; convert .* --palette kmeans"):
        igpt.load(copied)
    np.save(tmp_path / "nine.npy", np.zeros((9, 3), np.float32))
    with pytest.raises(ConfigError, match="has 16 colors, but the palette has 9"):
        igpt.load(copied, palette=tmp_path / "nine.npy")


def test_heads_that_contradict_the_files_are_refused():
    with pytest.raises(CheckpointError, match="that there are 2 heads, not 4; leave out --heads"):
        igpt.load(FIXTURES / "ar", palette=PALETTE, heads=4)
    assert igpt.load(FIXTURES / "ar", palette=PALETTE, heads=2).model.config.heads == 2


def test_an_unknown_variable_names_the_nearest():
    checkpoint = TensorFlowCheckpoint.open(FIXTURES / "ar" / "model.ckpt-7")
    with pytest.raises(CheckpointError, match="no variable 'model/wtf'; did you mean 'model/wt"):
        checkpoint.read("model/wtf")


def test_the_optimizers_variables_are_left_alone():
    checkpoint = TensorFlowCheckpoint.open(FIXTURES / "ar" / "model.ckpt-7")
    trained = with_variables(checkpoint, model__wte="model/wte/Adam_1")
    assert read_network(trained, Palette.load(PALETTE)).model.config.causal
