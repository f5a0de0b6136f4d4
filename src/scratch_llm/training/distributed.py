"""Several processes train one model: data parallelism with replicas (DDP) or with parts of the weights (FSDP2).

Every process builds the same model and knows the same batches (they are functions of the step), takes its rows of each,
and adds up the gradients with the others.  A row weighs by its targets among those of the whole batch, so any number of
processes computes what one would: the losses differ by the order in which floats are added.

    with join_ranks("fsdp") as ranks:  # started by torchrun, or by scratch_llm.training.launch
        train(model, ..., ranks=ranks)

Sources: Li et al., "PyTorch Distributed" (2020) for DDP; Rajbhandari et al., "ZeRO" (2020) and Zhao et al., "PyTorch FSDP"
(2023) for the sharding.
"""

from __future__ import annotations

import contextlib
import copy
import gc
import os
import re
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel

from scratch_llm.training.all_reduce import ring_all_reduce
from scratch_llm.training.by_parameter import part_like, whole
from scratch_llm.training.ranks import ALONE, Ranks

STRATEGIES = ("ddp", "fsdp", "hand")
#: How gloo and NCCL say that another process is gone or silent.
_LOST = re.compile(r"closed by peer|reset by peer|timed? ?out|broken pipe|connection refused|socket|remote process|nccl|gloo",
                   re.IGNORECASE)
_FAILURE = "failure"  # key in the store under which the first rank that fails leaves its error
PARENT = "SCRATCH_LLM_LAUNCHER"  # variable with the id of the process that started the ranks


class RankLost(OSError):
    """Another process of the training has ended or does not answer."""


@contextlib.contextmanager
def join_ranks(strategy: str = "ddp", timeout_seconds: float = 600.0) -> Iterator[Ranks]:
    """Meet the processes that were started together; one process alone where nobody set RANK and WORLD_SIZE.

    gloo connects CPUs, NCCL GPUs (each process its own).  Whoever waits for another longer than ``timeout_seconds`` gives up.

    Raises:
        ValueError: unknown strategy.
        RankLost: not all came within the time.
    """
    if strategy not in STRATEGIES:
        raise ValueError(f"strategy {strategy!r} is unknown; choose one of {', '.join(STRATEGIES)}")
    if "RANK" not in os.environ or "WORLD_SIZE" not in os.environ:
        yield ALONE
        return
    _end_with_parent()
    device = rank_device()
    if device.type == "cuda":
        torch.cuda.set_device(device)
    timeout = timedelta(seconds=timeout_seconds)
    try:
        store, rank, size = next(dist.rendezvous("env://", timeout=timeout))
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo", store=dist.PrefixStore("group", store),
                                rank=rank, world_size=size, timeout=timeout)
    except RuntimeError as error:
        raise RankLost(f"not all of {os.environ['WORLD_SIZE']} processes met within {timeout_seconds:g} s at "
                       f"{os.environ.get('MASTER_ADDR')}:{os.environ.get('MASTER_PORT')} ({_first_line(error)})") from error
    kinds = {"ddp": ReplicatedRanks, "fsdp": ShardedRanks, "hand": HandMadeRanks}
    ranks = kinds[strategy](rank, size, device, store)
    with ranks.watching():
        yield ranks
    ranks.close()


def rank_device() -> torch.device:
    """Where this process computes: a GPU of its own, or the CPU where there are fewer GPUs than processes."""
    local, n_local = (int(os.environ.get(name, default)) for name, default in (("LOCAL_RANK", 0), ("LOCAL_WORLD_SIZE", 1)))
    return torch.device("cuda", local) if torch.cuda.device_count() >= n_local else torch.device("cpu")


class ReplicatedRanks(Ranks):
    """Each process has the whole model; gradients are averaged in buckets while the backward pass goes on (DDP)."""

    def __init__(self, rank: int, size: int, device: torch.device, store: dist.Store):
        self.rank, self.size, self.device, self._store = rank, size, device, store
        self._module: DistributedDataParallel | None = None

    def training_module(self, learner: nn.Module) -> nn.Module:
        # Its constructor gives all the weights of rank 0.  Buffers: add_counts knows which ones differ.
        with warnings.catch_warnings(action="ignore"):  # torch 2.13 has a new word for broadcast_buffers, 2.9 has not
            self._module = DistributedDataParallel(learner, broadcast_buffers=False, gradient_as_bucket_view=True)
        return self._module

    def sync_gradients(self, learner: nn.Module, now: bool) -> AbstractContextManager:
        return contextlib.nullcontext() if now else self._module.no_sync()

    def add_counts(self, learner: nn.Module) -> None:
        for module in learner.modules():
            for name in getattr(module, "counts", ()):
                dist.all_reduce(getattr(module, name))

    def sum(self, *values: float) -> list[float]:
        total = torch.tensor(values, dtype=torch.float64, device=self.device)
        dist.all_reduce(total)
        return total.tolist()

    def close(self) -> None:
        """Part from the others.  DDP's module goes first: were it the last to let go of the group of processes, it would end
        gloo's thread while it holds Python's lock, for which that thread may be waiting (torch 2.13)."""
        self._module = None
        gc.collect()
        dist.destroy_process_group()

    # -- trouble --------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def watching(self, checkpoints: Path | None = None) -> Iterator[None]:
        """Where a rank fails it leaves its error for the others; they stop at the next thing to do together."""
        try:
            yield
        except RankLost:
            raise
        except BaseException as error:
            if not (isinstance(error, RuntimeError) and _LOST.search(str(error))):
                self._leave_error(error)
                raise
            left = "" if checkpoints is None else f"; what was saved is in {checkpoints}: start again to go on from there"
            raise RankLost(f"process {self.rank} of {self.size} stops: {self._reason(error)}{left}") from error

    def _leave_error(self, error: BaseException) -> None:
        with contextlib.suppress(Exception):  # whoever keeps the store may be gone, too
            self._store.compare_set(_FAILURE, "", f"process {self.rank} failed: {_first_line(error)}")

    def _reason(self, error: RuntimeError) -> str:
        with contextlib.suppress(Exception):
            for _ in range(10):  # the closed connection may be seen before the error arrives
                if self._store.check([_FAILURE]):
                    return self._store.get(_FAILURE).decode()
                time.sleep(0.1)
        return f"another process ended or does not answer ({_first_line(error)})"


