"""The ladder of speed: how a training step is computed, one change a rung, with nothing else altered.

A step of the lowest rung is what one writes first: attention with all its scores, a loss over all logits, an optimiser that
goes through the weights one by one, a document a row, padded.  Each rung changes one thing and keeps those below it; the
last one is the step of ``scratch_llm.training.train``.  ``losses`` proves that a change is one of speed alone.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from scratch_llm.data import IGNORE, TokenFile, Windows
from scratch_llm.data.windows import permuted
from scratch_llm.layers.attention import GroupedQueryAttention, clear_attention
from scratch_llm.models import build_model
from scratch_llm.training import AdamW, TrainingConfig, parameter_groups
from scratch_llm.training.allocator import keep_freed_memory
from scratch_llm.training.gradients import gradients, loss_function
from scratch_llm.training.precision import bfloat16_units, find_compiler

LEARNING_RATE = 1e-3
PAD_TO = 64


@dataclass(frozen=True)
class Method:
    """How a step is computed; what it computes is the same for all, but for ``packed``."""

    attention: str = "written"
    """"written" (all scores), "library" (F.scaled_dot_product_attention), "own" (what the model chooses)."""
    chunked_loss: bool = False
    fused_optimizer: bool = False
    packed: bool = False
    """Rows of whole documents, instead of one document a row and padding."""
    whole_batch: bool = False
    """All rows in one forward pass, instead of a few at a time."""
    padded_vocabulary: bool = False
    keep_memory: bool = False
    tf32: bool = False
    bfloat16: bool = False
    pinned: bool = False
    compiled: bool = False

    @property
    def tolerance(self) -> float:
        """Largest difference in nats from the written-out step in float32 that is rounding, and not a mistake.

        float32 has 24 bits and bfloat16 8; TF32 has 11.  Padding adds words that are possible but never right: at first
        they take ln(V'/V) of the probability at most, which is added by whoever knows V.
        """
        return 0.02 if self.bfloat16 else 2e-3 if self.tf32 else 5e-5


@dataclass(frozen=True)
class Rung:
    """One change: its name in settings, its title, what it changes, and why a machine may lack it."""

    name: str
    title: str
    change: dict[str, Any]
    missing: Callable[[str], str] = lambda device: ""
    """Device type -> why this rung is left out; "" where it is there."""


def _only_cuda(device: str) -> str:
    return "" if device == "cuda" else "GPU에만 있습니다"


def _only_cpu(device: str) -> str:
    return "" if device == "cpu" else "CPU를 위한 커널입니다"


RUNGS = (
    Rung("naive", "처음 쓴 그대로", {}),
    Rung("tf32", "TF32 행렬 곱", {"tf32": True}, _only_cuda),
    Rung("sdpa", "라이브러리의 어텐션 (SDPA)", {"attention": "library"}),
    Rung("blocks", "블록 어텐션 (우리 것)", {"attention": "own"}, _only_cpu),
    Rung("loss", "로짓을 다 만들지 않는 손실", {"chunked_loss": True}),
    Rung("adamw", "한 번에 도는 AdamW (fused)", {"fused_optimizer": True}),
    Rung("packing", "패딩 없이 채우기 (packing)", {"packed": True}),
    Rung("batch", "한 번에 배치 전체", {"whole_batch": True}),
    Rung("vocabulary", f"어휘를 {PAD_TO}의 배수로", {"padded_vocabulary": True}),
    Rung("memory", "놓아준 메모리 되쓰기", {"keep_memory": True}, _only_cpu),
    Rung("pinned", "고정 메모리에서 보내기", {"pinned": True}, _only_cuda),
    Rung("bfloat16", "bfloat16 행렬 곱", {"bfloat16": True},
         lambda device: "" if bfloat16_units(device) else "bfloat16 연산 장치가 없습니다"),
    Rung("compile", "torch.compile", {"compiled": True}, lambda device: "" if find_compiler() else "C++ 컴파일러가 없습니다"),
)  # fmt: skip


def choose_rungs(names: tuple[str, ...], device: str) -> tuple[list[Rung], dict[str, str]]:
    """(the rungs to climb, in the ladder's order; why others are left out, by title).  No names: all that are there.

    Raises:
        ValueError: a name that is no rung; a rung that this machine does not have.
    """
    known = {rung.name: rung for rung in RUNGS}
    if unknown := [name for name in names if name not in known]:
        raise ValueError(f"unknown rung '{unknown[0]}' in speed.rungs: use {', '.join(known)}")
    missing = {rung.name: reason for rung in RUNGS if (reason := rung.missing(device))}
    if names and (asked := [name for name in names if name in missing]):
        raise ValueError(f"the rung '{asked[0]}' of speed.rungs is not on this machine ({missing[asked[0]]}): leave it out")
    chosen = [rung for rung in RUNGS if rung.name not in missing and (not names or rung.name in (*names, "naive"))]
    return chosen, {known[name].title: reason for name, reason in missing.items()}


def method_of(rungs: list[Rung], name: str) -> Method:
    """The changes of all rungs up to ``name``."""
    method = Method()
    for rung in rungs:
        method = dataclasses.replace(method, **rung.change)
        if rung.name == name:
            return method
    raise ValueError(f"no rung '{name}' among {', '.join(rung.name for rung in rungs)}")


def reference_of(method: Method) -> Method:
    """The written-out step over the same rows, which a rung's losses are compared with."""
    return Method(packed=method.packed)


class PaddedDocuments:
    """One document a row, cut to the context, the rest of the row padding: what ``Windows`` packs together."""

    def __init__(self, token_file: TokenFile, context_length: int, batch_size: int, seed: int = 0):
        self.token_file, self.context_length, self.batch_size, self.seed = token_file, context_length, batch_size, seed

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        """Inputs and targets, int64 (batch_size, context_length); padding's targets are -100."""
        ends, n = self.token_file.document_ends, self.token_file.n_documents
        inputs = torch.zeros(self.batch_size, self.context_length, dtype=torch.int64)
        targets = torch.full_like(inputs, IGNORE)
        for row in range(self.batch_size):
            epoch, place = divmod(step * self.batch_size + row, n)
            document = int(permuted(torch.tensor([place]).numpy(), n, (self.seed, epoch))[0])
            start = 0 if document == 0 else int(ends[document - 1])
            length = min(int(ends[document]) - start, self.context_length)
            ids = torch.from_numpy(self.token_file.tokens[start : start + length].astype("int64"))
            inputs[row, :length], targets[row, : length - 1] = ids, ids[1:]
        return inputs, targets


class _WrittenAttention(GroupedQueryAttention):
    """All scores, masked, softmax, product: a matrix of T x T per head is kept for the backward pass."""

    def forward(self, x_BTD: Tensor, rotary=None, *_, **__) -> Tensor:
        B, T, _ = x_BTD.shape
        q, k, v = (part.transpose(1, 2) for part in self._project(x_BTD, rotary))
        y_BHTd = clear_attention(q, k, v, scale=self.scale, window=self.window)
        return self.out(y_BHTd.transpose(1, 2).reshape(B, T, self.n_heads * self.head_dim))


class _LibraryAttention(GroupedQueryAttention):
    """``F.scaled_dot_product_attention`` wherever the model would take its own kernel."""

    def _in_blocks(self, *_) -> bool:
        return False


_ATTENTION = {"written": _WrittenAttention, "library": _LibraryAttention, "own": GroupedQueryAttention}


def ladder_model(config: Any, method: Method, seed: int) -> nn.Module:
    """The model of a rung: the same weights for all, the words that pad the vocabulary beginning at 0."""
    config = dataclasses.replace(config, dropout=0.0) if getattr(config, "dropout", 0) else config
    model = build_model(config, seed=seed)
    if method.padded_vocabulary:
        weights = model.state_dict()
        padded = build_model(dataclasses.replace(config, vocab_size=padded_size(config.vocab_size)), seed=seed)
        for name, tensor in padded.state_dict().items():
            tensor.zero_()
            tensor[tuple(slice(0, size) for size in weights[name].shape)] = weights[name]
        model = padded
    for module in model.modules():
        if type(module) is GroupedQueryAttention:
            module.__class__ = _ATTENTION[method.attention]
    return model


def padded_size(vocab_size: int) -> int:
    return -(-vocab_size // PAD_TO) * PAD_TO


class LadderStep:
    """Training steps by one method; each call does one and returns (loss, tokens learnt from)."""

    def __init__(self, model: nn.Module, method: Method, token_file: TokenFile, batch_size: int, small_batch: int, seed: int = 0):
        if batch_size % small_batch:
            raise ValueError(f"speed.small_batch {small_batch} does not divide speed.batch_size {batch_size}: choose a divisor")
        self.model, self.method = model.train(), method
        self.device = next(model.parameters()).device
        context = model.config.context_length
        rows = Windows(token_file, context, batch_size, seed=seed, packing="documents") if method.packed else None
        self.windows = rows or PaddedDocuments(token_file, context, batch_size, seed=seed)
        self.config = TrainingConfig(steps=1, batch_size=batch_size, micro_batch_size=batch_size if method.whole_batch else small_batch)
        groups = parameter_groups(model, self.config.weight_decay)
        kind, extra = (torch.optim.AdamW, {"fused": True}) if method.fused_optimizer else (AdamW, {})
        self.optimizer = kind(groups, lr=LEARNING_RATE, betas=self.config.betas, **extra)
        self.compute_loss = self._loss_function()
        self.n_done = 0

    def _loss_function(self) -> Callable[[Tensor, Tensor], Tensor]:
        dtype = torch.bfloat16 if self.method.bfloat16 else torch.float32
        if self.method.chunked_loss:
            return loss_function(self.model, self.device, dtype, self.method.compiled)

        def whole(inputs: Tensor, targets: Tensor) -> Tensor:
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.method.bfloat16):
                logits = self.model(inputs)
            return F.cross_entropy(logits.float().flatten(0, 1), targets.flatten())

        return torch.compile(whole) if self.method.compiled else whole

    def __call__(self) -> tuple[float, int]:
        inputs, targets = self.windows.batch(self.n_done)
        if self.method.pinned:
            inputs, targets = inputs.pin_memory(), targets.pin_memory()
        loss, _ = gradients(self.compute_loss, self.model, (inputs, targets), self.config)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.n_done += 1
        return loss, int((targets != IGNORE).sum())


@contextlib.contextmanager
def machine_as(method: Method) -> Iterator[None]:
    """What is set for the whole process: products in TF32, memory that is kept (which stays so)."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high" if method.tf32 else "highest")
    if method.keep_memory:
        keep_freed_memory()
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def measure(step: LadderStep, compare_steps: int, steps: int) -> dict[str, Any]:
    """Losses of the first steps, which also warm up, then the speed of the others (the median step)."""
    with machine_as(step.method):
        started = time.perf_counter()
        losses = [step()[0] for _ in range(compare_steps)]
        warm_up, speeds, seconds = time.perf_counter() - started, [], []
        for _ in range(steps):
            start = time.perf_counter()
            _, n_tokens = step()  # reads the loss out, so it waits for a GPU
            seconds.append(time.perf_counter() - start)
            speeds.append(n_tokens / seconds[-1])
    return {"losses": losses, "tokens_per_second": sorted(speeds)[len(speeds) // 2], "step_seconds": sorted(seconds)[len(seconds) // 2],
            "warm_up_seconds": warm_up}


def largest_difference(losses: list[float], reference: list[float]) -> float:
    """Of two courses of the loss, in nats; infinite where one is no number."""
    gaps = [abs(mine - theirs) for mine, theirs in zip(losses, reference, strict=True)]
    return max(gap if math.isfinite(gap) else math.inf for gap in gaps)


def allowed_difference(method: Method, vocab_size: int) -> float:
    """The method's tolerance, and what the words that pad the vocabulary may take."""
    return method.tolerance + (math.log(padded_size(vocab_size) / vocab_size) if method.padded_vocabulary else 0.0)
