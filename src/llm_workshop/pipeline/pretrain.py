"""Stage 4: pretrain the base model; interrupted runs go on where their last checkpoint stands."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from llm_workshop.artifacts import Artifacts
from llm_workshop.pipeline.samples import is_chat_corpus, sample_line
from llm_workshop.settings import Settings
from scratch_llm.data import TokenFile, Windows
from scratch_llm.models import GPT2Config, LlamaConfig, build_model
from scratch_llm.tokenizers import ByteLevelBPE
from scratch_llm.training import TrainingConfig, train, with_weights

_INPUTS = ("tokenizer", "tokens")
#: Folder within the stage for the averaged weights (``pretrain.ema_decay``).
AVERAGED = "averaged"


def build_base_model(artifacts: Artifacts, force: bool | None = None, log: Callable[[str], None] = print) -> Path:
    """Train by ``settings.model`` and ``settings.pretrain``; save in Hugging Face format with the tokenizer.

    Averaged weights, where ``pretrain.ema_decay`` asks for them, are a second model in the folder ``averaged`` within.
    ``log`` takes each line of the training.
    """
    settings = artifacts.settings
    tokenizer = ByteLevelBPE.load(artifacts.require("tokenizer"))
    artifacts.require("tokens")
    used = {"model": settings.model, "pretrain": settings.pretrain, "seed": settings.seed}
    if artifacts.skip_if_current("base-model", used, _INPUTS, force=force):
        return artifacts.path("base-model")

    torch.manual_seed(settings.seed)
    model = build_model(model_config(settings, tokenizer))
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model.to(device)
    log(f"model: {settings.model.architecture}, {model.n_parameters():,} parameters, on {device}")

    with artifacts.write_stage("base-model", used, _INPUTS) as stage:
        # Checkpoints lie outside the stage's temporary folder: they outlive an interruption.
        result = train(
            model,
            *training_windows(artifacts),
            training_config(settings),
            artifacts.work("base-model", used, _INPUTS),
            token_bytes=tokenizer.token_bytes(),
            log=log,
            on_eval=_sampler(tokenizer, artifacts, log),
        )
        _save(model, artifacts, stage.folder)
        if result.average is not None:
            with with_weights(model, result.average):
                _save(model, artifacts, stage.folder / AVERAGED)
        shutil.copy2(result.metrics_path, stage.folder / "metrics.jsonl")
        stage.metrics.update(_facts(result, model, artifacts))
    artifacts.clear_work("base-model")
    return artifacts.path("base-model")


def _save(model: Any, artifacts: Artifacts, folder: Path) -> None:
    """The weights, and the tokenizer beside them."""
    model.save_pretrained(folder)
    for file in artifacts.path("tokenizer").glob("*.json"):
        if file.name != "manifest.json":
            shutil.copy2(file, folder)


def other_settings(artifacts: Artifacts) -> list[str]:
    """How the model that is there was trained otherwise than the present settings say, a line for each value."""
    trained, settings = artifacts.read_manifest("base-model")["settings"], artifacts.settings
    now = {"model": settings.model.model_dump(mode="json"), "pretrain": settings.pretrain.model_dump(mode="json")}
    return [
        f"{section}.{key}={was} (now {now[section].get(key)})"
        for section in now
        for key, was in trained.get(section, {}).items()
        if was != now[section].get(key)
    ]


def model_config(settings: Settings, tokenizer: ByteLevelBPE) -> LlamaConfig | GPT2Config:
    """The scratch_llm configuration that belongs to ``settings.model`` and the tokenizer.

    ``<|endoftext|>`` also begins a text: in the token file it stands before every document but the first.
    """
    model = settings.model
    shared = {
        "vocab_size": tokenizer.vocab_size,
        "bos_token_id": tokenizer.eos_id,
        "eos_token_id": tokenizer.eos_id,
        "context_length": model.context_length,
        "n_layers": model.n_layers,
        "n_heads": model.n_heads,
        "d_model": model.d_model,
        "d_ff": model.d_ff,
        "tie_embeddings": model.tie_embeddings,
    }
    if model.architecture == "gpt2":
        return GPT2Config(**shared, dropout=model.dropout)
    return LlamaConfig(**shared, n_kv_heads=model.n_kv_heads, rope_theta=model.rope_theta)


def training_windows(artifacts: Artifacts) -> tuple[Windows, Windows]:
    """Training and held-out windows over the token files, in an order fixed by the seed."""
    settings = artifacts.settings
    return tuple(
        Windows(
            TokenFile(artifacts.path("tokens") / split),
            settings.model.context_length,
            settings.pretrain.batch_size,
            seed=settings.seed,
            packing=settings.pretrain.packing,
        )
        for split in ("train", "valid")
    )


def training_config(settings: Settings) -> TrainingConfig:
    """``settings.pretrain`` as the training loop takes it: its fields have the same names there."""
    pretrain = settings.pretrain
    values = pretrain.model_dump(exclude={"tokens", "packing", "beta1", "beta2"})
    return TrainingConfig(**values, betas=(pretrain.beta1, pretrain.beta2), seed=settings.seed)


def _sampler(tokenizer: ByteLevelBPE, artifacts: Artifacts, log: Callable[[str], None]):
    """The hook that prints one short generation at each evaluation, so that one sees the model learn."""
    chat = is_chat_corpus(artifacts)

    def on_eval(model: Any, step: int) -> None:
        log(f"  step {step}: {sample_line(model, tokenizer, chat)}")

    return on_eval


def _facts(result: Any, model: Any, artifacts: Artifacts) -> dict[str, Any]:
    return {
        "architecture": artifacts.settings.model.architecture,
        "parameters": model.n_parameters(),
        "steps": result.steps,
        "loss": result.loss,
        "valid_loss": result.valid_loss,
        "bits_per_byte": result.bits_per_byte,
        "tokens_per_second": result.tokens_per_second,
        "mfu": result.mfu,
        "training_seconds": result.seconds,
        "bad_steps": result.bad_steps,
        **({} if result.ema_valid_loss is None else {
            "ema_valid_loss": result.ema_valid_loss, "ema_bits_per_byte": result.ema_bits_per_byte}),
        "chat": is_chat_corpus(artifacts),
    }
