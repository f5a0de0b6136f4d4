"""The loop learns, adds up micro-batches rightly, and refuses what would give nonsense."""

from __future__ import annotations

import dataclasses
import math
import threading

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from scratch_llm.data import IGNORE, Windows
from scratch_llm.training import AdamW, cosine_with_warmup, evaluate, parameter_groups, train
from scratch_llm.training.gradients import gradients, loss_function
from scratch_llm.training.metrics import read_records
from scratch_llm.training.progress import clock

CPU = torch.device("cpu")
quiet = {"log": lambda line: None}


def flat_gradient(model):
    return torch.cat([p.grad.flatten() for p in model.parameters()])


def test_learns_and_reports(tiny, windows, settings, tmp_path):
    lines, seen = [], []
    model = tiny()
    config = settings(steps=60, eval_every=20, log_every=10, learning_rate=2e-2)
    result = train(model, *windows, config, tmp_path / "run", token_bytes=np.full(64, 3), log=lines.append,
                   on_eval=lambda m, step: seen.append((m.training, step)))
    records = read_records(result.metrics_path)
    assert [r["step"] for r in records] == list(range(1, 61))
    assert records[0]["loss"] == pytest.approx(math.log(64), abs=0.1)  # an untrained model knows nothing
    assert result.loss < 0.75 * records[0]["loss"] and result.valid_loss < 0.75 * records[0]["loss"]
    assert result.bits_per_byte == pytest.approx(result.valid_loss / math.log(2) / 3, rel=1e-6)
    assert seen == [(False, 20), (False, 40), (False, 60)] and model.training
    step_lines = [line for line in lines if line.startswith("step")]
    assert len(step_lines) == 7 and all(word in step_lines[-1] for word in ("60/60", "loss", "lr", "tok/s", "MFU", "ETA"))
    assert [r["step"] for r in records if "valid_loss" in r] == [20, 40, 60]
    assert result.tokens_per_second > 0 and result.mfu > 0


def test_equals_a_loop_written_out_with_our_own_adamw(tiny, windows, settings, tmp_path):
    config = settings(steps=5)
    trained, plain = tiny(), tiny()
    train(trained, *windows, config, tmp_path / "run", **quiet)
    optimizer = AdamW(parameter_groups(plain, config.weight_decay), betas=config.betas)
    for step in range(5):
        inputs, targets = windows[0].batch(step)
        optimizer.zero_grad()
        F.cross_entropy(plain(inputs).flatten(0, 1), targets.flatten(), ignore_index=IGNORE).backward()
        norm = flat_gradient(plain).norm()
        for p in plain.parameters():
            p.grad *= min(1.0, config.grad_clip / (norm + 1e-6))
        for group in optimizer.param_groups:
            group["lr"] = cosine_with_warmup(step, learning_rate=1e-2, min_learning_rate=1e-3, warmup_steps=2, steps=5)
        optimizer.step()
    for a, b in zip(trained.parameters(), plain.parameters()):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("micro", [1, 2, 4])
def test_micro_batches_add_up_to_the_whole_batch(micro, tiny, windows, settings):
    inputs, targets = windows[0].batch(0)
    targets = targets.clone()
    targets[0, 3:] = IGNORE  # rows with unequal numbers of targets, one with none
    targets[1] = IGNORE
    whole, split = tiny(), tiny()
    config = settings(grad_clip=1e9)
    loss, norm = gradients(loss_function(whole, CPU, torch.float32, False), whole, (inputs, targets), config)
    small = dataclasses.replace(config, micro_batch_size=micro)
    loss2, norm2 = gradients(loss_function(split, CPU, torch.float32, False), split, (inputs, targets), small)
    assert (loss2, norm2) == (pytest.approx(loss, rel=1e-5), pytest.approx(norm, rel=1e-5))
    torch.testing.assert_close(flat_gradient(split), flat_gradient(whole), rtol=1e-4, atol=1e-6)


def test_gradient_is_clipped_and_its_norm_reported_before(tiny, windows, settings):
    model = tiny()
    _, norm = gradients(loss_function(model, CPU, torch.float32, False), model, windows[0].batch(0), settings(grad_clip=0.01))
    assert norm > 0.01 and flat_gradient(model).norm().item() == pytest.approx(0.01, rel=1e-3)


def test_bfloat16_keeps_weights_and_optimiser_in_float32(tiny, windows, settings, tmp_path):
    model, reference = tiny(), tiny()
    low = train(model, *windows, settings(precision="bfloat16"), tmp_path / "low", **quiet)
    high = train(reference, *windows, settings(), tmp_path / "high", **quiet)
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert low.loss == pytest.approx(high.loss, rel=0.02) and low.loss != high.loss