class HandMadeRanks(ReplicatedRanks):
    """The version to read: after the backward pass, one all-reduce of our own for each weight, one after the other.

    DDP does the same while the backward pass goes on, with many gradients in one message.
    """

    def learner(self, model: nn.Module) -> nn.Module:
        _copy_from_first(model)
        return model

    def training_module(self, learner: nn.Module) -> nn.Module:
        return learner

    def sync_gradients(self, learner: nn.Module, now: bool) -> AbstractContextManager:
        return contextlib.nullcontext()

    def clip_gradients(self, learner: nn.Module, limit: float) -> float:
        for parameter in learner.parameters():
            if parameter.grad is not None:
                ring_all_reduce(parameter.grad)
                parameter.grad /= self.size
        return super().clip_gradients(learner, limit)


class ShardedRanks(ReplicatedRanks):
    """Each process keeps its part of every weight, gradient and optimiser state (FSDP2, ZeRO's stage 3).

    A block's weights are gathered before it computes and dropped after it.  ``learner`` empties the model that it is given,
    whose weights come back with ``give_back``; checkpoints hold whole tensors, as one process writes them.
    """

    def learner(self, model: nn.Module) -> nn.Module:
        _copy_from_first(model)
        sharded = copy.deepcopy(model)
        mesh = init_device_mesh(self.device.type, (self.size,))
        for module in list(sharded.modules()):
            for block in getattr(module, "blocks", ()):
                fully_shard(block, mesh=mesh)
        # The outermost part, too, is dropped after it has computed: weights that are read or changed are always the parts.
        fully_shard(sharded, mesh=mesh, reshard_after_forward=True)
        _empty(model)
        return sharded

    def training_module(self, learner: nn.Module) -> nn.Module:
        return learner

    def sync_gradients(self, learner: nn.Module, now: bool) -> AbstractContextManager:
        learner.set_requires_gradient_sync(now)
        return contextlib.nullcontext()

    def clip_gradients(self, learner: nn.Module, limit: float) -> float:
        norm = nn.utils.clip_grad_norm_(learner.parameters(), limit)
        return whole(norm).item()

    @contextlib.contextmanager
    def whole_model(self, learner: nn.Module, model: nn.Module) -> Iterator[nn.Module]:
        _fill(model, learner, keep=self.is_first)
        try:
            yield model
        finally:
            _empty(model)

    def give_back(self, learner: nn.Module, model: nn.Module) -> None:
        _fill(model, learner, keep=True)

    def whole(self, state: Any) -> Any:
        if isinstance(state, DTensor):
            full = state.full_tensor()  # all ranks take part, and all but the first forget it
            return full.cpu() if self.is_first else None
        if isinstance(state, dict):
            return {key: self.whole(value) for key, value in state.items()}
        if isinstance(state, (list, tuple)):
            return type(state)(self.whole(value) for value in state)
        return state

    def load_optimizer(self, optimizer: torch.optim.Optimizer, state: dict) -> None:
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        parts = {number: {key: _part(value, parameters[number]) for key, value in values.items()}
                 for number, values in state["state"].items()}
        optimizer.load_state_dict({**state, "state": parts})

    def parts(self, state: dict[str, Tensor], learner: nn.Module) -> dict[str, Tensor]:
        parameters = dict(learner.named_parameters())
        return {name: _part(value, parameters.get(name)) for name, value in state.items()}


def _copy_from_first(model: nn.Module) -> None:
    """All begin with the weights of rank 0."""
    for tensor in (*model.parameters(), *model.buffers()):
        dist.broadcast(tensor.detach(), src=0)


def _part(value: Any, parameter: Tensor | None) -> Any:
    """This rank's part of a whole tensor that lies like ``parameter``; what has another shape stays as it is."""
    if not (isinstance(parameter, DTensor) and isinstance(value, Tensor) and value.shape == parameter.shape):
        return value
    return part_like(value, parameter)


@torch.no_grad()
def _fill(model: nn.Module, learner: nn.Module, keep: bool) -> None:
    """Gather the learner's weights into ``model``; ``keep`` False: only help the others to gather them."""
    theirs = dict(model.named_parameters())
    for name, parameter in learner.named_parameters():
        full = parameter.full_tensor() if isinstance(parameter, DTensor) else parameter.detach().clone()
        if keep:
            theirs[name].data = full
    for ours, buffer in zip(model.buffers(), learner.buffers()):
        ours.copy_(buffer)


def _empty(model: nn.Module) -> None:
    """Give the weights' memory back; the parameters stay, without content."""
    for parameter in model.parameters():
        parameter.data = parameter.data.new_empty(0)


def _end_with_parent() -> None:
    """End this process when the one that started it is gone: nobody would read what it prints, or stop it."""
    parent = int(os.environ.get(PARENT, 0))

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1.0)
        os._exit(1)

    if parent:
        threading.Thread(target=watch, daemon=True).start()


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
