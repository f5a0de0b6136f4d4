"""The ladder of speed: every rung computes the written-out step, the last one is the training loop's, and mistakes show."""

import dataclasses
import math

import pytest
import torch

from llm_workshop.scaling import ladder, ladder_run
from llm_workshop.scaling.ladder import (
    RUNGS,
    LadderStep,
    Method,
    PaddedDocuments,
    allowed_difference,
    choose_rungs,
    ladder_model,
    largest_difference,
    measure,
    method_of,
    padded_size,
    reference_of,
)
from llm_workshop.scaling.plots import difference_plot
from scratch_llm.data import IGNORE, TokenFile, Windows
from scratch_llm.models import GPT2Config, LlamaConfig
from scratch_llm.training import TrainingConfig, train
from scratch_llm.training.metrics import read_records

SHAPE = {"vocab_size": 401, "context_length": 32, "n_layers": 2, "n_heads": 2, "d_model": 32}
CONFIGS = {"llama": LlamaConfig(**SHAPE, n_kv_heads=1, d_ff=64), "gpt2": GPT2Config(**SHAPE, dropout=0.1)}
CPU_RUNGS = [rung for rung in RUNGS if rung.name not in ("tf32", "pinned")]


@pytest.fixture
def token_file(small):
    return TokenFile(small().require("tokens") / "train")


def losses_of(method, token_file, config=CONFIGS["llama"], n=4):
    step = LadderStep(ladder_model(config, method, seed=0), method, token_file, batch_size=8, small_batch=2)
    return [step()[0] for _ in range(n)]


@pytest.mark.parametrize("family", CONFIGS)
def test_every_rung_has_the_losses_of_the_written_out_step(family, token_file):
    config = CONFIGS[family]
    reference = {packed: losses_of(Method(packed=packed), token_file, config) for packed in (False, True)}
    assert reference[False] != reference[True] and reference[True][0] > reference[True][-1] > 0
    for rung in CPU_RUNGS:
        method = dataclasses.replace(method_of(CPU_RUNGS, rung.name), compiled=False)
        difference = largest_difference(losses_of(method, token_file, config), reference[method.packed])
        assert difference <= allowed_difference(method, 401), rung.name


def test_the_compiled_step_has_them_too(token_file):
    method = Method(attention="own", chunked_loss=True, fused_optimizer=True, packed=True, whole_batch=True, compiled=True)
    reference = losses_of(reference_of(method), token_file, n=2)
    assert largest_difference(losses_of(method, token_file, n=2), reference) <= allowed_difference(method, 401)


@pytest.mark.parametrize("mistake", ["no causal mask", "weights of micro-batches", "decay of the optimiser", "bfloat16 weights"])
def test_mistakes_are_seen(mistake, token_file, monkeypatch):
    """What the tolerance lets through is rounding: each of these changes is found out."""
    method = Method(attention="library", chunked_loss=True, fused_optimizer=True, packed=True)
    config, reference = CONFIGS["llama"], losses_of(reference_of(method), token_file)
    if mistake == "no causal mask":
        plain = ladder.GroupedQueryAttention.forward
        everything = torch.ones(32, 32, dtype=torch.bool)
        monkeypatch.setattr(ladder._LibraryAttention, "forward", lambda self, x, rotary=None, *_: plain(self, x, rotary, everything), raising=False)
    elif mistake == "weights of micro-batches":
        method = dataclasses.replace(method, packed=False)
        config = dataclasses.replace(config, context_length=256)  # in which documents have different lengths
        reference = losses_of(reference_of(method), token_file, config)
        monkeypatch.setattr(ladder, "gradients", equal_weights)
    elif mistake == "decay of the optimiser":
        monkeypatch.setattr(ladder, "parameter_groups", lambda model, decay: [{"params": list(model.parameters()), "weight_decay": 30.0}])
    elif mistake == "bfloat16 weights":
        build = ladder.build_model
        monkeypatch.setattr(ladder, "build_model", lambda config, seed: build(config, seed=seed).bfloat16())
    assert largest_difference(losses_of(method, token_file, config), reference) > allowed_difference(method, 401)


def equal_weights(compute_loss, model, batch, config):
    """Gradients of a mean of means: wrong where micro-batches have different numbers of targets."""
    parts = list(zip(*(part.split(config.micro_batch_size) for part in batch)))
    total = sum(compute_loss(*part) for part in parts) / len(parts)
    total.backward()
    return total.item(), 0.0


def test_the_last_rung_is_the_step_of_the_training_loop(token_file, tmp_path):
    method = dataclasses.replace(method_of(CPU_RUNGS, "batch"), keep_memory=True)
    mine = losses_of(method, token_file, n=6)
    windows = Windows(token_file, 32, 8, seed=0, packing="documents")
    rate = ladder.LEARNING_RATE
    config = TrainingConfig(steps=6, batch_size=8, learning_rate=rate, min_learning_rate=rate, warmup_steps=0, precision="float32",
                            compile="off", eval_every=6, eval_batches=1)  # fmt: skip
    train(ladder_model(CONFIGS["llama"], Method(attention="own"), seed=0), windows, windows, config, tmp_path, log=lambda _: None)
    theirs = [record["loss"] for record in read_records(tmp_path / "metrics.jsonl")]
    assert mine == theirs, "bit for bit"


