"""Other ways to serve on a real Triton server: the transformers engine, several models and processes, what fails."""

from __future__ import annotations

import json
import shutil
import threading
import urllib.error
import urllib.request

import psutil
import pytest
from support.triton_stack import free_ports, require_triton, running_server, small_artifacts

from llm_workshop.artifacts import Artifacts
from llm_workshop.serving.triton.repository import write_repository
from llm_workshop.serving.triton.server import TritonServer
from llm_workshop.settings import load_settings

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A run's folder with its base model, to be copied."""
    require_triton()
    return small_artifacts(tmp_path_factory.mktemp("engines")).root.parent


def artifacts_like(base, *overrides):
    return Artifacts(load_settings("smoke", overrides=("serving.threads=1", *overrides)), base)


def generate(server, model="tensorrt_llm", timeout=30.0, **values):
    request = urllib.request.Request(f"http://{server.http_address}/v2/models/{model}/generate", json.dumps(values).encode())
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=timeout) as answer:
        return json.load(answer)


def test_the_transformers_engine_answers_alike_one_after_another(base, triton_stack):
    wishes = {"sampling_param_max_tokens": 40, "return_num_output_tokens": True, "return_finish_reason": True}
    with running_server(artifacts_like(base, "serving.engine=transformers", "serving.precision=float32")) as server:
        naive = generate(server, text_input="바다는 푸르고", **wishes)
        stopped = generate(server, text_input="바다는 푸르고", sampling_param_stop="꽃이", **wishes)
        drawn = [generate(server, text_input="바다는", sampling_param_temperature=1.5, sampling_param_seed=4, **wishes) for _ in range(2)]
        with pytest.raises(urllib.error.HTTPError) as error:
            generate(server, text_input="바다는", sampling_param_presence_penalty=1.0)
        assert error.value.code == 400 and "presence_penalty" in error.value.read().decode()
    ours = generate(triton_stack.server, text_input="바다는 푸르고", **wishes)
    assert naive == ours and naive["finish_reason"] == "length"
    assert stopped["finish_reason"] == "stop" and naive["text_output"].startswith(stopped["text_output"] + "꽃이")
    assert drawn[0] == drawn[1]


@pytest.mark.parametrize(("models", "instances"), [(("tensorrt_llm", "other"), 1), (("tensorrt_llm",), 2)])
def test_several_models_and_several_processes(base, models, instances):
    artifacts = artifacts_like(base, f"serving.instances={instances}")
    with running_server(artifacts, dict.fromkeys(models, artifacts.path("base-model"))) as server:
        stubs = [p for p in psutil.process_iter(["cmdline"]) if str(server.repository) in " ".join(p.info["cmdline"] or ())
                 and "stub" in (p.info["cmdline"] or [""])[0]]  # fmt: skip
        assert len(stubs) == 2
        answers = {}

        def ask(model, number):
            answers[model, number] = generate(server, model, text_input="바다는", sampling_param_max_tokens=20)["text_output"]

        threads = [threading.Thread(target=ask, args=(model, n)) for n in range(6) for model in models]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert len(answers) == 6 * len(models) and len(set(answers.values())) == 1


@pytest.mark.parametrize(("harm", "words"), [
    (lambda model: (model / "model.safetensors").write_bytes(b"\x00" * 100), "model tensorrt_llm: .*model.safetensors"),
    (lambda model: (model / "tokenizer.json").unlink(), "has no tokenizer.json"),
    (shutil.rmtree, "no model at"),
])
def test_a_model_that_is_harmed_after_the_repository_was_written_says_so(base, tmp_path, harm, words):
    shutil.copytree(base, tmp_path / "copy")
    artifacts = artifacts_like(tmp_path / "copy")
    repository = write_repository(artifacts)
    harm(artifacts.path("base-model"))
    with pytest.raises(RuntimeError, match=words):
        TritonServer(repository, tmp_path / "logs", ports=free_ports(), start_seconds=60, stop_seconds=3).start()
