"""What AutoModel is told, and the rows it reads: checked without it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import yaml

from llm_workshop.automodel.dataset import TrainingWindows, stack
from llm_workshop.automodel.launch import container_lines, script_lines
from llm_workshop.automodel.recipe import Job, LoRA, recipe, write_recipe
from llm_workshop.automodel.runner import (
    environment_of,
    error_part,
    read_result,
    run_job,
    start_in_environment,
)
from llm_workshop.automodel.stage import of_architecture, rates
from llm_workshop.automodel.twin import differences, train_twin
from llm_workshop.settings import load_settings
from scratch_llm.data import TokenFile, TokenFileWriter, Windows
from scratch_llm.training import TrainingConfig, cosine_with_warmup


@pytest.fixture
def tokens(tmp_path):
    random = np.random.default_rng(0)
    with TokenFileWriter(tmp_path / "text", vocab_size=50) as writer:
        for length in random.integers(3, 20, size=60):
            writer.append([*random.integers(1, 50, size=length), 0])
    return tmp_path / "text"


def a_job(tokens, **changes):
    config = {"steps": 20, "batch_size": 8, "micro_batch_size": 4, "learning_rate": 1e-2, "seed": 3}
    options = {key: changes.pop(key) for key in list(changes) if key in ("packing", "lora", "processes", "strategy")}
    return Job(tokens.parent / "weights", tokens, 16, TrainingConfig(**config | changes), **options)


# --- the rows ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("packing", ["stream", "documents"])
def test_rows_come_in_the_order_of_our_batches(tokens, packing):
    windows = Windows(TokenFile(tokens), 16, 4, seed=3, packing=packing)
    rows = TrainingWindows(str(tokens), 16, 4, steps=30, seed=3, packing=packing)
    assert len(rows) == 120
    for step in (0, 1, 29, 7):  # beyond an epoch too, and back
        batch = stack([rows[4 * step + row] for row in range(4)])
        inputs, targets = windows.batch(step)
        assert torch.equal(batch["input_ids"], inputs) and torch.equal(batch["labels"], targets)
    later = TrainingWindows(str(tokens), 16, 4, steps=2, seed=3, packing=packing, first_step=7)
    assert torch.equal(later[0]["input_ids"], windows.batch(7)[0][0])
    with pytest.raises(IndexError, match="row 120 of 120"):
        rows[120]


# --- the recipe --------------------------------------------------------------------------------------------


def test_the_recipe_says_what_our_settings_say(tokens, tmp_path):
    job = a_job(tokens, grad_clip=0.5, weight_decay=0.2, betas=(0.8, 0.9), packing="stream")
    values = yaml.safe_load(write_recipe(recipe(job, tmp_path / "out"), tmp_path / "recipe.yaml").read_text())
    assert values["step_scheduler"] == {"global_batch_size": 8, "local_batch_size": 4, "max_steps": 20, "num_epochs": 1, "ckpt_every_steps": 20}
    assert values["dataset"]["seed"] == 3 and values["dataset"]["packing"] == "stream" and values["dataset"]["steps"] == 20
    assert values["dataloader"]["shuffle"] is False
    optimizer = values["optimizer"]
    assert (optimizer["weight_decay"], optimizer["betas"], values["clip_grad_norm"]["max_norm"]) == (0.2, [0.8, 0.9], 0.5)
    assert values["dist_env"]["backend"] == "gloo" and recipe(job, tmp_path, gpu=True)["dist_env"]["backend"] == "nccl"
    assert "peft" not in values


@pytest.mark.parametrize(("name", "decayed"), [
    ("model.layers.0.self_attn.q_proj.weight", True), ("model.embed_tokens.weight", True), ("transformer.wpe.weight", True),
    ("transformer.h.0.mlp.c_fc.weight", True), ("model.norm.weight", False), ("model.layers.1.input_layernorm.weight", False),
    ("transformer.h.0.ln_1.weight", False), ("transformer.ln_f.bias", False), ("transformer.h.0.attn.c_attn.bias", False),
])  # fmt: skip
def test_only_matrices_are_decayed(tokens, tmp_path, name, decayed):
    import re

    [override] = recipe(a_job(tokens), tmp_path)["optimizer"]["param_group_overrides"]
    assert override["wd_mult"] == 0 and bool(re.search(override["pattern"], name)) != decayed


def test_shards_are_multiplied_in_the_precision_that_was_asked_for(tokens, tmp_path):
    """FSDP2's own default is bfloat16, also of a model in float32."""
    for precision in ("float32", "bfloat16"):
        job = a_job(tokens, precision=precision, processes=2, strategy="fsdp2")
        assert recipe(job, tmp_path)["distributed"]["mp_policy"]["param_dtype"] == precision
    assert "mp_policy" not in recipe(a_job(tokens), tmp_path)["distributed"]


def test_an_adapter(tokens, tmp_path):
    values = recipe(a_job(tokens, lora=LoRA(4, 8.0, ("q_proj", "down_proj"))), tmp_path)
    assert values["peft"] | {"_target_": ""} == {
        "_target_": "", "target_modules": ["*q_proj", "*down_proj"], "dim": 4, "alpha": 8.0, "dropout": 0.0, "use_triton": False,
    }  # fmt: skip
    assert "param_group_overrides" not in values["optimizer"]


@pytest.mark.parametrize("config", [
    {}, {"warmup_steps": 0}, {"warmup_steps": 1}, {"warmup_steps": 20}, {"steps": 2, "warmup_steps": 1}, {"steps": 2, "warmup_steps": 0},
    {"min_learning_rate": 0.0, "warmup_steps": 7},
])  # fmt: skip
def test_every_step_has_our_learning_rate(tokens, config):
    config = a_job(tokens, **config).training
    ours = [
        cosine_with_warmup(step, learning_rate=config.learning_rate, min_learning_rate=config.min_learning_rate,
                           warmup_steps=config.warmup_steps, steps=config.steps)
        for step in range(config.steps)
    ]  # fmt: skip
    assert rates(config) == pytest.approx(ours, rel=1e-12)


