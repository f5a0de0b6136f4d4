"""The comparison of methods: what learns, the table of trials, and choices made from it."""

import dataclasses
import json
import math

import pytest
import torch

from llm_workshop.artifacts import Artifacts
from llm_workshop.finetuning.compare import Comparison, task_of
from llm_workshop.finetuning.methods import (
    METHODS,
    Variant,
    check_methods,
    has_place,
    make_classifier,
    places,
)
from llm_workshop.finetuning.trials import TrialTable
from llm_workshop.settings import load_settings
from scratch_llm.models import GPT2Config, LlamaConfig, MambaConfig, build_model
from scratch_llm.peft import trainable_parameters
from scratch_llm.tokenizers import SPECIAL_TOKENS, ByteLevelBPE

LLAMA = LlamaConfig(vocab_size=330, context_length=64, n_layers=3, n_heads=4, n_kv_heads=2, d_model=32, d_ff=48)
GPT2 = GPT2Config(vocab_size=330, context_length=64, n_layers=2, n_heads=4, d_model=32)
TINY = ("peft.examples=24", "peft.held_out=16", "peft.steps=3", "peft.batch_size=8", "peft.max_length=20", "peft.rank=2", "peft.ranks=1,2,512",
        "peft.seeds=2", "peft.coefficients=20", "peft.prefix_tokens=3", "peft.ablation_seeds=1")  # fmt: skip


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory):
    """artifacts/ with a base model of a few thousand weights."""
    root = tmp_path_factory.mktemp("artifacts")
    artifacts = Artifacts(load_settings("smoke"), root)
    tokenizer = ByteLevelBPE.train(["맛이 좋아서 또 오고 싶어요. 값이 비싸서 아쉬웠다."] * 9, 300, SPECIAL_TOKENS)
    with artifacts.write_stage("base-model", {}) as stage:
        build_model(LLAMA, seed=0).save_pretrained(stage.folder)
        tokenizer.save(stage.folder)
    return root


def comparison(root, *overrides, force=False):
    return Comparison(Artifacts(load_settings("smoke", overrides=(*TINY, *overrides)), root), log=lambda line: None, force=force)


# -- methods -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("config", [LLAMA, GPT2])
@pytest.mark.parametrize("method", METHODS)
def test_a_step_changes_what_the_method_trains_and_nothing_else(method, config):
    base = build_model(config, seed=0)
    weights = {name: tensor.clone() for name, tensor in base.state_dict().items()}
    classifier = make_classifier(base, Variant(method, rank=2, coefficients=20, prefix_tokens=3), 3, prefix=range(1, 9))
    before = {name: tensor.clone() for name, tensor in classifier.state_dict().items()}
    learnt = trainable_parameters(classifier)
    optimizer = torch.optim.SGD(learnt.values(), lr=1.0)
    tokens, labels = torch.randint(1, 300, (4, 12), generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 2, 1])
    for _ in range(2):  # B of LoRA is 0: A learns from the second step on
        classifier(tokens, labels).backward()
        optimizer.step()
        optimizer.zero_grad()
    changed = {name for name, tensor in classifier.state_dict().items() if not torch.equal(tensor, before[name])}
    assert changed <= set(learnt) and "head.weight" in changed
    # The key's bias of GPT-2 moves all scores of a query alike: no gradient reaches it.
    assert len(changed) >= 0.9 * len(learnt)
    assert all(torch.equal(tensor, weights[name]) for name, tensor in base.state_dict().items()), "the base itself was changed"


def test_how_many_numbers_learn_by_hand():
    base, head = build_model(LLAMA, seed=0), 3 * 32

    def count(method, **changes):
        variant = Variant(method, **{"rank": 2, "coefficients": 20, "prefix_tokens": 3, **changes})
        return sum(p.numel() for p in trainable_parameters(make_classifier(base, variant, 3, prefix=range(9))).values())

    rows = 32 + 16 + 16 + 32 + 48 + 48 + 32  # of q, k, v, o, gate, up, down
    low_rank = 3 * 2 * (rows + 6 * 32 + 48)
    assert count("head") == head
    assert count("lora") == count("rslora") == count("qlora") == head + low_rank
    assert count("dora") == head + low_rank + 3 * rows
    assert count("waveft") == head + 3 * 7 * 20
    assert count("ia3") == head + 3 * (16 + 16 + 48)
    assert count("prefix") == head + 3 * 2 * 3 * 16
    assert count("full") == head + base.n_parameters()
    assert count("lora", targets="query-value") == head + 3 * 2 * (32 + 32 + 32 + 16)
    assert count("lora", targets="lower-half") + count("lora", targets="upper-half") == 2 * head + low_rank


