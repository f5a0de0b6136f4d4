"""The average of the weights: by hand, evaluated, saved, resumed; and the z-loss beside the cross-entropy."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from support.tiny_configs import TINY

from scratch_llm.models import build_model
from scratch_llm.training import TrainingConfig, WeightAverage, evaluate, train, with_weights
from scratch_llm.training.checkpoint import load_checkpoint
from scratch_llm.training.metrics import read_records

quiet = {"log": lambda line: None}


def line():
    """A module of one weight, 0."""
    model = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.zeros_(model.weight)
    return model


def test_three_steps_by_hand():
    model = line()
    average = WeightAverage(model, decay=0.25)
    expected = 0.0
    for step, value in enumerate((1.0, 2.0, 3.0), 1):
        with torch.no_grad():
            model.weight.fill_(value)
        average.update(model, step)
        decay = min(0.25, {1: 2 / 11, 2: 3 / 12, 3: 4 / 13}[step])
        expected = decay * expected + (1 - decay) * value
        assert average.weights["weight"].item() == pytest.approx(expected)
    assert model.weight.item() == 3.0  # the weights themselves are not touched


def test_the_first_weights_are_soon_forgotten():
    """With 0.999 alone, random weights of the beginning would still be a tenth of the average after 2,300 steps."""
    model = line()
    average = WeightAverage(model, decay=0.999)
    with torch.no_grad():
        model.weight.fill_(1.0)
    for step in range(1, 101):
        average.update(model, step)
    assert average.weights["weight"].item() > 0.99


def test_other_weights_inside_and_the_same_bits_outside(tiny):
    model = tiny()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    other = {name: value + 1 for name, value in model.named_parameters()}
    with with_weights(model, other):
        assert all(torch.equal(value, other[name]) for name, value in model.named_parameters())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    with pytest.raises(RuntimeError, match="inside"), with_weights(model, other):
        raise RuntimeError("inside")
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_weights_that_do_not_learn_are_not_averaged(tiny):
    model = tiny()
    model.blocks.requires_grad_(False)
    names = set(WeightAverage(model, 0.9).weights)
    assert names and not any("blocks" in name for name in names)


def test_it_is_evaluated_returned_and_changes_nothing_else(tiny, windows, settings, tmp_path):
    plain, averaged, lines = tiny(), tiny(), []
    without = train(plain, *windows, settings(steps=30), tmp_path / "plain", **quiet)
    result = train(averaged, *windows, settings(steps=30, ema_decay=0.9), tmp_path / "run", log=lines.append)
    assert all(torch.equal(a, b) for a, b in zip(plain.parameters(), averaged.parameters()))
    assert result.valid_loss == without.valid_loss and without.ema_valid_loss is None and without.average is None
    with with_weights(averaged, result.average):
        assert evaluate(averaged, windows[1], 2, torch.float32)["valid_loss"] == result.ema_valid_loss != result.valid_loss
    record = read_records(result.metrics_path)[-1]
    assert record["ema_valid_loss"] == result.ema_valid_loss
    assert f"(averaged weights {result.ema_valid_loss:.4f})" in lines[-1]
    saved = load_checkpoint(tmp_path / "run" / "checkpoints")["average"]
    assert all(torch.equal(saved[name], value) for name, value in result.average.items())


@pytest.mark.parametrize("cut", [3, 4, 9])
def test_resumed_with_the_same_bits(cut, tiny, windows, settings, tmp_path):
    class Stop(Exception):
        pass

    def stop(text):
        if text.startswith(f"step {cut:>2}/"):
            raise Stop

    config = settings(ema_decay=0.9, log_every=1)
    expected = train(tiny(), *windows, config, tmp_path / "unbroken", **quiet)
    with pytest.raises(Stop):
        train(tiny(), *windows, config, tmp_path / "run", log=stop)
    result = train(tiny(), *windows, config, tmp_path / "run", **quiet)
    assert all(torch.equal(value, result.average[name]) for name, value in expected.average.items())
    assert result.ema_valid_loss == expected.ema_valid_loss


@pytest.mark.parametrize("decay", [-0.1, 1.0])
def test_bad_decay(decay):
    with pytest.raises(ValueError, match=f"ema_decay {decay} must be at least 0 and below 1"):
        TrainingConfig(ema_decay=decay)


# -- z-loss -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["llama", "gpt2-untied", "gemma3_text", "rwkv", "lstm"])
def test_z_loss_is_added_in_training_and_left_out_in_evaluation(name):
    """Gradients too: as written out from the logits."""
    model, reference = build_model(TINY[name], seed=0), build_model(TINY[name], seed=0)
    generator = torch.Generator().manual_seed(1)
    tokens = torch.randint(61, (2, 9), generator=generator)
    targets = torch.randint(61, (2, 9), generator=generator)
    targets[0, :4] = -100
    model.z_loss = 0.3
    loss = model(tokens, targets=targets)
    loss.backward()
    logits = reference(tokens).float()[targets != -100]
    expected = F.cross_entropy(logits, targets[targets != -100])
    plain = expected.item()
    expected = expected + 0.3 * torch.log(logits.exp().sum(-1)).square().mean()
    expected.backward()
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-5)
    for a, b in zip(model.parameters(), reference.parameters()):
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-3, atol=1e-5)
    model.eval()
    assert model(tokens, targets=targets).item() == pytest.approx(plain, rel=1e-5)


def test_z_loss_keeps_the_denominator_near_one(tiny, windows, settings, tmp_path):
    sizes = {}
    for weight in (0.0, 1.0):
        model = tiny()
        config = settings(steps=40, learning_rate=2e-2, z_loss=weight)
        train(model, *windows, config, tmp_path / str(weight), **quiet)
        with torch.no_grad():
            sizes[weight] = model(windows[1].batch(0)[0]).logsumexp(-1).abs().mean().item()
    assert sizes[1.0] < 0.5 * sizes[0.0], sizes


def test_the_next_training_without_it_does_not_inherit_it(tiny, windows, settings, tmp_path):
    model = tiny()
    train(model, *windows, settings(steps=1, warmup_steps=0, z_loss=0.1), tmp_path / "with", **quiet)
    train(model, *windows, settings(steps=1, warmup_steps=0), tmp_path / "without", **quiet)
    assert model.z_loss == 0.0


def test_a_model_that_has_none(tmp_path, windows, settings):
    with pytest.raises(ValueError, match=r"z_loss 0.1 belongs to language models; Linear has none: set z_loss=0"):
        train(torch.nn.Linear(2, 2), *windows, settings(z_loss=0.1), tmp_path, **quiet)
    with pytest.raises(ValueError, match=r"z_loss -1.0 must not be negative"):
        settings(z_loss=-1.0)
