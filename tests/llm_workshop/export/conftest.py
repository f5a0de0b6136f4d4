"""A small Llama and a small GPT-2 with our tokenizer, trained on nothing but of every odd shape."""

from __future__ import annotations

import pytest
import torch

from llm_workshop.export import Checkpoint
from scratch_llm.models.gpt2 import GPT2, GPT2Config
from scratch_llm.models.llama import Llama, LlamaConfig
from scratch_llm.tokenizers import CHAT_TEMPLATE, SPECIAL_TOKENS, ByteLevelBPE
from scratch_llm.weights.huggingface import save_model

TEXTS = [
    "안녕하세요! 오늘은 2024년 11월 21일입니다. 김치찌개는 이렇게 끓여요.",
    "고양이가 GPU를 좋아해요ㅋㅋㅋ 정말 재밌다ㅠㅠ",
    "It's 3,000원이에요. Don't worry, we'll see 12345678.",
] * 6


def make_tokenizer(pattern: str = "korean") -> ByteLevelBPE:
    tokenizer = ByteLevelBPE.train(TEXTS, 345, SPECIAL_TOKENS, pattern=pattern)
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def make_checkpoint(folder, model, tokenizer) -> Checkpoint:
    save_model(model, folder)
    tokenizer.save(folder)
    return Checkpoint.open(folder)


@pytest.fixture(scope="session")
def tokenizer() -> ByteLevelBPE:
    return make_tokenizer()


@pytest.fixture(scope="session")
def llama(tmp_path_factory, tokenizer) -> Checkpoint:
    """Grouped heads, tied embeddings, a row more than the tokenizer needs."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=tokenizer.vocab_size + 7, context_length=64, n_layers=2, d_model=64, n_heads=4, n_kv_heads=2, d_ff=96,
        tie_embeddings=True, bos_token_id=tokenizer.eos_id, eos_token_id=tokenizer.eos_id,
    )  # fmt: skip
    return make_checkpoint(tmp_path_factory.mktemp("llama"), Llama(config), tokenizer)


@pytest.fixture(scope="session")
def gpt2(tmp_path_factory, tokenizer) -> Checkpoint:
    torch.manual_seed(1)
    config = GPT2Config(vocab_size=tokenizer.vocab_size, context_length=48, n_layers=2, d_model=64, n_heads=4)
    return make_checkpoint(tmp_path_factory.mktemp("gpt2"), GPT2(config), tokenizer)
