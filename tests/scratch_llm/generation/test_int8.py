"""Decoding with int8 weights: the layer, every architecture, and what is refused."""

from __future__ import annotations

import copy
import dataclasses
import itertools

import pytest
import torch
import torch.nn.functional as F
from support.tiny_configs import TINY
from torch import nn

from scratch_llm.generation import Decoder, SamplingConfig, generate_tokens, int8_linear, pack
from scratch_llm.generation.int8_linear import Int8Linear, clear_int8_linear, has_int8_kernel
from scratch_llm.generation.packing import in_int8
from scratch_llm.layers.mixture_of_experts import Experts
from scratch_llm.models import build_model
from scratch_llm.models.base import softcap
from scratch_llm.quantization import dequantize_rows, quantize_rows

DTYPES = [torch.float32, torch.bfloat16, torch.float16]
GREEDY = SamplingConfig(max_new_tokens=20, temperature=0)


def tiny(name: str, **changes):
    """Large weights, so that the model says something else at every step."""
    config = TINY[name]
    return build_model(dataclasses.replace(config, init_std=0.2, **changes), seed=0).eval()


def restored(weight):
    return dequantize_rows(*quantize_rows(weight, torch.bfloat16), weight.dtype)


@torch.inference_mode()
def reference(model):
    """The model with its matrices rounded to int8 and back; its embedding stays, even where the head is the same."""
    twin = copy.deepcopy(model)
    for name, module in twin.named_modules():
        if isinstance(module, Experts):
            module.gate_up.data, module.down.data = restored(module.gate_up), restored(module.down)
        elif isinstance(module, nn.Linear) and name != "lm_head" and not name.endswith("router.gate"):
            module.weight.data = restored(module.weight)
    head = restored(model.head_weight)
    twin.logits = lambda hidden: softcap(F.linear(hidden, head), twin.logit_softcap)
    return twin


@torch.inference_mode()
def decoded(model, n_rows, **options):
    """Logits (steps, rows, V) of prompts of different lengths and five steps after them."""
    prompts = [[(7 * row + 3 * place) % 61 for place in range(12 - row)] for row in range(n_rows)]
    decoder = Decoder(model, prompts, 6, **options)
    logits = [decoder.prefill()]
    for step in range(5):
        tokens = [(11 * row + 5 * step) % 61 for row in range(n_rows)]
        logits.append(decoder.step(torch.tensor(tokens), tokens))
    return torch.stack(logits).float()


def relative_error(got, expected):
    return ((got - expected).norm() / expected.norm()).item()


class TestEveryArchitecture:
    @pytest.mark.parametrize("n_rows", [1, 8])
    @pytest.mark.parametrize("name", TINY)
    def test_equals_the_model_with_restored_weights(self, name, n_rows, monkeypatch):
        """Without the kernel, whose inputs are bfloat16."""
        monkeypatch.setattr(int8_linear, "has_int8_kernel", lambda *_: False)
        model = tiny(name)
        got, expected = (
            decoded(model, n_rows, weights="int8"),
            decoded(reference(model), n_rows, packed=False),
        )
        assert relative_error(got, expected) < 1e-4
        assert relative_error(got, decoded(model, n_rows)) > 1e-3  # and it is not the plain model

    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
    @pytest.mark.parametrize("name", TINY)
    def test_is_near_the_plain_model(self, name, dtype):
        """With the kernel, where this machine has it: 96 inputs."""
        model = tiny(name, d_model=96).to(dtype)
        plain, got = decoded(model, 1), decoded(model, 1, weights="int8")
        assert torch.cosine_similarity(got.flatten(), plain.flatten(), dim=0) > 0.99
        assert relative_error(got, decoded(reference(model), 1, packed=False)) < 0.05

    @pytest.mark.parametrize("name", TINY)
    def test_generates_what_the_restored_model_does(self, name):
        """A batch of ragged prompts past the context; five rows are computed with restored weights."""
        model = tiny(name, context_length=16)
        prompts = [[3, 4, 5], list(range(11)), [7], list(range(16)), [1, 2]]
        got = generate_tokens(model, prompts, GREEDY, stop_ids=(), weights="int8")
        assert got == generate_tokens(reference(model), prompts, GREEDY, stop_ids=(), packed=False)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n_inputs", [64, 100, 7])
