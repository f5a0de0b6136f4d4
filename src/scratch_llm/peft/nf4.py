"""NormalFloat4 (Dettmers et al. 2023, QLoRA, sections 2 and 3): four bits for weights that are normally distributed.

    codes    each block of 64 weights is divided by its largest absolute value, and each weight becomes the nearest of 16
             numbers: quantiles of the normal distribution, so that about as many weights fall to each
    packing  two codes a byte, the first in the upper half
    double   the largest values, one float32 for 64 weights (0.5 bits each), are themselves rounded to 8 bits in blocks of
             256: 8 / 64 + 32 / (64 * 256) = 0.127 bits

Codes and values are those of bitsandbytes.
"""

from __future__ import annotations

import functools
import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

BLOCK_SIZES = (32, 64, 128, 256, 512, 1024, 2048, 4096)
STATISTICS_BLOCK = 256
"""Largest values that share a scale in double quantisation."""

_OUTERMOST = 0.9677083
"""Probability at which the outermost quantiles lie: between 1 - 1/30 and 1 - 1/32, the middles of the last of 15 and of 16
equal parts.  (At 1 the quantile would be infinite.)"""


@functools.cache
def nf4_table() -> Tensor:
    """The 16 numbers in ascending order, float32 (16,): from -1 to 1, eight of them above 0 and one of them 0.

    Seven quantiles below the middle and eight above it, so that 0 is one of the numbers: weights that are 0 stay 0.
    The steps are in the precision in which the published table was made; it comes out bit for bit.
    """

    def quantiles(n: int) -> Tensor:
        return torch.special.ndtri(torch.linspace(_OUTERMOST, 0.5, n + 1)[:-1].double()).float()

    with torch.device("cpu"):  # kept for all, also where the first caller builds on another device
        table = torch.cat([quantiles(8), torch.zeros(1), -quantiles(7)]).sort().values
    return table / table.max()


@functools.cache
def dynamic_table() -> Tensor:
    """The 256 numbers of the "dynamic" 8-bit format (Dettmers 2016, section 2.1), ascending, float32.

    A byte is a sign, a power of ten from 1 to 10^-6 told by the number of leading zeros, and in the bits left over a
    fraction in even steps from 0.1 to 1: fine where numbers are large, and yet far down.  And 0, and 1.
    """
    numbers = [torch.tensor([0.0, 1.0], device="cpu")]
    for n_bits in range(7):
        edges = torch.linspace(0.1, 1, 2**n_bits + 1, device="cpu")
        positive = 10 ** (n_bits - 6) * ((edges[:-1] + edges[1:]) / 2)
        numbers += [positive, -positive]
    return torch.cat(numbers).sort().values


def quantize_blocks(values: Tensor, table: Tensor, block_size: int) -> tuple[Tensor, Tensor]:
    """Numbers (n,) -> the code of each, uint8 (n,), and the largest absolute value of each block, float32 (blocks,).

    The last block may be shorter.  ``table``: ascending, from -1 to 1.
    """
    padded = F.pad(values.float(), (0, -len(values) % block_size)).view(-1, block_size)
    largest = padded.abs().amax(dim=1)
    scaled = padded * (1 / largest.clamp(min=1e-38))[:, None]  # a block of zeros stays zeros
    middles = (table[:-1] + table[1:]) / 2
    codes = torch.bucketize(scaled.clamp(-1, 1).flatten()[: len(values)], middles.to(values.device))
    return codes.to(torch.uint8), largest


def restore_blocks(codes: Tensor, largest: Tensor, table: Tensor, block_size: int) -> Tensor:
    """The inverse, up to rounding: float32 (n,)."""
    return _times_largest(table.to(codes.device)[codes.long()], largest, block_size)


def pack_codes(codes: Tensor) -> Tensor:
    """Codes 0 .. 15 (n,) -> bytes (ceil(n / 2),); the first of two in the upper half, as bitsandbytes has them.

    Where the last has no partner, that of 0 is put beside it.
    """
    upper, lower = F.pad(codes, (0, len(codes) % 2), value=7).view(-1, 2).unbind(1)
    return upper << 4 | lower


