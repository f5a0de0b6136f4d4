"""Two adapters on one base: what is answered together is what each would answer alone."""

import dataclasses

import pytest
import torch

from llm_workshop.artifacts import Artifacts
from llm_workshop.finetuning.classifying import classify_texts
from llm_workshop.finetuning.compare import Comparison
from llm_workshop.finetuning.swapping import (
    STAGE,
    build_swap,
    mixed_answers,
    open_swap,
    other_task,
    pass_milliseconds,
)
from llm_workshop.finetuning.tasks import load_task
from llm_workshop.settings import load_settings
from scratch_llm.models import LlamaConfig, build_model
from scratch_llm.peft import activate, adapter_names
from scratch_llm.tokenizers import SPECIAL_TOKENS, ByteLevelBPE

LLAMA = LlamaConfig(vocab_size=300, context_length=48, n_layers=2, n_heads=4, n_kv_heads=2, d_model=32, d_ff=48)
TINY = ("peft.examples=32", "peft.held_out=16", "peft.steps=6", "peft.batch_size=8", "peft.max_length=30", "peft.rank=2", "peft.methods=lora")


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """Artifacts with a base and the stage, and the comparison that it was made by."""
    artifacts = Artifacts(load_settings("smoke", overrides=TINY), tmp_path_factory.mktemp("artifacts"))
    tokenizer = ByteLevelBPE.train(["맛이 좋아서 또 오고 싶어요. 값이 비싸서 아쉬웠다."] * 9, 290, SPECIAL_TOKENS)
    with artifacts.write_stage("base-model", {}) as stage:
        build_model(LLAMA, seed=0).save_pretrained(stage.folder)
        tokenizer.save(stage.folder)
    comparison = Comparison(artifacts, log=lambda line: None)
    comparison.rates["lora"] = 0.05  # large, so that the two adapters differ
    build_swap(comparison, artifacts)
    return artifacts, comparison


def test_rows_of_one_batch_have_the_answers_of_each_adapter_alone(built):
    artifacts, comparison = built
    model, heads, names = open_swap(artifacts)
    assert adapter_names(model) == list(heads) == ["reviews", "reviews-category"]
    tokenizer, texts = comparison.bench.tokenizer, comparison.bench.task.test.texts[:5]
    rows = mixed_answers(model, heads, names, tokenizer, texts, 30)
    assert [row["어댑터"] for row in rows] == list(heads) * 5
    for name, classifier in heads.items():
        activate(model, name)
        alone = classify_texts(classifier, tokenizer, texts, 30, "float32").softmax(-1)
        activate(model, None)
        own = [row for row in rows if row["어댑터"] == name]
        assert [row["답"] for row in own] == [names[name][i] for i in alone.argmax(-1).tolist()]
        torch.testing.assert_close(torch.tensor([row["확신"] for row in own]), alone.amax(-1), atol=1e-3, rtol=0)
    plain = classify_texts(heads["reviews"], tokenizer, texts, 30, "float32").softmax(-1)
    activate(model, "reviews")
    tuned = classify_texts(heads["reviews"], tokenizer, texts, 30, "float32").softmax(-1)
    assert (plain - tuned).abs().max() > 1e-3, "the adapter does nothing"


def test_a_stage_that_is_there_is_not_trained_again(built, monkeypatch):
    artifacts, comparison = built
    before = artifacts.read_manifest(STAGE)["created"], artifacts.content_digest(STAGE)
    monkeypatch.setattr(comparison.bench, "train", lambda trial: pytest.fail("trained again"))
    build_swap(comparison, artifacts)
    assert (artifacts.read_manifest(STAGE)["created"], artifacts.content_digest(STAGE)) == before


def test_adapters_of_another_base_are_refused(built, tmp_path):
    artifacts, _ = built
    other = Artifacts(artifacts.settings, tmp_path)
    with other.write_stage("base-model", {}) as stage:
        build_model(dataclasses.replace(LLAMA), seed=1).save_pretrained(stage.folder)
    (tmp_path / "smoke" / STAGE).symlink_to(artifacts.path(STAGE))
    with pytest.raises(ValueError, match="trained beside other weights than this model's"):
        open_swap(other)


def test_the_other_task_is_another(built):
    task = built[1].bench.task
    other = other_task(task, seed=0)
    assert other.name == "reviews-category" and len(other.train) == len(task.train) and len(other.test) == len(task.test)
    assert other_task(load_task("reviews-category", max_examples=64), seed=0).name == "reviews"


def test_passes_are_timed():
    assert 0 < pass_milliseconds(build_model(LLAMA, seed=0).eval(), torch.zeros(1, 4, dtype=torch.long), rounds=2) < 10_000
