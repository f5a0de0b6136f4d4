"""Hugging Face's ``tokenizer.json`` and ``tokenizer_config.json``, written and read without its libraries.

``tokenizers.Tokenizer.from_file`` and transformers' ``AutoTokenizer`` open what we save with the same ids
for every text, special tokens and normalisation included.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from scratch_llm.io import atomic_write

from .byte_level_bpe import ByteLevelBPE
from .byte_table import from_printable, to_printable
from .chat import CHAT_TEMPLATE, END_OF_TEXT, PAD, SPECIAL_TOKENS
from .patterns import PATTERNS

_NO_LIMIT = 10**30  # transformers' own "no maximum length"


def save_tokenizer(tokenizer: ByteLevelBPE, folder: str | Path) -> None:
    """Write both files into ``folder`` (made if missing), each atomically."""
    folder = Path(folder)
    with atomic_write(folder / "tokenizer.json") as stream:
        json.dump(to_hf(tokenizer), stream, ensure_ascii=False)
    with atomic_write(folder / "tokenizer_config.json") as stream:
        json.dump(tokenizer_config(tokenizer), stream, ensure_ascii=False, indent=2)


def to_hf(tokenizer: ByteLevelBPE) -> dict[str, Any]:
    """The content of ``tokenizer.json``."""
    vocab = {to_printable(token): number for token, number in tokenizer.ordinary_tokens().items()}
    names = {number: name for name, number in vocab.items()}
    vocab |= tokenizer.special_tokens
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {
                "id": number,
                "content": name,
                "single_word": False,
                "lstrip": False,
                "rstrip": False,
                "normalized": False,
                "special": True,
            }
            for name, number in sorted(tokenizer.special_tokens.items(), key=lambda item: item[1])
        ],
        "normalizer": {"type": tokenizer.normalization} if tokenizer.normalization else None,
        "pre_tokenizer": {
            "type": "Sequence",
            "pretokenizers": [
                {
                    "type": "Split",
                    "pattern": {"Regex": tokenizer.pre_tokenizer.expression},
                    "behavior": "Isolated",
                    "invert": False,
                },
                {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False},
            ],
        },
        "post_processor": None,
        "decoder": {
            "type": "ByteLevel",
            "add_prefix_space": False,
            "trim_offsets": False,
            "use_regex": False,
        },
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": dict(sorted(vocab.items(), key=lambda item: item[1])),
            "merges": [[names[left], names[right]] for left, right, _ in tokenizer.merges],
        },
    }


def tokenizer_config(tokenizer: ByteLevelBPE) -> dict[str, Any]:
    """The content of ``tokenizer_config.json``: what transformers adds to the tokenizer itself."""
    config: dict[str, Any] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": _NO_LIMIT,
        "clean_up_tokenization_spaces": False,
    }
    if END_OF_TEXT in tokenizer.special_tokens:
        config |= {"bos_token": END_OF_TEXT, "eos_token": END_OF_TEXT}
    if PAD in tokenizer.special_tokens:
        config["pad_token"] = PAD
    if all(name in tokenizer.special_tokens for name in SPECIAL_TOKENS):
        config["chat_template"] = CHAT_TEMPLATE
    return config


def load_tokenizer(folder: str | Path) -> ByteLevelBPE:
    """Open a byte-level BPE ``tokenizer.json``, ours or another's (GPT-2, one trained by Hugging Face).

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file is damaged, or needs a feature that this class does not have.
    """
    path = Path(folder)
    if path.is_dir():
        path = path / "tokenizer.json"
    data = read_json(path)
    try:
        return _from_hf(data)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    except (KeyError, TypeError, AttributeError, IndexError) as error:
        raise ValueError(
            f"{path} is damaged or no tokenizer.json ({type(error).__name__}: {error}): save it again"
        ) from None


def read_json(path: str | Path) -> Any:
    """Parse a JSON file; a damaged one gives one line with the cure."""
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no file {path}: train a tokenizer first or mend the path")
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is damaged ({error}): write it again (its copy was cut short?)") from None


def _from_hf(data: dict[str, Any]) -> ByteLevelBPE:
    model = data["model"]
    _require(model.get("type") == "BPE", f"model type {model.get('type')!r}", "only BPE")
    for feature in (
        "unk_token",
        "continuing_subword_prefix",
        "end_of_word_suffix",
        "byte_fallback",
        "ignore_merges",
    ):
        _require(not model.get(feature), f"{feature} {model.get(feature)!r}", "only plain byte-level BPE")
    special_tokens = {}
    for added in data.get("added_tokens") or []:
        _require(not (added.get("lstrip") or added.get("rstrip") or added.get("single_word") or added.get("normalized")),
                 f"added token {added['content']!r} with strip or word rules", "only plain special tokens")  # fmt: skip
        special_tokens[added["content"]] = added["id"]

    vocab = {name: number for name, number in model["vocab"].items() if name not in special_tokens}
    size = 1 + max([*vocab.values(), *special_tokens.values()], default=-1)
    tokens: list[bytes | None] = [None] * size
    for name, number in vocab.items():
        tokens[number] = from_printable(name)
    merges = []
    for merge in model["merges"]:
        # Files of before 2024 write "left right" as one string.
        left, right = merge.split(" ") if isinstance(merge, str) else merge
        merges.append((vocab[left], vocab[right], vocab[left + right]))
    return ByteLevelBPE(
        tokens,
        merges,
        special_tokens,
        pattern=_pattern_of(data.get("pre_tokenizer")),
        normalization=_normalization_of(data.get("normalizer")),
    )


def _normalization_of(normalizer: dict[str, Any] | None) -> str | None:
    if normalizer is None:
        return None
    kind = normalizer["type"]
    _require(kind in ("NFC", "NFD", "NFKC", "NFKD"), f"normalizer {kind!r}", "only NFC, NFD, NFKC, NFKD")
    return kind


def _pattern_of(pre_tokenizer: dict[str, Any] | None) -> str:
    steps = pre_tokenizer["pretokenizers"] if pre_tokenizer["type"] == "Sequence" else [pre_tokenizer]
    byte_level = steps[-1]
    _require(byte_level["type"] == "ByteLevel" and not byte_level.get("add_prefix_space"),
             f"pre-tokenizer {byte_level['type']!r}", "only ByteLevel without a prefix space")  # fmt: skip
    if len(steps) == 1:
        _require(
            byte_level.get("use_regex", True), "pre-tokenizer without a pattern", "a Split or GPT-2's own"
        )
        return "gpt2"
    split = steps[0]
    _require(len(steps) == 2 and split["type"] == "Split" and split["behavior"] == "Isolated"
             and not split["invert"] and not byte_level.get("use_regex", True),
             "this chain of pre-tokenizers", "one isolating Split, then ByteLevel")  # fmt: skip
    expression = split["pattern"]["Regex"]
    return next((name for name, known in PATTERNS.items() if known == expression), expression)


def _require(condition: bool, what: str, supported: str) -> None:
    if not condition:
        raise ValueError(
            f"{what} is not supported ({supported}): open it with the tokenizers library instead"
        )
