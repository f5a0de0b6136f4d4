"""The scratch engine in a real Triton server, over gRPC streams and HTTP."""

from __future__ import annotations

import itertools
import json
import queue
import threading
import time
import urllib.error
import urllib.request

import numpy as np
import pytest
from support.triton_stack import ANSWER, CONTEXT, QUESTION, RHYME, answer_in_process

from llm_workshop.serving.triton.interface import BUSY, INPUTS, MODEL_INFO, MODEL_NAME, PROMPT_TOO_LONG
from scratch_llm.tokenizers import render_chat

pytestmark = pytest.mark.slow
grpc = pytest.importorskip("tritonclient.grpc")
LONG = 3900  # tokens: some two seconds
DTYPES = {"BYTES": np.object_, "BOOL": np.bool_, "INT32": np.int32, "FP32": np.float32, "UINT64": np.uint64}
ALL = {"return_finish_reason": True, "return_stop_reason": True, "return_cumulative_logprob": True,
       "return_num_input_tokens": True, "return_num_output_tokens": True}  # fmt: skip


def client_of(stack):
    return grpc.InferenceServerClient(stack.server.grpc_address, channel_args=[("grpc.enable_http_proxy", 0)])


def tensors(values):
    result = []
    for name, value in values.items():
        kind = next(tensor.datatype for tensor in INPUTS if tensor.name == name)
        value = [v.encode() if isinstance(v, str) else v for v in (value if isinstance(value, (list, tuple)) else [value])]
        array = np.array(value, dtype=DTYPES[kind])
        result.append(grpc.InferInput(name, list(array.shape), kind))
        result[-1].set_data_from_numpy(array)
    return result


class Stream:
    """One request over a gRPC stream; iterating gives (text, {output: value}) until the final flag."""

    def __init__(self, stack, request_id="", **values):
        self.client, self.answers = client_of(stack), queue.Queue()
        self.client.start_stream(lambda result, error: self.answers.put((result, error)))
        self.client.async_stream_infer(
            MODEL_NAME, tensors({"streaming": True} | values), request_id=request_id, enable_empty_final_response=True
        )

    def __iter__(self):
        final = False
        while not final:
            result, error = self.answers.get(timeout=30)
            if error is not None:
                raise error
            response = result.get_response()
            final = response.parameters["triton_final_response"].bool_param
            outputs = {output.name: result.as_numpy(output.name)[0] for output in response.outputs}
            if outputs:
                yield outputs.pop("text_output").decode("utf-8"), outputs
        self.client.stop_stream()

    def vanish(self):
        self.client.stop_stream(cancel_requests=True)


def ask(stack, text, **values):
    """All texts of the responses, and the last outputs."""
    texts, outputs = zip(*Stream(stack, text_input=text, **values))
    return texts, outputs[-1]


def post(stack, path, **values):
    body = json.dumps({"text_input": values.pop("text")} | values).encode()
    request = urllib.request.Request(f"http://{stack.server.http_address}/v2/models/{MODEL_NAME}/{path}", body)
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=30) as answer:
        return answer.read().decode("utf-8")


def metric(stack, name, **labels):
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(
        f"http://{stack.server.metrics_address}/metrics", timeout=5
    ) as answer:
        lines = answer.read().decode().splitlines()
    wanted = [f'{key}="{value}"' for key, value in labels.items()]
    return sum(float(line.split()[-1]) for line in lines if line.startswith(name + "{") and all(w in line for w in wanted))


def eventually(condition, seconds=20):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"not so after {seconds} s"
        time.sleep(0.05)


@pytest.mark.parametrize("sampling", [
    {"temperature": 0}, {"temperature": 1.5, "seed": 3}, {"temperature": 1.2, "top_k": 20, "top_p": 0.9, "seed": 5},
    {"temperature": 1.3, "min_p": 0.02, "repetition_penalty": 1.2, "frequency_penalty": 0.5, "presence_penalty": 0.2, "seed": 7},
])
def test_the_answer_is_that_of_generation_in_process(triton_stack, sampling):
    expected = answer_in_process(triton_stack, "바다는", max_new_tokens=120, **sampling)
    texts, outputs = ask(
        triton_stack, "바다는", sampling_param_max_tokens=120, **{f"sampling_param_{k}": v for k, v in sampling.items()}, **ALL
    )
    assert texts[-1] == expected
    assert all(later.startswith(earlier) for earlier, later in itertools.pairwise(texts)), "each holds the one before"
    assert "\ufffd" not in texts[-1] and len(texts) > 1
    assert outputs["num_output_tokens"] <= 120 and outputs["num_input_tokens"] > 1 and outputs["cumulative_logprob"] < 0


