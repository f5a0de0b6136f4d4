"""A stage beside the main chain: the base model learns to answer instructions."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from llm_workshop.artifacts import Artifacts
from llm_workshop.finetuning.answer_scores import over_constant, score_tasks
from llm_workshop.finetuning.answering import answer_all
from llm_workshop.finetuning.instructions import Instructions, load_instructions
from llm_workshop.settings import Settings
from scratch_llm.finetuning.instruction import InstructionWindows, PackedTexts, prepare
from scratch_llm.finetuning.templates import ALPACA_TEMPLATE
from scratch_llm.io import atomic_write, sha256_of
from scratch_llm.models import LanguageModel, load_model
from scratch_llm.tokenizers import ByteLevelBPE
from scratch_llm.training import TrainingConfig, train

STAGE = "chat-model"
_INPUTS = ("base-model",)


def build_chat_model(artifacts: Artifacts, force: bool | None = None, log: Callable[[str], None] = print) -> Path:
    """Train ``base-model`` by ``settings.instruct``; save in Hugging Face format with its tokenizer and chat template.

    The manifest has the scores on held-out questions; ``answers.jsonl`` every question with both models' answers.
    An interrupted run goes on where its last checkpoint stands.
    """
    settings = artifacts.settings
    base = artifacts.require("base-model")
    data = load_from(settings)
    used = {"instruct": training_settings(settings), "files": [sha256_of(path) for path in data.files], "seed": settings.seed}
    if artifacts.skip_if_current(STAGE, used, _INPUTS, force=force):
        return artifacts.path(STAGE)
    model, tokenizer = load_model(base), ByteLevelBPE.load(base)
    model.to("cuda" if torch.cuda.is_available() else "cpu")
    log(f"{len(data.train):,} examples to learn from, {len(data.valid):,} held-out questions of {len(data.tasks)} tasks")
    with artifacts.write_stage(STAGE, used, _INPUTS) as stage:
        before = ask(model, tokenizer, data, settings, log)
        windows = instruction_windows(data, tokenizer, model, settings, log)
        config = training_config(settings, windows[0].n_batches)
        learner = PackedTexts(model) if settings.instruct.layout == "packed" else model
        result = train(learner, *windows, config, artifacts.work(STAGE, used, _INPUTS), log=log)
        model.eval()
        after = ask(model, tokenizer, data, settings, log)
        model.save_pretrained(stage.folder)
        _save_tokenizer(base, stage.folder, settings.instruct.template)
        shutil.copy2(result.metrics_path, stage.folder / "metrics.jsonl")
        _save_answers(stage.folder / "answers.jsonl", data, before, after)
        stage.metrics.update(_facts(result, model, windows[0], data, before, after, settings))
    artifacts.clear_work(STAGE)
    return artifacts.path(STAGE)


Answers = tuple[list[str], list[bool]]
"""Answers to the held-out questions in their order, and which ended by themselves."""


def load_from(settings: Settings) -> Instructions:
    """The instructions of ``settings.instruct``."""
    s = settings.instruct
    return load_instructions(s.data, tasks=s.tasks, max_examples=s.max_examples, megabytes=s.megabytes, per_task=s.questions, seed=settings.seed)


def training_settings(settings: Settings) -> dict[str, Any]:
    """What of ``settings.instruct`` decides the stage's files: all but who judges the answers afterwards."""
    return settings.instruct.model_dump(mode="json", exclude={"judge", "judge_model"})


def instruction_windows(
    data: Instructions, tokenizer: ByteLevelBPE, model: LanguageModel, settings: Settings, log: Callable[[str], None]
) -> tuple[InstructionWindows, InstructionWindows]:
    """Batches to learn from and held-out ones; says what did not fit."""
    s, windows = settings.instruct, []
    for name, examples in (("train", data.train), ("valid", data.valid)):
        rows, count = prepare(examples, tokenizer, model.config.context_length, template=s.template, learn=s.learn)
        log(f"{name}: {count}")
        windows.append(
            InstructionWindows(rows, model.config.context_length, s.batch_size, seed=settings.seed, layout=s.layout, pad_id=tokenizer.eos_id)
        )
    log(f"layout {s.layout}: {windows[0].fill:.0%} of the positions hold a token, {windows[0].learnt:.0%} of these are learnt")
    return tuple(windows)


def training_config(settings: Settings, n_batches: int) -> TrainingConfig:
    """``settings.instruct`` as the training loop takes it."""
    s = settings.instruct
    steps = max(1, math.ceil(s.epochs * n_batches))
    return TrainingConfig(steps=steps, batch_size=s.batch_size, learning_rate=s.learning_rate, weight_decay=s.weight_decay,
                          precision=s.precision, compile=s.compile, seed=settings.seed, eval_every=max(1, -(-steps // 5)),
                          eval_batches=4)  # fmt: skip


def ask(
    model: LanguageModel, tokenizer: ByteLevelBPE, data: Instructions, settings: Settings, log: Callable[[str], None] = print
) -> Answers:
    """The model's greedy answers to the held-out questions."""
    s = settings.instruct
    answers, ended = answer_all(model, tokenizer, data.valid, template=s.template, max_new_tokens=s.max_new_tokens)
    exact, constant, n = over_constant(score_tasks(data.valid, answers, ended))
    log(f"closed tasks: {exact:.1%} of {n:,} answers are right, the best constant answers {constant:.1%}")
    return answers, ended


def _save_tokenizer(base: Path, folder: Path, template: str) -> None:
    """The base model's tokenizer, with the template that the model now knows."""
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy2(base / name, folder)
    if template == "alpaca":
        path = folder / "tokenizer_config.json"
        config = json.loads(path.read_text(encoding="utf-8")) | {"chat_template": ALPACA_TEMPLATE}
        with atomic_write(path) as stream:
            json.dump(config, stream, ensure_ascii=False, indent=2)


def _save_answers(path: Path, data: Instructions, before: Answers, after: Answers) -> None:
    with atomic_write(path) as stream:
        for number, example in enumerate(data.valid):
            question = "\n\n".join(message["content"] for message in example.prompt)
            record = {"task": example.task, "id": example.id, "question": question, "reference": example.answer,
                      "before": before[0][number], "after": after[0][number]}  # fmt: skip
            stream.write(json.dumps(record, ensure_ascii=False) + "\n")


def read_answers(folder: Path) -> list[dict[str, str]]:
    """The records of ``answers.jsonl``: task, id, question, reference, before, after."""
    return [json.loads(line) for line in (folder / "answers.jsonl").read_text(encoding="utf-8").splitlines()]


def _facts(
    result: Any, model: LanguageModel, windows: InstructionWindows, data: Instructions, before: Answers, after: Answers, settings: Settings
) -> dict[str, Any]:
    scores = {name: score_tasks(data.valid, *answers) for name, answers in (("before", before), ("after", after))}
    exact, constant, n = over_constant(scores["after"])
    return {
        "parameters": model.n_parameters(),
        "steps": result.steps,
        "loss": result.loss,
        "valid_loss": result.valid_loss,
        "tokens_per_second": result.tokens_per_second,
        "training_seconds": result.seconds,
        "fill": windows.fill,
        "learnt": windows.learnt,
        "examples": len(data.train),
        "questions": len(data.valid),
        "closed_questions": n,
        "closed_exact_before": over_constant(scores["before"])[0],
        "closed_exact": exact,
        "closed_constant": constant,
        "tasks": {name: [vars(score) for score in part] for name, part in scores.items()},
        # The page writes conversations in the chat template only.
        "chat": settings.instruct.template == "chat",
    }
