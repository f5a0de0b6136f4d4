"""Tables on the terminal: columns stand below one another though Hangul is twice as wide."""

from __future__ import annotations

import pytest

from llm_workshop.report.columns import display_width, pad, print_table, table_lines


def test_width_of_hangul():
    assert [display_width(text) for text in ("", "DDP", "손실", "손실 3", "i\u0302")] == [0, 3, 4, 6, 1]
    assert pad("손실", 6) == "손실  " and pad("손실", 6, right=True) == "  손실" and pad("손실", 3) == "손실"


def test_columns_stand_below_one_another():
    rows = [{"방법": "한 프로세스", "토큰/초": 12345, "차이": "–"}, {"방법": "DDP", "토큰/초": 7, "차이": "1.5e-07"}]
    assert table_lines(rows) == [
        "방법         토큰/초     차이",
        "한 프로세스   12,345        –",
        "DDP                7  1.5e-07",
    ]


def test_texts_are_left_and_missing_values_are_shown(capsys):
    print_table([{"a": "x", "b": 1.5}, {"a": "xyz"}], indent=1)
    assert capsys.readouterr().out == " a      b\n x    1.5\n xyz    –\n"
    with pytest.raises(ValueError, match="at least one row"):
        table_lines([])
