"""A gRPC server that speaks Triton's protocol and fails as it is told; the real one is in triton_stack.py."""

from __future__ import annotations

import json
import struct
import threading
import time
from collections.abc import Callable, Iterator
from concurrent import futures
from dataclasses import asdict
from typing import Any

import grpc
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc

from llm_workshop.serving.engine import ModelInfo
from llm_workshop.serving.triton.interface import INPUTS, MODEL_INFO, MODEL_NAME, OUTPUTS

INFO = ModelInfo("smoke", "llama", 500_000, 128, 1024, True, device="CPU")
FORMATS = {"BOOL": "?", "INT32": "i", "FP32": "f", "UINT64": "Q"}


def outputs(**values: Any) -> pb.ModelStreamInferResponse:
    """A response with these outputs, encoded as Triton does."""
    message = pb.ModelStreamInferResponse()
    types = {tensor.name: tensor.datatype for tensor in OUTPUTS}
    for name, value in values.items():
        message.infer_response.outputs.add(name=name, datatype=types[name], shape=[1])
        if types[name] == "BYTES":
            raw = value if isinstance(value, bytes) else value.encode()
            raw = struct.pack("<I", len(raw)) + raw
        else:
            raw = struct.pack("<" + {"INT32": "i", "FP32": "f", "INT64": "q"}[types[name]], value)
        message.infer_response.raw_output_contents.append(raw)
    return message


def read_inputs(request: pb.ModelInferRequest) -> dict[str, Any]:
    """Inputs by name, decoded."""
    values = {}
    for tensor, raw in zip(request.inputs, request.raw_input_contents, strict=True):
        if tensor.datatype == "BYTES":
            texts = []
            while raw:
                size = int.from_bytes(raw[:4], "little")
                texts.append(raw[4 : 4 + size].decode())
                raw = raw[4 + size :]
            assert list(tensor.shape)[-1] == len(texts)
            values[tensor.name] = texts if len(texts) > 1 else texts[0]
        else:
            (values[tensor.name],) = struct.unpack("<" + FORMATS[tensor.datatype], raw)
    return values


def words(*texts: str, pause: float = 0.0, reason: str = "stop") -> Callable:
    """Behaviour: writes the texts one after another, a token each."""

    def run(server: FakeTriton, request: pb.ModelInferRequest, context: Any) -> Iterator[pb.ModelStreamInferResponse]:
        answer = ""
        for number, text in enumerate(texts, 1):
            if pause:
                time.sleep(pause)
            answer += text
            last = {"finish_reason": reason} if number == len(texts) else {}
            yield outputs(text_output=answer, num_input_tokens=7, num_output_tokens=number, **last)

    return run


def fails(message: str, code: grpc.StatusCode, after: tuple[str, ...] = ()) -> Callable:
    """Behaviour: the texts of ``after``, then an error with a code, as with the header triton_grpc_error."""

    def run(server, request, context):
        for number in range(len(after)):
            yield outputs(text_output="".join(after[: number + 1]))
        context.abort(code, message)

    return run


def when_ended(context: Any, event: threading.Event) -> None:
    """Set ``event`` when the call is over, even if it was before this line was reached."""
    if not context.add_callback(event.set):
        event.set()


class FakeTriton(service_pb2_grpc.GRPCInferenceServiceServicer):
    """``behaviours`` are used one a request, the last of them for all that follow."""

    def __init__(self, *behaviours: Callable, extensions: bool = True, info: ModelInfo | None = INFO, port: int = 0):
        self.behaviours, self.info = list(behaviours), info
        self.inputs = [tensor for tensor in INPUTS if extensions or not tensor.extension]
        self.requests: list[dict[str, Any]] = []
        self.metadata_questions = 0
        self.cancelled = threading.Event()
        self.release = threading.Event()
        self.server = grpc.server(futures.ThreadPoolExecutor(24), options=[("grpc.so_reuseport", 0)])
        service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(self, self.server)
        self.port = self.server.add_insecure_port(f"127.0.0.1:{port}")
        self.address = f"127.0.0.1:{self.port}"

    def __enter__(self) -> FakeTriton:
        self.server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.release.set()
        self.server.stop(None).wait()

    def ServerLive(self, request, context):
        return pb.ServerLiveResponse(live=True)

    def ServerReady(self, request, context):
        return pb.ServerReadyResponse(ready=True)

    def ModelReady(self, request, context):
        return pb.ModelReadyResponse(ready=request.name == MODEL_NAME)

    def RepositoryIndex(self, request, context):
        index = pb.RepositoryIndexResponse()
        index.models.add(name=MODEL_NAME, version="1", state="READY")
        return index

    def ModelMetadata(self, request, context):
        self.metadata_questions += 1
        if request.name != MODEL_NAME:
            context.abort(grpc.StatusCode.NOT_FOUND, f"Request for unknown model: '{request.name}' is not found")
        answer = pb.ModelMetadataResponse(name=request.name)
        for kind, tensors in ((answer.inputs, self.inputs), (answer.outputs, OUTPUTS)):
            for tensor in tensors:
                kind.add(name=tensor.name, datatype=tensor.datatype, shape=tensor.dims)
        return answer

    def ModelConfig(self, request, context):
        answer = pb.ModelConfigResponse()
        if self.info is not None:
            answer.config.parameters[MODEL_INFO].string_value = json.dumps({**asdict(self.info), "newer_field": 1})
        return answer

    def ModelStatistics(self, request, context):
        answer = pb.ModelStatisticsResponse()
        answer.model_stats.add(name=request.name, inference_count=len(self.requests))
        return answer

    def ModelStreamInfer(self, request_iterator, context):
        request = next(iter(request_iterator))
        self.requests.append(read_inputs(request))
        behaviour = self.behaviours.pop(0) if len(self.behaviours) > 1 else self.behaviours[0]
        yield from behaviour(self, request, context)
