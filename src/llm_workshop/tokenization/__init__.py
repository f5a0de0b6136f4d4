"""Other people's tokenizers beside ours: training them on the same text and measuring all alike."""

from llm_workshop.tokenization.comparison import (
    UNKNOWN_PIECE,
    Peer,
    compression,
    is_text,
    our_peer,
    show_pieces,
    train_hugging_face_bpe,
    train_hugging_face_unigram,
    train_hugging_face_wordpiece,
    train_sentencepiece,
)

__all__ = [
    "UNKNOWN_PIECE",
    "Peer",
    "compression",
    "is_text",
    "our_peer",
    "show_pieces",
    "train_hugging_face_bpe",
    "train_hugging_face_unigram",
    "train_hugging_face_wordpiece",
    "train_sentencepiece",
]
