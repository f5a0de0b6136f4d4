"""The stage ``automodel``: the same runs by NeMo AutoModel and by our loop, and how far they are apart.

    automodel/<name>/recipe.yaml     what AutoModel was told; names are the architectures, and ``lora``
    automodel/<name>/curves.json     losses and learning rates of both, step by step
    automodel/<name>/checkpoint/     what AutoModel saved: a Hugging Face folder, or an adapter in PEFT's form
"""

from __future__ import annotations

import dataclasses
import json
import math
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch

from llm_workshop.artifacts import Artifacts
from llm_workshop.automodel.recipe import Job, LoRA, learning_rates
from llm_workshop.automodel.runner import Trained, read_result, run_job
from llm_workshop.automodel.twin import Twin, adapter_start, differences, train_twin
from llm_workshop.corpora.sample import generate
from llm_workshop.pipeline.pretrain import model_config
from llm_workshop.pipeline.tokens import encode_document
from llm_workshop.settings import Settings, derive
from scratch_llm.data import TokenFileWriter
from scratch_llm.models import build_model, load_model
from scratch_llm.peft import load_adapter
from scratch_llm.tokenizers import ByteLevelBPE
from scratch_llm.training import TrainingConfig

INPUTS = ("tokenizer", "tokens")
#: What the adapter learns: one kind of text of the sample.
KIND = "review"
Log = Callable[[str], None]


def build_automodel(artifacts: Artifacts, python: Path, log: Log = print, force: bool | None = None) -> Path:
    """Train every architecture and an adapter with both; ``python`` is that of the environment ``nemo``.

    Runs that ended before an interruption are not run again.
    """
    settings = artifacts.settings
    used = {"automodel": settings.automodel, "model": settings.model, "packing": settings.pretrain.packing, "seed": settings.seed}
    if artifacts.skip_if_current("automodel", used, INPUTS, force=force):
        return artifacts.path("automodel")
    work = artifacts.work("automodel", used, INPUTS)
    tokenizer = ByteLevelBPE.load(artifacts.require("tokenizer"))
    with artifacts.write_stage("automodel", used, INPUTS) as stage, ThreadPoolExecutor(2) as pool:
        jobs = {name: pretraining_job(artifacts, name, tokenizer, work / name) for name in settings.automodel.architectures}
        waiting = {name: pool.submit(run_or_read, python, job, work / name, probe(tokenizer)) for name, job in jobs.items()}
        twins = {name: train_twin(job, work / name / "twin") for name, job in jobs.items()}
        for name, job in jobs.items():
            tell(log, name, "scratch_llm", twins[name].losses)
            theirs = waiting[name].result()
            tell(log, name, "AutoModel", theirs.losses)
            stage.metrics[name] = put(stage.folder / name, job, theirs, twins[name], work / name)
        if "llama" in jobs:  # AutoModel puts adapters beside nn.Linear; GPT-2's matrices in transformers are none
            job = adapter_job(artifacts, twins["llama"], jobs["llama"], tokenizer, work / "lora")
            theirs = run_or_read(python, job, work / "lora", probe(tokenizer))
            tell(log, "lora", "AutoModel", theirs.losses)
            twin = train_twin(job, work / "lora" / "twin", adapter_start(theirs, work / "lora", work / "lora" / "start"))
            tell(log, "lora", "scratch_llm", twin.losses)
            stage.metrics["lora"] = put(stage.folder / "lora", job, theirs, twin, work / "lora")
    artifacts.clear_work("automodel")
    return artifacts.path("automodel")


def tell(log: Log, name: str, who: str, losses: list[float]) -> None:
    log(f"  {name:6} {who:12} {len(losses)} steps, loss {losses[0]:.4f} → {losses[-1]:.4f}")


def pretraining_job(artifacts: Artifacts, architecture: str, tokenizer: ByteLevelBPE, folder: Path) -> Job:
    """From random weights, which ``folder/weights`` gets, over the run's token file."""
    settings = artifacts.settings
    torch.manual_seed(settings.seed)
    model = build_model(model_config(of_architecture(settings, architecture), tokenizer))
    save_with_tokenizer(model, artifacts.path("tokenizer"), folder / "weights")
    options = settings.automodel
    return Job(
        folder / "weights", artifacts.path("tokens") / "train", settings.model.context_length,
        training(settings, options.steps, options.learning_rate), settings.pretrain.packing,
    )  # fmt: skip


def adapter_job(artifacts: Artifacts, twin: Twin, job: Job, tokenizer: ByteLevelBPE, folder: Path) -> Job:
    """An adapter beside the model that our loop has just trained, for one kind of text."""
    settings = artifacts.settings
    options = settings.automodel
    save_with_tokenizer(twin.model, artifacts.path("tokenizer"), folder / "weights")
    documents = generate(0.004 * options.lora_steps, settings.seed + 1, kinds=(KIND,))
    with TokenFileWriter(folder / "text", vocab_size=tokenizer.vocab_size) as writer:
        for document in documents:
            writer.append([*encode_document(tokenizer, document), tokenizer.eos_id], n_bytes=len(document.text.encode()))
    return dataclasses.replace(
        job, weights=folder / "weights", tokens=folder / "text", lora=LoRA(options.lora_rank, 2.0 * options.lora_rank),
        training=training(settings, options.lora_steps, options.lora_learning_rate, weight_decay=0.0),
    )  # fmt: skip