@pytest.mark.parametrize(("changes", "words"), [
    ({"processes": 3}, "batch_size 8 is no multiple of micro_batch_size 4 times 3 processes"),
    ({"processes": 4}, "4 processes"),
    ({"steps": 1, "warmup_steps": 0}, "steps 1"),
    ({"strategy": "zero"}, "strategy 'zero' is unknown"),
    ({"optimizer": "muon"}, "optimizer 'muon' cannot be said"),
    ({"schedule": "wsd"}, "schedule 'wsd' cannot be said"),
    ({"z_loss": 1e-4}, "z_loss 0.0001 cannot be said"),
    ({"ema_decay": 0.99}, "ema_decay 0.99 cannot be said"),
])  # fmt: skip
def test_what_cannot_be_run_is_refused(tokens, changes, words):
    with pytest.raises(ValueError, match=words):
        a_job(tokens, **changes)


def test_the_other_architecture_is_derived_anew():
    settings = load_settings("smoke")
    other = of_architecture(settings, "gpt2").model
    assert (other.architecture, other.n_kv_heads, other.d_ff) == ("gpt2", settings.model.n_heads, 4 * settings.model.d_model)
    assert of_architecture(settings, "llama") is settings


# --- starting it ---------------------------------------------------------------------------------------------


def test_a_failing_process_tells_its_last_error_and_where_the_log_is(tmp_path):
    import sys
    from pathlib import Path

    with pytest.raises(ValueError, match=r"failed: KeyError: 'missing' \(the whole story is in .*log.txt\)"):
        start_in_environment(Path(sys.executable), ["-c", "{}['missing']"], tmp_path / "log.txt")
    with pytest.raises(ValueError, match=r"did not end within 1 s: see .*log.txt"):
        start_in_environment(Path(sys.executable), ["-c", "import time; time.sleep(60)"], tmp_path / "log.txt", seconds=1)
    with pytest.raises(ValueError, match="cannot be started"):
        start_in_environment(tmp_path / "no" / "python", [], tmp_path / "log.txt")


def test_torchruns_summary_hides_no_error():
    log = "Traceback (most recent call last):\n  File x\nValueError: n_heads 3\nE1121 torch/...\nTraceback\ntorch.distributed.elastic.multiprocessing.errors.ChildFailedError: \n====\nroot cause\n"
    assert error_part(log).splitlines()[-1] == "ValueError: n_heads 3"
    assert error_part("[rank1]: ValueError: no backend\n[rank1]: (1) a hint\n") == "ValueError: no backend"
    assert error_part("train/0 [default1]:[rank1]: KeyError: 'a'\ntrain/0 E1121 x\n{\"train\": \"FAILED\"}") == "KeyError: 'a'"
    assert error_part("killed") == "killed"


def test_each_process_has_its_cores(monkeypatch):
    monkeypatch.setattr("os.cpu_count", lambda: 8)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert environment_of(4)["OMP_NUM_THREADS"] == "2" and "OMP_NUM_THREADS" not in environment_of(1)


def test_a_run_that_did_not_end_is_not_read(tmp_path):
    with pytest.raises(ValueError, match="has no finished run"):
        read_result(tmp_path)
    (tmp_path / "result").mkdir()
    (tmp_path / "result" / "result.json").write_text("{}")
    with pytest.raises(ValueError, match="has no finished run"):
        read_result(tmp_path)


def test_weights_without_a_tokenizer_are_refused(tokens, tmp_path):
    with pytest.raises(ValueError, match=r"has no tokenizer.json"):
        run_job(tmp_path / "python", a_job(tokens), tmp_path / "out")


def test_curves_of_other_lengths_are_not_compared(tokens):
    assert differences([1.0, 2.0], [1.5, 2.0]) == [0.5, 0.0]
    with pytest.raises(ValueError, match="2 steps of ours and 1"):
        differences([1.0, 2.0], [1.0])


def test_a_dry_runs_script_without_what_surrounds_it():
    output = (
        "──── Entering ────\n[23:23:09] Task train            experiment.py:620\n           === APPLICATION ===\n[23:23:10] sbatch x    launcher.py:105\n"
        "           #!/bin/bash      \n           #SBATCH --nodes=2    \n               indented\n"
    )
    assert script_lines(output) == ["#!/bin/bash", "#SBATCH --nodes=2", "    indented"]
    assert script_lines("=== APPLICATION ===\nname: train\n") == ["name: train"]


def test_of_a_container_the_command_and_what_it_is_given():
    script = ["containers:", "  command:", "  - torchrun", "  - -m", "  - job", "  executor:", "    container_image: nemo:1", "    env_vars:",
              "      PYTHONPATH: /workspace/src", "    shm_size: 16g", "  extra_env:", "    PYTHONPATH: /workspace/src"]  # fmt: skip
    assert container_lines(script) == ["torchrun -m job", "container_image: nemo:1", "PYTHONPATH: /workspace/src"]


def test_an_adapter_needs_its_beginning(tokens, tmp_path):
    from scratch_llm.models import LlamaConfig, build_model

    job = a_job(tokens, lora=LoRA())
    build_model(LlamaConfig(vocab_size=50, context_length=16, n_layers=1, n_heads=2, d_model=8)).save_pretrained(job.weights)
    with pytest.raises(ValueError, match="give the folder of what it begins from"):
        train_twin(job, tmp_path / "twin")
