"""Training: the loop, and what it is made of."""

from scratch_llm.training.adamw import AdamW, parameter_groups
from scratch_llm.training.config import TrainingConfig, TrainingResult
from scratch_llm.training.evaluation import evaluate
from scratch_llm.training.loop import train
from scratch_llm.training.matmul_peak import matmul_peak, measure_matmul_peak
from scratch_llm.training.precision import choose_dtype
from scratch_llm.training.schedule import cosine_with_warmup

__all__ = [
    "AdamW",
    "TrainingConfig",
    "TrainingResult",
    "choose_dtype",
    "cosine_with_warmup",
    "evaluate",
    "matmul_peak",
    "measure_matmul_peak",
    "parameter_groups",
    "train",
]
