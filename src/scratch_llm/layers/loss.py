"""Cross-entropy of a linear output layer, without ever holding all the logits.

With 16 x 256 tokens and 8,192 words the logits are 134 MB in float32, and the textbook way (logits, log
softmax, its gradient) writes and reads them several times: memory, not arithmetic, sets its speed.  Here the
rows go through in chunks that stay in the cache, and since the gradient of the loss in the logits is known
as soon as they are (softmax minus one-hot), each chunk's share of the gradients is computed at once and its
logits are forgotten.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

IGNORED = -100

# Logits per chunk.  CPU: 4 Mi bfloat16 numbers are 8 MiB, which a last-level cache holds.  GPU: large
# enough to keep all its units busy.
_CHUNK = {"cpu": 1 << 22, "cuda": 1 << 26}
_WORTH_PICKING = 0.8  # with a larger share of learnt rows, copying them costs what it saves
_MIN_ROWS = 64  # fewer rows make slow products, whatever the vocabulary


def linear_cross_entropy(hidden: Tensor, weight: Tensor, targets: Tensor, z_loss: float = 0.0) -> Tensor:
    """Mean cross-entropy in nats of ``softmax(hidden @ weight.T)`` over the targets that are not -100.

    hidden (..., D), weight (V, D), targets (...) int64 -> scalar float32; nan where every target is -100.
    Products run in the dtype of ``hidden`` (under autocast, in autocast's), softmax and sums in float32.
    ``z_loss`` adds ``z_loss * mean(log(Z)^2)``, Z the softmax's denominator (PaLM, section 5).
    Equals ``F.cross_entropy(F.linear(hidden, weight).float(), targets)``, gradients included.
    """
    hidden_ND, targets_N = _without_ignored(hidden.flatten(0, -2), targets.flatten())
    device = hidden.device.type
    if device != "meta" and torch.is_autocast_enabled(device):  # shapes alone have no autocast to ask for
        hidden_ND = hidden_ND.to(torch.get_autocast_dtype(device))
    if torch.is_grad_enabled() and (hidden.requires_grad or weight.requires_grad):
        return _LinearCrossEntropy.apply(hidden_ND, weight, targets_N, z_loss)
    total = hidden_ND.new_zeros((), dtype=torch.float32)
    weight_VD = weight.to(hidden_ND.dtype)
    for hidden_CD, targets_C in _chunks(hidden_ND, targets_N, len(weight)):
        total = total + _nats(hidden_CD @ weight_VD.t(), targets_C, z_loss)[0].sum()
    return total / (targets_N != IGNORED).sum()


class _LinearCrossEntropy(torch.autograd.Function):
    """Loss and both gradients in one sweep over the chunks; backward only scales them."""

    @staticmethod
    def forward(ctx, hidden_ND: Tensor, weight: Tensor, targets_N: Tensor, z_loss: float) -> Tensor:
        weight_VD = weight.to(hidden_ND.dtype)
        scale = 1.0 / (targets_N != IGNORED).sum()
        total, grads_hidden = hidden_ND.new_zeros((), dtype=torch.float32), []
        # Many small shares: summed in float32.  None where the output layer is frozen: a third of the products less.
        grad_weight = torch.zeros_like(weight, dtype=torch.float32) if ctx.needs_input_grad[1] else None
        for hidden_CD, targets_C in _chunks(hidden_ND, targets_N, len(weight)):
            nats_C, logp_CV, log_z_C = _nats(hidden_CD @ weight_VD.t(), targets_C, z_loss)
            total = total + nats_C.sum()
            grad_CV = _gradient(logp_CV, targets_C, log_z_C, z_loss, scale).to(hidden_ND.dtype)
            grads_hidden.append(grad_CV @ weight_VD)
            if grad_weight is not None:
                grad_weight += grad_CV.t() @ hidden_CD
        ctx.save_for_backward(torch.cat(grads_hidden), None if grad_weight is None else grad_weight.to(weight.dtype))
        return total * scale

    @staticmethod
    def backward(ctx, grad: Tensor):
        grad_hidden, grad_weight = ctx.saved_tensors
        grad_weight = None if grad_weight is None else (grad_weight * grad).to(grad_weight.dtype)
        return (grad_hidden * grad).to(grad_hidden.dtype), grad_weight, None, None


def chunk_rows(device_type: str, vocab_size: int) -> int:
    """Tokens whose logits are computed at a time."""
    return max(_MIN_ROWS, _CHUNK.get(device_type, _CHUNK["cuda"]) // vocab_size)


def _without_ignored(hidden_ND: Tensor, targets_N: Tensor) -> tuple[Tensor, Tensor]:
    """Only the rows that are learnt, where that saves products: of instructions with short answers most are not.

    A CPU is not kept waiting by counting them; a GPU's queue would be, and a compiled graph broken.
    """
    if targets_N.device.type != "cpu" or torch.compiler.is_compiling():
        return hidden_ND, targets_N
    kept = (targets_N != IGNORED).nonzero()[:, 0]
    few = 0 < len(kept) < _WORTH_PICKING * len(targets_N)
    return (hidden_ND[kept], targets_N[kept]) if few else (hidden_ND, targets_N)


def _chunks(hidden_ND: Tensor, targets_N: Tensor, vocab_size: int):
    rows = chunk_rows(hidden_ND.device.type, vocab_size)
    return zip(hidden_ND.split(rows), targets_N.split(rows))


def _nats(logits_CV: Tensor, targets_C: Tensor, z_loss: float) -> tuple[Tensor, Tensor, Tensor]:
    """Loss per row (0 where ignored), log probabilities, and log(Z), all float32."""
    logp_CV = F.log_softmax(logits_CV, dim=-1, dtype=torch.float32)
    kept_C = targets_C != IGNORED
    nats_C = -logp_CV.gather(1, targets_C.clamp(min=0)[:, None])[:, 0]
    log_z_C = logits_CV[:, 0].float() - logp_CV[:, 0]
    if z_loss:
        nats_C = nats_C + z_loss * log_z_C.square()
    return torch.where(kept_C, nats_C, 0.0), logp_CV, log_z_C


def _gradient(logp_CV: Tensor, targets_C: Tensor, log_z_C: Tensor, z_loss: float, scale: Tensor) -> Tensor:
    """d loss / d logits = (softmax * (1 + 2 z_loss log Z) - one_hot) * scale, 0 in ignored rows."""
    scale_C1 = torch.where(targets_C != IGNORED, scale, 0.0)[:, None]
    row_C1 = scale_C1 * (1 + 2 * z_loss * log_z_C[:, None]) if z_loss else scale_C1
    probabilities_CV = logp_CV.exp()
    places = targets_C.clamp(min=0)[:, None]
    if torch.compiler.is_compiling():  # fuses into the pass that computes the exponentials
        hit_CV = torch.arange(logp_CV.shape[1], device=logp_CV.device) == places
        return probabilities_CV * row_C1 - torch.where(hit_CV, scale_C1, 0.0)
    return probabilities_CV.mul_(row_C1).scatter_add_(1, places, -scale_C1)
