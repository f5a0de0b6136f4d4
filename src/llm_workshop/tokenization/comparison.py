"""Tokenizers of Hugging Face and SentencePiece, trained on the same text and measured with the same ruler."""

from __future__ import annotations

import io
import os
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from scratch_llm.tokenizers import PATTERNS
from scratch_llm.tokenizers.base import Tokenizer
from scratch_llm.tokenizers.byte_table import from_printable
from scratch_llm.tokenizers.wordpiece import WORDS

SENTENCEPIECE_SPACE = "\u2581"
UNKNOWN_PIECE = b"\xff"
"""Stands for a token that says "something unknown": a byte that UTF-8 never has."""


@dataclass(frozen=True)
class Peer:
    """A tokenizer as the comparison sees it."""

    name: str
    vocab_size: int
    pieces: Callable[[str], list[bytes]]  # text -> the bytes of each token
    count: Callable[[list[str]], int] | None = None  # texts -> their tokens' number, as fast as it can, nothing remembered


def our_peer(name: str, tokenizer: Tokenizer) -> Peer:
    unknown = tokenizer.token_id_of_role("unk_token")

    def pieces(text: str) -> list[bytes]:
        ids = tokenizer.encode(text, allow_special=False)
        return [UNKNOWN_PIECE if number == unknown else tokenizer.token_of(number) for number in ids]

    def count(texts: list[str]) -> int:
        tokenizer.clear_cache()
        return sum(map(len, tokenizer.encode_documents(texts, end_with=None)))

    return Peer(name, tokenizer.vocab_size, pieces, count)


def hugging_face_peer(name: str, tokenizer, to_bytes: Callable[[str], bytes]) -> Peer:
    """A ``tokenizers.Tokenizer``; ``to_bytes`` says what a token of its vocabulary shows."""

    def count(texts: list[str]) -> int:
        os.environ["TOKENIZERS_PARALLELISM"] = "false"  # one core, like the others
        fresh = type(tokenizer).from_str(tokenizer.to_str())  # its cache is empty
        return sum(len(encoding.ids) for encoding in fresh.encode_batch_fast(texts, add_special_tokens=False))

    return Peer(
        name, tokenizer.get_vocab_size(),
        lambda text: [to_bytes(token) for token in tokenizer.encode(text, add_special_tokens=False).tokens], count,
    )  # fmt: skip


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
    return hugging_face_peer(name, tokenizer, from_printable)


def train_hugging_face_wordpiece(lines: Iterable[str], vocab_size: int, name: str = "HF WordPiece") -> Peer:
    """WordPiece by Hugging Face Tokenizers, on the same words as ours; it joins by frequency."""
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(WORDS), "removed", invert=True)
    trainer = trainers.WordPieceTrainer(
        vocab_size=vocab_size, min_frequency=2, special_tokens=["[UNK]"], limit_alphabet=max(1, vocab_size // 4), show_progress=False
    )
    tokenizer.train_from_iterator(lines, trainer)
    return hugging_face_peer(name, tokenizer, _wordpiece_bytes)


def train_hugging_face_unigram(lines: Iterable[str], vocab_size: int, name: str = "HF Unigram") -> Peer:
    """Unigram by Hugging Face Tokenizers; its trainer has no byte fallback, so unknown characters are lost."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never")
    trainer = trainers.UnigramTrainer(vocab_size=vocab_size, special_tokens=["<unk>"], unk_token="<unk>", show_progress=False)
    try:
        tokenizer.train_from_iterator(lines, trainer)
    except Exception as error:  # the library raises a bare Exception
        raise ValueError(f"HF Unigram cannot learn {vocab_size} pieces from this text ({error}): choose a larger vocabulary") from None
    # A token that the text spells itself is shown by the text; only what the vocabulary lacks is unknown.
    known = tokenizer.get_vocab()
    return hugging_face_peer(name, tokenizer, lambda piece: _sentencepiece_bytes(piece) if piece in known and piece != "<unk>" else UNKNOWN_PIECE)


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

    def count(texts: list[str]) -> int:
        return sum(map(len, processor.encode(texts, num_threads=1)))

    return Peer(name, processor.vocab_size(), pieces, count)


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


def _wordpiece_bytes(token: str) -> bytes:
    if token == "[UNK]":
        return UNKNOWN_PIECE
    return token[2:].encode() if token.startswith("##") else f" {token}".encode()


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
        n_broken += sum(not is_text(piece) and piece != UNKNOWN_PIECE for piece in pieces)
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
    """Tokens to look at: a space as "_", a line break as "↵", parts of a character as ⟨EB 8B⟩, an unknown one as ⟨?⟩."""
    shown = []
    for piece in pieces:
        if piece == UNKNOWN_PIECE:
            shown.append("⟨?⟩")
            continue
        text = piece.decode() if is_text(piece) else f"⟨{piece.hex(' ').upper()}⟩"
        shown.append(text.replace(" ", "_").replace("\n", "↵") if is_text(piece) else text)
    return separator.join(shown)
