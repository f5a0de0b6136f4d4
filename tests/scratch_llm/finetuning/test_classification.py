"""A language model as classifier: pooling and padding, the loss, which layers learn, transformers' own classifiers."""

import pytest
import torch
import transformers
from torch import nn

from scratch_llm.finetuning import PAD, Classifier, train_only
from scratch_llm.models import GPT2Config, LlamaConfig, MambaConfig, build_model
from scratch_llm.peft import LoRAConfig, PrefixTuned, inject, trainable_parameters
from scratch_llm.weights import to_huggingface

LLAMA = LlamaConfig(vocab_size=50, context_length=16, n_layers=2, n_heads=2, n_kv_heads=1, d_model=16, d_ff=24)
GPT2 = GPT2Config(vocab_size=50, context_length=16, n_layers=2, n_heads=2, d_model=16)
MAMBA = MambaConfig(vocab_size=50, context_length=16, n_layers=2, d_model=16)


def classifier(config=LLAMA, n_classes=3, **options):
    torch.manual_seed(0)
    return Classifier(build_model(config, seed=0), n_classes, **options).eval()


TEXTS = torch.tensor([[3, 4, 5, 6, 7], [8, 9, PAD, PAD, PAD], [10, 11, 12, PAD, PAD]])


@pytest.mark.parametrize("config", [LLAMA, GPT2, MAMBA], ids=lambda c: type(c).__name__)
@pytest.mark.parametrize("pooling", ["last", "mean"])
def test_padding_changes_nothing(config, pooling):
    model = classifier(config, pooling=pooling)
    together = model(TEXTS)
    alone = torch.cat([model(row[row >= 0][None]) for row in TEXTS])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-5)
    assert together.shape == (3, 3) and together.dtype == torch.float32


def test_the_pooled_state_is_the_last_tokens_or_the_mean():
    hidden = torch.arange(24.0).view(2, 4, 3)
    real = torch.tensor([[True, True, False, False], [True, True, True, True]])
    torch.testing.assert_close(classifier(pooling="last").pool(hidden, real), torch.tensor([[3.0, 4, 5], [21, 22, 23]]))
    torch.testing.assert_close(classifier(pooling="mean").pool(hidden, real), torch.tensor([[1.5, 2.5, 3.5], [16.5, 17.5, 18.5]]))


def test_the_loss_is_the_mean_of_weighted_nats_over_the_rows_that_count():
    model = classifier(class_weights=[1.0, 2.0, 4.0])
    log_p = model(TEXTS).log_softmax(1)
    targets = torch.tensor([2, -100, 1])
    expected = -(4 * log_p[0, 2] + 2 * log_p[2, 1]) / 2
    torch.testing.assert_close(model(TEXTS, targets=targets), expected)


def test_micro_batches_add_up_to_the_batch_whatever_the_weights():
    model = classifier(class_weights=[1.0, 2.0, 4.0])
    targets = torch.tensor([2, 0, 1])
    parts = sum(model(TEXTS[rows], targets=targets[rows]) * share for rows, share in ((slice(0, 2), 2 / 3), (slice(2, 3), 1 / 3)))
    torch.testing.assert_close(parts, model(TEXTS, targets=targets))


@pytest.mark.parametrize(("config", "theirs"), [
    (LLAMA, transformers.LlamaForSequenceClassification), (GPT2, transformers.GPT2ForSequenceClassification),
])  # fmt: skip
def test_transformers_classifiers_give_the_same_logits_and_loss(config, theirs):
    """``score`` without bias on the last token that is not padding."""
    model = classifier(config)
    values = model.backbone.config_to_huggingface(config) | {"num_labels": 3, "pad_token_id": 0}
    peer = theirs(theirs.config_class(**{k: v for k, v in values.items() if k != "architectures"})).eval()
    state = to_huggingface(model.backbone.weight_rules(config), model.backbone.state_dict())
    missing = peer.load_state_dict({k: v for k, v in state.items() if k != "lm_head.weight"} | {"score.weight": model.head.weight}, strict=False)
    assert not missing.unexpected_keys and all("rotary" in key or "attn.bias" in key for key in missing.missing_keys)
    padded, mask, targets = TEXTS.clamp(min=0), (TEXTS >= 0).long(), torch.tensor([0, 1, 2])
    with torch.no_grad():
        expected = peer(input_ids=padded, attention_mask=mask, labels=targets)
    torch.testing.assert_close(model(TEXTS), expected.logits, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(model(TEXTS, targets=targets), expected.loss, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("layers", "learns"), [
    ("head", {"head"}), ("last-1", {"blocks.1", "final_norm", "head"}), ("last-2", {"blocks.0", "blocks.1", "final_norm", "head"}),
    ("all", {"embedding", "blocks.0", "blocks.1", "final_norm", "head"}),
])  # fmt: skip
def test_which_layers_learn(layers, learns):
    model = classifier()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    count = train_only(model, layers)
    names = trainable_parameters(model)
    assert count == sum(p.numel() for p in names.values())
    assert {name.removeprefix("backbone.").split(".attention")[0].split(".mlp")[0].removesuffix(".weight") for name in names} == learns
    model.train()(TEXTS, targets=torch.tensor([0, 1, 2])).backward()
    torch.optim.SGD(names.values(), lr=1.0).step()
    changed = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}
    assert changed == set(names)


