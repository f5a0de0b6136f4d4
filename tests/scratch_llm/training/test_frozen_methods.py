"""The training loop with every method of ``scratch_llm.peft``: what learns is saved alone, and resumes bit for bit."""

from __future__ import annotations

import pytest
import torch

from scratch_llm.peft import (
    IA3Config,
    LoRAConfig,
    PrefixTuned,
    WaveFTConfig,
    inject,
    quantize_base,
    trainable_parameters,
)
from scratch_llm.training import train
from scratch_llm.training.checkpoint import load_checkpoint
from scratch_llm.training.frozen import frozen_identity, learnt_state

quiet = {"log": lambda line: None}
METHODS = {
    "waveft": WaveFTConfig(n_coefficients=40, targets="all-linear"),
    "ia3": IA3Config(targets="all-linear"),
    "qlora": LoRAConfig(rank=2, targets="all-linear", dropout=0.1),
    "prefix": None,
    "prefix-network": None,
}


@pytest.fixture(params=METHODS)
def adapted(request, tiny):
    """The same tiny Llama with the same method each time."""

    def make(change: float = 0.0):
        model = tiny(context_length=24)
        with torch.no_grad():
            model.embedding.weight.mul_(20)
            model.blocks[0].mlp.down.weight[0, 0] += change
        torch.manual_seed(5)
        if request.param.startswith("prefix"):
            return PrefixTuned(model, 4, projection=6 if request.param.endswith("network") else None)
        if request.param == "qlora":
            quantize_base(model)
        inject(model, METHODS[request.param])
        return model

    return make


def test_a_run_learns_saves_what_learns_and_resumes_bit_for_bit(adapted, windows, settings, tmp_path):
    unbroken = adapted()
    before = {name: tensor.clone() for name, tensor in unbroken.state_dict().items()}
    train(unbroken, *windows, settings(), tmp_path / "unbroken", **quiet)
    saved = load_checkpoint(tmp_path / "unbroken" / "checkpoints")
    learns = set(trainable_parameters(unbroken))
    assert saved["model"].keys() == learns and len(saved["optimizer"]["state"]) == len(learns)
    for name, tensor in unbroken.state_dict().items():
        assert torch.equal(tensor, before[name]) == (name not in learns), name

    def interrupt(model, step):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(adapted(), *windows, settings(), tmp_path / "broken", on_eval=interrupt, **quiet)
    resumed, lines = adapted(), []
    train(resumed, *windows, settings(), tmp_path / "broken", log=lines.append)
    assert any("resuming after step 4" in line for line in lines)
    one, other = learnt_state(resumed), learnt_state(unbroken)
    assert one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_another_base_is_another_run(adapted):
    key = "frozen weights (SHA-256)"
    assert frozen_identity(adapted())[key] == frozen_identity(adapted())[key] != frozen_identity(adapted(change=1.0))[key]
