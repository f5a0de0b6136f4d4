"""One contender of ``adapters.py`` in a process of its own; the weights and the adapter come from files.

    python benchmarks/adapters_worker.py ours FOLDER bf16 0 16 256    # or "theirs"; then as for worker.py
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent))

from worker import Process, answer_questions, our_step, peer_step, take_output


class AdapterWorker(Process):
    def __init__(self, whose: str, folder: str | Path, mode: str, compiled: bool, shape: tuple[int, int]):
        super().__init__([sys.executable, __file__, whose, str(folder), mode, str(int(compiled)), *map(str, shape)])


def build(whose: str, folder: Path, mode: str, compiled: bool, rows: int):
    """Step (inputs, targets) -> loss, and the model."""
    adapter = folder / "adapter"
    if whose == "ours":
        from scratch_llm.models import load_model
        from scratch_llm.peft import load_adapter

        model = load_model(folder / "base").train()
        if adapter.is_dir():
            load_adapter(model, adapter)
        return our_step(model, mode, compiled, rows), model
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder / "base", dtype=torch.float32, use_cache=False)
    if adapter.is_dir():
        import peft

        model = peft.PeftModel.from_pretrained(model, adapter, is_trainable=True)
    return peer_step(model, lambda tokens: model(tokens).logits, mode, compiled), model


def work(whose: str, folder: str, mode: str, compiled: str, rows: str, context_length: str) -> None:
    answers = take_output()
    step, model = build(whose, Path(folder), mode, compiled == "1", int(rows))
    facts = {"learnt": sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)}
    answer_questions(answers, step, (int(rows), int(context_length)), model.config.vocab_size, mode, facts)


if __name__ == "__main__":
    work(*sys.argv[1:])
