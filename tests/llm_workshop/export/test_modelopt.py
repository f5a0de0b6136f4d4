"""ModelOpt checkpoints: what they hold, how near the originals, and what is refused."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file

from llm_workshop.export import Checkpoint
from llm_workshop.export.modelopt import METHODS, export_modelopt, group_size, quantize, widths_of
from llm_workshop.export.modelopt_check import check_modelopt, load_dequantized, unpack_int4
from scratch_llm.models.llama import Llama, LlamaConfig

from .conftest import TEXTS, make_checkpoint

KINDS = {"fp8": torch.float8_e4m3fn, "awq": torch.uint8, "smoothquant": torch.int8}


@pytest.fixture(scope="module")
def model(tmp_path_factory, tokenizer) -> Checkpoint:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=tokenizer.vocab_size, context_length=64, n_layers=2, d_model=64, n_heads=4, n_kv_heads=2, d_ff=192,
        bos_token_id=tokenizer.eos_id, eos_token_id=tokenizer.eos_id,
    )  # fmt: skip
    model = Llama(config)
    with torch.no_grad():
        for parameter in model.parameters():  # no all-one norms and a few loud channels, as in trained models
            parameter.mul_(1 + 0.5 * torch.rand_like(parameter))
    return make_checkpoint(tmp_path_factory.mktemp("llama"), model, tokenizer)


@pytest.fixture(scope="module")
def batches(tokenizer) -> list[torch.Tensor]:
    ids = tokenizer.encode("".join(TEXTS), allow_special=False)[:384]
    return list(torch.tensor(ids).view(-1, 2, 48))


@pytest.fixture(scope="module")
def exports(model, batches, tmp_path_factory):
    root = tmp_path_factory.mktemp("exports")
    return {method: (root / method, export_modelopt(model, method, batches, root / method)) for method in METHODS}


@pytest.mark.parametrize("method", METHODS)
def test_an_export_holds_codes_scales_and_tokenizer(method, exports, model):
    folder, facts = exports[method]
    tensors = load_file(folder / "model.safetensors")
    codes = {name: t for name, t in tensors.items() if t.dtype == KINDS[method]}
    assert len(codes) == 14 == facts["matrices"] and all(name.endswith("_proj.weight") for name in codes)
    assert json.loads((folder / "hf_quant_config.json").read_text())["quantization"]["quant_algo"] == METHODS[method].quant_algo
    assert json.loads((folder / "config.json").read_text())["quantization_config"]["quant_method"] == "modelopt"
    assert (folder / "tokenizer.json").read_bytes() == (model.folder / "tokenizer.json").read_bytes()
    assert facts["source_digest"] == model.digest() and facts["calibration_tokens"] == 384
    stored = sum(t.numel() for t in codes.values())
    linear = sum(p.numel() for name, p in model.load_model().named_parameters() if name.endswith("_proj.weight"))
    assert stored == linear // (2 if method == "awq" else 1)


@pytest.mark.parametrize("method", METHODS)
def test_the_weights_turned_back_behave_like_the_quantised_model(method, exports, model, batches):
    """The file against ModelOpt's own imitation in memory: two ways to the same logits, with and without rounded inputs."""
    with torch.no_grad():
        original = model.load_model()(batches[0]).logits
        from_file = load_dequantized(exports[method][0])(batches[0]).logits
        in_memory = quantize(model, method, batches)(batches[0]).logits.float()
    scale = original.std()
    assert (from_file - in_memory).std() < 0.08 * scale
    assert 0 < (from_file - original).std() < (0.2 if method == "awq" else 0.06) * scale


def test_four_bits_are_less_true_than_eight(exports):
    errors = {method: facts["largest_error"] for method, (_, facts) in exports.items()}
    assert errors["awq"] > 2 * errors["fp8"] > 0 and errors["awq"] > 2 * errors["smoothquant"] > 0


