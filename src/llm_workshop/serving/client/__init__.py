"""Clients of the served model: text in, pieces of an answer out, over Triton's gRPC or HTTP."""

from llm_workshop.serving.client.answer import Answer, Retry
from llm_workshop.serving.client.client import TritonClient
from llm_workshop.serving.client.errors import UnreachableError
from llm_workshop.serving.client.triton_engine import TritonEngine
from llm_workshop.serving.client.watchdog import Timeouts

__all__ = ["Answer", "Retry", "Timeouts", "TritonClient", "TritonEngine", "UnreachableError"]
