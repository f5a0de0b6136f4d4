"""All ways to write multi-head attention are one function: outputs, gradients, dropout, weights both ways."""

from __future__ import annotations

import shutil

import pytest
import torch

from scratch_llm.layers.attention import clear_attention
from scratch_llm.layers.multi_head import AttentionWeights, CombinedQKV, StackedHeads, copy_weights
from scratch_llm.layers.multi_head_kernels import MULTI_HEAD_VARIANTS, FlexHeads

LENGTH = 19
# d_model, n_heads: one head, odd numbers of them, odd widths, heads of width 1
SHAPES = [(8, 1), (15, 3), (35, 5), (7, 7), (24, 4)]
TRAINABLE = [name for name in MULTI_HEAD_VARIANTS if name != "FlexAttention"]
has_compiler = pytest.mark.skipif(not shutil.which("g++"), reason="FlexAttention needs a C++ compiler on a CPU")
EVERY = [pytest.param(n, marks=has_compiler if n == "FlexAttention" else ()) for n in MULTI_HEAD_VARIANTS]


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def make(name: str, d_model: int = 15, n_heads: int = 3, **options):
    return MULTI_HEAD_VARIANTS[name](d_model, n_heads, LENGTH, **options)


def formula(weights: AttentionWeights, x_BTD: torch.Tensor) -> torch.Tensor:
    """The paper's formula from the shared weights, head by head."""
    heads = []
    for h in range(weights.qkv.shape[1]):
        q, k, v = (x_BTD @ weights.qkv[j, h].T + (0 if weights.qkv_bias is None else weights.qkv_bias[j, h]) for j in range(3))
        heads.append(clear_attention(q[:, None], k[:, None], v[:, None])[:, 0])
    y = torch.cat(heads, dim=-1) @ weights.out.T
    return y if weights.out_bias is None else y + weights.out_bias


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("bias", [True, False])
def test_every_variant_is_the_formula(name, bias):
    for d_model, n_heads in SHAPES if name != "FlexAttention" else SHAPES[1:2]:  # each shape is compiled
        layer = make(name, d_model, n_heads, bias=bias).eval()
        for parameter in layer.parameters():
            torch.nn.init.normal_(parameter, std=d_model**-0.5)
        for n_tokens in (LENGTH, 1):
            x = torch.randn(2, n_tokens, d_model)
            with torch.no_grad():
                torch.testing.assert_close(layer(x), formula(layer.read(), x), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", TRAINABLE)
@pytest.mark.parametrize("training", [True, False])
def test_copied_weights_give_the_same_outputs_and_gradients(name, training):
    for d_model, n_heads in SHAPES:
        source, target = StackedHeads(d_model, n_heads, LENGTH), make(name, d_model, n_heads)
        source.train(training), target.train(training)
        copy_weights(source, target)
        x = torch.randn(2, LENGTH, d_model)
        toward = torch.randn(2, LENGTH, d_model)
        results = []
        for layer in (source, target):
            inputs = x.clone().requires_grad_()
            y = layer(inputs)
            (y * toward).sum().backward()
            grads = layer.read(of=lambda p: p.grad)
            results.append((y, inputs.grad, grads.qkv, grads.qkv_bias, grads.out, grads.out_bias))
        for mine, theirs in zip(*results):
            torch.testing.assert_close(theirs, mine, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", MULTI_HEAD_VARIANTS)
def test_weights_survive_the_way_there_and_back(name):
    source, target = make(name), make("combined QKV")
    copy_weights(source, target)
    again = make(name)
    copy_weights(target, again)
    for key, value in source.state_dict().items():
        assert torch.equal(value, again.state_dict()[key]), key
    assert sum(p.numel() for p in source.parameters()) == 4 * 15 * 15 + 4 * 15


@pytest.mark.parametrize("name", TRAINABLE)
def test_dropout_works_in_training_only(name):
    layer = make(name, dropout=0.5)
    x = torch.randn(4, LENGTH, 15)
    assert not torch.equal(layer.train()(x), layer.train()(x))
    assert torch.equal(layer.eval()(x), layer.eval()(x))
    # The mean over many drops is what eval() gives, since the layer is linear in the weights of attention.
    mean = torch.stack([layer.train()(x) for _ in range(400)]).mean(0)
    assert (mean - layer.eval()(x)).abs().mean() < 0.05 * layer(x).std() + 0.02


@pytest.mark.parametrize("name", EVERY)
def test_no_variant_sees_the_future(name):
    layer = make(name).eval()
    x = torch.randn(1, LENGTH, 15)
    changed = x.clone()
    changed[:, 12:] += 1
    with torch.no_grad():
        torch.testing.assert_close(layer(x)[:, :12], layer(changed)[:, :12], atol=1e-6, rtol=1e-6)
        assert not torch.allclose(layer(x)[:, 12:], layer(changed)[:, 12:])


@pytest.mark.parametrize("name", MULTI_HEAD_VARIANTS)
def test_masks_are_not_saved(name):
    layer = make(name)
    assert set(layer.state_dict()) == set(dict(layer.named_parameters()))


def test_flex_attention_says_what_it_cannot_do(monkeypatch):
    layer, x = make("FlexAttention"), torch.randn(1, 4, 15)
    with pytest.raises(ValueError, match=r"no backward pass on a CPU.*SDPACausal"):
        layer(x)
    with pytest.raises(ValueError, match=r"dropout is 0\.1: FlexAttention has none"):
        FlexHeads(15, 3, LENGTH, dropout=0.1)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with torch.no_grad(), pytest.raises(ValueError, match="no C\\+\\+ compiler"):
        layer(x)


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="n_heads is 4: it must divide d_model 15"):
        CombinedQKV(15, 4, LENGTH)
    with pytest.raises(ValueError, match=r"dropout is 1\.0"):
        CombinedQKV(15, 3, LENGTH, dropout=1.0)
    with pytest.raises(ValueError, match=r"\(2, 20, 15\).*at most 19 tokens"):
        CombinedQKV(15, 3, LENGTH)(torch.randn(2, 20, 15))
    with pytest.raises(ValueError, match="n_heads is 3 in the source and 5 in the target"):
        copy_weights(CombinedQKV(15, 3, LENGTH), StackedHeads(15, 5, LENGTH))
    with pytest.raises(ValueError, match="bias is True in the source and False in the target"):
        copy_weights(CombinedQKV(15, 3, LENGTH), StackedHeads(15, 3, LENGTH, bias=False))
