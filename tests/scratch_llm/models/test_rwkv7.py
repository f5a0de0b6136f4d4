"""RWKV-7 against its equations, written down in float64 token by token and head by head under the authors' names."""

from __future__ import annotations

import json

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from support.parity import batch, greedy_rows, spread_out
from support.recurrent import RecurrentTests

from scratch_llm.models import RWKV7, RWKV7_SIZES, RWKV7Config, build_model, load_model, rwkv7_preset

CONFIGS = {
    "untied": RWKV7Config(
        vocab_size=97, context_length=40, n_layers=3, d_model=36, head_dim=12, d_ff=50, decay_rank=5, rate_rank=6,
        value_rank=7, gate_rank=8,
    ),
    "tied-odd": RWKV7Config(
        vocab_size=53, context_length=40, n_layers=2, d_model=21, head_dim=7, tie_embeddings=True, norm_eps=1e-4,
        bos_token_id=1, eos_token_id=(2, 3),
    ),
}  # fmt: skip


class Reference:
    """Peng et al. 2025, section 4, for one row of tokens (1, T); everything in float64."""

    def __init__(self, folder):
        self.config = json.loads((folder / "config.json").read_text())
        self.saved = load_file(folder / "model.safetensors")
        self.weights = {name: tensor.double().requires_grad_() for name, tensor in self.saved.items()}

    def named_parameters(self):
        return self.weights.items()

    def save_pretrained(self, folder):
        """As the authors' conversion does, with the first layer's unused tensors."""
        folder.mkdir()
        extra = {f"blocks.0.att.v{i}": torch.ones(3) for i in range(3)}
        save_file(self.saved | extra, folder / "model.safetensors")
        (folder / "config.json").write_text(json.dumps(self.config))

    def norm(self, x, name):
        w = self.weights
        return F.layer_norm(x, x.shape, w[f"{name}.weight"], w[f"{name}.bias"], self.config["norm_eps"])

    def __call__(self, tokens):
        w, layers = self.weights, range(self.config["num_hidden_layers"])
        d = self.config["head_dim"]
        D = self.config["hidden_size"]
        zeros = torch.zeros(D, dtype=torch.float64)
        before_time, before_channel = [zeros for _ in layers], [zeros for _ in layers]
        memory = [[torch.zeros(d, d, dtype=torch.float64) for _ in range(D // d)] for _ in layers]
        logits = []
        for token in tokens[0].tolist():
            x, first_v = self.norm(w["emb.weight"][token], "blocks.0.ln0"), None
            for i in layers:
                inner = self.norm(x, f"blocks.{i}.ln1")
                y, first_v = self.time_mix(f"blocks.{i}.att.", inner, before_time[i], memory[i], first_v)
                before_time[i], x = inner, x + y
                inner = self.norm(x, f"blocks.{i}.ln2")
                mixed = inner + (before_channel[i] - inner) * w[f"blocks.{i}.ffn.x_k"].flatten()
                hidden = torch.relu(w[f"blocks.{i}.ffn.key.weight"] @ mixed) ** 2
                before_channel[i], x = inner, x + w[f"blocks.{i}.ffn.value.weight"] @ hidden
            logits.append(w.get("head.weight", w["emb.weight"]) @ self.norm(x, "ln_out"))
        return torch.stack(logits)[None]

    def time_mix(self, prefix, x, before, memory, first_v):
        w = {name.removeprefix(prefix): tensor for name, tensor in self.weights.items() if name.startswith(prefix)}
        mixed = {c: x + (before - x) * w[f"x_{c}"].flatten() for c in "rwkvag"}
        r, k, v = (
            w[f"{name}.weight"] @ mixed[c] for name, c in (("receptance", "r"), ("key", "k"), ("value", "v"))
        )
        d_t = w["w0"].flatten() + torch.tanh(mixed["w"] @ w["w1"]) @ w["w2"]
        decay = torch.exp(-torch.exp(-F.softplus(-d_t) - 0.5))
        if first_v is None:
            first_v = v
        else:
            v = v + (first_v - v) * torch.sigmoid(w["v0"].flatten() + mixed["v"] @ w["v1"] @ w["v2"])
        a = torch.sigmoid(w["a0"].flatten() + mixed["a"] @ w["a1"] @ w["a2"])
        gate = torch.sigmoid(mixed["g"] @ w["g1"]) @ w["g2"]
        kappa = k * w["k_k"].flatten()
        k = k * (1 + (a - 1) * w["k_a"].flatten())
        d, heads = len(memory[0]), []
        for h in range(len(memory)):
            s = slice(h * d, (h + 1) * d)
            unit = kappa[s] / kappa[s].norm()
            memory[h] = memory[h] @ (torch.diag(decay[s]) - torch.outer(unit, a[s] * unit)) + torch.outer(v[s], k[s])
            y = memory[h] @ r[s]
            y = (y - y.mean()) / torch.sqrt(y.var(unbiased=False) + d * self.config["norm_eps"])
            y = y * w["ln_x.weight"][s] + w["ln_x.bias"][s]
            heads.append(y + (r[s] * k[s] * w["r_k"][h]).sum() * v[s])
        return w["output.weight"] @ (torch.cat(heads) * gate), first_v


class TestParity(RecurrentTests):
    CONFIGS = CONFIGS

    @pytest.fixture
    def pair(self, name, tmp_path):
        ours = self.model(name)
        ours.save_pretrained(tmp_path)
        return ours, Reference(tmp_path)

    def reference_logits(self, theirs, tokens, real):
        return super().reference_logits(theirs, tokens, real).float()

    def reference_grads(self, theirs):
        return {name: tensor.grad.float() for name, tensor in theirs.named_parameters()}

    def reference_tokens(self, theirs, tokens, real, n_new):
        return greedy_rows(theirs, tokens, real, n_new)

    def state_size(self, config):
        return (2 + config.head_dim) * config.d_model


def model(name="untied"):
    return spread_out(build_model(CONFIGS[name], seed=0))


def test_names_and_shapes_of_the_released_checkpoints(tmp_path):
    """Those of RWKV-x070-World-0.1B, but for the number of layers and the vocabulary."""
    config = rwkv7_preset("0.1b", n_layers=2, vocab_size=50)
    build_model(config, seed=0).save_pretrained(tmp_path)
    shapes = {name: tuple(tensor.shape) for name, tensor in load_file(tmp_path / "model.safetensors").items()}
    D = 768
    expected = {"emb.weight": (50, D), "head.weight": (50, D), "ln_out.weight": (D,), "ln_out.bias": (D,)}
    norms = ["blocks.0.ln0"] + [f"blocks.{i}.{name}" for i in (0, 1) for name in ("ln1", "ln2", "att.ln_x")]
    expected |= {f"{name}.{part}": (D,) for name in norms for part in ("weight", "bias")}
    for i in (0, 1):
        att, ffn = f"blocks.{i}.att.", f"blocks.{i}.ffn."
        expected |= {att + f"x_{c}": (1, 1, D) for c in "rwkvag"}
        expected |= {att + name: (1, 1, D) for name in ("w0", "a0", "k_k", "k_a")}
        expected |= {att + "w1": (D, 64), att + "w2": (64, D), att + "a1": (D, 64), att + "a2": (64, D)}
        expected |= {att + "g1": (D, 128), att + "g2": (128, D), att + "r_k": (12, 64)}
        expected |= {att + f"{name}.weight": (D, D) for name in ("receptance", "key", "value", "output")}
        expected |= {ffn + "x_k": (1, 1, D), ffn + "key.weight": (4 * D, D), ffn + "value.weight": (D, 4 * D)}
    expected |= {"blocks.1.att.v0": (1, 1, D), "blocks.1.att.v1": (D, 32), "blocks.1.att.v2": (32, D)}
    assert shapes == expected


@pytest.mark.parametrize(
    "size, n_parameters",
    [("0.1b", 191_034_624), ("0.4b", 450_767_872), ("1.5b", 1_527_404_544), ("2.9b", 2_947_735_040)],
)
def test_presets_have_the_published_numbers_of_parameters(size, n_parameters):
    assert size in RWKV7_SIZES
    with torch.device("meta"):
        assert RWKV7(rwkv7_preset(size)).n_parameters() == n_parameters


def test_impossible_configurations():
    with pytest.raises(ValueError, match=r"is no known RWKV-7: use one of 0\.1b"):
        rwkv7_preset("7b")
    with pytest.raises(ValueError, match="d_model 36 is not divisible by head_dim 7"):
        RWKV7Config(vocab_size=97, context_length=40, n_layers=1, d_model=36, head_dim=7)
    with pytest.raises(ValueError, match="gate_rank is 0"):
        RWKV7Config(vocab_size=97, context_length=40, n_layers=1, d_model=36, head_dim=6, gate_rank=0)


def test_flops_are_those_of_a_step():
    from torch.utils.flop_counter import FlopCounterMode

    ours = model()
    cache = ours.init_cache(1)
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        ours.step(torch.tensor([3]), cache)
    assert counter.get_total_flops() == ours.flops_per_token(training=False)


def test_bfloat16_round_trip(tmp_path):
    ours = model()
    ours.save_pretrained(tmp_path, dtype=torch.bfloat16)
    loaded = load_model(tmp_path)
    assert loaded.dtype == torch.bfloat16
    tokens, _ = batch(ours.config, False)
    with torch.inference_mode():
        cache = loaded.init_cache(3)
        assert cache.states[0]["memory"].dtype == torch.float32
        torch.testing.assert_close(loaded(tokens, cache=cache).float(), ours(tokens), atol=0.5, rtol=0.1)


def test_it_learns():
    torch.manual_seed(0)
    ours = build_model(CONFIGS["untied"], seed=1)
    optimiser = torch.optim.AdamW(ours.parameters(), 1e-2)
    tokens = torch.randint(0, 97, (4, 30))
    losses = []
    for _ in range(40):
        loss = ours(tokens[:, :-1], targets=tokens[:, 1:])
        optimiser.zero_grad(), loss.backward(), optimiser.step()
        losses.append(loss.item())
    assert losses[0] == pytest.approx(4.57, abs=0.3) and losses[-1] < 1.5