def test_places_are_names_of_the_checkpoint():
    model = build_model(LLAMA, seed=0)
    assert len(places(model, "all")) == 21 and len(places(model, "attention")) == 12 and len(places(model, "feed-forward")) == 9
    assert places(model, "upper-half")[0].startswith("model.layers.2.")
    assert places(build_model(GPT2, seed=0), "query-value") == ("transformer.h.0.attn.c_attn", "transformer.h.1.attn.c_attn")
    with pytest.raises(ValueError, match="a mamba model of 1 blocks has no matrices attention"):
        places(build_model(MambaConfig(vocab_size=30, context_length=16, n_layers=1, d_model=16), seed=0), "attention")
    one_block = build_model(dataclasses.replace(LLAMA, n_layers=1), seed=0)
    assert has_place(one_block, "lower-half") and not has_place(one_block, "upper-half")
    with pytest.raises(ValueError, match="targets 'everywhere' are unknown: use query-value"):
        places(model, "everywhere")


def test_unknown_methods_are_named():
    with pytest.raises(ValueError, match=r"unknown method 'dorra' .*did you mean 'dora'"):
        check_methods(("lora", "dorra"))
    for names in ((), ("lora", "lora")):
        with pytest.raises(ValueError, match="each once"):
            check_methods(names)
    with pytest.raises(ValueError, match="a prefix of 8 tokens needs as many to begin from; there are 2"):
        make_classifier(build_model(LLAMA, seed=0), Variant("prefix"), 3, prefix=(1, 2))


