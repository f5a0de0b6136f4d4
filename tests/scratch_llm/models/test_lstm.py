"""The LSTM language model against one built from ``torch.nn.LSTM``."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from support.parity import TOLERANCE, batch, greedy_rows, spread_out
from support.recurrent import RecurrentTests
from torch import nn

from scratch_llm.models import LSTM, LSTMConfig, build_model

CONFIGS = {
    "tied": LSTMConfig(vocab_size=97, context_length=40, n_layers=3, d_model=33),
    "untied-projected": LSTMConfig(
        vocab_size=53, context_length=40, n_layers=2, d_model=20, d_hidden=31, output_norm=True, tie_embeddings=False,
        norm_eps=1e-4, bos_token_id=1, eos_token_id=(2, 3),
    ),
    "one-layer-normed": LSTMConfig(vocab_size=41, context_length=40, n_layers=1, d_model=18, output_norm=True),
}  # fmt: skip


class Reference(nn.Module):
    """The same model from torch's modules, its weights from our folder."""

    def __init__(self, folder):
        super().__init__()
        self.config = c = json.loads((folder / "config.json").read_text())
        self.tensors = load_file(folder / "model.safetensors")
        D, H = c["hidden_size"], c["lstm_hidden_size"]
        self.embedding = nn.Embedding(c["vocab_size"], D)
        self.lstm = nn.LSTM(D, H, c["num_hidden_layers"], batch_first=True)
        self.projection = nn.Linear(H, D) if H != D else nn.Identity()
        self.norm = nn.LayerNorm(D, c["norm_eps"]) if c["output_norm"] else nn.Identity()
        self.lm_head = nn.Linear(D, c["vocab_size"], bias=False)
        if c["tie_word_embeddings"]:
            self.lm_head.weight = self.embedding.weight
        state = {name.replace("bias_l", "bias_ih_l"): tensor for name, tensor in self.tensors.items()}
        missing, unexpected = self.load_state_dict(state, strict=False)
        assert not unexpected
        assert all("bias_hh" in name or name == "lm_head.weight" for name in missing)
        with torch.no_grad():
            for i in range(c["num_hidden_layers"]):
                getattr(self.lstm, f"bias_hh_l{i}").zero_()

    def forward(self, tokens, state=None):
        hidden, self.last_state = self.lstm(self.embedding(tokens), state)
        return self.lm_head(self.norm(self.projection(hidden)))

    def save_pretrained(self, folder):
        folder.mkdir()
        save_file(self.tensors, folder / "model.safetensors")
        (folder / "config.json").write_text(json.dumps(self.config))


class TestParity(RecurrentTests):
    CONFIGS = CONFIGS

    @pytest.fixture
    def pair(self, name, tmp_path):
        ours = self.model(name)
        ours.save_pretrained(tmp_path)
        return ours, Reference(tmp_path)

    def reference_grads(self, theirs):
        return {
            name.replace("bias_ih_l", "bias_l"): weight.grad
            for name, weight in theirs.named_parameters()
            if "bias_hh" not in name
        }

    def reference_tokens(self, theirs, tokens, real, n_new):
        return greedy_rows(theirs, tokens, real, n_new)

    def state_size(self, config):
        return 2 * config.d_hidden

    def test_states_and_truncated_gradients(self, pair):
        """Two pieces of a text: the second begins with the state of the first, and no gradient goes back into it."""
        ours, theirs = pair
        tokens, _ = batch(ours.config, False)
        cache = ours.init_cache(3)
        ours(tokens[:, :11], cache=cache, targets=tokens[:, 1:12]).backward()
        theirs(tokens[:, :11])
        carried = tuple(state.detach() for state in theirs.last_state)
        for name, reference in zip(("hidden", "cell"), carried):
            mine = torch.stack([state[name] for state in cache.states])
            torch.testing.assert_close(mine, reference, atol=TOLERANCE, rtol=TOLERANCE)
        ours.zero_grad()
        loss = ours(tokens[:, 11:22], cache=cache, targets=tokens[:, 12:])
        expected = F.cross_entropy(theirs(tokens[:, 11:22], carried).flatten(0, 1), tokens[:, 12:].flatten())
        torch.testing.assert_close(loss, expected, atol=TOLERANCE, rtol=TOLERANCE)
        loss.backward(), expected.backward()
        grads = self.reference_grads(theirs)
        for i, block in enumerate(ours.blocks):
            for mine, name in ((block.input.weight, "weight_ih"), (block.recurrent.weight, "weight_hh"), (block.input.bias, "bias")):
                reference = grads[f"lstm.{name}_l{i}"]
                assert (mine.grad - reference).abs().max() <= TOLERANCE * max(1, reference.abs().max()), name


