"""bfloat16 only where it is faster, compile only where it pays; both say why."""

from __future__ import annotations

import pytest
import torch

from scratch_llm.training import choose_dtype, measure_matmul_peak, precision
from scratch_llm.training.precision import choose_compile


@pytest.fixture
def cpu_flags(monkeypatch):
    def pretend(*flags):
        monkeypatch.setattr(precision, "_cpu_flags", lambda: frozenset(flags))
        precision.bfloat16_units.cache_clear()

    yield pretend
    precision.bfloat16_units.cache_clear()


@pytest.mark.parametrize("flags, dtype, word", [
    (("avx2", "avx512f"), torch.float32, "no bfloat16 units"),
    (("avx512_bf16",), torch.bfloat16, "AVX-512"),
    (("avx512_bf16", "amx_bf16"), torch.bfloat16, "AMX"),
    ((), torch.float32, "no bfloat16 units"),
])
def test_auto_follows_the_cpu(flags, dtype, word, cpu_flags):
    cpu_flags(*flags)
    chosen, reason = choose_dtype("auto", "cpu")
    assert chosen == dtype and word in reason and "\n" not in reason


def test_explicit_precision_is_obeyed_without_the_units(cpu_flags):
    cpu_flags()
    assert choose_dtype("bfloat16")[0] == torch.bfloat16
    assert choose_dtype("float32")[0] == torch.float32


def test_unknown_precision():
    with pytest.raises(ValueError, match="choose 'auto', 'float32' or 'bfloat16'"):
        choose_dtype("float16")


def test_gpu_before_ampere_has_no_bfloat16_units(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (7, 5))
    precision.bfloat16_units.cache_clear()
    assert choose_dtype("auto", "cuda")[0] == torch.float32
    precision.bfloat16_units.cache_clear()


def test_flags_of_an_arm_processor(monkeypatch):
    text = "processor : 0\nFeatures : fp asimd bf16 i8mm\n"
    monkeypatch.setattr(precision.Path, "read_text", lambda self, **_: text)
    precision._cpu_flags.cache_clear()
    try:
        assert "bf16" in precision._cpu_flags()
    finally:
        precision._cpu_flags.cache_clear()


@pytest.mark.parametrize("asked, seconds, before, compiled", [
    ("off", 1e6, None, False), ("on", 0, None, True), ("auto", 10, None, False), ("auto", 1e4, None, True),
    ("auto", 10, True, True), ("auto", 1e4, False, False)])
def test_compile(asked, seconds, before, compiled, monkeypatch):
    monkeypatch.setattr(precision, "find_compiler", lambda: "/usr/bin/g++")
    chosen, reason = choose_compile(asked, seconds, before)
    assert chosen == compiled and "\n" not in reason


def test_compile_without_a_compiler(monkeypatch):
    monkeypatch.setattr(precision, "find_compiler", lambda: None)
    assert choose_compile("auto", 1e6)[0] is False
    with pytest.raises(ValueError, match=r"install g\+\+ or set compile=off"):
        choose_compile("on", 0)


def test_peak_is_above_what_any_single_size_reaches_in_a_fair_try():
    """The peak is a speed in FLOP/s: a 512-cube product cannot beat it by much, nor fall 1000 times below."""
    peak = measure_matmul_peak("cpu", torch.float32, seconds=0.15)
    assert 1e8 < peak < 1e15
