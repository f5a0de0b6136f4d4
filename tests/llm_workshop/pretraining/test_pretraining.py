"""Around a run: the plan told before it, mixtures of the names in DATA, what is left for those who watch."""

from __future__ import annotations

import json
import re

import pytest
import torch

from llm_workshop.artifacts import Artifacts
from llm_workshop.pipeline import build_base_model, build_corpus, build_tokenizer, build_tokens
from llm_workshop.pipeline.pretrain import training_config, training_windows
from llm_workshop.pretraining import plan
from llm_workshop.pretraining.plan import free_memory, plan_run
from llm_workshop.pretraining.run_log import TensorBoard
from llm_workshop.pretraining.sources import describe_mixture, mixture_weights
from llm_workshop.progress import korean_line
from llm_workshop.settings import load_settings
from scratch_llm.data import Mixture
from scratch_llm.models import LlamaConfig, build_model
from scratch_llm.training import TrainingConfig
from scratch_llm.training.metrics import read_records

SMALL = ("corpus.megabytes=0.05", "tokenizer.vocab_size=400", "model.context_length=32", "model.n_layers=1", "model.n_heads=2",
         "model.d_model=32", "pretrain.steps=6", "pretrain.batch_size=4", "pretrain.eval_every=3", "pretrain.compile=off",
         "pretrain.eval_batches=2", "pretrain.precision=float32")  # fmt: skip


@pytest.fixture(scope="module")
def rhymes(tmp_path_factory):
    """A second corpus, easy to tell: a file of one line over and over."""
    path = tmp_path_factory.mktemp("texts") / "rhymes.txt"
    path.write_text("\n\n".join(f"파란 하늘 {n} 하얀 구름 {n} 푸른 바다 {n}" for n in range(400)), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def built(rhymes, tmp_path_factory):
    """Both corpora, tokenised; gives the artifacts for some settings more."""
    root = tmp_path_factory.mktemp("artifacts")
    data = f"sample,{rhymes}"

    def make(*more):
        return Artifacts(load_settings("smoke", data, 0, [*SMALL, *more]), root)

    for build in (build_corpus, build_tokenizer, build_tokens):
        build(make())
    return make


def test_the_corpus_knows_whose_its_documents_are(built, rhymes):
    facts = built().read_manifest("corpus")["metrics"]
    for split in ("train", "valid"):
        assert sum(facts[split]["sources"].values()) == facts[split]["documents"]
    assert list(facts["train"]["sources"]) == ["sample", str(rhymes)]


def test_without_a_mixture_all_names_are_one_text(built):
    windows, valid = training_windows(built())
    assert not isinstance(windows, Mixture) and describe_mixture(windows, valid, 10) == []


def test_shares_of_the_names(built, rhymes):
    artifacts = built(f"pretrain.mixture=sample:1,{rhymes}:3")
    windows, valid = training_windows(artifacts)
    assert list(valid.parts) == ["sample"]  # a text file holds nothing out where another corpus does
    assert windows.shares == {"sample": 0.25, str(rhymes): 0.75}
    from scratch_llm.tokenizers import ByteLevelBPE

    tokenizer = ByteLevelBPE.load(artifacts.path("tokenizer"))
    texts = [tokenizer.decode(row.tolist()) for step in range(6) for row in windows.batch(step)[0]]
    assert sum("파란 하늘" in text or "하얀 구름" in text for text in texts) == 18
    lines = describe_mixture(windows, valid, 10)
    assert len(lines) == 2 and "sample: 25.0% of the rows" in lines[0] and "nothing of it is held out" in lines[1]
    by_size, _ = training_windows(built(f"pretrain.mixture=sample,{rhymes}", "pretrain.mixture_temperature=1e9"))
    assert list(by_size.shares.values()) == pytest.approx([0.5, 0.5], abs=1e-5)


@pytest.mark.parametrize("mixture, message", [
    ("nsmc:1", "names 'nsmc', which is not in DATA: use sample, other"),
    ("sample:1,other", "give all one .* or none"),
    ("sample:1,sample:2", "names 'sample' twice"),
    ("sample:many,other:1", "has 'sample:many': write NAME:WEIGHT"),
])
def test_mixtures_that_do_not_fit(mixture, message):
    with pytest.raises(ValueError, match=message):
        mixture_weights(load_settings("smoke", "sample,other", 0, [f"pretrain.mixture={mixture}"]))


def test_a_weight_of_nothing(built, rhymes):
    with pytest.raises(ValueError, match="the weight of 'sample' is 0"):
        training_windows(built(f"pretrain.mixture=sample:0,{rhymes}:1"))


def test_a_corpus_without_sources(built, rhymes):
    artifacts = built(f"pretrain.mixture=sample:1,{rhymes}:1")
    path = artifacts.path("corpus") / "manifest.json"
    before = path.read_text(encoding="utf-8")
    manifest = json.loads(before)
    del manifest["metrics"]["train"]["sources"]
    path.write_text(json.dumps(manifest), encoding="utf-8")
    try:
        with pytest.raises(ValueError, match=r"knows whose its documents are, .* run 'make corpus .* FORCE=1'"):
            training_windows(artifacts)
    finally:
        path.write_text(before, encoding="utf-8")


def test_a_run_on_a_mixture_leaves_its_traces(built, rhymes):
    lines = []
    artifacts = built(f"pretrain.mixture=sample:1,{rhymes}:1", "pretrain.tensorboard=true", "pretrain.micro_batch_size=auto",
                      "pretrain.gradient_checkpointing=true")
    folder = build_base_model(artifacts, log=lines.append)
    assert any(line.startswith("micro_batch_size 4: the whole batch needs") for line in lines)
    [summary] = [line for line in lines if line.startswith("plan: ")]
    assert "M parameters" in summary and "activations" in summary and "free" in summary
    samples = read_records(folder / "samples.jsonl")
    assert [sample["step"] for sample in samples] == [3, 6] and set(samples[0]["sources"]) == {"sample"}
    assert any(line.startswith("  valid loss of sample ") for line in lines)

    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    [run] = (artifacts.root / "tensorboard").iterdir()
    events = EventAccumulator(str(run)).Reload()
    losses = events.Scalars("loss")
    records = read_records(folder / "metrics.jsonl")
    assert [event.step for event in losses] == [1, 2, 3, 4, 5, 6]
    assert [event.value for event in losses] == pytest.approx([record["loss"] for record in records], rel=1e-6)
    assert len(events.Scalars("valid_loss")) == 2 and len(events.Scalars("valid_loss_of/sample")) == 2


def test_steps_that_come_again_replace_those_before(tmp_path):
    board = TensorBoard(tmp_path)
    for step, loss in ((1, 5.0), (2, 4.0), (3, 3.0), (2, 2.0), (3, 1.0)):
        board.add({"step": step, "loss": loss})
    board.close()
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(tmp_path)).Reload().Scalars("loss")
    assert [(event.step, event.value) for event in events] == [(1, 5.0), (2, 2.0), (3, 1.0)]


