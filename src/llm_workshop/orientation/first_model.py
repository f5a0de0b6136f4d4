"""A checkpoint to play with in the first week, without a download: what is there, else one that is trained in seconds."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import torch

from llm_workshop.artifacts import Artifacts
from llm_workshop.corpora.sample.generator import generate
from llm_workshop.orientation.induction import one_thread
from scratch_llm.models import LlamaConfig, build_model
from scratch_llm.tokenizers import SPECIAL_TOKENS, ByteLevelBPE

STORIES = Path("tiny_models/stories260K/hf")
"""A real Llama of 260 thousand weights that writes English children's stories, in the folder of shared data."""
STAGE = "first-model"
STEPS, BATCH, LENGTH = 400, 8, 64


@dataclass(frozen=True)
class FirstModel:
    """A folder in Hugging Face format, where it comes from (Korean), and beginnings that suit it."""

    folder: Path
    origin: str
    prompts: tuple[str, ...]
    korean: bool


def shared_data() -> Path | None:
    """The optional real data: the folder that ``WORKSHOP_SHARED_DATA`` names; None without it."""
    folder = os.environ.get("WORKSHOP_SHARED_DATA")
    return Path(folder) if folder and Path(folder).is_dir() else None


def find_first_model(artifacts: Artifacts) -> FirstModel:
    """The base model of this run; else the tiny model of the shared data; else one trained here, once, in seconds.

    Raises:
        ValueError: the run's base model is there but damaged; the message says what builds it again.
    """
    korean = ("오늘 아침에", "우리 동네에는", "봄이 오면")
    if (artifacts.path("base-model") / "manifest.json").is_file():
        folder = artifacts.require("base-model")
        return FirstModel(folder, f"5주차에 처음부터 학습한 우리 모델 ({folder})", korean, korean=True)
    shared = shared_data()
    if shared and (shared / STORIES / "model.safetensors").is_file():
        english = ("Once upon a time", "Lily saw a big dog", "The sun was")
        return FirstModel(shared / STORIES, "영어 동화를 쓰는 파라미터 26만 개짜리 stories260K", english, korean=False)
    return FirstModel(train_first_model(artifacts), "지금 이 자리에서 몇 초 만에 학습한 아주 작은 모델", korean, korean=True)


def train_first_model(artifacts: Artifacts) -> Path:
    """A Llama of about 160 thousand weights on a little of the embedded sample, kept as a stage of the run."""
    used = {"steps": STEPS, "batch": BATCH, "length": LENGTH, "seed": artifacts.settings.seed, "version": 1}
    if artifacts.is_current(STAGE, used):
        return artifacts.path(STAGE)
    texts = [document.text for document in generate(0.3, seed=artifacts.settings.seed, kinds=("diary", "story", "letter"))]
    tokenizer = ByteLevelBPE.train(texts, 1000, SPECIAL_TOKENS, normalization="NFC")
    stream = torch.tensor([token for text in texts for token in (*tokenizer.encode(text, allow_special=False), tokenizer.eos_id)])
    config = LlamaConfig(
        vocab_size=tokenizer.vocab_size, context_length=256, n_layers=2, n_heads=4, n_kv_heads=2, d_model=64, d_ff=192,
        bos_token_id=tokenizer.eos_id, eos_token_id=tokenizer.eos_id, tie_embeddings=True,
    )  # fmt: skip
    model = build_model(config, seed=artifacts.settings.seed)
    with artifacts.write_stage(STAGE, used) as stage:
        with one_thread():
            loss = fit(model, stream, artifacts.settings.seed)
        stage.metrics.update(loss=loss, parameters=model.n_parameters())
        model.save_pretrained(stage.folder)
        tokenizer.save(stage.folder)
    return artifacts.path(STAGE)


def fit(model: torch.nn.Module, stream: torch.Tensor, seed: int, steps: int = STEPS) -> float:
    """Plain AdamW with a falling rate on random windows of one long row of tokens; the mean of the last ten losses (nats)."""
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3, betas=(0.9, 0.95), weight_decay=0.1)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=steps, pct_start=0.1)
    losses = []
    model.train()
    for _ in range(steps):
        starts = torch.randint(len(stream) - LENGTH - 1, (BATCH,), generator=generator)
        rows = stream[starts[:, None] + torch.arange(LENGTH + 1)]
        loss = model(rows[:, :-1], targets=rows[:, 1:])
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        schedule.step()
        losses.append(loss.item())
    model.eval()
    return sum(losses[-10:]) / len(losses[-10:])
