"""Settings of weeks 8 and 10: generation, serving, chat."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from llm_workshop.sections.base import Section


class GenerateSettings(Section):
    max_new_tokens: int = Field(160, ge=1, description="longest answer (tokens)")
    temperature: float = Field(0.5, ge=0, description="0 = greedy")
    top_k: int | None = Field(None, ge=1, description="keep the k likeliest tokens")
    top_p: float | None = Field(0.9, gt=0, le=1, description="keep the smallest set with this probability mass")
    min_p: float | None = Field(None, ge=0, le=1, description="drop tokens below this share of the likeliest one")
    repetition_penalty: float = Field(
        1.0, gt=0, description="above 1 discourages tokens already used, those of the question too"
    )


class ChatSettings(Section):
    model: Literal["base-model", "chat-model"] = Field("base-model", description="which model is asked: of week 5, or the one that learnt to answer in week 6")
    host: str = Field("127.0.0.1", description="address the page listens on")
    port: int = Field(7860, ge=1, le=65535, description="port of the page")
    serve: bool = Field(True, description="false: print a few generations and stop")
    max_turns: int = Field(8, ge=1, description="turns of the conversation that the model is shown")
    system_prompt: str | None = Field(None, description="system turn put before the conversation")


class ServingSettings(Section):
    engine: Literal["scratch", "transformers", "tensorrt_llm"] = Field("scratch", description="what answers behind Triton")
    weights: Literal["same", "int8"] = Field("same", description="of the scratch engine: as stored, or int8 weight-only")
    precision: Literal["auto", "float32", "bfloat16"] = Field("auto", description="arithmetic; auto = the faster one")
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="where the engine computes")
    instances: int = Field(1, ge=1, le=16, description="engine processes behind Triton")
    threads: int | None = Field(None, ge=1, description="CPU threads of an instance; null = all cores but one, shared by the instances")
    max_rows: int = Field(8, ge=1, description="requests decoded together by an instance")
    max_waiting: int = Field(32, ge=0, description="requests that may wait; one more is told that the server is busy")
    max_tokens: int | None = Field(None, ge=2, description="prompt and answer of a request together; null = the context")
    host: str = Field("127.0.0.1", description="address that Triton and the endpoint listen on; another one only in a container")
    triton_host: str = Field("127.0.0.1", description="where the endpoint and the page find Triton")
    http_port: int = Field(8000, ge=1, le=65535, description="Triton's HTTP port")
    grpc_port: int = Field(8001, ge=1, le=65535, description="Triton's gRPC port")
    metrics_port: int = Field(8002, ge=1, le=65535, description="Triton's Prometheus port")
    api_port: int = Field(8080, ge=1, le=65535, description="the OpenAI-compatible endpoint; the monitoring view is there too")
    page: bool = Field(True, description="false: no chat page beside the server")
    restarts: int = Field(5, ge=0, description="how often in ten minutes a dead server is started again")


class QuantizeSettings(Section):
    methods: tuple[str, ...] | None = Field(None, description="methods to compare (week 8); null = all of them")
    eval_tokens: int = Field(32_768, ge=1, description="validation tokens for bits per byte")
    calibration_tokens: int = Field(8_192, ge=1, description="training tokens shown to SmoothQuant, AWQ and GPTQ")
    group_size: int = Field(32, ge=8, description="weights that share a scale, where a method has groups")


class LoadTestSettings(Section):
    clients: tuple[int, ...] = Field((1, 2, 4, 8, 16), description="numbers of concurrent clients to try")
    requests: int = Field(24, ge=1, description="answers measured at each number of clients")
    prompt_tokens: int = Field(48, ge=1, description="about how long a prompt is")
    max_new_tokens: int = Field(48, ge=1, description="how long an answer is")
    soak_seconds: float = Field(0, ge=0, description="mixed load for so long at the end; 0 = none")
