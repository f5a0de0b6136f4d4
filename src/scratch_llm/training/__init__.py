"""Training: the loop, and what it is made of."""

from scratch_llm.training.adafactor import Adafactor
from scratch_llm.training.adamw import AdamW, parameter_groups
from scratch_llm.training.config import TrainingConfig, TrainingResult
from scratch_llm.training.evaluation import evaluate
from scratch_llm.training.loop import train
from scratch_llm.training.lr_finder import RangeTest, find_learning_rate
from scratch_llm.training.matmul_peak import matmul_peak, measure_matmul_peak
from scratch_llm.training.muon import Muon
from scratch_llm.training.optimizers import build_optimizer
from scratch_llm.training.precision import choose_dtype
from scratch_llm.training.schedule import cosine_with_warmup, learning_rate_at, one_cycle, warmup_stable_decay
from scratch_llm.training.weight_average import WeightAverage, with_weights

__all__ = [
    "Adafactor",
    "AdamW",
    "Muon",
    "RangeTest",
    "TrainingConfig",
    "TrainingResult",
    "WeightAverage",
    "build_optimizer",
    "choose_dtype",
    "cosine_with_warmup",
    "evaluate",
    "find_learning_rate",
    "learning_rate_at",
    "matmul_peak",
    "measure_matmul_peak",
    "one_cycle",
    "parameter_groups",
    "train",
    "warmup_stable_decay",
    "with_weights",
]
