"""Our models against the reference library's, on the same weights.

Each architecture's test module has a table of configurations and a test class that inherits ``ParityTests``:

    class TestParity(ParityTests):
        CONFIGS = {"tied": LlamaConfig(...), "odd": LlamaConfig(...)}
"""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

import pytest
import torch
import torch.nn.functional as F
import transformers

from scratch_llm.generation import Decoder, SamplingConfig, clear_generate_tokens, generate_tokens
from scratch_llm.models import build_model, load_model
from scratch_llm.weights import from_huggingface, to_huggingface

transformers.logging.disable_progress_bar()
TOLERANCE = 1e-5
WIDTH = 23


def spread_out(model, scale: float = 0.15):
    """Weights large enough that every part matters (at the usual 0.02 attention is nearly uniform)."""
    torch.manual_seed(3)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            weight.add_(torch.randn_like(weight) * (0.1 if "norm" in name or name.endswith("bias") else scale))
    return model.eval()


def reference_of(model, folder, **options):
    """transformers' model, read from the folder that ours saved, with no key missing or left over."""
    model.save_pretrained(folder)
    theirs, report = transformers.AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True, **options)
    assert not any(report.values()), report
    return theirs.eval()


def check_bfloat16_error(ours, theirs) -> None:
    """Rounded to bfloat16, our logits stray from the exact ones by no more than the reference's (plus a fifth)."""
    tokens = torch.randint(ours.config.vocab_size, (4, 30), generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        exact = ours(tokens)
        error = (ours.bfloat16()(tokens).float() - exact).square().mean()
        their_error = (theirs.bfloat16()(tokens).logits.float() - exact).square().mean()
    assert 0 < error <= 1.2 * their_error


def batch(config, padded: bool):
    """Tokens (3, 23) and which are real; padded: rows begin with 0, 4 and 17 tokens of padding."""
    torch.manual_seed(4)
    # From 1 on: transformers gives the row of pad_token_id no gradient.
    tokens = torch.randint(1, config.vocab_size, (3, WIDTH))
    real = torch.ones(3, WIDTH, dtype=torch.bool)
    if padded:
        real[1, :4], real[2, :17] = False, False
    return tokens, real


def positions(real):
    return (real.long().cumsum(1) - 1).clamp(min=0)


def rows_alone(logits_of, tokens, real):
    """Logits (3, 23, V) of each row's real tokens (1, T) without the others, zeros where the padding is."""
    rows = [logits_of(row[mask][None])[0] for row, mask in zip(tokens, real)]
    return torch.stack([F.pad(row, (0, 0, WIDTH - len(row), 0)) for row in rows])


@torch.inference_mode()
def greedy_rows(logits_of, tokens, real, n_new: int) -> list[list[int]]:
    """The most likely next tokens of each row alone, the whole text computed anew for every one."""
    rows = [row[mask].tolist() for row, mask in zip(tokens, real)]
    for row in rows:
        for _ in range(n_new):
            row.append(int(logits_of(torch.tensor([row]))[0, -1].argmax()))
    return [row[-n_new:] for row in rows]


def by_expert(grads: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """transformers keeps the experts stacked; its checkpoints, and our rules, name each one's matrices."""
    named = {}
    for name, grad in grads.items():
        prefix, _, part = name.rpartition(".")
        if part == "gate_up_proj":
            for e, both in enumerate(grad):
                gate, up = both.chunk(2)
                named |= {f"{prefix}.{e}.gate_proj.weight": gate, f"{prefix}.{e}.up_proj.weight": up}
        elif prefix.endswith("experts") and part == "down_proj":
            named |= {f"{prefix}.{e}.down_proj.weight": down for e, down in enumerate(grad)}
        else:
            named[name] = grad
    return named


class ParityTests:
    """Logits, gradients, both directions of conversion, generation.  Override a method where a model differs."""

    CONFIGS: ClassVar[dict[str, Any]]
    REFERENCE_OPTIONS: ClassVar[dict[str, Any]] = {}
    """Of transformers' ``from_pretrained``."""

    @pytest.fixture
    def pair(self, name, tmp_path):
        """Our model and theirs, equal weights."""
        ours = self.model(name)
        return ours, reference_of(ours, tmp_path, **self.REFERENCE_OPTIONS)

    def spread_out(self, model):
        return spread_out(model)

    def model(self, name):
        return self.spread_out(build_model(self.CONFIGS[name], seed=0))

    def reference_logits(self, theirs, tokens, real):
        return theirs(tokens, attention_mask=real.long(), position_ids=positions(real)).logits

    def reference_grads(self, theirs) -> dict[str, torch.Tensor]:
        """Gradients under the names of the checkpoint."""
        return {name: parameter.grad for name, parameter in theirs.named_parameters()}

    def same_config(self, loaded, ours) -> bool:
        return dataclasses.replace(loaded, dropout=0.0) == ours

    @pytest.mark.parametrize("padded", [False, True], ids=["full", "left-padded"])
    def test_logits_and_gradients(self, pair, padded):
        ours, theirs = pair
        tokens, real = batch(ours.config, padded)
        mask = real if padded else None
        mine, reference = ours(tokens, padding_mask=mask), self.reference_logits(theirs, tokens, real)
        torch.testing.assert_close(mine[real], reference[real], atol=TOLERANCE, rtol=TOLERANCE)

        targets = tokens.roll(-1, 1).masked_fill(~real, -100)
        loss = ours(tokens, padding_mask=mask, targets=targets)
        expected = F.cross_entropy(reference.flatten(0, 1), targets.flatten())
        torch.testing.assert_close(loss, expected, atol=TOLERANCE, rtol=TOLERANCE)
        loss.backward(), expected.backward()
        # A weight that this batch did not reach has no gradient on one side and zeros on the other.
        mine = {
            name: torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
            for name, parameter in ours.named_parameters()}
        # Saved buffers have rules, too.
        grads = to_huggingface([rule for rule in ours.weight_rules(ours.config) if rule.ours in mine], mine)
        theirs_by_name = self.reference_grads(theirs)
        assert grads.keys() == theirs_by_name.keys()
        for name, grad in grads.items():
            other = theirs_by_name[name]
            other = torch.zeros_like(grad) if other is None else other
            assert (grad - other).abs().max() <= TOLERANCE * max(1, other.abs().max()), name

    def test_their_folder_loads_into_ours(self, pair, tmp_path):
        """The other direction: what transformers saves, we load, bit for bit."""
        ours, theirs = pair
        theirs.save_pretrained(tmp_path / "theirs")
        loaded = load_model(tmp_path / "theirs")
        assert type(loaded) is type(ours) and not loaded.training
        assert self.same_config(loaded.config, ours.config)
        assert loaded.state_dict().keys() == ours.state_dict().keys()
        for name, weight in loaded.state_dict().items():
            assert torch.equal(weight, ours.state_dict()[name]), name
        tokens, _ = batch(ours.config, False)
        assert torch.equal(loaded(tokens), ours(tokens))

    def test_rules_go_both_ways(self, name):
        ours = spread_out(build_model(self.CONFIGS[name], seed=0))
        rules, state = ours.weight_rules(ours.config), ours.state_dict()
        back = from_huggingface(rules, to_huggingface(rules, state))
        assert back.keys() == state.keys()
        assert all(torch.equal(back[key], weight) for key, weight in state.items())

    @pytest.mark.parametrize("padded", [False, True], ids=["full", "left-padded"])
    def test_greedy_generation_token_for_token(self, pair, padded):
        ours, theirs = pair
        tokens, real = batch(ours.config, padded)
        rows = [row[mask].tolist() for row, mask in zip(tokens, real)]
        mine = generate_tokens(ours, rows, SamplingConfig(max_new_tokens=17, temperature=0), stop_ids=())
        assert mine == self.reference_tokens(theirs, tokens, real, 17)

    def reference_tokens(self, theirs, tokens, real, n_new: int) -> list[list[int]]:
        new = theirs.generate(
            tokens, attention_mask=real.long(), max_new_tokens=n_new, min_new_tokens=n_new, do_sample=False,
            pad_token_id=0, eos_token_id=None)  # fmt: skip
        return new[:, WIDTH:].tolist()

    def test_cache_in_pieces(self, name):
        """A forward pass in pieces of several sizes, through the cache, gives the logits of one without a cache."""
        ours = self.model(name)
        for padded in (False, True):
            tokens, real = batch(ours.config, padded)
            with torch.inference_mode():
                whole = ours(tokens, padding_mask=real if padded else None)
                cache, pieces, start = ours.init_cache(3), [], 0
                for end in (9, 10, 11, 18, 19, WIDTH):
                    mask = real[:, start:end] if padded else None
                    pieces.append(ours(tokens[:, start:end], cache=cache, padding_mask=mask))
                    start = end
            torch.testing.assert_close(torch.cat(pieces, 1)[real], whole[real], atol=TOLERANCE, rtol=TOLERANCE)

    @torch.inference_mode()
    def test_steps_and_packed_steps_give_the_logits_of_the_whole(self, name):
        """Token by token to the end of the context, as it is and packed for decoding; with padding, too."""
        ours = self.model(name)
        length = ours.config.context_length
        tokens = torch.randint(ours.config.vocab_size, (2, length), generator=torch.Generator().manual_seed(0))
        whole, late, cache = ours(tokens), ours(tokens[1:, 2:])[0], ours.init_cache(2)
        steps = torch.stack([ours.step(column, cache) for column in tokens.unbind(1)], dim=1)
        torch.testing.assert_close(steps, whole, atol=TOLERANCE, rtol=TOLERANCE)

        decoder = Decoder(ours, [tokens[0, :5].tolist(), tokens[1, 2:5].tolist()], length - 5)
        packed = [decoder.prefill()]
        packed += [decoder.step(column, column.tolist()) for column in tokens[:, 5:].unbind(1)]
        expected = torch.stack((whole[0, 4:], late[2:]), dim=1)
        torch.testing.assert_close(torch.stack(packed), expected, atol=TOLERANCE, rtol=TOLERANCE)

    @pytest.mark.filterwarnings("ignore:the prompt has")
    @pytest.mark.parametrize("n_rows", [1, 4], ids=["alone", "batch"])
    def test_generation_past_the_context(self, name, n_rows):
        """Token for token what the window without a cache says; for a model with a state, the whole text."""
        ours = self.model(name)
        C, V = ours.config.context_length, ours.config.vocab_size
        lengths = [3, 1, C - 10, C + 10][:n_rows]
        prompts = [[(5 * row + i) % V for i in range(length)] for row, length in enumerate(lengths)]
        sampling = SamplingConfig(max_new_tokens=C + 20 if n_rows == 1 else C - 5, temperature=0)
        expected = [clear_generate_tokens(ours, prompt, sampling, stop_ids=()) for prompt in prompts]
        for packed in (True, False):
            assert generate_tokens(ours, prompts, sampling, stop_ids=(), packed=packed) == expected
