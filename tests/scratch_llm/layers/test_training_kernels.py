"""The two hand-written gradients (linear cross-entropy, block attention) against autograd on the plain formula."""

from __future__ import annotations

import gc
import sys
import weakref

import pytest
import torch
import torch.nn.functional as F

from scratch_llm.layers import GroupedQueryAttention, KVCache, block_attention, linear_cross_entropy
from scratch_llm.layers import attention as attention_module
from scratch_llm.layers import loss as loss_module
from scratch_llm.layers.attention import clear_attention
from scratch_llm.layers.block_attention import BLOCK
from scratch_llm.layers.segments import SegmentMask

block_module = sys.modules[block_attention.__module__]  # the package has the function by that name


def example(n=70, d=24, v=50, ignored=True, dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(2, n // 2, d, generator=generator).to(dtype).requires_grad_()
    weight = torch.randn(v, d, generator=generator).to(dtype).requires_grad_()
    targets = torch.randint(0, v, (2, n // 2), generator=generator)
    if ignored:
        targets[0, :5] = -100
        targets[1, -1] = -100
    return hidden, weight, targets


def plain_loss(hidden, weight, targets, z_loss=0.0):
    logits = F.linear(hidden, weight).float()
    loss = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=-100)
    log_z = torch.logsumexp(logits, dim=-1)[targets != -100]
    return loss + z_loss * log_z.square().mean()


@pytest.fixture(params=[1, 7 * 50, 1 << 22], ids=["smallest chunks", "ragged last chunk", "one chunk"])
def chunk(request, monkeypatch):
    monkeypatch.setitem(loss_module._CHUNK, "cpu", request.param)
    monkeypatch.setattr(loss_module, "_MIN_ROWS", 3)


@pytest.mark.parametrize("ignored", [False, True])
@pytest.mark.parametrize("z_loss", [0.0, 0.01])
def test_linear_cross_entropy_and_its_gradients(chunk, ignored, z_loss):
    ours, plain = example(ignored=ignored), example(ignored=ignored)
    a, b = linear_cross_entropy(*ours, z_loss=z_loss), plain_loss(*plain, z_loss)
    (2.5 * a).backward()
    (2.5 * b).backward()
    torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)
    for mine, other in zip(ours[:2], plain[:2]):
        torch.testing.assert_close(mine.grad, other.grad, rtol=1e-5, atol=1e-6)


def test_linear_cross_entropy_without_gradients_is_the_same_number(chunk):
    hidden, weight, targets = example()
    with torch.no_grad():
        torch.testing.assert_close(
            linear_cross_entropy(hidden, weight, targets), plain_loss(hidden, weight, targets)
        )


def test_gradient_of_one_side_only():
    hidden, weight, targets = example()
    frozen = weight.detach()
    linear_cross_entropy(hidden, frozen, targets).backward()
    other = example()
    plain_loss(*other).backward()
    torch.testing.assert_close(hidden.grad, other[0].grad, rtol=1e-5, atol=1e-6)


def test_certain_and_extreme_logits_stay_finite():
    hidden, weight, targets = (
        torch.full((1, 2, 4), 100.0).requires_grad_(),
        torch.tensor([[1.0] * 4, [-1.0] * 4]).requires_grad_(),
        torch.tensor([[0, 1]]),
    )
    loss = linear_cross_entropy(hidden, weight, targets)
    loss.backward()
    assert (
        loss.item() == pytest.approx(400.0) and hidden.grad.isfinite().all() and weight.grad.isfinite().all()
    )


def test_autocast_rounds_like_the_plain_way():
    exact, ours, plain = example(v=300, n=400), example(v=300, n=400), example(v=300, n=400)
    plain_loss(*exact).backward()
    with torch.autocast("cpu", torch.bfloat16):
        a, b = linear_cross_entropy(*ours), plain_loss(*plain)
    a.backward()
    b.backward()
    assert a.dtype == torch.float32 and ours[1].grad.dtype == torch.float32
    for mine, other, truth in zip(ours[:2], plain[:2], exact[:2]):
        error, theirs = ((x.grad - truth.grad).norm() / truth.grad.norm() for x in (mine, other))
        assert error < 0.02 and error < 1.5 * theirs


def test_never_holds_all_logits():
    """Its largest tensor is a chunk, not (N, V): what makes it lean."""
    sizes = []

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            out = function(*args, **(kwargs or {}))
            sizes.extend(t.numel() for t in ([out] if isinstance(out, torch.Tensor) else []))
            return out

    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(4096, 8, generator=generator, requires_grad=True)
    weight = torch.randn(8192, 8, generator=generator, requires_grad=True)
    with Watch():
        linear_cross_entropy(hidden, weight, torch.zeros(4096, dtype=torch.long)).backward()
    assert max(sizes) <= 1 << 22 < hidden.shape[0] * weight.shape[0]


# While compiling it keeps other things for the backward pass.
@pytest.fixture
def block_attention_as(request):
    if not request.param:
        yield block_attention
        return
    torch.compiler.reset()
    yield torch.compile(block_attention, backend="aot_eager", fullgraph=True, dynamic=False)
    torch.compiler.reset()


eager_and_compiled = pytest.mark.parametrize("block_attention_as", [False, True], ids=["eager", "compiled"], indirect=True)


@eager_and_compiled
@pytest.mark.parametrize("length", [2, 5, 128, 129, 300])
@pytest.mark.parametrize("kv_heads", [1, 2, 4])
def test_block_attention_and_its_gradients(length, kv_heads, block_attention_as):
    def tensors():
        generator = torch.Generator().manual_seed(length)
        return [
            torch.randn(2, heads, length, 8, generator=generator).requires_grad_()
            for heads in (4, kv_heads, kv_heads)
        ]

    ours, plain = tensors(), tensors()
    a, b = block_attention_as(*ours), clear_attention(*plain)
    grad = torch.randn(a.shape, generator=torch.Generator().manual_seed(1))
    a.backward(grad)
    b.backward(grad)
    torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)
    for mine, other in zip(ours, plain):
        torch.testing.assert_close(mine.grad, other.grad, rtol=1e-4, atol=1e-5)


@eager_and_compiled
def test_block_attention_in_bfloat16_is_as_near_the_truth_as_the_library(block_attention_as):
    generator = torch.Generator().manual_seed(0)
    exact = [torch.randn(2, 3, 200, 16, generator=generator) for _ in range(3)]
    errors = []
    for function in (
        block_attention_as,
        lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=True),
    ):
        low = [t.bfloat16().requires_grad_() for t in exact]
        truth = [t.detach().float().requires_grad_() for t in low]
        y, y_true = function(*low), clear_attention(*truth)
        grad = torch.randn(y.shape, generator=torch.Generator().manual_seed(1)).bfloat16()
        y.backward(grad)
        y_true.backward(grad.float())
        errors.append(
            [
                (a.float() - b).norm() / b.norm()
                for a, b in [(y, y_true), *((low_t.grad, true_t.grad) for low_t, true_t in zip(low, truth))]
            ]
        )
    assert all(ours < 0.01 and ours < 2 * theirs for ours, theirs in zip(*errors))