def a_plan(tmp_path, free, monkeypatch, auto=True, **options):
    monkeypatch.setattr(plan, "free_memory", lambda device: free)
    lines = []
    model = build_model(LlamaConfig(vocab_size=200, context_length=64, n_layers=2, n_heads=2, d_model=32), seed=0).train()
    config = plan_run(model, TrainingConfig(steps=10, batch_size=8, precision="float32"), 64, tmp_path, auto=auto, log=lines.append, **options)
    return config, lines


def test_the_choice_stays_for_a_run_that_goes_on(tmp_path, monkeypatch):
    assert a_plan(tmp_path / "a", 10**10, monkeypatch)[0].micro_batch_size == 8
    # 45 MiB go to the libraries: what is left holds some rows, not all.
    config, lines = a_plan(tmp_path / "b", 58 * 10**6, monkeypatch)
    assert config.micro_batch_size in (1, 2, 4) and "the largest divisor of 8 that fits" in lines[0]
    again, lines = a_plan(tmp_path / "b", 10**10, monkeypatch)
    assert again == config and "as before the interruption" in lines[0]
    (tmp_path / "b" / "micro-batch.json").write_text("{", encoding="utf-8")
    assert a_plan(tmp_path / "b", 10**10, monkeypatch)[0].micro_batch_size == 8


