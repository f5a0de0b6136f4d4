"""The whole path on a real Triton server: repository, Python backend, our engine, and the stand-in for tensorrt_llm."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from support.triton_stack import free_ports, require_triton, small_artifacts

from llm_workshop.artifacts import Artifacts
from llm_workshop.serving.triton.repository import write_repository
from llm_workshop.serving.triton.server import TritonServer
from llm_workshop.settings import load_settings
from scratch_llm.generation import SamplingConfig, generate_tokens
from scratch_llm.models import load_model
from scratch_llm.tokenizers import ByteLevelBPE, StreamingDecoder

pytestmark = pytest.mark.slow

#: In the server's process, before our model is imported: a pretended GPU and package, and the stamp that fits them.
MODEL_PY = """
import sys
from pathlib import Path
import torch
torch.cuda.is_available = lambda: True
torch.cuda.get_device_capability = lambda device=None: (9, 0)
torch.cuda.get_device_name = lambda device=None: "NVIDIA H200"
sys.path.insert(0, {here!r})
import fake_tensorrt_llm
from scratch_llm.models import load_model
class Patch:
    setattr = staticmethod(setattr)
    def setitem(self, mapping, key, value):
        mapping[key] = value
fake_tensorrt_llm.install(Patch(), load_model(Path({model!r})).eval())
from llm_workshop.serving.tensorrt_llm.stamp import present, write_stamp
if {stamped!r}:
    write_stamp(Path({model!r}), present(Path({model!r})))
from llm_workshop.serving.triton.python_model import TritonPythonModel
"""


def repository_of(root, *, stamped: bool):
    """A repository that asks for TensorRT-LLM, and the model's folder."""
    small_artifacts(root)
    overrides = ("serving.engine=tensorrt_llm", "serving.precision=bfloat16", "serving.max_tokens=256")
    artifacts = Artifacts(load_settings("smoke", overrides=overrides), root)
    repository, folder = write_repository(artifacts), artifacts.path("base-model")
    model_py = MODEL_PY.format(here=str(Path(__file__).parent), model=str(folder.resolve()), stamped=stamped)
    (repository / "tensorrt_llm" / "1" / "model.py").write_text(model_py, encoding="utf-8")
    return repository, folder


def generate(server, **values):
    request = urllib.request.Request(f"http://{server.http_address}/v2/models/tensorrt_llm/generate", json.dumps(values).encode())
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=30) as answer:
        return json.load(answer)


def test_clients_cannot_tell_the_engines_apart(tmp_path):
    require_triton()
    repository, folder = repository_of(tmp_path, stamped=True)
    tokenizer, decoder = ByteLevelBPE.load(folder), StreamingDecoder(ByteLevelBPE.load(folder), skip_special=True)
    ids = [tokenizer.eos_id, *tokenizer.encode("바다는 푸르고")]
    new = generate_tokens(load_model(folder).eval(), ids, SamplingConfig(max_new_tokens=40, temperature=0), stop_ids=tokenizer.special_tokens.ids)
    wishes = {"return_finish_reason": True, "return_num_output_tokens": True, "return_num_input_tokens": True}
    with TritonServer(repository, tmp_path / "logs", ports=free_ports(), start_seconds=120) as server:
        answer = generate(server, text_input="바다는 푸르고", sampling_param_max_tokens=40, **wishes)
        assert answer["text_output"] == "".join(map(decoder.push, new)) + decoder.flush() and "🌊" in answer["text_output"]
        assert (answer["finish_reason"], answer["num_output_tokens"], answer["num_input_tokens"]) == ("length", 40, len(ids))
        stopped = generate(server, text_input="바다는 푸르고", sampling_param_max_tokens=40, sampling_param_stop="꽃이", **wishes)
        assert stopped["finish_reason"] == "stop" and "꽃이" not in stopped["text_output"]
        with pytest.raises(urllib.error.HTTPError) as error:
            generate(server, text_input="바다는 " * 2000, sampling_param_max_tokens=4)
        assert error.value.code == 400 and "prompt too long: " in error.value.read().decode()


def test_a_checkpoint_without_its_stamp_keeps_the_server_from_starting(tmp_path):
    require_triton()
    repository, _ = repository_of(tmp_path, stamped=False)
    with pytest.raises(RuntimeError, match=r"has no stamp: .*tensorrt_llm\.stamp"):
        TritonServer(repository, tmp_path / "logs", ports=free_ports(), start_seconds=120, stop_seconds=3).start()
