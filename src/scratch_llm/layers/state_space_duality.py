"""The state space model of Mamba-2 as a recurrence and as matrix products (Dao & Gu 2024).

Each head has a state of P x N numbers and one decay for all of them:

    h_t = exp(delta_t A) h_(t-1) + delta_t x_t B_t^T        y_t = h_t C_t

with A negative, one per head, and B and C shared by the heads of a group.  Since the decay is a single number per head,
the outputs are also attention without softmax: y = (L * C B^T) (delta x), where L_ij is the decay from token j to i
(section 3, "duality").  ``ssd`` uses this inside chunks of time and the recurrence between them (section 6).

Shape suffixes: H heads, P their width, G groups (of H / G heads), N state size, L tokens of a chunk, c chunks; others as
in ``scratch_llm.layers``.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

LOG2_E = math.log2(math.e)
# On a CPU the work inside chunks, which grows with their length, should not outgrow the work on states.
CPU_CHUNK = 64


def clear_ssd(
    x_BTHP: Tensor, delta_BTH: Tensor, A_H: Tensor, B_BTGN: Tensor, C_BTGN: Tensor, state_BHPN: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """y (B, T, H, P) and the last state (B, H, P, N): the recurrence, token by token."""
    heads = x_BTHP.shape[2] // B_BTGN.shape[2]
    B_BTHN, C_BTHN = B_BTGN.repeat_interleave(heads, dim=2), C_BTGN.repeat_interleave(heads, dim=2)
    h_BHPN = x_BTHP.new_zeros(*x_BTHP.shape[::2], x_BTHP.shape[3], B_BTGN.shape[3]) if state_BHPN is None else state_BHPN
    outputs = []
    for x, delta, B, C in zip(x_BTHP.unbind(1), delta_BTH.unbind(1), B_BTHN.unbind(1), C_BTHN.unbind(1)):
        decay_BH = torch.exp(delta * A_H)
        h_BHPN = decay_BH[..., None, None] * h_BHPN + (delta[..., None] * x)[..., None] * B[:, :, None]
        outputs.append((h_BHPN * C[:, :, None]).sum(dim=-1))
    return torch.stack(outputs, dim=1), h_BHPN


def ssd(
    x_BTHP: Tensor,
    delta_BTH: Tensor,
    A_H: Tensor,
    B_BTGN: Tensor,
    C_BTGN: Tensor,
    state_BHPN: Tensor | None = None,
    *,
    chunk: int = 256,
) -> tuple[Tensor, Tensor]:
    """``clear_ssd`` by blocks: y in the dtype of x, and the last state; computed in float32 (float64 for float64).

    ``chunk``: at most so many tokens per chunk.  Dao & Gu 2024, section 6 and listing 1.
    """
    (B_, T, H, P), (G, N), dtype = x_BTHP.shape, B_BTGN.shape[2:], torch.promote_types(x_BTHP.dtype, torch.float32)
    L = min(chunk, T, CPU_CHUNK) if x_BTHP.device.type == "cpu" else min(chunk, T)
    # Tokens that fill up the last chunk have delta = 0: they leave the state as it is.
    x, delta, B, C = (_chunks(part.to(dtype), L) for part in (x_BTHP, delta_BTH, B_BTGN, C_BTGN))
    input_BcGLX = (x * delta[..., None]).unflatten(3, (G, H // G)).flatten(4).transpose(2, 3)
    B_BcGLN, C_BcGLN = B.transpose(2, 3), C.transpose(2, 3)
    log_decay_BcHL = (delta * (A_H.to(dtype) * LOG2_E)).transpose(2, 3)
    since_start_BcHL, between_BcHLL = _decays(log_decay_BcHL)

    # 1. Inside a chunk: attention with decays for a mask.
    weights_BcGLL = C_BcGLN @ B_BcGLN.mT
    weights_BcHLL = (weights_BcGLL[:, :, :, None] * between_BcHLL.unflatten(2, (G, -1))).flatten(2, 3)
    input_BcHLP = input_BcGLX.unflatten(4, (-1, P)).transpose(3, 4).flatten(2, 3)
    y_BcHLP = weights_BcHLL @ input_BcHLP

    # 2. What each chunk adds to the state by its end.
    until_end_BcHL = between_BcHLL[..., -1, :]
    faded_BcHLP = input_BcHLP * until_end_BcHL[..., None]
    added_BcGXN = faded_BcHLP.mT.unflatten(2, (G, -1)).flatten(3, 4) @ B_BcGLN
    # 3. From chunk to chunk: the recurrence.
    state = x.new_zeros(B_, H, P, N) if state_BHPN is None else state_BHPN.to(dtype, copy=True)
    befores = []
    for decay_BH, added_BHPN in zip(since_start_BcHL[..., -1].unbind(1), added_BcGXN.view(B_, -1, H, P, N).unbind(1)):
        befores.append(state)
        state = torch.addcmul(added_BHPN, decay_BH[..., None, None], state)
    # 4. What each token reads from the state before its chunk.
    before_BcGXN = torch.stack(befores, dim=1).view(B_, -1, G, H // G * P, N)
    read_BcHLP = (C_BcGLN @ before_BcGXN.mT).unflatten(4, (-1, P)).transpose(3, 4).flatten(2, 3)
    y_BcHLP = torch.addcmul(y_BcHLP, read_BcHLP, since_start_BcHL[..., None])
    y_BTHP = y_BcHLP.transpose(2, 3).flatten(1, 2)[:, :T]
    return y_BTHP.to(x_BTHP.dtype), state


def ssd_step(
    x_BHP: Tensor, delta_BH: Tensor, A_H: Tensor, B_BGN: Tensor, C_BGN: Tensor, state_BHPN: Tensor
) -> Tensor:
    """One token per row, all in float32: y (B, H, P).  ``state_BHPN`` is overwritten; ``A_H`` comes times log2(e)."""
    B_, H, P, N = state_BHPN.shape
    G = B_BGN.shape[1]
    decay_BH11 = (delta_BH * A_H).exp2_()[..., None, None]
    input_BGXN = (x_BHP * delta_BH[..., None]).view(B_, G, -1, 1) * B_BGN[:, :, None]
    state_BHPN.mul_(decay_BH11).add_(input_BGXN.view(B_, H, P, N))
    return (state_BHPN.view(B_ * G, -1, N) @ C_BGN.reshape(B_ * G, N, 1)).view(B_, H, P)


def _chunks(part: Tensor, L: int) -> Tensor:
    """(B, T, ...) -> (B, c, L, ...), filled up with zeros."""
    missing = -part.shape[1] % L
    if missing:
        part = F.pad(part, (0, 0) * (part.dim() - 2) + (0, missing))
    return part.unflatten(1, (-1, L))


def _decays(log_decay: Tensor) -> tuple[Tensor, Tensor]:
    """From base-2 logarithms (..., L) of the tokens' decays: those from a chunk's start to each token, itself included,
    (..., L), and those from token j to token i, (..., L, L), 0 where j is later ("segsum", section 6).

    The logarithms are summed in float64: where strong decays came before, a difference of two float32 sums has lost the
    digits of the weak decays in between.
    """
    total = log_decay.double().cumsum(dim=-1)
    difference = (total[..., :, None] - total[..., None, :]).to(log_decay.dtype)
    later = torch.ones(difference.shape[-2:], dtype=torch.bool, device=total.device).triu(1)
    return torch.exp2(total.to(log_decay.dtype)), torch.exp2(difference.masked_fill(later, float("-inf")))
