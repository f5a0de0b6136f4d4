"""Encoding and decoding: lossless, equal to the clear version, lazy, safe with special tokens."""

from __future__ import annotations

import itertools
import pickle
import unicodedata
import warnings

import numpy as np
import pytest
import regex
from hypothesis import given, settings
from hypothesis import strategies as st

from scratch_llm.tokenizers import PATTERNS, SPECIAL_TOKENS, ByteLevelBPE, SimpleBPE
from scratch_llm.tokenizers.batch_encoder import BatchEncoder, in_learned_order
from scratch_llm.tokenizers.byte_table import BYTE_ORDER, BYTE_TO_CHARACTER, from_printable, to_printable
from scratch_llm.tokenizers.patterns import PreTokenizer
from scratch_llm.tokenizers.piece_encoder import MergeTable, PieceCache, merge_long, merge_short

whole_characters = st.characters(exclude_categories=["Cs"])
korean_like = st.text(st.one_of(st.sampled_from("가나다닭ㅋㅠ ,.1a\n\u1112\u1161\u11ab"), whole_characters))


@settings(max_examples=300, deadline=None)
@given(text=korean_like)
def test_round_trip_is_exact_without_normalisation(text, byte_exact_tokenizer):
    assert byte_exact_tokenizer.decode(byte_exact_tokenizer.encode(text)) == text
    assert byte_exact_tokenizer.decode_bytes(byte_exact_tokenizer.encode(text)) == text.encode()


@settings(max_examples=200, deadline=None)
@given(text=korean_like)
def test_round_trip_gives_the_nfc_form_by_default(text, tokenizer):
    assert tokenizer.decode(tokenizer.encode(text, allow_special=False)) == unicodedata.normalize("NFC", text)


@pytest.fixture(scope="module")
def byte_exact_tokenizer(korean_texts):
    return ByteLevelBPE.train(korean_texts, 500, normalization=None)


@settings(max_examples=200, deadline=None)
@given(text=korean_like)
def test_fast_encodes_like_the_clear_version(text, tokenizer, clear_twin):
    ids = tokenizer.encode(text)
    assert ids == clear_twin.encode(text)
    assert tokenizer.decode(ids) == clear_twin.decode(ids)
    assert tokenizer.encode_to_array(text).tolist() == ids


@pytest.fixture(scope="module")
def clear_twin(tokenizer):
    merges = [(tokenizer.token_of(left), tokenizer.token_of(right)) for left, right, _ in tokenizer.merges]
    return SimpleBPE(merges, SPECIAL_TOKENS)


@settings(max_examples=300, deadline=None)
@given(
    text=st.text(alphabet="abc", max_size=60),
    merges=st.lists(st.tuples(st.integers(0, 8), st.integers(0, 8)), max_size=30),
)
def test_heap_equals_scan_for_any_merges(text, merges):
    """Also for merge tables that no training would make: cycles, repeats, ranks out of order."""
    table = MergeTable((left, right, 3 + n % 6) for n, (left, right) in enumerate(merges))
    ids = ["abc".index(letter) for letter in text]
    assert merge_long(ids.copy(), table) == merge_short(ids.copy(), table)


@settings(max_examples=200, deadline=None)
@given(words=st.lists(st.text(alphabet="ab가ㅋ", min_size=1, max_size=20), min_size=1, max_size=20))
def test_batches_equal_one_by_one(words):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        tokenizer = ByteLevelBPE.train([" ".join(words)], 300, min_frequency=1)
    byte_ids = [tokenizer.token_to_id(bytes([byte])) for byte in range(256)]
    batch = BatchEncoder(byte_ids, tokenizer.merges, tokenizer.vocab_size)
    pieces = [*words, *(word + word[::-1] for word in words)]
    encoded = batch.encode([piece.encode() for piece in pieces])
    assert [np.frombuffer(packed, np.uint32).tolist() for packed in encoded] == list(
        map(tokenizer.encode, pieces)
    )


def test_merges_out_of_order_are_not_batched():
    byte_ids = list(range(256))
    assert in_learned_order(byte_ids, [(97, 98, 256), (256, 99, 257)])
    assert not in_learned_order(byte_ids, [(256, 99, 257), (97, 98, 256)])
    assert not in_learned_order(byte_ids, [(97, 98, 256), (98, 99, 256)])


def test_bulk_encoding_equals_encoding_one_by_one(korean_texts, awkward_texts, monkeypatch):
    tokenizer = ByteLevelBPE.train(korean_texts, 450, SPECIAL_TOKENS)
    texts = [*korean_texts, *awkward_texts, "<|user|>가<|end|>", "ㅋ" * 5000, " ".join(korean_texts)] * 2
    expected = [tokenizer.encode(text) for text in texts]
    monkeypatch.setattr("scratch_llm.tokenizers.text_encoder._READ_AHEAD", 2000)
    tokenizer.clear_cache()
    arrays = tokenizer.encode_documents(texts, allow_special=True, end_with=None)
    assert [array.tolist() for array in arrays] == expected


