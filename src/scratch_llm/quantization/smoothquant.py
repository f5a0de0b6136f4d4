"""SmoothQuant (Xiao et al. 2023): loud input channels are made quieter, and the weight louder by as much.

A few channels of a transformer's activations are tens of times larger than the rest, for every token (section 3).
One scale per token then leaves the other channels few codes.  Dividing channel j of the input by s_j and multiplying
column j of the weight by it changes no output (eq. 3), and moves part of the difficulty to the weight:

    Y = (X diag(s)^-1) (diag(s) W^T),        s_j = max|X_j|^alpha / max|W_j|^(1 - alpha)        (eq. 4)

With alpha = 1/2 both get the same maximum in each channel, sqrt(max|X_j| max|W_j|).  The division costs nothing at
inference: it is folded into the scale of the norm before the layer (section 4, "Applying SmoothQuant").
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from scratch_llm.layers.norms import LayerNorm, RMSNorm
from scratch_llm.quantization.affine import check_weight

Norm = LayerNorm | RMSNorm | nn.LayerNorm | nn.RMSNorm


def smoothing_scales(x_ND: Tensor, weights: Sequence[Tensor], alpha: float = 0.5) -> Tensor:
    """s (D,) float32 of eq. 4.

    ``x_ND``: inputs of the layer for calibration, a row for each token.
    ``weights``: of all layers that read this input, each (out, D), e.g. gate and up; they share s.
    ``alpha``: how much of the difficulty moves to the weight; 0.5 in the paper, 0.75 for models with louder channels.
    """
    if not 0 <= alpha <= 1:
        raise ValueError(
            f"alpha is {alpha}; it must be 0 (all stays in the activations) to 1 (all moves to the weight)"
        )
    check_weight(x_ND, "x_ND")
    if not weights:
        raise ValueError("weights is empty; give the weight of each layer that reads x_ND")
    for weight in weights:
        check_weight(weight)
        if weight.shape[1] != x_ND.shape[1]:
            raise ValueError(
                f"weight {tuple(weight.shape)} reads {weight.shape[1]} features, x_ND has {x_ND.shape[1]}"
            )
    loudest_x = x_ND.detach().float().abs().amax(0)
    loudest_w = torch.stack([weight.detach().float().abs().amax(0) for weight in weights]).amax(0)
    scales = loudest_x**alpha / loudest_w ** (1 - alpha)
    # A channel that is 0 in X or in W needs no smoothing, and must not be divided by 0.
    usable = (loudest_x > 0) & (loudest_w > 0) & torch.isfinite(scales) & (scales > 0)
    return torch.where(usable, scales, 1.0)


@torch.no_grad()
def divide_outputs(norm: Norm, scales_D: Tensor) -> None:
    """Folds diag(s)^-1 into ``norm``, in place: its outputs are divided by s."""
    if norm.weight is None:
        raise ValueError(
            "the norm has no weight to fold the scales into; make it with elementwise_affine=True"
        )
    if norm.weight.shape != scales_D.shape:
        raise ValueError(
            f"the norm has {tuple(norm.weight.shape)} features, the scales {tuple(scales_D.shape)}"
        )
    if isinstance(norm, RMSNorm) and norm.zero_centred:  # its factor is 1 + weight
        norm.weight.copy_(norm.scale / scales_D - 1)
    else:
        norm.weight.div_(scales_D)
    if getattr(norm, "bias", None) is not None:
        norm.bias.div_(scales_D)


@torch.no_grad()
def multiply_inputs(linear: nn.Linear, scales_D: Tensor) -> None:
    """Folds diag(s) into ``linear``, in place: column j of its weight is multiplied by s_j."""
    linear.weight.mul_(scales_D)


def smooth(norm: Norm, linears: Sequence[nn.Linear], x_ND: Tensor, alpha: float = 0.5) -> Tensor:
    """Smooths all ``linears``, which read the output of ``norm`` and nothing else does, in place; returns s (D,).

    ``x_ND``: outputs of ``norm`` for calibration, a row for each token.  The composition computes what it did before.
    """
    scales_D = smoothing_scales(x_ND, [linear.weight for linear in linears], alpha)
    divide_outputs(norm, scales_D)
    for linear in linears:
        multiply_inputs(linear, scales_D)
    return scales_D
