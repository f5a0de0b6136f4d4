"""The safetensors format, read in pieces through memory maps and written as a stream.

A file is: the header's length (8 bytes, little-endian), the header, the tensors' bytes end to end.  The header is JSON,
``{"name": {"dtype": "F32", "shape": [2, 3], "data_offsets": [begin, end]}, ...}``, with offsets from the header's end
(github.com/huggingface/safetensors, README, "Format").

The library of that name reads a file as one map or one copy.  Here a tensor is read in pieces of a few megabytes, each
mapped and let go, so that loading holds the finished model and hardly more (``weights.loading_lesson``).
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from torch import Tensor

PIECE_BYTES = 1 << 22

DTYPES: dict[str, torch.dtype] = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
_NAMES = {dtype: name for name, dtype in DTYPES.items()}
_LONGEST_HEADER = 100_000_000  # bytes; the library's own limit


@dataclass(frozen=True)
class TensorInfo:
    """What the header says of one tensor."""

    dtype: torch.dtype
    shape: tuple[int, ...]
    offset: int
    """Of its first byte in the file."""

    @property
    def n_bytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


class SafetensorsFile:
    """An opened file: ``tensors`` tells what there is, ``pieces`` and ``read`` give it.

    Raises:
        ValueError: the file is damaged, cut short or holds an element type that we do not read.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        try:
            self.tensors = _read_header(self.path)
        except (ValueError, KeyError, TypeError, AttributeError, OSError, struct.error) as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            raise ValueError(
                f"{self.path} is damaged or half-written ({reason}): copy or save the model again"
            ) from None

    def pieces(self, name: str, max_bytes: int = PIECE_BYTES) -> Iterator[tuple[int, Tensor]]:
        """(first row, rows) of a tensor, one after another: views of a memory map, to be copied and dropped.

        A piece has at least one row (index of the first axis), and ``max_bytes`` at most otherwise.
        """
        info = self.tensors[name]
        n_rows = info.shape[0] if info.shape else 1
        if not info.n_bytes:
            yield 0, torch.empty(info.shape, dtype=info.dtype)
            return
        row_bytes = info.n_bytes // n_rows
        step = max(1, max_bytes // row_bytes)
        for first in range(0, n_rows, step):
            n = min(step, n_rows - first)
            # "c" is copy-on-write: what is written to the view never reaches the file.
            data = np.memmap(self.path, np.uint8, "c", info.offset + first * row_bytes, (n * row_bytes,))
            shape = (n, *info.shape[1:]) if info.shape else ()
            yield first, torch.from_numpy(data).view(info.dtype).view(shape)

    def read(self, name: str) -> Tensor:
        """A whole tensor in memory of its own."""
        info = self.tensors[name]
        whole = torch.empty(info.shape, dtype=info.dtype)
        for first, piece in self.pieces(name):
            (whole[first : first + len(piece)] if info.shape else whole).copy_(piece)
        return whole


def write_safetensors(
    stream: IO[bytes], specs: Mapping[str, tuple[torch.dtype, Sequence[int]]], tensors: Iterable[Tensor]
) -> None:
    """Write a file to an open stream, taking one tensor at a time.

    Args:
        specs: name -> (dtype, shape), in the order in which ``tensors`` come.  Those of wide elements should come
            first, so that every tensor is aligned.
        tensors: on any device; converted to their dtype.
    """
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, (dtype, shape) in specs.items():
        begin, end = end, end + math.prod(shape) * dtype.itemsize
        header[name] = {"dtype": _NAMES[dtype], "shape": list(shape), "data_offsets": [begin, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    stream.write(struct.pack("<Q", len(text)) + text)
    for (dtype, _), tensor in zip(specs.values(), tensors, strict=True):
        data = tensor.detach().to("cpu", dtype).contiguous().flatten()
        stream.write(memoryview(data.view(torch.uint8).numpy()))


def _read_header(path: Path) -> dict[str, TensorInfo]:
    size = path.stat().st_size
    with open(path, "rb") as stream:
        (length,) = struct.unpack("<Q", stream.read(8))
        if length > min(size - 8, _LONGEST_HEADER):
            raise ValueError(f"a header of {length:,} bytes in a file of {size:,}")
        header = json.loads(stream.read(length))
    header.pop("__metadata__", None)
    end = 0
    tensors = {}
    for name, fields in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
        if fields["dtype"] not in DTYPES:
            raise ValueError(f"{name} has elements of type {fields['dtype']!r}, we read {', '.join(DTYPES)}")
        begin, stop = fields["data_offsets"]
        info = TensorInfo(DTYPES[fields["dtype"]], tuple(fields["shape"]), 8 + length + begin)
        if begin != end or stop - begin != info.n_bytes or min(info.shape, default=0) < 0:
            raise ValueError(f"the bytes {begin}..{stop} of {name} do not fit its shape or its neighbours")
        tensors[name], end = info, stop
    if 8 + length + end != size:
        raise ValueError(f"{8 + length + end:,} bytes announced, {size:,} there")
    return tensors
