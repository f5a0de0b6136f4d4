"""The stages of the main job: corpus -> tokenizer -> tokens -> base model -> generations.

Each ``build_*`` makes one artifact, or finds it up to date, and returns its folder;
``force`` builds it again all the same (None: if FORCE=1 is set).
"""

from llm_workshop.pipeline.corpus import build_corpus
from llm_workshop.pipeline.pretrain import build_base_model
from llm_workshop.pipeline.tokenizer import build_tokenizer
from llm_workshop.pipeline.tokens import build_tokens

__all__ = ["build_base_model", "build_corpus", "build_tokenizer", "build_tokens"]
