"""Tables of the comparison: memory of large models by two of their blocks, and what rows say."""

import pytest
import torch

from llm_workshop.finetuning.compare_tables import MIB, memory_at_scale, memory_rows, plus_minus, result_rows
from scratch_llm.models import LlamaConfig, build_model
from scratch_llm.peft import LoRAConfig, inject, quantize_base, training_memory

CONFIG = LlamaConfig(vocab_size=50_000, context_length=64, n_layers=5, n_heads=8, n_kv_heads=4, d_model=512, d_ff=1024, tie_embeddings=False)


def test_two_blocks_tell_of_five():
    rows = {row["방법"]: row for row in memory_at_scale(CONFIG, 64, rank=4)}
    with torch.device("meta"):
        model = quantize_base(build_model(CONFIG).bfloat16())
        inject(model, LoRAConfig(rank=4, targets="all-linear"))
        whole = training_memory(model, torch.zeros(1, 64, dtype=torch.long))
    assert rows["QLoRA"]["합계"] == pytest.approx(whole.total / 2**30, abs=0.006)
    weights = build_model(CONFIG, seed=0).n_parameters()
    assert rows["모두"]["배우는 가중치"] == pytest.approx(4 * weights / 2**30, abs=0.006)
    assert rows["모두"]["옵티마이저"] == pytest.approx(8 * weights / 2**30, abs=0.006)
    assert rows["LoRA"]["얼린 가중치"] == pytest.approx(2 * weights / 2**30, abs=0.006)


def test_eight_billion_weights_fit_a_small_card_only_in_four_bits():
    rows = {row["방법"]: row["합계"] for row in memory_at_scale()}
    assert rows["모두"] > 110 and 16 < rows["LoRA"] < 24 and rows["QLoRA"] < 12


def test_rows_of_the_comparison():
    parts = {"frozen": 4 * MIB, "trained": MIB, "gradients": MIB, "optimizer": 2 * MIB, "activations": 3 * MIB}
    row = {"method": "lora", "title": "LoRA", "learning_rate": 0.002, "trainable": 1234, "accuracy": 0.875, "accuracy_spread": 0.0125, "macro_f1": 0.8,
           "macro_f1_spread": 0.02, "cost": {"counted": parts, "measured": {"seconds": 0.0125, "peak": 10 * MIB}}}  # fmt: skip
    [memory] = memory_rows([row])
    assert memory["합계"] == 11 and memory["잰 최고치"] == 10 and memory["활성값"] == 3
    [result] = result_rows([row])
    assert result["정확도"] == "87.5% ± 1.2%" and result["매크로 F1"] == "0.800 ± 0.020" and result["한 걸음 (ms)"] == 12.5 and result["배우는 파라미터"] == 1234 and result["학습률"] == "0.002"


def test_one_seed_has_no_spread():
    assert plus_minus(0.646, None) == "64.6%" and plus_minus(0.646, 0.0) == "64.6% ± 0.0%" and plus_minus(0.5, 0.25, ".3f") == "0.500 ± 0.250"
