"""Training a classifier on a task: it learns, is measured, saved as a stage, and opened again."""

import json

import numpy as np
import pytest
import torch

from llm_workshop.artifacts import Artifacts
from llm_workshop.finetuning.baseline import character_ngrams, majority
from llm_workshop.finetuning.classifying import (
    classify_texts,
    encode_texts,
    evaluate_logits,
    train_classifier,
)
from llm_workshop.finetuning.stage import (
    build_classifier,
    check_layers,
    class_probabilities,
    make_classifier,
    open_classifier,
    replaced_task,
    run_trial,
    task_of,
)
from llm_workshop.finetuning.tasks import Examples, Task
from llm_workshop.progress import korean_line
from llm_workshop.settings import load_settings
from scratch_llm.finetuning import Classifier, train_only
from scratch_llm.models import LlamaConfig, build_model
from scratch_llm.tokenizers import ByteLevelBPE

GOOD, BAD = ("좋아요", "최고", "재밌다", "감동"), ("싫어요", "최악", "지루", "실망")


def examples(n, seed):
    random = np.random.default_rng(seed)
    labels = random.integers(0, 2, n)
    words = [" ".join(["영화", str(random.choice((BAD, GOOD)[label])), str(number)]) for number, label in enumerate(labels)]
    return Examples(tuple(words), tuple(int(label) for label in labels))


TASK = Task("words", "낱말", ("나쁨", "좋음"), examples(160, 0), examples(40, 1), examples(60, 2))


@pytest.fixture(scope="module")
def tokenizer():
    return ByteLevelBPE.train(list(TASK.train.texts), vocab_size=320, special_tokens=["<|endoftext|>"])


def backbone(tokenizer):
    return build_model(LlamaConfig(vocab_size=tokenizer.vocab_size, context_length=24, n_layers=1, n_heads=2, d_model=32, d_ff=48,
                                   bos_token_id=tokenizer.eos_id, eos_token_id=tokenizer.eos_id), seed=0)  # fmt: skip


def test_it_learns_and_is_measured(tokenizer, tmp_path):
    torch.manual_seed(0)
    classifier = Classifier(backbone(tokenizer), 2, "mean")
    lines = []
    run = train_classifier(classifier, TASK, tokenizer, tmp_path, epochs=8, batch_size=16, learning_rate=1e-2, precision="float32", log=lines.append)
    assert run.training.steps == 80 and run.test["accuracy"] > 0.95 and run.test["texts"] == 60
    assert np.sum(run.test["confusion"]) == 60 and run.curve[-1]["step"] == 80 and run.valid["calibrated_loss"] <= run.valid["loss"] + 1e-6
    logits = classify_texts(classifier, tokenizer, TASK.test.texts, precision="float32")
    assert evaluate_logits(logits, TASK.test.labels, run.temperature) == run.test
    assert any("validation texts" in line for line in lines)
    assert korean_line("  step 8: accuracy 55.0% of 40 validation texts") == "  스텝 8: 검증 글 40개의 정확도 55.0%"
    assert all(korean_line(line).startswith("  스텝 ") for line in lines if "validation texts" in line)


def test_texts_begin_as_documents_do_and_hold_no_special_tokens(tokenizer):
    [ids, cut, empty] = encode_texts(tokenizer, ["좋아요<|endoftext|>", "좋아요" * 9, ""], 12)
    assert ids[0] == tokenizer.eos_id and tokenizer.eos_id not in ids[1:] and len(cut) == 12 and empty == [tokenizer.eos_id]


def test_a_tokenizer_without_a_beginning_is_named():
    with pytest.raises(ValueError, match=r"no <\|endoftext\|>"):
        encode_texts(ByteLevelBPE.train(["가"], vocab_size=256), ["가"])


def test_no_step_is_named(tokenizer, tmp_path):
    with pytest.raises(ValueError, match=r"epochs 0.01 of 160 texts are no step"):
        train_classifier(Classifier(backbone(tokenizer), 2), TASK, tokenizer, tmp_path, epochs=0.01)


def test_figures_by_hand():
    logits = torch.log(torch.tensor([[0.8, 0.2], [0.6, 0.4], [0.3, 0.7]]))
    figures = evaluate_logits(logits, [0, 1, 1])
    assert figures["accuracy"] == pytest.approx(2 / 3) and figures["confusion"] == [[1, 0], [1, 1]]
    assert figures["loss"] == pytest.approx(-np.log([0.8, 0.4, 0.7]).mean(), rel=1e-5)
    assert figures["calibration_error"] == pytest.approx((0.2 + 0.6 + 0.3) / 3, rel=1e-4)
    json.dumps(figures)


def test_baselines():
    common = majority(TASK)
    share = max(TASK.test.labels.count(0), TASK.test.labels.count(1)) / 60
    assert common["accuracy"] in (pytest.approx(share), pytest.approx(1 - share)) and common["macro_f1"] < 0.5
    assert character_ngrams(TASK)["accuracy"] > 0.95
    one_class = next(n for n in range(1, 9) if len(set(TASK.train.labels[:n])) == 1)
    assert character_ngrams(TASK, one_class)["accuracy"] == pytest.approx(TASK.test.labels.count(TASK.train.labels[0]) / 60)


@pytest.fixture
def artifacts(tokenizer, tmp_path):
    settings = load_settings("smoke", overrides=["finetune.epochs=6", "finetune.learning_rate=0.01", "finetune.pooling=mean", "finetune.rank=2"])
    artifacts = Artifacts(settings, tmp_path)
    with artifacts.write_stage("base-model", {}) as stage:
        backbone(tokenizer).save_pretrained(stage.folder)
        tokenizer.save(stage.folder)
    return artifacts