def test_a_padded_vocabulary_keeps_the_weights():
    plain, padded = (ladder_model(CONFIGS["llama"], Method(padded_vocabulary=padded), seed=3).eval() for padded in (False, True))
    assert padded.config.vocab_size == padded_size(401) == 448
    tokens = torch.arange(20)[None]
    assert torch.equal(padded(tokens)[..., :401], plain(tokens)) and not padded(tokens)[..., 401:].any()
    assert padded_size(448) == 448
    assert allowed_difference(Method(padded_vocabulary=True), 401) == pytest.approx(5e-5 + math.log(448 / 401))


def test_a_document_a_row(token_file):
    rows = PaddedDocuments(token_file, 32, 4, seed=0)
    seen = []
    for step in range(3):
        inputs, targets = rows.batch(step)
        assert inputs.shape == targets.shape == (4, 32)
        for row in range(4):
            n = int((targets[row] != IGNORE).sum())
            assert torch.equal(targets[row, :n], inputs[row, 1 : n + 1]) and not inputs[row, n + 1 :].any()
            seen.append(tuple(inputs[row].tolist()))
    starts = [0, *token_file.document_ends[:-1].tolist()]
    known = {int(token_file.tokens[start]) for start in starts}
    assert {row[0] for row in seen} <= known and len(set(seen)) > 6
    assert torch.equal(rows.batch(1)[0], PaddedDocuments(token_file, 32, 4, seed=0).batch(1)[0])


def test_measured_figures(token_file):
    method = Method(chunked_loss=True, packed=True)
    step = LadderStep(ladder_model(CONFIGS["llama"], method, seed=0), method, token_file, batch_size=8, small_batch=8)
    facts = measure(step, compare_steps=2, steps=3)
    assert step.n_done == 5 and len(facts["losses"]) == 2
    assert 8 * 16 < facts["tokens_per_second"] * facts["step_seconds"] <= 8 * 32 * 1.5
    assert torch.get_float32_matmul_precision() == "highest"


def test_losses_that_are_no_numbers_are_not_equal():
    assert largest_difference([1.0, 2.0], [1.0, 2.5]) == 0.5
    assert largest_difference([1.0, float("nan")], [1.0, 2.5]) == math.inf
    with pytest.raises(ValueError):
        largest_difference([1.0], [1.0, 2.0])


@pytest.mark.parametrize("smallest", [3e-7, 2e-9])
def test_no_difference_is_named_in_the_plot(smallest):
    values = ((0.0, 5e-5), (smallest, 5e-5), (1.2e-3, 2e-2))
    axes = difference_plot([{"title": str(place), "difference": value, "allowed": allowed} for place, (value, allowed) in enumerate(values)]).axes[0]
    axes.figure.canvas.draw()
    low, high = axes.get_xlim()
    labels = {tick: label.get_text() for tick, label in zip(axes.get_xticks(), axes.get_xticklabels()) if low <= tick <= high}
    named = [tick for tick, label in labels.items() if label == "차이\n없음"]
    drawn = list(axes.lines[0].get_xdata())
    assert named == [pytest.approx(drawn[0])] and drawn[1:] == [smallest, 1.2e-3] and drawn[0] < smallest / 5
    assert all(label == f"{tick:.0e}" for tick, label in labels.items() if tick not in named) and len(labels) > 4


def test_which_rungs():
    on_cpu, left_out = choose_rungs((), "cpu")
    assert on_cpu[0].name == "naive" and "TF32 행렬 곱" in left_out and "pinned" not in [rung.name for rung in on_cpu]
    assert [rung.name for rung in choose_rungs(("sdpa",), "cpu")[0]] == ["naive", "sdpa"]
    with pytest.raises(ValueError, match=r"unknown rung 'spda' in speed\.rungs: use naive"):
        choose_rungs(("spda",), "cpu")
    with pytest.raises(ValueError, match=r"the rung 'tf32' of speed\.rungs is not on this machine"):
        choose_rungs(("tf32",), "cpu")
    with pytest.raises(ValueError, match="no rung 'compile' among naive"):
        method_of(on_cpu[:2], "compile")


def test_rows_that_cannot_be_shared_out(token_file):
    with pytest.raises(ValueError, match=r"speed.small_batch 3 does not divide speed\.batch_size 8"):
        LadderStep(ladder_model(CONFIGS["llama"], Method(), 0), Method(), token_file, batch_size=8, small_batch=3)


def test_rungs_are_climbed_once(small, monkeypatch):
    artifacts = small("speed.rungs=naive,loss", "speed.batch_size=4", "speed.small_batch=2", "speed.steps=2", "speed.compare_steps=2")
    monkeypatch.setenv("ARTIFACTS_DIR", str(artifacts.root.parent))  # for the processes that measure
    rows, _ = ladder_run.climb(artifacts)
    assert [row["name"] for row in rows] == ["naive", "loss"] and all(row["equal"] for row in rows)
    assert rows[0]["total"] == 1 and rows[1]["total"] == pytest.approx(rows[1]["gain"]) and rows[1]["peak_bytes"] > 1e6
    assert rows[0]["vocab_size"] % 64, "a vocabulary that padding would change"
    monkeypatch.setattr(ladder_run, "run_in_child", lambda name, *_: pytest.fail(f"{name} was measured again"))
    assert ladder_run.climb(artifacts)[0] == rows
    assert not list(artifacts.root.glob("speed-*")), "figures of rungs are no products of the run"
    other = small("speed.rungs=naive,loss", "speed.batch_size=4", "speed.small_batch=2", "speed.steps=3", "speed.compare_steps=2")
    with pytest.raises(pytest.fail.Exception, match="naive was measured again"):
        ladder_run.climb(other)
