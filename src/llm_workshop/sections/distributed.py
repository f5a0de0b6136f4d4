"""Settings of training by several processes (week 5)."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from llm_workshop.sections.base import Section


class DistributedSettings(Section):
    processes: int = Field(1, ge=1, description="processes of `workshop pretrain` on this machine; the lab takes at least 2")
    strategy: Literal["ddp", "fsdp", "hand"] = Field("ddp", description="replicas, parts of the weights, or replicas by hand")
    timeout_seconds: float = Field(600.0, gt=0, description="how long a process waits for the others")
    steps: int = Field(24, ge=4, description="optimiser steps of each run in the lab")
