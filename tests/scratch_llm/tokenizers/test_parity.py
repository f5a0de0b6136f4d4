"""The same ids as Hugging Face Tokenizers, transformers and tiktoken, for the same vocabulary."""

from __future__ import annotations

import json
import shutil

import pytest
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
from tokenizers import decoders as hf_decoders
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from scratch_llm.tokenizers import PATTERNS, SPECIAL_TOKENS, ByteLevelBPE


def mixtures(korean_texts, awkward_texts) -> list[str]:
    """Texts with everything in them, special tokens in odd places, and Hangul in NFD."""
    import unicodedata

    marked = [f"<|user|>{text}<|end|><|end|> {text}<|endoftext|" for text in awkward_texts]
    decomposed = [unicodedata.normalize("NFD", text) for text in korean_texts[:50]]
    return [*awkward_texts, *marked, *korean_texts[:300], *decomposed, "\n".join(korean_texts)]


@pytest.mark.parametrize("pattern", sorted(PATTERNS))
@pytest.mark.parametrize("normalization", ["NFC", None])
def test_saved_files_open_elsewhere_with_the_same_ids(
    pattern, normalization, korean_texts, awkward_texts, tmp_path
):
    ours = ByteLevelBPE.train(korean_texts, 450, SPECIAL_TOKENS, pattern=pattern, normalization=normalization)
    ours.save(tmp_path)
    peers = [
        Tokenizer.from_file(str(tmp_path / "tokenizer.json")),
        PreTrainedTokenizerFast.from_pretrained(tmp_path),
        AutoTokenizer.from_pretrained(tmp_path),
    ]
    again = ByteLevelBPE.load(tmp_path)
    for text in mixtures(korean_texts, awkward_texts):
        ids = ours.encode(text)
        assert again.encode(text) == ids
        for peer in peers:
            encoded = peer.encode(text)
            assert getattr(encoded, "ids", encoded) == ids
            assert peer.decode(ids, skip_special_tokens=False) == ours.decode(ids)
            assert peer.decode(ids, skip_special_tokens=True) == ours.decode(ids, skip_special=True)
    assert (again.merges, again.special_tokens, again.pattern, again.normalization) == (
        ours.merges,
        ours.special_tokens,
        pattern,
        normalization,
    )
    assert peers[0].get_vocab_size() == len(peers[2]) == ours.vocab_size
    assert (peers[2].eos_token_id, peers[2].pad_token_id) == (ours.eos_id, ours.pad_id)


def test_invalid_utf8_decodes_as_hugging_face_does(tokenizer, tmp_path):
    import random

    tokenizer.save(tmp_path)
    peer = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    draw = random.Random(3)
    for _ in range(500):
        ids = [draw.randrange(tokenizer.vocab_size) for _ in range(12)]
        assert tokenizer.decode(ids) == peer.decode(ids, skip_special_tokens=False)


def test_a_tokenizer_trained_by_hugging_face_loads(korean_texts, awkward_texts, tmp_path):
    """Its special tokens come first and its pattern is ByteLevel's own: another layout than ours."""
    peer = Tokenizer(models.BPE())
    peer.normalizer = normalizers.NFC()
    peer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    peer.decoder = hf_decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=450,
        special_tokens=SPECIAL_TOKENS,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    peer.train_from_iterator(korean_texts, trainer)
    peer.save(str(tmp_path / "tokenizer.json"))
    ours = ByteLevelBPE.load(tmp_path)
    assert ours.eos_id == 0 and ours.vocab_size == 450
    for text in mixtures(korean_texts, awkward_texts):
        assert ours.encode(text) == peer.encode(text).ids


@pytest.fixture(scope="module")
def gpt2_folder(shared_data):
    folder = shared_data / "gpt2_bpe"
    if not folder.is_dir():
        pytest.skip(f"no GPT-2 vocabulary at {folder}")
    return folder


@pytest.fixture(scope="module")
def gpt2(gpt2_folder) -> ByteLevelBPE:
    return ByteLevelBPE.from_gpt2_files(gpt2_folder / "encoder.json", gpt2_folder / "vocab.bpe")


@pytest.fixture
def tiktoken_gpt2(gpt2_folder, tmp_path, monkeypatch):
    """tiktoken finds downloads under the SHA-1 of their addresses; given the files, it needs no network."""
    import tiktoken

    shutil.copy(gpt2_folder / "vocab.bpe", tmp_path / "6d1cbeee0f20b3d9449abfede4726ed8212e3aee")
    shutil.copy(gpt2_folder / "encoder.json", tmp_path / "6c7ea1a7e38e3a7f062df639a5b80947f075ffe6")
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))
    return tiktoken.get_encoding("gpt2")


def test_gpt2_equals_tiktoken(gpt2, tiktoken_gpt2, korean_texts, awkward_texts, shared_data):
    verdict = (shared_data / "english" / "the-verdict.txt").read_text(encoding="utf-8")
    for text in [*mixtures(korean_texts, awkward_texts), verdict, *verdict.splitlines()]:
        ids = gpt2.encode(text)
        assert ids == tiktoken_gpt2.encode(text, allowed_special="all")
        assert gpt2.decode_bytes(ids) == tiktoken_gpt2.decode_bytes(ids)
        assert gpt2.encode(text, allow_special=False) == tiktoken_gpt2.encode_ordinary(text)
    assert gpt2.vocab_size == tiktoken_gpt2.n_vocab == 50257
    assert gpt2.eos_id == tiktoken_gpt2.eot_token == 50256


def test_gpt2_saved_opens_in_transformers(gpt2, tmp_path, awkward_texts):
    gpt2.save(tmp_path)
    peer = AutoTokenizer.from_pretrained(tmp_path)
    for text in [*awkward_texts, "Hello<|endoftext|>world"]:
        assert peer.encode(text) == gpt2.encode(text)
    assert json.loads((tmp_path / "tokenizer.json").read_text())["normalizer"] is None


def test_real_reviews_encode_as_hugging_face_does(nsmc_texts, tmp_path):
    ours = ByteLevelBPE.train(nsmc_texts[:10_000], 4096, SPECIAL_TOKENS)
    ours.save(tmp_path)
    peer = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    assert [encoding.ids for encoding in peer.encode_batch(nsmc_texts)] == ours.encode_batch(nsmc_texts)
