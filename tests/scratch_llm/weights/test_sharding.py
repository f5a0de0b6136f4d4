"""Sharded folders, element types, the safetensors format itself, and filling tensors piece by piece."""

from __future__ import annotations

import json
import os
import struct

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from support.parity import spread_out

from scratch_llm.models import GPT2Config, LlamaConfig, build_model, load_model
from scratch_llm.weights import Rule, safetensors_file
from scratch_llm.weights.safetensors_file import DTYPES, SafetensorsFile, write_safetensors
from scratch_llm.weights.shards import parse_size

transformers = pytest.importorskip("transformers")

LLAMA = LlamaConfig(
    vocab_size=101, context_length=40, n_layers=3, n_heads=6, n_kv_heads=2, d_model=42, head_dim=14, d_ff=37,
    tie_embeddings=False,
)  # fmt: skip
GPT2 = GPT2Config(vocab_size=97, context_length=40, n_layers=2, n_heads=4, d_model=36)


def model_of(config):
    return spread_out(build_model(config, seed=0))


def assert_same(loaded, model):
    assert loaded.state_dict().keys() == model.state_dict().keys()
    assert all(torch.equal(weight, model.state_dict()[name]) for name, weight in loaded.state_dict().items())


def weight_files(folder) -> list[str]:
    return sorted(file.name for file in folder.iterdir() if "safetensors" in file.name)


# -- sharded folders ----------------------------------------------------------------------------------


@pytest.mark.parametrize("config", [LLAMA, GPT2], ids=["llama", "gpt2"])
@pytest.mark.parametrize("limit", [1, 20_000, "30KB", "50KiB"])
def test_shards_open_in_transformers_and_here(config, limit, tmp_path):
    model = model_of(config)
    model.save_pretrained(tmp_path, max_shard_size=limit)
    names = weight_files(tmp_path)
    n = len(names) - 1
    assert n > 1 and names == [
        *(f"model-{i:05d}-of-{n:05d}.safetensors" for i in range(1, n + 1)), "model.safetensors.index.json",
    ]  # fmt: skip
    index = json.loads((tmp_path / "model.safetensors.index.json").read_text())
    sizes = {}
    for name in names[:-1]:
        tensors = load_file(tmp_path / name)
        assert {key for key, file in index["weight_map"].items() if file == name} == tensors.keys()
        sizes[name] = sum(tensor.nbytes for tensor in tensors.values())
        assert sizes[name] <= parse_size(limit) or len(tensors) == 1
    assert index["metadata"]["total_size"] == sum(sizes.values())
    theirs, report = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(report.values())
    tokens = torch.arange(30)[None]
    torch.testing.assert_close(theirs(tokens).logits, model(tokens), atol=1e-5, rtol=1e-5)
    assert_same(load_model(tmp_path), model)


def test_a_shorter_save_removes_what_the_longer_left(tmp_path):
    model, other = model_of(LLAMA), build_model(LLAMA, seed=5)
    (tmp_path / "tokenizer.json").write_text("{}")
    other.save_pretrained(tmp_path, max_shard_size="10KB")
    assert len(weight_files(tmp_path)) > 4
    model.save_pretrained(tmp_path, max_shard_size="100KB")
    assert_same(load_model(tmp_path), model)
    assert len(weight_files(tmp_path)) == 4
    other.save_pretrained(tmp_path)
    assert weight_files(tmp_path) == ["model.safetensors"] and (tmp_path / "tokenizer.json").is_file()
    model.save_pretrained(tmp_path, max_shard_size="100KB")
    assert "model.safetensors" not in weight_files(tmp_path)
    assert_same(load_model(tmp_path), model)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path).state_dict()
    assert torch.equal(theirs["model.embed_tokens.weight"], model.embedding.weight)


@pytest.mark.parametrize("after", [1, 3])
def test_a_disk_full_among_the_shards_keeps_the_old_model(after, tmp_path, monkeypatch):
    old = model_of(LLAMA)
    old.save_pretrained(tmp_path, max_shard_size="30KB")
    before = {name: (tmp_path / name).read_bytes() for name in weight_files(tmp_path)}
    synced = 0

    def full_disk(_):
        nonlocal synced
        synced += 1
        if synced > after:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(OSError, match="No space left"):
        build_model(LLAMA, seed=9).save_pretrained(tmp_path, max_shard_size="30KB")
    assert {name: (tmp_path / name).read_bytes() for name in weight_files(tmp_path)} == before
    assert not list(tmp_path.glob(".*partial"))
    assert_same(load_model(tmp_path), old)


@pytest.mark.parametrize("size", [0, -5, "0GB", "5 apples", "", None, True, "GB"])
def test_shard_sizes_that_are_none(size, tmp_path):
    with pytest.raises(ValueError, match=r"max_shard_size is .*: give bytes"):
        build_model(GPT2).save_pretrained(tmp_path, max_shard_size=size)


