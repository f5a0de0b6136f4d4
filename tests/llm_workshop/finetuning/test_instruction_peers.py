"""The same instruction tuning by TRL's SFTTrainer: it renders, masks and pads conversations itself, and has our losses."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from support.parity import spread_out
from support.tiny_configs import TINY, resized

from llm_workshop.finetuning.instruction_peers import LIBRARIES, instruction_losses
from llm_workshop.finetuning.peers import constant_config
from scratch_llm.finetuning.instruction import InstructionWindows, PackedTexts, prepare
from scratch_llm.finetuning.templates import Example
from scratch_llm.models import build_model, load_model
from scratch_llm.tokenizers import SPECIAL_TOKENS, ByteLevelBPE
from scratch_llm.training import train

STEPS, BATCH = 20, 4


@pytest.fixture(scope="module")
def tokenizer():
    return ByteLevelBPE.train(["질문과 아주 짧은 답"] * 9, 275, SPECIAL_TOKENS)


def conversations(n: int) -> list[Example]:
    """Of different length; some with a system turn, some of two exchanges."""
    random, examples = np.random.default_rng(0), []
    for i in range(n):
        talk = [{"role": "system", "content": "짧게"}] if i % 3 == 0 else []
        for _ in range(1 + (i % 4 == 0)):
            talk += [{"role": "user", "content": "질문 " * int(random.integers(1, 4))}, {"role": "assistant", "content": "답" * int(random.integers(1, 4))}]
        examples.append(Example(tuple(talk), id=str(i)))
    return examples


def ours(base, tokenizer, layout, tmp_path, learn="answers") -> tuple[list[float], InstructionWindows]:
    rows, count = prepare(conversations(STEPS * BATCH), tokenizer, 64, learn=learn)
    assert count.kept == STEPS * BATCH and not count.shortened
    windows = InstructionWindows(rows, 64, BATCH, seed=2, layout=layout)
    model = load_model(base)
    learner = PackedTexts(model) if layout == "packed" else model
    config = constant_config(STEPS, BATCH, 1e-2)
    result = train(learner, windows, windows, config, tmp_path / layout, log=lambda line: None)
    return [json.loads(line)["loss"] for line in result.metrics_path.read_text().splitlines()], windows


@pytest.fixture(params=["llama", "gpt2"])
def base(request, tokenizer, tmp_path):
    model = spread_out(build_model(resized(TINY[request.param], vocab_size=tokenizer.vocab_size), seed=0), 0.05)
    model.save_pretrained(tmp_path / "base")
    tokenizer.save(tmp_path / "base")
    return tmp_path / "base"


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("layout", ["grouped", "padded"])
def test_losses_are_ours(base, library, layout, tokenizer, tmp_path):
    pytest.importorskip(library)
    losses, windows = ours(base, tokenizer, layout, tmp_path)
    theirs = instruction_losses(base, windows, constant_config(STEPS, BATCH, 1e-2), library)
    assert len(losses) == len(theirs) == STEPS and losses[-1] < losses[0] - 0.5
    torch.testing.assert_close(torch.tensor(theirs), torch.tensor(losses), rtol=2e-5, atol=2e-5)


def test_learning_the_prompts_too_would_be_seen(base, tokenizer, tmp_path):
    """Guards the comparison itself."""
    losses, windows = ours(base, tokenizer, "grouped", tmp_path, learn="all")
    theirs = instruction_losses(base, windows, constant_config(3, BATCH, 1e-2), "transformers")
    assert abs(theirs[0] - losses[0]) > 1e-3


def test_packed_windows_are_refused(base, tokenizer, tmp_path):
    _, windows = ours(base, tokenizer, "packed", tmp_path)
    with pytest.raises(ValueError, match="layout=grouped"):
        instruction_losses(base, windows, constant_config(3, BATCH, 1e-2), "trl")
