"""The first model, its hub look-up, environments and the tools of other environments."""

from __future__ import annotations

import math
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from llm_workshop.artifacts import Artifacts
from llm_workshop.doctor import TIKTOKEN_GPT2_FILES
from llm_workshop.orientation import environments, first_model, induction
from llm_workshop.orientation.environments import (
    ENVIRONMENTS,
    Environment,
    environment_rows,
    installed_version,
    version_rows,
)
from llm_workshop.orientation.gpu import fast_formats, supports
from llm_workshop.orientation.hub import is_offline, look_for_hub_model
from llm_workshop.orientation.nemo_probe import megatron_state, rope_theta
from llm_workshop.orientation.peers import Answer, NemoPeer, last_line
from llm_workshop.orientation.speed import copy_bandwidth, fetch_tiktoken, import_seconds, product_speeds
from llm_workshop.orientation.words import losses_of_a_repetition, one_line, ordinary_tokens, token_label
from llm_workshop.settings import load_settings
from scratch_llm.models import LlamaConfig, build_model, load_model
from scratch_llm.tokenizers import SPECIAL_TOKENS, ByteLevelBPE

TEXTS = ["오늘 아침에 김치찌개를 끓였어요.", "  두 칸\n줄바꿈", "😀 mixed 한글 3,500원", "ㅋㅋ"]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    """A Llama with odd numbers of everything, untrained, and a Korean tokenizer."""
    folder = tmp_path_factory.mktemp("checkpoint")
    tokenizer = ByteLevelBPE.train(TEXTS * 3, 300, SPECIAL_TOKENS, normalization="NFC")
    config = LlamaConfig(
        vocab_size=tokenizer.vocab_size, context_length=64, n_layers=3, n_heads=6, n_kv_heads=2, head_dim=10, d_model=36, d_ff=50,
        tie_embeddings=False, bos_token_id=tokenizer.eos_id, eos_token_id=tokenizer.eos_id,
    )  # fmt: skip
    build_model(config, seed=1).save_pretrained(folder)
    tokenizer.save(folder)
    return folder


# --- the first model ----------------------------------------------------------------------------------------------


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(first_model, "STEPS", 6)


def test_the_first_model_is_trained_once_and_opens_in_transformers(tmp_path, monkeypatch, quick):
    from transformers import pipeline

    monkeypatch.delenv("WORKSHOP_SHARED_DATA", raising=False)
    artifacts = Artifacts(load_settings("smoke"), tmp_path)
    found = first_model.find_first_model(artifacts)
    made = (found.folder / "manifest.json").stat().st_mtime_ns
    assert first_model.find_first_model(artifacts) == found and (found.folder / "manifest.json").stat().st_mtime_ns == made
    facts = artifacts.read_manifest(first_model.STAGE)["metrics"]
    assert facts["parameters"] == load_model(found.folder).n_parameters() and 0 < facts["loss"] < 8
    write = pipeline("text-generation", model=str(found.folder))
    [answer] = write(found.prompts[0], max_new_tokens=3, do_sample=False)
    assert answer["generated_text"].startswith(found.prompts[0])


def test_the_runs_own_model_comes_first_and_then_the_shared_one(tmp_path, monkeypatch):
    artifacts = Artifacts(load_settings("smoke"), tmp_path / "artifacts")
    stories = tmp_path / "data" / first_model.STORIES
    stories.mkdir(parents=True)
    (stories / "model.safetensors").touch()
    monkeypatch.setenv("WORKSHOP_SHARED_DATA", str(tmp_path / "data"))
    assert first_model.find_first_model(artifacts).folder == stories
    with artifacts.write_stage("base-model", {}) as stage:
        (stage.folder / "model.safetensors").write_text("weights")
    assert first_model.find_first_model(artifacts).folder == artifacts.path("base-model")
    (artifacts.path("base-model") / "model.safetensors").unlink()
    with pytest.raises(ValueError, match="make week5-pretrain"):
        first_model.find_first_model(artifacts)


