"""Matrices cut among processes: here one process computes every share; real processes are in tests/llm_workshop/automodel."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from scratch_llm.models import GPT2Config, LlamaConfig, Qwen3Config, build_model
from scratch_llm.parallel import ColumnParallelLinear, RowParallelLinear, parallelize

SHAPE = {"vocab_size": 40, "context_length": 12, "n_layers": 2, "n_heads": 4, "d_model": 16}


class Share:
    """A team whose sums are left to the test."""

    def __init__(self, rank: int, size: int):
        self.rank, self.size = rank, size

    def sum(self, tensor):
        return tensor.clone()

    def mine(self, index):
        return index.chunk(self.size)[self.rank]


def test_the_two_cuts_by_hand():
    linear = nn.Linear(2, 2, bias=False)
    with torch.no_grad():
        linear.weight.copy_(torch.tensor([[1.0, 2.0], [3.0, 4.0]]))
    x = torch.tensor([10.0, 1.0])
    assert linear(x).tolist() == [12.0, 34.0]
    outputs = [ColumnParallelLinear(linear, torch.tensor([rank]), Share(rank, 2))(x).tolist() for rank in (0, 1)]
    assert outputs == [[12.0], [34.0]], "each has an output of its own"
    parts = [RowParallelLinear(linear, torch.tensor([rank]), Share(rank, 2))(x[rank : rank + 1]).tolist() for rank in (0, 1)]
    assert parts == [[10.0, 30.0], [2.0, 4.0]], "each has a part of every output; 10 + 2 and 30 + 4 are the outputs"


def test_a_bias_counts_once_after_the_sum():
    linear = nn.Linear(4, 3)
    x = torch.randn(5, 4)
    inputs = torch.arange(4).chunk(2)
    cut = [RowParallelLinear(linear, inputs[rank], Share(rank, 2)) for rank in (0, 1)]
    parts = [part(x[:, inputs[rank]]) - part.bias for rank, part in enumerate(cut)]
    torch.testing.assert_close(sum(parts) + linear.bias, linear(x))


@pytest.mark.parametrize("size", [2, 4])
@pytest.mark.parametrize("config", [LlamaConfig(**SHAPE, n_kv_heads=4, d_ff=24), GPT2Config(**SHAPE)], ids=["llama", "gpt2"])
def test_the_shares_of_a_block_add_up(config, size):
    torch.manual_seed(0)
    model = build_model(config).eval()
    if config.__class__ is GPT2Config:
        for parameter in model.parameters():  # biases begin at 0
            nn.init.normal_(parameter, std=0.1)
    x = torch.randn(2, 6, 16)
    shares = [parallelize(copy.deepcopy(model), Share(rank, size)) for rank in range(size)]
    for name in ("attention", "mlp"):
        whole = getattr(model.blocks[1], name)
        layers = [getattr(share.blocks[1], name) for share in shares]
        last = [getattr(layer, "out", None) or layer.down for layer in layers]
        bias = 0 if last[0].bias is None else last[0].bias
        torch.testing.assert_close(sum(layer(x) - bias for layer in layers) + bias, whole(x), rtol=1e-5, atol=1e-5)
    weights = [sum(p.numel() for n, p in m.blocks.named_parameters() if n.endswith("weight") and "norm" not in n) for m in (model, *shares)]
    assert weights[1:] == [weights[0] // size] * size, "each holds its share of the matrices, no more"


@pytest.mark.parametrize(("config", "size", "words"), [
    (LlamaConfig(**SHAPE, n_kv_heads=2, d_ff=24), 4, "n_kv_heads 2 cannot be shared equally by 4 processes"),
    (LlamaConfig(**{**SHAPE, "n_heads": 4}, n_kv_heads=4, d_ff=26), 4, "d_ff 26"),
    (Qwen3Config(**SHAPE, n_kv_heads=2, d_ff=24), 2, "use a Llama or GPT-2 model"),
])
def test_what_cannot_be_cut_is_refused_and_left_whole(config, size, words):
    model = build_model(config)
    names = [name for name, _ in model.named_modules()]
    with pytest.raises(ValueError, match=words):
        parallelize(model, Share(0, size))
    assert [name for name, _ in model.named_modules()] == names
    assert not any(isinstance(module, ColumnParallelLinear | RowParallelLinear) for module in model.modules())
