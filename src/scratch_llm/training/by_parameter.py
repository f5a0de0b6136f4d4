"""What optimisers have in common whose step is one rule, applied to each parameter by itself."""

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