def test_the_stage_is_built_once_and_opened_again(artifacts, capsys):
    assert replaced_task(artifacts, TASK) is None
    folder = build_classifier(artifacts, TASK, log=lambda line: None)
    facts = artifacts.read_manifest("classifier")["metrics"]
    saved, tokenizer = open_classifier(artifacts)
    assert saved.class_names == TASK.class_names and saved.temperature == facts["temperature"]
    probabilities = class_probabilities(saved, tokenizer, list(TASK.test.texts))
    assert (probabilities.argmax(1).numpy() == TASK.test.labels).mean() == pytest.approx(facts["test"]["accuracy"], abs=0.04)
    assert facts["test"]["accuracy"] > 0.9 and facts["trainable"] == facts["parameters"]
    before = (folder / "head.safetensors").read_bytes()
    capsys.readouterr()
    build_classifier(artifacts, TASK, log=lambda line: None)
    assert "up to date" in capsys.readouterr().out and (folder / "head.safetensors").read_bytes() == before
    other = Task(**{**TASK.__dict__, "train": examples(64, 5)})
    assert replaced_task(artifacts, other) is None and replaced_task(artifacts, Task(**{**TASK.__dict__, "name": "sms"})) == "words"
    build_classifier(artifacts, other, log=lambda line: None)
    assert (folder / "head.safetensors").read_bytes() != before, "other texts make another classifier"


def test_an_interrupted_training_goes_on(artifacts):
    def interrupt(line):
        if line.startswith("  step 24"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_classifier(artifacts, TASK, log=interrupt)
    assert not artifacts.path("classifier").exists()
    lines = []
    build_classifier(artifacts, TASK, log=lines.append)
    assert any("resuming after step" in line for line in lines)
    assert not list(artifacts.root.glob(".work/classifier-*"))


@pytest.mark.parametrize(("layers", "hint"), [("lsat-1", r" \(did you mean 'last-1'\?\)"), ("last-2", ".*"), ("adapters", "")])
def test_layers_that_the_model_does_not_have_are_named_with_all_choices(artifacts, layers, hint, monkeypatch):
    monkeypatch.setattr("llm_workshop.finetuning.stage.make_classifier", None)  # said before anything is made
    changed = artifacts.settings.finetune.model_copy(update={"layers": layers})
    wrong = Artifacts(artifacts.settings.model_copy(update={"finetune": changed}), artifacts.root.parent)
    for call in (lambda: check_layers(wrong), lambda: build_classifier(wrong, TASK, log=lambda line: None)):
        with pytest.raises(ValueError, match=f"finetune.layers is '{layers}'{hint}, but the base model has 1 block: choose head, last-1, all or lora"):
            call()


def test_lora_is_trained_with_the_head_and_saved_as_plain_weights(artifacts):
    artifacts = Artifacts(artifacts.settings.model_copy(update={"finetune": artifacts.settings.finetune.model_copy(update={"layers": "lora"})}),
                          artifacts.root.parent)  # fmt: skip
    build_classifier(artifacts, TASK, log=lambda line: None)
    facts = artifacts.read_manifest("classifier")["metrics"]
    assert facts["trainable"] < facts["parameters"] / 2
    saved, tokenizer = open_classifier(artifacts)
    accuracy = (class_probabilities(saved, tokenizer, list(TASK.test.texts)).argmax(1).numpy() == TASK.test.labels).mean()
    assert accuracy == pytest.approx(facts["test"]["accuracy"], abs=0.04)


def test_trials_are_remembered_and_differ_by_what_is_asked(artifacts, monkeypatch):
    head = run_trial(artifacts, TASK, "head", 32)
    scratch = run_trial(artifacts, TASK, "all", 32, pretrained=False)
    assert head["trainable"] == 64 < scratch["trainable"] and head["texts"]["train"] == 32 and head["steps"] >= 60
    monkeypatch.setattr("llm_workshop.finetuning.stage.train_classifier", None)
    assert run_trial(artifacts, TASK, "head", 32) == head
    with pytest.raises(TypeError):
        run_trial(artifacts, TASK, "head", 48)


def test_balanced_classes_weigh_in_the_loss(artifacts):
    uneven = Task(**{**TASK.__dict__, "train": Examples(TASK.train.texts[:8], (0, 0, 0, 0, 0, 0, 1, 1))})
    assert make_classifier(artifacts, uneven, "head", balanced=True).class_weights.tolist() == pytest.approx([8 / 12, 2.0])
    assert make_classifier(artifacts, uneven, "head").class_weights.tolist() == [1, 1]


def test_which_task_the_settings_mean():
    assert task_of(load_settings("smoke", overrides=["finetune.examples=16"])).name == "reviews"
    assert task_of(load_settings("smoke", overrides=["finetune.examples=64", "finetune.task=reviews-category"])).name == "reviews-category"
    with pytest.raises(ValueError, match="no base-model at"):
        make_classifier(Artifacts(load_settings("smoke"), "/nowhere"), TASK, "head")


def test_frozen_layers_stay_as_they_were(artifacts):
    classifier = make_classifier(artifacts, TASK, "head")
    before = {name: value.clone() for name, value in classifier.backbone.state_dict().items()}
    train_only(classifier, "head")
    train_classifier(classifier, TASK, ByteLevelBPE.load(artifacts.path("base-model")), artifacts.root / "x", epochs=1, log=lambda line: None)
    assert all(torch.equal(value, before[name]) for name, value in classifier.backbone.state_dict().items())
