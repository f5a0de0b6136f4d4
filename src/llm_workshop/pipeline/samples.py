"""Generations to look at: during pretraining, at the end of the demo, in the reports."""

from __future__ import annotations

from typing import Any

from llm_workshop.artifacts import Artifacts
from scratch_llm.generation import Generator, SamplingConfig
from scratch_llm.models import load_model
from scratch_llm.tokenizers import ByteLevelBPE, encode_chat

#: Asked of a model whose corpus has chat documents.
QUESTIONS = (
    "안녕하세요!",
    "김치찌개는 어떻게 끓여요?",
    "요즘 잠이 잘 안 와요. 어떻게 하면 좋을까요?",
    "부산에 가면 뭘 하면 좋을까요?",
    "고양이에 대해 알려 줘.",
    "짧은 이야기 하나 해 줘.",
)
#: Beginnings for a model that only continues text.
BEGINNINGS = ("오늘 아침에", "이 영화는", "우리 동네에는", "봄이 오면", "처음에는 몰랐지만", "결국")


def is_chat_corpus(artifacts: Artifacts) -> bool:
    """Whether the training documents hold conversations, so that the model can be asked questions."""
    return bool(artifacts.read_manifest("corpus")["metrics"]["train"]["kinds"].get("chat"))


def sampling_config(artifacts: Artifacts, **changes: Any) -> SamplingConfig:
    """``settings.generate`` as the generator takes it, with some values changed."""
    return SamplingConfig(**{**artifacts.settings.generate.model_dump(), "seed": artifacts.settings.seed, **changes})


def load_generator(artifacts: Artifacts) -> Generator:
    """The base model with its tokenizer, ready to generate."""
    folder = artifacts.require("base-model")
    return Generator(load_model(folder), ByteLevelBPE.load(folder))


def generate_samples(
    artifacts: Artifacts, prompts: list[str] | None = None, **changes: Any
) -> list[tuple[str, str]]:
    """``(prompt, continuation)`` for each prompt; questions go through the chat template.

    ``changes`` replace values of ``settings.generate``, for example ``temperature=0``.
    """
    chat = is_chat_corpus(artifacts)
    prompts = prompts or list(QUESTIONS if chat else BEGINNINGS)
    generator, sampling = load_generator(artifacts), sampling_config(artifacts, **changes)

    def answer(prompt: str) -> str:
        return "".join(generator.stream(_ids(generator.tokenizer, prompt, chat), sampling)).strip()

    return [(prompt, answer(prompt)) for prompt in prompts]


def sample_line(model: Any, tokenizer: ByteLevelBPE, chat: bool, max_new_tokens: int = 40) -> str:
    """One short greedy generation on one line, for the training log."""
    prompt = QUESTIONS[1] if chat else BEGINNINGS[0]
    sampling = SamplingConfig(max_new_tokens=max_new_tokens, temperature=0)
    text = "".join(Generator(model, tokenizer).stream(_ids(tokenizer, prompt, chat), sampling))
    return f"{prompt} → {' '.join(text.split()) or '(empty)'}"


def _ids(tokenizer: ByteLevelBPE, prompt: str, chat: bool) -> list[int]:
    """Token ids of a prompt as a document begins; the person's words never become special tokens."""
    if chat:
        body, _ = encode_chat(tokenizer, [{"role": "user", "content": prompt}], add_generation_prompt=True)
    else:
        body = tokenizer.encode(prompt, allow_special=False)
    return [tokenizer.eos_id, *body]
