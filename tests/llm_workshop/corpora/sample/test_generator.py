"""Properties of the stream: deterministic, resumable, disjoint splits, varied, fast, well-formed."""

from __future__ import annotations

import itertools
import os
import re
import subprocess
import sys
import time

import pytest

from llm_workshop.corpora.sample import generate, make_document, split_of
from llm_workshop.corpora.sample.generator import hash_of, kinds_registry

KINDS = tuple(kinds_registry())


@pytest.fixture(scope="module")
def megabyte():
    begin = time.perf_counter()
    documents = list(generate(1.0, seed=0))
    return documents, time.perf_counter() - begin


@pytest.fixture(scope="module")
def valid_part():
    return list(generate(0.3, seed=0, split="valid"))


def test_size_and_speed(megabyte):
    documents, seconds = megabyte
    size = sum(len(document.text.encode()) for document in documents)
    assert 1_000_000 <= size < 1_010_000
    assert size / seconds > 400_000, f"{size / seconds:,.0f} bytes/s; 20 MB must take less than a minute"


def test_variety(megabyte):
    documents, _ = megabyte
    assert len({word for document in documents for word in document.text.split()}) >= 5_000


@pytest.mark.parametrize("kind", ["chat", "story"])
def test_variety_of_the_large_kinds_alone(kind):
    assert len({word for document in generate(1.0, kinds=[kind]) for word in document.text.split()}) >= 5_000


def test_every_kind_is_there_in_both_splits(megabyte, valid_part):
    assert {document.kind for document in megabyte[0]} == set(KINDS)
    assert {document.kind for document in valid_part} == set(KINDS)


def test_no_text_is_repeated_or_shared(megabyte, valid_part):
    train = [hash_of(document.text) for document in megabyte[0]]
    valid = [hash_of(document.text) for document in valid_part]
    assert len(set(train)) == len(train) and len(set(valid)) == len(valid)
    other_seed = {hash_of(document.text) for document in generate(0.5, seed=7)}
    assert not set(valid) & (set(train) | other_seed)
    assert all(split_of(document.text) == "valid" for document in valid_part)


def test_ids_are_unique_and_name_their_split(megabyte, valid_part):
    ids = [document.id for document in megabyte[0] + valid_part]
    assert len(set(ids)) == len(ids)
    assert all(document.id.startswith(document.split) for document in megabyte[0] + valid_part)


def test_a_document_depends_on_its_index_alone(megabyte):
    for document in itertools.islice(megabyte[0], 0, 400, 37):
        assert make_document(int(document.id.rpartition("-")[2])).to_json() == document.to_json()


def test_resuming_gives_the_same_documents():
    whole = [document.to_json() for document in generate(0.2, seed=3)]
    later = next(iter(generate(0.01, seed=3, start=40)))
    assert later.to_json() in whole


def test_a_longer_corpus_begins_with_the_shorter():
    short = [document.to_json() for document in generate(0.05, seed=2)]
    assert [document.to_json() for document in itertools.islice(generate(5, seed=2), len(short))] == short


def test_seeds_differ():
    first = [{document.text for document in generate(0.05, seed=seed)} for seed in (0, 1)]
    assert len(first[0] & first[1]) < len(first[0]) / 4


@pytest.mark.parametrize("hash_seed", ["0", "12345"])
def test_bytes_do_not_depend_on_pythonhashseed(hash_seed):
    code = (
        "import hashlib\nfrom llm_workshop.corpora.sample import generate\n"
        "print(hashlib.sha256(''.join(d.to_json() for d in generate(0.3, seed=5)).encode()).hexdigest())"
    )
    run = subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONHASHSEED": hash_seed}, capture_output=True, text=True, check=True)
    import hashlib

    here = hashlib.sha256("".join(document.to_json() for document in generate(0.3, seed=5)).encode()).hexdigest()
    assert run.stdout.strip() == here


WRONG = re.compile(
    r"  |[{}|]|<[가-힣]|@\(|\((?:은|는|이|가|을|를)\)|은/는|이/가|을/를|"
    r"[가-힣](?:를을|을를|은는|는은)(?![가-힣])|이이에요|습니다다|았었|았았|했했|[?!]\.|,\.|\.,| [.,?!]|None|Person\("
)


@pytest.mark.parametrize("kind", KINDS)
def test_text_is_clean(kind):
    for document in generate(0.25, kinds=[kind]):
        found = WRONG.search(document.text)
        assert not found, f"{found.group()!r} in {document.id}: {document.text}"
        assert document.text == document.text.strip() and document.text


def test_noise_is_labelled_and_clean_documents_have_none():
    assert all(not document.noise for document in generate(0.05))
    noisy = list(generate(0.2, noise=0.5))
    share = sum(bool(document.noise) for document in noisy) / len(noisy)
    assert 0.3 < share < 0.7


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"megabytes": 0}, "megabytes must be"), ({"megabytes": -1}, "megabytes must be"), ({"megabytes": float("nan")}, "megabytes must be"), ({"megabytes": "1"}, "megabytes must be"),
        ({"megabytes": 1, "kinds": ["novel"]}, "unknown kind .*novel.*story"), ({"megabytes": 1, "kinds": []}, "unknown kind"), ({"megabytes": 1, "noise": 1.5}, "noise must be"),
        ({"megabytes": 1, "noise": -0.1}, "noise must be"), ({"megabytes": 1, "split": "test"}, "unknown split"), ({"megabytes": 1, "seed": 1.5}, "seed must be"), ({"megabytes": 1, "start": -1}, "start must be"),
    ],
)  # fmt: skip
def test_bad_arguments_fail_at_once_in_one_line(arguments, message):
    with pytest.raises(ValueError, match=message) as error:
        generate(**arguments)
    assert "\n" not in str(error.value)


def test_command_line(tmp_path):
    output = tmp_path / "sample.jsonl"
    module = [sys.executable, "-m", "llm_workshop.corpora.sample"]
    run = subprocess.run([*module, "--megabytes", "0.02", "--kinds", "story,chat", "--output", str(output)], capture_output=True, text=True, check=True)
    assert "MB/s" in run.stderr and output.stat().st_size > 20_000
    shown = subprocess.run([*module, "--kinds", "story", "--show", "2"], capture_output=True, text=True, check=True)
    assert shown.stdout.count("--- train-") == 2
    failed = subprocess.run([*module, "--kinds", "novel"], capture_output=True, text=True)
    assert failed.returncode == 1 and failed.stderr.startswith("error: unknown kind") and "Traceback" not in failed.stderr
