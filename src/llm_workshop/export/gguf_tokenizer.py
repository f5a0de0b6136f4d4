"""Our tokenizer in a GGUF file, and how truly llama.cpp reads it there.

A GGUF file holds the tokens and the merges, but not the regular expression that cuts a text into pieces first: it
holds a *name* (``tokenizer.ggml.pre``), and llama.cpp has the expression of every name it knows built in
(``src/llama-vocab.cpp``).  So a tokenizer with a pattern of its own cannot be carried exactly; one has to say the name
of a pattern near it, and texts on which the two cut differently get other tokens than in training.  Nor does llama.cpp
normalise text for this kind of tokenizer: a Korean text in NFD has to be composed (NFC) before it is sent.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from scratch_llm.tokenizers import END_OF_TEXT, END_OF_TURN, PAD, PATTERNS, ByteLevelBPE
from scratch_llm.tokenizers.byte_table import to_printable

#: llama.cpp's names for the patterns that we can speak of, nearest relatives of ours.  "llama-bpe" has gpt4's pattern
#: too, but also takes whole pieces for tokens before merging, so "smaug-bpe", which does not, is the true one.
LLAMA_CPP_PATTERNS = {
    "smaug-bpe": PATTERNS["gpt4"],
    "gpt-2": PATTERNS["gpt2"],
    "qwen2": PATTERNS["gpt4"].replace(r"\p{N}{1,3}", r"\p{N}"),
}

# gguf.TokenType, named so that this module is read without the package
NORMAL, CONTROL, USER_DEFINED, UNUSED = 1, 3, 4, 5


class Agreement(NamedTuple):
    """How often two tokenizers gave a text the same ids; ``examples`` are texts on which they did not."""

    name: str
    n_texts: int
    n_same: int
    n_tokens: int
    n_tokens_elsewhere: int
    examples: tuple[str, ...]

    @property
    def share(self) -> float:
        """Share of texts with the very same ids, 0 to 1."""
        return self.n_same / self.n_texts


def exact_pre_tokenizer(tokenizer: ByteLevelBPE) -> str | None:
    """The name under which llama.cpp cuts as this tokenizer does; None if it knows no such pattern."""
    if tokenizer.ignore_merges:
        return None
    expressions = tokenizer.pre_tokenizer.expressions
    return next((name for name, pattern in LLAMA_CPP_PATTERNS.items() if expressions == (pattern,)), None)


def as_llama_cpp_reads(tokenizer: ByteLevelBPE, name: str) -> ByteLevelBPE:
    """The tokenizer that llama.cpp makes of our file under a pre-tokenizer's name: other pattern, no normalisation.

    Raises:
        ValueError: a name that we have no pattern of.
    """
    if name not in LLAMA_CPP_PATTERNS:
        raise ValueError(f"pre-tokenizer {name!r}: use one of {', '.join(LLAMA_CPP_PATTERNS)}")
    tokens: list[bytes | None] = [None] * tokenizer.vocab_size
    for token, number in tokenizer.ordinary_tokens().items():
        tokens[number] = token
    return ByteLevelBPE(
        tokens,
        tokenizer.merges,
        tokenizer.special_tokens,
        pattern=LLAMA_CPP_PATTERNS[name],
        normalization=None,
        added_tokens=tokenizer.added_tokens,
    )


def agreement(tokenizer: ByteLevelBPE, name: str, texts: Iterable[str], n_examples: int = 3) -> Agreement:
    """Encode texts with our tokenizer and as llama.cpp would under ``name``, and count the equal ones.

    The texts are normalised first, as our tokenizer does: that is the sender's duty with llama.cpp.

    Raises:
        ValueError: an unknown name, or no texts.
    """
    other, n_texts, n_same, ours, theirs, examples = as_llama_cpp_reads(tokenizer, name), 0, 0, 0, 0, []
    for text in texts:
        a = tokenizer.encode(text, allow_special=False)
        b = other.encode(tokenizer.pre_tokenizer.normalize(text), allow_special=False)
        n_texts, ours, theirs = n_texts + 1, ours + len(a), theirs + len(b)
        if a == b:
            n_same += 1
        elif len(examples) < n_examples:
            examples.append(first_difference(tokenizer, a, b))
    if not n_texts:
        raise ValueError("no texts: give at least one to compare tokenizers on")
    return Agreement(name, n_texts, n_same, ours, theirs, tuple(examples))


def first_difference(tokenizer: ByteLevelBPE, ours: Sequence[int], theirs: Sequence[int], around: int = 4) -> str:
    """The place where two encodings of a text part, as tokens: "ours ≠ theirs"."""
    same = next((i for i, (a, b) in enumerate(zip(ours, theirs, strict=False)) if a != b), min(len(ours), len(theirs)))

    def shown(ids: Sequence[int]) -> str:
        return "|".join(tokenizer.token_of(i).decode("utf-8", "backslashreplace") for i in ids[max(0, same - 1) : same + around])

    return f"{shown(ours)} ≠ {shown(theirs)}"


def gguf_vocabulary(tokenizer: ByteLevelBPE, vocab_size: int) -> tuple[list[str], list[int], list[str]]:
    """Tokens and token types (one for each of ``vocab_size`` rows of the model) and merges, as GGUF stores them."""
    tokens = [f"<|unused_{number}|>" for number in range(vocab_size)]
    types = [UNUSED] * vocab_size
    for token, number in tokenizer.ordinary_tokens().items():
        tokens[number], types[number] = to_printable(token), NORMAL
    for kind, names in ((USER_DEFINED, tokenizer.added_tokens), (CONTROL, tokenizer.special_tokens)):
        for name, number in names.items():
            tokens[number], types[number] = name, kind
    merges = [
        f"{to_printable(tokenizer.token_of(left))} {to_printable(tokenizer.token_of(right))}"
        for left, right, _ in tokenizer.merges
    ]
    return tokens, types, merges


def special_ids(tokenizer: ByteLevelBPE) -> dict[str, int]:
    """Ids by llama.cpp's role: bos, eos, eot (end of a turn) and pad, as far as the tokenizer has them."""
    names = {"bos": tokenizer.roles.get("bos_token", END_OF_TEXT), "eos": tokenizer.roles.get("eos_token", END_OF_TEXT)}
    names |= {"pad": tokenizer.roles.get("pad_token", PAD), "eot": END_OF_TURN}
    return {role: tokenizer.special_tokens[name] for role, name in names.items() if name in tokenizer.special_tokens}
