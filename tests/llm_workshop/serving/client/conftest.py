from __future__ import annotations

import contextlib

import pytest

from llm_workshop.serving.client import Retry, Timeouts, TritonClient


@pytest.fixture
def connect():
    """``connect(fake, **options)``: a gRPC client of the fake server that waits little; closed at the end."""
    with contextlib.ExitStack() as stack:

        def make(fake, **options):
            options = {"protocol": "grpc", "retry": Retry(4, 0.01, 0.05), "timeouts": Timeouts(connect=2), **options}
            return stack.enter_context(TritonClient(fake.address, None, **options))

        yield make
