"""RWKV-4: parity with transformers, padding, state, speed of nothing but the right thing."""

from __future__ import annotations

import torch
from support.parity import WIDTH, ParityTests

from scratch_llm.models import RWKV4Config

CONFIGS = {
    "untied": RWKV4Config(vocab_size=97, context_length=40, n_layers=3, d_model=33, d_ff=52, rescale_every=1),
    "tied-no-rescale": RWKV4Config(
        vocab_size=59, context_length=40, n_layers=2, d_model=28, tie_embeddings=True, rescale_every=0,
        bos_token_id=1, eos_token_id=2,
    ),
    "wide-attention": RWKV4Config(
        vocab_size=53, context_length=40, n_layers=5, d_model=24, d_attention=31, d_ff=37, rescale_every=2, norm_eps=1e-4
    ),
}  # fmt: skip


class TestParity(ParityTests):
    """transformers' model ignores the attention mask, so padded rows are compared with the same rows alone."""

    CONFIGS = CONFIGS

    def reference_logits(self, theirs, tokens, real):
        rows = [theirs(row[mask][None], use_cache=False).logits[0] for row, mask in zip(tokens, real)]
        return torch.stack([torch.cat((row.new_zeros(WIDTH - len(row), row.shape[1]), row)) for row in rows])

    def reference_grads(self, theirs):
        """transformers halves these weights in place before its first evaluation, so its gradients are larger."""
        grads, every = super().reference_grads(theirs), theirs.config.rescale_every
        for name, grad in grads.items():
            if every and name.endswith(("attention.output.weight", "feed_forward.value.weight")):
                grads[name] = grad / 2 ** (int(name.split(".")[2]) // every)
        return grads

    def same_config(self, loaded, ours):
        return loaded == ours

    def reference_tokens(self, theirs, tokens, real, n_new):
        """Row by row; its state has d_model channels, so with a wider attention it cannot use one."""
        c = theirs.config
        return [
            theirs.generate(
                row[mask][None], max_new_tokens=n_new, min_new_tokens=n_new, do_sample=False, pad_token_id=0,
                eos_token_id=None, use_cache=c.attention_hidden_size == c.hidden_size,
            )[0, int(mask.sum()):].tolist()
            for row, mask in zip(tokens, real)
        ]  # fmt: skip
