"""Against the real tools, each in its own environment: AutoModel, NeMo Run, Megatron core.  Skipped where one is missing."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import torch
import yaml

from llm_workshop.automodel.launch import find_nemo_run, nemo_run, script_lines, tensor_parallel
from llm_workshop.automodel.recipe import Job, LoRA, recipe, write_recipe
from llm_workshop.automodel.runner import find_automodel, read_result, run_job
from llm_workshop.automodel.twin import adapter_start, differences, train_twin
from scratch_llm.data import TokenFileWriter
from scratch_llm.models import GPT2Config, LlamaConfig, build_model, load_model
from scratch_llm.peft import load_adapter
from scratch_llm.tokenizers import SPECIAL_TOKENS, ByteLevelBPE
from scratch_llm.training import TrainingConfig

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
SHAPE = {"vocab_size": 300, "context_length": 32, "n_layers": 2, "n_heads": 4, "d_model": 32, "bos_token_id": 0, "eos_token_id": 0}
CONFIGS = {"llama": LlamaConfig(**SHAPE, n_kv_heads=2, d_ff=64), "gpt2": GPT2Config(**SHAPE)}
IDS = [[5, 9, 77, 3, 150, 8, 21, 0, 4, 19, 33, 61]]


@pytest.fixture
def python():
    found = find_automodel()
    if found is None:
        pytest.skip("the nemo environment is not installed: run `make env-nemo` to compare with NVIDIA's tools")
    return found


@pytest.fixture
def nemorun_python():
    found = find_nemo_run()
    if found is None:
        pytest.skip("the nemorun environment is not installed: run `make env-nemorun` to send recipes by NeMo Run")
    return found


@pytest.fixture(autouse=True)
def one_thread(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def make_job(folder, architecture="llama", **changes):
    """Texts with something to learn: each repeats a few tokens of its own."""
    torch.manual_seed(0)
    build_model(CONFIGS[architecture]).save_pretrained(folder / "weights")
    ByteLevelBPE.train(["가나다라 마바사 " * 20, "아침에 밥을 먹고 학교에 갔어요. " * 20], 300, SPECIAL_TOKENS).save(folder / "weights")
    random = np.random.default_rng(0)
    with TokenFileWriter(folder / "text", vocab_size=300) as writer:
        for length in random.integers(5, 60, size=300):
            words = random.integers(1, 300, size=4)
            writer.append([*words[random.integers(0, 4, size=length)], 0])
    config = TrainingConfig(steps=50, batch_size=8, micro_batch_size=4, learning_rate=3e-3, warmup_steps=5, precision="float32", compile="off",
                            eval_batches=1, seed=0)  # fmt: skip
    return dataclasses.replace(Job(folder / "weights", folder / "text", 32, config), **changes)


def logits(model):
    with torch.no_grad():
        return model.eval()(torch.tensor(IDS)).numpy()


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_fifty_steps_of_automodel_are_ours(python, tmp_path, architecture):
    job = make_job(tmp_path, architecture)
    theirs = run_job(python, job, tmp_path / "automodel", IDS)
    ours = train_twin(job, tmp_path / "twin")
    assert len(theirs.losses) == 50 and sum(theirs.losses[-5:]) < sum(theirs.losses[:5]) - 5 * 0.15, "it learns"
    assert max(differences(ours.losses, theirs.losses)) < 1e-3
    assert ours.learning_rates[1:] == pytest.approx(theirs.next_learning_rates[:-1], rel=1e-6)
    expected_class = "nemo_automodel.components.models.llama" if architecture == "llama" else "transformers"
    assert theirs.facts["class"].startswith(expected_class)
    # Checkpoints: ours opened there before the first step, theirs opened here after the last.
    np.testing.assert_allclose(theirs.before, logits(load_model(job.weights)), atol=1e-4)
    np.testing.assert_allclose(theirs.after, logits(load_model(theirs.checkpoint)), atol=1e-4)
    np.testing.assert_allclose(theirs.after, logits(ours.model), atol=2e-2)
    assert np.abs(theirs.after - theirs.before).max() > 0.1


def test_an_adapter_of_automodel_learns_as_ours_and_opens_here(python, tmp_path):
    job = make_job(tmp_path, lora=LoRA(4, 8.0))
    theirs = run_job(python, job, tmp_path / "automodel", IDS)
    assert theirs.facts["trainable"] < theirs.facts["parameters"] / 5
    ours = train_twin(job, tmp_path / "twin", adapter_start(theirs, tmp_path / "automodel", tmp_path / "start"))
    assert max(differences(ours.losses, theirs.losses)) < 1e-3 and theirs.losses[-1] < theirs.losses[0]
    base = load_model(job.weights)
    np.testing.assert_allclose(theirs.before, logits(base), atol=1e-4)
    with pytest.warns(UserWarning, match="nothing tells whether"):
        load_adapter(base, theirs.checkpoint)
    np.testing.assert_allclose(theirs.after, logits(base), atol=1e-4)
    assert np.abs(theirs.after - theirs.before).max() > 1e-2


@pytest.mark.parametrize("strategy", ["ddp", "fsdp2"])
def test_two_processes_of_automodel_are_ours(python, tmp_path, strategy):
    job = make_job(tmp_path, processes=2, strategy=strategy)
    job = dataclasses.replace(job, training=dataclasses.replace(job.training, steps=12))
    theirs = run_job(python, job, tmp_path / "automodel", IDS)
    assert theirs.facts["processes"] == 2
    assert max(differences(train_twin(job, tmp_path / "twin").losses, theirs.losses)) < 1e-3
    np.testing.assert_allclose(theirs.after, logits(load_model(theirs.checkpoint)), atol=1e-4)


def test_a_recipe_without_the_exemption_of_vectors_is_another_training(python, tmp_path, monkeypatch):
    """The comparison sees a mistake in the recipe."""
    import llm_workshop.automodel.recipe as module

    job = make_job(tmp_path)
    job = dataclasses.replace(job, training=dataclasses.replace(job.training, weight_decay=2.0, steps=30, learning_rate=1e-2))
    monkeypatch.setattr(module, "VECTORS", "no such parameter")
    theirs = run_job(python, job, tmp_path / "automodel")
    assert max(differences(train_twin(job, tmp_path / "twin").losses, theirs.losses)) > 1e-3


def test_what_automodel_refuses_is_one_line(python, tmp_path):
    job = make_job(tmp_path)
    config = json.loads((job.weights / "config.json").read_text())
    (job.weights / "config.json").write_text(json.dumps(config | {"model_type": "abacus"}))
    with pytest.raises(ValueError, match=r"failed: .*abacus.*the whole story is in") as error:
        run_job(python, job, tmp_path / "automodel")
    assert "\n" not in str(error.value)


# --- NeMo Run ------------------------------------------------------------------------------------------------


def test_nemo_run_starts_the_recipe_in_two_processes(python, nemorun_python, tmp_path):
    job = make_job(tmp_path, processes=2)
    job = dataclasses.replace(job, training=dataclasses.replace(job.training, steps=12))
    file = write_recipe(recipe(job, tmp_path / "checkpoint"), tmp_path / "recipe.yaml")
    output = nemo_run(nemorun_python, "local", [str(file), str(tmp_path / "result")], tmp_path / "books", job_python=python)
    done = read_result(tmp_path)
    assert done.facts["processes"] == 2 and len(done.losses) == 12
    assert max(differences(train_twin(job, tmp_path / "twin").losses, done.losses)) < 1e-3
    assert json.loads([line for line in output.splitlines() if line.startswith("{")][-1]), "every task has a state"


def test_a_job_that_fails_is_told(python, nemorun_python, tmp_path):
    with pytest.raises(ValueError, match="failed"):
        nemo_run(nemorun_python, "local", [str(tmp_path / "absent.yaml"), str(tmp_path / "result")], tmp_path / "books", job_python=python, processes=1)


def test_what_slurm_would_be_sent(nemorun_python, tmp_path):
    output = nemo_run(nemorun_python, "slurm", ["/workspace/recipe.yaml", "/workspace/result"], tmp_path, processes=8, nodes=2)
    script = "\n".join(script_lines(output))
    for words in ("#SBATCH --nodes=2", "--nproc-per-node 8", "/shared/workshop:/workspace", "#SBATCH --gpus-per-node=8", "#SBATCH --account=workshop", "srun",
                  "nemo-automodel:26.06.00", "llm_workshop.automodel.job", "/workspace/recipe.yaml"):  # fmt: skip
        assert words in script, words
    assert not (tmp_path / "result").exists(), "nothing ran"


def test_what_docker_would_be_sent(nemorun_python, tmp_path):
    output = nemo_run(nemorun_python, "docker", ["/workspace/recipe.yaml", "/workspace/result"], tmp_path, processes=8)
    for words in ("nemo-automodel:26.06.00", "llm_workshop.automodel.job", "/workspace/recipe.yaml", "/shared/workshop:/workspace", "16g"):
        assert words in output, words


# --- tensor parallelism ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_two_processes_compute_the_whole_model(tmp_path, architecture):
    torch.manual_seed(1)
    build_model(CONFIGS[architecture]).save_pretrained(tmp_path / "model")
    ids = torch.randint(300, (3, 17), generator=torch.Generator().manual_seed(0)).tolist()
    facts = tensor_parallel(tmp_path / "model", ids, tmp_path / "work", 2)
    assert facts["processes"] == 2 and facts["loss_difference"] < 1e-6 and facts["gradient_difference"] < 1e-6 < facts["largest_gradient"]
    assert (facts["sums_forward"], facts["sums_backward"]) == (4, 4), "two for each block, each way"
    assert facts["bytes"] == 8 * 3 * 16 * 32 * 4, "8 sums of (3, 16, 32) float32"
    assert facts["parameters_of_a_process"] < 0.7 * facts["parameters"]


def test_megatrons_layers_compute_the_same(python, tmp_path):
    torch.manual_seed(1)
    build_model(CONFIGS["llama"]).save_pretrained(tmp_path / "model")
    facts = tensor_parallel(tmp_path / "model", IDS, tmp_path / "work", 2, python)
    assert len(facts["megatron"]) == 6 and max(facts["megatron"].values()) < 1e-5


def test_heads_that_cannot_be_shared(tmp_path):
    build_model(CONFIGS["llama"]).save_pretrained(tmp_path / "model")
    with pytest.raises(ValueError, match="n_heads 4 cannot be shared equally by 3 processes"):
        tensor_parallel(tmp_path / "model", IDS, tmp_path / "work", 3)


def test_the_recipe_is_one_that_automodels_own_command_reads(tmp_path):
    """It names the recipe's class, which the command line looks for."""
    values = yaml.safe_load(write_recipe(recipe(make_job(tmp_path), tmp_path), tmp_path / "r.yaml").read_text())
    assert values["recipe"] == "TrainFinetuneRecipeForNextTokenPrediction"
