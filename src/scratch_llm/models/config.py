"""Configuration fields that all models share, and their checks."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from scratch_llm.layers.rope_scaling import RopeScaling, scaling_to_huggingface


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Fields of every language model.  Frozen and validated: an impossible one cannot be built."""

    vocab_size: int
    """Number of tokens, and of logits."""
    context_length: int
    """Positions the model is trained on; one with attention never sees more at once."""
    n_layers: int
    """Number of blocks."""
    d_model: int
    """Width of the residual stream."""
    norm_eps: float = 1e-5
    """Added to the variance, or the mean square, in the norms."""
    tie_embeddings: bool = True
    """One matrix for the token embedding and the output layer."""
    init_std: float = 0.02
    """Standard deviation of the starting weights."""
    bos_token_id: int | None = None
    """Token that begins a document."""
    eos_token_id: int | tuple[int, ...] | None = None
    """Token, or tokens, that end a document: generation stops there."""
    pad_token_id: int | None = None
    """Token that fills up a batch; masked, so any id does."""

    def __post_init__(self):
        if isinstance(self.eos_token_id, list):
            self._derive("eos_token_id", tuple(self.eos_token_id))
        check_positive(self, "vocab_size", "context_length", "n_layers", "d_model")
        check_above_zero(self, "norm_eps", "init_std")
        check_token_ids(self, "bos_token_id", "eos_token_id", "pad_token_id")

    def _derive(self, name: str, value: Any) -> None:
        """Set a field of the frozen instance, while it is being made."""
        object.__setattr__(self, name, value)