def test_evaluate_by_hand(tiny, windows):
    model, (_, valid) = tiny(dropout=0.5).train(), windows
    token_bytes = np.arange(64) % 5
    found = evaluate(model, valid, 3, torch.float32, token_bytes)
    assert model.training
    model.eval()
    nats = n_targets = n_bytes = 0
    for number in range(3):
        inputs, targets = valid.batch(number)
        log_probabilities = torch.log_softmax(model(inputs), dim=-1)
        for row, column in (targets != IGNORE).nonzero().tolist():
            target = targets[row, column]
            nats -= log_probabilities[row, column, target].item()
            n_targets += 1
            n_bytes += int(token_bytes[target])
    assert found["valid_loss"] == pytest.approx(nats / n_targets, rel=1e-5)
    assert found["bits_per_byte"] == pytest.approx(nats / math.log(2) / n_bytes, rel=1e-5)


@pytest.mark.slow
def test_compiled_equals_eager(tiny, windows, settings, tmp_path):
    eager, compiled = tiny(), tiny()
    train(eager, *windows, settings(steps=4), tmp_path / "eager", **quiet)
    train(compiled, *windows, settings(steps=4, compile="on"), tmp_path / "compiled", **quiet)
    for a, b in zip(eager.parameters(), compiled.parameters()):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_runs_outside_the_main_thread(tiny, windows, settings, tmp_path):
    """A page or a notebook may train in a thread, where signal handlers cannot be set."""
    results = []
    thread = threading.Thread(target=lambda: results.append(
        train(tiny(), *windows, settings(steps=2), tmp_path / "run", **quiet)))
    thread.start()
    thread.join()
    assert results and results[0].steps == 2


def test_a_loss_that_is_not_finite_stops_before_it_reaches_the_weights(tiny, windows, settings, tmp_path):
    model = tiny()
    forward, calls = model.forward, []

    def broken(tokens, **options):
        calls.append(1)
        return forward(tokens, **options) * (float("nan") if len(calls) == 6 else 1.0)

    model.forward = broken
    with pytest.raises(ValueError, match=r"loss is nan .* at step 6 .* lower learning_rate, raise warmup_steps") as caught:
        train(model, *windows, settings(eval_every=100), tmp_path / "run", **quiet)
    assert "\n" not in str(caught.value)
    assert [p.name for p in (tmp_path / "run" / "checkpoints").iterdir()] == ["step-00000004"]
    assert all(p.isfinite().all() for p in model.parameters())


def test_windows_of_another_batch_size(tiny, windows, settings, tmp_path):
    with pytest.raises(ValueError, match="have batch_size 8 and the config 4; give both the same"):
        train(tiny(), *windows, settings(batch_size=4), tmp_path, **quiet)


def test_context_longer_than_the_model(tiny, windows, settings, tmp_path):
    with pytest.raises(ValueError, match="context_length 16, more than the model's 8"):
        train(tiny(context_length=8), *windows, settings(), tmp_path, **quiet)


def test_text_of_a_larger_vocabulary(tiny, windows, settings, tmp_path):
    with pytest.raises(ValueError, match="vocab_size 64, the model has 60; build the model with"):
        train(tiny(vocab_size=60), *windows, settings(), tmp_path, **quiet)


def test_token_bytes_of_another_tokenizer(tiny, windows, settings, tmp_path):
    with pytest.raises(ValueError, match="token_bytes has 10 entries for vocab_size 64"):
        train(tiny(), *windows, settings(), tmp_path, token_bytes=np.ones(10), **quiet)


@pytest.mark.parametrize("change, message", [
    ({"steps": 0}, "steps 0 must be at least 1"),
    ({"micro_batch_size": 3}, "micro_batch_size 3 does not divide batch_size 8"),
    ({"learning_rate": 0.0, "min_learning_rate": 0.0}, "learning_rate 0.0 must be above 0"),
    ({"min_learning_rate": 1.0}, "min_learning_rate 1.0 from 0 to it"),
    ({"warmup_steps": 13}, "warmup_steps 13 must be from 0 to steps, 12"),
    ({"grad_clip": 0.0}, "grad_clip 0.0 above 0"),
    ({"precision": "float16"}, "choose one of auto, float32, bfloat16"),
    ({"compile": "yes"}, "choose one of auto, on, off"),
    ({"optimizer": "sgd"}, "choose one of adamw, muon, adafactor"),
])
def test_bad_settings(change, message, settings):
    with pytest.raises(ValueError, match=message):
        settings(**change)


@pytest.mark.parametrize("seconds, text", [(0, "0:00"), (75.4, "1:15"), (3700, "1:01:40")])
def test_clock(seconds, text):
    assert clock(seconds) == text


def test_windows_differ_between_train_and_valid(windows):
    """A guard for the tests above: both sides hold different texts."""
    train_windows, valid = windows
    assert isinstance(valid, Windows) and train_windows.token_file.sha256 != valid.token_file.sha256


@pytest.mark.parametrize("optimizer, learning_rate", [("muon", 2e-2), ("adafactor", 5e-2)])
def test_every_optimiser_learns(optimizer, learning_rate, tiny, windows, settings, tmp_path):
    config = settings(steps=60, eval_every=60, optimizer=optimizer, learning_rate=learning_rate)
    result = train(tiny(), *windows, config, tmp_path / "run", **quiet)
    assert result.valid_loss < 0.75 * read_records(result.metrics_path)[0]["loss"]
