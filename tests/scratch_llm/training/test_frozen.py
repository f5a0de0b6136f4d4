"""Training of adapters: only they are optimised and saved, and a resumed run gives the same bits."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from scratch_llm.layers.loss import linear_cross_entropy
from scratch_llm.peft import LoRAConfig, activate, inject, trainable_parameters
from scratch_llm.training import train
from scratch_llm.training.checkpoint import list_checkpoints, load_checkpoint
from scratch_llm.training.frozen import learnt_state, load_learnt_state
from scratch_llm.training.metrics import read_records

quiet = {"log": lambda line: None}
LORA = {"rank": 2, "targets": "all-linear", "dropout": 0.1}


@pytest.fixture
def adapted(tiny):
    """The same tiny Llama with the same fresh adapters each time."""

    def make(seed=5, name="default", **changes):
        model = tiny()
        torch.manual_seed(seed)
        inject(model, LoRAConfig(**LORA | changes), name)
        return model

    return make


@pytest.mark.parametrize("options", [{}, {"dora": True}])
def test_adapters_learn_and_the_base_stays(tiny, windows, settings, tmp_path, options):
    def drawn():
        """Embeddings that tell tokens apart: on those of 0.02 no change of the blocks' matrices would show."""
        model = tiny()
        with torch.no_grad():
            model.embedding.weight.mul_(20)
        return model

    model = drawn()
    inject(model, LoRAConfig(rank=4, alpha=32, targets="all-linear", **options))
    train(model, *windows, settings(steps=40, learning_rate=3e-2), tmp_path / "run", **quiet)
    losses = [record["loss"] for record in read_records(tmp_path / "run" / "metrics.jsonl")]
    assert sum(losses[-5:]) / 5 < 0.95 * losses[0]
    base = drawn().state_dict()
    trained = {name.replace(".base.", "."): value for name, value in model.state_dict().items() if ".adapters." not in name}
    assert trained.keys() == base.keys() and all(torch.equal(trained[name], base[name]) for name in base)


def test_checkpoints_hold_what_learns_alone(adapted, windows, settings, tmp_path):
    model = adapted()
    train(model, *windows, settings(), tmp_path / "run", **quiet)
    state = load_checkpoint(tmp_path / "run" / "checkpoints")
    learns = trainable_parameters(model)
    assert state["model"].keys() == learns.keys()
    assert len(state["optimizer"]["state"]) == len(learns)
    assert sum(t.numel() for t in state["model"].values()) == sum(p.numel() for p in learns.values())


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_interrupted_and_resumed_is_bit_equal(adapted, windows, settings, tmp_path, precision):
    config = settings(precision=precision)
    unbroken = adapted()
    train(unbroken, *windows, config, tmp_path / "unbroken", **quiet)

    def interrupt(model, step):
        raise KeyboardInterrupt

    broken = adapted()
    with pytest.raises(KeyboardInterrupt):
        train(broken, *windows, config, tmp_path / "broken", on_eval=interrupt, **quiet)
    assert len(list_checkpoints(tmp_path / "broken" / "checkpoints")) == 1
    lines = []
    resumed = adapted(seed=6)  # its starting values do not matter: the checkpoint has them
    train(resumed, *windows, config, tmp_path / "broken", log=lines.append)
    assert any("resuming after step 4" in line for line in lines)
    one, other = learnt_state(resumed), learnt_state(unbroken)
    assert one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_another_base_or_other_settings_are_another_run(adapted, windows, settings, tmp_path):
    train(adapted(), *windows, settings(), tmp_path / "run", **quiet)
    other = adapted()
    with torch.no_grad():
        other.embedding.weight[0, 0] += 1
    with pytest.raises(ValueError, match=r"cannot resume from .*frozen weights \(SHA-256\) was"):
        train(other, *windows, settings(), tmp_path / "run", **quiet)
    with pytest.raises(ValueError, match=r"adapter\.alpha was 16\.0 and is 8;"):
        train(adapted(alpha=8), *windows, settings(), tmp_path / "run", **quiet)


def test_nothing_to_train_is_told(adapted, windows, settings, tmp_path):
    model = adapted()
    activate(model, None)
    with pytest.raises(ValueError, match="every weight of the model is frozen, so there is nothing to train"):
        train(model, *windows, settings(), tmp_path / "run", **quiet)


def test_a_whole_model_is_saved_whole(tiny):
    model = tiny()
    assert learnt_state(model).keys() == model.state_dict().keys()
    with pytest.raises(RuntimeError, match="Missing key"):
        load_learnt_state(model, {})


def test_loss_of_a_frozen_output_layer():
    generator = torch.Generator().manual_seed(0)
    hidden, weight = torch.randn(7, 5, generator=generator, requires_grad=True), torch.randn(11, 5, generator=generator)
    targets = torch.randint(11, (7,), generator=generator)
    linear_cross_entropy(hidden, weight, targets).backward()
    expected = torch.autograd.grad(F.cross_entropy(F.linear(hidden, weight), targets), hidden)[0]
    torch.testing.assert_close(hidden.grad, expected)
    assert weight.grad is None


def test_operations_of_frozen_matrices_count_two_thirds(tiny):
    from torch.utils.flop_counter import FlopCounterMode

    # A large head would be chunked, and attention's own kernels are not what is asked: matrices are.
    model = tiny(n_layers=2, tie_embeddings=False)
    whole = model.flops_per_token(16)
    inject(model, LoRAConfig(rank=1, targets="all-linear"))
    tokens = torch.randint(64, (4, 16))
    with FlopCounterMode(display=False) as counter:
        model(tokens, targets=tokens).backward()
    counted = sum(count for op, count in counter.get_flop_counts()["Global"].items() if op == torch.ops.aten.mm) / 64
    matrices = model.n_matrix_parameters()
    assert model.flops_per_token(16) == whole - 2 * matrices
    # The first layer's input needs no gradient, and A and B add a few.
    assert counted == pytest.approx(4 * matrices, rel=0.3)
