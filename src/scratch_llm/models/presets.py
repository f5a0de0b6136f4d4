"""Published sizes of an architecture: tables of configuration fields, and the look-up by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

Config = TypeVar("Config")
Sizes = dict[str, dict[str, Any]]
"""The fields of a configuration by the name of a size."""


def size_table(columns: str, rows: Mapping[str, tuple], **common: Any) -> Sizes:
    """A table of sizes from rows of values.

    ``columns`` names the fields of a row's values; a dictionary behind them has further fields of that size.  What all
    sizes share is in ``common``; a row's own fields come before it.

    >>> size_table("n_layers d_model", {"s": (2, 8), "l": (4, 16, {"vocab_size": 9})}, vocab_size=5)["l"]
    {'vocab_size': 9, 'n_layers': 4, 'd_model': 16}
    """
    names = columns.split()
    table = {}
    for size, row in rows.items():
        values, others = row[: len(names)], row[len(names) :]
        table[size] = common | dict(zip(names, values, strict=True))
        for fields in others:
            table[size] |= fields
    return table


def preset(
    family: str, config_class: type[Config], sizes: Sizes, size: str, changes: Mapping[str, Any]
) -> Config:
    """The configuration of a size, with some fields changed.

    Raises:
        ValueError: a size that is not in the table.
    """
    if size not in sizes:
        raise ValueError(f"size {size!r} is no known {family}: use one of {', '.join(sizes)}")
    return config_class(**sizes[size] | changes)
