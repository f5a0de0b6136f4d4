"""Utilisation and cost: figures worked out by hand, and published ones."""

from __future__ import annotations

import pytest
import torch
from support.tiny_configs import TINY

from scratch_llm.analysis import (
    active_parameters,
    cache_bytes,
    decode_bytes,
    device_named,
    fastest_decoding,
    mbu,
    mfu,
    published_config,
    six_n,
    total_parameters,
    training_run,
)
from scratch_llm.models import build_model


def test_mfu_by_hand():
    config = published_config("GPT-2 124M")
    # 6 x 123.5 M weights in matrices, and 12 L T D for attention.
    needed = 6 * (12 * 12 * 768**2 + 50257 * 768) + 12 * 12 * 1024 * 768
    assert mfu(config, 100_000, 312e12) == pytest.approx(100_000 * needed / 312e12)
    assert mfu(config, 800_000, 312e12, n_devices=8) == pytest.approx(mfu(config, 100_000, 312e12))
    assert mfu(config, 100_000, 312e12, 128) < mfu(config, 100_000, 312e12)


def test_mfu_of_llama_3_405b():
    """Grattafiori et al. 2024, table 4: 430 TFLOP/s on each of 8,192 H100 is an MFU of 43 %."""
    assert 430e12 / device_named("H100 SXM").peak(torch.bfloat16) == pytest.approx(0.43, abs=0.005)


def test_a_run_cannot_seem_faster_by_a_wrong_peak():
    """The trap this lab is about: an A100 at 40 % of its tensor cores' peak seems to reach 640 % of the float32 peak."""
    config, device = published_config("GPT-2 124M"), device_named("A100 SXM 40GB")
    speed = 0.4 * device.peak(torch.bfloat16) / build_model_flops(config)
    assert mfu(config, speed, device.peak(torch.bfloat16)) == pytest.approx(0.4)
    assert mfu(config, speed, device.peak(torch.float32)) == pytest.approx(6.4)


def build_model_flops(config) -> int:
    with torch.device("meta"):
        return build_model(config).flops_per_token()


DENSE = [name for name, config in TINY.items() if active_parameters(config) == total_parameters(config)]


@pytest.mark.parametrize("name", DENSE)
def test_decoding_reads_weights_once_and_every_cache(name):
    model = build_model(TINY[name], seed=0)
    # What is only looked up (an untied embedding, learned positions) is not read as a whole.
    tables = {id(module.weight): module.weight for module in model.modules() if isinstance(module, torch.nn.Embedding)}
    lookups = sum(table.numel() for table in tables.values() if table is not model.head_weight)
    one, many = (decode_bytes(model, 20, rows, torch.float32) for rows in (1, 8))
    assert one == 4 * (model.n_parameters() - lookups) + cache_bytes(model, 20, 1, torch.float32)
    assert many - one == cache_bytes(model, 20, 8, torch.float32) - cache_bytes(model, 20, 1, torch.float32)


def test_decoding_reads_the_experts_it_visits():
    config = TINY["qwen3_moe"]
    model = build_model(config)
    idle = model.n_parameters() - model.n_parameters(active=True)

    def weights(rows):
        return (decode_bytes(model, 1, rows) - cache_bytes(model, 1, rows)) // 2

    assert weights(1) == model.n_parameters(active=True)
    assert weights(2) > weights(1)
    # Six experts, two a row: from three rows on at most all of them are read.
    assert weights(3) == weights(100) == weights(1) + idle


def test_mbu_and_the_speed_limit_are_each_other():
    config, device = published_config("Llama 3.1 8B"), device_named("H100 SXM")
    speed, limit = fastest_decoding(config, device, 1000)
    assert limit == "memory" and 180 < speed < 230
    assert mbu(config, speed, device.bandwidth, 1000) == pytest.approx(1)
    batched, _ = fastest_decoding(config, device, 1000, 16)
    assert 12 * speed < batched < 16 * speed
    assert mbu(config, batched, device.bandwidth, 1000, 16) == pytest.approx(1)
    assert fastest_decoding(config, device, 16, 4096)[1] == "compute"


def test_cost_of_a_training_run():
    config, peak = published_config("Llama 3.1 8B"), device_named("H100 SXM").peak(torch.bfloat16)
    run = training_run(config, 15e12, peak, 8192, price_per_device_hour=2.0)
    assert run.rule_of_thumb == 15e12 * six_n(config)
    assert 1.1 < run.flops / run.rule_of_thumb < 1.5  # attention at 8,192 tokens
    assert run.device_hours == pytest.approx(run.flops / (0.4 * peak) / 3600)
    assert run.cost == pytest.approx(2 * run.device_hours)
    # Meta's model card says 1.46 million H100 hours for the 8B model on 15 T tokens: the same order, at a lower MFU.
    assert 0.3e6 < run.device_hours < 1.46e6
    eight = training_run(config, 15e12, peak, 8192, n_devices=8)
    assert eight.seconds == pytest.approx(run.seconds / 8) and eight.device_hours == pytest.approx(run.device_hours)
    assert eight.cost is None


def test_errors_name_the_value():
    config = TINY["llama"]
    with pytest.raises(ValueError, match="tokens_per_second is 0: it must be above 0"):
        mfu(config, 0, 1e12)
    with pytest.raises(ValueError, match="mfu is 40: it is a share, above 0 and at most 1"):
        training_run(config, 1e9, 1e12, mfu=40)
    with pytest.raises(ValueError, match="bandwidth is -1"):
        mbu(config, 10, -1, 5)