# --- copying from the context ---------------------------------------------------------------------------------------


def test_the_losses_of_a_repetition_are_split_where_it_begins():
    rows = torch.tensor([[3, 1, 2, 3, 1, 2]])
    logits = torch.full((1, 6, 5), 0.0)
    for place in (3, 4):  # knows what follows the second 3 and the second 1
        logits[0, place, rows[0, place + 1]] = 50.0
    first, again = induction.repetition_losses(logits, rows)
    assert first.shape == (1, 2) and torch.allclose(first, torch.full((1, 2), math.log(5)))
    assert again.shape == (1, 2) and again.max() < 1e-6


def test_repetitions_repeat_and_differ_in_length():
    generator = torch.Generator().manual_seed(0)
    rows = [induction.repetitions(generator) for _ in range(30)]
    assert all(torch.equal(row[:, : row.shape[1] // 2], row[:, row.shape[1] // 2 :]) for row in rows)
    lengths = {row.shape[1] // 2 for row in rows}
    assert len(lengths) > 5 and induction.LENGTHS[0] <= min(lengths) and max(lengths) <= induction.LENGTHS[1]


def test_learning_to_copy_begins_at_guessing_and_leaves_the_threads_as_they_were():
    before = torch.get_num_threads()
    learning = induction.learn_to_copy(1, 3)
    assert len(learning.again) == 3 and learning.again[0] == pytest.approx(math.log(induction.VOCAB), rel=0.05)
    assert torch.get_num_threads() == before


def test_a_model_that_copies_shows_it_in_the_losses():
    class Copier(torch.nn.Module):
        """Knows the token after the last place where the present one stood."""

        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(1))

        def forward(self, rows):
            logits = torch.zeros(*rows.shape, 5000)
            for b, row in enumerate(rows.tolist()):
                for t, token in enumerate(row):
                    if token in row[:t]:
                        logits[b, t, row[t - row[:t][::-1].index(token)]] = 30.0
            return type("Output", (), {"logits": logits})

    losses = losses_of_a_repetition(Copier(), range(5000), 6, rows=3, seed=0)
    assert losses.shape == (11,) and losses[6:].mean() < 0.5 * losses[:5].mean()


# --- words ----------------------------------------------------------------------------------------------------------


def test_tokens_and_texts_in_a_form_that_can_be_shown(checkpoint):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    labels = [token_label(tokenizer, i) for i in tokenizer.encode("뷁 가\n", add_special_tokens=False)]
    assert labels[0].startswith("0x") and not any("\ufffd" in label or "\n" in label for label in labels)
    assert "".join(label.removeprefix("0x") for label in labels[:3] if label.startswith("0x")) == "뷁".encode().hex().upper()
    assert one_line(" 가\n 나\ufffd") == "가 나▯"
    ordinary = ordinary_tokens(tokenizer, load_model(checkpoint))
    assert not set(ordinary) & set(tokenizer.all_special_ids) and len(ordinary) == len(tokenizer) - len(set(tokenizer.all_special_ids))


# --- the hub --------------------------------------------------------------------------------------------------------


def test_a_hub_that_cannot_be_reached_is_an_answer(tmp_path):
    code = "from llm_workshop.orientation.hub import look_for_hub_model as look; import sys; print(look('some/model', sys.argv[1], 2))"
    for variables, words in (({"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HUB_OFFLINE": "0"}, "닿지 못했습니다"), ({"HF_HUB_OFFLINE": "1"}, "HF_HUB_OFFLINE")):
        done = subprocess.run(
            [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, timeout=120, env={**os.environ, **variables}
        )
        assert done.returncode == 0 and "state='absent'" in done.stdout and words in done.stdout, done.stderr


def test_a_model_in_the_cache_needs_no_network(checkpoint, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    repository = tmp_path / "models--some--model"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("abc")
    (repository / "snapshots").mkdir()
    assert look_for_hub_model("some/model", tmp_path).state == "absent", "an empty cache"
    (repository / "snapshots" / "abc").symlink_to(checkpoint)
    found = look_for_hub_model("some/model", tmp_path)
    assert found.state == "cached" and found.usable


def test_a_name_that_is_none_is_said_so(tmp_path):
    found = look_for_hub_model("not a name", tmp_path)
    assert not found.usable and "조직/모델" in found.reason


@pytest.mark.parametrize("value, offline", [("1", True), ("true", True), ("0", False), ("", False)])
def test_offline_as_the_hub_library_reads_it(monkeypatch, value, offline):
    monkeypatch.setenv("HF_HUB_OFFLINE", value)
    assert is_offline() is offline


def test_a_vocabulary_that_does_not_come_does_not_hold_up(tmp_path, monkeypatch):
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))
    assert "초 안에 받지 못했습니다" in fetch_tiktoken(seconds=0.05)
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    assert fetch_tiktoken().startswith("받지 못했습니다")


def test_a_vocabulary_that_is_there_is_ready(tmp_path, monkeypatch, shared_data):
    for name, file in zip(TIKTOKEN_GPT2_FILES, ("vocab.bpe", "encoder.json")):
        shutil.copyfile(shared_data / "gpt2_bpe" / file, tmp_path / name)
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    assert fetch_tiktoken().startswith("준비되었습니다")


def test_an_import_again_is_the_least_of_several():
    [(name, first, again)] = import_seconds(["json"])
    assert name == "json" and 0 < again <= first < 60


def test_speeds_are_of_formats_that_can_be_multiplied():
    speeds = product_speeds("cpu", 64, seconds=0.01)
    assert {"float32", "bfloat16"} <= set(speeds) and all(speed > 1e6 for speed in speeds.values())
    assert copy_bandwidth("cpu", megabytes=4, repeats=1) > 1e8


# --- environments ---------------------------------------------------------------------------------------------------


def test_core_is_what_runs_this():
    assert installed_version(ENVIRONMENTS["core"], "numpy") == np.__version__
    assert installed_version(ENVIRONMENTS["core"], "no-such-package") is None
    core = environment_rows()[0]
    assert (core["환경"], core["상태"]) == ("core", "준비됨") and core["핀"] is not None
    assert any(row["패키지"] == "torch" and row["core"] for row in version_rows())


def test_the_states_of_an_environment(tmp_path, monkeypatch):
    environment = Environment("nemo", "", "make env-nemo")
    folder = tmp_path / "nemo"
    monkeypatch.setenv("WORKSHOP_NEMO_ENVIRONMENT", str(folder))
    assert environment.state == "missing" and environment.site_packages is None
    info = folder / "lib" / "python3.11" / "site-packages" / "numpy-1.2.3.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: numpy\nVersion: 1.2.3\n")
    assert environment.state == "unfinished" and installed_version(environment, "numpy") == "1.2.3"
    (folder / ".installed").touch()
    assert environment.state == "foreign", "its Python is not to be found here"
    (folder / "bin").mkdir()
    (folder / "bin" / "python").symlink_to(sys.executable)
    assert environment.state == "ready"
    row = next(row for row in environments.environment_rows() if row["환경"] == "nemo")
    assert row["핀"].startswith("1개 다름: numpy"), "an old version is drift"


# --- GPUs -----------------------------------------------------------------------------------------------------------


def test_code_for_a_generation():
    build = ["sm_75", "sm_80", "sm_86", "sm_90"]
    assert supports((8, 0), build) and supports((8, 9), build) and supports((7, 5), build)
    assert not supports((7, 0), build), "older than the oldest of its generation"
    assert not supports((12, 0), build) and supports((12, 0), [*build, "compute_90"]), "PTX serves later GPUs"
    assert not supports((6, 1), [*build, "compute_90"])
    assert supports((9, 0), ["sm_90a"]) and not supports((8, 0), [])


def test_formats_of_the_tensor_cores():
    assert fast_formats((6, 1)) == [] and fast_formats((7, 5)) == ["float16"]
    assert fast_formats((8, 6)) == ["float16", "bfloat16", "tf32"]
    assert "float8" in fast_formats((9, 0)) and "float8" not in fast_formats((8, 6))


# --- NVIDIA's tools, in their own environment -------------------------------------------------------------------------


def test_megatrons_rows_lie_group_by_group():
    def column(*values: float) -> torch.Tensor:
        return torch.tensor(values)[:, None]

    one = column(0.0)
    weights = {"q_proj": column(1, 2, 3, 4), "k_proj": column(10, 20), "v_proj": column(100, 200), "o_proj": one}
    theirs = {"model.embed_tokens.weight": one, "model.norm.weight": one, "lm_head.weight": column(7)}
    theirs |= {f"model.layers.0.self_attn.{name}.weight": weight for name, weight in weights.items()}
    theirs |= {f"model.layers.0.mlp.{name}_proj.weight": column(n, n) for n, name in enumerate(("gate", "up", "down"))}
    theirs |= {f"model.layers.0.{name}_layernorm.weight": one for name in ("input", "post_attention")}
    state = megatron_state(theirs, n_layers=1, heads=4, groups=2, head_dim=1)
    fused = state["decoder.layers.0.self_attention.linear_qkv.weight"].flatten().tolist()
    assert fused == [1, 2, 10, 100, 3, 4, 20, 200], "two query heads, their key, their value; then the next group"
    assert state["decoder.layers.0.mlp.linear_fc1.weight"].flatten().tolist() == [0, 0, 1, 1], "gate above up"
    assert state["output_layer.weight"].item() == 7


def test_rotary_frequencies_that_are_scaled_are_refused():
    assert rope_theta({"rope_theta": 5e5}) == rope_theta({"rope_parameters": {"rope_type": "default", "rope_theta": 5e5}}) == 500_000
    for config in ({"rope_theta": 1e4, "rope_scaling": {"factor": 8}}, {"rope_parameters": {"rope_type": "llama3", "rope_theta": 1e4}}):
        with pytest.raises(ValueError, match="rope_scaling"):
            rope_theta(config)


@pytest.fixture(scope="module")
def peer() -> NemoPeer:
    found = NemoPeer.find()
    if found is None:
        pytest.skip("the nemo environment is not installed: run `make env-nemo` to compare with NVIDIA's tools")
    return found


@pytest.mark.parametrize("tool", ["automodel", "megatron"])
def test_nvidias_tools_give_our_logits(peer, checkpoint, tool):
    ids = torch.randint(300, (12,), generator=torch.Generator().manual_seed(0)).tolist()
    answer = peer.logits(tool, checkpoint, ids)
    assert answer.problem == ""
    with torch.no_grad():
        expected = load_model(checkpoint)(torch.tensor([ids]))[0].numpy()
    assert answer.logits.shape == expected.shape and np.abs(answer.logits - expected).max() < 1e-4
    assert np.abs(expected).max() > 0.01, "not all zeros"


def test_nemos_tokenizer_gives_our_ids(peer, checkpoint):
    own = ByteLevelBPE.load(checkpoint)
    answer = peer.encode(checkpoint, TEXTS)
    assert answer.problem == "" and answer.ids == [own.encode(text, allow_special=False) for text in TEXTS]


def test_a_tool_that_fails_says_why(peer, tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "gpt2"}')
    answer = peer.logits("megatron", tmp_path, [1])
    assert answer.logits is None and "gpt2" in answer.problem


def test_an_environment_that_cannot_be_run_is_an_answer(tmp_path):
    answer = NemoPeer(tmp_path / "no-python").encode(tmp_path, ["가"])
    assert isinstance(answer, Answer) and "실행하지 못했습니다" in answer.problem
    assert last_line("Traceback\n  ...\n\nValueError: so\n\n") == "ValueError: so" and last_line("") == ""
