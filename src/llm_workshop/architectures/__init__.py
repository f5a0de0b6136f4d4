"""Architectures side by side: the same parameters, corpus and token budget."""

from llm_workshop.architectures.shapes import ARCHITECTURES, equal_config
from llm_workshop.architectures.trial import run_trials

__all__ = ["ARCHITECTURES", "equal_config", "run_trials"]
