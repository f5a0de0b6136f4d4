"""What the tests of the architectures with experts share."""

import torch
from torch.utils.flop_counter import FlopCounterMode

from scratch_llm.layers.mixture_of_experts import Experts


def check_active_parameters_and_flops(model, n_sparse_layers: int, monkeypatch) -> None:
    """Active parameters leave out the experts that a token does not visit; FLOPs are those that torch counts."""
    config = model.config
    idle = n_sparse_layers * (config.n_experts - config.n_experts_per_token) * 3 * config.d_model * config.expert_d_ff
    assert model.n_parameters() == sum(p.numel() for p in model.parameters())
    assert model.n_parameters(active=True) == model.n_parameters() - idle
    # The clear path's products are plain ones, which the counter sees whatever kernels the fast path takes.
    monkeypatch.setattr(Experts, "forward", Experts.clear_forward)
    B, T = 2, 16
    tokens = torch.randint(0, config.vocab_size, (B, T))
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        with FlopCounterMode(display=False) as counter:
            model(tokens)
        assert counter.get_total_flops() == B * T * model.flops_per_token(T, training=False)
        with FlopCounterMode(display=False) as counter:
            model(tokens).float().sum().backward()
        assert counter.get_total_flops() == B * T * model.flops_per_token(T)
