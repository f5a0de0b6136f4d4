"""`pytest labs/weekNN_topic/test_exercises.py` grades in this process; `make weekN-check` does it in isolation."""

from llm_workshop.learning.plugin import pytest_addoption, submission, submissions

__all__ = ["pytest_addoption", "submission", "submissions"]
