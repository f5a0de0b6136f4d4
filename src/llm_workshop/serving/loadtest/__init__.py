"""Load for a served model: clients that ask at once, what they waited for, and whether every token is accounted for."""

from llm_workshop.serving.loadtest.accounting import Account, settled_metrics
from llm_workshop.serving.loadtest.drive import closed_loop, open_loop
from llm_workshop.serving.loadtest.records import Job, Load, Record, read_records, write_records
from llm_workshop.serving.loadtest.soak import SoakReport, soak
from llm_workshop.serving.loadtest.summary import Percentiles, Summary, summarise
from llm_workshop.serving.loadtest.workload import uniform_jobs

__all__ = [
    "Account", "Job", "Load", "Percentiles", "Record", "SoakReport", "Summary", "closed_loop", "open_loop",
    "read_records", "settled_metrics", "soak", "summarise", "uniform_jobs", "write_records",
]  # fmt: skip
