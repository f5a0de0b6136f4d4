"""Stage 2: learn the byte-level BPE from the training documents."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from llm_workshop.artifacts import Artifacts
from llm_workshop.corpora.document import read_documents
from llm_workshop.pipeline.corpus import MEGABYTE
from llm_workshop.progress import progress_bar
from scratch_llm.tokenizers import SPECIAL_TOKENS, ByteLevelBPE


def build_tokenizer(artifacts: Artifacts, force: bool | None = None) -> Path:
    """Train on ``corpus/train.jsonl`` (its first ``train_megabytes``) and save in Hugging Face format."""
    settings = artifacts.settings.tokenizer
    artifacts.require("corpus")
    used = {"tokenizer": settings}
    if artifacts.skip_if_current("tokenizer", used, ["corpus"], force=force):
        return artifacts.path("tokenizer")
    with artifacts.write_stage("tokenizer", used, ["corpus"]) as stage:
        with progress_bar("learning merges", settings.vocab_size) as update:
            tokenizer = ByteLevelBPE.train(
                training_texts(artifacts),
                settings.vocab_size,
                SPECIAL_TOKENS,
                pattern=settings.pattern,
                tie_break=settings.tie_break,
                normalization=settings.normalization,
                progress=update,
            )
        tokenizer.save(stage.folder)
        stage.metrics.update(vocab_size=tokenizer.vocab_size, **measure(tokenizer, artifacts))
    return artifacts.path("tokenizer")


def training_texts(artifacts: Artifacts, split: str = "train") -> Iterator[str]:
    """Texts of the corpus, at most ``tokenizer.train_megabytes`` of them."""
    budget = artifacts.settings.tokenizer.train_megabytes * MEGABYTE
    for document in read_documents(artifacts.path("corpus") / f"{split}.jsonl"):
        yield document.text
        budget -= len(document.text.encode("utf-8", "surrogatepass"))
        if budget <= 0:
            return


def measure(tokenizer: ByteLevelBPE, artifacts: Artifacts) -> dict[str, float]:
    """Compression on held-out text: bytes per token, and tokens per 어절 (white-space separated word)."""
    texts = list(training_texts(artifacts, "valid"))
    tokens = sum(len(tokenizer.encode(text, allow_special=False)) for text in texts)
    n_bytes = sum(len(text.encode()) for text in texts)
    words = sum(len(text.split()) for text in texts)
    return {
        "bytes_per_token": round(n_bytes / max(tokens, 1), 4),
        "tokens_per_word": round(tokens / max(words, 1), 4),
    }
