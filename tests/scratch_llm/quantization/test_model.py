"""Whole models: what is quantised and what is not, calibration in sequence, and execution by the kernels."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from support.tiny_configs import TINY
from torch import nn

from scratch_llm.generation import SamplingConfig, generate_tokens
from scratch_llm.generation.int8_linear import Int8Linear
from scratch_llm.generation.packing import PackedLinear, can_pack
from scratch_llm.models import LlamaConfig, build_model
from scratch_llm.models.transformer import Transformer
from scratch_llm.quantization import (
    Int4Linear,
    QuantizedLinear,
    Scheme,
    gptq,
    hessian,
    model_bytes,
    quantizable,
    quantize,
    quantize_model,
    schemes,
)
from scratch_llm.quantization.linear import Divided
from scratch_llm.quantization.model import norm_before
from scratch_llm.quantization.smoothquant import divide_outputs

SCHEMES = schemes(group_size=8)
NEAREST = [name for name, scheme in SCHEMES.items() if not scheme.calibrates]
CALIBRATED = [name for name, scheme in SCHEMES.items() if scheme.calibrates]
ATTENTION = ["llama", "llama-untied-mqa", "gpt2", "qwen3", "qwen3_moe", "gemma3_text", "deepseek_v3"]


def tiny(name, seed=0):
    model = build_model(TINY[name], seed=seed).eval()
    with torch.no_grad():  # norms and biases that a mistake would show in
        for weight in model.parameters():
            if weight.dim() == 1 or not weight.any():  # RWKV-7 begins with matrices of zeros
                weight.add_(0.1 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(seed)))
    return model


def texts(n=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randint(0, 61, (2, 24), generator=generator) for _ in range(n)]


def restored(original, twin):
    """``original`` with the restored weights of ``twin`` in plain layers, and everything else of ``twin``."""
    plain = copy.deepcopy(twin)
    for name, module in twin.named_modules():
        if isinstance(module, QuantizedLinear):
            layer = nn.Linear(module.in_features, module.out_features, bias=module.bias is not None)
            layer.weight.data = module.weight
            if module.bias is not None:
                layer.bias.data = module.bias
            plain.set_submodule(name, layer)
    return plain.requires_grad_(False)


@pytest.mark.parametrize("method", NEAREST)
@pytest.mark.parametrize("name", TINY)
def test_every_model_computes_with_its_rounded_weights(name, method):
    model, tokens = tiny(name), texts()[0]
    twin = quantize_model(model, SCHEMES[method])
    layers = [module for module in twin.modules() if isinstance(module, QuantizedLinear)]
    assert len(layers) == len(list(quantizable(model))) > 0 and next(quantizable(twin), None) is None
    with torch.no_grad():
        got, wanted = twin(tokens), restored(model, twin)(tokens)
        # Dynamic int8 rounds the inputs, too: about 1/254 of the greatest.
        tolerance = 0.03 if SCHEMES[method].dynamic else 1e-5
        assert (got - wanted).norm() <= tolerance * wanted.norm()
        assert not torch.equal(got, model(tokens))


@pytest.mark.parametrize("method", CALIBRATED)
@pytest.mark.parametrize("name", ATTENTION)
def test_calibrated_methods_go_through_every_model_with_attention(name, method):
    model, before = tiny(name), tiny(name).state_dict()
    twin = quantize_model(model, SCHEMES[method], texts())
    with torch.no_grad():
        got, wanted = twin(texts()[0]), restored(model, twin)(texts()[0])
    assert (got - wanted).norm() <= (0.05 if SCHEMES[method].dynamic else 1e-5) * wanted.norm()
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())  # the original stays


@pytest.mark.parametrize("name", ["gpt2", "llama", "qwen3", "gemma3_text", "qwen3_moe"])
def test_gptq_saw_what_the_layers_quantised_before_give(name):
    """Each layer's codes are those of GPTQ on the inputs that it gets in the finished model."""
    model = tiny(name)
    twin = quantize_model(model, SCHEMES["gptq-int3"], texts())
    originals = dict(quantizable(model))
    for name, layer in twin.named_modules():
        if not isinstance(layer, QuantizedLinear):
            continue
        seen = []
        hook = layer.register_forward_pre_hook(lambda _, given, seen=seen: seen.append(given[0].flatten(0, -2)))
        with torch.no_grad():
            for tokens in texts():
                twin(tokens)
        hook.remove()
        group = math.gcd(8, layer.in_features)
        expected = gptq(originals[name].weight, hessian(torch.cat(seen)), 3, symmetric=False, granularity=group)
        # The Hessian is summed in another order, so that a rounding may fall the other way.
        assert (layer.quantized.codes != expected.codes).float().mean() < 0.01, name


