"""Tokenizers of Hugging Face and SentencePiece, trained on the same text and measured with the same ruler."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from scratch_llm.tokenizers import PATTERNS, ByteLevelBPE
from scratch_llm.tokenizers.byte_table import from_printable

SENTENCEPIECE_SPACE = "\u2581"


@dataclass(frozen=True)
class Peer:
    """A tokenizer as the comparison sees it."""

    name: str
    vocab_size: int
    pieces: Callable[[str], list[bytes]]  # text -> the bytes of each token


def our_peer(name: str, tokenizer: ByteLevelBPE) -> Peer:
    return Peer(name, tokenizer.vocab_size, lambda text: tokenizer.pieces(text, allow_special=False))


def train_hugging_face_bpe(lines: Iterable[str], vocab_size: int, pattern: str, name: str = "HF BPE") -> Peer:
    """Byte-level BPE by Hugging Face Tokenizers, with one of our pre-tokenization patterns."""
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    split = pre_tokenizers.Split(Regex(PATTERNS[pattern]), "isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, byte_level])
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size, min_frequency=2, initial_alphabet=byte_level.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator(lines, trainer)
    return Peer(
        name,
        tokenizer.get_vocab_size(),
        lambda text: [
            from_printable(token) for token in tokenizer.encode(text, add_special_tokens=False).tokens
        ],
    )


def train_sentencepiece(lines: Sequence[str], vocab_size: int, model_type: str, name: str) -> Peer:
    """SentencePiece ("unigram" or "bpe") on characters; what is outside its alphabet falls back to bytes.

    Args:
        lines: texts without line breaks (SentencePiece learns from single lines).
        vocab_size: an upper bound; Unigram may end with fewer pieces on a small text.

    Raises:
        ValueError: SentencePiece refuses the text or the size.
    """
    import sentencepiece

    written = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(lines),
            model_writer=written,
            vocab_size=vocab_size,
            model_type=model_type,
            character_coverage=character_coverage(lines, vocab_size),
            byte_fallback=True,
            hard_vocab_limit=False,
            normalization_rule_name="identity",
            remove_extra_whitespaces=False,
            add_dummy_prefix=False,
            max_sentence_length=1 << 20,
            minloglevel=2,
        )
    except (RuntimeError, OSError) as error:
        raise ValueError(
            f"SentencePiece cannot learn {vocab_size} pieces from this text ({' '.join(str(error).split())}): "
            "choose another tokenizer.vocab_size"
        ) from None
    processor = sentencepiece.SentencePieceProcessor(model_proto=written.getvalue())

    def pieces(text: str) -> list[bytes]:
        return [_sentencepiece_bytes(piece) for piece in processor.encode(text, out_type=str)]

    return Peer(name, processor.vocab_size(), pieces)


def character_coverage(lines: Iterable[str], vocab_size: int) -> float:
    """Share of the text whose characters get pieces of their own: half the room that bytes leave, at most.

    Korean uses one to two thousand different syllables; with a small vocabulary they would leave no room
    for longer pieces (SentencePiece then refuses to train).  SentencePiece accepts 0.98 to 1.
    """
    counts = Counter(character for line in lines for character in line)
    if not counts:
        raise ValueError("there is no text to learn from: build the corpus first")
    room = max(1, (vocab_size - 260) // 2)
    covered = sum(count for _, count in counts.most_common(room)) / sum(counts.values())
    return min(max(covered, 0.98), 0.9995)


def _sentencepiece_bytes(piece: str) -> bytes:
    if len(piece) == 6 and piece.startswith("<0x"):
        return bytes([int(piece[3:5], 16)])
    return piece.replace(SENTENCEPIECE_SPACE, " ").encode()


def compression(peer: Peer, lines: Iterable[str]) -> dict[str, float]:
    """How densely a tokenizer writes text it has not seen.

    Returns:
        bytes_per_token: UTF-8 bytes of text per token; more is denser.
        tokens_per_word: tokens per 어절 (white-space separated word); fewer is denser.
        broken_share: share of tokens that hold no whole character, only a part of one.
    """
    n_bytes = n_tokens = n_words = n_broken = 0
    for line in lines:
        pieces = peer.pieces(line)
        n_bytes += len(line.encode())
        n_tokens += len(pieces)
        n_words += len(line.split())
        n_broken += sum(not is_text(piece) for piece in pieces)
    n_tokens = max(n_tokens, 1)
    return {
        "bytes_per_token": n_bytes / n_tokens,
        "tokens_per_word": n_tokens / max(n_words, 1),
        "broken_share": n_broken / n_tokens,
    }


def is_text(piece: bytes) -> bool:
    """Whether a token holds whole characters only."""
    try:
        piece.decode()
    except UnicodeDecodeError:
        return False
    return True


def show_pieces(pieces: Iterable[bytes], separator: str = " · ") -> str:
    """Tokens to look at: a space as "_", a line break as "↵", parts of a character as ⟨EB 8B⟩."""
    shown = []
    for piece in pieces:
        text = piece.decode() if is_text(piece) else f"⟨{piece.hex(' ').upper()}⟩"
        shown.append(text.replace(" ", "_").replace("\n", "↵") if is_text(piece) else text)
    return separator.join(shown)
