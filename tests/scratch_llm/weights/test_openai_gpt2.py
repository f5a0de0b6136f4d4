"""OpenAI's GPT-2 folders: a checkpoint in TensorFlow's format, written by tests/support, read by the library."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.parity import spread_out
from support.tensor_bundle_writer import mask, slow_crc32c, write_bundle

from scratch_llm.models import GPT2, GPT2_SIZES, GPT2Config, build_model, gpt2_preset
from scratch_llm.weights import to_huggingface
from scratch_llm.weights.crc32c import crc32c, masked
from scratch_llm.weights.openai_gpt2 import openai_name
from scratch_llm.weights.tensor_bundle import TensorBundle

# Twelve layers, so that names share prefixes ("h1", "h10") and the index has many blocks.
CONFIG = GPT2Config(vocab_size=71, context_length=24, n_layers=12, n_heads=3, d_model=15)


@pytest.fixture(scope="module")
def model():
    return spread_out(build_model(CONFIG, seed=0))


def openai_tensors(model) -> dict[str, np.ndarray]:
    """Matrices as 1x1 convolutions, (1, in, out), as in openai/gpt-2's src/model.py."""
    tensors = {}
    for name, tensor in to_huggingface(model.weight_rules(model.config), model.state_dict()).items():
        array = tensor.numpy()
        tensors[openai_name(name)] = array[None] if openai_name(name).endswith("/w") else array
    return tensors


def write_folder(folder, tensors, prefix="model.ckpt", **options):
    folder.mkdir(exist_ok=True)
    hparams = {"n_vocab": 71, "n_ctx": 24, "n_embd": 15, "n_head": 3, "n_layer": 12}
    (folder / "hparams.json").write_text(json.dumps(hparams))
    (folder / "checkpoint").write_text(
        f'model_checkpoint_path: "{prefix}"\nall_model_checkpoint_paths: "{prefix}"\n'
    )
    write_bundle(folder / prefix, tensors, **options)
    return folder


@pytest.fixture
def folder(model, tmp_path):
    return write_folder(tmp_path / "124M", openai_tensors(model))


def test_names():
    """Names as the published 124M checkpoint has them."""
    config = gpt2_preset("124M")
    names = {openai_name(name) for rule in GPT2.weight_rules(config) for name in rule.theirs}
    assert len(names) == 148 == 4 + 12 * 12
    assert {"model/wte", "model/wpe", "model/ln_f/g", "model/ln_f/b"} <= names
    parts = "attn/c_attn/w attn/c_attn/b attn/c_proj/w attn/c_proj/b ln_1/g ln_1/b ln_2/g ln_2/b mlp/c_fc/w mlp/c_fc/b mlp/c_proj/w mlp/c_proj/b"
    assert {f"model/h11/{part}" for part in parts.split()} == {name for name in names if "/h11/" in name}


@pytest.mark.parametrize("size, n_parameters", [
    ("124M", 124_439_808), ("355M", 354_823_168), ("774M", 774_030_080), ("1558M", 1_557_611_200),
])  # fmt: skip
def test_published_sizes(size, n_parameters):
    with torch.device("meta"):
        model = GPT2(gpt2_preset(size))
    assert model.n_parameters() == n_parameters
    assert round(n_parameters / 1e6) == int(size[:-1]) and model.config.head_dim == 64
    assert len(GPT2_SIZES) == 4
    assert gpt2_preset(size, dropout=0.1).dropout == 0.1
    with pytest.raises(ValueError, match="size '117M' is no known GPT-2: use one of 124M"):
        gpt2_preset("117M")


@pytest.mark.parametrize("options", [
    {}, {"block_bytes": 1}, {"block_bytes": 10**9}, {"restart_every": 1}, {"restart_every": 16}, {"n_shards": 3},
])  # fmt: skip
def test_a_checkpoint_loads_bit_for_bit(model, tmp_path, options):
    loaded = GPT2.from_openai(write_folder(tmp_path / "x", openai_tensors(model), "model.ckpt-77", **options))
    assert not loaded.training and loaded.config.eos_token_id is None
    assert loaded.state_dict().keys() == model.state_dict().keys()
    assert all(torch.equal(weight, model.state_dict()[name]) for name, weight in loaded.state_dict().items())
    tokens = torch.arange(20)[None]
    assert torch.equal(loaded(tokens), model(tokens))


def test_options_and_the_file_named_checkpoint(folder):
    assert GPT2.from_openai(folder, dtype=torch.bfloat16, device="cpu").dtype == torch.bfloat16
    (folder / "checkpoint").unlink()
    assert GPT2.from_openai(folder).dtype == torch.float32
    (folder / "checkpoint").write_text("nothing")
    with pytest.raises(ValueError, match="names no model_checkpoint_path"):
        GPT2.from_openai(folder)


def test_what_was_loaded_is_trained_and_kept_apart_from_the_file(folder):
    before = (folder / "model.ckpt.data-00000-of-00001").read_bytes()
    loaded = GPT2.from_openai(folder)
    loaded(torch.zeros(1, 3, dtype=torch.long)).sum().backward()
    with torch.no_grad():
        for weight in loaded.parameters():
            assert weight.requires_grad and weight.grad is not None
            weight.zero_()
    assert (folder / "model.ckpt.data-00000-of-00001").read_bytes() == before


# -- the format ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("data, checksum", [
    (b"123456789", 0xE3069283), (bytes(32), 0x8A9136AA), (b"\xff" * 32, 0x62A8AB43), (bytes(range(32)), 0x46DD794E),
])  # fmt: skip
def test_published_checksums(data, checksum):
    """RFC 3720, appendix B.4."""
    assert crc32c(data) == slow_crc32c(data) == checksum


