"""The same instruction tuning by Hugging Face: TRL's ``SFTTrainer``, or ``transformers.Trainer``.

They get conversations, not tokens: the chat template in the tokenizer's folder renders them, marks what the assistant says,
and the library masks and pads.  Weights, order and optimiser are those of a run of ``train``, so the losses must be too.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from llm_workshop.finetuning.peers import quiet, recording, trainer_arguments
from scratch_llm.data import IGNORE
from scratch_llm.finetuning.instruction import InstructionWindows
from scratch_llm.training import TrainingConfig

LIBRARIES = ("transformers", "trl")


def instruction_losses(base: str | Path, windows: InstructionWindows, config: TrainingConfig, library: str = "trl") -> list[float]:
    """The training loss of every step, in nats, of full fine-tuning in float32 at a constant learning rate.

    Args:
        base: the model's folder in Hugging Face format, with a tokenizer that has the chat template.
        windows: their examples in their order; one a row, whole, in the chat template, only answers learnt.
        config: as for ``train`` (``peers.constant_config``).

    Raises:
        ValueError: an unknown library, or packed windows.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer, PrinterCallback

    if library not in LIBRARIES:
        raise ValueError(f"library {library!r} is unknown: use {' or '.join(LIBRARIES)}")
    if windows.layout == "packed":
        raise ValueError("packed rows are compared one example a row: give windows with layout=grouped or padded")
    conversations = [[dict(message) for message in row[0].example.prompt] + [dict(row[0].example.messages[-1])]
                     for step in range(config.steps) for row in windows.rows_of(step)]  # fmt: skip
    with quiet(), tempfile.TemporaryDirectory() as folder:
        model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32, use_cache=False)
        tokenizer = AutoTokenizer.from_pretrained(base)
        # A text begins with the token that ends the one before it.
        tokenizer.chat_template = "{{- '" + tokenizer.eos_token + "' -}}" + tokenizer.chat_template
        trainer = _trainer(library, model, tokenizer, conversations, config, folder)
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    return trainer.losses


def _trainer(library: str, model: Any, tokenizer: Any, conversations: list[list[dict]], config: TrainingConfig, folder: str) -> Any:
    from datasets import Dataset
    from transformers import Trainer, TrainingArguments

    arguments = trainer_arguments(config, folder)
    if library == "trl":
        from trl import SFTConfig, SFTTrainer

        settings = SFTConfig(**arguments, max_length=None, packing=False, assistant_only_loss=True, activation_checkpointing=False)
        data = Dataset.from_list([{"messages": messages} for messages in conversations])
        return recording(SFTTrainer)(model=model, args=settings, train_dataset=data, processing_class=tokenizer)
    rows = [_labelled(tokenizer, messages) for messages in conversations]
    return recording(Trainer)(model=model, args=TrainingArguments(**arguments), train_dataset=Dataset.from_list(rows), data_collator=_pad)


def _labelled(tokenizer: Any, messages: list[dict]) -> dict[str, list[int]]:
    rendered = tokenizer.apply_chat_template(messages, return_dict=True, return_assistant_tokens_mask=True)
    ids, marks = rendered["input_ids"], rendered["assistant_masks"]
    return {"input_ids": ids, "labels": [token if mark else IGNORE for token, mark in zip(ids, marks)]}


def _pad(rows: Sequence[dict[str, list[int]]]) -> dict[str, Tensor]:
    """A batch, filled up on the right."""
    longest = max(len(row["input_ids"]) for row in rows)
    filled = {"input_ids": 0, "labels": IGNORE}
    batch = {name: torch.tensor([row[name] + [fill] * (longest - len(row[name])) for row in rows]) for name, fill in filled.items()}
    return batch | {"attention_mask": torch.tensor([[1] * len(r["input_ids"]) + [0] * (longest - len(r["input_ids"])) for r in rows])}
