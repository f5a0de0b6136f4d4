"""Streaming decoding: whole characters only, and the same text as decoding at once."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from scratch_llm.tokenizers import StreamingDecoder


def stream(tokenizer, ids, **options) -> list[str]:
    decoder = StreamingDecoder(tokenizer, **options)
    return [*(decoder.push(number) for number in ids), decoder.flush()]


@settings(max_examples=200, deadline=None)
@given(text=st.text(st.one_of(st.sampled_from("가닭뷁👍 a"), st.characters(exclude_categories=["Cs"]))))
def test_valid_streams_never_show_a_broken_character(text, tokenizer):
    ids = tokenizer.encode(text)
    whole = tokenizer.decode(ids)
    for errors in ("ignore", "replace"):
        shown = stream(tokenizer, ids, errors=errors)
        assert "".join(shown) == whole
        assert "".join(shown).count("\ufffd") == whole.count("\ufffd")
        assert shown[-1] == ""


@settings(max_examples=300, deadline=None)
@given(ids=st.lists(st.integers(0, 499), max_size=40), skip=st.booleans())
def test_any_stream_equals_decoding_at_once(ids, skip, tokenizer):
    """Ids at random: mostly invalid UTF-8, special tokens in the middle of characters."""
    for errors in ("ignore", "replace"):
        shown = "".join(stream(tokenizer, ids, skip_special=skip, errors=errors))
        assert shown == tokenizer.decode(ids, skip_special=skip, errors=errors)


def test_a_syllable_appears_with_its_last_byte(tokenizer):
    decoder = StreamingDecoder(tokenizer)
    first, second, third = (tokenizer.token_to_id(bytes([byte])) for byte in "뷁".encode())
    assert [decoder.push(first), decoder.push(second), decoder.push(third)] == ["", "", "뷁"]


def test_a_stream_cut_inside_a_character_shows_nothing_broken(tokenizer):
    ids = [tokenizer.token_to_id(bytes([byte])) for byte in "가".encode()[:2]]
    assert stream(tokenizer, ids) == ["", "", ""]
    assert stream(tokenizer, ids, errors="replace")[-1] == "\ufffd"


def test_flush_makes_the_decoder_ready_for_another_stream(tokenizer):
    decoder = StreamingDecoder(tokenizer)
    decoder.push(tokenizer.token_to_id("가".encode()[:1]))
    decoder.flush()
    assert "".join(map(decoder.push, tokenizer.encode("나다"))) == "나다"
