"""What optimisers have in common whose step is one rule, applied to each parameter by itself.

Of parameters that FSDP shares out (DTensors) a rank holds some rows.  A rule that needs all of a matrix asks for it by
``whole``, one matrix after the other, and applies the rank's own part of the result, ``part_like``.
"""

from __future__ import annotations

import torch
from torch import Tensor


class ByParameter(torch.optim.Optimizer):
    """Subclasses write ``_update(w, g, group)``: the parameter, its gradient, and the group with its settings."""

    @torch.no_grad()
    def step(self, closure=None):
        """Update every parameter that has a gradient; returns ``closure()`` where one is given."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._update(parameter, parameter.grad, group)
        return loss

    def _update(self, w: Tensor, g: Tensor, group: dict) -> None:
        raise NotImplementedError


def whole(tensor: Tensor) -> Tensor:
    """All of a tensor of which each rank holds a part, gathered: every rank must ask.  Others are as they are."""
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor


def part_like(tensor: Tensor, parameter: Tensor) -> Tensor:
    """This rank's part of a whole tensor, as ``parameter``, of its shape, lies; what is in parts stays as it is."""
    if not hasattr(parameter, "full_tensor") or hasattr(tensor, "full_tensor"):
        return tensor
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(tensor.to(parameter.device), parameter.device_mesh, parameter.placements, src_data_rank=None)
