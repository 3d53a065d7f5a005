"""Folders of `transformers`, read and written; the numbers are compared in test_parity.py."""

import dataclasses
import io
import json
import pickle
import warnings
import zipfile

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from tests.conftest import TINY, random_model, random_tokens
from transformers import (
    AutoImageProcessor,
    ImageGPTConfig,
    ImageGPTForCausalImageModeling,
    ImageGPTForImageClassification,
    ImageGPTImageProcessorPil,
    ImageGPTModel,
    pipeline,
)

import igpt
from igpt.errors import CheckpointError, ConfigError, DataError, IgptError
from igpt.formats.huggingface import write_huggingface
from igpt.model.classes import class_logits
from igpt.model.pretrained import Pretrained
from igpt.pixels.palette import Palette
from igpt.pixels.tokenizer import ImageTokenizer


@pytest.fixture
def pretrained(tiny_palette):
    return Pretrained(
        model=random_model(classes=2),
        tokenizer=ImageTokenizer(tiny_palette, 4),
        class_names=("left", "top"),
    )


def their_folder(kind, folder, palette, *, seed=0, **settings):
    """Save a random network and its processor as `transformers` does."""
    config = ImageGPTConfig(
        vocab_size=17, n_positions=16, n_embd=24, n_layer=2, n_head=3, num_labels=3, **settings
    )
    torch.manual_seed(seed)
    model = kind(config).eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            weight.uniform_(0.5, 1.5) if "ln_" in name else weight.normal_(std=0.3)
    model.save_pretrained(folder)
    ImageGPTImageProcessorPil(
        clusters=palette.colors, size={"height": 4, "width": 4}
    ).save_pretrained(folder)
    return model


@pytest.fixture
def saved(tmp_path, tiny_palette):
    """A folder from `transformers`, to be damaged."""
    their_folder(ImageGPTForCausalImageModeling, tmp_path / "theirs", tiny_palette)
    return tmp_path / "theirs"


def change(path, **values):
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def change_weights(folder, change):
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors", {"format": "pt"})


def with_start(tokens):
    return torch.cat([torch.full((len(tokens), 1), 16), tokens[:, :-1]], dim=1)


def test_a_causal_network_of_theirs_gives_their_logits_and_keeps_its_biases(saved, tiny_palette):
    theirs = ImageGPTForCausalImageModeling.from_pretrained(saved).eval()
    loaded = igpt.load(saved)
    assert loaded.model.config.bias
    assert (loaded.model.config.layers, loaded.model.config.heads) == (2, 3)
    np.testing.assert_array_equal(loaded.palette.colors, tiny_palette.colors)
    tokens = random_tokens()
    wanted = theirs(with_start(tokens)).logits
    torch.testing.assert_close(loaded.model(tokens), wanted, rtol=0, atol=1e-5)


def test_biases_that_are_all_zero_are_left_out(saved):
    def zero(weights):
        for name, weight in weights.items():
            if name.endswith(".bias"):
                weight.zero_()

    change_weights(saved, zero)
    model = igpt.load(saved).model
    assert not model.config.bias
    theirs = ImageGPTForCausalImageModeling.from_pretrained(saved).eval()
    tokens = random_tokens()
    torch.testing.assert_close(model(tokens), theirs(with_start(tokens)).logits, rtol=0, atol=1e-5)


def test_a_classifier_of_theirs_is_read_with_a_word_about_its_start(tmp_path, tiny_palette):
    theirs = their_folder(
        ImageGPTForImageClassification,
        tmp_path / "theirs",
        tiny_palette,
        id2label={0: "cat", 1: "dog", 2: "fox"},
        label2id={"cat": 0, "dog": 1, "fox": 2},
    )
    with (
        pytest.warns(UserWarning, match="no color head"),
        pytest.warns(UserWarning, match="trained elsewhere: .* one position off"),
    ):
        loaded = igpt.load(tmp_path / "theirs")
    assert loaded.class_names == ("cat", "dog", "fox")
    tokens = random_tokens()
    ours = class_logits(loaded.model, tokens)
    torch.testing.assert_close(ours, theirs(with_start(tokens)).logits, rtol=0, atol=1e-5)
    with pytest.raises(ConfigError, match=r"color head is all zero.*--head classes"):
        write_huggingface(loaded, tmp_path / "colors", head="colors")