def test_a_chat_is_answered_with_emoji_and_stops(triton_stack):
    prompt = render_chat([{"role": "user", "content": QUESTION}], add_generation_prompt=True)
    texts, outputs = ask(triton_stack, prompt, sampling_param_max_tokens=100, **ALL)
    assert texts[-1] == ANSWER and outputs["finish_reason"] == b"stop" and outputs["stop_reason"] == b"None"
    assert not any("\ufffd" in text for text in texts)


def test_over_http_whole_and_streamed(triton_stack):
    expected = answer_in_process(triton_stack, "바다는", max_new_tokens=60, temperature=0)
    whole = json.loads(post(triton_stack, "generate", text="바다는", sampling_param_max_tokens=60))
    assert whole["text_output"] == expected
    events = post(triton_stack, "generate_stream", text="바다는", sampling_param_max_tokens=60, streaming=True, return_finish_reason=True)
    events = [json.loads(line[6:]) for line in events.splitlines() if line.startswith("data: ")]
    assert events[-1]["text_output"] == expected and events[-1]["finish_reason"] == "length" and len(events) > 1
    assert not any("\ufffd" in event["text_output"] for event in events)


def test_stop_strings_and_the_prompt_in_the_answer(triton_stack):
    texts, outputs = ask(triton_stack, "바다는", sampling_param_max_tokens=200, sampling_param_stop=["꽃이", "🐋 산"], **ALL)
    assert texts[-1] == " 푸르고 🌊 하늘은 높다 " and not any("🐋" in text for text in texts)
    assert outputs["finish_reason"] == b"stop" and outputs["stop_reason"].decode() == "🐋 산"
    texts, _ = ask(triton_stack, "바다는", sampling_param_max_tokens=3, sampling_param_exclude_input_from_output=False)
    assert texts[-1].startswith("바다는 푸")


def test_requests_join_and_leave_and_get_their_own_answers(triton_stack):
    lengths = [3, 200, 40, 90, 7, 130, 64, 20, 11, 150]
    expected = {n: answer_in_process(triton_stack, "산에는", max_new_tokens=n, temperature=0.9, seed=n) for n in lengths}
    got = {}

    def one(n):
        got[n] = ask(triton_stack, "산에는", sampling_param_max_tokens=n, sampling_param_temperature=0.9, sampling_param_seed=n)[0][-1]

    threads = [threading.Thread(target=one, args=(n,)) for n in lengths]
    for thread in threads:
        thread.start()
        time.sleep(0.01)
    for thread in threads:
        thread.join(60)
    assert got == expected


def test_wrong_requests_are_told_why(triton_stack):
    for values, words in [
        ({"sampling_param_temperature": float("nan")}, "temperature=nan"),
        ({"sampling_param_temperature": float("inf")}, "temperature=inf"),
        ({"sampling_param_top_p": 1.5}, "top_p=1.5"),
        ({"sampling_param_max_tokens": 0}, "max_tokens=0"),
        ({"sampling_param_best_of": 2}, "best_of=2"),
        ({"sampling_param_seed": 2**64 - 1}, "seed="),
        ({"sampling_param_stop": [""]}, "stop="),
        ({"text_input": ["하나", "둘"]}, "2 texts"),
        ({"text_input": [b"\xed\x95"]}, "not UTF-8"),
        ({"text_input": "가나 " * 2000}, PROMPT_TOO_LONG),
        ({"stop": True}, "request id"),
    ]:
        with pytest.raises(Exception, match=words) as error:
            ask(triton_stack, **{"text": "바다는"} | {"text" if k == "text_input" else k: v for k, v in values.items()})
        assert "INVALID_ARGUMENT" in str(error.value) or "Invalid" in str(error.value) or error.value.status() is None, values
    with pytest.raises(urllib.error.HTTPError) as error:
        post(triton_stack, "generate", text="바다는 " * 5000)
    assert error.value.code == 400 and f"at most {CONTEXT - 32}" in error.value.read().decode()


