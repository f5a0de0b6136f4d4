"""WordPiece and Unigram in ``tokenizer.json``: read into the arguments of our classes, and written back."""

from __future__ import annotations

from typing import Any

from .hf_parts import FORMS, Part, read_sentencepiece, require, steps_of, write_sentencepiece
from .unigram import Unigram
from .wordpiece import WordPiece

BERT_WORDS = r"[^\s\p{P}$+<=>^`|~]+|[\p{P}$+<=>^`|~]"
"""What BertPreTokenizer does: white space goes, punctuation and ASCII signs stand alone."""


def write_wordpiece(tokenizer: WordPiece) -> dict[str, Any]:
    """The parts of the file by their names, "model" among them."""
    ids = tokenizer.ordinary_names() | tokenizer.special_tokens | tokenizer.added_tokens
    return {
        "normalizer": {"type": tokenizer.normalization} if tokenizer.normalization else None,
        "pre_tokenizer": {
            "type": "Split",
            "pattern": {"Regex": tokenizer.pre_tokenizer.pattern},
            "behavior": "Removed",
            "invert": True,
        },
        "decoder": {"type": "WordPiece", "prefix": tokenizer.prefix, "cleanup": False},
        "model": {
            "type": "WordPiece",
            "unk_token": tokenizer.unknown,
            "continuing_subword_prefix": tokenizer.prefix,
            "max_input_chars_per_word": tokenizer.max_characters,
            "vocab": dict(sorted(ids.items(), key=lambda item: item[1])),
        },
    }


def read_wordpiece(data: dict[str, Any], added: dict[str, Any], everything: dict[str, int]) -> WordPiece:
    """A WordPiece file whose words are cut by an expression, or by BERT's rules without its clean-up."""
    model = data["model"]
    forms = [step["type"] for step in steps_of(data.get("normalizer"), "normalizers")]
    require(len(forms) < 2 and set(forms) <= set(FORMS), f"normalizer {forms}", f"at most one of {', '.join(FORMS)}")
    decoders = steps_of(data.get("decoder"), "decoders")
    prefix = model.get("continuing_subword_prefix", "##")
    require([d["type"] for d in decoders] == ["WordPiece"] and not decoders[0].get("cleanup") and decoders[0]["prefix"] == prefix,
            f"decoder {decoders}", f"WordPiece with the prefix {prefix!r} and without cleanup")  # fmt: skip
    outside = {**added["special_tokens"], **added["added_tokens"]}
    return WordPiece(
        {name: number for name, number in everything.items() if name not in outside},
        prefix=prefix,
        unknown=model["unk_token"],
        max_characters=model.get("max_input_chars_per_word", 100),
        pattern=_read_words(data.get("pre_tokenizer")),
        normalization=forms[0] if forms else None,
        **added,
    )


def _read_words(part: Part) -> str:
    """The expression whose matches are the words."""
    steps = steps_of(part, "pretokenizers")
    kinds = [step["type"] for step in steps]
    if kinds == ["BertPreTokenizer"]:
        return BERT_WORDS
    is_split = kinds == ["Split"] and "Regex" in steps[0]["pattern"] and steps[0]["behavior"] == "Removed" and steps[0].get("invert")
    require(bool(is_split), f"pre-tokenizer {kinds}", "BertPreTokenizer, or one Split that keeps the matches of a Regex")
    return steps[0]["pattern"]["Regex"]


def write_unigram(tokenizer: Unigram) -> dict[str, Any]:
    """The parts of the file by their names, "model" among them."""
    unknown_id = next(number for number, (name, _) in enumerate(tokenizer.vocab) if name == tokenizer.unknown)
    return {
        **write_sentencepiece(tokenizer),
        "model": {
            "type": "Unigram",
            "unk_id": unknown_id,
            "vocab": [[name, score] for name, score in tokenizer.vocab],
            "byte_fallback": tokenizer.byte_fallback,
        },
    }


def read_unigram(data: dict[str, Any], added: dict[str, Any]) -> Unigram:
    """A Unigram file without a compiled normaliser (SentencePiece's "identity")."""
    model = data["model"]
    require(model.get("unk_id") is not None, "a Unigram model without unk_id", "one that names its unknown token")
    return Unigram(
        [(name, score) for name, score in model["vocab"]],
        unknown=model["vocab"][model["unk_id"]][0],
        byte_fallback=bool(model.get("byte_fallback")),
        **added,
        **read_sentencepiece(data),
    )