def test_an_untied_output_layer_does_not_learn_where_all_do():
    model = classifier(LlamaConfig(**{**LLAMA.__dict__, "tie_embeddings": False}))
    train_only(model, "all")
    assert not model.backbone.lm_head.weight.requires_grad and model.backbone.embedding.weight.requires_grad


def test_adapters_and_the_head_learn_together():
    model = classifier()
    inject(model, LoRAConfig(rank=2, targets="all-linear"))
    train_only(model, "adapters")
    names = set(trainable_parameters(model))
    assert "head.weight" in names and all("adapters" in name or name == "head.weight" for name in names) and len(names) > 5


def test_a_prefix_and_the_head_learn_together():
    torch.manual_seed(0)
    model = Classifier(PrefixTuned(build_model(LLAMA, seed=0), 4), 3)
    train_only(model, "adapters")
    assert set(trainable_parameters(model)) == {"backbone.prefix", "head.weight"}
    together = model.eval()(TEXTS)
    torch.testing.assert_close(together[1:2], model(TEXTS[1:2, :2]), atol=1e-5, rtol=1e-5)


def test_flops_leave_the_output_layer_out_and_the_backward_pass_of_what_is_frozen():
    model = classifier()
    backbone, head = model.backbone, 2 * 50 * 16
    assert model.flops_per_token(8) == backbone.flops_per_token(8) - 3 * head
    train_only(model, "head")
    assert model.flops_per_token(8) == backbone.flops_per_token(8, training=False) - head


@pytest.mark.parametrize(("call", "message"), [
    (lambda: classifier(n_classes=1), "two classes"),
    (lambda: classifier(pooling="first"), "'first' is unknown; choose one of last, mean"),
    (lambda: classifier(class_weights=[1.0, 2.0]), "3 numbers above 0"),
    (lambda: classifier(class_weights=[1.0, 0.0, 2.0]), "3 numbers above 0"),
    (lambda: classifier(dropout=1.0), "dropout 1.0"),
    (lambda: classifier()(torch.tensor([[PAD, 3]])), "row 0 begins with padding"),
    (lambda: classifier()(torch.tensor([[3, PAD, 4]])), "behind the text"),
    (lambda: classifier()(torch.tensor([[50]])), "token id 50 is not in the vocabulary 0..49"),
    (lambda: classifier()(torch.zeros(1, 17, dtype=torch.long)), "context_length of 16"),
    (lambda: classifier()(torch.tensor([3, 4])), "shape"),
    (lambda: classifier()(TEXTS, targets=torch.tensor([0, 3, 1])), "class 3 is not one of 0..2"),
    (lambda: classifier()(TEXTS, targets=torch.tensor([[0]])), "one class for each of 3 rows"),
    (lambda: train_only(classifier(), "last-3"), r"cannot train 'last-3': choose head, last-1 to last-2, all, or adapters \(injected"),
    (lambda: train_only(classifier(), "adapters"), "inject them first"),
])  # fmt: skip
def test_mistakes_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_dropout_only_in_training():
    model = classifier(dropout=0.5)
    torch.testing.assert_close(model(TEXTS), model(TEXTS))
    model.train()
    assert not torch.equal(model(TEXTS), model(TEXTS)) and isinstance(model.head, nn.Linear)