def training(settings: Settings, steps: int, learning_rate: float, **changes: Any) -> TrainingConfig:
    """In float32 and two micro-batches where the batch allows it: nothing is rounded away, and sums are put to the test."""
    batch = settings.automodel.batch_size
    return TrainingConfig(
        steps=steps, batch_size=batch, micro_batch_size=batch // 2 if batch % 2 == 0 else batch, learning_rate=learning_rate,
        warmup_steps=steps // 5, precision="float32", compile="off", eval_every=steps, eval_batches=1, log_every=steps, seed=settings.seed, **changes,
    )  # fmt: skip


def of_architecture(settings: Settings, architecture: str) -> Settings:
    """The settings with another architecture; what follows from it is derived anew."""
    model = settings.model
    if architecture == model.architecture:
        return settings
    model = model.model_copy(update={"architecture": architecture, "n_kv_heads": None, "d_ff": None, "dropout": 0.0})
    return derive(settings.model_copy(update={"model": model}))[0]


def probe(tokenizer: ByteLevelBPE) -> list[list[int]]:
    """A row of tokens on which logits are compared."""
    return [torch.randint(tokenizer.vocab_size, (16,), generator=torch.Generator().manual_seed(0)).tolist()]


def save_with_tokenizer(model: Any, tokenizer: Path, folder: Path) -> None:
    """A folder that other libraries open: weights, configuration and tokenizer."""
    model.save_pretrained(folder)
    for file in tokenizer.glob("*.json"):
        if file.name != "manifest.json":
            shutil.copy2(file, folder)


def run_or_read(python: Path, job: Job, folder: Path, ids: list[list[int]]) -> Trained:
    """AutoModel's run, or what it gave before an interruption: the folder belongs to these settings alone."""
    try:
        return read_result(folder.resolve())
    except ValueError:
        return run_job(python, job, folder, ids)


def put(target: Path, job: Job, theirs: Trained, twin: Twin, work: Path) -> dict[str, Any]:
    """Files of one comparison into the stage; its figures."""
    target.mkdir(parents=True)
    shutil.copyfile(work / "recipe.yaml", target / "recipe.yaml")
    shutil.copytree(theirs.checkpoint, target / "checkpoint")
    curves = {"ours": twin.losses, "automodel": theirs.losses, "learning_rate": twin.learning_rates, "next_learning_rate_automodel": theirs.next_learning_rates}
    (target / "curves.json").write_text(json.dumps(curves), encoding="utf-8")
    before, after = logits_in_ours(job, target / "checkpoint", probe_of(work))
    return {
        "steps": len(twin.losses), "first_loss": twin.losses[0], "last_loss": twin.losses[-1],
        "loss_difference": max(differences(twin.losses, theirs.losses)),
        "learning_rate_difference": max(differences(twin.learning_rates[1:], theirs.next_learning_rates[:-1])),
        "ours_opened_there": float(np.abs(before - theirs.before).max()),
        "theirs_opened_here": float(np.abs(after - theirs.after).max()),
        "class": theirs.facts["class"], "version": theirs.facts["version"],
        "parameters": theirs.facts["parameters"], "trainable": theirs.facts["trainable"],
        "setup_seconds": theirs.facts["setup_seconds"],
    }  # fmt: skip


def probe_of(work: Path) -> torch.Tensor:
    return torch.tensor(json.loads((work / "ids.json").read_text()))


def logits_in_ours(job: Job, checkpoint: Path, ids: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Logits of our model with the weights that the run began from, and with what AutoModel made of them."""
    model = load_model(job.weights).eval()
    with torch.no_grad():
        before = model(ids).float().numpy()
        if job.lora is None:
            model = load_model(checkpoint).eval()
        else:
            load_adapter(model, checkpoint, check_base=False)
        return before, model(ids).float().numpy()


def rates(config: TrainingConfig) -> list[float]:
    """The learning rate of each step by AutoModel's formula, from its recipe."""
    found, v = [], learning_rates(config)
    for step in range(config.steps):
        warmup, rise = v["lr_warmup_steps"], v["max_lr"] - v["init_lr"]
        if warmup > 0 and step <= warmup:
            found.append(v["init_lr"] + rise * step / warmup)
        else:
            share = (step - warmup) / (v["lr_decay_steps"] - warmup)
            found.append(v["min_lr"] + 0.5 * (1 + math.cos(math.pi * share)) * (v["max_lr"] - v["min_lr"]))
    return found