@dataclass(frozen=True, kw_only=True)
class TransformerConfig(ModelConfig):
    """Fields of models with attention.  Fields left at None are derived from the others."""

    n_heads: int
    """Query heads per block."""
    n_kv_heads: int | None = None
    """Key/value heads per block; divides n_heads.  None: n_heads (multi-head attention)."""
    d_ff: int | None = None
    """Inner width of the feed-forward network.  None: 8/3 d_model rounded up to a multiple of 64 (with a gate, as many
    weights as 4 d_model without one)."""
    head_dim: int | None = None
    """Width of one head, even.  None: d_model / n_heads."""
    rope_theta: float = 10_000.0
    """Base of the rotary frequencies; larger for longer contexts."""
    rope_scaling: RopeScaling | None = None
    """How the rotary frequencies are stretched to a context longer than the pretrained one."""
    dropout: float = 0.0
    """Probability of dropping an attention weight during training."""

    def __post_init__(self):
        super().__post_init__()
        check_positive(self, "n_heads")
        if self.n_kv_heads is None:
            self._derive("n_kv_heads", self.n_heads)
        if self.d_ff is None:
            self._derive("d_ff", -(-8 * self.d_model // (3 * 64)) * 64)
        if self.head_dim is None:
            check_divides(self, "d_model", "n_heads")
            self._derive("head_dim", self.d_model // self.n_heads)
        check_positive(self, "n_kv_heads", "d_ff", "head_dim")
        if self.n_heads % self.n_kv_heads:
            raise ValueError(f"n_kv_heads is {self.n_kv_heads}: it must divide n_heads, {self.n_heads}")
        if self.head_dim % 2:
            raise ValueError(
                f"head_dim is {self.head_dim}: rotary embedding rotates pairs, so it must be even (d_model / n_heads)"
            )
        check_above_zero(self, "rope_theta")
        check_fraction(self, "dropout")


def common_from_huggingface(values: dict[str, Any]) -> dict[str, Any]:
    """Arguments for ``ModelConfig`` from a ``config.json`` in the spelling that most architectures use."""
    return {
        "vocab_size": values["vocab_size"],
        "n_layers": values["num_hidden_layers"],
        "d_model": values["hidden_size"],
        "tie_embeddings": values.get("tie_word_embeddings", False),
        "init_std": values.get("initializer_range", 0.02),
        **{name: values.get(name) for name in TOKEN_FIELDS},
    }


def common_to_huggingface(config: ModelConfig) -> dict[str, Any]:
    """The reverse of ``common_from_huggingface``."""
    return {
        "vocab_size": config.vocab_size,
        "num_hidden_layers": config.n_layers,
        "hidden_size": config.d_model,
        "tie_word_embeddings": config.tie_embeddings,
        "initializer_range": config.init_std,
        **token_fields(config),
    }


def transformer_from_huggingface(values: dict[str, Any]) -> dict[str, Any]:
    """Arguments for ``TransformerConfig``, but for the rotary fields (see ``rope_of``)."""
    return common_from_huggingface(values) | {
        "context_length": values.get("max_position_embeddings", 2048),
        "n_heads": values["num_attention_heads"],
        "n_kv_heads": values.get("num_key_value_heads"),
        "d_ff": values["intermediate_size"],
        "head_dim": values.get("head_dim"),
        "norm_eps": values.get("rms_norm_eps", 1e-6),
        "dropout": values.get("attention_dropout") or 0.0,
    }


def transformer_to_huggingface(config: TransformerConfig) -> dict[str, Any]:
    """The reverse of ``transformer_from_huggingface`` and ``rope_of``, with the rotary fields in both spellings."""
    scaling = scaling_to_huggingface(config.rope_scaling)
    return common_to_huggingface(config) | {
        "max_position_embeddings": config.context_length,
        "num_attention_heads": config.n_heads,
        "num_key_value_heads": config.n_kv_heads,
        "intermediate_size": config.d_ff,
        "head_dim": config.head_dim,
        "rms_norm_eps": config.norm_eps,
        "attention_dropout": config.dropout,
        # transformers 5 reads the third, older engines and converters the first two.
        "rope_theta": config.rope_theta,
        "rope_scaling": None if config.rope_scaling is None else scaling,
        "rope_parameters": scaling | {"rope_theta": config.rope_theta},
    }


TOKEN_FIELDS = ("bos_token_id", "eos_token_id", "pad_token_id")


def token_fields(config: ModelConfig) -> dict[str, Any]:
    """The special tokens as JSON holds them."""
    values = {name: getattr(config, name) for name in TOKEN_FIELDS}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}


# -- checks: ValueError says which field, what it is and what it may be --------------------------------------------


def check_positive(config: Any, *names: str) -> None:
    """Each named field is a whole number of at least 1."""
    for name in names:
        value = getattr(config, name)
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ValueError(f"{name} is {value!r}: it must be a whole number of at least 1")


def check_above_zero(config: Any, *names: str) -> None:
    """Each named field is a number above 0."""
    for name in names:
        if not getattr(config, name) > 0:
            raise ValueError(f"{name} is {getattr(config, name)!r}: it must be above 0")


def check_divides(config: Any, whole: str, part: str) -> None:
    """The field ``part`` divides the field ``whole``."""
    if getattr(config, whole) % getattr(config, part):
        raise ValueError(
            f"{whole} {getattr(config, whole)} is not divisible by {part} {getattr(config, part)}: choose a multiple"
        )


def check_fraction(config: Any, *names: str) -> None:
    """Each named field is in [0, 1)."""
    for name in names:
        value = getattr(config, name)
        if not 0.0 <= value < 1.0:
            raise ValueError(f"{name} is {value!r}: it must be at least 0 and below 1")


def check_token_ids(config: Any, *names: str) -> None:
    """Each named field is None, or ids inside the vocabulary."""
    for name in names:
        value = getattr(config, name)
        for token in value if isinstance(value, (tuple, list)) else (value,):
            if token is not None and not 0 <= token < config.vocab_size:
                raise ValueError(
                    f"{name} is {token}: it must be None or in 0..{config.vocab_size - 1} (vocab_size)"
                )


def replace(config: Any, **changes: Any) -> Any:
    """A copy of a configuration with some fields changed, validated again."""
    return dataclasses.replace(config, **changes)
