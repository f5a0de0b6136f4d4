"""What the training loop asks of the processes that train together; here the answers of one process alone.

A rank is a process's number.  ``training.distributed`` has the answers of several: with replicas of the model (DDP) or
with parts of it (FSDP).  Every method is called by all ranks at the same place: most of them wait for one another.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from scratch_llm.training.config import TrainingConfig


class Ranks:
    """One process alone."""

    rank, size = 0, 1

    @property
    def is_first(self) -> bool:
        """Whether this process prints and writes files."""
        return self.rank == 0

    @property
    def seed_offset(self) -> int:
        """Added to the seed of dropout: ranks draw different masks, and rank 0 those of one process alone."""
        return self.rank << 40

    def check(self, config: TrainingConfig) -> None:
        """ValueError where the work cannot be shared out."""
        check_shares(config.batch_size, self.size)

    # -- the model ------------------------------------------------------------------------------------

    def learner(self, model: nn.Module) -> nn.Module:
        """The module whose parameters are optimised and saved: ``model``, or one that holds a part of its weights."""
        return model

    def training_module(self, learner: nn.Module) -> nn.Module:
        """What is called for the training loss: its backward pass also adds up the gradients of all ranks."""
        return learner

    def sync_gradients(self, learner: nn.Module, now: bool) -> AbstractContextManager:
        """Around forward and backward of a micro-batch; ``now`` is False where another one follows."""
        return contextlib.nullcontext()

    def clip_gradients(self, learner: nn.Module, limit: float) -> float:
        """Scale the gradient down to the norm ``limit``; return the norm before, that of the whole gradient."""
        return nn.utils.clip_grad_norm_(learner.parameters(), limit).item()

    def add_counts(self, learner: nn.Module) -> None:
        """Sum over ranks what modules count from step to step (their ``counts``, names of buffers)."""

    @contextlib.contextmanager
    def whole_model(self, learner: nn.Module, model: nn.Module) -> Iterator[nn.Module]:
        """``model`` with all the weights of this moment, to be used by rank 0 alone."""
        yield model

    def give_back(self, learner: nn.Module, model: nn.Module) -> None:
        """Put what the learner has learnt into ``model``, on every rank: the end of the training."""

    # -- the data -------------------------------------------------------------------------------------

    def rows(self, part: Tensor) -> Tensor:
        """This rank's rows of a batch that all of them have."""
        return part.chunk(self.size)[self.rank] if self.size > 1 else part

    def deal(self, numbers: Sequence[int]) -> list[tuple[int, bool]]:
        """This rank's share of some batches: (number, whether it counts).

        Equally many for each rank, as a sharded model can only be called by all together: who has no further batch takes
        part with one that does not count.
        """
        rounds = -(-len(numbers) // self.size)
        places = [turn * self.size + self.rank for turn in range(rounds)]
        return [(numbers[place], True) if place < len(numbers) else (numbers[0], False) for place in places]

    # -- numbers --------------------------------------------------------------------------------------

    def sum(self, *values: float) -> list[float]:
        """Each value summed over the ranks, in float64."""
        return list(values)

    def any(self, flag: bool) -> bool:
        """Whether it holds on some rank."""
        return bool(self.sum(float(flag))[0]) if self.size > 1 else flag

    def wait(self) -> None:
        """Until all are here."""
        self.any(False)

    # -- what is saved --------------------------------------------------------------------------------

    def whole(self, state: Any) -> Any:
        """``state`` (tensors in dicts and lists) as one process would have it; for rank 0 alone."""
        return state

    def load_optimizer(self, optimizer: torch.optim.Optimizer, state: dict) -> None:
        """Take over a whole optimiser state."""
        optimizer.load_state_dict(state)

    def parts(self, state: dict[str, Tensor], learner: nn.Module) -> dict[str, Tensor]:
        """This rank's parts of whole tensors that belong to the learner's parameters, by name."""
        return state

    # -- trouble --------------------------------------------------------------------------------------

    def watching(self, checkpoints: Path) -> AbstractContextManager:
        """Around the steps: where another rank is lost, an error says so in one line."""
        return contextlib.nullcontext()


def check_shares(batch_size: int, n_processes: int) -> None:
    """ValueError where a batch cannot be dealt out evenly; whoever starts the processes can ask before they run."""
    if batch_size % n_processes:
        raise ValueError(f"batch_size {batch_size} cannot be shared among {n_processes} processes; choose a "
                         f"multiple of {n_processes}, or another number of processes")


ALONE = Ranks()