def test_a_very_long_piece_is_quick_and_equal(tokenizer):
    word = "가나다" * 40_000
    ids = tokenizer.encode(word)
    assert tokenizer.decode(ids) == word
    unit = tokenizer.encode("가나다" * 100)
    assert ids[: len(unit) // 2] == unit[: len(unit) // 2]


# ------------------------------------------------------------------ patterns


@settings(max_examples=300, deadline=None)
@given(text=korean_like)
def test_every_pattern_keeps_every_character(text):
    for pattern in PATTERNS:
        assert "".join(PreTokenizer(pattern, None).split(text)) == text


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("BTS가 GPU를 샀다ㅋㅋㅋ", ["BTS", "가", " GPU", "를", " 샀다", "ㅋㅋㅋ"]),
        ("2024년 1,234,567원", ["202", "4", "년", " 1", ",", "234", ",", "567", "원"]),
        ("그래?! 응.\n\n\n끝", ["그래", "?!", " 응", ".", "\n\n\n", "끝"]),
        ("  들여쓰기", [" ", " 들여쓰기"]),
        ("e\u0301te\u0301", ["e\u0301te\u0301"]),
    ],
)
def test_korean_pattern_cuts_at_changes_of_script(text, pieces):
    assert PreTokenizer("korean", None).split(text) == pieces


def test_gpt2_pattern_cuts_as_published():
    text = "I'll say it's 안녕, world!!  42 times"
    assert PreTokenizer("gpt2", None).split(text) == (
        ["I", "'ll", " say", " it", "'s", " 안녕", ",", " world", "!!", " ", " 42", " times"]
    )


def test_cutting_a_long_text_into_chunks_changes_no_piece(korean_texts, monkeypatch):
    text = "\n".join(korean_texts[:500]) + "\n\n \n  끝\n"
    monkeypatch.setattr("scratch_llm.tokenizers.patterns._CHUNK", 20)
    for pattern, expression in PATTERNS.items():
        chunks = list(PreTokenizer(pattern).split_chunks(text))
        assert len(chunks) > 300
        assert list(itertools.chain.from_iterable(chunks)) == regex.findall(expression, text)


@settings(max_examples=200, deadline=None)
@given(text=st.text(alphabet="a가ㅋ1.'\n\r \u3000s", max_size=80))
def test_chunks_of_any_text_change_no_piece(text):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("scratch_llm.tokenizers.patterns._CHUNK", 2)
        for pattern, expression in PATTERNS.items():
            chunks = PreTokenizer(pattern, None).split_chunks(text)
            assert list(itertools.chain.from_iterable(chunks)) == regex.findall(expression, text)


# ------------------------------------------------------------------ NFC, NFD


def test_nfd_hangul_is_tokenised_like_nfc(tokenizer, korean_texts):
    composed = " ".join(korean_texts[:50])
    decomposed = unicodedata.normalize("NFD", composed)
    assert len(decomposed) > 1.5 * len(composed)
    assert tokenizer.encode(decomposed) == tokenizer.encode(composed)


def test_nfd_hangul_without_normalisation_is_longer_and_comes_back_byte_for_byte(
    byte_exact_tokenizer, korean_texts
):
    composed = " ".join(korean_texts[:50])
    decomposed = unicodedata.normalize("NFD", composed)
    ids = byte_exact_tokenizer.encode(decomposed)
    assert byte_exact_tokenizer.decode_bytes(ids) == decomposed.encode()
    assert len(ids) > 3 * len(byte_exact_tokenizer.encode(composed))


def test_a_corpus_in_nfd_trains_the_same_merges(korean_texts):
    decomposed = [unicodedata.normalize("NFD", text) for text in korean_texts]
    assert ByteLevelBPE.train(decomposed, 400).merges == ByteLevelBPE.train(korean_texts, 400).merges


# ------------------------------------------------------------------ special tokens


def test_special_tokens_match_longest_first(korean_texts):
    names = ["<|end|>", "<|end|>!", "<|end|>!!"]
    for order in itertools.permutations(names):
        tokenizer = ByteLevelBPE.train(korean_texts, 300, list(order))
        ids = tokenizer.encode("가<|end|>!!나<|end|>!다<|end|>라")
        found = [tokenizer.token_of(number).decode() for number in ids if tokenizer.is_special(number)]
        assert found == ["<|end|>!!", "<|end|>!", "<|end|>"]


def test_special_tokens_only_when_allowed(tokenizer):
    text = "가<|end|>나"
    assert tokenizer.special_tokens["<|end|>"] in tokenizer.encode(text)
    plain = tokenizer.encode(text, allow_special=False)
    assert not any(tokenizer.is_special(number) for number in plain)
    assert tokenizer.decode(plain) == text


