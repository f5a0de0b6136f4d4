"""The short causal convolution of recurrent layers: each channel looks at itself a few tokens back.

Shape suffixes: C channels, K taps (the width of the kernel); others as in ``scratch_llm.layers``.
"""

from __future__ import annotations

import copy
import math

import torch
from torch import Tensor, nn

from scratch_llm.layers.state_cache import write_state


class CausalConv(nn.Module):
    """``y_t = bias + sum_k weight[k] * x_(t - K + 1 + k)`` per channel (Gu & Dao 2023, section 3.4).

    Its state is the last K - 1 inputs, (B, K - 1, C), zero before the first token.
    """

    def __init__(self, channels: int, width: int, *, bias: bool = True):
        super().__init__()
        self.width = width
        self.weight = nn.Parameter(torch.empty(channels, 1, width))
        self.bias = nn.Parameter(torch.empty(channels)) if bias else None
        self.taps_KC: Tensor | None = None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """U(-1 / sqrt(K), 1 / sqrt(K)), as torch does for a convolution of K inputs; bias 0."""
        nn.init.uniform_(self.weight, -1 / math.sqrt(self.width), 1 / math.sqrt(self.width))
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def forward(self, x_BTC: Tensor, state: Tensor | None = None, padding_mask: Tensor | None = None) -> Tensor:
        """(B, T, C) -> (B, T, C).  ``state`` is read and overwritten; ``padding_mask`` (B, T) is True at real tokens."""
        taps_KC = self.weight[:, 0].t() if self.taps_KC is None else self.taps_KC
        if state is not None and x_BTC.shape[1] == 1 and padding_mask is None and not torch.is_grad_enabled():
            return causal_conv_step(x_BTC, taps_KC, self.bias, state)
        y_BTC, new_state = causal_conv(x_BTC, taps_KC, self.bias, state, padding_mask)
        if state is not None:
            write_state(state, new_state)
        return y_BTC

    def packed(self, n_rows: int) -> CausalConv:
        """A copy for decoding, its taps in the order in which they are used (``generation.packing``)."""
        twin = copy.copy(self)
        twin.taps_KC = self.weight.detach()[:, 0].t().contiguous()
        return twin


def causal_conv(
    x_BTC: Tensor,
    taps_KC: Tensor,
    bias_C: Tensor | None = None,
    state: Tensor | None = None,
    padding_mask: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """y (B, T, C) and the state after it, (B, K - 1, C).

    Padding, wherever it is, is stepped over: a real token's window holds the real tokens before it, and the state
    is that after a row's last real token.
    """
    B, T, C = x_BTC.shape
    n_before = taps_KC.shape[0] - 1
    if state is None:
        state = x_BTC.new_zeros(B, n_before, C)
    if padding_mask is None:
        window = torch.cat((state.to(x_BTC.dtype), x_BTC), dim=1)
        return _convolve(window, taps_KC, bias_C), window[:, T:]
    # Real tokens to the front, so that each has its predecessors right before it; and back afterwards.
    order_BT = (~padding_mask).byte().argsort(dim=1, stable=True)
    window = torch.cat((state.to(x_BTC.dtype), _take(x_BTC, order_BT)), dim=1)
    y_BTC = _take(_convolve(window, taps_KC, bias_C), order_BT.argsort(dim=1))
    last = padding_mask.sum(dim=1, keepdim=True) + torch.arange(n_before, device=x_BTC.device)
    return y_BTC, _take(window, last)


def causal_conv_step(x_B1C: Tensor, taps_KC: Tensor, bias_C: Tensor | None, state: Tensor) -> Tensor:
    """One token per row, (B, 1, C) -> (B, 1, C); ``state`` is overwritten."""
    window = torch.cat((state, x_B1C.to(state.dtype)), dim=1)
    state.copy_(window[:, 1:])
    y_B1C = (window * taps_KC).sum(dim=1, keepdim=True)
    return (y_B1C if bias_C is None else y_B1C.add_(bias_C)).to(x_B1C.dtype)


def clear_causal_conv(
    x_BTC: Tensor, taps_KC: Tensor, bias_C: Tensor | None = None, state: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """``causal_conv`` token by token, without padding."""
    window = x_BTC.new_zeros(x_BTC.shape[0], taps_KC.shape[0] - 1, x_BTC.shape[2]) if state is None else state
    outputs = []
    for x_BC in x_BTC.unbind(dim=1):
        window = torch.cat((window, x_BC[:, None]), dim=1)
        outputs.append((window * taps_KC).sum(dim=1) + (0 if bias_C is None else bias_C))
        window = window[:, 1:]
    return torch.stack(outputs, dim=1), window


def _take(x_BSC: Tensor, index_BT: Tensor) -> Tensor:
    """Row b's elements ``index[b]``: (B, T, C)."""
    return x_BSC.gather(1, index_BT[..., None].expand(-1, -1, x_BSC.shape[2]))


def _convolve(window: Tensor, taps_KC: Tensor, bias_C: Tensor | None) -> Tensor:
    """(B, K - 1 + T, C) -> (B, T, C)"""
    bias_C = window.new_zeros(taps_KC.shape[1]) if bias_C is None else bias_C
    return _Convolution.apply(window, taps_KC.to(window.dtype).contiguous(), bias_C.to(window.dtype))


class _Convolution(torch.autograd.Function):
    """K shifted products, added in place.

    Forward and backward of (4, 256, 768) by 4 taps take 1.8 ms of one core's time, against 4.6 with the gradient left to
    autograd and 9.9 for torch's depthwise ``conv1d``, which wants time last (Zen 5).
    """

    @staticmethod
    def forward(ctx, window: Tensor, taps: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(window, taps)
        T = window.shape[1] - taps.shape[0] + 1
        y = torch.addcmul(bias, window[:, :T], taps[0])
        for k in range(1, len(taps)):
            y.addcmul_(window[:, k : k + T], taps[k])
        return y

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        window, taps = ctx.saved_tensors
        T = grad.shape[1]
        grad_window, grad_taps = torch.zeros_like(window), []
        for k in range(len(taps)):
            grad_window[:, k : k + T].addcmul_(grad, taps[k])
            grad_taps.append((grad * window[:, k : k + T]).sum(dim=(0, 1)))
        return grad_window, torch.stack(grad_taps), grad.sum(dim=(0, 1))
