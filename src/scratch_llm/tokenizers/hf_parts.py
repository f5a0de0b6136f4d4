"""The parts of ``tokenizer.json`` that say how text is cut: read into what our classes take, and written back.

Every reader refuses, by name, what our classes do not do; so what is opened encodes as the tokenizers library does.
"""

from __future__ import annotations

from typing import Any

from .byte_level_bpe import ByteLevelBPE
from .patterns import PATTERNS
from .sentencepiece_bpe import SPACE, SentencePieceBPE, SpaceRules
from .unigram import Unigram

FORMS = ("NFC", "NFD", "NFKC", "NFKD")
Part = dict[str, Any] | None


def require(condition: bool, what: str, supported: str) -> None:
    """ValueError that names a part we do not have."""
    if not condition:
        raise ValueError(
            f"{what} is not supported ({supported}): open it with the tokenizers library instead"
        )


def steps_of(part: Part, field: str) -> list[dict[str, Any]]:
    """The steps of a part: of none, one, or a sequence (whose list is called ``field``)."""
    if part is None:
        return []
    if part["type"] != "Sequence":
        return [part]
    return [step for inner in part[field] for step in steps_of(inner, field)]


def is_byte_level(data: dict[str, Any]) -> bool:
    """Whether the file is of a byte-level BPE."""
    steps = steps_of(data.get("pre_tokenizer"), "pretokenizers") + steps_of(data.get("decoder"), "decoders")
    return any(step["type"] == "ByteLevel" for step in steps)


# -- byte-level ---------------------------------------------------------------------------------------


def read_byte_level(data: dict[str, Any]) -> dict[str, Any]:
    """Arguments of ``ByteLevelBPE``: pattern and normalization."""
    for step in steps_of(data.get("normalizer"), "normalizers"):
        require(step["type"] in FORMS, f"normalizer {step['type']!r}", f"only {', '.join(FORMS)}")
    forms = [step["type"] for step in steps_of(data.get("normalizer"), "normalizers")]
    require(len(forms) < 2, f"the chain of normalizers {forms}", "only one")
    decoders = [step["type"] for step in steps_of(data.get("decoder"), "decoders")]
    require(decoders == ["ByteLevel"], f"decoder {decoders}", "only ByteLevel")
    return {"pattern": _read_pattern(data.get("pre_tokenizer")), "normalization": forms[0] if forms else None}


def _read_pattern(part: Part) -> str | tuple[str, ...]:
    """A named pattern where it is one of ours, else the chain of expressions."""
    steps = steps_of(part, "pretokenizers")
    kind = steps[-1]["type"] if steps else None
    require(kind == "ByteLevel" and not steps[-1].get("add_prefix_space"),
            f"pre-tokenizer {kind!r}", "only ByteLevel without a prefix space, at the end")  # fmt: skip
    expressions = []
    for step in steps[:-1]:
        if step["type"] == "Digits":
            expressions.append(r"\p{N}" if step.get("individual_digits") else r"\p{N}+")
            continue
        require(step["type"] == "Split" and "Regex" in step["pattern"], f"pre-tokenizer {step['type']!r}",
                "only Split by a Regex, Digits and ByteLevel")  # fmt: skip
        behaviour, inverted = step["behavior"], bool(step.get("invert"))
        if (behaviour, inverted) == ("Removed", True) and len(steps) == 2 and not steps[-1].get("use_regex", True):
            # Only the matches are kept; as a single expression, ours refuses a text of which it would lose something.
            return _named(step["pattern"]["Regex"])
        require(behaviour == "Isolated", f"pre-tokenizer Split with behavior {behaviour!r}", "only Isolated")
        expressions.append(step["pattern"]["Regex"])
    if steps[-1].get("use_regex", True):
        expressions.append(PATTERNS["gpt2"])
    require(bool(expressions), "pre-tokenizer without a pattern", "a Split or GPT-2's own")
    named = _named(expressions[0])
    return named if len(expressions) == 1 and named in PATTERNS else tuple(expressions)


def _named(expression: str) -> str:
    return next((name for name, known in PATTERNS.items() if known == expression), expression)


def write_byte_level(tokenizer: ByteLevelBPE) -> dict[str, Part]:
    """The parts for a tokenizer, by their names in the file."""
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}
    splits = [
        {"type": "Split", "pattern": {"Regex": expression}, "behavior": "Isolated", "invert": False}
        for expression in tokenizer.pre_tokenizer.expressions
    ]
    return {
        "normalizer": {"type": tokenizer.normalization} if tokenizer.normalization else None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [*splits, byte_level]},
        "decoder": byte_level,
    }


# -- in the manner of SentencePiece -------------------------------------------------------------------


