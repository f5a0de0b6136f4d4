"""The week 10 lab runs from top to bottom on a tiny model and leaves its report."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch

from llm_workshop.artifacts import Artifacts
from llm_workshop.report import join_reports
from llm_workshop.settings import load_settings
from scratch_llm.models import LlamaConfig, build_model
from scratch_llm.tokenizers import SPECIAL_TOKENS, ByteLevelBPE


def tiny_base_model(folder, chat: bool) -> Artifacts:
    artifacts = Artifacts(load_settings("smoke"), folder)
    tokenizer = ByteLevelBPE.train(["오늘 아침에 김치찌개를 먹었어요. 영화가 재미있었어요."] * 9, 320, SPECIAL_TOKENS)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=tokenizer.vocab_size, context_length=256, n_layers=1, n_heads=2, n_kv_heads=1, d_model=16, d_ff=32
    )
    model = build_model(config)
    with artifacts.write_stage("base-model", {}) as stage:
        model.save_pretrained(stage.folder)
        tokenizer.save(stage.folder)
        stage.metrics.update(bits_per_byte=7.5, steps=1, chat=chat)
    return artifacts


@pytest.mark.parametrize("chat", [True, False], ids=["chat", "completion"])
@pytest.mark.filterwarnings("ignore:the corpus is too small")
def test_the_lab_runs_without_serving(repository, tmp_path, chat):
    artifacts = tiny_base_model(tmp_path, chat)
    script = repository / "labs" / "week10_integration" / "chat.py"
    command = [sys.executable, str(script), "--scale", "smoke", "chat.serve=false", "generate.max_new_tokens=12"]
    environment = {**os.environ, "ARTIFACTS_DIR": str(tmp_path)}
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=tmp_path, env=environment)
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr, done.stderr
    assert "대화 화면은 띄우지 않았습니다" in done.stdout
    text = (artifacts.reports / "week10-chat.md").read_text(encoding="utf-8")
    assert text.count("| 탐욕") == 2 and "week10-chat-temperature.png" in text
    assert ("안녕하세요" if chat else "이 영화는") in text
    assert "data:image/png" in join_reports(artifacts.reports).read_text(encoding="utf-8")


def test_the_lab_without_a_model_names_the_make_target(repository, tmp_path):
    script = repository / "labs" / "week10_integration" / "chat.py"
    environment = {**os.environ, "ARTIFACTS_DIR": str(tmp_path)}
    command = [sys.executable, str(script), "--scale", "smoke", "chat.serve=false"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment)
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert "make week5-pretrain SCALE=smoke" in done.stderr
