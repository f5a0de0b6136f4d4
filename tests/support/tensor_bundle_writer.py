"""Writes small TensorFlow checkpoints, so that the reader is tested offline.

Written from LevelDB's table_format.md and tensor_bundle.proto, sharing no code with the reader: keys are
prefix-compressed between restart points, blocks are small so that there are several, checksums go bit by bit.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from pathlib import Path

import numpy as np

TYPES = {"float32": 1, "float64": 2, "int32": 3, "uint8": 4, "int64": 9, "float16": 19}


def write_bundle(
    prefix: Path,
    tensors: Mapping[str, np.ndarray],
    *,
    block_bytes: int = 300,
    restart_every: int = 4,
    compression: int = 0,
    n_shards: int = 1,
    header: bytes | None = None,
) -> None:
    """Write ``prefix``.index and ``prefix``.data-...; tensors are spread over the shards in turn."""
    shards = [bytearray() for _ in range(n_shards)]
    entries = [(b"", header if header is not None else _int(1, n_shards) + _message(3, _int(1, 1)))]
    for number, (name, array) in enumerate(sorted(tensors.items())):
        data = np.ascontiguousarray(array).tobytes()
        shard = number % n_shards
        shape = b"".join(_message(2, _int(1, size)) for size in array.shape)
        entries.append((name.encode(), (
            _int(1, TYPES[str(array.dtype)]) + _message(2, shape) + _int(3, shard) + _int(4, len(shards[shard]))
            + _int(5, len(data)) + _tag(6, 5) + struct.pack("<I", mask(slow_crc32c(data)))
        )))  # fmt: skip
        shards[shard] += data
    for shard, data in enumerate(shards):
        Path(f"{prefix}.data-{shard:05d}-of-{n_shards:05d}").write_bytes(data)
    Path(f"{prefix}.index").write_bytes(_table(entries, block_bytes, restart_every, compression))


def _table(entries, block_bytes: int, restart_every: int, compression: int) -> bytes:
    out, index, waiting = bytearray(), [], []
    for position, (key, value) in enumerate(entries):
        waiting.append((key, value))
        is_last = position == len(entries) - 1
        if is_last or sum(len(k) + len(v) for k, v in waiting) >= block_bytes:
            handle = _append_block(out, _block(waiting, restart_every), compression)
            # Any key between this block's last and the next one's first may stand here; tables prefer short ones.
            separator = key + b"~" if is_last else _between(key, entries[position + 1][0])
            index.append((separator, handle))
            waiting = []
    metaindex = _append_block(out, _block([], restart_every), 0)
    handles = metaindex + _append_block(out, _block(index, 1), 0)
    return bytes(out) + handles.ljust(40, b"\0") + struct.pack("<II", 0x8B80FB57, 0xDB477524)


def _between(low: bytes, high: bytes) -> bytes:
    """The shortest key that is >= low and < high."""
    n = _n_shared(low, high)
    if n < len(low) and n < len(high) and low[n] + 1 < high[n]:
        return low[:n] + bytes([low[n] + 1])
    return low


def _n_shared(first: bytes, second: bytes) -> int:
    n = 0
    while n < min(len(first), len(second)) and first[n] == second[n]:
        n += 1
    return n


def _block(entries, restart_every: int) -> bytes:
    out, restarts, previous = bytearray(), [], b""
    for n, (key, value) in enumerate(entries):
        shared = _n_shared(previous, key)
        if n % restart_every == 0:
            restarts.append(len(out))
            shared = 0
        out += _varint(shared) + _varint(len(key) - shared) + _varint(len(value)) + key[shared:] + value
        previous = key
    restarts = restarts or [0]
    return bytes(out) + struct.pack(f"<{len(restarts)}I", *restarts) + struct.pack("<I", len(restarts))


def _append_block(out: bytearray, block: bytes, compression: int) -> bytes:
    handle = _varint(len(out)) + _varint(len(block))
    kind = bytes([compression])
    out += block + kind + struct.pack("<I", mask(slow_crc32c(block + kind)))
    return handle


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 127:
        out.append(number % 128 + 128)
        number //= 128
    return bytes([*out, number])


def _tag(field: int, kind: int) -> bytes:
    return _varint(field * 8 + kind)


def _int(field: int, number: int) -> bytes:
    """Protocol buffers leave zeros out."""
    return _tag(field, 0) + _varint(number) if number else b""


def _message(field: int, content: bytes) -> bytes:
    return _tag(field, 2) + _varint(len(content)) + content


_TABLE = []
for _byte in range(256):
    for _ in range(8):
        _byte = _byte // 2 ^ (0x82F63B78 if _byte % 2 else 0)
    _TABLE.append(_byte)


def slow_crc32c(data: bytes) -> int:
    """RFC 3720's CRC, byte by byte."""
    register = 2**32 - 1
    for byte in data:
        register = _TABLE[(register ^ byte) % 256] ^ register // 256
    return register ^ (2**32 - 1)


def mask(checksum: int) -> int:
    bits = f"{checksum:032b}"
    return (int(bits[-15:] + bits[:-15], 2) + 0xA282EAD8) % 2**32