def test_the_layer_equals_its_clear_form(dtype, n_inputs):
    """Few rows and many, widths that the kernel takes and that it does not, with and without bias."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(33, n_inputs, generator=generator).to(dtype)
    for n_rows, bias in itertools.product((1, 3, 65), (None, torch.randn(33, generator=generator).to(dtype))):
        layer = Int8Linear(weight, bias)
        x = torch.randn(n_rows, 1, n_inputs, generator=generator).to(dtype)
        got, expected = layer(x), clear_int8_linear(x, layer.quantized, layer.scale, bias)
        assert got.dtype == dtype and got.shape == (n_rows, 1, 33)
        exact = dtype == torch.float32 and not (layer.kernel_rows and n_rows < 65)
        assert relative_error(got.float(), expected.float()) < (1e-6 if exact else 1e-2)


def test_the_kernel_is_used_where_it_is_right():
    assert not has_int8_kernel("cuda", 64) and not has_int8_kernel("cpu", 100)
    assert Int8Linear(torch.ones(4, 100), None).kernel_rows == 0
    if has_int8_kernel("cpu", 64):
        assert Int8Linear(torch.ones(4, 64), None).kernel_rows > 0


def test_on_a_torch_without_the_kernel(monkeypatch):
    def missing(*_):
        raise NotImplementedError("no such kernel")

    monkeypatch.setattr(torch, "_weight_int8pack_mm", missing)
    int8_linear._kernel_works.cache_clear()
    try:
        layer, x = Int8Linear(torch.eye(32), None), torch.randn(2, 32)
        torch.testing.assert_close(layer(x), x, rtol=5e-3, atol=0)
    finally:
        int8_linear._kernel_works.cache_clear()


def test_copies_of_both_kinds_follow_the_weights():
    model = tiny("llama")
    same, int8 = pack(model, 1), pack(model, 1, "int8")
    assert same is not int8 and pack(model, 1, "int8") is int8
    assert any(isinstance(module, Int8Linear) for module in int8.modules())
    assert not any(isinstance(module, Int8Linear) for module in pack(model, 1).modules())
    before = decoded(model, 1, weights="int8")
    with torch.no_grad():
        model.head_weight.mul_(2)
    assert pack(model, 1, "int8") is not int8
    assert relative_error(decoded(model, 1, weights="int8"), before) > 0.5


@pytest.mark.parametrize("name", ["qwen3_moe", "deepseek_v3"])
def test_routers_keep_their_precision(name):
    """A token that rounding sends to another expert would be worse off than by any error of a weight."""
    model = tiny(name)
    x = torch.randn(3, 24, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        routers = [
            [m for n, m in one.named_modules() if n.endswith("router")]
            for one in (model, pack(model, 3, "int8"))
        ]
        for plain, packed in zip(*routers):
            torch.testing.assert_close(packed(x).weights_Nk, plain(x).weights_Nk)


def test_what_is_refused():
    model = tiny("llama")
    for weights in ("int4", None):
        with pytest.raises(ValueError, match=f"weights is {weights!r}: it must be one of same, int8"):
            generate_tokens(model, [1], GREEDY, weights=weights)
    with pytest.raises(ValueError, match="weights is 'int8' with packed=False: only a packed model"):
        generate_tokens(model, [1], GREEDY, weights="int8", packed=False)
    with torch.no_grad():
        model.blocks[0].mlp.down.weight[0, 0] = float("nan")
    with pytest.raises(ValueError, match="holds infinities or NaN"):
        pack(model, 1, "int8")
    assert not in_int8()  # the failure leaves nothing behind
