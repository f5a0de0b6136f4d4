"""The comparison's parts: equal sizes, decoding cost, memory, and trials that are not done twice."""

import json
import signal
import subprocess
import sys

import pytest
import torch

from llm_workshop.architectures.decoding import decode_cost, longer
from llm_workshop.architectures.plots import cost_plot, decoding_plot, learning_plot
from llm_workshop.architectures.shapes import ARCHITECTURES, count, equal_config, report_name
from llm_workshop.architectures.trial import run_trials, stage_of
from llm_workshop.artifacts import Artifacts
from llm_workshop.pipeline import build_corpus, build_tokenizer, build_tokens
from llm_workshop.settings import load_settings
from scratch_llm.models import build_model

SHARED = {"vocab_size": 300, "context_length": 32, "n_layers": 2}
RECURRENT = ("lstm", "mamba", "rwkv")


@pytest.mark.parametrize("name", ARCHITECTURES)
@pytest.mark.parametrize("target", [250_000, 3_000_000, 40_000_000])
def test_all_have_the_same_number_of_parameters(name, target):
    config = equal_config(name, target, **SHARED | {"n_layers": 4})
    assert abs(count(config) / target - 1) < (0.1 if target < 1_000_000 else 0.05)


def test_too_few_parameters_for_the_vocabulary():
    with pytest.raises(ValueError, match=r"narrowest MoE \+ MLA .*compare.parameters of 20,000 is too few"):
        equal_config("moe-mla", 20_000, **SHARED | {"vocab_size": 5000})


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_decoding_cost(name):
    model = build_model(equal_config(name, 60_000, **SHARED), seed=0).eval()
    rows = decode_cost(model, (48, 16), steps=3)
    assert [row["context"] for row in rows] == [16, 48] and all(row["milliseconds"] > 0 for row in rows)
    growth = rows[1]["cache_bytes"] / rows[0]["cache_bytes"]
    assert growth == (1 if name in RECURRENT else 3)


def test_a_longer_context_keeps_the_weights():
    model = build_model(equal_config("transformer", 60_000, **SHARED), seed=0).eval()
    twin, tokens = longer(model, 100), torch.arange(32)[None]
    assert twin.config.context_length == 100 and torch.equal(twin(tokens), model(tokens))
    assert twin(torch.arange(100)[None]).shape == (1, 100, 300)
    assert twin.embedding.weight.data_ptr() == model.embedding.weight.data_ptr()


def test_the_memory_peak_is_what_was_taken():
    """In a fresh process: in this one the high-water mark may already lie above."""
    code = ("import torch; from llm_workshop.memory import MemoryPeak\n"
            "peak = MemoryPeak(); block = torch.ones(50_000_000); del block; print(peak.bytes())")
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert 190e6 < int(child.stdout) < 230e6


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    """Two architectures, trained for a few steps by child processes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ARTIFACTS_DIR", str(tmp_path_factory.mktemp("artifacts")))
        patch.delenv("FORCE", raising=False)
        artifacts = Artifacts(load_settings("smoke", overrides=(
            "corpus.megabytes=0.3", "tokenizer.vocab_size=400", "compare.models=transformer,lstm", "compare.parameters=40000",
            "compare.context_length=32", "compare.tokens=1000", "compare.decode_contexts=16,64", "pretrain.eval_batches=1",
            "pretrain.precision=float32")))
        build_corpus(artifacts), build_tokenizer(artifacts), build_tokens(artifacts)
        yield artifacts, run_trials(artifacts)


def test_trials_measure_everything(compared):
    artifacts, results = compared
    assert list(results) == ["transformer", "lstm"]
    for name, result in results.items():
        assert 1 < result["bits_per_byte"] < 20 and result["tokens_per_second"] > 0 and result["peak_bytes"] > 0
        assert [row["context"] for row in result["decoding"]] == [16, 64]
        saved = json.loads((artifacts.path(stage_of(name)) / "config.json").read_text())
        assert saved["model_type"] == {"transformer": "llama", "lstm": "lstm"}[name]


def test_what_is_done_is_not_done_again(compared, capfd):
    artifacts, results = compared
    again = run_trials(artifacts)
    assert again == results and "파라미터" not in capfd.readouterr().out


def test_the_plots_show_every_architecture(compared):
    artifacts, results = compared
    metrics = {name: artifacts.path(stage_of(name)) / "metrics.jsonl" for name in results}
    learning = learning_plot(metrics, results, 256)
    assert [line.get_label() for line in learning.axes[0].lines] == ["Transformer", "LSTM"]
    assert len(decoding_plot(results).axes[1].lines) == 2
    assert len(cost_plot(results).axes[0].patches) == 2


def test_the_training_speaks_korean_and_ctrl_c_is_told_once(compared):
    """Ctrl-C reaches the waiting process only, as ``kill -INT`` does; the child saves its step, and one line says so."""
    code = ("from llm_workshop.architectures.trial import run_in_child; from llm_workshop.errors import install_one_line_errors\n"
            "from llm_workshop.settings import load_settings; install_one_line_errors(); import sys\n"
            "run_in_child('transformer', load_settings('smoke', overrides=sys.argv[1:]))")
    changed = [note.split("  (")[0] for note in compared[0].settings.notes if note.endswith("(set by you)")]
    changed = [c for c in changed if not c.startswith("compare.tokens")] + ["compare.tokens=50000000", "pretrain.log_every=1"]
    child = subprocess.Popen([sys.executable, "-u", "-c", code, *changed], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    lines = []
    for line in child.stdout:
        lines.append(line)
        if line.startswith("스텝") and len(lines) > 5:
            child.send_signal(signal.SIGINT)
            break
    out, err = child.communicate(timeout=60)
    assert child.returncode in (130, -signal.SIGINT)
    assert (out + err).count("interrupted") == 1 and "멈춤" not in out and "Traceback" not in err
    assert any("손실" in line and "토큰/초" in line for line in lines) and "loss" not in "".join(lines)
    assert list(compared[0].root.glob(".work/architecture-transformer-*/checkpoints/*")), "the step at work was saved"


def test_a_comparison_of_some_has_its_own_report():
    assert report_name(tuple(ARCHITECTURES)) == report_name(tuple(ARCHITECTURES)[::-1]) == "week04-compare"
    assert report_name(("transformer", "moe-mla")) == "week04-compare-transformer-moe-mla"


@pytest.mark.parametrize(("models", "message"), [
    ("transformer,gru", r"unknown architecture 'gru' in compare.models: use transformer, lstm,"),
    ("lstm,lstm", r"compare.models is 'lstm,lstm': name each architecture once, of transformer,"),
    ("", r"compare.models is '': name each architecture once"),
])
def test_wrong_lists_of_architectures_are_refused(models, message, tmp_path):
    artifacts = Artifacts(load_settings("smoke", overrides=(f"compare.models={models}",)), root=tmp_path)
    with pytest.raises(ValueError, match=message):
        run_trials(artifacts)
