"""A participant's file is loaded past its mistakes."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_workshop.learning.submission import load_submission, parse


@pytest.fixture
def load(tmp_path):
    def load(text: str | bytes, **options):
        path = tmp_path / "exercises.py"
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return load_submission(path, **options)

    return load


GOOD = "def good():\n    return 1\n"


@pytest.mark.parametrize(("bad", "kind", "line", "names"), [
    ("def bad(x:\n    return x\n", "SyntaxError", 1, ("bad",)),
    ("def bad(x):\n    return (x\n", "SyntaxError", 2, ("bad",)),
    ("def bad(x):\nreturn x\n", "IndentationError", 2, ("bad",)),
    ("def bad(x):\n    if x:\n    return x\n", "IndentationError", 3, ("bad",)),
    ("def bad(x):\n    return '''x\n", "SyntaxError", 2, ("bad",)),
    ("import there_is_no_such_module\n", "ModuleNotFoundError", 1, ("there_is_no_such_module",)),
    ("bad = [1, 2][5]\n", "IndexError", 1, ("bad",)),
    ("import sys\nsys.exit(0)\n", "SystemExit", 2, ()),
    ("raise NotImplementedError\n", "NotImplementedError", 1, ()),
    ("@undefined\ndef bad():\n    pass\n", "NameError", 1, ("bad",)),
    ("class Bad:\n    x = 1 / 0\n", "ZeroDivisionError", 2, ("Bad",)),
])
def test_one_broken_statement_leaves_the_others(load, bad, kind, line, names):
    for text in (bad + "\n\n" + GOOD, GOOD + "\n\n" + bad):
        offset = text.index(bad)
        before = text[:offset].count("\n")
        loaded = load(text)
        if text.startswith(GOOD) or "'''" not in bad:  # what follows an open ''' belongs to it
            assert loaded.module.good() == 1
        first = loaded.broken[0]
        assert first.kind == kind
        assert first.line == before + line
        assert set(names) <= {name for each in loaded.broken for name in each.names}


def test_lines_keep_their_numbers(load):
    loaded = load("def bad(:\n    pass\n\n\ndef good():\n    raise KeyError\n")
    with pytest.raises(KeyError) as caught:
        loaded.module.good()
    assert caught.traceback[-1].lineno + 1 == 6


def test_future_annotations_hold_for_every_statement(load):
    loaded = load("from __future__ import annotations\n\n\ndef good(x: Unknown) -> Unknown:\n    return x\n")
    assert loaded.broken == [] and loaded.module.good.__annotations__ == {"x": "Unknown", "return": "Unknown"}


def test_dataclasses_find_their_module(load):
    loaded = load("from __future__ import annotations\nfrom dataclasses import dataclass\n\n\n@dataclass\nclass P:\n    x: int\n")
    assert loaded.broken == [] and loaded.module.P(3).x == 3


def test_statements_can_be_left_out_and_are_announced(load):
    seen = []
    loaded = load("a = 1\nb = 2\n@print\ndef c(): pass\n", leave_out={1}, before=lambda line, names: seen.append((line, names)))
    assert seen == [(2, ("b",)), (3, ("c",))]
    assert not hasattr(loaded.module, "a") and loaded.module.b == 2


def test_why_something_is_absent(load):
    loaded = load("import nope\n\ndef bad(:\n    pass\n")
    assert loaded.why_absent("bad").kind == "SyntaxError"
    assert loaded.why_absent("other") == loaded.broken[0]
    assert load(GOOD).why_absent("other") is None


@pytest.mark.parametrize("data", [b"", b"\xef\xbb\xbfx = 1\n", b"# \xff\xfe\n", b"x = '\x00'\n", b"def \xb0\xa1():\n  pass\n", b"\r\n\r\nx = 1\r\n"])
def test_odd_bytes_are_no_crash(load, data):
    load(data + GOOD.encode())


@settings(max_examples=150, deadline=None)
@given(st.text(alphabet=st.sampled_from("()[]{}:'\"\\ \n\tdefclass@#x=1가\0\f"), max_size=60))
def test_any_text_parses_or_says_why(text):
    from pathlib import Path

    tree, broken = parse(GOOD + text, Path("exercises.py"))
    assert tree.body or broken
