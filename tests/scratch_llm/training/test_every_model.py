"""Every architecture learns in the training loop, and a stopped run goes on with the same bits."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from support.tiny_configs import TINY

from scratch_llm.models import DeepseekV3, build_model
from scratch_llm.training import train
from scratch_llm.training.metrics import read_records

TIMES = ("tokens_per_second", "mfu", "seconds")


class Stop(Exception):
    pass


def stop_at_step_7(line):
    if line.startswith("step  7/"):
        raise Stop


@pytest.mark.parametrize("name", TINY)
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_it_learns_and_resumes(name, precision, windows, settings, tmp_path):
    config = dataclasses.replace(TINY[name], vocab_size=64)
    models = [build_model(config, seed=0) for _ in range(3)]
    # No norm or residual stream carries the signal through an LSTM: it starts slowly.
    options = {"precision": precision, "log_every": 1, "learning_rate": 0.1 if name == "lstm" else 0.01}
    whole = train(models[0], *windows, settings(**options), tmp_path / "whole", log=lambda line: None)
    with pytest.raises(Stop):
        train(models[1], *windows, settings(**options), tmp_path / "cut", log=stop_at_step_7)
    result = train(models[2], *windows, settings(**options), tmp_path / "cut", log=lambda line: None)

    records = [[{k: v for k, v in r.items() if k not in TIMES} for r in read_records(one.metrics_path)] for one in (whole, result)]
    assert records[0] == records[1] and len(records[0]) == 12
    assert records[0][-1]["valid_loss"] < records[0][0]["loss"] - 0.05
    for a, b in zip(models[0].state_dict().values(), models[2].state_dict().values()):
        assert torch.equal(a, b)


def test_the_loop_balances_the_experts(windows, settings, tmp_path):
    """Each step moves each expert's bias by the rate, up or down."""
    model = build_model(dataclasses.replace(TINY["deepseek_v3"], vocab_size=64), seed=0)
    assert isinstance(model, DeepseekV3)
    train(model, *windows, settings(steps=3, warmup_steps=0), tmp_path, log=lambda line: None)
    biases = [value for key, value in model.state_dict().items() if key.endswith("router.bias")]
    assert biases
    for bias in biases:
        assert bias.abs().max() <= 3 * 0.001 + 1e-7 and (bias != 0).any()
