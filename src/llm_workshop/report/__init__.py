"""Reports: Markdown and PNG per step, joined into one self-contained HTML page."""

from llm_workshop.report.page import join_reports
from llm_workshop.report.report import Report

__all__ = ["Report", "join_reports"]
