"""The ways to fine-tune a classifier that week 6 compares, each as what it freezes and what it adds."""

from __future__ import annotations

import copy
import difflib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from scratch_llm.finetuning import Classifier, train_only
from scratch_llm.models import LanguageModel
from scratch_llm.peft import (
    AdapterConfig,
    IA3Config,
    LoRAConfig,
    PrefixTuned,
    WaveFTConfig,
    inject,
    quantize_base,
)
from scratch_llm.peft.inject import adaptable_layers

TARGETS = ("query-value", "attention", "feed-forward", "all", "lower-half", "upper-half")
"""Which matrices of the blocks get an adapter."""


@dataclass(frozen=True)
class Variant:
    """One contender: a method with its size and its places."""

    method: str
    rank: int = 8
    """Of LoRA and its relatives."""
    targets: str = "all"
    """One of ``TARGETS``; LoRA and its relatives."""
    prefix_tokens: int = 8
    coefficients: int = 512
    """WaveFT's, for each matrix."""

    @property
    def key(self) -> str:
        """Tells it from all others, in the table of trials."""
        details = {"low-rank": f"-r{self.rank}-{self.targets}", "prefix": f"-{self.prefix_tokens}", "waveft": f"-{self.coefficients}"}
        return self.method + details.get(METHODS[self.method].size, "")


@dataclass(frozen=True)
class Method:
    title: str
    learning_rate: float
    """Where the search for its learning rate begins."""
    size: str = ""
    """What says how much it learns: "low-rank", "prefix", "waveft", or nothing."""
    four_bits: bool = False
    """Whether the base is quantised."""


METHODS: dict[str, Method] = {
    "full": Method("모두", 5e-4),
    "last-1": Method("마지막 블록", 2e-3),
    "head": Method("머리만", 3e-2),
    "lora": Method("LoRA", 6e-3, "low-rank"),
    "rslora": Method("rsLoRA", 3e-3, "low-rank"),
    "dora": Method("DoRA", 6e-3, "low-rank"),
    "qlora": Method("QLoRA", 6e-3, "low-rank", four_bits=True),
    "waveft": Method("WaveFT", 1e-2, "waveft"),
    "ia3": Method("(IA)³", 2e-2),
    "prefix": Method("프리픽스", 2e-2, "prefix"),
}


def check_methods(names: Sequence[str]) -> None:
    """ValueError that names an unknown method and the nearest one, or says that there is none or one twice."""
    for name in names:
        if name not in METHODS:
            close = difflib.get_close_matches(name, METHODS, n=1, cutoff=0.5)
            hint = f" (did you mean '{close[0]}'?)" if close else ""
            raise ValueError(f"unknown method '{name}' in peft.methods{hint}: use {', '.join(METHODS)}")
    if not names or len(set(names)) < len(names):
        raise ValueError(f"peft.methods is {','.join(names) or 'empty'}: name methods, each once")


def make_classifier(base: LanguageModel, variant: Variant, n_classes: int, *, seed: int = 0, pooling: str = "last",
                    prefix: Sequence[int] = ()) -> Classifier:
    """A copy of ``base`` below a new head, with what ``variant`` adds, and all frozen but what it trains.

    Args:
        seed: of the head and of the adapters.
        prefix: token ids, as many as ``variant.prefix_tokens`` at least; their keys and values are what a prefix begins as.

    Raises:
        ValueError: as from ``inject`` and ``PrefixTuned``: settings that do not fit the model.
    """
    backbone: LanguageModel = copy.deepcopy(base).requires_grad_(True)
    torch.manual_seed(seed)
    if variant.method == "prefix":
        if len(prefix) < variant.prefix_tokens:
            raise ValueError(f"a prefix of {variant.prefix_tokens} tokens needs as many to begin from; there are {len(prefix)}")
        backbone = PrefixTuned.from_tokens(backbone, list(prefix)[: variant.prefix_tokens])
    elif METHODS[variant.method].four_bits:
        quantize_base(backbone)
    classifier = Classifier(backbone, n_classes, pooling)
    config = adapter_config(variant, base)
    if config is not None:
        inject(classifier, config)
    in_words = {"full": "all", "head": "head", "last-1": "last-1"}
    train_only(classifier, in_words.get(variant.method, "adapters"))
    return classifier


def adapter_config(variant: Variant, model: LanguageModel) -> AdapterConfig | None:
    """What to inject; None for methods without adapters."""
    makers: dict[str, Callable[[], AdapterConfig]] = {
        "lora": lambda: _low_rank(variant, model),
        "qlora": lambda: _low_rank(variant, model),
        "rslora": lambda: _low_rank(variant, model, rank_stabilized=True),
        "dora": lambda: _low_rank(variant, model, dora=True),
        "waveft": lambda: WaveFTConfig(n_coefficients=variant.coefficients, targets=places(model, variant.targets)),
        "ia3": lambda: IA3Config(targets=("c_attn", "mlp.c_proj")) if model.model_type == "gpt2" else IA3Config(),
    }
    return makers[variant.method]() if variant.method in makers else None


def _low_rank(variant: Variant, model: LanguageModel, **options: bool) -> LoRAConfig:
    return LoRAConfig(rank=variant.rank, alpha=16, targets=places(model, variant.targets), **options)


def places(model: LanguageModel, targets: str) -> tuple[str, ...]:
    """Full Hugging Face names of the matrices that one of ``TARGETS`` means, in a model of any kind with attention.

    Raises:
        ValueError: another word, or a model in which there is none such.
    """
    if not (found := _names(model, targets)):
        raise ValueError(f"a {model.model_type} model of {len(model.blocks)} blocks has no matrices {targets}: choose others")
    return found


def has_place(model: LanguageModel, targets: str) -> bool:
    """Whether there are such matrices; ValueError for a word that is none of ``TARGETS``."""
    return bool(_names(model, targets))


def _names(model: LanguageModel, targets: str) -> tuple[str, ...]:
    if targets not in TARGETS:
        raise ValueError(f"targets {targets!r} are unknown: use {', '.join(TARGETS)}")
    half = len(model.blocks) / 2
    found = []
    for layer, parts in adaptable_layers(model).items():
        number, is_attention = int(layer.split(".")[1]), ".attention." in layer
        for part in parts:
            last = part.name.rsplit(".", 1)[-1]
            wanted = {
                "all": True, "attention": is_attention, "feed-forward": not is_attention,
                "query-value": last in ("q_proj", "v_proj", "c_attn"),
                "lower-half": number < half, "upper-half": number >= half,
            }  # fmt: skip
            if wanted[targets]:
                found.append(part.name)
    return tuple(found)