def unpack_codes(packed: Tensor, n: int) -> Tensor:
    """Bytes -> the codes, uint8 (n,)."""
    return torch.stack([packed >> 4, packed & 15], dim=1).flatten()[:n]


class NF4Matrix(nn.Module):
    """A matrix (rows, in) in four bits; ``restored`` gives it back.

    ``packed`` holds the codes.  The largest value of each block is ``largest``, float32; in double quantisation
    ``largest`` belongs to blocks of 256 of ``largest_codes``, and ``mean`` is added to what these give.
    """

    packed: Tensor
    largest: Tensor
    largest_codes: Tensor | None
    mean: Tensor | None

    def __init__(self, weight: Tensor, block_size: int = 64, *, double: bool = True):
        """
        Raises:
            ValueError: a block size that is not one of ``BLOCK_SIZES``, an empty matrix, or one with NaN or infinities.
        """
        super().__init__()
        if block_size not in BLOCK_SIZES:
            raise ValueError(f"block_size is {block_size}: choose one of {', '.join(map(str, BLOCK_SIZES))}")
        # On the meta device there are shapes alone, for counting memory.
        if weight.numel() == 0 or not (weight.is_meta or torch.isfinite(weight).all()):
            raise ValueError(
                f"a weight {tuple(weight.shape)} that is empty or holds NaN or infinity has no block-wise scale: "
                "look for the damage where it was trained or loaded"
            )
        self.shape, self.block_size = tuple(weight.shape), block_size
        codes, largest = quantize_blocks(weight.detach().flatten(), nf4_table(), block_size)
        codes_of_largest = mean = None
        if double:
            mean = largest.mean()  # all are positive: without their mean the sign's bit would be lost
            codes_of_largest, largest = quantize_blocks(largest - mean, dynamic_table(), STATISTICS_BLOCK)
        self.register_buffer("packed", pack_codes(codes))
        self.register_buffer("largest", largest)
        self.register_buffer("largest_codes", codes_of_largest)
        self.register_buffer("mean", mean)

    @property
    def n_weights(self) -> int:
        return math.prod(self.shape)

    def n_bytes(self) -> int:
        """Of codes and statistics."""
        return sum(buffer.nbytes for buffer in self.buffers())

    def codes(self) -> Tensor:
        """The code of each weight, uint8, in the matrix's shape."""
        return unpack_codes(self.packed, self.n_weights).view(self.shape)

    def block_scales(self) -> Tensor:
        """What each block is multiplied by, float32 (blocks,)."""
        if self.largest_codes is None:
            return self.largest
        return restore_blocks(self.largest_codes, self.largest, dynamic_table(), STATISTICS_BLOCK) + self.mean

    def restored(self, dtype: torch.dtype = torch.float32) -> Tensor:
        """(rows, in)."""
        # A byte is looked up as a whole, and the two float32 that it stands for are moved as one number of 64 bits:
        # for 442,368 weights 86 us, where a look-up of two columns takes 760.  The codes are never written out.
        pairs = _pairs(self.packed.device).index_select(0, self.packed.int()).view(torch.float32)
        return _times_largest(pairs[: self.n_weights], self.block_scales(), self.block_size).view(self.shape).to(dtype)

    def _apply(self, fn, recurse: bool = True):
        """Statistics move with the model but stay float32: all weights of a block hang on them."""
        kept = self.largest, self.mean
        super()._apply(fn, recurse)
        self.largest, self.mean = (
            None if old is None else old.to(self.packed.device) for old in kept
        )
        return self


def _times_largest(values: Tensor, largest: Tensor, block_size: int) -> Tensor:
    if len(values) % block_size == 0:
        return (values.view(-1, block_size) * largest[:, None]).flatten()
    return values * largest.repeat_interleave(block_size)[: len(values)]


@functools.cache
def _pairs(device: torch.device) -> Tensor:
    """(256,) int64: the bits of the two float32 that a byte stands for, one after the other."""
    table = nf4_table()
    return torch.stack([table.repeat_interleave(16), table.repeat(16)], dim=1).view(torch.int64).flatten().to(device)
