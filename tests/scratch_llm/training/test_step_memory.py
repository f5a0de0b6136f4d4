"""The memory of a training step: told beforehand, held to what the allocator and the system count."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
import torch
from support.tiny_configs import TINY, resized

from scratch_llm.models import build_model
from scratch_llm.training import TrainingConfig
from scratch_llm.training.gradients import gradients, loss_function
from scratch_llm.training.optimizers import build_optimizer
from scratch_llm.training.step_memory import TOLERANCE, StepMemoryEstimate, optimizer_bytes

LARGER = {"vocab_size": 700, "context_length": 128, "n_layers": 3, "d_model": 96, "d_ff": 256}


def estimate(model, dtype=torch.float32, context_length=64, **config):
    return StepMemoryEstimate(model, TrainingConfig(**({"batch_size": 8} | config)), context_length, dtype)


def allocated_peak(model, config, tokens) -> int:
    """Bytes that torch's allocator held at the highest moment of a step, above what was there before."""
    optimizer = build_optimizer(model, config)
    compute_loss = loss_function(model, torch.device("cpu"), torch.float32, False)

    def step():
        gradients(compute_loss, model, (tokens, tokens), config)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    step()  # makes the optimiser's state
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        step()
    events = [event for event in profile.profiler.kineto_results.events() if event.name() == "[memory]"]
    now = highest = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        now += event.nbytes()
        highest = max(highest, now)
    return highest


@pytest.mark.parametrize("micro", [8, 2])
@pytest.mark.parametrize("name", ["llama", "gpt2", "qwen3"])
def test_what_the_allocator_counts(name, micro):
    model = build_model(resized(TINY[name], **LARGER), seed=0).train()
    config = TrainingConfig(batch_size=8, micro_batch_size=micro)
    memory = StepMemoryEstimate(model, config, 128, torch.float32).of(micro)
    measured = allocated_peak(model, config, torch.randint(0, 700, (8, 128)))
    assert memory.peak - memory.weights - memory.optimizer == pytest.approx(measured, rel=TOLERANCE)


MEASURE = """
import json, sys, torch
from scratch_llm.models import LlamaConfig, build_model
from scratch_llm.process_memory import peak_resident_bytes, resident_bytes
from scratch_llm.training import TrainingConfig
from scratch_llm.training.allocator import keep_freed_memory
from scratch_llm.training.gradients import gradients, loss_function
from scratch_llm.training.optimizers import build_optimizer
from scratch_llm.training.step_memory import StepMemoryEstimate

batch, micro, checkpointing, dtype = json.loads(sys.argv[1])
torch.set_num_threads(1)
keep_freed_memory()
shape = {"vocab_size": 4096, "context_length": 256, "n_layers": 6, "n_heads": 8, "d_model": 256}
config, dtype = TrainingConfig(batch_size=batch, micro_batch_size=micro), getattr(torch, dtype)

def train(model, steps):
    optimizer, compute_loss = build_optimizer(model, config), loss_function(model, torch.device("cpu"), dtype, False)
    for _ in range(steps):
        tokens = torch.randint(0, 64, (batch, 256))
        gradients(compute_loss, model, (tokens, tokens), config)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

train(build_model(LlamaConfig(**shape | {"vocab_size": 64, "n_layers": 1, "d_model": 64})).train(), 1)  # loads the libraries
before = resident_bytes()
model = build_model(LlamaConfig(**shape)).train()
model.gradient_checkpointing = checkpointing
told = StepMemoryEstimate(model, config, 256, dtype).of(micro).resident
train(model, 2)
print(json.dumps([told, peak_resident_bytes() - before]))
"""


@pytest.mark.parametrize("case", [(8, 8, False, "float32"), (8, 4, True, "bfloat16")])
def test_what_the_system_counts(case):
    """A process of its own, as large as the laptop's model; what it grows by is what was told."""
    command = [sys.executable, "-c", MEASURE, json.dumps(case)]
    ran = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    assert ran.returncode == 0, ran.stderr
    told, measured = json.loads(ran.stdout)
    assert told == pytest.approx(measured, rel=TOLERANCE), (told / 2**20, measured / 2**20)


@pytest.mark.parametrize("name", TINY)
def test_any_number_of_rows_follows_from_two(name):
    """Activations of three and five rows, measured, are those that the line through one and two gives."""
    model = build_model(TINY[name], seed=0).train()
    told = estimate(model)
    for rows in (3, 5):
        assert told.of(rows).activations == pytest.approx(told._count(rows).total, rel=0.05 if name == "lstm" else 0.01)


def test_asking_changes_nothing():
    model = build_model(TINY["deepseek_v3"], seed=0).train()
    model.gradient_checkpointing = True
    before, state = [buffer.clone() for buffer in model.buffers()], torch.get_rng_state()
    estimate(model, torch.bfloat16)
    assert model.gradient_checkpointing and model.training and torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(a, b) for a, b in zip(before, model.buffers()))
    assert all(weight.grad is None for weight in model.parameters())


@pytest.mark.parametrize("optimizer", ["adamw", "muon", "adafactor"])
@pytest.mark.parametrize("name", ["llama", "deepseek_v3", "mamba"])
def test_the_optimisers_state_is_what_it_is(name, optimizer):
    model = build_model(TINY[name], seed=0).train()
    built = build_optimizer(model, TrainingConfig(optimizer=optimizer))
    tokens = torch.randint(0, 61, (2, 16))
    model(tokens, targets=tokens).backward()
    for weight in model.parameters():
        weight.grad = torch.zeros_like(weight) if weight.grad is None else weight.grad
    built.step()
    state = [value for values in built.state.values() for value in values.values() if torch.is_tensor(value) and value.dim()]
    assert optimizer_bytes(model, optimizer) == sum(tensor.nbytes for tensor in state)


def test_frozen_weights_have_no_state():
    model = build_model(TINY["llama"], seed=0).train()
    for weight in model.blocks[0].parameters():
        weight.requires_grad_(False)
    memory = estimate(model).of(8)
    learnt = sum(weight.nbytes for weight in model.parameters() if weight.requires_grad)
    assert (memory.gradients, memory.optimizer) == (learnt, 2 * learnt) and memory.weights > learnt


def test_the_largest_micro_batch_that_fits():
    model = build_model(resized(TINY["llama"], **LARGER), seed=0).train()
    told = estimate(model, batch_size=12, context_length=128)
    sizes = {rows: told.of(rows).to_come for rows in (1, 2, 3, 4, 6, 12)}
    assert sorted(sizes.values()) == list(sizes.values())
    for rows, needed in sizes.items():
        assert told.largest_that_fits(int(needed / 0.9) + 2) == (rows, told.of(rows))
    assert told.largest_that_fits(int(sizes[12] / 0.9) - 2)[0] == 6
    with pytest.raises(ValueError, match=r"a step on a single row takes \d+ MiB .* turn on gradient_checkpointing, take shorter"):
        told.largest_that_fits(int(sizes[1] / 0.9) - 2)
    model.gradient_checkpointing = True
    checkpointed = estimate(model, batch_size=12, context_length=128)
    assert checkpointed.of(12).activations < 0.6 * told.of(12).activations
    with pytest.raises(ValueError, match="train a smaller model"):
        checkpointed.largest_that_fits(0)
