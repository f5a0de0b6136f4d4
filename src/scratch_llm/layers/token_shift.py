"""Token shift: every position also sees the position before it (Peng et al. 2023, RWKV, section 3.1.1)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from scratch_llm.layers.state_cache import write_state


class Padding(NamedTuple):
    """A padding mask, and what token shift needs to step over padding."""

    real_BT: Tensor
    """Bool, True at real tokens."""
    previous_BT: Tensor
    """The last real token before each position, counted from 1; 0: the state from before this piece."""
    last_B: Tensor
    """The last real token of each row, counted from 1; 0: there is none."""

    @classmethod
    def of(cls, padding_mask: Tensor | None) -> Padding | None:
        """For a bool mask (B, T); None where nothing is padded."""
        if padding_mask is None:
            return None
        real_BT = padding_mask.bool()
        index_T = torch.arange(1, real_BT.shape[1] + 1, device=real_BT.device)
        latest_BT = (real_BT * index_T).cummax(dim=1).values
        return cls(real_BT, latest_BT.roll(1, dims=1).index_fill(1, index_T[:1] - 1, 0), latest_BT[:, -1])


def previous_tokens(x_BTD: Tensor, state_BD: Tensor, padding: Padding | None) -> Tensor:
    """(B, T, D): for each position the real token before it; the first takes ``state_BD``.

    The last real token of each row is kept in ``state_BD`` for the next piece.
    """
    if x_BTD.shape[1] == 1 and padding is None and not torch.is_grad_enabled():
        previous_B1D = state_BD[:, None].to(x_BTD.dtype, copy=True)
        state_BD.copy_(x_BTD[:, 0])
        return previous_B1D
    if padding is None:
        previous_BTD = torch.cat((state_BD[:, None].to(x_BTD.dtype), x_BTD[:, :-1]), dim=1)
        last_BD = x_BTD[:, -1]
    else:
        known_BTD = torch.cat((state_BD[:, None].to(x_BTD.dtype), x_BTD), dim=1)
        rows_B = torch.arange(len(x_BTD), device=x_BTD.device)
        previous_BTD = known_BTD[rows_B[:, None], padding.previous_BT]
        last_BD = known_BTD[rows_B, padding.last_B]
    write_state(state_BD, last_BD)
    return previous_BTD
