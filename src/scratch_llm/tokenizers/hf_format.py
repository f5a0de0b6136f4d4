"""Hugging Face's ``tokenizer.json`` and ``tokenizer_config.json``, written and read without its libraries.

``tokenizers.Tokenizer.from_file`` and transformers' ``AutoTokenizer`` open what we save with the same ids
for every text, added tokens and normalisation included.  What cuts the text is in :mod:`hf_parts`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from scratch_llm.io import atomic_write

from .base import DEFAULT_ROLES, Tokenizer
from .byte_level_bpe import ByteLevelBPE
from .byte_table import from_printable
from .chat import CHAT_TEMPLATE, SPECIAL_TOKENS
from .hf_parts import (
    is_byte_level,
    read_byte_level,
    read_sentencepiece,
    require,
    steps_of,
    write_byte_level,
    write_sentencepiece,
)
from .hf_segmenters import read_unigram, read_wordpiece, write_unigram, write_wordpiece
from .sentencepiece_bpe import SentencePieceBPE
from .unigram import Unigram
from .wordpiece import WordPiece

_NO_LIMIT = 10**30  # transformers' own "no maximum length"
_ROLES = ("bos_token", "eos_token", "pad_token", "unk_token")


def save_tokenizer(tokenizer: Tokenizer, folder: str | Path) -> None:
    """Write both files into ``folder`` (made if missing), each atomically."""
    folder = Path(folder)
    with atomic_write(folder / "tokenizer.json") as stream:
        json.dump(to_hf(tokenizer), stream, ensure_ascii=False)
    with atomic_write(folder / "tokenizer_config.json") as stream:
        json.dump(tokenizer_config(tokenizer), stream, ensure_ascii=False, indent=2)


def to_hf(tokenizer: Tokenizer) -> dict[str, Any]:
    """The content of ``tokenizer.json``."""
    added = {**tokenizer.special_tokens, **tokenizer.added_tokens}
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
                "normalized": name in tokenizer.normalized_tokens,
                "special": name in tokenizer.special_tokens,
            }
            for name, number in sorted(added.items(), key=lambda item: item[1])
        ],
        "post_processor": tokenizer.post_processor,
        **_parts(tokenizer),
    }


def _parts(tokenizer: Tokenizer) -> dict[str, Any]:
    """What depends on the kind of tokenizer, "model" among it."""
    if isinstance(tokenizer, WordPiece):
        return write_wordpiece(tokenizer)
    if isinstance(tokenizer, Unigram):
        return write_unigram(tokenizer)
    is_characters = isinstance(tokenizer, SentencePieceBPE)
    vocab = dict(tokenizer.ordinary_names())
    names = {number: name for name, number in vocab.items()}
    everything = vocab | tokenizer.special_tokens | tokenizer.added_tokens
    return {
        **(write_sentencepiece(tokenizer) if is_characters else write_byte_level(tokenizer)),
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": tokenizer.unknown if is_characters else None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": tokenizer.fuse_unknown if is_characters else False,
            "byte_fallback": tokenizer.byte_fallback if is_characters else False,
            "ignore_merges": tokenizer.ignore_merges,
            "vocab": dict(sorted(everything.items(), key=lambda item: item[1])),
            "merges": [[names[left], names[right]] for left, right, _ in tokenizer.merges],
        },
    }


def tokenizer_config(tokenizer: Tokenizer) -> dict[str, Any]:
    """The content of ``tokenizer_config.json``: what transformers adds to the tokenizer itself."""
    config: dict[str, Any] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": _NO_LIMIT,
        "clean_up_tokenization_spaces": False,
    }
    config |= {role: name for role, name in tokenizer.roles.items() if name in tokenizer.special_tokens}
    if tokenizer.chat_template is not None:
        config["chat_template"] = tokenizer.chat_template
    elif all(name in tokenizer.special_tokens for name in SPECIAL_TOKENS):
        config["chat_template"] = CHAT_TEMPLATE
    return config


def load_tokenizer(folder: str | Path) -> Tokenizer:
    """Open a ``tokenizer.json``: byte-level BPE (GPT-2, Llama 3, Qwen, ours), BPE in the manner of SentencePiece
    (Llama 2, Gemma), WordPiece or Unigram.  ``tokenizer_config.json`` beside it is read where there is one.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file is damaged, or needs a feature that our classes do not have; the message names it.
    """
    path = Path(folder)
    if path.is_dir():
        path = path / "tokenizer.json"
    data = read_json(path)
    try:
        tokenizer = _from_hf(data)
        config_file = path.with_name("tokenizer_config.json")
        if path.name == "tokenizer.json" and config_file.is_file():
            _apply_config(tokenizer, read_json(config_file))
        return tokenizer
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


def _from_hf(data: dict[str, Any]) -> Tokenizer:
    kind = data["model"].get("type")
    require(kind in ("BPE", "WordPiece", "Unigram"), f"model type {kind!r}", "only BPE, WordPiece and Unigram")
    if kind == "BPE":
        return _bpe_from_hf(data)
    added = _read_added(data)
    outside = added.pop("all")
    if kind == "WordPiece":
        everything = data["model"]["vocab"] | outside
        tokenizer: Tokenizer = read_wordpiece(data, added, everything)
    else:
        everything = {name: number for number, (name, _) in enumerate(data["model"]["vocab"])} | outside
        tokenizer = read_unigram(data, added)
    _apply_post_processor(tokenizer, data.get("post_processor"), everything)
    return tokenizer


def _bpe_from_hf(data: dict[str, Any]) -> Tokenizer:
    model = data["model"]
    byte_level = is_byte_level(data)
    for feature in ("dropout", "continuing_subword_prefix", "end_of_word_suffix", *(["byte_fallback"] if byte_level else [])):
        require(not model.get(feature), f"{feature} {model.get(feature)!r}", "only plain BPE")
    added = _read_added(data)
    # In files such as Gemma's an ordinary added token ("▁▁") is also one that merges make; then it stays in the vocabulary.
    outside = added["special_tokens"] if not byte_level else added["all"]
    vocab = {name: number for name, number in model["vocab"].items() if name not in outside}
    everything = {**vocab, **added.pop("all")}
    merges = []
    for merge in model["merges"]:
        # Files of before 2024 write "left right" as one string.
        left, right = merge.split(" ") if isinstance(merge, str) else merge
        merges.append((vocab[left], vocab[right], vocab[left + right]))
    arguments = added | {"ignore_merges": bool(model.get("ignore_merges"))}
    if byte_level:
        tokens: list[bytes | None] = [None] * (1 + max(vocab.values(), default=-1))
        for name, number in vocab.items():
            tokens[number] = from_printable(name)
        # An unknown token never occurs: every byte is a token.
        tokenizer = ByteLevelBPE(tokens, merges, **arguments, **read_byte_level(data))
    else:
        tokenizer = SentencePieceBPE(
            vocab,
            merges,
            byte_fallback=bool(model.get("byte_fallback")),
            unknown=model.get("unk_token"),
            fuse_unknown=bool(model.get("fuse_unk")),
            **arguments,
            **read_sentencepiece(data),
        )
    _apply_post_processor(tokenizer, data.get("post_processor"), everything)
    return tokenizer


def _read_added(data: dict[str, Any]) -> dict[str, Any]:
    """Special, ordinary and late added tokens, and all of them together."""
    special, ordinary, normalized = {}, {}, set()
    forms = [step["type"] for step in steps_of(data.get("normalizer"), "normalizers")]
    for added in data.get("added_tokens") or []:
        name = added["content"]
        for rule in ("lstrip", "rstrip", "single_word"):
            require(not added.get(rule), f"added token {name!r} with {rule}", "only added tokens without strip or word rules")
        (special if added["special"] else ordinary)[name] = added["id"]
        if added.get("normalized"):
            # The library normalises the name as well, so with a Prepend it looks for "▁<name>".
            require("Prepend" not in forms and "Replace" not in forms, f"added token {name!r} with normalized and a "
                    "normalizer that writes spaces", "only normalized: false")  # fmt: skip
            normalized.add(name)
    return {
        "special_tokens": special,
        "added_tokens": ordinary,
        "normalized_tokens": normalized,
        "all": {**special, **ordinary},
    }


def _apply_post_processor(tokenizer: Tokenizer, part: dict[str, Any] | None, vocab: Mapping[str, int]) -> None:
    """Which tokens go around a text, for ``encode(..., add_special_tokens=True)``."""
    for step in steps_of(part, "processors"):
        kind = step["type"]
        require(kind in ("TemplateProcessing", "ByteLevel"), f"post-processor {kind!r}",
                "only TemplateProcessing and ByteLevel")  # fmt: skip
        if kind == "ByteLevel":
            continue  # it changes offsets, not ids
        names = [piece["SpecialToken"]["id"] if "SpecialToken" in piece else None for piece in step["single"]]
        require(names.count(None) == 1, "post-processor TemplateProcessing without one text", "one sequence")
        ids = [step["special_tokens"][name]["ids"] if name is not None else None for name in names]
        place = names.index(None)
        tokenizer.prefix_ids = tuple(number for some in ids[:place] for number in some)
        tokenizer.suffix_ids = tuple(number for some in ids[place + 1 :] for number in some)
    tokenizer.post_processor = part


def _apply_config(tokenizer: Tokenizer, config: dict[str, Any]) -> None:
    """The roles of tokens and the chat template."""
    for role in _ROLES:
        if (name := config.get(role)) is not None:
            tokenizer.roles[role] = name["content"] if isinstance(name, dict) else name
        elif role in DEFAULT_ROLES and any(other in config for other in _ROLES):
            # A file that names roles names all it has: no guessing of the others.
            tokenizer.roles.pop(role, None)
    if isinstance(config.get("chat_template"), str):
        tokenizer.chat_template = config["chat_template"]
