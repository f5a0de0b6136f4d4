"""Reading GPT-2's published vocabulary: ``encoder.json`` (token -> id) and ``vocab.bpe`` (merges)."""

from __future__ import annotations

from pathlib import Path

from .byte_level_bpe import ByteLevelBPE
from .byte_table import from_printable
from .hf_format import read_json

_SPECIAL = "<|endoftext|>"


def load_gpt2_files(encoder_json: str | Path, vocab_bpe: str | Path) -> ByteLevelBPE:
    """GPT-2's tokenizer: 50,257 tokens, no normalisation, ids as published.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: a file is damaged or the two do not belong together.
    """
    encoder = read_json(encoder_json)
    if not isinstance(encoder, dict) or sorted(encoder.values()) != list(range(len(encoder))):
        raise ValueError(
            f"{encoder_json} is not a GPT-2 encoder.json (token -> id, no gaps): download it again"
        )
    special_tokens = {_SPECIAL: encoder.pop(_SPECIAL)} if _SPECIAL in encoder else {}
    tokens: list[bytes | None] = [None] * (len(encoder) + len(special_tokens))
    for name, number in encoder.items():
        tokens[number] = from_printable(name)
    return ByteLevelBPE(
        tokens, _read_merges(vocab_bpe, encoder), special_tokens, pattern="gpt2", normalization=None
    )


def _read_merges(path: str | Path, encoder: dict[str, int]) -> list[tuple[int, int, int]]:
    lines = Path(path).read_text(encoding="utf-8").split("\n")
    merges = []
    # The first line is "#version: 0.2"; the merges start after it ("#" also begins real merges).
    for number, line in enumerate(lines[1:], 2):
        if not line:
            continue
        left, _, right = line.partition(" ")
        try:
            merges.append((encoder[left], encoder[right], encoder[left + right]))
        except KeyError as error:
            raise ValueError(
                f"{path}, line {number}: {error.args[0]!r} is not in encoder.json: "
                "the file is damaged or belongs to another vocabulary; download both again"
            ) from None
    return merges
