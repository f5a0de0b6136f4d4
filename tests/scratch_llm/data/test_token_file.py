"""The token file: what is written is what is read, and nothing half-written is ever opened."""

from __future__ import annotations

import errno
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scratch_llm.data import TokenFile, TokenFileWriter, token_dtype

DOCUMENTS = [[1, 2, 3], [4], [5, 6]]


def write(path, documents=DOCUMENTS, vocab_size=300):
    with TokenFileWriter(path, vocab_size) as writer:
        for ids in documents:
            writer.append(ids, n_bytes=2 * len(ids))
    return path


@pytest.mark.parametrize("vocab_size, name", [(2, "uint16"), (2**16, "uint16"), (2**16 + 1, "uint32")])
def test_dtype_is_the_smallest_that_holds_every_id(vocab_size, name, tmp_path):
    assert token_dtype(vocab_size).name == name
    highest = vocab_size - 1
    file = TokenFile(write(tmp_path / "x", [[0, highest]], vocab_size))
    assert file.tokens.tolist() == [0, highest] and file.tokens.dtype.name == name


@settings(max_examples=30, deadline=None)
@given(documents=st.lists(st.lists(st.integers(0, 299), max_size=20), min_size=1).filter(any))
def test_round_trip(documents, tmp_path_factory):
    file = TokenFile(write(tmp_path_factory.mktemp("t") / "x", documents))
    kept = [ids for ids in documents if ids]  # an empty document leaves no trace
    assert file.tokens.tolist() == [i for ids in kept for i in ids]
    assert file.document_ends.tolist() == np.cumsum([len(ids) for ids in kept]).tolist()
    assert (len(file), file.n_documents, file.n_bytes) == (file.n_tokens, len(kept), 2 * file.n_tokens)
    file.verify()


def test_tokens_are_mapped_not_read(tmp_path):
    assert isinstance(TokenFile(write(tmp_path / "x")).tokens, np.memmap)


def test_path_with_or_without_suffix(tmp_path):
    write(tmp_path / "x.bin")
    assert len(TokenFile(tmp_path / "x")) == len(TokenFile(tmp_path / "x.bin")) == 6


@pytest.mark.parametrize("ids", [[-1], [300], np.array([2**40])])
def test_id_outside_the_vocabulary(ids, tmp_path):
    with pytest.raises(ValueError, match="outside 0 to 299; write the file with the vocab_size"):
        write(tmp_path / "x", [ids])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("ids", [[0.5], [[1, 2]]])
def test_ids_that_are_no_ids(ids, tmp_path):
    with pytest.raises(ValueError, match="flat list of integers"):
        write(tmp_path / "x", [ids])


def test_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="tokenise a corpus first"):
        TokenFile(tmp_path / "absent")


def test_nothing_to_write(tmp_path):
    with pytest.raises(ValueError, match="at least one document"):
        write(tmp_path / "x", [[]])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("suffix", [".bin", ".ends"])
def test_truncated(suffix, tmp_path):
    path = write(tmp_path / "x").with_suffix(suffix)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ValueError, match=r"corrupt or half-written.*tokenise the corpus again"):
        TokenFile(tmp_path / "x")


def test_json_missing_means_half_written(tmp_path):
    write(tmp_path / "x").with_suffix(".json").unlink()
    with pytest.raises(ValueError, match="half-written"):
        TokenFile(tmp_path / "x")


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"n_tokens": "six"}', "null", "\x00\x01"])
def test_corrupt_json(text, tmp_path):
    write(tmp_path / "x").with_suffix(".json").write_text(text)
    with pytest.raises(ValueError, match="is corrupt; delete it"):
        TokenFile(tmp_path / "x")


def test_unknown_dtype_in_json(tmp_path):
    side = write(tmp_path / "x").with_suffix(".json")
    side.write_text(json.dumps(json.loads(side.read_text()) | {"dtype": "int8"}))
    with pytest.raises(ValueError, match="is corrupt"):
        TokenFile(tmp_path / "x")


def test_verify_finds_one_changed_bit(tmp_path):
    write(tmp_path / "x")
    path = tmp_path / "x.bin"
    data = bytearray(path.read_bytes())
    data[4] ^= 1
    path.write_bytes(data)
    file = TokenFile(path)
    with pytest.raises(ValueError, match="SHA-256 differs"):
        file.verify()


def test_an_exception_leaves_the_old_file(tmp_path):
    write(tmp_path / "x")
    with pytest.raises(KeyboardInterrupt), TokenFileWriter(tmp_path / "x", 300) as writer:
        writer.append([7, 8])
        raise KeyboardInterrupt
    assert TokenFile(tmp_path / "x").tokens.tolist() == [1, 2, 3, 4, 5, 6]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["x.bin", "x.ends", "x.json"]


def test_full_disk_while_closing(tmp_path, monkeypatch):
    write(tmp_path / "x")
    writer = TokenFileWriter(tmp_path / "x", 300)
    writer.append([9])

    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        writer.close()
    assert TokenFile(tmp_path / "x").tokens.tolist() == [1, 2, 3, 4, 5, 6]
    assert not list(tmp_path.glob("*.partial")) and not list(tmp_path.glob(".*"))


def test_json_from_another_generation_is_refused(tmp_path):
    """A kill between the renames leaves no JSON, whatever was there before."""
    write(tmp_path / "x")
    writer = TokenFileWriter(tmp_path / "x", 300)
    writer.append([9, 9, 9, 9, 9, 9])  # same size as the old file: only the JSON's absence tells
    writer.append([1])
    original, calls = __import__("os").replace, []

    def killed(source, target):
        calls.append(target)
        if len(calls) == 2:
            raise SystemExit("killed")
        original(source, target)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("os.replace", killed)
        with pytest.raises(SystemExit):
            writer.close()
    with pytest.raises(ValueError, match="half-written"):
        TokenFile(tmp_path / "x")
