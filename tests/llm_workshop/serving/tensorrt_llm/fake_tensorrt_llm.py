"""A stand-in for the package tensorrt_llm, as wide as the transcribed signatures and no wider.

Any parameter, attribute or method that signatures.yaml does not name is an error, as it might be on a GPU.  The tokens
come from one of our own models, so that answers can be compared with the scratch engine's.
"""

from __future__ import annotations

import asyncio
import sys
import types
from typing import Any, ClassVar

from llm_workshop.serving.tensorrt_llm.signatures import check_arguments, parameters, signatures


class Narrow:
    """Only the attributes that the real class is known to have can be read or set."""

    _known: tuple[str, ...] = ()

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"TensorRT-LLM's {type(self).__name__} is not known to have {name!r}")

    def __setattr__(self, name: str, value: Any) -> None:
        if name not in self._known and not name.startswith("_"):
            raise AttributeError(f"TensorRT-LLM's {type(self).__name__} is not known to have {name!r}")
        object.__setattr__(self, name, value)


class CompletionOutput(Narrow):
    _known = tuple(signatures()["completion_output"]["properties"])

    def __init__(self):
        self.index, self.text, self.token_ids, self.finish_reason = 0, "", [], None
        self.stop_reason, self.cumulative_logprob = None, None


class RequestOutput(Narrow):
    _known = tuple(signatures()["request_output"]["properties"])

    def __init__(self, llm: LLM, ids: list[int], params: SamplingParams, streaming: bool):
        self.prompt_token_ids, self.outputs, self.finished, self.prompt = ids, [CompletionOutput()], False, None
        self._llm, self._params, self._streaming, self._aborted = llm, params, streaming, False

    def abort(self) -> None:
        self._aborted = True
        self._llm.aborted.append(self)

    def aborted(self) -> bool:
        return self._aborted

    async def __aiter__(self):
        output, values = self.outputs[0], self._params._values
        if len(self.prompt_token_ids) >= self._llm._values["max_seq_len"]:
            raise RuntimeError("prompt length exceeds max_seq_len")
        stops = {values["end_id"], *(values["stop_token_ids"] or ())}
        for n, token in enumerate(self._llm.tokens(self.prompt_token_ids, values), 1):
            if self._llm.fail_after is not None and n > self._llm.fail_after:
                raise RuntimeError("CUDA error: an illegal memory access was encountered")
            await asyncio.sleep(self._llm.step_seconds)
            if self._aborted:
                output.finish_reason, self.finished = "cancelled", True
                yield self
                return
            output.token_ids = [*output.token_ids, token]
            if values.get("logprobs") is not None:
                output.cumulative_logprob = -0.5 * n
            if token in stops:
                output.finish_reason = "stop"
            elif n >= values["max_tokens"]:
                output.finish_reason = "length"
            self.finished = output.finish_reason is not None
            if self.finished and self._llm.end_with is not None:
                output.finish_reason = self._llm.end_with
            if self._streaming or self.finished:
                yield self
            if self.finished:
                return


class SamplingParams(Narrow):
    def __init__(self, **values: Any):
        check_arguments(parameters("sampling_params"), values, "SamplingParams")
        self._values = {name: fact[1] for name, fact in parameters("sampling_params").items()} | values


class KvCacheConfig(Narrow):
    def __init__(self, **values: Any):
        check_arguments(signatures()["kv_cache_config"], values, "KvCacheConfig")
        assert 0 < values.get("free_gpu_memory_fraction", 0.9) <= 1
        self._values = values


class LLM(Narrow):
    _known = ("step_seconds", "fail_after", "end_with", "aborted", "requests", "closed")
    instances: ClassVar[list[LLM]] = []
    model: Any = None
    fails_to_load: str | None = None

    def __init__(self, **values: Any):
        check_arguments(parameters("llm"), values, "LLM")
        assert isinstance(values["kv_cache_config"], KvCacheConfig)
        if LLM.fails_to_load:
            raise RuntimeError(LLM.fails_to_load)
        self._values, self._task = values, None
        self.step_seconds, self.fail_after, self.end_with = 0.0, None, None
        self.aborted, self.requests, self.closed = [], [], False
        LLM.instances.append(self)

    def generate_async(self, inputs, sampling_params=None, lora_request=None, prompt_adapter_request=None, streaming=False):
        assert asyncio.get_running_loop(), "a stream belongs to the loop of the thread that asked for it"
        assert isinstance(inputs, list) and all(type(token) is int for token in inputs)
        output = RequestOutput(self, inputs, sampling_params, streaming)
        self.requests.append(output)
        return output

    def shutdown(self) -> None:
        self.closed = True

    def tokens(self, ids: list[int], values: dict[str, Any]):
        """What the model goes on with, the ending token included."""
        from scratch_llm.generation import SamplingConfig, TokenStream

        greedy = values["top_k"] == 1
        config = SamplingConfig(
            max_new_tokens=values["max_tokens"],
            temperature=0 if greedy else values["temperature"],
            top_k=None if greedy else values["top_k"],
            top_p=values["top_p"],
            seed=values["seed"],
        )
        for (token,) in TokenStream(LLM.model, [ids], config, stop_ids=()):
            yield token


def install(monkeypatch, model: Any, version: str = "1.2.1") -> type[LLM]:
    """Make ``import tensorrt_llm`` find this; returns LLM, whose ``instances`` tests may look at."""
    package, llmapi = types.ModuleType("tensorrt_llm"), types.ModuleType("tensorrt_llm.llmapi")
    package.__version__, package.LLM, package.SamplingParams, package.llmapi = version, LLM, SamplingParams, llmapi
    llmapi.KvCacheConfig = KvCacheConfig
    monkeypatch.setitem(sys.modules, "tensorrt_llm", package)
    monkeypatch.setitem(sys.modules, "tensorrt_llm.llmapi", llmapi)
    monkeypatch.setattr(LLM, "instances", [])
    monkeypatch.setattr(LLM, "model", model)
    monkeypatch.setattr(LLM, "fails_to_load", None)
    return LLM