def test_shard_sizes():
    assert [parse_size(size) for size in (7, "5GB", "1.5 kb", "2MiB", "1gib")] == [7, 5 * 10**9, 1500, 2**21, 2**30]


@pytest.fixture
def sharded(tmp_path):
    model_of(LLAMA).save_pretrained(tmp_path / "model", max_shard_size="30KB")
    return tmp_path / "model"


def refused(folder, *expected, error=ValueError):
    with pytest.raises(error) as caught:
        load_model(folder)
    assert "\n" not in str(caught.value)
    for part in expected:
        assert part in str(caught.value)


def test_shards_of_different_models(sharded):
    """What each kind of mixture says."""
    first, second = sorted(sharded.glob("model-*.safetensors"))[:2]
    tensors, others = load_file(first), load_file(second)
    name = next(iter(others))
    save_file(tensors | {name: others[name]}, first)
    refused(sharded, name, f"is in {first.name} and in", "the shards are of different models")
    lost = next(iter(tensors))
    save_file({key: tensor for key, tensor in tensors.items() if key != lost}, first)
    refused(sharded, f"says that {first.name} holds {lost}, but it does not")
    index = json.loads((sharded / "model.safetensors.index.json").read_text())
    del index["weight_map"][lost]
    (sharded / "model.safetensors.index.json").write_text(json.dumps(index))
    refused(sharded, f"1 missing: {lost}")
    save_file(tensors | {"surplus": torch.zeros(1)}, first)
    refused(sharded, "1 unexpected: surplus")
    save_file(tensors | {lost: torch.zeros(3, 5)}, first)
    refused(sharded, f"{lost} in {first} has shape (3, 5), config.json asks for")
    second.write_bytes(second.read_bytes()[:-1])
    refused(sharded, f"{second} is damaged or half-written")
    second.unlink()
    refused(sharded, f"{second} is missing", error=FileNotFoundError)
    (sharded / "model.safetensors.index.json").write_text("{")
    refused(sharded, "index.json is not valid JSON")


# -- element types ------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("limit", ["5GB", "30KB"])
def test_floating_types_both_ways(dtype, limit, tmp_path):
    model = model_of(LLAMA)
    model.save_pretrained(tmp_path / "ours", dtype=dtype, max_shard_size=limit)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "ours", dtype="auto")
    assert theirs.dtype == dtype
    theirs.save_pretrained(tmp_path / "theirs", max_shard_size=limit)
    for folder in ("ours", "theirs"):
        loaded = load_model(tmp_path / folder)
        assert {weight.dtype for weight in loaded.parameters()} == {dtype}
        assert all(torch.equal(w, model.state_dict()[n].to(dtype)) for n, w in loaded.state_dict().items())
        narrow = load_model(tmp_path / folder, dtype=torch.bfloat16)
        assert all(torch.equal(w, model.state_dict()[n].to(dtype).bfloat16()) for n, w in narrow.state_dict().items())


def test_mixed_types_of_one_joined_tensor_become_the_widest(tmp_path):
    model = model_of(LLAMA)
    model.save_pretrained(tmp_path, dtype=torch.bfloat16)
    file = tmp_path / "model.safetensors"
    tensors = load_file(file)
    name = "model.layers.1.self_attn.k_proj.weight"
    tensors[name] = tensors[name].float() + 2**-20
    save_file(tensors, file)
    qkv = load_model(tmp_path).blocks[1].attention.qkv.weight
    assert qkv.dtype == torch.float32 and torch.equal(qkv[84:112], tensors[name])
    assert torch.equal(qkv[:84], tensors[name.replace("k_proj", "q_proj")].float())


@pytest.mark.parametrize("dtype", [torch.int8, torch.int64, torch.uint8, torch.bool, torch.float8_e4m3fn])
def test_quantised_weights_are_refused(dtype, sharded):
    file = sorted(sharded.glob("model-*.safetensors"))[1]
    tensors = load_file(file)
    name = next(name for name, tensor in tensors.items() if tensor.dim() == 2)
    tensors[name] = tensors[name].to(dtype)
    save_file(tensors, file)
    refused(sharded, name, file.name, str(dtype).removeprefix("torch."), "quantised weights are not read")


