"""Quantised models on disk: back bit for bit, and clear words for what is damaged."""

from __future__ import annotations

import json

import pytest
import torch
from support.tiny_configs import TINY

from scratch_llm.models import build_model
from scratch_llm.quantization import (
    Scheme,
    load_quantized,
    model_bytes,
    quantize_model,
    save_quantized,
    saving,
    schemes,
)

SCHEMES = schemes(group_size=8)
TOKENS = torch.arange(48).view(2, 24)


def quantised(name="llama", method="int4", dtype=torch.float32):
    return quantize_model(build_model(TINY[name], seed=0).to(dtype), SCHEMES[method], [TOKENS])


@pytest.mark.parametrize(
    ("name", "method"),
    [("llama", m) for m in SCHEMES] + [(n, "awq-int3") for n in ("gpt2", "qwen3_moe", "deepseek_v3")]
    + [(n, "int4") for n in ("llama-untied-mqa", "mamba2", "rwkv7", "lstm")],
)  # fmt: skip
def test_a_model_comes_back_bit_for_bit(name, method, tmp_path):
    model = quantised(name, method)
    save_quantized(model, tmp_path / "m")
    loaded = load_quantized(tmp_path / "m")
    with torch.no_grad():
        assert torch.equal(loaded(TOKENS), model(TOKENS))
    assert type(loaded) is type(model) and loaded.config == model.config
    assert [str(m) for m in loaded.modules()] == [str(m) for m in model.modules()]


def test_the_file_is_as_small_as_said(tmp_path):
    model = quantised(dtype=torch.bfloat16)
    save_quantized(model, tmp_path)
    header = 8 + int.from_bytes((tmp_path / "model.safetensors").read_bytes()[:8], "little")
    tied = 0  # the head is the embedding, stored once
    assert (tmp_path / "model.safetensors").stat().st_size - header == model_bytes(model) + tied
    loaded = load_quantized(tmp_path)
    assert loaded.dtype == torch.bfloat16 and not any(weight.requires_grad for weight in loaded.parameters())


def test_a_broken_write_leaves_the_old_model(tmp_path, monkeypatch):
    save_quantized(quantised(), tmp_path / "m")
    before = (tmp_path / "m" / "model.safetensors").read_bytes()

    def fails(stream, *_):
        stream.write(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(saving, "write_safetensors", fails)
    with pytest.raises(OSError, match="disk full"):
        save_quantized(quantised(method="int8"), tmp_path / "m")
    assert (tmp_path / "m" / "model.safetensors").read_bytes() == before and len(list(tmp_path.iterdir())) == 1


def test_only_quantised_models_are_saved_and_loaded(tmp_path):
    model = build_model(TINY["llama"])
    with pytest.raises(ValueError, match="no quantised layers"):
        save_quantized(model, tmp_path)
    model.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="no 'quantization' entry"):
        load_quantized(tmp_path)
    with pytest.raises(FileNotFoundError):
        load_quantized(tmp_path / "nothing")


def test_damage_is_named(tmp_path):
    save_quantized(quantised(), tmp_path)
    file, config = tmp_path / "model.safetensors", tmp_path / "config.json"
    good, values = file.read_bytes(), json.loads(config.read_text())

    file.write_bytes(good[:-7])
    with pytest.raises(ValueError, match=r"model\.safetensors"):
        load_quantized(tmp_path)
    file.unlink()
    with pytest.raises(ValueError, match="is missing"):
        load_quantized(tmp_path)
    file.write_bytes(good)

    def with_entry(**changes):
        layers = json.loads(json.dumps(values["quantization"]["layers"]))
        layers["blocks.0.mlp.down"].update(changes)
        config.write_text(json.dumps(values | {"quantization": values["quantization"] | {"layers": layers}}))

    for changes, message in (
        ({"n_bits": 3}, "has shape"),
        ({"scale_dtype": "float32"}, "is torch.bfloat16"),
        ({"divisor": True}, "divisor"),
        ({"scale_dtype": "float33"}, "is damaged"),
        ({"colour": 3}, "is damaged"),
    ):
        with_entry(**changes)
        with pytest.raises(ValueError, match=message):
            load_quantized(tmp_path)
    config.write_text(json.dumps(values | {"quantization": {"format": "other"}}))
    with pytest.raises(ValueError, match="of format"):
        load_quantized(tmp_path)
    config.write_text(json.dumps(values))
    load_quantized(tmp_path)


def test_a_layer_that_the_model_lacks_is_named(tmp_path):
    save_quantized(quantize_model(build_model(TINY["gpt2"]), Scheme()), tmp_path)
    values = json.loads((tmp_path / "config.json").read_text())
    layers = values["quantization"]["layers"]
    layers["blocks.7.mlp.up"] = layers["blocks.0.mlp.up"]
    (tmp_path / "config.json").write_text(json.dumps(values))
    with pytest.raises(ValueError, match="is damaged"):
        load_quantized(tmp_path)