def test_a_bare_network_of_theirs_has_their_last_state(tmp_path, tiny_palette):
    theirs = their_folder(ImageGPTModel, tmp_path / "theirs", tiny_palette)
    with pytest.warns(UserWarning, match="predicts no pixels"):
        loaded = igpt.load(tmp_path / "theirs")
    tokens = random_tokens()
    wanted = theirs(with_start(tokens)).last_hidden_state
    torch.testing.assert_close(loaded.model.final_state(tokens), wanted, rtol=0, atol=1e-5)
    loaded.save(tmp_path / "kept")
    with pytest.warns(UserWarning, match="color head of zeros, as where it came from had none"):
        igpt.load(tmp_path / "kept")


def test_squared_relu_gives_their_logits_both_ways(tmp_path, tiny_palette):
    """`transformers` calls it relu2, and has it for any of its networks."""
    theirs = their_folder(
        ImageGPTForCausalImageModeling, tmp_path / "theirs", tiny_palette,
        activation_function="relu2",
    )  # fmt: skip
    loaded = igpt.load(tmp_path / "theirs")
    assert loaded.model.config.activation == "squared-relu"
    tokens = random_tokens()
    wanted = theirs(with_start(tokens)).logits
    torch.testing.assert_close(loaded.model(tokens), wanted, rtol=1e-5, atol=1e-5)
    write_huggingface(loaded, tmp_path / "back", head="colors")
    again = ImageGPTForCausalImageModeling.from_pretrained(tmp_path / "back").eval()
    assert torch.equal(again(with_start(tokens)).logits, wanted)
    assert igpt.load(tmp_path / "back").model.config == loaded.model.config


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("head", ["colors", "classes"])
def test_there_and_back_every_bit_is_kept(tiny_palette, tmp_path, bias, head):
    config = dataclasses.replace(TINY, bias=bias)
    model = random_model(config, classes=2)
    if bias:
        with torch.no_grad():  # biases that are there, but zero, come back too
            for name, weight in model.named_parameters():
                if name.endswith("bias"):
                    weight.zero_()
    pretrained = Pretrained(
        model=model, tokenizer=ImageTokenizer(tiny_palette, 4), class_names=("left", "top")
    )
    write_huggingface(pretrained, tmp_path / "out", head=head)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*has no color head")
        back = igpt.load(tmp_path / "out")
    assert back.model.config == config
    assert np.array_equal(back.palette.colors, tiny_palette.colors)
    for name, weight in back.model.state_dict().items():
        if head == "classes" and name == "color_head.weight":
            continue
        assert torch.equal(weight, model.state_dict()[name]), name
    assert back.class_names == (("left", "top") if head == "classes" else None)


def test_a_folder_that_transformers_saved_again_is_still_ours(pretrained, tmp_path):
    write_huggingface(pretrained, tmp_path / "out", head="colors")
    model = ImageGPTForCausalImageModeling.from_pretrained(tmp_path / "out")
    model.save_pretrained(tmp_path / "again", max_shard_size="20KB")
    AutoImageProcessor.from_pretrained(tmp_path / "out").save_pretrained(tmp_path / "again")
    assert (tmp_path / "again" / "model.safetensors.index.json").is_file()
    back = igpt.load(tmp_path / "again")
    assert back.model.config == TINY
    for name, weight in back.model.state_dict().items():
        assert torch.equal(weight, pretrained.model.state_dict()[name]), name


def test_transformers_loads_what_is_written_without_a_word(pretrained, tmp_path, caplog, capsys):
    for head, kind in (
        ("colors", ImageGPTForCausalImageModeling),
        ("classes", ImageGPTForImageClassification),
    ):
        write_huggingface(pretrained, tmp_path / head, head=head)
        _, info = kind.from_pretrained(tmp_path / head, output_loading_info=True)
        assert not any(info.values()), info
    assert not caplog.records
    assert "were not" not in capsys.readouterr().err


