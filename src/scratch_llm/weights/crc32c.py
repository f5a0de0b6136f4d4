"""CRC-32C (Castagnoli), the checksum in TensorFlow's checkpoint files, fast enough for gigabytes with numpy.

A CRC is linear over GF(2): the register after A then B is (register after A, moved on by |B| zero bytes) XOR (register
after B from 0).  So a block is cut into many lanes that all advance one word per numpy operation, and their
registers are then joined two by two.  Polynomial: Castagnoli et al. 1993; check value: RFC 3720, appendix B.4.
"""

from __future__ import annotations

from functools import cache

import numpy as np

_POLYNOMIAL = 0x82F63B78  # 0x1EDC6F41 with its bits reversed: the lowest bit comes first
_SHORT = 1 << 12  # bytes; below, numpy's overhead does not pay
_LONGEST = 1 << 22  # bytes of one block; bounds the copy that lays the lanes out


def crc32c(data: bytes | np.ndarray) -> int:
    """The checksum of ``data`` (bytes, or a contiguous array of any dtype), an unsigned 32-bit number."""
    data = np.frombuffer(data, dtype=np.uint8)
    register = 0xFFFFFFFF
    while len(data):
        size = min(_LONGEST, 1 << (len(data).bit_length() - 1))
        block, data = (data[:size], data[size:]) if size >= _SHORT else (data, data[:0])
        register = _advance_short(block, register) if size < _SHORT else (
            int(_skip_zeros(np.uint32(register), size)) ^ _advance_block(block)
        )
    return register ^ 0xFFFFFFFF


def masked(checksum: int) -> int:
    """What the files store instead of a CRC, so that the CRC of data that hold CRCs stays useful (LevelDB's rule)."""
    rotated = (checksum >> 15 | checksum << 17) & 0xFFFFFFFF
    return (rotated + 0xA282EAD8) & 0xFFFFFFFF


def _advance_short(data: np.ndarray, register: int) -> int:
    table = _tables()[0].tolist()
    for byte in data.tolist():
        register = table[(register ^ byte) & 0xFF] ^ register >> 8
    return register


def _advance_block(block: np.ndarray) -> int:
    """The register after ``block`` (2^n bytes) from 0."""
    n_lanes = 1 << (len(block).bit_length() - 1) // 2
    words = np.ascontiguousarray(block.view("<u4").reshape(n_lanes, -1).T)
    first, second, third, fourth = _tables()
    registers = np.zeros(n_lanes, dtype=np.uint32)
    for word in words:
        registers ^= word
        registers = (
            fourth[registers & 0xFF] ^ third[registers >> 8 & 0xFF] ^ second[registers >> 16 & 0xFF] ^ first[registers >> 24]
        )
    n_bytes = 4 * len(words)
    while len(registers) > 1:
        registers = _skip_zeros(registers[::2], n_bytes) ^ registers[1::2]
        n_bytes *= 2
    return int(registers[0])


@cache
def _tables() -> np.ndarray:
    """(4, 256) uint32: entry [n, b] is the register b after 1 + n zero bytes."""
    table = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        table = table >> 1 ^ np.where(table & 1, np.uint32(_POLYNOMIAL), np.uint32(0))
    tables = [table]
    for _ in range(3):
        tables.append(table[tables[-1] & 0xFF] ^ tables[-1] >> 8)
    return np.stack(tables)


def _skip_zeros(registers: np.ndarray, n_bytes: int) -> np.ndarray:
    """The registers after ``n_bytes`` (2^n) zero bytes."""
    result = np.zeros_like(registers)
    for bit, column in enumerate(_zeros_matrix(n_bytes)):
        result ^= (registers >> np.uint32(bit) & np.uint32(1)) * column
    return result


@cache
def _zeros_matrix(n_bytes: int) -> np.ndarray:
    """(32,) uint32: what each single bit of a register becomes after ``n_bytes`` (2^n) zero bytes."""
    if n_bytes > 1:
        half = _zeros_matrix(n_bytes // 2)
        return _apply(half, half)
    bits = np.uint32(1) << np.arange(32, dtype=np.uint32)
    return _tables()[0][bits & 0xFF] ^ bits >> 8


def _apply(matrix: np.ndarray, registers: np.ndarray) -> np.ndarray:
    bits = registers[:, None] >> np.arange(32, dtype=np.uint32) & 1
    return np.bitwise_xor.reduce(bits * matrix, axis=1)