@pytest.mark.parametrize("size", [0, 1, 4095, 4096, 4097, 70_001])
def test_checksums_of_all_sizes(size):
    data = np.random.default_rng(size).integers(0, 256, size, dtype=np.uint8)
    assert crc32c(data) == slow_crc32c(data.tobytes())
    assert masked(crc32c(data)) == mask(slow_crc32c(data.tobytes()))
    # Another start than 0: a block after blocks.
    assert crc32c(np.concatenate([data, data])) == slow_crc32c(data.tobytes() * 2)


@settings(max_examples=40, deadline=None)
@given(
    names=st.sets(st.text("ab/é가", min_size=1, max_size=9), max_size=30),
    block_bytes=st.integers(1, 400),
    restart_every=st.integers(1, 17),
    n_shards=st.integers(1, 3),
)
def test_any_names_and_blocks(tmp_path_factory, names, block_bytes, restart_every, n_shards):
    kinds = [np.float32, np.float64, np.int32, np.int64, np.uint8, np.float16]
    tensors = {
        name: np.arange(n % 4 * 3).reshape(n % 4, 3).astype(kinds[n % 6]) for n, name in enumerate(sorted(names))
    }
    prefix = tmp_path_factory.mktemp("bundle") / "x.ckpt"
    write_bundle(prefix, tensors, block_bytes=block_bytes, restart_every=restart_every, n_shards=n_shards)
    bundle = TensorBundle(prefix)
    assert list(bundle.entries) == sorted(tensors, key=str.encode)
    for name, array in tensors.items():
        read = bundle.read(name)
        assert name in bundle and read.dtype == array.dtype and np.array_equal(read, array)


# -- what is damaged -----------------------------------------------------------------------------------


def complaint(error) -> str:
    text = str(error.value)
    assert "\n" not in text and len(text) < 500
    return text


def refused(folder, *expected):
    with pytest.raises(ValueError) as error:
        GPT2.from_openai(folder)
    for part in expected:
        assert part in complaint(error)


def change_byte(file, place):
    data = bytearray(file.read_bytes())
    data[place] ^= 0x40
    file.write_bytes(data)


def test_a_bad_magic_number(folder):
    change_byte(folder / "model.ckpt.index", -1)
    refused(folder, "model.ckpt.index is damaged", "magic number 0xdb4775248b80fb57", "download it again")


def test_an_index_cut_short_anywhere(folder):
    file = folder / "model.ckpt.index"
    whole = file.read_bytes()
    for length in range(0, len(whole), 97):
        file.write_bytes(whole[:length])
        refused(folder, "model.ckpt.index is damaged")
    # The end alone is whole: handles point to where nothing is.
    file.write_bytes(whole[-48:])
    refused(folder, "reaches out of the file")


def test_any_byte_of_the_index_changed(folder):
    """Everything but the footer's padding is checked, by checksum or by sense."""
    file = folder / "model.ckpt.index"
    whole = file.read_bytes()
    for place in [*range(0, len(whole) - 48, 61), len(whole) - 45]:
        change_byte(file, place)
        refused(folder, "model.ckpt.index is damaged")
        file.write_bytes(whole)


def test_data_cut_short_missing_or_changed(folder, model):
    file = folder / "model.ckpt.data-00000-of-00001"
    whole = file.read_bytes()
    file.write_bytes(whole[:-10])
    refused(folder, "model/wte ends at", "download the file again")
    file.write_bytes(whole)
    change_byte(file, 5000)
    refused(folder, "is altered or damaged at model/h", "its checksum differs")
    file.unlink()
    with pytest.raises(FileNotFoundError, match="data-00000-of-00001 is missing"):
        GPT2.from_openai(folder)


@pytest.mark.parametrize("options, expected", [
    ({"compression": 1}, "compression 1 (1 is Snappy), only 0 is supported"),
    ({"header": b"\x08\x01\x10\x01"}, "big-endian machine, which is not supported"),
    ({"header": b"\x0a\x7f"}, "a protocol buffer is cut short"),
    ({"header": b"\x0c"}, "field of kind 4"),
])  # fmt: skip
def test_kinds_that_are_not_read(model, tmp_path, options, expected):
    refused(write_folder(tmp_path / "x", openai_tensors(model), **options), expected)


def test_names_shapes_and_types_that_do_not_fit(model, tmp_path):
    def refused_after(change, *expected):
        tensors = openai_tensors(model)
        change(tensors)
        refused(write_folder(tmp_path / "x", tensors), *expected)

    refused_after(lambda t: t.pop("model/h3/ln_1/g"), "1 missing: model/h3/ln_1/g")
    refused_after(lambda t: t.update(global_step=np.zeros(1, "i8")), "1 unexpected: global_step")
    refused_after(
        lambda t: t.update({"model/h3/mlp/c_fc/w": np.zeros((1, 60, 15), "f4")}),
        "model/h3/mlp/c_fc/w", "shape (1, 60, 15), hparams.json asks for floats of (1, 15, 60)",
    )  # fmt: skip
    refused_after(lambda t: t.update({"model/ln_f/b": np.zeros(15, "i4")}), "model/ln_f/b", "is int32")


def test_folders_that_are_none(folder, tmp_path):
    for missing in ("hparams.json", "model.ckpt.index"):
        moved = (folder / missing).rename(tmp_path / "aside")
        with pytest.raises(FileNotFoundError, match=f"{missing} is missing"):
            GPT2.from_openai(folder)
        moved.rename(folder / missing)
    with pytest.raises(FileNotFoundError, match="is not a folder"):
        GPT2.from_openai(tmp_path / "nowhere")
    for text in ("{", "[]", '{"n_vocab": 3}'):
        (folder / "hparams.json").write_text(text)
        refused(folder, "hparams.json is damaged or not of a GPT-2")
