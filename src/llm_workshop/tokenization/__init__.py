"""Other people's tokenizers beside ours: training them on the same text and measuring all alike."""

from llm_workshop.tokenization.comparison import (
    Peer,
    compression,
    is_text,
    our_peer,
    show_pieces,
    train_hugging_face_bpe,
    train_sentencepiece,
)

__all__ = [
    "Peer",
    "compression",
    "is_text",
    "our_peer",
    "show_pieces",
    "train_hugging_face_bpe",
    "train_sentencepiece",
]
