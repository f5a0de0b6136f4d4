"""Training of adapters by PEFT and TRL: the same losses as ours, step by step."""

import dataclasses
import json

import pytest
import torch
from support.parity import spread_out
from support.tiny_configs import TINY

from llm_workshop.finetuning.peers import LIBRARIES, constant_config, peer_losses
from scratch_llm.data import IGNORE
from scratch_llm.models import build_model, load_model
from scratch_llm.peft import LoRAConfig, inject, save_adapter
from scratch_llm.tokenizers import SPECIAL_TOKENS, ByteLevelBPE
from scratch_llm.training import train

pytest.importorskip("peft")
STEPS = 20
CASES = {
    "llama-lora": ("llama", LoRAConfig(rank=3, targets="all-linear"), 0.1),
    "gpt2-lora": ("gpt2", LoRAConfig(rank=2, alpha=7, targets=("c_attn",)), 0.1),
    # The lengths of DoRA are vectors, which we do not let decay and the Trainer does.
    "llama-dora": ("llama", LoRAConfig(rank=3, dora=True, targets=("q_proj", "up_proj")), 0.0),
    "llama-rslora": ("llama", LoRAConfig(rank=4, rank_stabilized=True), 0.1),
}


class MaskedWindows:
    """Few of the tokens there are, at random; a third is not learnt; the rows' length changes from batch to batch."""

    batch_size, context_length, n_batches, token_file = 4, 14, STEPS, None

    def batch(self, step):
        generator = torch.Generator().manual_seed(step)
        tokens = torch.randint(1, 9, (self.batch_size, 12 + step % 3), generator=generator)
        targets = tokens[:, 1:].clone()
        targets[torch.rand(targets.shape, generator=generator) < 0.3] = IGNORE
        return tokens[:, :-1], targets


@pytest.fixture(scope="module")
def tokenizer():
    return ByteLevelBPE.train(["아주 짧은 글"] * 9, 265, SPECIAL_TOKENS)


def prepared(tmp_path, tokenizer, name, adapter):
    """Folders of a base and of an adapter, and the model with both."""
    spread_out(build_model(TINY[name], seed=0), 0.05).save_pretrained(tmp_path / "base")
    tokenizer.save(tmp_path / "base")
    model = load_model(tmp_path / "base")
    torch.manual_seed(1)
    inject(model, adapter)
    save_adapter(model, tmp_path / "adapter")
    return tmp_path / "base", tmp_path / "adapter", model


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("case", CASES)
def test_losses_are_ours(case, library, tmp_path, tokenizer):
    pytest.importorskip(library)
    name, adapter, weight_decay = CASES[case]
    base, folder, model = prepared(tmp_path, tokenizer, name, adapter)
    windows, config = MaskedWindows(), constant_config(STEPS, 4, 1e-2, weight_decay=weight_decay)
    result = train(model, windows, windows, config, tmp_path / "run", log=lambda line: None)
    ours = [json.loads(line)["loss"] for line in result.metrics_path.read_text().splitlines()]
    theirs = peer_losses(base, folder, windows, config, library)
    assert len(ours) == len(theirs) == STEPS
    assert min(ours[-5:]) < ours[0] - 0.02, "nothing was learnt"
    torch.testing.assert_close(torch.tensor(theirs), torch.tensor(ours), rtol=1e-5, atol=1e-5)


def test_another_adapter_gives_other_losses(tmp_path, tokenizer):
    """Guards the comparison itself: it sees a change of the scale alone."""
    windows, config = MaskedWindows(), constant_config(3, 4, 1e-2)
    losses = []
    for alpha in (16, 8):
        base, folder, _ = prepared(tmp_path / str(alpha), tokenizer, "llama", LoRAConfig(rank=3, alpha=alpha))
        losses.append(peer_losses(base, folder, windows, config))
    assert losses[0][0] == losses[1][0] and abs(losses[0][-1] - losses[1][-1]) > 1e-5


@pytest.mark.parametrize(
    ("change", "library", "message"),
    [
        ({}, "keras", "'keras' is unknown: use peft or trl"),
        ({"min_learning_rate": 0.0}, "peft", r"from 0.01 to 0.0 .* constant"),
        ({"warmup_steps": 2}, "trl", "2 steps of warm-up"),
        ({"precision": "bfloat16"}, "peft", "in float32"),
    ],
)
def test_what_cannot_be_compared_is_refused(change, library, message, tmp_path):
    config = dataclasses.replace(constant_config(5, 4, 1e-2), **change)
    with pytest.raises(ValueError, match=message):
        peer_losses(tmp_path, tmp_path, MaskedWindows(), config, library)