def model(name="untied-projected"):
    return spread_out(build_model(CONFIGS[name], seed=0))


def test_the_library_kernel_is_the_clear_recurrence():
    layer = model().blocks[0]
    torch.manual_seed(0)
    inputs = [torch.randn(3, 15, 20), torch.randn(3, 31), torch.randn(3, 31)]
    results = []
    for recurrence in (layer.clear_recurrence, layer.recurrence):
        leaves = [x.clone().requires_grad_() for x in inputs]
        outputs = recurrence(*leaves)
        layer.zero_grad()
        sum((output * output.detach().cos()).sum() for output in outputs).backward()
        results.append([*outputs, *(x.grad for x in leaves), *(w.grad.clone() for w in layer.parameters())])
    for clear, fast in zip(*results):
        torch.testing.assert_close(fast, clear, atol=TOLERANCE, rtol=TOLERANCE)


def test_forget_gates_begin_open():
    ours = build_model(CONFIGS["tied"], seed=0)
    for block in ours.blocks:
        i, f, g, o = block.input.bias.chunk(4)
        assert (f == 1).all() and not torch.cat((i, g, o)).any()


def test_flops_against_the_counter():
    """The counter sees the products; what it does not see is what ``context_flops_per_token`` is about."""
    from torch.utils.flop_counter import FlopCounterMode

    ours = model()
    cache = ours.init_cache(1)
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        ours.step(torch.tensor([3]), cache)
    elementwise = ours.context_flops_per_token(40)
    assert counter.get_total_flops() == ours.flops_per_token(training=False) - elementwise
    assert elementwise == 2 * 31 * 4 == ours.context_flops_per_token(10_000)


@pytest.mark.parametrize("autocast", [False, True])
def test_bfloat16(autocast):
    ours = model("tied")
    tokens, _ = batch(ours.config, False)
    expected = ours(tokens)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        mine = (ours if autocast else ours.bfloat16())(tokens)
    assert mine.dtype == torch.bfloat16
    torch.testing.assert_close(mine.float(), expected, atol=0.1, rtol=0.1)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        ours(tokens, targets=tokens).backward()
    assert all(weight.grad.isfinite().all() for weight in ours.parameters())


def test_dropout_only_in_training():
    ours = build_model(dataclasses.replace(CONFIGS["tied"], dropout=0.5), seed=0)
    tokens, _ = batch(ours.config, False)
    assert not torch.equal(ours(tokens), ours(tokens))
    assert torch.equal(ours.eval()(tokens), ours(tokens))


def test_impossible_configurations():
    shape = {"vocab_size": 97, "context_length": 40, "n_layers": 1, "d_model": 36}
    with pytest.raises(ValueError, match="d_hidden is 0"):
        LSTMConfig(**shape, d_hidden=0)
    with pytest.raises(ValueError, match=r"dropout is 1\.0"):
        LSTMConfig(**shape, dropout=1.0)
    with pytest.raises(ValueError, match="tokens have 2 rows but the cache was made for 3"):
        ours = LSTM(LSTMConfig(**shape))
        ours(torch.ones(2, 4, dtype=torch.int64), cache=ours.init_cache(3))
