"""Serving: engines behind one small protocol, and the chat page that talks to them."""

from llm_workshop.serving.engine import ChatEngine, Delta, ModelInfo, PromptTooLongError, Sampling

__all__ = ["ChatEngine", "Delta", "ModelInfo", "PromptTooLongError", "Sampling"]
