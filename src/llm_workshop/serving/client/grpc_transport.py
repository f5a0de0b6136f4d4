"""Triton over gRPC: one channel for all threads, and one ModelStreamInfer call for each answer.

tritonclient's InferenceServerClient has one stream, with a thread and a callback, for each client; the generated stub
that it ships is used instead: many streams share a channel, and a response needs no queue.  ModelStreamInfer takes a
stream of requests, and each of our calls sends one: declared as that, it is the same on the wire, but gRPC needs no thread
to read our iterator, which took 0.5 ms of each answer.
"""

from __future__ import annotations

import ipaddress
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import grpc
from tritonclient.grpc import service_pb2, service_pb2_grpc

from llm_workshop.serving.client.errors import WireError
from llm_workshop.serving.client.pieces import Response
from llm_workshop.serving.client.request import Input, Interface, raw_bytes
from llm_workshop.serving.client.watchdog import Timeouts

_STREAM_INFER = "/inference.GRPCInferenceService/ModelStreamInfer"
_NUMBERS = {"INT32": "<i", "INT64": "<q", "UINT32": "<I", "UINT64": "<Q", "FP32": "<f", "FP64": "<d"}


class GrpcStream:
    """One answer on its way: iterate over its responses; ``cancel`` may be called from any thread."""

    def __init__(self, call: Any):
        self._call = call

    def cancel(self) -> None:
        self._call.cancel()

    def __iter__(self) -> Iterator[Response]:
        try:
            for message in self._call:
                if message.error_message:
                    for _ in self._call:  # to its end: cancelling a stream that the server is closing is a race there
                        pass
                    raise WireError(message.error_message, "UNKNOWN")
                if response := _response(message.infer_response):
                    yield response
        except grpc.RpcError as error:
            raise _wire_error(error) from None


class GrpcTransport:
    """The calls that a client needs; every failure is a WireError."""

    def __init__(self, address: str, timeouts: Timeouts):
        self.address, self.where = address, f"{address} (gRPC)"
        self._timeout = timeouts.connect
        self._host, self._port = split_address(address)
        options = [
            ("grpc.max_receive_message_length", -1),
            # A server that was started again should be found at once.
            ("grpc.initial_reconnect_backoff_ms", 100),
            ("grpc.max_reconnect_backoff_ms", 2000),
            # No channel is shared with another client in this process: closing one must not touch the other.
            ("grpc.use_local_subchannel_pool", 1),
        ]
        if is_loopback(self._host):
            options.append(("grpc.enable_http_proxy", 0))
        self._channel = grpc.insecure_channel(address, options=options)
        self._stub = service_pb2_grpc.GRPCInferenceServiceStub(self._channel)
        self._stream_infer = self._channel.unary_stream(
            _STREAM_INFER,
            request_serializer=service_pb2.ModelInferRequest.SerializeToString,
            response_deserializer=service_pb2.ModelStreamInferResponse.FromString,
        )
        self._lock, self._connected = threading.Lock(), False

    def connect(self) -> None:
        """Return when the server answers; a refused connection fails at once, not after gRPC's own patience."""
        with self._lock:
            if self._connected:
                return
            if is_loopback(self._host):  # elsewhere a proxy may be the only way
                try:
                    socket.create_connection((self._host, self._port), self._timeout).close()
                except OSError as error:
                    raise WireError(error.strerror or str(error), "UNAVAILABLE") from None
            with _wire_errors():
                self._stub.ServerLive(service_pb2.ServerLiveRequest(), timeout=self._timeout, wait_for_ready=True)
            self._connected = True

    def lost(self) -> None:
        """The connection is in doubt: the next request looks again."""
        self._connected = False

    def is_ready(self, model: str | None = None) -> bool:
        self.connect()
        with _wire_errors():
            if model is None:
                return self._stub.ServerReady(service_pb2.ServerReadyRequest(), timeout=self._timeout).ready
            return self._stub.ModelReady(service_pb2.ModelReadyRequest(name=model), timeout=self._timeout).ready

    def models(self) -> list[dict[str, str]]:
        self.connect()
        with _wire_errors():
            index = self._stub.RepositoryIndex(service_pb2.RepositoryIndexRequest(), timeout=self._timeout)
        return [{"name": m.name, "version": m.version, "state": m.state, "reason": m.reason} for m in index.models]

    def interface(self, model: str) -> Interface:
        self.connect()
        with _wire_errors():
            answer = self._stub.ModelMetadata(service_pb2.ModelMetadataRequest(name=model), timeout=self._timeout)
        inputs = {tensor.name: Input(tensor.datatype, len(tensor.shape)) for tensor in answer.inputs}
        return Interface(inputs, frozenset(tensor.name for tensor in answer.outputs))

    def parameters(self, model: str) -> dict[str, str]:
        self.connect()
        with _wire_errors():
            answer = self._stub.ModelConfig(service_pb2.ModelConfigRequest(name=model), timeout=self._timeout)
        return {name: value.string_value for name, value in answer.config.parameters.items()}

    def statistics(self, model: str) -> dict[str, Any]:
        """Triton's own counters of the model, in its JSON form."""
        from google.protobuf.json_format import MessageToDict

        self.connect()
        with _wire_errors():
            answer = self._stub.ModelStatistics(service_pb2.ModelStatisticsRequest(name=model), timeout=self._timeout)
        return MessageToDict(answer, preserving_proto_field_name=True)["model_stats"][0]

    def stream(self, model: str, values: dict[str, Any], interface: Interface, request_id: str) -> GrpcStream:
        # Without the header "triton_grpc_error", which would give errors their codes: with it, Triton 2.51 dies (SIGSEGV)
        # under many refused and cancelled streams.  Our errors are told apart by how they begin.
        return GrpcStream(self._stream_infer(infer_request(model, values, interface, request_id)))

    def close(self) -> None:
        self._channel.close()