@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_calibration_lowers_the_error_of_the_outputs(name):
    model, tokens = tiny(name), texts(6)
    # Inputs that differ in loudness, as those of trained models do.
    with torch.no_grad():
        for block in model.blocks:
            for norm in (block.attention_norm, block.mlp_norm):
                norm.weight.mul_(torch.logspace(-1, 1, len(norm.weight)))
        truth = model(torch.cat(tokens))
        errors = {
            method: float((quantize_model(model, SCHEMES[method], tokens)(torch.cat(tokens)) - truth).norm())
            for method in ("int3", "awq-int3", "gptq-int3", "int8-dynamic", "smoothquant")
        }
    assert errors["gptq-int3"] < 0.9 * errors["int3"] and errors["awq-int3"] < 0.95 * errors["int3"]
    assert errors["smoothquant"] < errors["int8-dynamic"]


@pytest.mark.parametrize("name", ATTENTION)
def test_dividing_the_norm_before_a_layer_and_multiplying_its_inputs_changes_no_logit(name):
    model, folded = tiny(name), 0
    with torch.no_grad():
        truth = model(texts()[0])
        for place, linear in quantizable(model):
            norm = norm_before(model.get_submodule(".".join(place.split(".")[:2])), ".".join(place.split(".")[2:]))
            if norm is not None:
                scales = torch.linspace(0.5, 2, linear.in_features)
                divide_outputs(norm, scales)
                linear.weight.mul_(scales)
                folded += 1
        assert torch.allclose(model(texts()[0]), truth, atol=1e-6, rtol=1e-5)
    assert folded > 0 or name == "deepseek_v3"


def test_embeddings_head_norms_and_routers_stay_as_they_are():
    for name in ("qwen3_moe", "llama-untied-mqa"):
        model = tiny(name)
        kept = {key: value for key, value in quantize_model(model, Scheme()).state_dict().items() if ".codes" not in key}
        for key, value in model.state_dict().items():
            if any(part in key for part in ("norm", "embedding", "head", "router", "experts")):
                assert torch.equal(kept[key], value)


def test_a_group_that_does_not_divide_the_inputs_becomes_the_common_divisor():
    assert [Scheme(granularity=32).granularity_for(n) for n in (64, 48, 40, 36, 31)] == [32, 16, 8, "channel", "channel"]


def test_bytes_of_a_model():
    config = LlamaConfig(vocab_size=50, context_length=16, n_layers=1, n_heads=4, n_kv_heads=4, d_model=64, d_ff=96)
    model = build_model(config).to(torch.bfloat16)
    matrices, others = 64 * (3 * 64 + 64 + 3 * 96), 2 * (50 * 64 + 3 * 64)
    outputs = 4 * 64 + 2 * 96 + 64
    assert model_bytes(model) == 2 * matrices + others
    assert model_bytes(quantize_model(model, Scheme())) == matrices + 2 * outputs + others
    # 3 bits and, for 32 of them, a bfloat16 scale and a zero point of 3 bits.
    groups = matrices // 32
    assert model_bytes(quantize_model(model, schemes(32)["int3"])) == (3 * matrices + 16 * groups + 3 * groups) // 8 + others


def test_casting_a_model_keeps_its_scales():
    twin = quantize_model(tiny("llama"), Scheme(granularity=8))
    before = {key: value.clone() for key, value in twin.state_dict().items() if key.endswith(".scale")}
    after = twin.to(torch.bfloat16).state_dict()
    assert before and all(torch.equal(after[key], value) for key, value in before.items())
    assert twin.embedding.weight.dtype == torch.bfloat16


# -- decoding -------------------------------------------------------------------------------------