def test_same_seed_same_start_other_seed_another():
    base = build_model(LLAMA, seed=0)
    first, same, other = (make_classifier(base, Variant("lora", rank=2), 3, seed=seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(tensor, same[name]) for name, tensor in first.items())
    assert not torch.equal(first["head.weight"], other["head.weight"])


# -- the table -----------------------------------------------------------------------------------------------------


def test_table_remembers_across_a_kill(tmp_path):
    path, calls = tmp_path / "deep" / "trials.jsonl", []

    def work(value):
        calls.append(value)
        return {"accuracy": value}

    table = TrialTable(path, "one")
    assert table.get("a", lambda: work(0.5)) == table.get("a", lambda: work(0.6)) == {"accuracy": 0.5}
    table.get("b", lambda: work(0.7))
    TrialTable(path, "two").get("a", lambda: work(0.8))
    whole = path.read_text()
    path.write_text(whole[:-9])  # a kill cut the last line in half
    assert TrialTable(path, "one").results == {"a": {"accuracy": 0.5}, "b": {"accuracy": 0.7}}
    assert TrialTable(path, "two").results == {}
    TrialTable(path, "two").get("c", lambda: work(0.9))
    assert TrialTable(path, "two").results == {"c": {"accuracy": 0.9}}, "the torn line swallowed the next"
    assert TrialTable(path, "one", forget=True).results == {}
    assert calls == [0.5, 0.7, 0.8, 0.9]


def test_failed_trials_are_not_noted(tmp_path):
    def fail():
        raise KeyboardInterrupt

    table = TrialTable(tmp_path / "t.jsonl", "one")
    with pytest.raises(KeyboardInterrupt):
        table.get("a", fail)
    assert table.get("a", lambda: {"x": 1}) == {"x": 1}


# -- the comparison ------------------------------------------------------------------------------------------------


def test_comparison_end_to_end_and_again_from_the_table(run_folder, monkeypatch):
    overrides = ("peft.methods=head,lora,prefix", "peft.rate_factors=0.1,1", "peft.targets=query-value,all")
    first = comparison(run_folder, *overrides)
    found = first.choose_rates(), first.compare(), first.compare_sizes(), first.compare_places()
    sweeps, rows, sizes, where = found
    assert [row["method"] for row in rows] == ["head", "lora", "prefix"]
    for method, trials in sweeps.items():
        best = min(trials, key=lambda trial: trial["valid_loss"])
        assert first.rates[method] == best["learning_rate"] and len(trials) == 2
    for row in rows:
        assert 0 <= row["accuracy"] <= 1 and row["seeds"] == 2 and row["accuracy_spread"] >= 0
        counted, measured = row["cost"]["counted"], row["cost"]["measured"]
        assert counted["activations"] == pytest.approx(measured["activations"], rel=0.02, abs=200)
        assert counted["gradients"] == measured["gradients"] and measured["seconds"] > 0
    head = rows[0]["cost"]
    assert head["counted"]["activations"] < 0.1 * (head["measured"]["peak"] - head["measured"]["weights"]), "tensors in passing are measured, not counted"
    assert [(row["method"], row["rank"]) for row in sizes] == [(m, r) for m in ("lora", "rslora") for r in (1, 2)]  # 512 does not fit
    assert [row["targets"] for row in where] == ["query-value", "all"]

    again = comparison(run_folder, *overrides)
    monkeypatch.setattr(again.bench, "run", lambda trial: pytest.fail(f"{trial.key} ran again"))
    monkeypatch.setattr(again.bench, "cost", lambda variant: pytest.fail("measured again"))
    assert (again.choose_rates(), again.compare(), again.compare_sizes(), again.compare_places()) == found

    more = comparison(run_folder, "peft.methods=head,ia3", "peft.rate_factors=1")
    ran = []
    monkeypatch.setattr(more.bench, "run", lambda trial: ran.append(trial.key) or {"valid_loss": math.nan})
    more.choose_rates()
    assert ran == ["ia3 lr=0.02 seed=0"], "only what is new is run"
    assert more.rates["ia3"] == 0.02


def test_other_settings_or_another_base_are_another_comparison(run_folder):
    digest = comparison(run_folder).table.digest
    assert comparison(run_folder).table.digest == digest
    assert comparison(run_folder, "peft.methods=head", "peft.seeds=1").table.digest == digest
    for change in ("peft.steps=4", "peft.examples=16", "peft.task=reviews-category", "peft.pooling=mean"):
        assert comparison(run_folder, change).table.digest != digest, change


def test_seeds_differ_and_their_spread_is_that_of_a_sample(run_folder, monkeypatch):
    compared = comparison(run_folder, "peft.seeds=3")
    scores = iter((0.5, 0.6, 0.7))
    monkeypatch.setattr(compared.bench, "run", lambda trial: {"trainable": 1, **dict.fromkeys(("accuracy", "macro_f1", "valid_accuracy"), next(scores))})
    row = compared.summary(Variant("head"), 0.5, 3)
    assert row["accuracy"] == pytest.approx(0.6) and row["accuracy_spread"] == pytest.approx(0.1)
    one = compared.summary(Variant("head"), 0.5, 1)
    assert one["accuracy"] == pytest.approx(0.5) and one["accuracy_spread"] is None, "one seed says nothing about the spread"


def test_the_task_has_no_more_texts_than_asked(run_folder):
    task = task_of(load_settings("smoke", overrides=TINY))
    assert (len(task.train), len(task.valid), len(task.test)) == (24, 16, 16) and task.name == "reviews"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("peft.methods=lora,prefx", "did you mean 'prefix'"),
        ("peft.targets=attn", "bad value 'attn' in peft.targets: use query-value"),
        ("peft.rate_factors=0,1", "bad value 0.0 in peft.rate_factors"),
        ("peft.ranks=0", "bad value 0 in peft.ranks"),
        ("peft.ranks=", "peft.ranks is empty"),
        ("peft.task=revews", "unknown task 'revews'"),
    ],
)
def test_bad_settings_are_named(override, message, run_folder):
    with pytest.raises(ValueError, match=message):
        comparison(run_folder, override)


def test_no_base_model_says_what_to_run(tmp_path):
    with pytest.raises(ValueError, match=r"no base-model at .* run 'make week5-pretrain SCALE=smoke' first"):
        comparison(tmp_path)


def test_table_lines_are_plain_json(run_folder):
    compared = comparison(run_folder, "peft.methods=head", "peft.rate_factors=2")
    compared.choose_rates()
    lines = [json.loads(line) for line in compared.table.path.read_text().splitlines()]
    assert {"comparison", "key", "result"} == set(lines[-1]) and lines[-1]["key"] == "head lr=0.06 seed=0"
