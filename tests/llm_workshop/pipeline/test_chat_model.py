"""The stage chat-model: learnt, scored, reused, resumed, and asked by the page."""

from __future__ import annotations

import json

import pytest
import torch
from transformers import AutoTokenizer

from llm_workshop.artifacts import Artifacts
from llm_workshop.pipeline import chat_model
from llm_workshop.pipeline.chat_model import build_chat_model, read_answers
from llm_workshop.serving.engine import Sampling
from llm_workshop.serving.scratch_engine import ScratchEngine
from llm_workshop.settings import load_settings
from scratch_llm.models import LlamaConfig, build_model, load_model
from scratch_llm.tokenizers import SPECIAL_TOKENS, ByteLevelBPE

NUMBERS = "영일이삼사오육칠팔구"


@pytest.fixture(scope="module")
def rows(tmp_path_factory) -> str:
    """Four questions and their answers, over and over: the held-out tenth asks what was learnt in other words."""
    path = tmp_path_factory.mktemp("rows") / "mine.jsonl"
    lines = [{"instruction": f"{NUMBERS[i % 4]}의 다음은?{' ' * (i // 4)}", "output": NUMBERS[i % 4 + 1], "task": "다음"} for i in range(44)]
    path.write_text("\n".join(json.dumps(line, ensure_ascii=False) for line in lines), encoding="utf-8")
    return str(path)


@pytest.fixture
def artifacts(rows, tmp_path) -> Artifacts:
    return with_base(tmp_path, rows)


def with_base(root, rows, *overrides) -> Artifacts:
    settings = load_settings("smoke", overrides=(
        f"instruct.data={rows}", "instruct.epochs=20", "instruct.batch_size=4", "instruct.learning_rate=1e-2", "instruct.questions=4",
        "instruct.max_new_tokens=6", "instruct.precision=float32", *overrides,
    ))  # fmt: skip
    artifacts = Artifacts(settings, root)
    if not artifacts.path("base-model").exists():
        tokenizer = ByteLevelBPE.train(["다음은? " + NUMBERS] * 9, 290, SPECIAL_TOKENS)
        torch.manual_seed(0)
        config = LlamaConfig(
            vocab_size=tokenizer.vocab_size, context_length=48, n_layers=2, n_heads=4, n_kv_heads=2, d_model=32, d_ff=64,
            bos_token_id=tokenizer.eos_id, eos_token_id=tokenizer.eos_id,
        )  # fmt: skip
        with artifacts.write_stage("base-model", {}) as stage:
            build_model(config).save_pretrained(stage.folder)
            tokenizer.save(stage.folder)
    return artifacts


def test_it_learns_scores_and_is_there_the_second_time(artifacts, capsys):
    lines: list[str] = []
    folder = build_chat_model(artifacts, log=lines.append)
    facts = artifacts.read_manifest("chat-model")["metrics"]
    assert facts["closed_exact"] == 1.0 > facts["closed_constant"] > facts["closed_exact_before"] == 0.0
    assert facts["tasks"]["after"][0]["task"] == "다음" and facts["chat"]
    records = read_answers(folder)
    assert len(records) == 4 and all(record["after"] == record["reference"] != record["before"] for record in records)
    assert any("44" in line or "40" in line for line in lines) and any("hold a token" in line for line in lines)
    before = (folder / "manifest.json").read_text()
    build_chat_model(artifacts, log=lambda line: pytest.fail(f"built again: {line}"))
    assert "up to date" in capsys.readouterr().out and (folder / "manifest.json").read_text() == before
    # Who judges does not change what was learnt; what is learnt does.
    judged = with_base(artifacts.root.parent, artifacts.settings.instruct.data[0], "instruct.judge=http://127.0.0.1:9/v1")
    build_chat_model(judged, log=lambda line: pytest.fail(f"built again: {line}"))
    other = with_base(artifacts.root.parent, artifacts.settings.instruct.data[0], "instruct.learn=all")
    assert not other.is_current("chat-model", {"instruct": chat_model.training_settings(other.settings), "files": [], "seed": 0}, ("base-model",))


def test_the_page_asks_it_where_it_is_told_to(artifacts):
    build_chat_model(artifacts, log=lambda line: None)
    asking = with_base(artifacts.root.parent, artifacts.settings.instruct.data[0], "chat.model=chat-model")
    engine = ScratchEngine.from_artifacts(asking)
    question = [{"role": "user", "content": "일의 다음은?"}]
    assert "".join(delta.text for delta in engine.stream(question, Sampling(max_new_tokens=6, temperature=0))) == "이"
    assert engine.info().supports_chat and engine.info().artifact.endswith("chat-model")
    assert ScratchEngine.from_artifacts(artifacts).info().artifact.endswith("base-model")


def test_without_the_stage_the_page_says_how_to_make_it(rows, tmp_path):
    asking = with_base(tmp_path, rows, "chat.model=chat-model")
    with pytest.raises(ValueError, match=r"no chat-model at .*: run 'make week6-instruct SCALE=smoke' first"):
        ScratchEngine.from_artifacts(asking)


def test_an_interrupted_run_goes_on(artifacts, monkeypatch, tmp_path):
    whole = load_model(build_chat_model(artifacts, log=lambda line: None))

    class Stop(Exception):
        pass

    def stop(line: str) -> None:
        if " 30/" in line:
            raise Stop

    broken = with_base(tmp_path / "broken", artifacts.settings.instruct.data[0])
    with pytest.raises(Stop):
        build_chat_model(broken, log=stop)
    assert not broken.path("chat-model").exists()
    lines: list[str] = []
    again = load_model(build_chat_model(broken, log=lines.append))
    assert any(line.startswith("resuming after step") for line in lines)
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, again.state_dict()[name]), name


def test_alpacas_template_is_stored_with_the_tokenizer(rows, tmp_path):
    artifacts = with_base(tmp_path, rows)
    folder = tmp_path / "tokenizer"
    folder.mkdir()
    chat_model._save_tokenizer(artifacts.path("base-model"), folder, "alpaca")
    text = AutoTokenizer.from_pretrained(folder).apply_chat_template([{"role": "user", "content": "일의 다음은?"}], tokenize=False)
    assert text.endswith("### Instruction:\n일의 다음은?\n\n### Response:\n")


def test_no_room_for_the_question(artifacts):
    crowded = with_base(artifacts.root.parent, artifacts.settings.instruct.data[0], "instruct.max_new_tokens=40")
    with pytest.raises(ValueError, match="max_new_tokens 40 leaves 8 of the context of 48"):
        build_chat_model(crowded, log=lambda line: None)
