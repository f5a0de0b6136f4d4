"""A classifier on disk."""

import json

import pytest
import torch

from scratch_llm.finetuning import PAD, Classifier, load_classifier, save_classifier, train_only
from scratch_llm.models import LlamaConfig, build_model
from scratch_llm.peft import LoRAConfig, PrefixTuned, adapter_names, inject

CONFIG = LlamaConfig(vocab_size=50, context_length=16, n_layers=2, n_heads=2, n_kv_heads=1, d_model=16, d_ff=24)
TEXTS = torch.tensor([[3, 4, 5], [8, PAD, PAD]])
NAMES = ("부정", "복합", "긍정")


@pytest.fixture
def model():
    torch.manual_seed(0)
    return Classifier(build_model(CONFIG, seed=0), 3, "mean").eval()


def test_what_is_saved_answers_the_same(model, tmp_path):
    save_classifier(model, tmp_path, NAMES, 1.7)
    saved = load_classifier(tmp_path)
    assert saved.class_names == NAMES and saved.temperature == 1.7 and saved.classifier.pooling == "mean" and not saved.classifier.training
    assert torch.equal(saved.classifier(TEXTS), model(TEXTS))


def test_adapters_are_computed_in_and_stay_in_the_model(model, tmp_path):
    for adapter in inject(model, LoRAConfig(rank=2, targets="all-linear")):
        for parameter in adapter.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
    train_only(model, "adapters")
    before = model(TEXTS)
    save_classifier(model, tmp_path, NAMES)
    saved = load_classifier(tmp_path)
    torch.testing.assert_close(saved.classifier(TEXTS), before, atol=1e-5, rtol=1e-5)
    assert not adapter_names(saved.classifier) and adapter_names(model) == ["default"] and torch.equal(model(TEXTS), before)


@pytest.mark.parametrize(("names", "temperature", "message"), [
    (("a", "b"), 1.0, "3 different names"), (("a", "b", "b"), 1.0, "3 different names"), (NAMES, 0.0, "temperature 0.0"),
    (NAMES, float("nan"), "temperature nan"),
])  # fmt: skip
def test_what_cannot_be_saved(model, tmp_path, names, temperature, message):
    with pytest.raises(ValueError, match=message):
        save_classifier(model, tmp_path / "new", names, temperature)
    assert not (tmp_path / "new").exists()


def test_a_prefix_is_no_weights(tmp_path):
    with pytest.raises(ValueError, match="save_prefix"):
        save_classifier(Classifier(PrefixTuned(build_model(CONFIG, seed=0), 2), 3), tmp_path, NAMES)


def test_what_cannot_be_opened(model, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"classifier.json is missing"):
        load_classifier(tmp_path)
    save_classifier(model, tmp_path, NAMES)
    about = tmp_path / "classifier.json"
    good = about.read_text(encoding="utf-8")
    about.write_text(json.dumps({**json.loads(good), "class_names": ["a", "b"]}), encoding="utf-8")
    with pytest.raises(ValueError, match="different classifiers"):
        load_classifier(tmp_path)
    about.write_text(good[:20], encoding="utf-8")
    with pytest.raises(ValueError, match="damaged"):
        load_classifier(tmp_path)
    about.write_text(good, encoding="utf-8")
    (tmp_path / "head.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"head.safetensors is missing"):
        load_classifier(tmp_path)