def test_processor_generation_and_picture_work_on_what_is_written(pretrained, tmp_path):
    write_huggingface(pretrained, tmp_path / "out", head="colors")
    processor = AutoImageProcessor.from_pretrained(tmp_path / "out")
    model = ImageGPTForCausalImageModeling.from_pretrained(tmp_path / "out").eval()
    pixels = np.random.default_rng(0).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    tokens = processor(Image.fromarray(pixels), return_tensors="pt")["input_ids"]
    assert torch.equal(tokens, pretrained.tokenizer.encode(pixels[None]))
    context = torch.cat([torch.full((1, 1), model.config.bos_token_id), tokens[:, :8]], dim=1)
    drawn = model.generate(context, max_length=17, do_sample=True, top_k=4)[:, 1:]
    picture = np.rint(127.5 * (np.array(processor.clusters)[drawn[0].numpy()] + 1))
    assert np.array_equal(
        picture.astype(np.uint8).reshape(4, 4, 3), pretrained.tokenizer.decode(drawn)[0]
    )


def test_the_classification_pipeline_knows_our_labels(pretrained, tmp_path):
    write_huggingface(pretrained, tmp_path / "out")  # with a class head, classes by default
    pixels = np.random.default_rng(0).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    rows = pipeline("image-classification", model=str(tmp_path / "out"))(Image.fromarray(pixels))
    classifier = ImageGPTForImageClassification.from_pretrained(tmp_path / "out").eval()
    tokens = pretrained.tokenizer.encode(pixels[None])
    wanted = classifier(tokens).logits.softmax(dim=1)[0]  # without our start, one position off
    assert {row["label"]: row["score"] for row in rows} == {
        name: pytest.approx(score.item(), abs=1e-6)
        for name, score in zip(("left", "top"), wanted, strict=True)
    }


def test_what_transformers_cannot_say_is_refused(pretrained, tiny_palette, tmp_path):
    bert = Pretrained(
        model=random_model(dataclasses.replace(TINY, causal=False)),
        tokenizer=ImageTokenizer(tiny_palette, 4),
    )
    diffusion = dataclasses.replace(bert, objective="diffusion")
    with pytest.raises(ConfigError, match=r"this network is not \(masked diffusion\); share"):
        write_huggingface(diffusion, tmp_path / "out")
    with pytest.raises(ConfigError, match=r"always causal, and this network is not \(BERT\)"):
        write_huggingface(bert, tmp_path / "out")
    spiral = Pretrained(
        model=random_model(dataclasses.replace(TINY, order="spiral")),
        tokenizer=ImageTokenizer(tiny_palette, 4, order="spiral"),
    )
    with pytest.raises(ConfigError, match="row by row, and this network in the order spiral"):
        write_huggingface(spiral, tmp_path / "out")
    with pytest.raises(ConfigError, match="reads layer 1, and transformers reads classes from"):
        write_huggingface(dataclasses.replace(pretrained, class_layer=1), tmp_path / "out")
    plain = Pretrained(model=random_model(), tokenizer=ImageTokenizer(tiny_palette, 4))
    with pytest.raises(ConfigError, match="no class head; export it with --head colors"):
        write_huggingface(plain, tmp_path / "out", head="classes")
    assert not list(tmp_path.iterdir())


def test_pickled_tensors_are_read_and_pickled_code_is_not(saved, tmp_path):
    weights = load_file(saved / "model.safetensors")
    (saved / "model.safetensors").unlink()
    weights["transformer.h.0.attn.masked_bias"] = torch.tensor(-1e9)  # as old versions saved
    torch.save(weights, saved / "pytorch_model.bin")
    tokens = random_tokens()
    theirs = ImageGPTForCausalImageModeling.from_pretrained(saved).eval()
    wanted = theirs(with_start(tokens)).logits
    torch.testing.assert_close(igpt.load(saved).model(tokens), wanted, rtol=0, atol=1e-5)

    class Evil:
        def __reduce__(self):
            return (tmp_path.joinpath("ran").touch, ())

    for file in (
        lambda: torch.save({"wte.weight": Evil()}, saved / "pytorch_model.bin"),
        *(
            lambda protocol=protocol: (saved / "pytorch_model.bin").write_bytes(
                pickle.dumps(Evil(), protocol=protocol)
            )
            for protocol in (2, 4)
        ),
    ):
        file()
        with pytest.raises(CheckpointError, match="could run code; get the weights as safetensors"):
            igpt.load(saved)
    assert not (tmp_path / "ran").exists()
    (saved / "pytorch_model.bin").write_bytes(b"PK\x03\x04 half of a file")
    with pytest.raises(CheckpointError, match="no whole PyTorch file"):
        igpt.load(saved)
    torch.save({3: torch.ones(2)}, saved / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match="holds no named tensors"):
        igpt.load(saved)


