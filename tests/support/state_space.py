"""What holds for Mamba and Mamba-2 alike: parity, bfloat16."""

from __future__ import annotations

import torch

from scratch_llm.models import load_model
from support.parity import batch, reference_of, rows_alone
from support.recurrent import RecurrentTests


class StateSpaceTests(RecurrentTests):
    """transformers zeroes padding before the projection in: right as long as that projection has no bias.  With one,
    the bias gets into the convolution of a row's first tokens, so there each row is compared with itself alone."""

    def reference_logits(self, theirs, tokens, real):
        if not theirs.config.use_bias:
            return theirs(tokens, attention_mask=real.long(), use_cache=False).logits
        return rows_alone(lambda row: theirs(row, use_cache=False).logits, tokens, real)

    def reference_tokens(self, theirs, tokens, real, n_new):
        if not theirs.config.use_bias:
            return super().reference_tokens(theirs, tokens, real, n_new)
        rows = [row[mask][None] for row, mask in zip(tokens, real)]
        return [
            theirs.generate(
                row, attention_mask=torch.ones_like(row), max_new_tokens=n_new, min_new_tokens=n_new, do_sample=False,
                pad_token_id=0, eos_token_id=None,
            )[0, row.shape[1] :].tolist()
            for row in rows
        ]  # fmt: skip

    @torch.inference_mode()
    def test_bfloat16(self, name, tmp_path):
        """The scan's state stays in float32; on average the logits are as near to the exact ones as the reference's."""
        exact_model = self.model(name)
        theirs = reference_of(exact_model, tmp_path, dtype=torch.bfloat16)
        ours = load_model(tmp_path, dtype=torch.bfloat16)
        state = ours.init_cache(1).states[0]
        assert state["scan"].dtype == torch.float32 and state["conv"].dtype == torch.bfloat16
        tokens, _ = batch(ours.config, False)
        exact, mine, reference = exact_model(tokens), ours(tokens), theirs(tokens, use_cache=False).logits
        cache = ours.init_cache(3)
        steps = torch.stack([ours.step(column, cache) for column in tokens.unbind(1)], dim=1)
        assert mine.dtype == steps.dtype == torch.bfloat16
        error, step_error, their_error = ((x.float() - exact).abs().mean() for x in (mine, steps, reference))
        assert error < 1.2 * their_error and step_error < 1.2 * their_error
