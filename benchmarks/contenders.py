"""Who runs in ``training.py`` and ``generation.py``: a model of ours or of a peer, of the same family and shape.

transformers builds every family it knows from our configuration; litgpt and llms-from-scratch are given the families
that they have.  NeMo AutoModel has its own Llama and the like, and an environment of its own (``make env-nemo``).
"""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from shapes import config_of, transformers_config
from torch import nn

REPOSITORY = Path(__file__).resolve().parents[1]
PEERS = Path(os.environ.get("BENCH_PEERS", REPOSITORY / ".envs" / "bench"))
INSTALL = ".venv/bin/python -m pip install --no-deps --target .envs/bench -r environments/bench.txt"
OURS = "ours"
PACKAGES = {
    OURS: "scratch_llm",
    "transformers": "transformers",
    "litgpt": "litgpt",
    "llms-from-scratch": "llms_from_scratch",
}
AUTOMODEL = "AutoModel"
NEMO = REPOSITORY / ".envs" / "nemo"


@dataclass(frozen=True)
class Contender:
    """Who, which family, which size; ``str`` of it is its name everywhere."""

    who: str
    family: str
    size: str

    def __str__(self) -> str:
        return f"{self.who} {self.family} {self.size}"

    @classmethod
    def parse(cls, name: str) -> Contender:
        who, family, size = name.split(" ")
        return cls(who, family, size)

    @property
    def python(self) -> str:
        """The program that runs it."""
        return str(NEMO / "bin" / "python") if self.who == AUTOMODEL else sys.executable

    @property
    def cure(self) -> str:
        """The command that installs it."""
        return "make env-nemo" if self.who == AUTOMODEL else INSTALL

    def build(self) -> tuple[nn.Module, Callable | None]:
        """The model, and the function of tokens that gives logits (None for ours, which gives the loss)."""
        config = config_of(self.family, self.size)
        return BUILDERS[self.who](self.family, config)


def contenders(families: list[str], sizes: list[str], *, apart: bool = False) -> tuple[list[Contender], list[Contender]]:
    """(those that can run, those whose package is not installed).  ``apart``: also those that another Python runs."""
    if str(PEERS) not in sys.path:  # last: what the core environment holds is shared
        sys.path.append(str(PEERS))
    installed = {who: importlib.util.find_spec(package) is not None for who, package in PACKAGES.items()}
    if apart:
        installed[AUTOMODEL] = any(NEMO.glob("lib/python*/site-packages/nemo_automodel"))
    every = [Contender(who, family, size) for size in sizes for family in families for who in installed if _has(who, family, size)]
    return [one for one in every if installed[one.who]], [one for one in every if not installed[one.who]]


def _has(who: str, family: str, size: str) -> bool:
    if who == "transformers":
        return transformers_config(config_of(family, size)) is not None
    return family in FAMILIES.get(who, (family,))


FAMILIES = {
    "litgpt": ("llama", "qwen3", "qwen3_moe"),
    "llms-from-scratch": ("llama", "gpt2", "qwen3", "qwen3_moe"),
    AUTOMODEL: ("llama", "gpt2", "qwen3"),
}


def _ours(family: str, config):
    from scratch_llm.models import build_model

    return build_model(config), None


def _transformers(family: str, config):
    from transformers import AutoModelForCausalLM

    theirs = transformers_config(config)
    theirs.use_cache = False
    model = AutoModelForCausalLM.from_config(theirs)
    return model, lambda x: model(x).logits


def _automodel(family: str, config):
    os.environ["HF_HUB_OFFLINE"] = "1"
    from llm_workshop.automodel.without_cuda import automodel_without_cuda

    automodel_without_cuda()
    from nemo_automodel import NeMoAutoModelForCausalLM

    theirs = transformers_config(config)
    theirs.use_cache = False
    model = NeMoAutoModelForCausalLM.from_config(theirs, torch_dtype=torch.float32, attn_implementation="sdpa")
    return model, lambda x: model(x).logits


def _litgpt(family: str, config):
    from litgpt import GPT, Config

    options = {"mlp_class_name": "LLaMAMLP", "intermediate_size": config.d_ff}
    if family == "qwen3_moe":
        options = {"mlp_class_name": "LLaMAMoE", "moe_intermediate_size": config.expert_d_ff, "intermediate_size": config.expert_d_ff,
                   "n_expert": config.n_experts, "n_expert_per_token": config.n_experts_per_token}
    model = GPT(Config(
        block_size=config.context_length, vocab_size=config.vocab_size, padded_vocab_size=config.vocab_size,
        n_layer=config.n_layers, n_head=config.n_heads, n_query_groups=config.n_kv_heads, n_embd=config.d_model,
        head_size=config.head_dim, rotary_percentage=1.0, parallel_residual=False, bias=False, norm_class_name="RMSNorm",
        norm_qk=family.startswith("qwen3"), **options))
    model.lm_head.weight = model.transformer.wte.weight
    return model, model


def _llms_from_scratch(family: str, config):
    if family == "gpt2":
        from llms_from_scratch.ch04 import GPTModelFast as Model
    elif family == "llama":
        from llms_from_scratch.llama3 import Llama3ModelFast as Model
    else:
        from llms_from_scratch.qwen3 import Qwen3Model as Model
    model = fill(Model(llms_from_scratch_values(family, config)))
    return model, model


def llms_from_scratch_values(family: str, config, dtype: torch.dtype = torch.float32) -> dict:
    """The dictionary of settings that its models take."""
    values = {"vocab_size": config.vocab_size, "context_length": config.context_length, "emb_dim": config.d_model,
              "n_heads": config.n_heads, "n_layers": config.n_layers, "dtype": dtype}
    if family == "gpt2":
        return values | {"drop_rate": 0.0, "qkv_bias": True}
    values |= {"hidden_dim": config.d_ff, "n_kv_groups": config.n_kv_heads, "rope_base": config.rope_theta}
    if family == "llama":
        return values | {"rope_freq": None}
    values |= {"head_dim": config.head_dim, "qk_norm": True}
    if family == "qwen3_moe":
        values |= {"num_experts": config.n_experts, "num_experts_per_tok": config.n_experts_per_token,
                   "moe_intermediate_size": config.expert_d_ff}
    return values


def fill(model: nn.Module) -> nn.Module:
    """Random weights for a model of llms-from-scratch, the output layer tied to the embedding."""
    for module in model.modules():
        # Only the layers made without values: to_empty would also wipe norms and tables of angles.
        if any(parameter.is_meta for parameter in module.parameters(recurse=False)):
            module.to_empty(device="cpu", recurse=False)
    for parameter in model.parameters():
        if parameter.dim() > 1:
            nn.init.normal_(parameter, 0.0, 0.02)
    model.out_head.weight = model.tok_emb.weight
    return model


BUILDERS = {OURS: _ours, "transformers": _transformers, "litgpt": _litgpt, "llms-from-scratch": _llms_from_scratch,
            AUTOMODEL: _automodel}
