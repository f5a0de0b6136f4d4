"""A training run of ours as the YAML recipe of NeMo AutoModel.

AutoModel's recipe ``TrainFinetuneRecipeForNextTokenPrediction`` does what our loop does: pretraining, fine-tuning, and
adapters (``peft``).  What has to be translated with care, so that both compute the same numbers, is told at each place.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from scratch_llm.io import atomic_write
from scratch_llm.training import TrainingConfig

#: Parameters that are not decayed, by AutoModel's names of them: norms and biases (``adamw.parameter_groups``).
VECTORS = r"norm|ln_|bias$"


@dataclass(frozen=True)
class LoRA:
    """Adapters beside the matrices whose Hugging Face names end in one of ``targets``."""

    rank: int = 8
    alpha: float = 16.0
    targets: tuple[str, ...] = ("q_proj", "k_proj", "v_proj", "o_proj")


@dataclass(frozen=True)
class Job:
    """One training run, whoever runs it: from which weights, on which tokens, how."""

    weights: Path
    """A checkpoint in Hugging Face format, with its tokenizer; the run begins from it."""
    tokens: Path
    """A token file (``scratch_llm.data``)."""
    context_length: int
    training: TrainingConfig
    packing: str = "documents"
    lora: LoRA | None = None
    processes: int = 1
    strategy: str = "ddp"
    """With several processes: ``ddp`` keeps the model whole on each, ``fsdp2`` shards it."""

    def __post_init__(self):
        config = self.training
        if config.steps < 2:
            raise ValueError(f"steps {config.steps}: the learning rate has a first and a last step, give 2 or more")
        if self.strategy not in ("ddp", "fsdp2"):
            raise ValueError(f"strategy {self.strategy!r} is unknown; choose 'ddp' or 'fsdp2'")
        if self.processes < 1 or config.batch_size % (config.micro_batch_size * self.processes):
            raise ValueError(
                f"batch_size {config.batch_size} is no multiple of micro_batch_size {config.micro_batch_size} times "
                f"{self.processes} processes: make it larger, or micro_batch_size smaller"
            )
        # What our loop has learnt beyond this recipe has no counterpart in it.
        for name, only in (("optimizer", "adamw"), ("schedule", "cosine"), ("z_loss", 0), ("ema_decay", None)):
            if (value := getattr(config, name, only)) not in (only, None, 0):
                raise ValueError(f"{name} {value!r} cannot be said in AutoModel's recipe here: use {only!r}")


def recipe(job: Job, folder: Path, *, gpu: bool = False) -> dict[str, Any]:
    """The recipe as plain values; ``folder`` takes its checkpoints and logs."""
    config, bfloat16 = job.training, job.training.precision == "bfloat16"
    values = {
        "recipe": "TrainFinetuneRecipeForNextTokenPrediction",
        "seed": config.seed,
        "dist_env": {"backend": "nccl" if gpu else "gloo", "timeout_minutes": 5},
        "distributed": {"strategy": job.strategy, "dp_size": "none", "tp_size": 1, "cp_size": 1},
        "model": {
            "_target_": "nemo_automodel.NeMoAutoModelForCausalLM.from_pretrained",
            "pretrained_model_name_or_path": str(Path(job.weights).resolve()),
            # Here the weights themselves are of that type; our loop keeps them in float32 and multiplies in bfloat16.
            "torch_dtype": "bfloat16" if bfloat16 else "float32",
            "attn_implementation": "sdpa",
        },
        "step_scheduler": {
            "global_batch_size": config.batch_size,
            "local_batch_size": config.micro_batch_size,
            "max_steps": config.steps,
            "num_epochs": 1,
            "ckpt_every_steps": config.steps,
        },
        "dataset": {
            "_target_": "llm_workshop.automodel.dataset.TrainingWindows",
            "path": str(Path(job.tokens).resolve()),
            "context_length": job.context_length,
            "batch_size": config.batch_size,
            "steps": config.steps,
            "seed": config.seed,
            "packing": job.packing,
        },
        "dataloader": {
            "_target_": "torchdata.stateful_dataloader.StatefulDataLoader",
            "collate_fn": "llm_workshop.automodel.dataset.stack",
            "shuffle": False,
            "num_workers": 0,
        },
        # A sum over the targets divided by their number in the whole step, as ours.
        "loss_fn": {"_target_": "nemo_automodel.components.loss.masked_ce.MaskedCrossEntropy"},
        "optimizer": {
            "_target_": "torch.optim.AdamW",
            "lr": config.learning_rate,
            "betas": list(config.betas),
            "eps": 1e-8,
            "weight_decay": config.weight_decay,
            "fused": True,
            "param_group_overrides": [{"pattern": VECTORS, "wd_mult": 0.0}],
        },
        "lr_scheduler": learning_rates(config),
        "clip_grad_norm": {"max_norm": config.grad_clip},
        "checkpoint": {
            "enabled": True,
            "checkpoint_dir": str(Path(folder).resolve()),
            "model_save_format": "safetensors",
            "save_consolidated": "final",
        },
    }
    if job.strategy == "fsdp2":  # which otherwise multiplies in bfloat16 whatever the model's type
        values["distributed"]["mp_policy"] = {
            "_target_": "torch.distributed.fsdp.MixedPrecisionPolicy",
            "param_dtype": "bfloat16" if bfloat16 else "float32",
            "reduce_dtype": "float32",
            "cast_forward_inputs": False,
        }
    if job.lora is not None:
        del values["optimizer"]["param_group_overrides"]  # adapters are matrices
        values["peft"] = {
            "_target_": "nemo_automodel.components._peft.lora.PeftConfig",
            "target_modules": [f"*{target}" for target in job.lora.targets],
            "dim": job.lora.rank,
            "alpha": job.lora.alpha,
            "dropout": 0.0,
            "use_triton": False,
        }
    return values


def learning_rates(config: TrainingConfig) -> dict[str, Any]:
    """AutoModel's ``lr_scheduler`` that gives every step the learning rate of ``cosine_with_warmup``.

    It counts from 0 what we count from 1: its warm-up begins at ``init_lr`` with step 0 and reaches the peak at step
    ``lr_warmup_steps``, and its cosine ends at step ``lr_decay_steps``.  Ours begin at peak / warmup_steps, reach the
    peak at step warmup_steps - 1, and end at steps - 1.
    """
    warmup = config.warmup_steps
    return {
        "lr_decay_style": "cosine",
        "lr_warmup_steps": warmup - 1,
        "lr_decay_steps": max(config.steps - 1, warmup),
        "init_lr": config.learning_rate / max(1, warmup),
        "max_lr": config.learning_rate,
        "min_lr": config.min_learning_rate,
    }


def write_recipe(values: dict[str, Any], file: Path) -> Path:
    """The recipe as YAML, in the order in which one reads it."""
    Path(file).parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(Path(file)) as stream:
        yaml.safe_dump(values, stream, sort_keys=False, allow_unicode=True)
    return Path(file)
