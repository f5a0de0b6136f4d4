"""TensorFlow's checkpoint format ("tensor bundle"), read without TensorFlow.

A checkpoint ``model.ckpt`` is an index, ``model.ckpt.index``, and data files ``model.ckpt.data-00000-of-00001``, ...
that hold the tensors' bytes end to end.  The index is a sorted table in LevelDB's format
(leveldb, doc/table_format.md), name -> where its bytes lie and what they mean::

    data block | data block | ... | metaindex block | index block | footer
    footer:  handle of the metaindex block, handle of the index block, zeros up to 40 bytes, magic (8 bytes)
    handle:  offset, size                                                (varints)
    block:   entry | entry | ... | restart offsets (4 bytes each) | their number (4 bytes)
             followed by its compression (1 byte) and the masked CRC-32C of both (4 bytes)
    entry:   n bytes shared with the key before, n new bytes, n value bytes (varints), new bytes, value

In the index block each value is the handle of a data block; in the data blocks each value is a protocol buffer:
``BundleHeaderProto`` under the empty name, ``BundleEntryProto`` under all others
(tensorflow/core/protobuf/tensor_bundle.proto).
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from scratch_llm.weights.crc32c import crc32c, masked

MAGIC = 0xDB4775248B80FB57
FOOTER_BYTES, TRAILER_BYTES = 48, 5

# tensorflow/core/framework/types.proto: number -> numpy's name; little-endian as the header says.
DTYPES = {1: "<f4", 2: "<f8", 3: "<i4", 4: "u1", 5: "<i2", 6: "i1", 9: "<i8", 10: "?", 19: "<f2"}


@dataclass(frozen=True)
class Entry:
    """Where one tensor lies."""

    dtype: int
    """Number of the element type in types.proto."""
    shape: tuple[int, ...]
    shard: int
    """Number of the data file."""
    offset: int
    """First byte in it."""
    size: int
    """Bytes."""
    checksum: int
    """Masked CRC-32C of the bytes."""
    is_sliced: bool
    """Whether the tensor lies in pieces under other names (partitioned variables)."""


class TensorBundle:
    """The tensors of a checkpoint by name; ``entries`` tells what there is.

    Args:
        prefix: path without ".index", for example ``models/124M/model.ckpt``.

    Raises:
        FileNotFoundError: no index there.
        ValueError: the index is damaged, or of a kind that we do not read.
    """

    def __init__(self, prefix: str | Path):
        self.prefix = Path(prefix)
        self.index_file = self.prefix.with_name(self.prefix.name + ".index")
        if not self.index_file.is_file():
            raise FileNotFoundError(f"{self.index_file} is missing: give the path of a checkpoint without '.index'")
        try:
            values = dict(_table_entries(self.index_file.read_bytes()))
            self.n_shards = _check_header(values.pop("", None))
            self.entries = {name: _parse_entry(value) for name, value in values.items()}
        except (_Damaged, IndexError, UnicodeDecodeError, struct.error) as error:
            raise ValueError(
                f"{self.index_file} is damaged or no TensorFlow checkpoint ({error}): download it again"
            ) from None
        except NotImplementedError as error:
            raise ValueError(f"{self.index_file} {error}: save it again with TensorFlow's own Saver") from None

    def __contains__(self, name: str) -> bool:
        return name in self.entries

    def read(self, name: str) -> np.ndarray:
        """One tensor, checked against its checksum; a read-only view of the file, mapped into memory.

        Raises:
            KeyError: no such tensor.
            FileNotFoundError, ValueError: its data file is missing, too short or altered.
        """
        entry = self.entries[name]
        file = self.prefix.with_name(f"{self.prefix.name}.data-{entry.shard:05d}-of-{self.n_shards:05d}")
        if entry.dtype not in DTYPES or entry.is_sliced:
            what = "lies in slices" if entry.is_sliced else f"has TensorFlow's element type {entry.dtype}"
            raise ValueError(f"{name} in {self.index_file} {what}, which is not supported: read whole number tensors")
        dtype = np.dtype(DTYPES[entry.dtype])
        if math.prod(entry.shape) * dtype.itemsize != entry.size:
            raise ValueError(
                f"{name} in {self.index_file} has {entry.size} bytes, which does not fit shape {entry.shape} of "
                f"{dtype}: download the index again"
            )
        if not file.is_file():
            raise FileNotFoundError(f"{file} is missing: download it into the folder of {self.index_file.name}")
        if file.stat().st_size < entry.offset + entry.size:
            raise ValueError(
                f"{file} has {file.stat().st_size:,} bytes, {name} ends at {entry.offset + entry.size:,}: "
                "the download was cut short; download the file again"
            )
        if not entry.size:
            return np.zeros(entry.shape, dtype)
        data = np.memmap(file, np.uint8, "r", entry.offset, (entry.size,))
        if masked(crc32c(data)) != entry.checksum:
            raise ValueError(f"{file} is altered or damaged at {name} (its checksum differs): download it again")
        return data.view(dtype).reshape(entry.shape)


# -- the table ----------------------------------------------------------------------------------------


class _Damaged(Exception):
    """The bytes break the format."""


def _table_entries(data: bytes) -> Iterator[tuple[str, bytes]]:
    """Every (key, value) of the data blocks, in order."""
    if len(data) < FOOTER_BYTES:
        raise _Damaged(f"{len(data)} bytes are fewer than a footer's {FOOTER_BYTES}")
    footer = data[-FOOTER_BYTES:]
    (magic,) = struct.unpack("<Q", footer[-8:])
    if magic != MAGIC:
        raise _Damaged(f"it ends with {magic:#018x}, not with the magic number {MAGIC:#018x}")
    _, at = _read_handle(footer, 0)  # the metaindex block holds nothing that we need
    index_handle, _ = _read_handle(footer, at)
    for _, handle in _block_entries(_block(data, *index_handle)):
        for key, value in _block_entries(_block(data, *_read_handle(handle, 0)[0])):
            yield key.decode(), value


def _block(data: bytes, offset: int, size: int) -> bytes:
    """One block's content, checked."""
    end = offset + size
    if end + TRAILER_BYTES > len(data) - FOOTER_BYTES or size < 4:
        raise _Damaged(f"a block at {offset}..{end} reaches out of the file")
    compression, checksum = struct.unpack_from("<BI", data, end)
    if masked(crc32c(data[offset : end + 1])) != checksum:
        raise _Damaged(f"the checksum of the block at {offset} differs")
    if compression:
        # TensorFlow writes indexes uncompressed; only other writers of LevelDB tables would do this.
        raise NotImplementedError(f"has a block of compression {compression} (1 is Snappy), only 0 is supported")
    return data[offset:end]


