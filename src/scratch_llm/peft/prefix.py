"""Prefix tuning (Li and Liang 2021): learnt keys and values, in front of the text in every layer.

No weight changes and nothing is added to a matrix: the model reads the text as if tokens stood before it that no vocabulary
has.  Their keys and values lie in the key/value cache before the first token, so that decoding takes nothing more than a
cache that is not empty at the start.  The price is the places they take: the context is that much shorter.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from scratch_llm.io import atomic_write
from scratch_llm.layers.kv_cache import GrowingKVCache, KVCache
from scratch_llm.models.base import LanguageModel
from scratch_llm.peft.adapter import Adapter
from scratch_llm.peft.saving import BASE, CONFIG, WEIGHTS, _check_base, _write_json, base_digest
from scratch_llm.weights.reading import read_json
from scratch_llm.weights.safetensors_file import SafetensorsFile, write_safetensors

TENSOR = "prompt_embeddings"
"""The one tensor of PEFT's file, (P, 2 L K d)."""


class PrefixTuned(LanguageModel):
    """A frozen model behind P learnt positions; used, trained and asked for text like the model itself.

    ``model`` itself is frozen in place, and otherwise as it was: called directly it knows no prefix.  The keys are those
    after the rotation of positions, as caches keep them.  Its ``config`` has the context that is left for text.
    """

    packs_texts = False

    def __init__(self, model: LanguageModel, n_tokens: int = 20, *, projection: int | None = None, init_std: float = 1.0):
        """
        Args:
            n_tokens: P, positions to learn.
            projection: learn P vectors and a network with so many hidden units that makes keys and values of them, which
                the paper found to train more steadily (section 4.3); on disk only its results remain.
            init_std: keys and values begin as N(0, init_std); see ``from_tokens`` for a better start.

        Raises:
            ValueError: a model without plain keys and values, or a prefix that leaves no place for text.
        """
        plain_cache = not model.recurrent and type(model.init_cache(1, 1, device="meta")) is KVCache
        if not plain_cache:
            raise ValueError(
                f"a {model.model_type} model has no cache of plain keys and values in every layer, before which a prefix could "
                "lie: tune another (llama, qwen3, gpt2), or take an adapter such as LoRA"
            )
        C = model.config.context_length
        for name, value in (("n_tokens", n_tokens), ("projection", 1 if projection is None else projection)):
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(f"{name} is {value!r}: it must be a whole number of 1 or more")
        if n_tokens >= C:
            raise ValueError(f"a prefix of {n_tokens} positions leaves none of the context of {C} for text: take fewer")
        super().__init__(dataclasses.replace(model.config, context_length=C - n_tokens))
        self.model = model.requires_grad_(False)
        self.model_type, self.cache_class = model.model_type, model.cache_class
        self.no_decay = (*model.no_decay, "prefix")
        self.n_tokens = n_tokens
        self.n_layers, self.n_kv_heads, self.head_dim = model.config.n_layers, model.config.n_kv_heads, model.config.head_dim
        width, dim = 2 * self.n_layers * self.n_kv_heads * self.head_dim, self.n_kv_heads * self.head_dim
        self.prefix = nn.Parameter(torch.randn(n_tokens, width if projection is None else dim, device=model.device) * init_std)
        self.network = None
        if projection is not None:
            self.network = nn.Sequential(nn.Linear(dim, projection), nn.Tanh(), nn.Linear(projection, width)).to(model.device)

    @classmethod
    @torch.no_grad()
    def from_tokens(cls, model: LanguageModel, tokens: Sequence[int]) -> PrefixTuned:
        """A prefix that begins as the keys and values of real tokens: at first the model computes as if they stood before
        the text (the paper's section 7.4 finds this the best start where there is little data)."""
        tuned = cls(model, len(tokens))
        cache = model.init_cache(1, len(tokens))
        model.hidden_states(torch.tensor([list(tokens)], device=model.device), cache, None)
        pairs = [torch.stack(pair) for pair in zip(cache.keys, cache.values)]  # of each layer (2, 1, K, P, d)
        tuned.prefix.copy_(torch.stack(pairs)[:, :, 0].permute(3, 0, 1, 2, 4).flatten(1))
        return tuned

    # -- the prefix ---------------------------------------------------------------------------------------------------

    def keys_and_values(self) -> Tensor:
        """As PEFT's files have it: (P, 2 L K d), of each position keys and values of layer after layer."""
        return self.prefix if self.network is None else self.network(self.prefix)

    def _by_layer(self, n_rows: int, dtype: torch.dtype, device: torch.device | str) -> list[tuple[Tensor, Tensor]]:
        """Keys and values of each layer, (B, K, P, d) each, the same in all rows."""
        shape = (self.n_tokens, self.n_layers, 2, self.n_kv_heads, self.head_dim)
        by_layer = self.keys_and_values().to(device, dtype).view(shape).permute(1, 2, 3, 0, 4)
        return [tuple(part.expand(n_rows, -1, -1, -1) for part in layer) for layer in by_layer]

    def hidden_states(self, tokens_BT: Tensor, cache: KVCache | None, padding_mask: Tensor | None) -> Tensor:
        if cache is None:  # one that grows by joining, so that gradients find back to the prefix
            B, T = tokens_BT.shape
            config, total = self.config, self.n_tokens + T
            cache = GrowingKVCache(config.n_layers, B, config.n_kv_heads, total, config.head_dim, self.dtype, self.device)
            cache.keys, cache.values = (list(part) for part in zip(*self._by_layer(B, self.dtype, self.device)))
            cache.advance(self.n_tokens)
        return self.model.hidden_states(tokens_BT, cache, padding_mask)

    @torch.no_grad()
    def init_cache(
        self,
        batch_size: int,
        max_length: int | None = None,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> KVCache:
        """A cache for ``max_length`` positions of text after the prefix, which is in it already."""
        dtype, device = dtype or self.dtype, device or self.device
        length = (max_length or self.config.context_length) + self.n_tokens
        cache = self.model.init_cache(batch_size, length, dtype, device)
        for layer, (keys, values) in enumerate(self._by_layer(batch_size, dtype, device)):
            cache.write(layer, keys, values)
        cache.advance(self.n_tokens)
        return cache

    # -- the rest is the model's --------------------------------------------------------------------------------------

    @property
    def head_weight(self) -> Tensor:
        return self.model.head_weight

    def logits(self, hidden: Tensor) -> Tensor:
        return self.model.logits(hidden)

    def loss(self, hidden_BTD: Tensor, targets_BT: Tensor) -> Tensor:
        return self.model.loss(hidden_BTD, targets_BT)

    def context_flops_per_token(self, context_length: int) -> int:
        return self.model.context_flops_per_token(context_length + self.n_tokens)

    def n_matrix_parameters(self) -> int:
        return self.model.n_matrix_parameters()

    def _n_frozen_matrix_parameters(self) -> int:
        return self.model.n_matrix_parameters()

    def init_weights(self) -> None:
        self.model.init_weights()

    def init_buffers(self) -> None:
        self.model.init_buffers()

    @classmethod
    def weight_rules(cls, config: Any) -> list:
        raise ValueError("a prefix is no part of a model's weights: write it with save_prefix, and the model by itself")

    config_from_huggingface = config_to_huggingface = weight_rules


def save_prefix(tuned: PrefixTuned, folder: str | Path, *, base_model: str | None = None, task: str = "CAUSAL_LM") -> None:
    """Write the prefix as PEFT does, beside a digest of the model's weights; see ``save_adapter``."""
    folder = Path(folder)
    prefix = tuned.keys_and_values().detach().float().cpu().contiguous()
    values = {
        "peft_type": "PREFIX_TUNING",
        "task_type": task,
        "base_model_name_or_path": base_model,
        "inference_mode": True,
        "num_virtual_tokens": tuned.n_tokens,
        "token_dim": tuned.n_kv_heads * tuned.head_dim,
        "num_attention_heads": tuned.n_kv_heads,
        "num_layers": tuned.n_layers,
        "num_transformer_submodules": 1,
        "prefix_projection": False,
        "encoder_hidden_size": None,
    }
    with atomic_write(folder / WEIGHTS, "wb") as stream:
        write_safetensors(stream, {TENSOR: (prefix.dtype, prefix.shape)}, [prefix])
    _write_json(folder / BASE, {"model_type": tuned.model_type, "sha256": base_digest(tuned.model)})
    _write_json(folder / CONFIG, values)


def load_prefix(model: LanguageModel, folder: str | Path, *, check_base: bool = True) -> PrefixTuned:
    """``model``, frozen, behind the prefix in ``folder``, ours or PEFT's.

    Raises, warns: as ``load_adapter``.
    """
    folder = Path(folder)
    for name in (CONFIG, WEIGHTS):
        if not (folder / name).is_file():
            raise FileNotFoundError(f"{folder / name} is missing: give a folder that save_prefix or PEFT wrote")
    values = read_json(folder / CONFIG)
    if values.get("peft_type") != "PREFIX_TUNING":
        raise ValueError(f"{folder} holds an adapter of type {values.get('peft_type')!r}, no prefix: open it with load_adapter")
    if values.get("num_transformer_submodules", 1) != 1:
        raise ValueError(f"the prefix in {folder} is for an encoder and a decoder; the models here are decoders alone")
    if check_base:
        _check_base(model, folder)
    file = SafetensorsFile(folder / WEIGHTS)
    tensors = {key: file.read(key) for key in file.tensors}
    config = model.config
    width = 2 * config.n_layers * config.n_kv_heads * config.head_dim
    prefix = Adapter.take(tensors, TENSOR, (values.get("num_virtual_tokens"), width))
    tuned = PrefixTuned(model, len(prefix))
    with torch.no_grad():
        tuned.prefix.copy_(prefix)
    return tuned
