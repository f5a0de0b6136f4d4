"""An OpenAI-compatible endpoint in front of engines: ``python -m llm_workshop.serving.gateway --help``."""

from llm_workshop.serving.gateway.app import create_app
from llm_workshop.serving.gateway.limits import Limits
from llm_workshop.serving.gateway.run import run_gateway

__all__ = ["Limits", "create_app", "run_gateway"]