def test_a_client_that_vanishes_frees_its_row(triton_stack):
    stream = Stream(triton_stack, text_input=RHYME, sampling_param_max_tokens=LONG)
    next(iter(stream))
    before = metric(triton_stack, "workshop_requests_total", outcome="cancelled")
    stream.vanish()
    eventually(lambda: metric(triton_stack, "workshop_requests_total", outcome="cancelled") > before)
    eventually(lambda: metric(triton_stack, "workshop_requests_running") == 0)


def test_a_request_is_stopped_by_its_id(triton_stack):
    stream = Stream(triton_stack, "mine", text_input=RHYME, sampling_param_max_tokens=LONG, **ALL)
    parts = iter(stream)
    next(parts)
    with pytest.raises(Exception, match="cancelled by client"):
        list(Stream(triton_stack, "mine", text_input="", stop=True))
    *_, (_, outputs) = parts
    assert outputs["finish_reason"] == b"cancelled" and outputs["num_output_tokens"] < LONG


def settled(stack, outcome: str) -> float:
    """How many requests have ended so, once those that earlier tests left behind are counted."""
    for name in ("workshop_requests_running", "workshop_requests_waiting"):
        eventually(lambda name=name: metric(stack, name) == 0)
    count, since = metric(stack, "workshop_requests_total", outcome=outcome), time.monotonic()
    while time.monotonic() - since < 1.5:
        time.sleep(0.1)
        if (now := metric(stack, "workshop_requests_total", outcome=outcome)) != count:
            count, since = now, time.monotonic()
    return count


@pytest.mark.parametrize("way", ["vanishes", "is stopped by its id"])
def test_a_request_that_waits_leaves_the_line_and_disturbs_nobody(triton_stack, way):
    n_rows = triton_stack.artifacts.settings.serving.max_rows
    before = settled(triton_stack, "cancelled")
    streams = [Stream(triton_stack, text_input=RHYME, sampling_param_max_tokens=LONG) for _ in range(n_rows)]
    try:
        eventually(lambda: metric(triton_stack, "workshop_requests_running") == n_rows)
        waits = Stream(triton_stack, "last", text_input=RHYME, sampling_param_max_tokens=LONG, **ALL)
        eventually(lambda: metric(triton_stack, "workshop_requests_waiting") == 1)
        if way == "vanishes":
            waits.vanish()
        else:
            with pytest.raises(Exception, match="cancelled by client"):
                list(Stream(triton_stack, "last", text_input="", stop=True))
            ((text, outputs),) = waits
            assert text == "" and outputs["finish_reason"] == b"cancelled" and outputs["num_output_tokens"] == 0
        eventually(lambda: metric(triton_stack, "workshop_requests_waiting") == 0)
        assert metric(triton_stack, "workshop_requests_total", outcome="cancelled") == before + 1
        assert metric(triton_stack, "workshop_requests_running") == n_rows, "the others go on"
    finally:
        for stream in streams:
            stream.vanish()
    eventually(lambda: metric(triton_stack, "workshop_requests_running") == 0)


def test_more_than_may_wait_are_told_that_the_server_is_busy(triton_stack):
    serving = triton_stack.artifacts.settings.serving
    room = serving.max_rows + serving.max_waiting
    before = settled(triton_stack, "busy")
    stream = Stream(triton_stack, text_input=RHYME, sampling_param_max_tokens=LONG)
    inputs = tensors({"text_input": RHYME, "sampling_param_max_tokens": LONG})
    for _ in range(room + 2):  # without streaming, so that whatever comes soon is a refusal
        stream.client.async_stream_infer(MODEL_NAME, inputs)
    errors = []
    while len(errors) < 3:
        _, error = stream.answers.get(timeout=20)
        if error is not None:
            errors.append(error)
    stream.vanish()
    assert all(BUSY in str(error) for error in errors)
    eventually(lambda: metric(triton_stack, "workshop_requests_total", outcome="busy") == before + 3)
    eventually(lambda: metric(triton_stack, "workshop_requests_waiting") == 0)


def test_facts_and_metrics(triton_stack):
    config = client_of(triton_stack).get_model_config(MODEL_NAME, as_json=True)["config"]
    info = json.loads(config["parameters"][MODEL_INFO]["string_value"])
    assert info["context_length"] == CONTEXT and info["supports_chat"] and info["device"] == "CPU"
    before = metric(triton_stack, "workshop_generated_tokens_total", model=MODEL_NAME)
    ask(triton_stack, "바다는", sampling_param_max_tokens=25)
    eventually(lambda: metric(triton_stack, "workshop_generated_tokens_total", model=MODEL_NAME) == before + 25)
