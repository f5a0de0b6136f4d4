"""One model, many ways to round it: every way judged by the same text and the same clock."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from llm_workshop.quantization.evaluation import (
    Batch,
    bits_per_byte,
    divergence,
    log_probabilities,
    weight_snr_db,
)
from llm_workshop.quantization.peers import PEERS, load_plain, quiet_libraries
from llm_workshop.timing import fastest_seconds
from scratch_llm.generation import SamplingConfig, generate_tokens
from scratch_llm.generation.packing import pack
from scratch_llm.models.base import LanguageModel
from scratch_llm.quantization import QuantizedLinear, model_bytes, quantizable, quantize_model, schemes

BASE, BASE_PEER, WITH_HEAD = "bf16", "transformers", "int8-head"
TITLES = {
    BASE: "bf16 (기준)",
    "int8-tensor": "int8, 텐서마다",
    "int8": "int8, 채널마다",
    "int8-affine": "int8, 채널마다, 비대칭",
    "int8-group": "int8, 그룹마다",
    WITH_HEAD: "int8, 출력층까지",
    "int8-dynamic": "동적 int8",
    "smoothquant": "SmoothQuant",
    "int4": "int4, 그룹마다",
    "awq-int4": "AWQ int4",
    "gptq-int4": "GPTQ int4",
    "int3": "3비트, 그룹마다",
    "awq-int3": "AWQ 3비트",
    "gptq-int3": "GPTQ 3비트",
    BASE_PEER: "transformers bf16",
    **{name: peer.title for name, peer in PEERS.items()},
}
"""Every method by name, in the order of the table."""
METHODS = tuple(name for name in TITLES if name not in (BASE, BASE_PEER))


@dataclass
class Result:
    """What was measured of one method."""

    name: str
    title: str
    library: bool
    megabytes: float
    bits_per_byte: float
    loss_percent: float = 0.0
    """Bits per byte above bfloat16's of the same runtime, in percent."""
    divergence: float = 0.0
    """KL divergence of the next token's distribution from bfloat16's, nats per token."""
    weight_snr_db: float | None = None
    seconds: float = 0.0
    """to quantise, calibration included"""
    tokens_per_second: float | None = None
    """None: it only simulates the rounding, or computes with restored weights."""
    prefill_ms: float | None = None


@dataclass
class Work:
    """A model at work: its result so far, and how to let it write."""

    result: Result
    generate: Callable[[int], Any] | None
    """Number of new tokens -> anything; None: not timed."""


@dataclass(frozen=True)
class Text:
    """What models are judged and calibrated by."""

    evaluation: Sequence[Batch]
    token_bytes: np.ndarray
    calibration: Sequence[Tensor]
    prompt: Tensor = field(repr=False)
    """(1, T): read before writing is timed."""


def check_methods(names: Sequence[str] | None) -> tuple[str, ...]:
    """The methods asked for, all if None; ValueError names what does not exist."""
    unknown = [name for name in names or () if name not in METHODS]
    if unknown:
        raise ValueError(f"quantize.methods has {', '.join(unknown)}; choose among {', '.join(METHODS)}")
    return METHODS if names is None else tuple(name for name in METHODS if name in names)


def compare(
    folder: Path, model: LanguageModel, methods: Sequence[str], text: Text, group_size: int, *,
    say: Callable[[str], None] = print, n_tokens: int = 33,
) -> list[Result]:
    """Results of bfloat16 and of ``methods``; then all that really compute in fewer bits are timed in turns.

    ``folder``: of ``model``, for the libraries.  ``model``: bfloat16, on the CPU.  ``n_tokens``: written at each timing.
    """
    works = [_judged(BASE, model, model, model_bytes(model), 0.0, text, _ours(model, text.prompt))]
    base = _Reference(model, works[0].result, text)
    for name in [name for name in methods if name not in PEERS]:
        works.append(_our_method(name, model, base, text, group_size))
        say(_line(works[-1].result))
    if any(name in PEERS for name in methods):
        works += _libraries(folder, [name for name in methods if name in PEERS], base, text, say)
    _time(works, n_tokens)
    return [work.result for work in works]


def decoding_speeds(model: LanguageModel, group_size: int) -> dict[str, float]:
    """Tokens per second of ``model`` in bfloat16, int8, int8 with its output layer, and int4; measured in turns."""
    prompt = torch.arange(16)[None] % model.config.vocab_size
    int8, int4 = (quantize_model(model, schemes(group_size)[name]) for name in ("int8", "int4"))
    ways = {BASE: _ours(model, prompt), "int8": _ours(int8, prompt), "int4": _ours(int4, prompt)}
    # A model of its own: one keeps only one packed copy.
    ways[WITH_HEAD] = _ours(quantize_model(model, schemes()["int8"]), prompt, "int8")
    works = [Work(Result(name, TITLES[name], False, 0.0, 0.0), generate) for name, generate in ways.items()]
    _time(works, n_tokens=65)
    return {work.result.name: work.result.tokens_per_second for work in works}