def deflated(path):
    """Compress the parts of a PyTorch file, as torch does not."""
    whole = path.read_bytes()
    with (
        zipfile.ZipFile(io.BytesIO(whole)) as parts,
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as smaller,
    ):
        for part in parts.infolist():
            smaller.writestr(part.filename, parts.read(part))


@pytest.mark.parametrize(
    ("weights", "change"),
    [
        ({"wte.weight": torch.zeros(1).expand(10**6, 10**4)}, None),
        ({"wte.weight": torch.zeros(10**6)}, deflated),
        ({str(name): torch.zeros(1).expand(10**4) for name in range(100)}, None),
    ],
)
def test_a_pickle_that_expands_is_refused(saved, weights, change):
    (saved / "model.safetensors").unlink()
    file = saved / "pytorch_model.bin"
    torch.save(weights, file)
    if change:
        change(file)
    assert file.stat().st_size < 40_000
    with pytest.raises(CheckpointError, match=r"bytes long and would expand to [\d,]+; weights do"):
        igpt.load(saved)


@pytest.mark.parametrize("new", [True, False])
def test_a_pickle_that_asks_for_memory_is_refused(saved, new):
    (saved / "model.safetensors").unlink()

    class Greedy:
        def __reduce__(self):
            return (bytearray, (14 * 10**9,))

    file = saved / "pytorch_model.bin"
    torch.save({"wte.weight": Greedy()}, file, _use_new_zipfile_serialization=new)
    with pytest.raises(CheckpointError, match="could run code; get the weights as safetensors"):
        igpt.load(saved)


def drop(name):
    return lambda weights: weights.pop(name)


def put(name, value):
    return lambda weights: weights.update({name: value})


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (drop("transformer.wpe.weight"), "no weight 'wpe.weight' of 2 axes; is it an image GPT's"),
        (drop("transformer.h.1.mlp.c_fc.weight"), "lacks 'h.1.mlp.c_fc.weight'; is it a whole"),
        (put("transformer.h.0.more.weight", torch.ones(3)), "holds 'h.0.more.weight', which an"),
        (
            put("transformer.h.1.ln_1.weight", torch.ones(7)),
            r"'h.1.ln_1.weight' of shape \(7,\), where its other weights need \(24,\)",
        ),
        (put("transformer.h.x.weight", torch.ones(3)), "holds 'h.x.weight', which an"),
        (put("score.weight", torch.tensor(3.0)), "no weight 'score.weight' of 2 axes"),
        (
            put("transformer.wte.weight", torch.ones(17, 24, dtype=torch.int64)),
            "'wte.weight' in int64",
        ),
        (put("transformer.wpe.weight", torch.ones(15, 24)), "15 positions, which are no square"),
        (
            put("transformer.wte.weight", torch.ones(17, 24, dtype=torch.float16)),
            "'wte.weight' in float16.*igpt convert --widen",
        ),
    ],
)
def test_damaged_weights_are_refused(saved, damage, message):
    change_weights(saved, damage)
    with pytest.raises(CheckpointError, match=message):
        igpt.load(saved)


def test_half_precision_is_widened_when_asked(saved):
    change_weights(saved, lambda w: w.update({name: x.half() for name, x in w.items()}))
    model = igpt.load(saved, widen=True).model
    stored = load_file(saved / "model.safetensors")["transformer.wpe.weight"]
    assert torch.equal(model.position_embedding, stored.float())