def infer_request(model: str, values: dict[str, Any], interface: Interface, request_id: str) -> Any:
    """The protocol's message for the inputs ``values``."""
    request = service_pb2.ModelInferRequest(model_name=model, id=request_id)
    for name, value in values.items():
        datatype, n_dims = interface.inputs[name]
        count, contents = raw_bytes(value, datatype)
        request.inputs.add(name=name, datatype=datatype, shape=[*[1] * (n_dims - 1), count])
        request.raw_input_contents.append(contents)
    return request


def split_address(address: str) -> tuple[str, int]:
    """("host", port) of "host:port" or "[::1]:port"; ValueError for anything else."""
    host, _, port = address.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not host or not port.isdecimal() or not 1 <= int(port) <= 65535:
        raise ValueError(f"{address!r} is no address of a server: use HOST:PORT, such as 127.0.0.1:8001")
    return host, int(port)


def is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _response(message: Any) -> Response | None:
    contents = message.raw_output_contents
    if not contents:
        return None
    values = {
        output.name: _value(output.datatype, raw) for output, raw in zip(message.outputs, contents) if raw
    }
    if "text_output" not in values:
        return None
    return response_of(values)


def response_of(values: dict[str, Any]) -> Response:
    """A Response from outputs by name, whatever protocol they came by."""
    reason = values.get("finish_reason")
    return Response(
        values["text_output"],
        reason.decode("utf-8", "replace") if isinstance(reason, bytes) else reason,
        values.get("cumulative_logprob"),
        values.get("num_input_tokens"),
        values.get("num_output_tokens"),
    )


def _value(datatype: str, raw: bytes) -> Any:
    """The first element of a tensor; these outputs have one."""
    if datatype == "BYTES":
        return raw[4 : 4 + int.from_bytes(raw[:4], "little")]
    return struct.unpack_from(_NUMBERS[datatype], raw)[0] if datatype in _NUMBERS else None


@contextmanager
def _wire_errors() -> Iterator[None]:
    try:
        yield
    except grpc.RpcError as error:
        raise _wire_error(error) from None


def _wire_error(error: grpc.RpcError) -> WireError:
    code = error.code()
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return WireError("no answer to gRPC in time: is this the port of gRPC?", "UNAVAILABLE")
    return WireError(error.details() or str(code), code.name if code else None)


