"""Learning merges: the fast version against the clear one, against Hugging Face, and its limits."""

from __future__ import annotations

import json
import subprocess
import sys
import warnings

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import Regex as HFRegex
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

from scratch_llm.tokenizers import PATTERNS, SPECIAL_TOKENS, TIE_BREAKS, ByteLevelBPE, SimpleBPE
from scratch_llm.tokenizers.byte_table import to_printable

# Few letters make many ties, overlaps ("aaaa") and merges that spell the same token twice.
repetitive = st.lists(st.text(alphabet="ab가ㅋ 1\n", max_size=40), min_size=1, max_size=8)


def merges_as_bytes(tokenizer: ByteLevelBPE) -> list[tuple[bytes, bytes]]:
    return [(tokenizer.token_of(left), tokenizer.token_of(right)) for left, right, _ in tokenizer.merges]


def train_quietly(kind, *arguments, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return kind.train(*arguments, **options)


@settings(max_examples=150, deadline=None)
@given(
    texts=repetitive,
    tie_break=st.sampled_from(TIE_BREAKS),
    pattern=st.sampled_from(sorted(PATTERNS)),
    min_frequency=st.integers(1, 3),
    n_merges=st.integers(0, 40),
)
@example(["aaaaa aaaa aaa aa"], "greatest_bytes", "gpt2", 1, 40)
def test_fast_equals_clear_merge_for_merge(texts, tie_break, pattern, min_frequency, n_merges):
    if not any(texts):
        texts = ["a"]
    options = {"pattern": pattern, "tie_break": tie_break, "min_frequency": min_frequency}
    clear = train_quietly(SimpleBPE, texts, 257 + n_merges, ["<|end|>"], **options)
    fast = train_quietly(ByteLevelBPE, texts, 257 + n_merges, ["<|end|>"], **options)
    assert merges_as_bytes(fast) == clear.merges
    assert fast.vocab_size == len(clear.vocab)
    for text in texts:
        assert fast.encode(text) == clear.encode(text)


def test_fast_equals_clear_on_korean(korean_texts):
    for tie_break in TIE_BREAKS:
        clear = SimpleBPE.train(korean_texts, 420, tie_break=tie_break)
        fast = ByteLevelBPE.train(korean_texts, 420, tie_break=tie_break)
        assert merges_as_bytes(fast) == clear.merges
        assert [fast.token_to_id(token) for token in clear.vocab] == list(clear.vocab.values())


@settings(max_examples=150, deadline=None)
@given(st.lists(st.text(alphabet="ab", min_size=1, max_size=14), min_size=2, max_size=12))
def test_no_two_merges_spell_the_same_token(words):
    """What the trainer relies on; two letters only, so that spellings are as crowded as can be."""
    texts = [" ".join(words)]
    clear = train_quietly(SimpleBPE, texts, 330, min_frequency=1)
    fast = train_quietly(ByteLevelBPE, texts, 330, min_frequency=1)
    assert merges_as_bytes(fast) == clear.merges
    spelled = [left + right for left, right in clear.merges]
    assert len(set(spelled)) == len(spelled)
    assert all(fast.encode(token.decode()) == [256 + n] for n, token in enumerate(spelled))


def test_tie_break_is_what_its_name_says():
    # "ab" and "cd" occur equally often.
    texts = ["ab", "cd", "ab", "cd"]
    assert merges_as_bytes(ByteLevelBPE.train(texts, 257))[0] == (b"c", b"d")
    assert merges_as_bytes(ByteLevelBPE.train(texts, 257, tie_break="least_ids"))[0] == (b"a", b"b")


def hugging_face_merges(texts, pattern: str, n_tokens: int) -> list[tuple[str, str]]:
    peer = Tokenizer(models.BPE())
    peer.normalizer = normalizers.NFC()
    peer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(HFRegex(PATTERNS[pattern]), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=n_tokens,
        min_frequency=2,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    peer.train_from_iterator(texts, trainer)
    return [tuple(merge) for merge in json.loads(peer.to_str())["model"]["merges"]]


@pytest.mark.parametrize("pattern", sorted(PATTERNS))
def test_least_ids_learns_what_hugging_face_learns(korean_texts, pattern):
    ours = train_quietly(ByteLevelBPE, korean_texts, 1200, pattern=pattern, tie_break="least_ids")
    printable = [(to_printable(left), to_printable(right)) for left, right in merges_as_bytes(ours)]
    assert len(printable) > 150
    assert printable == hugging_face_merges(korean_texts, pattern, 1200)


def test_least_ids_learns_what_hugging_face_learns_from_real_reviews(nsmc_texts):
    ours = ByteLevelBPE.train(nsmc_texts, 4096, pattern="korean", tie_break="least_ids")
    printable = [(to_printable(left), to_printable(right)) for left, right in merges_as_bytes(ours)]
    assert len(printable) >= 3840
    assert printable == hugging_face_merges(nsmc_texts, "korean", 4096)


def test_texts_are_read_once_and_lazily(korean_texts):
    read = 0

    def stream():
        nonlocal read
        for text in korean_texts:
            read += 1
            yield text

    tokenizer = ByteLevelBPE.train(stream(), 300)
    assert read == len(korean_texts) == tokenizer.report.n_texts
    assert tokenizer.merges == ByteLevelBPE.train(korean_texts, 300).merges


def test_special_tokens_are_cut_out_of_the_training_text():
    texts = ["<|end|>가나<|end|>가나<|end|>" * 50]
    tokenizer = ByteLevelBPE.train(texts, 262, ["<|end|>"])
    assert not any(set(token) & set(b"<|end>") for token in tokenizer.ordinary_tokens() if len(token) > 1)


def test_progress_counts_every_token(korean_texts):
    calls = []
    ByteLevelBPE.train(korean_texts, 356, progress=lambda done, total: calls.append((done, total)))
    assert calls == [(n, 100) for n in range(1, 101)]


def test_a_corpus_too_small_stops_early_and_says_so():
    with pytest.warns(UserWarning, match="too small for vocab_size 5000"):
        tokenizer = ByteLevelBPE.train(["가나다 가나다"], 5000, SPECIAL_TOKENS)
    assert tokenizer.report.stopped_early
    assert tokenizer.report.requested_vocab_size == 5000
    assert tokenizer.vocab_size == tokenizer.report.vocab_size < 300
    assert tokenizer.decode(tokenizer.encode("가나다 라<|end|>")) == "가나다 라<|end|>"
    assert sorted(tokenizer.special_tokens.values()) == list(
        range(tokenizer.vocab_size - 6, tokenizer.vocab_size)
    )


def test_enough_text_gives_exactly_the_size_asked_for(tokenizer):
    assert tokenizer.vocab_size == len(tokenizer) == 500
    assert not tokenizer.report.stopped_early


def test_the_result_does_not_depend_on_hash_seed_or_text_order(korean_texts):
    """Python's str hashes differ from run to run; merges must not."""
    script = (
        "from scratch_llm.tokenizers import ByteLevelBPE\n"
        "texts = ['가나다 라마 가나', '나다 라마바', '가나 나다 다라 라마'] * 3\n"
        "print(ByteLevelBPE.train(texts, 280, min_frequency=1).merges)"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-W", "ignore", "-c", script],
            env={"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(outputs) == 1
    assert ByteLevelBPE.train(korean_texts, 400).merges == ByteLevelBPE.train(korean_texts[::-1], 400).merges


@pytest.mark.slow
def test_training_and_encoding_44_mb_stay_under_one_gigabyte(shared_data):
    script = f"""
import json, lzma
from scratch_llm.process_memory import peak_resident_bytes
from scratch_llm.tokenizers import ByteLevelBPE
def texts():
    with lzma.open({str(shared_data / "nsmc" / "reviews_other.jsonl.xz")!r}, "rt", encoding="utf-8") as stream:
        for line in stream:
            yield json.loads(line)["document"]
tokenizer = ByteLevelBPE.train(texts(), 8192, ["<|endoftext|>"])
n_tokens = sum(map(len, tokenizer.encode_documents(texts())))
print(n_tokens, peak_resident_bytes() >> 20)
"""
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    n_tokens, peak_mebibytes = map(int, result.stdout.split())
    assert n_tokens > 5_000_000
    assert peak_mebibytes < 1000
