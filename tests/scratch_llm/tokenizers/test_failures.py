"""Bad input: one line that names the value and the cure, and nothing lost."""

from __future__ import annotations

import json
import os

import pytest

from scratch_llm.tokenizers import SPECIAL_TOKENS, ByteLevelBPE, StreamingDecoder


def complaint(error) -> str:
    text = str(error.value)
    assert "\n" not in text and len(text) < 400
    return text


@pytest.mark.parametrize(
    ("arguments", "options", "expected"),
    [
        ((["가"], 100), {}, "vocab_size 100 is too small"),
        ((["가"], 261, SPECIAL_TOKENS), {}, "need at least 262"),
        (([], 300), {}, "the corpus is empty (0 texts"),
        ((["", ""], 300), {}, "the corpus is empty (2 texts"),
        ((["<|end|>"], 300, ["<|end|>"]), {}, "the corpus is empty (1 texts"),
        (("한 줄", 300), {}, "not one str: pass [text]"),
        (([b"\xec\x95\x88"], 300), {}, "text must be str, not bytes: decode it first"),
        (([None], 300), {}, "text must be str, not NoneType"),
        ((["가 \ud800 나"], 300), {"normalization": None}, "lone surrogate U+D800"),
        ((["가 \udce3 나"], 300), {}, "errors='replace'"),
        ((["가"], 300, ["<|a|>", "<|a|>"]), {}, "'<|a|>' is given twice"),
        ((["가"], 300, [""]), {}, "'' is not a name"),
        ((["가"], 300, ["a"]), {}, "spelled like an ordinary token"),
        ((["가"], 300, ["<\ud800>"]), {}, "lone surrogate"),
        ((["가"], 300, "<|end|>"), {}, "pass ['<|end|>']"),
        ((["가"], 300), {"tie_break": "coin"}, "use one of greatest_bytes, least_ids"),
        ((["가"], 300), {"normalization": "NFX"}, "use one of NFC, NFD"),
        ((["가"], 300), {"pattern": "("}, "is not a regular expression"),
        ((["가"], 300), {"pattern": "(가)|."}, "has capturing groups"),
        ((["가1"], 300), {"pattern": "가"}, "leaves characters out"),
    ],
)
def test_training_refuses(arguments, options, expected):
    with pytest.raises(ValueError) as error:
        ByteLevelBPE.train(*arguments, **options)
    assert expected in complaint(error)


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        (lambda t: t.encode(b"abc"), "decode it first: data.decode('utf-8', errors='replace')"),
        (lambda t: t.encode(None), "text must be str, not NoneType"),
        (lambda t: t.encode("가\udc80"), "lone surrogate U+DC80"),
        (lambda t: t.encode_batch("가나"), "pass [text]"),
        (lambda t: list(t.encode_iterable("가나")), "pass [text]"),
        (lambda t: list(t.encode_documents("가나")), "pass [text]"),
        (lambda t: list(t.encode_documents(["가"], end_with="<|eos|>")), "no special token '<|eos|>'"),
        (lambda t: t.decode([5, 500]), "token id 500 is outside the vocabulary (0..499)"),
        (lambda t: t.decode([-1]), "token id -1 is outside"),
        (lambda t: StreamingDecoder(t).push(500), "token id 500 is outside"),
    ],
)
def test_encoding_and_decoding_refuse(call, expected, tokenizer):
    with pytest.raises(ValueError) as error:
        call(tokenizer)
    assert expected in complaint(error)


def test_text_read_from_a_broken_file_can_be_mended_as_told(tokenizer):
    data = "좋아요".encode()[:-1]
    text = data.decode("utf-8", errors="replace")
    assert tokenizer.decode(tokenizer.encode(text)) == "좋아\ufffd"


@pytest.fixture
def saved(tokenizer, tmp_path):
    tokenizer.save(tmp_path)
    return tmp_path / "tokenizer.json"


def test_a_file_cut_short_is_refused_wherever_it_was_cut(saved):
    whole = saved.read_bytes()
    for length in (0, 1, 100, len(whole) // 2, len(whole) - 1):
        saved.write_bytes(whole[:length])
        with pytest.raises(ValueError) as error:
            ByteLevelBPE.load(saved.parent)
        assert "is damaged" in complaint(error) and str(saved) in str(error.value)


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (lambda d: d.pop("model"), "damaged or no tokenizer.json"),
        (lambda d: d["model"].pop("merges"), "damaged or no tokenizer.json"),
        (lambda d: d["model"]["merges"].append(["없는", "토큰"]), "damaged or no tokenizer.json"),
        (lambda d: d["model"]["vocab"].pop("a"), "1 of the 256 byte tokens are missing, for example 0x61"),
        (lambda d: d["model"]["vocab"].pop(list(d["model"]["vocab"])[300]), "damaged or no tokenizer.json"),
        (lambda d: d["model"]["vocab"].update({"한": 700}), "stands for no byte"),
        (lambda d: d["added_tokens"][0].update(id=3), "is taken"),
        (lambda d: d["added_tokens"][0].update(lstrip=True), "not supported"),
        (lambda d: d["model"].update(type="WordLevel"), "model type 'WordLevel' is not supported"),
        (lambda d: d["model"].update(byte_fallback=True), "byte_fallback True is not supported"),
        (lambda d: d.update(normalizer={"type": "Lowercase"}), "normalizer 'Lowercase' is not supported"),
        (lambda d: d.update(pre_tokenizer={"type": "Whitespace"}), "'Whitespace' is not supported"),
    ],
)
def test_a_damaged_or_foreign_file_is_refused(damage, expected, saved):
    data = json.loads(saved.read_text(encoding="utf-8"))
    damage(data)
    saved.write_text(json.dumps(data), encoding="utf-8")
    with pytest.raises(ValueError) as error:
        ByteLevelBPE.load(saved)
    assert expected in complaint(error)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="train a tokenizer first"):
        ByteLevelBPE.load(tmp_path)


def test_an_interrupted_save_keeps_the_old_file(tokenizer, saved, monkeypatch):
    before = saved.read_bytes()

    def full_disk(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(OSError, match="No space left"):
        tokenizer.save(saved.parent)
    assert saved.read_bytes() == before
    assert sorted(path.name for path in saved.parent.iterdir()) == ["tokenizer.json", "tokenizer_config.json"]


@pytest.mark.parametrize(
    ("encoder", "merges", "expected"),
    [
        ('{"a": 0, "b": 5}', "#version: 0.2\n", "not a GPT-2 encoder.json"),
        ("[1, 2]", "", "not a GPT-2 encoder.json"),
        ('{"a": 0', "", "is damaged"),
        ('{"a": 0, "b": 1}', "#version: 0.2\na b\n", "line 2: 'ab' is not in encoder.json"),
        ('{"a": 0, "b": 1, "ab": 2}', "#version: 0.2\na b\n", "254 of the 256 byte tokens are missing"),
    ],
)
def test_damaged_gpt2_files(encoder, merges, expected, tmp_path):
    (tmp_path / "encoder.json").write_text(encoder, encoding="utf-8")
    (tmp_path / "vocab.bpe").write_text(merges, encoding="utf-8")
    with pytest.raises(ValueError) as error:
        ByteLevelBPE.from_gpt2_files(tmp_path / "encoder.json", tmp_path / "vocab.bpe")
    assert expected in complaint(error)
