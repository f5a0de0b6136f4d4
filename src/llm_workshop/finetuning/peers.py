"""The same adapter trained by Hugging Face: PEFT in ``transformers.Trainer``, or in TRL's ``SFTTrainer``.

Weights, adapter, batches and optimiser are those of a run of ``scratch_llm.training.train``, so the losses must be too.
"""

from __future__ import annotations

import contextlib
import json
import logging
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from scratch_llm.data import IGNORE, Windows
from scratch_llm.models import load_model
from scratch_llm.peft import LoRAConfig, inject, save_adapter
from scratch_llm.training import TrainingConfig, train

LIBRARIES = ("peft", "trl")


def constant_config(steps: int, batch_size: int, learning_rate: float, **others: Any) -> TrainingConfig:
    """Training at one learning rate from the first step to the last: schedules differ between libraries by one step."""
    return TrainingConfig(steps=steps, batch_size=batch_size, learning_rate=learning_rate, min_learning_rate=learning_rate,
                          warmup_steps=0, precision="float32", compile="off", **others)  # fmt: skip


def peer_losses(base: str | Path, adapter: str | Path, windows: Windows, config: TrainingConfig, library: str = "peft") -> list[float]:
    """The training loss of every step, in nats.

    Args:
        base: the model's folder in Hugging Face format, with its tokenizer.
        adapter: its adapter before the first step, from ``scratch_llm.peft.save_adapter``.
        windows: batch ``n`` is for step ``n``.
        config: as for ``train``; the learning rate must be the same in all steps (``constant_config``).
        library: one of ``LIBRARIES``.

    Raises:
        ValueError: an unknown library, a learning rate that changes, or training in another precision than float32.
    """
    _check(config, library)
    with quiet():
        import peft
        from transformers import AutoModelForCausalLM, PrinterCallback

        model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32, use_cache=False)
        model = peft.PeftModel.from_pretrained(model, str(adapter), is_trainable=True)
        with tempfile.TemporaryDirectory() as folder:
            trainer = _trainer(library, model, base, _rows(windows, config.steps), config, folder)
            trainer.remove_callback(PrinterCallback)
            trainer.train()
    return trainer.losses


def compare_libraries(base: str | Path, tokenizer: Any, texts: Sequence[str], steps: int = 20, *, rank: int = 8, batch_size: int = 4,
                      length: int = 48, learning_rate: float = 2e-3, seed: int = 0) -> dict[str, list[float]]:  # fmt: skip
    """LoRA beside all matrices of the model in ``base``, learning to go on with ``texts``: the losses by library.

    The keys are "scratch_llm", "PEFT" and "TRL"; weights, adapter, batches and optimiser are the same.
    """
    windows = _TextRows(tokenizer, texts, batch_size, length, steps)
    config = constant_config(steps, batch_size, learning_rate, seed=seed, eval_batches=1, eval_every=steps, weight_decay=0.01)
    with tempfile.TemporaryDirectory() as folder:
        model = load_model(base).to("cuda" if torch.cuda.is_available() else "cpu")
        torch.manual_seed(seed)
        inject(model, LoRAConfig(rank=rank, targets="all-linear"))
        save_adapter(model, f"{folder}/adapter")
        result = train(model, windows, windows, config, f"{folder}/run", log=lambda line: None)
        curves = {"scratch_llm": [json.loads(line)["loss"] for line in result.metrics_path.read_text().splitlines()]}
        for library, title in (("peft", "PEFT"), ("trl", "TRL")):
            curves[title] = peer_losses(base, f"{folder}/adapter", windows, config, library)
    return curves