def test_skip_special_leaves_only_text(tokenizer):
    ids = tokenizer.encode("<|user|>가나<|end|><|endoftext|>")
    assert tokenizer.decode(ids, skip_special=True) == "가나"
    assert tokenizer.decode(ids) == "<|user|>가나<|end|><|endoftext|>"


def test_special_tokens_are_not_normalised(korean_texts):
    name = unicodedata.normalize("NFD", "<|끝|>")
    tokenizer = ByteLevelBPE.train(korean_texts, 300, [name])
    ids = tokenizer.encode(f"가{name}나<|끝|>")
    assert ids.count(tokenizer.special_tokens[name]) == 1
    assert tokenizer.decode(ids) == f"가{name}나<|끝|>"


# ------------------------------------------------------------------ many texts


def test_encode_iterable_is_lazy_and_treats_texts_one_by_one(tokenizer, korean_texts):
    read = 0

    def endless():
        nonlocal read
        for text in itertools.cycle(korean_texts):
            read += 1
            yield text

    first = list(itertools.islice(tokenizer.encode_iterable(endless()), 100))
    assert read < 40
    expected = list(itertools.chain.from_iterable(map(tokenizer.encode, korean_texts[:read])))
    assert first == expected[:100]
    # A boundary between texts is a boundary between tokens.
    assert list(tokenizer.encode_iterable(["가나", "다라"])) == tokenizer.encode("가나") + tokenizer.encode(
        "다라"
    )


def test_encode_documents_ends_each_with_end_of_text(tokenizer, korean_texts):
    texts = [*korean_texts[:20], "", "<|end|>"]
    arrays = list(tokenizer.encode_documents(texts))
    assert all(array.dtype == np.uint32 and array[-1] == tokenizer.eos_id for array in arrays)
    assert [tokenizer.decode(array[:-1].tolist()) for array in arrays] == texts
    assert not any(tokenizer.is_special(number) for number in arrays[-1][:-1].tolist())
    whole = list(tokenizer.encode_documents(texts, end_with=None, allow_special=True))
    assert [array.tolist() for array in whole] == tokenizer.encode_batch(texts)


def test_the_cache_stays_within_its_capacity_and_changes_nothing(tokenizer, korean_texts):
    byte_ids = [tokenizer.token_to_id(bytes([byte])) for byte in range(256)]
    cache = PieceCache(byte_ids, tokenizer.merges, tokenizer.vocab_size, capacity=10)
    for piece in tokenizer.pre_tokenizer.split(" ".join(korean_texts[:200])):
        assert np.frombuffer(cache[piece], np.uint32).tolist() == tokenizer.encode(piece)
        assert len(cache) <= 10


def test_copies_encode_alike(tokenizer):
    tokenizer.encode("가나다")
    twin = pickle.loads(pickle.dumps(tokenizer))
    assert twin.encode("가나다 라<|end|>") == tokenizer.encode("가나다 라<|end|>")


# ------------------------------------------------------------------ vocabulary


def test_vocabulary_is_bytes_then_merges_then_special_tokens(tokenizer):
    assert [tokenizer.token_of(n)[0] for n in range(256)] == list(BYTE_ORDER)
    assert [new for _, _, new in tokenizer.merges] == list(range(256, 494))
    assert list(tokenizer.special_tokens.items()) == [
        (name, 494 + n) for n, name in enumerate(SPECIAL_TOKENS)
    ]
    assert (tokenizer.eos_id, tokenizer.pad_id) == (494, 495)


def test_token_bytes_add_up_to_the_text(tokenizer, korean_texts):
    lengths = tokenizer.token_bytes()
    assert lengths.shape == (500,) and lengths.dtype == np.int32
    for text in korean_texts[:50]:
        assert lengths[tokenizer.encode(text + "<|end|>")].sum() == len(text.encode())


def test_token_to_id(tokenizer):
    for number in range(tokenizer.vocab_size):
        assert tokenizer.token_to_id(tokenizer.token_of(number)) in (number, None)
    assert tokenizer.token_to_id("<|end|>") == tokenizer.special_tokens["<|end|>"]
    assert tokenizer.token_to_id("없는토큰") is None


def test_printable_names_are_one_to_one():
    assert len(set(BYTE_TO_CHARACTER.values())) == 256 == len(set(BYTE_ORDER))
    every_byte = bytes(range(256))
    assert from_printable(to_printable(every_byte)) == every_byte
    assert to_printable(b" the\n") == "Ġtheċ".replace("ċ", "Ċ")


def test_a_small_vocabulary_is_the_beginning_of_a_large_one(tokenizer, korean_texts):
    small = ByteLevelBPE.train(korean_texts, 350, SPECIAL_TOKENS)
    shrunk = tokenizer.shrink(350)
    assert (shrunk.merges, shrunk.special_tokens) == (small.merges, small.special_tokens)
    assert shrunk.encode("가나다<|end|>라마") == small.encode("가나다<|end|>라마")
    for size in (261, 501):
        with pytest.raises(ValueError, match=r"out of range: use 262\.\.500"):
            tokenizer.shrink(size)