# -- the format ---------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(
    shapes=st.lists(st.lists(st.integers(0, 5), max_size=3), max_size=6),
    dtypes=st.lists(st.sampled_from(sorted(DTYPES)), min_size=6, max_size=6),
    max_bytes=st.integers(1, 60),
)
def test_files_are_those_of_the_library(tmp_path_factory, shapes, dtypes, max_bytes):
    """Ours opens there, theirs here; pieces of any size put together are the tensor."""
    folder = tmp_path_factory.mktemp("st")
    tensors = {
        f"텐서.{n}": (torch.arange(torch.Size(shape).numel()) % 3).reshape(shape).to(DTYPES[dtype])
        for n, (shape, dtype) in enumerate(zip(shapes, dtypes))
    }
    save_file(tensors, folder / "theirs")
    with open(folder / "ours", "wb") as stream:
        write_safetensors(stream, {name: (t.dtype, t.shape) for name, t in tensors.items()}, tensors.values())
    back = load_file(folder / "ours")
    files = [SafetensorsFile(folder / name) for name in ("ours", "theirs")]
    assert all(file.tensors.keys() == back.keys() == tensors.keys() for file in files)
    for name, tensor in tensors.items():
        for read in (back[name], *(file.read(name) for file in files)):
            assert read.dtype == tensor.dtype and torch.equal(read.view(torch.uint8) if tensor.dim() else read,
                                                              tensor.view(torch.uint8) if tensor.dim() else tensor)  # fmt: skip
        if tensor.dim() and tensor.numel():
            pieces = list(files[0].pieces(name, max_bytes))
            assert [first for first, _ in pieces] == [sum(len(p) for _, p in pieces[:i]) for i in range(len(pieces))]
            assert all(len(piece) == 1 or piece.nbytes <= max_bytes for _, piece in pieces)
            assert torch.equal(torch.cat([piece.float() for _, piece in pieces]), tensor.float())


def test_writing_into_a_piece_leaves_the_file_alone(tmp_path):
    save_file({"a": torch.ones(4, 4)}, tmp_path / "file")
    for _, piece in SafetensorsFile(tmp_path / "file").pieces("a"):
        piece.zero_()
    assert load_file(tmp_path / "file")["a"].sum() == 16


def header_file(path, header, data=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return path


@pytest.mark.parametrize("header, data, expected", [
    ({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}}, bytes(4), "bytes 0..4 of a do not fit"),
    ({"a": {"dtype": "F32", "shape": [1], "data_offsets": [4, 8]}}, bytes(8), "bytes 4..8 of a do not fit"),
    ({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]},
      "b": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}, bytes(4), "do not fit its shape or its neighbours"),
    ({"a": {"dtype": "F32", "shape": [-1, -1], "data_offsets": [0, 4]}}, bytes(4), "do not fit"),
    ({"a": {"dtype": "F4", "shape": [1], "data_offsets": [0, 4]}}, bytes(4), "elements of type 'F4', we read F64"),
    ({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}, bytes(5), "announced"),
    ({"a": 3}, b"", "damaged or half-written"),
    ({"a": {"dtype": "F32"}}, b"", "damaged or half-written"),
    (b"[]", b"", "damaged or half-written"),
    (b"\xff\xfe", b"", "damaged or half-written"),
])  # fmt: skip
def test_headers_that_lie(header, data, expected, tmp_path):
    path = header_file(tmp_path / "file", header, data)
    with pytest.raises(ValueError, match=r"is damaged or half-written \(.*\): copy or save the model again") as caught:
        SafetensorsFile(path)
    assert expected in str(caught.value) and "\n" not in str(caught.value)
    with pytest.raises(Exception):  # noqa: B017  (the library refuses it too, in its own words)
        with safe_open(path, "pt") as file:
            [file.get_tensor(key) for key in file.keys()]


# -- filling piece by piece ---------------------------------------------------------------------------


@settings(max_examples=80, deadline=None)
@given(
    rows=st.lists(st.integers(1, 4), min_size=1, max_size=4), width=st.integers(1, 3), transpose=st.booleans(),
    groups=st.sampled_from([None, 1, 2]), seed=st.integers(0, 99), step=st.integers(1, 5),
    shuffled=st.booleans(), vector=st.booleans(),
)  # fmt: skip
def test_filling_equals_joining(rows, width, transpose, groups, seed, step, shuffled, vector):
    rows = [2 * n for n in rows]  # so that two groups are equal
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(sum(rows), generator=generator).tolist() if shuffled else None
    vector = vector and not transpose
    rule = Rule("ours", [f"theirs.{n}" for n in range(len(rows))], rows=rows, transpose=transpose, stack=groups, order=order)
    shapes = [(n,) if vector else (width, n) if transpose else (n, width) for n in rows]
    parts = [torch.randn(shape, generator=generator) for shape in shapes]
    joined = rule.join(parts)
    assert rule.their_shapes(joined.shape) == shapes
    filled = torch.full_like(joined, float("nan"))
    for number, part in enumerate(parts):
        for first in range(0, len(part), step):
            rule.fill(filled, number, first, part[first : first + step])
    assert torch.equal(filled, joined)
    assert all(torch.equal(back, part) for back, part in zip(rule.split(joined), parts))


def test_pieces_far_smaller_than_any_tensor(tmp_path, monkeypatch):
    """Loading in pieces of 100 bytes: one row or a few, transposed or not."""
    monkeypatch.setattr(safetensors_file.SafetensorsFile.pieces, "__defaults__", (100,))
    for config in (LLAMA, GPT2):
        model = model_of(config)
        model.save_pretrained(tmp_path)
        assert_same(load_model(tmp_path), model)
