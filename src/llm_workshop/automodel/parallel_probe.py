"""Tensor parallelism proved with real processes: run by torchrun, in core or in ``.envs/nemo``.

    torchrun --nproc-per-node 2 -m llm_workshop.automodel.parallel_probe CHECKPOINT IDS.json RESULT.json [megatron]

``CHECKPOINT`` is a Llama or GPT-2 in Hugging Face format, ``IDS.json`` rows of token ids of equal length, their last
token only a target.  The model is computed whole and cut in pieces; ``RESULT.json`` says how far losses and gradients are
apart and what the processes sent.  With ``megatron`` the feed-forward network of its first block is also computed by
Megatron core's ``ColumnParallelLinear`` and ``RowParallelLinear``, which needs a Llama.
"""

from __future__ import annotations

import copy
import json
import sys
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from scratch_llm.models import load_model
from scratch_llm.parallel import ColumnParallelLinear, RowParallelLinear, Team, parallelize


def run(checkpoint: str, ids_file: str, result: str, megatron: bool) -> None:
    dist.init_process_group("gloo")
    team = Team()
    ids = torch.tensor(json.loads(Path(ids_file).read_text()))
    whole = load_model(checkpoint)
    facts = compare_with_whole(whole, ids, team)
    if megatron:
        facts["megatron"] = compare_with_megatron(whole, team)
    facts = {key: largest(value) if key.endswith("difference") else value for key, value in facts.items()}
    if team.rank == 0:
        Path(result).write_text(json.dumps(facts, indent=2), encoding="utf-8")
    dist.destroy_process_group()


def compare_with_whole(whole: nn.Module, ids: Tensor, team: Team) -> dict[str, Any]:
    """Loss and gradients of the model whole and cut, and what was sent for a forward and a backward pass."""
    cut = parallelize(copy.deepcopy(whole), team)
    inputs, targets = ids[:, :-1], ids[:, 1:]
    expected, found = whole(inputs, targets=targets), cut(inputs, targets=targets)
    forward = team.n_sums
    expected.backward()
    found.backward()
    theirs = dict(whole.named_parameters())
    apart = [(share_of(theirs[name].grad, cut, name) - p.grad).abs().max() for name, p in cut.named_parameters()]
    return {
        "processes": team.size,
        "loss": expected.item(),
        "loss_difference": abs(expected.item() - found.item()),
        "gradient_difference": max(apart).item(),
        "largest_gradient": max(p.grad.abs().max() for p in whole.parameters()).item(),
        "parameters": sum(p.numel() for p in whole.parameters()),
        "parameters_of_a_process": sum(p.numel() for p in cut.parameters()),
        "parameters_in_blocks": sum(p.numel() for p in whole.blocks.parameters()),
        "sums_forward": forward,
        "sums_backward": team.n_sums - forward,
        "bytes": team.n_bytes,
        "tokens": inputs.numel(),
    }


def share_of(gradient: Tensor, model: nn.Module, name: str) -> Tensor:
    """What of a whole parameter's gradient belongs to this process."""
    owner = model.get_submodule(name.rpartition(".")[0])
    if isinstance(owner, ColumnParallelLinear):
        return gradient[owner.outputs]
    if isinstance(owner, RowParallelLinear) and name.endswith("weight"):
        return gradient[:, owner.inputs]
    return gradient


def largest(value: float) -> float:
    """The largest over the processes."""
    tensor = torch.tensor(value, dtype=torch.float64)
    dist.all_reduce(tensor, dist.ReduceOp.MAX)
    return tensor.item()


def compare_with_megatron(whole: nn.Module, team: Team) -> dict[str, float]:
    """One feed-forward network: whole, cut by us, cut by Megatron core; outputs and gradients of the input and the weights."""
    from llm_workshop.automodel.without_cuda import without_cuda

    without_cuda()
    from megatron.core import ModelParallelConfig, parallel_state, tensor_parallel

    parallel_state.initialize_model_parallel(team.size)
    mlp = copy.deepcopy(whole.blocks[0].mlp)
    ours = copy.deepcopy(whole.blocks[:1])
    ours = parallelize(_Blocks(ours), team).blocks[0].mlp
    width, inner = mlp.down.out_features, mlp.down.in_features
    config = ModelParallelConfig(tensor_model_parallel_size=team.size, use_cpu_initialization=True, params_dtype=torch.float32)
    options = {"config": config, "init_method": nn.init.zeros_, "bias": False, "skip_bias_add": False}
    column = tensor_parallel.ColumnParallelLinear(width, 2 * inner, gather_output=False, **options)
    row = tensor_parallel.RowParallelLinear(inner, width, input_is_parallel=True, **options)
    with torch.no_grad():
        column.weight.copy_(ours.gate_up.weight)
        row.weight.copy_(ours.down.weight)

    def theirs(x: Tensor) -> Tensor:
        gate, up = column(x)[0].chunk(2, dim=-1)
        return row(nn.functional.silu(gate) * up)[0]

    x = torch.randn(2, 8, width, generator=torch.Generator().manual_seed(0))
    (y, dx), (y_ours, dx_ours), (y_theirs, dx_theirs) = (output_and_gradient(f, x) for f in (mlp, ours, theirs))
    apart = {
        "output_ours": y_ours - y, "output_megatron": y_theirs - y, "input_gradient_ours": dx_ours - dx,
        "input_gradient_megatron": dx_theirs - dx, "weight_gradient_ours_to_megatron": ours.down.weight.grad - row.weight.grad,
        "gate_gradient_ours_to_megatron": ours.gate_up.weight.grad - column.weight.grad,
    }  # fmt: skip
    return {name: largest(tensor.abs().max().item()) for name, tensor in apart.items()}


class _Blocks(nn.Module):
    """Blocks alone, for ``parallelize``."""

    def __init__(self, blocks: nn.ModuleList):
        super().__init__()
        self.blocks = blocks


def output_and_gradient(function: Any, x: Tensor) -> tuple[Tensor, Tensor]:
    x = x.clone().requires_grad_()
    y = function(x)
    y.square().sum().backward()
    return y.detach(), x.grad


if __name__ == "__main__":
    if len(sys.argv) not in (4, 5) or sys.argv[4:] not in ([], ["megatron"]):
        sys.exit("usage: python -m llm_workshop.automodel.parallel_probe CHECKPOINT IDS.json RESULT.json [megatron]")
    run(sys.argv[1], sys.argv[2], sys.argv[3], megatron=len(sys.argv) == 5)