class _Reference:
    """What bfloat16 says of the first batch, and its bits per byte."""

    def __init__(self, model: Any, result: Result, text: Text):
        self.inputs = text.evaluation[0][0][:4]
        self.bits = result.bits_per_byte
        self.log_p = log_probabilities(_logits_of(model), self.inputs)

    def compare(self, result: Result, model: Any) -> None:
        result.loss_percent = 100 * (result.bits_per_byte / self.bits - 1)
        result.divergence = divergence(self.log_p, log_probabilities(_logits_of(model), self.inputs))


def _our_method(name: str, model: LanguageModel, base: _Reference, text: Text, group_size: int) -> Work:
    started = time.perf_counter()
    if name == WITH_HEAD:
        twin = quantize_model(model, schemes()["int8"])
        seconds = time.perf_counter() - started
        judge = pack(twin, 64, "int8")  # this is where the output layer becomes int8
        size = model_bytes(twin) + model.head_weight.numel() + 2 * len(model.head_weight)
        if model.lm_head is not None:
            size -= model.head_weight.nbytes
        work = _judged(name, model, twin, size, seconds, text, _ours(twin, text.prompt, "int8"), judge)
        base.compare(work.result, judge)
        return work
    twin = quantize_model(model, schemes(group_size)[name], text.calibration)
    seconds = time.perf_counter() - started
    layers = [layer for layer in twin.modules() if isinstance(layer, QuantizedLinear)]
    # A method counts as fast where no layer of it computes with restored weights.
    real = all(layer.execution != "restored" for layer in layers)
    work = _judged(name, model, twin, model_bytes(twin), seconds, text, _ours(twin, text.prompt) if real else None)
    base.compare(work.result, twin)
    return work


def _libraries(folder: Path, names: Sequence[str], base: _Reference, text: Text, say) -> list[Work]:
    with quiet_libraries():
        plain = load_plain(folder)
        first = _judged(BASE_PEER, None, plain, sum(p.nbytes for p in plain.parameters()), 0.0, text, _theirs(plain, text.prompt))
    base.compare(first.result, plain)
    works = [first]
    for name in names:
        started = time.perf_counter()
        with quiet_libraries():
            try:
                model, size = PEERS[name].build(folder, text.calibration)
            except ValueError as error:
                say(f"  {TITLES[name]}: {error}")
                continue
            seconds = time.perf_counter() - started
            timed = None if PEERS[name].simulated else _theirs(model, text.prompt)
            works.append(_judged(name, None, model, size, seconds, text, timed))
        base.compare(works[-1].result, model)
        say(_line(works[-1].result))
    return works


def _judged(name, original, model, size, seconds, text: Text, generate, judge=None) -> Work:
    bits = bits_per_byte(_logits_of(judge or model), text.evaluation, text.token_bytes)
    result = Result(name, TITLES[name], original is None, size / 1e6, bits, seconds=seconds)
    if original is not None and next(quantizable(model), None) is None:
        result.weight_snr_db = weight_snr_db(original, model)
    return Work(result, generate)


def _logits_of(model: Any) -> Callable[[Tensor], Tensor]:
    def logits(ids: Tensor) -> Tensor:
        out = model(ids)
        return out if isinstance(out, Tensor) else out.logits

    return logits


def _ours(model: LanguageModel, prompt: Tensor, weights: str = "same") -> Callable[[int], Any]:
    def generate(n: int) -> Any:
        return generate_tokens(model, prompt, SamplingConfig(max_new_tokens=n, temperature=0), stop_ids=(), weights=weights)

    return generate


def _theirs(model: Any, prompt: Tensor) -> Callable[[int], Any]:
    def generate(n: int) -> Any:
        with torch.inference_mode():
            return model.generate(
                prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=n, min_new_tokens=n, do_sample=False,
                pad_token_id=0,
            )

    return generate


def _time(works: Sequence[Work], n_tokens: int, rounds: int = 5, budget: float = 12.0) -> None:
    """Fills in the speeds.  Reading the prompt and one token is taken for prefill; the rest of the time is decoding."""
    room = [work for work in works if work.generate is not None]
    calls = {}
    for number, work in enumerate(room):
        calls[number, 1] = lambda work=work: work.generate(1)
        calls[number, n_tokens] = lambda work=work: work.generate(n_tokens)
    with quiet_libraries():
        seconds = fastest_seconds(calls, rounds, budget)
    for number, work in enumerate(room):
        prefill, whole = seconds[number, 1], seconds[number, n_tokens]
        work.result.prefill_ms = 1000 * prefill
        work.result.tokens_per_second = (n_tokens - 1) / max(whole - prefill, 1e-9)


def _line(result: Result) -> str:
    return (
        f"  {result.title:22} {result.megabytes:6.1f} MB  {result.bits_per_byte:.4f} 비트/바이트 ({result.loss_percent:+.2f} %)  "
        f"{result.seconds:.1f}초"
    )
