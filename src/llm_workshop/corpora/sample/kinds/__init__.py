"""The kinds of documents. Each module listed here has ``KINDS = {name: (make, weight)}``; make(rng, world) -> Draft.

Weights are shares of documents. Order matters for reproducibility: add new modules at the end.
"""

from importlib import import_module

MODULES = (
    "story",
    "chat",
    "dialogue",
    "howto",
    "review",
    "news",
    "diary",
    "letter",
    "sentence_pair",
    "encyclopedia",
    "reading",
)  # fmt: skip

KINDS = {}
for _name in MODULES:
    KINDS.update(import_module(f"{__name__}.{_name}").KINDS)
