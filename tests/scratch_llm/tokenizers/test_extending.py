"""Tokenizers with further tokens: ids at the end, everything else as before, the same for the library."""

from __future__ import annotations

import json

import pytest
from tokenizers import Tokenizer, decoders, models, normalizers, trainers

from scratch_llm.tokenizers import (
    SPECIAL_TOKENS,
    ByteLevelBPE,
    SentencePieceBPE,
    StreamingDecoder,
    load_tokenizer,
)

NEW_SPECIAL, NEW_ORDINARY = ["<|tool|>", "<|도구|>"], ["<think>", "밑바닥", "\n\n\n"]


@pytest.fixture(scope="module")
def characters(korean_texts, tmp_path_factory) -> SentencePieceBPE:
    folder = tmp_path_factory.mktemp("characters")
    peer = Tokenizer(models.BPE(byte_fallback=True, fuse_unk=True, unk_token="<unk>"))
    peer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    peer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    names = ["<unk>", "<s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    words = [" " + word for text in korean_texts[:300] for word in text.split()]
    peer.train_from_iterator(words, trainers.BpeTrainer(vocab_size=600, special_tokens=names, show_progress=False))
    data = json.loads(peer.to_str())
    data["added_tokens"] = data["added_tokens"][:2]
    (folder / "tokenizer.json").write_text(json.dumps(data))
    return SentencePieceBPE.load(folder)


@pytest.fixture(params=["bytes", "characters"])
def old(request, tokenizer, characters):
    return tokenizer if request.param == "bytes" else characters


def test_extended_saved_and_opened_elsewhere(old, korean_texts, awkward_texts, tmp_path):
    new = old.extend(NEW_SPECIAL).extend(NEW_ORDINARY, special=False)
    assert type(new) is type(old) and new.vocab_size == old.vocab_size + 5
    assert [new.token_to_id(name) for name in NEW_SPECIAL + NEW_ORDINARY] == [old.vocab_size + n for n in range(5)]
    assert [new.is_special(old.vocab_size + n) for n in range(5)] == [True, True, False, False, False]
    new.save(tmp_path)
    again, library = load_tokenizer(tmp_path), Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    assert library.get_vocab_size() == new.vocab_size
    plain = [*awkward_texts, *korean_texts[:100]]
    assert all(new.encode(text) == old.encode(text) for text in plain if "\n\n\n" not in text)
    for text in [*plain, *(f"<|tool|>{t}<think>{t}밑바닥 <|도구|>\n\n\n{t}" for t in plain)]:
        ids = new.encode(text)
        assert again.encode(text) == ids == library.encode(text, add_special_tokens=False).ids
        for skip in (False, True):
            shown = library.decode(ids, skip_special_tokens=skip)
            assert new.decode(ids, skip_special=skip) == again.decode(ids, skip_special=skip) == shown
            decoder = StreamingDecoder(new, skip_special=skip)
            assert "".join([*map(decoder.push, ids), decoder.flush()]) == shown


def test_the_old_tokenizer_stays_as_it_is(old):
    before = old.encode("<|tool|>가 <think>"), old.vocab_size, dict(old.special_tokens), old.token_to_id("<think>")
    new = old.extend(["<|tool|>"]).extend(["<think>"], special=False)
    assert (old.encode("<|tool|>가 <think>"), old.vocab_size, dict(old.special_tokens), old.token_to_id("<think>")) == before
    # What people type is not special, but ordinary added tokens are text.
    typed = new.encode("<|tool|>가 <think>", allow_special=False)
    assert new.token_to_id("<|tool|>") not in typed and typed[-1] == new.token_to_id("<think>")
    assert new.token_bytes()[-2:].tolist() == [0, len("<think>")]


@pytest.mark.parametrize("names, message", [
    (["<|a|>", "<|a|>"], "given twice"), ([""], "is not a name"), ("<|a|>", "list of names"), ([3], "is not a name"),
    (["<\ud800>"], "lone surrogate"),
])  # fmt: skip
@pytest.mark.parametrize("special", [True, False])
def test_names_that_are_none(old, names, message, special):
    with pytest.raises(ValueError, match=message):
        old.extend(names, special=special)


@pytest.mark.parametrize("special", [True, False])
def test_tokens_that_are_there_already(old, special):
    taken = next(name for name, number in old.ordinary_names().items() if number > 300)
    for extended, name in (
        (old, taken),
        (old, next(iter(old.special_tokens))),
        (old.extend(["<x>"], special=False), "<x>"),
    ):
        with pytest.raises(ValueError, match=r"is a token already \(id \d+\): leave it out"):
            extended.extend(["<new>", name], special=special)


def test_an_extended_tokenizer_does_not_shrink(tokenizer):
    assert isinstance(tokenizer.extend(["<|tool|>"]).shrink(400), ByteLevelBPE)
    with pytest.raises(ValueError, match="only a tokenizer made by"):
        tokenizer.extend(["<think>"], special=False).shrink(400)
    assert list(tokenizer.special_tokens) == SPECIAL_TOKENS
