"""What a run leaves for those who watch it: sample texts, the loss of each source, TensorBoard's event files."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from scratch_llm.data import Mixture, Windows
from scratch_llm.training import choose_dtype, evaluate
from scratch_llm.training.metrics import read_records

SAMPLES = "samples.jsonl"
#: Fields of a record that are figures to draw.
_CURVES = ("loss", "valid_loss", "bits_per_byte", "ema_valid_loss", "learning_rate", "grad_norm", "tokens_per_second", "mfu")


class RunLog:
    """The hooks of ``train``: ``on_step`` and ``on_eval``.

    Args:
        folder: of the run's work; takes ``samples.jsonl``, an object per evaluation: step, text, loss of each source.
        sample: gives one short generation of a model.
        valid: what is held out; of a mixture each part is evaluated by itself, too.
        precision, eval_batches: as in the training's settings.
        tensorboard: folder for event files; None: none are written.
    """

    def __init__(self, folder: Path, sample: Callable[[Any], str], valid: Windows | Mixture, *, precision: str = "auto",
                 eval_batches: int = 8, tensorboard: Path | None = None, log: Callable[[str], None] = print):
        self.folder, self.sample, self.log = folder, sample, log
        self.parts = valid.parts if isinstance(valid, Mixture) else {}
        self.precision, self.eval_batches = precision, eval_batches
        self.board = None if tensorboard is None else TensorBoard(tensorboard)

    def on_step(self, record: dict) -> None:
        if self.board is not None:
            self.board.add(record)

    def on_eval(self, model: Any, step: int) -> None:
        text = self.sample(model)
        self.log(f"  step {step}: {text}")
        losses = {}
        if self.parts:
            dtype = choose_dtype(self.precision, model.device)[0]
            losses = {name: evaluate(model, part, self.eval_batches, dtype)["valid_loss"] for name, part in self.parts.items()}
            self.log("  valid loss of " + ", ".join(f"{name} {loss:.4f}" for name, loss in losses.items()))
        self.folder.mkdir(parents=True, exist_ok=True)
        kept = [record for record in read_records(self.folder / SAMPLES) if record["step"] < step]
        lines = [*kept, {"step": step, "text": text, **({"sources": losses} if losses else {})}]
        (self.folder / SAMPLES).write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines), encoding="utf-8")
        if self.board is not None:
            self.board.add_sample(step, text, losses)

    def close(self) -> None:
        if self.board is not None:
            self.board.close()


class TensorBoard:
    """Event files of one run; steps that come again after a resumption or a step back replace those before."""

    def __init__(self, folder: Path):
        self.folder, self._writer, self._last = folder, None, 0

    def add(self, record: dict) -> None:
        step = record["step"]
        if self._writer is None or step <= self._last:
            self._open(step)
        self._last = step
        for name in _CURVES:
            if record.get(name) is not None:
                self._writer.add_scalar(name, record[name], step)
        if step % 20 == 0:
            self._writer.flush()

    def add_sample(self, step: int, text: str, losses: dict[str, float]) -> None:
        if self._writer is None:
            self._open(step)
        self._writer.add_text("sample", text, step)
        for name, loss in losses.items():
            self._writer.add_scalar(f"valid_loss_of/{name}", loss, step)
        self._writer.flush()

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()

    def _open(self, step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter  # seconds to import, and few need it

        self.close()
        self._writer = SummaryWriter(str(self.folder), purge_step=step, flush_secs=5)