def _block_entries(block: bytes) -> Iterator[tuple[bytes, bytes]]:
    (n_restarts,) = struct.unpack("<I", block[-4:])
    end = len(block) - 4 - 4 * n_restarts  # the restarts serve binary search; reading in order needs none
    at, key = 0, b""
    while at < end:
        n_shared, at = _read_varint(block, at)
        n_new, at = _read_varint(block, at)
        n_value, at = _read_varint(block, at)
        value_at = at + n_new
        if n_shared > len(key) or value_at + n_value > end:
            raise _Damaged("an entry reaches out of its block")
        key = key[:n_shared] + block[at:value_at]
        at = value_at + n_value
        yield key, block[value_at:at]
    if at != end:
        raise _Damaged("a block has a wrong number of restarts")


def _read_handle(data: bytes, at: int) -> tuple[tuple[int, int], int]:
    offset, at = _read_varint(data, at)
    size, at = _read_varint(data, at)
    return (offset, size), at


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    """A number in groups of seven bits, the lowest first; the top bit says that more follow.  -> (number, next place)"""
    number = 0
    for shift in range(0, 64, 7):
        byte = data[at]
        at += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, at
    raise _Damaged("a number has more than ten bytes")


# -- the protocol buffers -----------------------------------------------------------------------------


def _fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """(field number, value) of a protocol buffer: an int, or bytes for what has a length."""
    at = 0
    while at < len(message):
        tag, at = _read_varint(message, at)
        kind = tag & 7
        if kind == 0:
            value, at = _read_varint(message, at)
        elif kind in (1, 5):
            size = 8 if kind == 1 else 4
            value, at = int.from_bytes(message[at : at + size], "little"), at + size
        elif kind == 2:
            size, at = _read_varint(message, at)
            value, at = message[at : at + size], at + size
        else:
            raise _Damaged(f"a protocol buffer has a field of kind {kind}")
        if at > len(message):
            raise _Damaged("a protocol buffer is cut short")
        yield tag >> 3, value


def _check_header(message: bytes | None) -> int:
    """BundleHeaderProto -> number of data files."""
    if message is None:
        raise _Damaged("it has no header entry")
    header = dict(_fields(message))
    if header.get(2, 0) != 0:
        raise NotImplementedError("is of a big-endian machine, which is not supported")
    return header.get(1, 1)


def _parse_entry(message: bytes) -> Entry:
    """BundleEntryProto; a field that is 0 is left out of the message."""
    fields = dict(_fields(message))
    return Entry(
        dtype=fields.get(1, 0),
        shape=tuple(_parse_shape(fields.get(2, b""))),
        shard=fields.get(3, 0),
        offset=fields.get(4, 0),
        size=fields.get(5, 0),
        checksum=fields.get(6, 0),
        is_sliced=7 in fields,
    )


def _parse_shape(message: bytes) -> Iterator[int]:
    """TensorShapeProto: one message ``dim`` per axis, whose field 1 is the size."""
    for number, dim in _fields(message):
        if number == 2:
            yield dict(_fields(dim)).get(1, 0)
