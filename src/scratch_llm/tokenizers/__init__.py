"""Tokenizers: byte-level BPE (a clear and a fast version), WordPiece, Unigram, others' files, streaming decoding, the chat format."""

from .base import Tokenizer
from .bpe import BPETokenizer
from .byte_level_bpe import ByteLevelBPE
from .chat import CHAT_TEMPLATE, END_OF_TEXT, END_OF_TURN, PAD, SPECIAL_TOKENS, encode_chat, render_chat
from .continued import continue_training
from .hf_format import load_tokenizer
from .patterns import DEFAULT_PATTERN, PATTERNS
from .sentencepiece_bpe import SentencePieceBPE, SpaceRules
from .simple_bpe import SimpleBPE
from .streaming import StreamingDecoder
from .trainer import TIE_BREAKS
from .training import TrainingReport
from .unigram import Unigram
from .wordpiece import WordPiece

__all__ = [
    "CHAT_TEMPLATE",
    "DEFAULT_PATTERN",
    "END_OF_TEXT",
    "END_OF_TURN",
    "PAD",
    "PATTERNS",
    "SPECIAL_TOKENS",
    "TIE_BREAKS",
    "BPETokenizer",
    "ByteLevelBPE",
    "SentencePieceBPE",
    "SimpleBPE",
    "SpaceRules",
    "StreamingDecoder",
    "Tokenizer",
    "TrainingReport",
    "Unigram",
    "WordPiece",
    "continue_training",
    "encode_chat",
    "load_tokenizer",
    "render_chat",
]