class _TextRows:
    """Windows for ``train``: texts one behind the other, cut into rows; from the beginning again where they end."""

    token_file = None

    def __init__(self, tokenizer: Any, texts: Sequence[str], batch_size: int, length: int, n_batches: int):
        self.batch_size, self.context_length, self.n_batches = batch_size, length, n_batches
        tokens = [token for text in texts for token in (tokenizer.eos_id, *tokenizer.encode(text, allow_special=False))]
        needed = batch_size * n_batches * (length + 1)
        self._rows = torch.tensor((tokens * -(-needed // len(tokens)))[:needed]).view(n_batches, batch_size, length + 1)

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        rows = self._rows[step % self.n_batches]
        return rows[:, :-1].contiguous(), rows[:, 1:].contiguous()


def _check(config: TrainingConfig, library: str) -> None:
    if library not in LIBRARIES:
        raise ValueError(f"library {library!r} is unknown: use {' or '.join(LIBRARIES)}")
    if config.min_learning_rate != config.learning_rate or config.warmup_steps:
        raise ValueError(
            f"the learning rate goes from {config.learning_rate} to {config.min_learning_rate} with {config.warmup_steps} steps of "
            "warm-up: compare libraries at a constant one (constant_config)"
        )
    if config.precision != "float32":
        raise ValueError(f"precision is {config.precision}: compare libraries in float32, where they round alike")


def trainer_arguments(config: TrainingConfig, folder: str) -> dict[str, Any]:
    """``TrainingArguments`` for the rows in their order, one learning rate, our AdamW, and nothing written or logged."""
    return {
        "output_dir": folder, "max_steps": config.steps, "per_device_train_batch_size": config.batch_size,
        "train_sampling_strategy": "sequential", "learning_rate": config.learning_rate, "lr_scheduler_type": "constant",
        "adam_beta1": config.betas[0], "adam_beta2": config.betas[1], "weight_decay": config.weight_decay,
        "max_grad_norm": config.grad_clip, "optim": "adamw_torch_fused", "use_cpu": not torch.cuda.is_available(), "bf16": False,
        "report_to": [], "save_strategy": "no", "logging_strategy": "no", "disable_tqdm": True, "seed": config.seed,
    }  # fmt: skip


def _trainer(library: str, model: Any, base: str | Path, rows: list[dict], config: TrainingConfig, folder: str) -> Any:
    """A trainer of that library with a list ``losses`` that it fills."""
    from datasets import Dataset
    from transformers import AutoTokenizer, Trainer, TrainingArguments

    arguments = {**trainer_arguments(config, folder), "activation_checkpointing": False}
    data = Dataset.from_list(rows)
    if library == "peft":
        return recording(Trainer)(model=model, args=TrainingArguments(**arguments), train_dataset=data, data_collator=_pad)
    from trl import SFTConfig, SFTTrainer

    settings = SFTConfig(**arguments, max_length=None, packing=False)
    return recording(SFTTrainer)(
        model=model, args=settings, train_dataset=data, processing_class=AutoTokenizer.from_pretrained(base), data_collator=_pad
    )


def recording(trainer: type) -> type:
    """A subclass that notes each step's loss, which the logs have rounded."""

    class Recording(trainer):
        def training_step(self, *arguments: Any, **options: Any) -> Tensor:
            if not hasattr(self, "losses"):
                self.losses: list[float] = []
            loss = super().training_step(*arguments, **options)
            self.losses.append(loss.item())
            return loss

    Recording.__name__ = trainer.__name__
    return Recording


def _rows(windows: Windows, n_batches: int) -> list[dict[str, list[int]]]:
    """The rows of the batches in order.  Hugging Face's models shift by one themselves: their labels are the tokens."""
    rows = []
    for number in range(n_batches):
        inputs_BT, targets_BT = windows.batch(number)
        # After the last input comes its target, or anything where that is not learnt.
        last_B1 = targets_BT[:, -1:].where(targets_BT[:, -1:] != IGNORE, inputs_BT[:, -1:])
        tokens = torch.cat([inputs_BT, last_B1], dim=1).tolist()
        labels = torch.cat([torch.full_like(last_B1, IGNORE), targets_BT], dim=1).tolist()
        rows += [{"input_ids": row, "labels": learnt} for row, learnt in zip(tokens, labels)]
    return rows


def _pad(rows: Sequence[dict[str, list[int]]]) -> dict[str, Tensor]:
    """A batch; rows of a batch of ours are equally long already."""
    batch = {name: torch.tensor([row[name] for row in rows]) for name in ("input_ids", "labels")}
    return batch | {"attention_mask": torch.ones_like(batch["input_ids"])}


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without the libraries' progress bars and advice (on importing them, too), whose levels are put back."""
    logging.disable(logging.WARNING)
    import datasets
    import transformers

    level, bars = transformers.logging.get_verbosity(), datasets.is_progress_bar_enabled()
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)
        transformers.logging.set_verbosity(level)
        if bars:
            datasets.enable_progress_bars()