@pytest.mark.parametrize(
    ("file", "values", "message"),
    [
        ("config.json", {"model_type": "gpt2"}, "a model of type 'gpt2', and igpt reads 'imagegpt"),
        (
            "config.json",
            {"activation_function": "gelu"},
            "activation_function='gelu', and igpt computes",
        ),
        (
            "config.json",
            {"activation_function": ["relu2"]},
            r"activation_function=\['relu2'\], and",
        ),
        ("config.json", {"scale_attn_by_inverse_layer_idx": True}, "igpt has no such network"),
        ("config.json", {"n_inner": 48}, "n_inner=48, where the released network has 96"),
        ("config.json", {"n_head": "3"}, "n_head='3', which is no whole number"),
        ("config.json", {"n_head": 3.0}, "n_head=3.0, which is no whole number"),
        ("config.json", {"n_head": True}, "n_head=True, which is no whole number"),
        ("config.json", {"igpt": {"bias": "no"}}, "bias='no', which is no truth value"),
        ("config.json", {"igpt": {"initialization": 3}}, "initialization=3, which is no text"),
        ("config.json", {"id2label": ["a"]}, r"id2label=\['a'\], which is no JSON object"),
        ("config.json", {"igpt": 3}, "igpt=3, which is no JSON object"),
        ("config.json", {"n_head": 5}, "width must be a multiple of heads"),
        ("config.json", {"n_head": None}, "2 layers of width 24 are no published size.*--heads"),
        ("preprocessor_config.json", {"clusters": None}, "has no palette .*--palette"),
        ("preprocessor_config.json", {"clusters": [[0, 0]]}, "clusters in .* are no palette"),
        (
            "preprocessor_config.json",
            {"clusters": [[0.1, 0, 0]] * 9},
            "has 16 colors, but the palette has 9",
        ),
    ],
)
def test_files_that_do_not_fit_are_refused(saved, file, values, message):
    change(saved / file, **values)
    with pytest.raises((CheckpointError, ConfigError, DataError), match=message):
        igpt.load(saved)


def test_heads_and_palette_can_be_given(saved, tmp_path, tiny_palette):
    change(saved / "config.json", n_head=None)
    (saved / "preprocessor_config.json").unlink()
    Palette(tiny_palette.colors).save(tmp_path / "palette.npy")
    loaded = igpt.load(saved, heads=3, palette=tmp_path / "palette.npy")
    assert loaded.model.config.heads == 3
    assert loaded.palette.fingerprint == tiny_palette.fingerprint


def test_what_the_files_say_is_not_overruled(saved, tmp_path, tiny_palette):
    with pytest.raises(CheckpointError, match="that there are 3 heads, not 4; leave out --heads"):
        igpt.load(saved, heads=4)
    Palette(tiny_palette.colors[::-1]).save(tmp_path / "other.npy")
    with pytest.raises(DataError, match=r"a palette of its own, and .* is another; leave out"):
        igpt.load(saved, palette=tmp_path / "other.npy")
    Palette(tiny_palette.colors).save(tmp_path / "same.npy")
    assert igpt.load(saved, palette=tmp_path / "same.npy", heads=3).model.config.heads == 3


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
def test_a_flipped_byte_is_refused_or_changes_numbers_only(saved, name):
    if name.endswith(".bin"):
        torch.save(load_file(saved / "model.safetensors"), saved / name)
        (saved / "model.safetensors").unlink()
    data = (saved / name).read_bytes()
    generator = np.random.default_rng(0)
    head = generator.integers(0, 3000, 60)  # names and shapes; of the rest nothing can be seen
    for offset in (*head, *generator.integers(0, len(data), 20)):
        damaged = bytearray(data)
        damaged[offset] ^= 1 << int(generator.integers(8))
        (saved / name).write_bytes(damaged)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a head may be missing now
            try:
                loaded = igpt.load(saved)
            except IgptError as error:
                message = str(error)
            else:
                assert loaded.model.config.width == 24
                continue
        assert "\n" not in message


def test_a_broken_or_missing_file_is_refused(saved):
    (saved / "model.safetensors").write_bytes(b"\x00" * 30)
    with pytest.raises(CheckpointError, match="no whole safetensors file"):
        igpt.load(saved)
    (saved / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match="holds no weights"):
        igpt.load(saved)
    (saved / "model.safetensors.index.json").write_text('{"weight_map": {"a": "../b"}}')
    with pytest.raises(CheckpointError, match=r"names a file outside its folder, '\.\./b'"):
        igpt.load(saved)
    (saved / "model.safetensors.index.json").write_text('{"weight_map": {"a": "part-1"}}')
    with pytest.raises(CheckpointError, match="part-1 is missing"):
        igpt.load(saved)
