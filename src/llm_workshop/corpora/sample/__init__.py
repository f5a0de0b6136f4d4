"""The embedded Korean sample: a small invented world, told in many kinds of documents whose truth we know."""

from .generator import choose_kinds, generate, make_document, split_of

__all__ = ["choose_kinds", "generate", "make_document", "split_of"]
