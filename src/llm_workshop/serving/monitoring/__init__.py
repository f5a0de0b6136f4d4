"""Watching a served model: Triton's metrics read and remembered, a page that draws them, the server's memory."""

from llm_workshop.serving.monitoring.history import Monitor, Point
from llm_workshop.serving.monitoring.metrics import Metrics, parse_metrics, read_metrics
from llm_workshop.serving.monitoring.processes import MemoryReading, ServerProcesses

__all__ = ["MemoryReading", "Metrics", "Monitor", "Point", "ServerProcesses", "parse_metrics", "read_metrics"]
