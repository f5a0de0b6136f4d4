"""The comparison from end to end on a small model, the libraries included, and its pictures."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from llm_workshop.quantization.comparison import (
    BASE,
    METHODS,
    Result,
    Text,
    check_methods,
    compare,
    decoding_speeds,
)
from llm_workshop.quantization.peers import PEERS, held_bytes, load_plain
from llm_workshop.quantization.plots import speed_plot, spread, trade_plot
from scratch_llm.models import GPT2Config, LlamaConfig, build_model
from scratch_llm.quantization import model_bytes

CONFIGS = {
    # 128 inputs: ModelOpt's int4 has groups of so many.
    "llama": LlamaConfig(vocab_size=256, context_length=64, n_layers=1, n_heads=4, n_kv_heads=2, d_model=128, d_ff=256),
    "gpt2": GPT2Config(vocab_size=256, context_length=64, n_layers=1, n_heads=4, d_model=128),
}
METHODS_OF = {"llama": METHODS, "gpt2": ("int8", "awq-int4", "bnb-int8", "bnb-nf4", "torchao-int8", "modelopt-smoothquant", "modelopt-awq-int4")}


def ids(n, seed):
    return torch.randint(0, 256, (n, 33), generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module", params=CONFIGS)
def compared(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    model = build_model(CONFIGS[request.param], seed=0).to(torch.bfloat16).eval()
    with torch.no_grad():  # a model that predicts something, so that errors show
        model.embedding.weight.mul_(5)
        for weight in model.blocks.parameters():
            if weight.dim() == 2:
                weight.mul_(5)
    model.save_pretrained(folder)
    held_out = ids(4, 1)
    text = Text([(held_out[:, :-1], held_out[:, 1:])], np.full(256, 2), [ids(4, 2)], held_out[:1, :16])
    lines: list[str] = []
    results = compare(folder, model, METHODS_OF[request.param], text, 32, say=lines.append, n_tokens=4)
    return request.param, model, folder, {result.name: result for result in results}, lines


def test_every_method_is_judged_and_said(compared):
    name, _, _, results, lines = compared
    assert list(results) == [BASE, *[m for m in METHODS_OF[name] if m not in PEERS], "transformers",
                             *[m for m in METHODS_OF[name] if m in PEERS]]  # fmt: skip
    assert len(lines) == len(METHODS_OF[name])
    for result in results.values():
        assert 0 < result.bits_per_byte < 100 and result.megabytes > 0 and result.divergence > -1e-6


def test_the_same_weights_say_the_same_in_transformers(compared):
    results = compared[3]
    assert abs(results["transformers"].loss_percent) < 0.3 and results["transformers"].divergence < 1e-2
    assert results["transformers"].megabytes == pytest.approx(results[BASE].megabytes, rel=1e-6)


def test_int8_of_ours_and_of_the_libraries_lie_close_and_fewer_bits_further(compared):
    name, _, _, results, _ = compared
    for method in ("int8", "bnb-int8", "torchao-int8"):
        assert results[method].divergence < 0.02
        assert results[method].megabytes == pytest.approx(results["int8"].megabytes, rel=0.03)
    assert results["int8"].megabytes < 0.75 * results[BASE].megabytes
    for method in set(results) & set(PEERS):  # GPT-2's layers are of a class of their own in transformers: found all the same
        assert results[method].megabytes < 0.75 * results[BASE].megabytes and results[method].divergence > 1e-6, method
    few = "int4" if name == "llama" else "awq-int4"
    assert results[few].megabytes < results["int8"].megabytes and results[few].divergence > results["int8"].divergence
    if name == "llama":
        assert results["int3"].divergence > results["int4"].divergence
        assert results["int8-tensor"].weight_snr_db < results["int8"].weight_snr_db < results["int8-group"].weight_snr_db
        assert results["int4"].weight_snr_db > results["int3"].weight_snr_db


def test_only_what_computes_in_fewer_bits_has_a_speed(compared):
    name, _, _, results, _ = compared
    timed = {method for method, result in results.items() if result.tokens_per_second is not None}
    assert all(results[method].tokens_per_second > 0 and results[method].prefill_ms > 0 for method in timed)
    assert {BASE, "int8", "bnb-int8", "bnb-nf4", "torchao-int8", "transformers"} <= timed
    if name == "llama":
        assert {"int8-tensor", "int8-affine", "int8-group", "int3", "gptq-int3", "modelopt-smoothquant", "modelopt-awq-int4"}.isdisjoint(timed)


def test_bytes_of_a_plain_model_are_the_same_by_both_counts(compared):
    _, model, folder, _, _ = compared
    assert held_bytes(load_plain(folder)) == model_bytes(model)


def test_methods_are_checked():
    assert check_methods(None) == METHODS and check_methods(["int4", "int8"]) == ("int8", "int4")
    with pytest.raises(ValueError, match=r"quantize.methods has int5; choose among int8-tensor, int8"):
        check_methods(["int8", "int5"])


def test_speeds_of_a_model():
    speeds = decoding_speeds(build_model(CONFIGS["llama"]).to(torch.bfloat16), 32)
    assert list(speeds) == [BASE, "int8", "int4", "int8-head"] and all(speed > 0 for speed in speeds.values())


def test_pictures_name_all_that_they_show(tmp_path):
    results = [
        Result(BASE, "bf16 (기준)", False, 30.0, 1.0, tokens_per_second=500.0),
        Result("int8", "int8, 채널마다", False, 17.0, 1.001, loss_percent=0.1, tokens_per_second=700.0),
        Result("int3", "3비트", False, 10.0, 1.2, loss_percent=20.0),
        Result("transformers", "transformers bf16", True, 30.0, 1.0, tokens_per_second=100.0),
        Result("bnb-nf4", "nf4", True, 11.0, 1.01, loss_percent=-0.05, tokens_per_second=80.0),
    ]
    words = "\n".join(text.get_text() for text in trade_plot(results).axes[0].texts)
    assert all(title in words for title in ("bf16 (기준)", "int8, 채널마다", "3비트", "nf4")) and "transformers" not in words
    axes = speed_plot(results).axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["bf16 (기준)", "int8, 채널마다", "transformers bf16", "nf4"]
    assert [text.get_text() for text in axes.texts] == ["500 (1.00배)", "700 (1.40배)", "100 (1.00배)", "80 (0.80배)"]


def test_names_that_are_too_close_are_spread_around_their_places():
    assert spread([0.9, 0.5, 0.1], 0.1) == pytest.approx([0.9, 0.5, 0.1])
    assert spread([0.5, 0.5, 0.5], 0.1) == pytest.approx([0.6, 0.5, 0.4])
    assert spread([0.9, 0.52, 0.5], 0.1) == pytest.approx([0.9, 0.56, 0.46])
    assert spread([1.2, 1.0, -0.1], 0.1) == pytest.approx([1.0, 0.9, 0.0]), "within the axes"
    assert spread([0.5] * 5, 0.5) == pytest.approx([1.0, 0.75, 0.5, 0.25, 0.0]), "too many share the room"
