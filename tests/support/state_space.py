"""What holds for Mamba and Mamba-2 alike: parity, padding, state, decoding, bfloat16."""

from __future__ import annotations

import torch

from scratch_llm.generation import SamplingConfig, generate_tokens
from scratch_llm.generation.tokens import clear_generate_tokens
from scratch_llm.models import build_model, load_model
from support.parity import TOLERANCE, WIDTH, ParityTests, batch, reference_of


class StateSpaceTests(ParityTests):
    """transformers zeroes padding before the projection in: right as long as that projection has no bias.  With one,
    the bias gets into the convolution of a row's first tokens, so there each row is compared with itself alone."""

    def model(self, name):
        return self.spread_out(build_model(self.CONFIGS[name], seed=0))

    def same_config(self, loaded, ours):
        return loaded == ours

    def reference_logits(self, theirs, tokens, real):
        if not theirs.config.use_bias:
            return theirs(tokens, attention_mask=real.long(), use_cache=False).logits
        rows = [theirs(row[mask][None], use_cache=False).logits[0] for row, mask in zip(tokens, real)]
        return torch.stack([torch.cat((row.new_zeros(WIDTH - len(row), row.shape[1]), row)) for row in rows])

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
    def test_padding_anywhere_is_as_if_it_were_not_there(self, name):
        """On the left, on the right, in the middle, whole rows of a piece; with tokens before and after in the state."""
        ours = self.model(name)
        tokens, _ = batch(ours.config, False)
        real = torch.ones_like(tokens, dtype=torch.bool)
        real[0, :5], real[0, 9:12], real[1, 2:8], real[2, 17:] = False, False, False, False
        logits, cache, pieces = ours(tokens, padding_mask=real), ours.init_cache(3), []
        for start, end in ((0, 3), (3, 8), (8, WIDTH)):
            pieces.append(ours(tokens[:, start:end], cache=cache, padding_mask=real[:, start:end]))
        for row, (row_tokens, mask) in enumerate(zip(tokens, real)):
            alone_cache = ours.init_cache(1)
            alone = ours(row_tokens[mask][None], cache=alone_cache)[0]
            torch.testing.assert_close(logits[row, mask], alone, atol=TOLERANCE, rtol=TOLERANCE)
            torch.testing.assert_close(torch.cat(pieces, 1)[row, mask], alone, atol=TOLERANCE, rtol=TOLERANCE)
            for layer, alone_layer in zip(cache.states, alone_cache.states):
                for state in layer:
                    torch.testing.assert_close(
                        layer[state][row], alone_layer[state][0], atol=TOLERANCE, rtol=TOLERANCE
                    )

    def test_padding_has_no_part_in_gradients(self, name):
        """Whatever token stands at padding, all gradients are the same."""
        tokens, real = batch(self.CONFIGS[name], True)
        targets, grads = tokens.masked_fill(~real, -100), []
        for filler in (1, 7):
            ours = self.model(name)
            ours(tokens.masked_fill(~real, filler), padding_mask=real, targets=targets).backward()
            grads.append([parameter.grad for parameter in ours.parameters()])
        for one, other in zip(*grads):
            torch.testing.assert_close(one, other, atol=TOLERANCE, rtol=TOLERANCE)

    @torch.inference_mode()
    def test_decoding_steps_give_the_logits_of_one_pass(self, name):
        ours = self.model(name)
        tokens, _ = batch(ours.config, False)
        cache = ours.init_cache(3)
        steps = torch.stack([ours.step(column, cache) for column in tokens.unbind(1)], dim=1)
        torch.testing.assert_close(steps, ours(tokens), atol=TOLERANCE, rtol=TOLERANCE)

    def test_generation_has_no_end(self, name):
        """Far past the trained length, token for token what the whole text without a cache says."""
        ours, sampling = self.model(name), SamplingConfig(max_new_tokens=90, temperature=0)
        new = generate_tokens(ours, [5, 6, 7], sampling, stop_ids=())
        assert new == clear_generate_tokens(ours, [5, 6, 7], sampling, stop_ids=())

    @torch.inference_mode()
    def test_the_state_has_one_size(self, name):
        ours = self.model(name)
        cache = ours.init_cache(2)
        n_state = sum(torch.Size(shape).numel() for shape in ours.state_shapes().values())
        assert cache.n_bytes() == 4 * 2 * ours.config.n_layers * n_state
        ours(torch.randint(0, 50, (2, 500)), cache=cache)
        assert cache.n_bytes() == 4 * 2 * ours.config.n_layers * n_state and cache.length == 500

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
