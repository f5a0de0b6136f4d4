"""The comparison measures every tokenizer with the same ruler."""

from __future__ import annotations

import pytest

from llm_workshop.tokenization import (
    Peer,
    compression,
    our_peer,
    show_pieces,
    train_hugging_face_bpe,
    train_sentencepiece,
)
from scratch_llm.tokenizers import ByteLevelBPE

LINES = [f"{who} {where} {what}" for who in ("철수가", "영희는", "고양이도") for where in ("집에서", "학교에서", "산에서")
         for what in ("밥을 먹는다.", "노래를 부른다.", "GPU 3대를 샀다.", "책을 읽었어요.")]  # fmt: skip


def test_figures_by_hand():
    peer = Peer("", 9, lambda text: [text.encode()[:2], text.encode()[2:]])
    # "가 나" is 7 bytes in 2 tokens, 2 words; the first token is two thirds of a syllable, so both are broken.
    assert compression(peer, ["가 나"]) == {
        "bytes_per_token": 3.5,
        "tokens_per_word": 1.0,
        "broken_share": 1.0,
    }


@pytest.mark.parametrize(
    "train",
    [
        lambda: our_peer("ours", ByteLevelBPE.train(LINES, 340)),
        lambda: train_hugging_face_bpe(LINES, 380, "korean"),
        lambda: train_sentencepiece(LINES, 340, "bpe", "sp"),
        lambda: train_sentencepiece(LINES, 340, "unigram", "sp"),
    ],
)
def test_the_pieces_of_every_tokenizer_give_the_text_back(train):
    peer = train()
    for text in [*LINES, "처음 보는 글자: 뷁 👍", "  두 칸"]:
        assert b"".join(peer.pieces(text)).decode() == text


def test_ours_and_hugging_face_compress_alike():
    ours = compression(our_peer("", ByteLevelBPE.train(LINES, 330, tie_break="least_ids")), LINES)
    assert ours == compression(train_hugging_face_bpe(LINES, 330, "korean"), LINES)


def test_sentencepiece_names_the_size_that_it_cannot_learn():
    with pytest.raises(ValueError, match=r"cannot learn 262 pieces .* choose another tokenizer.vocab_size"):
        train_sentencepiece(LINES, 262, "bpe", "sp")
    with pytest.raises(ValueError, match="no text to learn from"):
        train_sentencepiece([], 300, "bpe", "sp")


def test_pieces_are_shown_without_broken_characters():
    assert show_pieces([b" \xea", "가 ".encode(), b"\n"]) == "⟨20 EA⟩ · 가_ · ↵"
