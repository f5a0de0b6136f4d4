"""What holds for every model whose memory of the past is a state of fixed size."""

from __future__ import annotations

import torch

from support.parity import TOLERANCE, WIDTH, ParityTests, batch, rows_alone


class RecurrentTests(ParityTests):
    """The references know no padding: each row is compared with itself alone."""

    def same_config(self, loaded, ours):
        return loaded == ours

    def reference_logits(self, theirs, tokens, real):
        return rows_alone(theirs, tokens, real)

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

    def state_size(self, config) -> int:
        """Numbers in one layer's state of a row, by formula."""
        raise NotImplementedError

    @torch.inference_mode()
    def test_the_state_has_one_size(self, name):
        """As many bytes after 500 tokens, far past the context, as before the first."""
        ours = self.model(name)
        cache, size = ours.init_cache(2), 4 * 2 * ours.config.n_layers * self.state_size(ours.config)
        assert cache.n_bytes() == size
        ours(torch.randint(ours.config.vocab_size, (2, 500)), cache=cache)
        assert cache.n_bytes() == size and cache.length == 500