def test_the_time_of_a_plan_is_measured_and_leaves_no_trace(tmp_path, monkeypatch):
    model = build_model(LlamaConfig(vocab_size=200, context_length=64, n_layers=2, n_heads=2, d_model=32), seed=0).eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state = torch.get_rng_state()
    config = TrainingConfig(steps=10, batch_size=8, micro_batch_size=2, precision="float32")
    assert 0 < plan.step_seconds(model, config, 64) < 60
    assert not model.training and torch.equal(torch.get_rng_state(), state)
    assert all(parameter.grad is None for parameter in model.parameters())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("seconds, english, korean", [
    (3.0, "about 30 s judged by a step just now;", "방금 재 본 스텝으로 셈하면 약 30초, "),
    (60.0, "about 10 min judged by a step just now;", "방금 재 본 스텝으로 셈하면 약 10분, "),
])
def test_a_plan_takes_the_measured_step(tmp_path, monkeypatch, seconds, english, korean):
    monkeypatch.setattr(plan, "step_seconds", lambda *arguments: seconds)
    _, [line] = a_plan(tmp_path, 10**10, monkeypatch, auto=False)
    shown = korean_line(line)
    assert english in line and korean in shown and shown.startswith("계획: 파라미터 0.0 M, 토큰 0.0 M, ")
    assert not set(re.findall("[a-z]{3,}", shown)), "no English word is left"


def test_a_plan_for_several_processes_guesses(tmp_path, monkeypatch):
    monkeypatch.setattr(plan, "step_seconds", lambda *arguments: pytest.fail("others would wait"))
    _, [line] = a_plan(tmp_path, 10**10, monkeypatch, auto=False, n_processes=2)
    assert "at 35% of the machine's peak; memory" in line
    assert "이 기계 최고 속도의 35%를 낸다면 약 0초" in korean_line(line)


def test_the_choice_of_several_processes(tmp_path, monkeypatch):
    """Each computes its share of the batch, and those of one machine share its memory; one of them writes down the choice."""
    config, [_, line] = a_plan(tmp_path / "a", 10**10, monkeypatch, n_processes=2)
    assert (config.batch_size, config.micro_batch_size) == (8, 4)
    assert line.endswith("free for each process") and korean_line(line).endswith("(프로세스마다)")
    one, _ = a_plan(tmp_path / "e", 10**10, monkeypatch)
    two, lines = a_plan(tmp_path / "e", 10**10, monkeypatch, n_processes=2)
    assert two == one and two.micro_batch_size == 8 and "as before the interruption" in lines[0], "a run may go on with more processes"
    alone = a_plan(tmp_path / "b", 58 * 10**6, monkeypatch)[0].micro_batch_size
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    shared, _ = a_plan(tmp_path / "c", 2 * 58 * 10**6, monkeypatch, n_processes=2)
    assert shared.micro_batch_size == alone
    other, _ = a_plan(tmp_path / "d", 10**10, monkeypatch, n_processes=2, is_first=False)
    assert other.micro_batch_size == 4 and not (tmp_path / "d").exists()


def test_a_plan_that_cannot_be(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="a step on a single row takes"):
        a_plan(tmp_path, 10**6, monkeypatch)
    with pytest.raises(ValueError, match="batch_size 8 cannot be shared among 3 processes"):
        a_plan(tmp_path, 10**10, monkeypatch, n_processes=3)
    config, lines = a_plan(tmp_path, 10**6, monkeypatch, auto=False)
    assert config.micro_batch_size == 8 and lines[-1].startswith("warning: that is more than the 1 MB that are free")


def test_the_settings():
    assert load_settings("smoke", overrides=["pretrain.micro_batch_size=auto"]).pretrain.micro_batch_size == "auto"
    for bad in ("0", "half", "true"):
        with pytest.raises(ValueError, match=r"for pretrain.micro_batch_size: .*give a number from 1 on, or auto"):
            load_settings("smoke", overrides=[f"pretrain.micro_batch_size={bad}"])
    settings = load_settings("smoke", overrides=["pretrain.micro_batch_size=auto"])
    assert training_config(settings).micro_batch_size == settings.pretrain.batch_size


def test_a_containers_limit_counts(tmp_path):
    for name, text in (("memory.max", "1000"), ("memory.current", "700"), ("memory.stat", "anon 1\ninactive_file 50\n")):
        (tmp_path / name).write_text(text, encoding="utf-8")
    assert plan._cgroup_free(tmp_path) == 350
    (tmp_path / "memory.max").write_text("max\n", encoding="utf-8")
    assert plan._cgroup_free(tmp_path) is None and plan._cgroup_free(tmp_path / "none") is None
    assert 10**6 < free_memory(torch.device("cpu")) < 10**14
