"""A small corpus, tokenizer and token files for all experiments."""

import pytest

from llm_workshop.artifacts import Artifacts
from llm_workshop.pipeline import build_corpus, build_tokenizer, build_tokens
from llm_workshop.settings import load_settings

SMALL = ("corpus.megabytes=0.2", "tokenizer.vocab_size=400", "pretrain.precision=float32", "pretrain.eval_batches=1",
         "model.context_length=32", "model.d_model=32", "model.n_layers=1")  # fmt: skip


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """``small(*overrides)`` -> Artifacts over the same token files."""
    root = tmp_path_factory.mktemp("scaling")
    first = Artifacts(load_settings("smoke", overrides=SMALL), root)
    build_corpus(first)
    build_tokenizer(first)
    build_tokens(first)
    return lambda *overrides: Artifacts(load_settings("smoke", overrides=(*SMALL, *overrides)), root)