def read_sentencepiece(data: dict[str, Any]) -> dict[str, Any]:
    """Arguments of ``SentencePieceBPE``: space rules and normalization."""
    form, prepend, replaces = _read_space_normalizer(data.get("normalizer"))
    steps = steps_of(data.get("pre_tokenizer"), "pretokenizers")
    cut = False
    if [step["type"] for step in steps] == ["Metaspace"]:
        require(prepend == "never", "normalizer Prepend together with pre-tokenizer Metaspace", "one of the two")
        require(steps[0].get("replacement", SPACE) == SPACE, "Metaspace with another character", f"only {SPACE!r}")
        prepend = {"always": "missing", "first": "first", "never": "never"}[_scheme(steps[0])]
        cut, replaces = steps[0].get("split", True), True
    else:
        # Gemma's files split at spaces after all of them were replaced: that never happens.
        for step in steps:
            require(step["type"] == "Split" and step["pattern"] == {"String": " "} and replaces,
                    f"pre-tokenizer {step['type']!r}", "only Metaspace, or none")  # fmt: skip
    require(replaces, "a normalizer that does not write spaces as '▁'", "a Replace or Metaspace")
    drop = _read_drop(data.get("decoder"), bool(data["model"].get("byte_fallback")))
    return {"space_rules": SpaceRules(prepend=prepend, cut=cut, drop=drop), "normalization": form}


def _read_space_normalizer(part: Part) -> tuple[str | None, str, bool]:
    """(Unicode form, where "▁" is put in front, whether spaces are replaced)."""
    form, prepend, replaces = None, "never", False
    for step in steps_of(part, "normalizers"):
        kind = step["type"]
        if kind in FORMS:
            require(form is None and prepend == "never" and not replaces, f"normalizer {kind} after others", "only first")
            form = kind
        elif kind == "Prepend":
            require(step["prepend"] in (SPACE, " " if not replaces else SPACE) and prepend == "never",
                    f"normalizer Prepend of {step['prepend']!r}", f"only {SPACE!r}, once")  # fmt: skip
            prepend = "every"
        elif kind == "Replace":
            require(step["pattern"] == {"String": " "} and step["content"] == SPACE,
                    f"normalizer Replace of {step['pattern']} by {step['content']!r}", "only ' ' by '▁'")  # fmt: skip
            replaces = True
        else:
            require(False, f"normalizer {kind!r}", f"only {', '.join(FORMS)}, Prepend and Replace")
    return form, prepend, replaces


def _scheme(step: dict[str, Any]) -> str:
    """Metaspace's prepend scheme, in the new spelling or that of before 2024."""
    return step.get("prepend_scheme") or ("always" if step.get("add_prefix_space", True) else "never")


def _read_drop(part: Part, byte_fallback: bool) -> str:
    """What decoding takes away at the beginning of a text."""
    steps = steps_of(part, "decoders")
    kinds = [step["type"] for step in steps]
    require(("Metaspace" in kinds) != ("Replace" in kinds), f"decoder {kinds}", "Replace or Metaspace")
    require(not byte_fallback or "ByteFallback" in kinds, f"decoder {kinds}", "with ByteFallback, as the model has it")
    drop = "nothing"
    for n, step in enumerate(steps):
        kind = step["type"]
        if kind == "Metaspace":
            require(step.get("replacement", SPACE) == SPACE, "decoder Metaspace with another character", f"only {SPACE!r}")
            drop = "nothing" if _scheme(step) == "never" else "spaces of the first token"
        elif kind == "Replace":
            require(step["pattern"] == {"String": SPACE} and step["content"] == " ",
                    f"decoder Replace of {step['pattern']}", "only '▁' by ' '")  # fmt: skip
        elif kind == "Strip":
            amount = (step["content"], step["start"], step["stop"])
            require("Fuse" in kinds[:n] and drop == "nothing" and amount in ((" ", 1, 0), (" ", 0, 0)),
                    f"decoder Strip of {amount}", "only one leading space, after Fuse")  # fmt: skip
            drop = "space" if step["start"] else "nothing"
        else:
            require(kind in ("ByteFallback", "Fuse"), f"decoder {kind!r}", "only Replace, ByteFallback, Fuse, Strip, Metaspace")
    return drop


def write_sentencepiece(tokenizer: SentencePieceBPE | Unigram) -> dict[str, Part]:
    """The parts for a tokenizer, by their names in the file."""
    rules = tokenizer.space_rules
    normalizers: list[Part] = [{"type": tokenizer.normalization}] if tokenizer.normalization else []
    metaspace = None
    if rules.prepend in ("missing", "first") or rules.cut:
        scheme = {"missing": "always", "first": "first", "never": "never"}[rules.prepend]
        metaspace = {"type": "Metaspace", "replacement": SPACE, "prepend_scheme": scheme, "split": rules.cut}
    else:
        if rules.prepend == "every":
            normalizers.append({"type": "Prepend", "prepend": SPACE})
        normalizers.append({"type": "Replace", "pattern": {"String": " "}, "content": SPACE})
    if rules.drop == "spaces of the first token":
        decoders: list[Part] = [{"type": "Metaspace", "replacement": SPACE, "prepend_scheme": "always", "split": True}]
    else:
        decoders = [{"type": "Replace", "pattern": {"String": SPACE}, "content": " "}]
    # Bytes are put together first: Metaspace looks at the first token only.
    decoders = [*([{"type": "ByteFallback"}] if tokenizer.byte_fallback else []), *decoders, {"type": "Fuse"}]
    if rules.drop == "space":
        decoders.append({"type": "Strip", "content": " ", "start": 1, "stop": 0})
    return {
        "normalizer": {"type": "Sequence", "normalizers": normalizers} if normalizers else None,
        "pre_tokenizer": metaspace,
        "decoder": {"type": "Sequence", "decoders": decoders},
    }
