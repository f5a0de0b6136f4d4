"""Running texts and new prompts in one pass: the hidden states, and what the caches hold, of one pass for each."""

from __future__ import annotations

import pytest
import torch
from support.tiny_configs import TINY

from scratch_llm.models import build_model
from scratch_llm.models.transformer import Transformer


@pytest.fixture(params=TINY, scope="module")
def model(request):
    return build_model(TINY[request.param], seed=0).eval()


def running(model, lengths):
    """A cache of texts of these lengths, padded on the left where they differ."""
    cache, longest = model.init_cache(len(lengths), 40), max(lengths)
    tokens = torch.randint(0, 61, (len(lengths), longest), generator=torch.Generator().manual_seed(1))
    real = torch.arange(longest) >= longest - torch.tensor(lengths)[:, None]
    model.hidden_states(tokens, cache, None if real.all() else real)
    return cache


@pytest.mark.parametrize("lengths", [[7, 7], [3, 12, 9], [1], [33]])
@torch.inference_mode()
def test_batches_side_by_side_are_what_each_is_alone(model, lengths):
    random = torch.Generator().manual_seed(2)
    shapes = [(len(lengths), 1), (1, 11), (2, 5), (1, 1)]
    tokens = [torch.randint(0, 61, shape, generator=random) for shape in shapes]
    sides = [[running(model, lengths), *(model.init_cache(*shape) for shape in shapes[1:])] for _ in range(2)]
    for _ in range(2):  # the texts that run go on, with others
        alone = [model.hidden_states(part, cache, None) for part, cache in zip(tokens, sides[0])]
        together = model.hidden_states_side_by_side(list(zip(tokens, sides[1])))
        assert [part.shape for part in together] == [part.shape for part in alone]
        for ours, theirs in zip(together, alone):
            torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
        for ours, theirs in zip(*sides):
            assert ours.length == theirs.length
            for mine, other in zip(ours.tensors(), theirs.tensors()):
                torch.testing.assert_close(mine, other, rtol=1e-5, atol=1e-5)
        sides = [[cache, *(model.init_cache(*shape) for shape in shapes[1:])] for (cache, *_) in sides]


@torch.inference_mode()
def test_matrices_are_read_once(model):
    """One product of each matrix for all batches, where the architecture allows it."""
    if not isinstance(model, Transformer):
        assert model.recurrent
        return
    calls, module = [], model.blocks[0].attention.out
    handle = module.register_forward_hook(lambda module, inputs, output: calls.append(output.shape[:-1].numel()))
    batches = [(torch.ones(shape, dtype=torch.long), model.init_cache(*shape)) for shape in ((3, 1), (1, 6))]
    model.hidden_states_side_by_side(batches)
    handle.remove()
    assert calls == [16]  # 9, and what fills a multiple of 16
