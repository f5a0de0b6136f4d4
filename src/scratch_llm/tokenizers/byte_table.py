"""The 256 base tokens: GPT-2's printable name for every byte, and the order in which GPT-2 numbers them.

Vocabulary files hold strings, not bytes, so GPT-2 gave each byte one visible character: a byte that is
printable in Latin-1 stands for itself, the other 68 take the characters from U+0100 on (a space is "Ġ",
a newline "Ċ").  Token ids 0..255 follow that order too: the printable bytes first, then the rest.
Source: Radford et al. 2019, section 2.2, and the layout of the published ``encoder.json``.

Keeping the order has two uses: GPT-2's own files are simply one more instance of our tokenizer, and the
"least_ids" tie-break picks the very merges that the trainer of Hugging Face Tokenizers picks.
"""

from __future__ import annotations

_PRINTABLE = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
_OTHER = [byte for byte in range(256) if byte not in _PRINTABLE]

BYTE_ORDER: tuple[int, ...] = (*_PRINTABLE, *_OTHER)
"""``BYTE_ORDER[token_id]`` is the byte of base token ``token_id`` (0..255)."""

BYTE_TO_CHARACTER: dict[int, str] = {byte: chr(byte) for byte in _PRINTABLE} | {
    byte: chr(256 + n) for n, byte in enumerate(_OTHER)
}
CHARACTER_TO_BYTE: dict[str, int] = {character: byte for byte, character in BYTE_TO_CHARACTER.items()}


def to_printable(token: bytes) -> str:
    """The name of a token in a vocabulary file: ``b" the"`` -> ``"Ġthe"``."""
    # Decoded as Latin-1, every byte is the character of its own number, which translate() looks up.
    return token.decode("latin-1").translate(BYTE_TO_CHARACTER)


def from_printable(name: str) -> bytes:
    """The bytes behind a name in a vocabulary file.

    Raises:
        ValueError: a character that stands for no byte.
    """
    try:
        return bytes(CHARACTER_TO_BYTE[character] for character in name)
    except KeyError as error:
        raise ValueError(
            f"token {name!r} has the character {error.args[0]!r}, which stands for no byte: "
            "this is not the vocabulary of a byte-level BPE; use a file made for one (GPT-2 style)"
        ) from None