def wide_layer(method, in_features=64, out=96):
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(out, in_features, generator=generator, dtype=torch.bfloat16)
    scheme = schemes(32)[method]
    if scheme.n_bits == 8 and method == "int8":
        from scratch_llm.quantization.model import round_to_nearest

        linear = nn.Linear(in_features, out, dtype=torch.bfloat16)
        linear.weight.data = weight
        return round_to_nearest(linear, scheme)
    quantized = quantize(weight, scheme.n_bits, symmetric=scheme.symmetric, granularity=scheme.granularity)
    bias = torch.randn(out, generator=generator, dtype=torch.bfloat16)
    divisor = torch.linspace(0.5, 2, in_features) if method.startswith("awq") else None
    return QuantizedLinear(quantized, bias, dtype=torch.bfloat16, divisor=divisor, dynamic=scheme.dynamic)


@pytest.mark.skipif(not can_pack(torch.bfloat16), reason="no packed bfloat16 products: not checked how layers are packed")
@pytest.mark.parametrize("n_rows", [1, 8])
@pytest.mark.parametrize(
    ("method", "kinds"),
    [
        ("int8", (Int8Linear, Int8Linear)),
        ("int4", (Int4Linear, PackedLinear)),
        ("awq-int4", (Divided, PackedLinear)),
        ("int8-dynamic", (QuantizedLinear, QuantizedLinear)),
        ("int8-group", (PackedLinear, PackedLinear)),
        ("int3", (PackedLinear, PackedLinear)),
    ],
)
def test_a_packed_layer_computes_the_same_by_its_kernel(method, kinds, n_rows):
    layer = wide_layer(method)
    x = torch.randn(n_rows, 1, 64, generator=torch.Generator().manual_seed(1), dtype=torch.bfloat16)
    with torch.inference_mode():
        packed = layer.packed(n_rows)
        assert type(packed) is kinds[n_rows > 4]
        assert (packed(x) - layer(x)).norm() < 0.01 * layer(x).norm()


@pytest.mark.parametrize("method", ["int8", "int4", "awq-int4", "gptq-int4", "smoothquant", "int3"])
def test_a_quantised_model_generates_what_its_logits_say(method):
    config = LlamaConfig(vocab_size=61, context_length=64, n_layers=2, n_heads=4, n_kv_heads=2, d_model=64, d_ff=96)
    twin = quantize_model(build_model(config, seed=1).to(torch.bfloat16), schemes(32)[method], texts())
    prompt = texts()[0][:1]
    out = generate_tokens(twin, prompt, SamplingConfig(max_new_tokens=8, temperature=0), stop_ids=())[0]
    written = torch.cat([prompt[0], torch.as_tensor(out)[-8:]])
    with torch.no_grad():
        logits = twin(written[None])[0].float()
    for place in range(prompt.shape[1], len(written)):
        best, chosen = logits[place - 1].max(), logits[place - 1, written[place]]
        assert best - chosen < 0.03  # bfloat16: the kernels round elsewhere


# -- mistakes -------------------------------------------------------------------------------------


def test_mistakes_are_named():
    model = tiny("llama")
    with pytest.raises(ValueError, match="needs batches"):
        quantize_model(model, Scheme("gptq", n_bits=4))
    with pytest.raises(ValueError, match="quantised already"):
        quantize_model(quantize_model(model, Scheme()), Scheme())
    assert not isinstance(tiny("mamba"), Transformer)
    with pytest.raises(ValueError, match="mamba has none"):
        quantize_model(tiny("mamba"), Scheme("awq"), texts())
    with pytest.raises(ValueError, match="token id 99"):
        quantize_model(model, Scheme("awq"), [torch.full((1, 4), 99)])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"algorithm": "magic"}, "algorithm is 'magic'"),
        ({"n_bits": 9}, "n_bits is 9"),
        ({"granularity": 4}, "granularity is 4"),
        ({"granularity": "row"}, "granularity is 'row'"),
        ({"dynamic": True, "n_bits": 4}, "activations in int8 need"),
        ({"algorithm": "smoothquant", "granularity": 32}, "activations in int8 need"),
    ],
)
def test_schemes_that_cannot_be(arguments, message):
    with pytest.raises(ValueError, match=message):
        Scheme(**arguments)
