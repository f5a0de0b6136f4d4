"""The model repository on disk, without a server."""

from __future__ import annotations

import json
import re
import shutil

import pytest
import torch
import yaml

from llm_workshop.artifacts import Artifacts
from llm_workshop.serving.triton.engine_settings import ENGINES, EngineSettings, load_engine, read_model_yaml
from llm_workshop.serving.triton.interface import INPUTS, MODEL_INFO, OUTPUTS
from llm_workshop.serving.triton.repository import write_models, write_repository
from llm_workshop.settings import load_settings
from scratch_llm.models import LlamaConfig, build_model
from scratch_llm.tokenizers import SPECIAL_TOKENS, ByteLevelBPE


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    root = tmp_path_factory.mktemp("base")
    artifacts = Artifacts(load_settings("smoke"), root)
    tokenizer = ByteLevelBPE.train(["가나다"] * 3, 270, SPECIAL_TOKENS)
    model = build_model(LlamaConfig(vocab_size=270, context_length=32, n_layers=1, n_heads=2, n_kv_heads=1, d_model=16, d_ff=24))
    with artifacts.write_stage("base-model", {}) as stage:
        model.save_pretrained(stage.folder)
        tokenizer.save(stage.folder)
        stage.metrics["chat"] = True
    return root


@pytest.fixture
def artifacts(base, tmp_path):
    shutil.copytree(base, tmp_path / "run")
    return lambda *overrides: Artifacts(load_settings("smoke", overrides=overrides), tmp_path / "run")


def test_the_repository_of_a_run(artifacts):
    run = artifacts("serving.instances=3", "serving.max_rows=4", "serving.threads=2", "serving.precision=float32", "serving.max_tokens=20")
    repository = write_repository(run)
    assert repository == run.root / "serving" / "repository"
    files = sorted(str(f.relative_to(repository)) for f in repository.rglob("*") if f.is_file())
    assert files == ["tensorrt_llm/1/model.py", "tensorrt_llm/1/model.yaml", "tensorrt_llm/config.pbtxt"]
    text = (repository / "tensorrt_llm" / "config.pbtxt").read_text()
    assert text.startswith('name: "tensorrt_llm"\nbackend: "python"\n') and "instance_group [ { count: 3 kind: KIND_CPU } ]" in text
    assert 'input [ { name: "text_input" data_type: TYPE_STRING dims: [ -1 ] } ]' in text
    assert 'input [ { name: "sampling_param_seed" data_type: TYPE_UINT64 dims: [ 1 ] optional: true } ]' in text
    assert 'output [ { name: "cumulative_logprob" data_type: TYPE_FP32 dims: [ -1 ] } ]' in text
    assert text.count("input [") == len(INPUTS) and text.count("output [") == len(OUTPUTS)
    quoted = re.search(rf'key: "{MODEL_INFO}" value: {{ string_value: (".*") }}', text)[1]
    info = json.loads(json.loads(quoted))
    assert info["name"] == "smoke" and info["supports_chat"] and info["context_length"] == 20
    assert info["device"] in ("CPU", "CUDA") and info["precision"] == "float32"
    settings, triton_config = read_model_yaml(repository / "tensorrt_llm" / "1")
    assert triton_config == {"max_batch_size": 0, "decoupled": True}
    assert settings.model == run.path("base-model").resolve() and (settings.max_rows, settings.threads, settings.max_tokens) == (4, 2, 20)
    assert "TritonPythonModel" in (repository / "tensorrt_llm" / "1" / "model.py").read_text()


@pytest.mark.parametrize(("cores", "instances", "threads"), [(1, 1, 1), (2, 1, 1), (8, 1, 7), (8, 2, 3), (4, 16, 1)])
def test_a_core_is_left_to_the_server(artifacts, monkeypatch, cores, instances, threads):
    monkeypatch.setattr("llm_workshop.machine.Machine.cores", cores)
    repository = write_repository(artifacts(f"serving.instances={instances}"))
    assert read_model_yaml(repository / "tensorrt_llm" / "1")[0].threads == threads


def test_several_models_and_a_new_repository_replaces_the_old(artifacts):
    run = artifacts()
    folder = run.path("base-model")
    repository = write_repository(run, {"tensorrt_llm": folder, "int4": folder})
    names = {m: read_model_yaml(repository / m / "1")[0].name for m in ("tensorrt_llm", "int4")}
    assert names == {"tensorrt_llm": "tensorrt_llm", "int4": "int4"}
    write_repository(run)
    assert [f.name for f in repository.iterdir()] == ["tensorrt_llm"]
    with pytest.raises(ValueError, match=r"model name '../x'"):
        write_repository(run, {"../x": folder})
    assert [f.name for f in repository.iterdir()] == ["tensorrt_llm"], "as it was before"
    assert not list(repository.parent.glob("*.partial"))
    with pytest.raises(ValueError, match="at least one model"):
        write_models(repository, {})


@pytest.mark.parametrize(("harm", "words"), [
    (lambda f: (f / "config.json").write_text('{"model_type": "parrot"}'), "model_type 'parrot', which is unknown here"),
    (lambda f: (f / "config.json").write_text("{"), "cannot be read"),
    (lambda f: (f / "model.safetensors").unlink(), "has no model.safetensors"),
    (lambda f: (f / "tokenizer.json").unlink(), "has no tokenizer.json"),
    (shutil.rmtree, "no model at"),
])
def test_a_model_that_cannot_be_served_is_refused_and_nothing_is_written(artifacts, harm, words):
    run = artifacts()
    folder = run.path("base-model")
    harm(folder)
    with pytest.raises(ValueError, match=words):
        write_repository(run, {"tensorrt_llm": folder})
    assert not (run.root / "serving" / "repository").exists()


def test_a_run_without_a_model_names_the_target(tmp_path):
    with pytest.raises(ValueError, match="make week5-pretrain"):
        write_repository(Artifacts(load_settings("smoke"), tmp_path))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_a_gpu_that_is_not_there(artifacts):
    with pytest.raises(ValueError, match="device=cuda, but this machine offers no GPU"):
        write_repository(artifacts("serving.device=cuda"))


def test_model_yaml_that_is_not_right(tmp_path):
    good = EngineSettings(tmp_path)
    for text, words in [
        (None, "cannot be read"), ("[", "is not right"), ("3", "is not right"), ("model: x", "is not right .*triton_config"),
        (yaml.safe_dump({"model": "x", "engine": "steam", "triton_config": {}}), "engine 'steam' is unknown"),
        (good.to_yaml().replace("response_interval_ms: 25.0", "response_interval_ms: -1"), "response_interval_ms=-1"),
    ]:  # fmt: skip
        if text is not None:
            (tmp_path / "model.yaml").write_text(text)
        with pytest.raises(ValueError, match=words):
            read_model_yaml(tmp_path)


def test_an_engine_whose_packages_are_missing(tmp_path, monkeypatch):
    monkeypatch.setitem(ENGINES, "transformers", "llm_workshop.no_such_module")
    with pytest.raises(ValueError, match="transformers cannot be imported in this environment"):
        load_engine(EngineSettings(tmp_path, engine="transformers"), lambda job: None)
