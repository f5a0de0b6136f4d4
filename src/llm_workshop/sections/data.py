"""Settings of weeks 1 to 3: texts and tokenizers."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from llm_workshop.sections.base import Section


class HelloSettings(Section):
    hub_model: str | None = Field(None, description="model of the Hugging Face hub that week 1 runs besides; null = none")


class CorpusSettings(Section):
    megabytes: float | None = Field(None, gt=0, description="size of the sample, or cap on real data (MB); null = all")
    noise: float = Field(0.0, ge=0, le=1, description="share of sample documents that get labelled noise injected")
    kinds: tuple[str, ...] | None = Field(None, description="kinds of sample documents; null = all of them")
    curated: bool = Field(False, description="true: the corpus is what week 2 curated (make week2-dedup), not DATA as it is")


class CurationSettings(Section):
    recipe: str = Field("korean", description="rules of week 2: a built-in recipe, or the path of a YAML file")
    megabytes: float | None = Field(2.0, gt=0, description="size of the raw sample, or cap on real data (MB); null = all")
    noise: float = Field(0.3, ge=0, le=1, description="share of raw sample documents that get labelled noise")
    shard_megabytes: float = Field(8.0, gt=0, description="raw text in a shard, the unit that is redone after an interruption (MB)")
    workers: int | None = Field(None, ge=1, description="processes; null = one for each core")
    text_fields: tuple[str, ...] | None = Field(
        None, description="fields of JSON, CSV and Parquet records that hold the text, joined; null = text, document, content, body, sentence"
    )
    broken_share: float = Field(0.01, ge=0, le=1, description="broken records above this share stop the pipeline; below, they are set aside")


class TokenizerSettings(Section):
    vocab_size: int = Field(4096, ge=256, description="number of tokens, bytes and special tokens included")
    pattern: str = Field("korean", description="pre-tokenization pattern, a name known to ByteLevelBPE")
    tie_break: Literal["greatest_bytes", "least_ids"] = Field(
        "greatest_bytes", description="which of equally frequent pairs is merged first"
    )
    normalization: Literal["NFC"] | None = Field("NFC", description="Unicode normalisation before encoding")
    train_megabytes: float = Field(20.0, gt=0, description="at most this much text (MB) is used to learn the merges")


class CompareTokenizersSettings(Section):
    vocab_sizes: tuple[int, ...] = Field((1024, 2048, 4096, 8192, 16384, 32768), min_length=1, description="vocabulary sizes of the sweep (week 3)")
    tokenizers: tuple[str, ...] = Field(
        ("bpe", "wordpiece", "unigram", "morpheme-bpe", "hf-bpe", "hf-wordpiece", "hf-unigram", "sp-bpe", "sp-unigram"),
        min_length=1, description="tokenizers to compare",
    )
    models: tuple[str, ...] = Field(
        ("bytes", "bpe", "wordpiece", "unigram", "morpheme-bpe"), min_length=1, description="tokenizers on which a small model is trained"
    )
    train_megabytes: float = Field(4.0, gt=0, description="text from which every tokenizer learns (MB)")
    model_megabytes: float = Field(2.0, gt=0, description="text that every model reads once (MB)")
    valid_kilobytes: float = Field(200.0, gt=0, description="held-out text for all measurements (kB)")
    window_bytes: int = Field(512, ge=32, description="text in a training window (bytes), whatever the tokenizer makes of it")
    batch_size: int = Field(16, ge=1, description="windows per optimiser step")
    n_layers: int = Field(4, ge=1, description="Transformer blocks of the models")
    d_model: int = Field(128, ge=32, multiple_of=32, description="their width")
    learning_rate: float = Field(3e-3, gt=0, description="their peak learning rate")


class ExtendTokenizerSettings(Section):
    base_vocab_size: int = Field(8192, ge=257, description="how much of GPT-2's vocabulary is taken (all: 50257)")
    new_tokens: int = Field(2048, ge=1, description="Korean tokens that are added (week 3)")
    megabytes: float = Field(2.0, gt=0, description="text that the base model reads before the extension, and what new tokens are learnt from (MB)")
    steps: int = Field(200, ge=1, description="optimiser steps after the extension")