def test_calibration_decides_the_scales_of_the_inputs(model, batches, exports, tmp_path):
    export_modelopt(model, "fp8", [torch.full((1, 4), 65)], tmp_path / "other")
    name = "model.layers.1.mlp.down_proj.input_scale"
    one, other = (load_file(folder / "model.safetensors") for folder in (exports["fp8"][0], tmp_path / "other"))
    assert one[name] != other[name]


def test_unpacking_is_the_inverse_of_packing():
    numbers = torch.randint(-8, 8, (6, 5), dtype=torch.int8)
    packed = ((numbers[0::2] & 15) | ((numbers[1::2] & 15) << 4)).to(torch.uint8)
    assert torch.equal(unpack_int4(packed), numbers)


@pytest.mark.parametrize("widths", [(64, 192, 64), (128, 384, 128), (64, 96, None)])
def test_the_group_divides_every_width(widths):
    config = {"hidden_size": widths[0], "intermediate_size": widths[1], "num_attention_heads": 4}
    if widths[2] is None:
        with pytest.raises(ValueError, match=r"multiples of 64, these are \[64, 96\]"):
            group_size(widths_of(config))
    else:
        assert group_size(widths_of(config)) == widths[2]


def test_what_cannot_be_exported_is_refused_with_the_cure(model, gpt2, batches, tmp_path):
    with pytest.raises(ValueError, match=r"model_type='gpt2'.*model\.architecture=llama"):
        export_modelopt(gpt2, "fp8", batches, tmp_path / "x")
    with pytest.raises(ValueError, match="method 'nvfp4': use one of fp8, awq, smoothquant"):
        export_modelopt(model, "nvfp4", batches, tmp_path / "x")
    with pytest.raises(ValueError, match="no calibration tokens"):
        export_modelopt(model, "fp8", [], tmp_path / "x")
    narrow = replace(model, config=model.config | {"intermediate_size": 96})
    with pytest.raises(ValueError, match=r"choose model\.d_model"):
        export_modelopt(narrow, "awq", batches, tmp_path / "x")
    assert not list(tmp_path.iterdir())


def test_a_failed_export_leaves_the_old_one(model, batches, tmp_path, monkeypatch):
    target = tmp_path / "fp8"
    target.mkdir()
    (target / "old").write_text("old")
    monkeypatch.setattr("llm_workshop.export.modelopt_check.TOLERANCE", {"fp8": 0.001})
    with pytest.raises(ValueError, match=r"is off by 0\.02"):
        export_modelopt(model, "fp8", batches, target)
    assert [path.name for path in tmp_path.rglob("*")] == ["fp8", "old"]


def test_damage_is_found(model, exports, tmp_path):
    def damaged(name):
        shutil.copytree(exports["fp8"][0], tmp_path / name)
        return tmp_path / name

    folder = damaged("codes")
    tensors = load_file(folder / "model.safetensors")
    stem = "model.layers.0.mlp.up_proj"
    tensors[f"{stem}.weight_scale"] = tensors[f"{stem}.weight_scale"] * 2
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(ValueError, match=rf"{stem} is off by 1\.0"):
        check_modelopt(model, folder, "fp8")
    with pytest.raises(ValueError, match="holds 'FP8', awq is 'W4A16_AWQ'"):
        check_modelopt(model, exports["fp8"][0], "awq")
    folder = damaged("fewer")
    del tensors[f"{stem}.weight_scale"]
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(ValueError, match="13 of 14 matrices"):
        check_modelopt(model, folder, "fp8")
    for name, words in (("tokenizer.json", r"has no tokenizer\.json"), ("hf_quant_config.json", "no ModelOpt checkpoint"),
                        ("model.safetensors", "has no weights")):  # fmt: skip
        folder = damaged(f"without-{name}")
        (folder / name).unlink()
        with pytest.raises(ValueError, match=words):
            check_modelopt(model, folder, "fp8")
    (folder / "hf_quant_config.json").write_text("{")
    with pytest.raises(ValueError, match="is damaged"):
        check_modelopt(model, folder, "fp8")