def test_the_layer_gives_the_same_with_and_without_gradients():
    """Training takes the block path, evaluation the library's: one function all the same."""
    torch.manual_seed(0)
    layer = GroupedQueryAttention(32, 4, 2, 8)
    x = torch.randn(2, 150, 32)
    with torch.no_grad():
        expected = layer(x)
    trained = layer(x)
    assert "BlockAttention" in _graph_names(trained)
    torch.testing.assert_close(trained, expected, rtol=1e-5, atol=1e-6)


def _graph_names(tensor) -> str:
    names, stack, seen = [], [tensor.grad_fn], set()
    while stack:
        node = stack.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        names.append(node.name())
        stack += [edge for edge, _ in node.next_functions]
    return " ".join(names)


@pytest.mark.parametrize("n_learnt", [1, 7, 47, 60])
def test_loss_reads_only_the_rows_that_are_learnt(n_learnt):
    """Few learnt targets: the same loss and gradients, and fewer rows of logits."""
    torch.manual_seed(0)
    hidden, weight = torch.randn(4, 15, 8, requires_grad=True), torch.randn(50, 8, requires_grad=True)
    targets = torch.full((60,), -100)
    targets[torch.randperm(60)[:n_learnt]] = torch.randint(0, 50, (n_learnt,))
    targets = targets.view(4, 15)
    ours = linear_cross_entropy(hidden, weight, targets)
    theirs = F.cross_entropy(F.linear(hidden, weight).flatten(0, 1), targets.flatten())
    torch.testing.assert_close(ours, theirs)
    for mine, other in zip(torch.autograd.grad(ours, (hidden, weight)), torch.autograd.grad(theirs, (hidden, weight))):
        torch.testing.assert_close(mine, other)
    rows, _ = loss_module._without_ignored(hidden.flatten(0, 1), targets.flatten())
    assert len(rows) == (n_learnt if n_learnt < 48 else 60)


@pytest.mark.parametrize("segmented", [False, True])
def test_blocks_without_gradients_are_the_same_function_and_keep_one_block(monkeypatch, segmented):
    q, k, v = torch.randn(3, 2, 4, 300, 8)
    numbers = (torch.arange(300) // 77 + 1).expand(2, -1)
    segments = SegmentMask.of(numbers) if segmented else None
    alive, softmax = [], block_module._softmax

    def watch(scores):
        gc.collect()
        assert not any(reference() is not None for reference in alive)
        p = softmax(scores)
        alive.append(weakref.ref(p[0]))
        return p

    with torch.no_grad():
        monkeypatch.setattr(block_module, "_softmax", watch)
        got = block_attention(q, k, v, None, None, segments)
        monkeypatch.setattr(block_module, "_softmax", softmax)
    assert len(alive) == 3
    torch.testing.assert_close(got, block_attention(q.requires_grad_(), k, v, None, None, segments).detach())


@pytest.mark.skipif(not block_module._has_bfloat16_units(), reason="this CPU has no fast bfloat16 products: blocks are not used there")
@pytest.mark.parametrize("n_tokens, blocks", [(BLOCK - 1, False), (BLOCK, True), (2 * BLOCK + 7, True)])
def test_long_prompts_in_bfloat16_are_computed_in_blocks(monkeypatch, n_tokens, blocks):
    calls = []
    monkeypatch.setattr(attention_module, "block_attention", lambda *a: calls.append(1) or block_attention(*a))
    layer = GroupedQueryAttention(32, 4, 2, 8)
    x, cache = torch.randn(2, n_tokens, 32), KVCache(1, 2, 2, n_tokens, 8, torch.bfloat16)
    with torch.no_grad():
        exact = layer(x)
        assert not calls  # float32
        half = layer.bfloat16()
        cache.begin(2, n_tokens, None)
        for got in (half(x.bfloat16()), half(x.bfloat16(), None, None, cache)):
            torch.testing.assert_close(got.float(), exact, atol=0.02, rtol=0.05)
        assert len(calls) == 2 * blocks
        half(x.bfloat16(), None, torch.ones(n_tokens, n_tokens, dtype=torch.bool).tril())
        assert len(calls) == 2 * blocks  # a mask is for the library's kernel
