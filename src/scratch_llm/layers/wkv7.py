"""RWKV-7's state: a matrix per head that is corrected where it is wrong (Peng et al. 2025, "RWKV-7 Goose", section 4).

    S_t = S_{t-1} (diag(w_t) - c_t^T (a_t * c_t)) + v_t^T k_t        y_t = r_t S_t^T

with row vectors per head: S maps keys to values; w is the decay, c the unit vector to remove (the paper's kappa hat), a
how much of it (the "in-context learning rate").  With a = 1 and no decay it is the delta rule (Schlag et al. 2021): what
S knew under the key is taken out before the new value is put in.

``clear_wkv7`` is the recurrence.  ``wkv7`` computes chunks of tokens with matrix products.  Within a chunk, with g_t the
product of the decays up to t and u_t = -c_t S_{t-1}^T what is taken out, S_t = (S_0 + sum_{i<=t} (u_i^T b_i + v_i^T k_i)
/ g_i) diag(g_t), where b = a * c.  So the u of a chunk solve a triangular system (as in Yang et al. 2024, "Parallelizing
Linear Transformers with the Delta Rule"), and everything is linear in S_0: all chunks are prepared at once,
and only the product of S with one matrix per chunk goes one after the other.
"""

from __future__ import annotations

import torch
from torch import Tensor

CHUNK = 32
"""Tokens per chunk.  Decays are divided by each other within a chunk, which is safe because RWKV-7's stay above 0.545:
0.545^32 is 4e-9, far from float32's end."""


def wkv7_step(
    r_BHd: Tensor,
    log_decay_BHd: Tensor,
    k_BHd: Tensor,
    v_BHd: Tensor,
    removed_BHd: Tensor,
    rate_BHd: Tensor,
    state_BHdd: Tensor,
) -> tuple[Tensor, Tensor]:
    """One token: output (B, H, d) and new state (B, H, d, d), rows of values and columns of keys."""
    found_BHd1 = state_BHdd @ removed_BHd[..., None]
    values = torch.cat((-found_BHd1, v_BHd[..., None]), dim=-1)  # (B, H, d, 2)
    keys = torch.stack((rate_BHd * removed_BHd, k_BHd), dim=-2)  # (B, H, 2, d)
    state_BHdd = state_BHdd * log_decay_BHd.exp()[..., None, :] + values @ keys
    return (state_BHdd @ r_BHd[..., None])[..., 0], state_BHdd


def clear_wkv7(
    r: Tensor,
    log_decay: Tensor,
    k: Tensor,
    v: Tensor,
    removed: Tensor,
    rate: Tensor,
    state_BHdd: Tensor,
    real_BT: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """``wkv7``, token by token."""
    outputs = []
    for t in range(r.shape[1]):
        y_BHd, after = wkv7_step(*(x[:, t] for x in (r, log_decay, k, v, removed, rate)), state_BHdd)
        outputs.append(y_BHd)
        state_BHdd = after if real_BT is None else torch.where(real_BT[:, t, None, None, None], after, state_BHdd)
    return torch.stack(outputs, dim=1), state_BHdd


def wkv7(
    r: Tensor,
    log_decay: Tensor,
    k: Tensor,
    v: Tensor,
    removed: Tensor,
    rate: Tensor,
    state_BHdd: Tensor,
    real_BT: Tensor | None = None,
    *,
    chunk: int = CHUNK,
) -> tuple[Tensor, Tensor]:
    """The recurrence for a whole text.

    Args:
        r, k, v: receptance, key, value, (B, T, H, d) of any dtype; computed in float32 (float64 for float64).
        log_decay: log w, at most 0, and above -80 in sum over a chunk.
        removed: unit vectors c.
        rate: a, from 0 to 1.
        state_BHdd: after the tokens before.
        real_BT: bool, False at padding, which leaves the state as it is; its own output means nothing.
        chunk: tokens per chunk.

    Returns:
        (B, T, H, d) in the dtype of ``v``, and the state after the last token.
    """
    dtype = torch.promote_types(v.dtype, torch.float32)
    inputs = [x.to(dtype) for x in (r, log_decay, k, v, removed, rate)]
    T = v.shape[1]
    if T == 1 and real_BT is None:
        y_BHd, state_BHdd = wkv7_step(*(x[:, 0] for x in inputs), state_BHdd)
        return y_BHd[:, None].to(v.dtype), state_BHdd
    if real_BT is not None:
        # No decay, nothing taken out, nothing put in.
        for i in (1, 2, 4):
            inputs[i] = inputs[i] * real_BT[..., None, None]
    y_BHTd, state_BHdd = _in_chunks(*(_split(x, min(chunk, T)) for x in inputs), state_BHdd)
    return y_BHTd[:, :, :T].transpose(1, 2).to(v.dtype), state_BHdd


def _split(x_BTHd: Tensor, chunk: int) -> Tensor:
    """(B, T, H, d) -> (B, H, chunks, chunk, d), with zeros at the end: tokens that change nothing."""
    missing = -x_BTHd.shape[1] % chunk
    if missing:
        x_BTHd = torch.nn.functional.pad(x_BTHd, (0, 0, 0, 0, 0, missing))
    return x_BTHd.transpose(1, 2).unflatten(2, (-1, chunk))


def _in_chunks(
    r: Tensor, log_decay: Tensor, k: Tensor, v: Tensor, removed: Tensor, rate: Tensor, state: Tensor
) -> tuple[Tensor, Tensor]:
    """Inputs (B, H, chunks, L, d); output (B, H, T, d) and state.  Rows of the matrices are the chunk's tokens.

    U = R S^T + U0 holds the rows u: (1 - A) U = -C g' S^T + P v, where A and P are the products of -c_t with b_i and
    k_i for i < t, each with the decay between.
    """
    L, d = v.shape[-2:]
    total = log_decay.cumsum(dim=-2)
    reach, back = total.exp(), (-total).exp()  # g_t, 1 / g_i
    queries = torch.cat((r * reach, -removed * (total - log_decay).exp()), dim=-2)  # (..., 2 L, d)
    keys = torch.cat((k, removed * rate), dim=-2) * torch.cat((back, back), dim=-2)
    # All four products of a query at t with a key at i in one; outputs see i <= t, corrections i < t.
    products = queries @ keys.transpose(-1, -2)
    output_k, output_b = products[..., :L, :L].tril(), products[..., :L, L:].tril()
    correct_k, correct_b = products[..., L:, :L].tril(-1), products[..., L:, L:].tril(-1)
    one = torch.eye(L, dtype=v.dtype, device=v.device)
    solved = torch.linalg.solve_triangular(
        one - correct_b, torch.cat((queries[..., L:, :], correct_k @ v), dim=-1), upper=False, unitriangular=True
    )
    by_state, given = solved.split(d, dim=-1)  # R, U0

    end = reach[..., -1:, :]
    k_back, b_back = keys.split(L, dim=-2)
    transition = (torch.eye(d, dtype=v.dtype, device=v.device) + by_state.transpose(-1, -2) @ b_back) * end
    added = (torch.cat((given, v), dim=-2).transpose(-1, -2) @ torch.cat((b_back, k_back), dim=-2)) * end
    starts = []
    for c in range(v.shape[2]):
        starts.append(state)
        state = state @ transition[:, :, c] + added[:, :, c]
    per_state = queries[..., :L, :] + output_b @ by_state
    y = per_state @ torch.stack(starts, dim=2).transpose(-1, -2) + output_b @ given + output_k @ v
    return y.flatten(2, 3), state
