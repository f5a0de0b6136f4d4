"""Stage 4: pretrain the base model; interrupted runs go on where their last checkpoint stands."""

from __future__ import annotations

import contextlib
import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from llm_workshop.artifacts import Artifacts
from llm_workshop.pipeline.samples import is_chat_corpus, sample_line
from llm_workshop.pretraining.plan import plan_run
from llm_workshop.pretraining.run_log import SAMPLES, RunLog
from llm_workshop.pretraining.sources import describe_mixture, training_texts
from llm_workshop.settings import Settings
from scratch_llm.data import Mixture, Windows
from scratch_llm.models import GPT2Config, LlamaConfig, build_model
from scratch_llm.tokenizers import ByteLevelBPE
from scratch_llm.training import TrainingConfig, train, with_weights
from scratch_llm.training.ranks import Ranks

_INPUTS = ("tokenizer", "tokens")
_NOT_OF_THE_LOOP = ("gradient_checkpointing", "mixture", "mixture_temperature", "tensorboard")
#: Folder within the stage for the averaged weights (``pretrain.ema_decay``).
AVERAGED = "averaged"


def build_base_model(artifacts: Artifacts, force: bool | None = None, log: Callable[[str], None] = print) -> Path:
    """Train by ``settings.model`` and ``settings.pretrain``; save in Hugging Face format with the tokenizer.

    Averaged weights, where ``pretrain.ema_decay`` asks for them, are a second model in the folder ``averaged`` within.
    ``log`` takes each line of the training.  Started by torchrun or ``scratch_llm.training.launch``, this process is one of
    several that train together by ``settings.distributed``.
    """
    from scratch_llm.training.distributed import join_ranks  # a large module that few need

    distributed = artifacts.settings.distributed
    with join_ranks(distributed.strategy, distributed.timeout_seconds) as ranks:
        return _build(artifacts, ranks, force, log if ranks.is_first else _silent)


def _build(artifacts: Artifacts, ranks: Ranks, force: bool | None, log: Callable[[str], None]) -> Path:
    settings = artifacts.settings
    tokenizer = ByteLevelBPE.load(artifacts.require("tokenizer"))
    artifacts.require("tokens")
    used = {"model": settings.model, "pretrain": settings.pretrain, "seed": settings.seed}
    is_current = artifacts.skip_if_current if ranks.is_first else artifacts.is_current  # the first one tells
    if is_current("base-model", used, _INPUTS, force=force):
        return artifacts.path("base-model")

    torch.manual_seed(settings.seed)
    model = build_model(model_config(settings, tokenizer))
    device = torch.device(getattr(ranks, "device", "cuda" if torch.cuda.is_available() else "cpu"))
    model.to(device)
    log(f"model: {settings.model.architecture}, {model.n_parameters():,} parameters, on {device.type}" + (f", {ranks.size} processes" if ranks.size > 1 else ""))

    train_windows, valid_windows = training_windows(artifacts)
    work = artifacts.work("base-model", used, _INPUTS)
    model.gradient_checkpointing = settings.pretrain.gradient_checkpointing
    config = plan_run(
        model, training_config(settings), settings.model.context_length, work,
        auto=settings.pretrain.micro_batch_size == "auto", log=log, n_processes=ranks.size, is_first=ranks.is_first,
    )
    # "auto" looks at the free memory of this moment: all take what the first one found.
    config = dataclasses.replace(config, micro_batch_size=int(ranks.sum(config.micro_batch_size if ranks.is_first else 0)[0]))
    for line in describe_mixture(train_windows, valid_windows, config.steps):
        log(line)
    watched = RunLog(
        work, lambda model: sample_line(model, tokenizer, is_chat_corpus(artifacts)), valid_windows,
        precision=config.precision, eval_batches=config.eval_batches,
        tensorboard=artifacts.root / "tensorboard" / work.name if settings.pretrain.tensorboard else None, log=log,
    )
    with artifacts.write_stage("base-model", used, _INPUTS) if ranks.is_first else contextlib.nullcontext() as stage:
        # Checkpoints lie outside the stage's temporary folder: they outlive an interruption.
        result = train(
            model,
            train_windows,
            valid_windows,
            config,
            work,
            token_bytes=tokenizer.token_bytes(),
            log=log,
            on_eval=watched.on_eval,
            on_step=watched.on_step,
            ranks=ranks,
        )
        watched.close()
        if stage is None:
            return artifacts.path("base-model")
        _save(model, artifacts, stage.folder)
        if result.average is not None:
            with with_weights(model, result.average):
                _save(model, artifacts, stage.folder / AVERAGED)
        shutil.copy2(result.metrics_path, stage.folder / "metrics.jsonl")
        for name in (SAMPLES, "run.json"):  # for those who look at it afterwards (workshop watch)
            if (work / name).is_file():
                shutil.copy2(work / name, stage.folder / name)
        stage.metrics.update(_facts(result, model, artifacts))
    artifacts.clear_work("base-model")
    return artifacts.path("base-model")


def _silent(line: str) -> None:
    """What the processes but the first print."""


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


def training_windows(artifacts: Artifacts) -> tuple[Windows | Mixture, Windows | Mixture]:
    """Training and held-out windows over the token files; see ``pretraining.sources``."""
    return training_texts(artifacts)


def training_config(settings: Settings) -> TrainingConfig:
    """``settings.pretrain`` as the training loop takes it: its fields have the same names there."""
    pretrain = settings.pretrain
    values = pretrain.model_dump(exclude={"tokens", "packing", "beta1", "beta2", *_NOT_OF_THE_LOOP})
    if values["micro_batch_size"] == "auto":
        values["micro_batch_size"] = None  # the whole batch, until ``plan_run`` has looked at the memory
    return TrainingConfig(**values, betas=(pretrain.beta1, pretrain.beta2), seed=settings.seed)


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
