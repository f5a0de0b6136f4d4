"""Codes without gaps: every width, lengths that fill no byte, and what does not fit."""

from __future__ import annotations

import pytest
import torch

from scratch_llm.quantization.packed_bits import n_packed_bytes, pack_bits, unpack_bits


@pytest.mark.parametrize("n_bits", range(2, 9))
@pytest.mark.parametrize("n_codes", [1, 7, 8, 24, 101])
def test_codes_come_back_and_leave_no_gaps(n_bits, n_codes):
    codes = torch.randint(0, 2**n_bits, (n_codes,), generator=torch.Generator().manual_seed(n_codes))
    codes[0] = 2**n_bits - 1
    packed = pack_bits(codes, n_bits)
    assert packed.dtype == torch.uint8 and len(packed) == n_packed_bytes(n_codes, n_bits) == -(-n_codes * n_bits // 8)
    assert unpack_bits(packed, n_bits, n_codes).tolist() == codes.tolist()


def test_eight_codes_of_three_bits_are_three_bytes_lowest_bit_first():
    # 1 = 001, 2 = 010, 3 = 011, ...: bits in order 100 010 110 ..., cut into bytes.
    assert pack_bits(torch.tensor([1, 2, 3, 0, 0, 0, 0, 7]), 3).tolist() == [0b11010001, 0, 0b11100000]


@pytest.mark.parametrize("bad", [-1, 8])
def test_codes_that_do_not_fit_are_refused(bad):
    with pytest.raises(ValueError, match="do not fit 3 bits"):
        pack_bits(torch.tensor([0, bad]), 3)
