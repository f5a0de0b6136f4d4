"""The cost lab's measurement and tables."""

import pytest

from llm_workshop.architectures.costs import decoding_rows, memory_rows, mfu_rows, price_rows, training_speed
from llm_workshop.settings import load_settings
from scratch_llm.analysis import as_shapes, published_config

TINY = ("model.d_model=32", "model.n_layers=1", "model.context_length=32", "tokenizer.vocab_size=300")


def test_speed_and_its_mfu():
    speed = training_speed(load_settings("smoke", overrides=(*TINY, "pretrain.precision=float32")), "cpu", steps=4)
    assert speed.tokens_per_second > 0 and speed.config.d_model == 32 and speed.n_parameters > 300 * 32
    rows = mfu_rows(speed, "cpu")
    assert [row["판정"] for row in rows] == ["맞음", "계산을 적게 셈"] and all(row["MFU"].endswith("%") for row in rows)


def test_memory_and_where_it_fits():
    rows = memory_rows({"GPT-2 124M": published_config("GPT-2 124M")}, ("T4", "H200"), context=1024)
    assert [row["방법"] for row in rows] == ["전체", "전체 + 체크포인팅", "LoRA + 체크포인팅"]
    assert all(list(row.values())[-2:] == ["○", "○"] for row in rows)
    assert rows[0]["합 (GB)"] > rows[1]["합 (GB)"] > rows[2]["합 (GB)"]
    large = memory_rows({"70B": published_config("Llama 3.1 70B")}, ("T4", "H200"))[0]
    assert list(large.values())[-2:] == ["×", "×"]


def test_prices_and_walls():
    model = as_shapes(published_config("Llama 3.1 8B"))
    [row] = price_rows([(model, "8B", 15e12, "15조")], "H100 SXM", 2.5)
    assert row["정확한 FLOPs"] == "8.69e+23"
    assert float(row["시간당 2.5달러라면"].removesuffix("달러").replace(",", "")) == pytest.approx(2.5 * row["GPU 시간"], rel=1e-4)
    [row] = decoding_rows(model, ("H100 SXM",))
    assert row["배치 1"] == "219 토큰/초" and row["배치 64의 벽"] == "메모리"


def test_an_unknown_gpu_is_refused():
    with pytest.raises(ValueError, match="H999"):
        decoding_rows(as_shapes(published_config("GPT-2 124M")), ("H999",))
