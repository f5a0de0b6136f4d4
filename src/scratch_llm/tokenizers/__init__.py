"""Tokenizers: byte-level BPE (a clear and a fast version), streaming decoding, the chat format."""

from .byte_level_bpe import ByteLevelBPE
from .chat import CHAT_TEMPLATE, END_OF_TEXT, END_OF_TURN, PAD, SPECIAL_TOKENS, encode_chat, render_chat
from .patterns import DEFAULT_PATTERN, PATTERNS
from .simple_bpe import SimpleBPE
from .streaming import StreamingDecoder
from .trainer import TIE_BREAKS
from .training import TrainingReport

__all__ = [
    "CHAT_TEMPLATE",
    "DEFAULT_PATTERN",
    "END_OF_TEXT",
    "END_OF_TURN",
    "PAD",
    "PATTERNS",
    "SPECIAL_TOKENS",
    "TIE_BREAKS",
    "ByteLevelBPE",
    "SimpleBPE",
    "StreamingDecoder",
    "TrainingReport",
    "encode_chat",
    "render_chat",
]
