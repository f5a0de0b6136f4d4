"""TritonClient against a server that fails in every way we know of."""

from __future__ import annotations

import itertools
import socket
import threading
import time

import grpc
import pytest
from support.fake_triton import INFO, FakeTriton, fails, outputs, when_ended, words

from llm_workshop.serving.client import Retry, Timeouts, TritonClient, UnreachableError
from llm_workshop.serving.client.watchdog import Watchdog
from llm_workshop.serving.engine import BusyError, EngineError, PromptTooLongError, Sampling
from llm_workshop.serving.triton.interface import INPUTS

BUSY = fails("busy: 8 requests run and 32 wait", grpc.StatusCode.UNAVAILABLE)


def text_of(answer):
    return "".join(delta.text for delta in answer)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_pieces_figures_and_the_reason(connect):
    with FakeTriton(words("안녕", "하세", "요!", reason="length")) as fake:
        answer = connect(fake).generate("가", Sampling(max_new_tokens=3))
        deltas = list(answer)
    assert [d.text for d in deltas] == ["안녕", "하세", "요!"] and [d.n_tokens for d in deltas] == [1, 1, 1]
    assert [d.finish_reason for d in deltas] == [None, None, "length"]
    assert (answer.n_tokens, answer.n_prompt_tokens, answer.finish_reason, answer.retries) == (3, 7, "length", 0)
    assert 0 < answer.timing.time_to_first_token <= answer.timing.seconds


def test_only_what_was_set_and_what_the_model_has_is_sent(connect):
    with FakeTriton(words("네.")) as fake:
        client = connect(fake)
        list(client.generate("가", Sampling(max_new_tokens=5, temperature=0)))
        list(client.generate("나", Sampling(9, 0.5, top_k=3, top_p=0.5, min_p=0.25, repetition_penalty=1.5,
                                            frequency_penalty=0.5, presence_penalty=-0.5, stop=("끝", "\n"), seed=2**63 - 1)))  # fmt: skip
        assert fake.metadata_questions == 1, "what the model has is asked once"
    always = {"streaming": True, "sampling_param_exclude_input_from_output": True, "return_finish_reason": True,
              "return_num_input_tokens": True, "return_num_output_tokens": True}  # fmt: skip
    p = "sampling_param_"
    assert fake.requests[0] == {"text_input": "가", p + "max_tokens": 5, p + "temperature": 0.0, **always}
    assert fake.requests[1] == {
        "text_input": "나", p + "max_tokens": 9, p + "temperature": 0.5, p + "top_k": 3, p + "top_p": 0.5, p + "min_p": 0.25,
        p + "repetition_penalty": 1.5, p + "frequency_penalty": 0.5, p + "presence_penalty": -0.5, p + "stop": ["끝", "\n"],
        p + "seed": 2**63 - 1, **always,
    }  # fmt: skip


def test_a_draw_without_a_seed_gets_a_fresh_one(connect):
    with FakeTriton(words("네.")) as fake:
        client = connect(fake)
        answers = [client.generate("가", Sampling(temperature=1.0)) for _ in range(2)]
        for answer in answers:
            list(answer)
    sent = [request["sampling_param_seed"] for request in fake.requests]
    assert sent == [answer.seed for answer in answers] and len(set(sent)) == 2


def test_a_foreign_server_without_our_extensions(connect):
    with FakeTriton(
        lambda *_: (outputs(text_output=text) for text in ("하나", "하나 둘", "하나 둘 셋")), extensions=False
    ) as fake:
        client = connect(fake)
        answer = client.generate("가", Sampling(max_new_tokens=3))
        assert text_of(answer) == "하나 둘 셋"
        assert answer.n_tokens == 3 and answer.finish_reason == "length", "a token a response"
        assert {name for name in fake.requests[0] if name.startswith("return_num")} == set()
        for setting in ({"min_p": 0.1}, {"repetition_penalty": 1.2}):
            with pytest.raises(ValueError, match=rf"{next(iter(setting))}=.*has no input for it.*leave .* out"):
                list(client.generate("가", Sampling(**setting)))
    assert len(fake.requests) == 1, "nothing was sent that the server would refuse"


def test_a_seed_that_was_asked_for_is_missed_and_one_that_was_not_is_left_out(connect):
    fake = FakeTriton(words("네."))
    fake.inputs = [tensor for tensor in INPUTS if tensor.name != "sampling_param_seed"]
    with fake:
        client = connect(fake)
        assert text_of(client.generate("가")) == "네."
        with pytest.raises(ValueError, match="seed=5"):
            list(client.generate("가", Sampling(seed=5)))


def test_a_batch_dimension_is_filled(connect):
    fake = FakeTriton(words("네."))
    fake.inputs = [tensor._replace(dims=(-1, *tensor.dims)) for tensor in INPUTS]
    with fake:
        assert text_of(connect(fake).generate("가", Sampling(stop=("a", "b")))) == "네."


def test_hangul_cut_by_the_server_is_never_shown_broken(connect):
    whole = "밝은 한글😀!".encode()
    cut = [outputs(text_output=whole[:n]) for n in range(1, len(whole) + 1)]
    with FakeTriton(lambda *_: iter(cut)) as fake:
        deltas = list(connect(fake).generate("가"))
    assert "".join(d.text for d in deltas) == "밝은 한글😀!"
    assert all("\ufffd" not in d.text and not any("\ud800" <= c <= "\udfff" for c in d.text) for d in deltas)


def test_busy_twice_then_fine(connect):
    with FakeTriton(BUSY, BUSY, words("네.")) as fake:
        answer = connect(fake).generate("가")
        assert text_of(answer) == "네." and answer.retries == 2
    assert len(fake.requests) == 3


def test_always_busy_ends_after_the_last_attempt(connect):
    with FakeTriton(BUSY) as fake, pytest.raises(BusyError, match=r"8 requests run.*again in a moment"):
        list(connect(fake, retry=Retry(3, 0.01, 0.02)).generate("가"))
    assert len(fake.requests) == 3


def test_busy_as_a_message_of_an_older_server(connect):
    def old(*_):
        from tritonclient.grpc import service_pb2 as pb

        yield pb.ModelStreamInferResponse(error_message="busy: too many wait")

    with FakeTriton(old, words("네.")) as fake:
        assert text_of(connect(fake).generate("가")) == "네."


def test_a_started_answer_is_never_repeated(connect):
    with FakeTriton(fails("Socket closed", grpc.StatusCode.UNAVAILABLE, after=("안녕",)), words("두 번째")) as fake:
        answer, shown = connect(fake).generate("가"), []
        with pytest.raises(EngineError, match=rf"{fake.port}.*in the middle of the answer.*ask again"):
            shown.extend(delta.text for delta in answer)
    assert len(fake.requests) == 1


def test_the_server_dies_in_the_middle(connect):
    def dies(server, request, context):
        yield outputs(text_output="안녕")
        threading.Thread(target=server.server.stop, args=(0,)).start()
        server.release.wait(10)

    with FakeTriton(dies) as fake:
        answer = connect(fake).generate("가")
        assert next(answer).text == "안녕"
        with pytest.raises(EngineError, match="in the middle"):
            list(answer)


def test_a_server_started_again_is_found(connect):
    with FakeTriton(words("하나")) as first:
        client = connect(first)
        assert text_of(client.generate("가")) == "하나" and client.is_ready()
    assert not client.is_ready()
    with pytest.raises(UnreachableError, match=r"no server can be reached at .*make serve"):
        list(client.generate("가"))
    second = FakeTriton(words("둘"), port=first.port, extensions=False)
    with second:
        assert text_of(client.generate("가")) == "둘"
        with pytest.raises(ValueError, match="min_p"):  # the new server's inputs were asked for
            list(client.generate("가", Sampling(min_p=0.1)))


def test_nobody_listens():
    port = free_port()
    with TritonClient(f"127.0.0.1:{port}", None, retry=Retry(2, 0.01, 0.01)) as client:
        assert not client.is_live() and not client.is_ready()
        for question in (client.models, client.statistics, client.info, lambda: next(client.generate("가"))):
            with pytest.raises(UnreachableError, match=rf"127.0.0.1:{port} .*Connection refused.*make serve"):
                question()


def test_a_port_that_is_not_grpc_is_told_in_time():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        with TritonClient(address, None, timeouts=Timeouts(connect=0.5), retry=Retry(1)) as client:
            began = time.monotonic()
            with pytest.raises(UnreachableError, match="is this the port of gRPC"):
                next(client.generate("가"))
            assert time.monotonic() - began < 3


@pytest.mark.parametrize(
    ("timeouts", "behaviour", "message"),
    [
        (Timeouts(first_token=0.2), words("늦은", pause=30), r"no first token came in 0.2 s from 127"),
        (Timeouts(between_tokens=0.2), words(*"가나다라", pause=0.05), None),
        (Timeouts(total=0.3), words(*"가나다라마바사아", pause=0.1), r"not complete after 0.3 s"),
    ],
)
def test_time_limits(connect, timeouts, behaviour, message):
    def slow(server, request, context):
        when_ended(context, server.release)
        yield from behaviour(server, request, context)

    with FakeTriton(slow) as fake:
        if message is None:
            assert text_of(connect(fake, timeouts=timeouts).generate("가")) == "가나다라"
        else:
            with pytest.raises(EngineError, match=message):
                list(connect(fake, timeouts=timeouts).generate("가"))
            assert fake.release.wait(5), "the server was told to stop"
            assert len(fake.requests) == 1, "a slow server gets no more work"


def test_a_server_that_hangs_after_the_first_token(connect):
    def hangs(server, request, context):
        yield outputs(text_output="안")
        server.release.wait(30)

    with FakeTriton(hangs) as fake:
        answer = connect(fake, timeouts=Timeouts(between_tokens=0.2)).generate("가")
        assert next(answer).text == "안"
        time.sleep(0.5)  # a slow reader: that is not the server's time
        with pytest.raises(EngineError, match=r"no further token came for 0.2 s"):
            next(answer)


@pytest.mark.parametrize("timeout", [{"connect": None}, {"connect": 0}, {"first_token": -1}, {"total": True}, {"total": "9"}])
def test_impossible_time_limits(timeout):
    with pytest.raises(ValueError, match="use a number of seconds above 0"):
        Timeouts(**timeout)


def endless(server, request, context):
    when_ended(context, server.cancelled)
    for number in itertools.count(1):
        if server.release.wait(0.02):
            return
        yield outputs(text_output="가" * number, num_output_tokens=number)


def test_closing_cancels_on_the_server(connect):
    with FakeTriton(endless) as fake:
        answer = connect(fake).generate("가")
        next(answer)
        answer.close()
        assert fake.cancelled.wait(5)
        assert list(answer) == []


def test_another_thread_cancels(connect):
    with FakeTriton(endless) as fake:
        answer = connect(fake).generate("가", Sampling(max_new_tokens=10_000))
        threading.Timer(0.2, answer.cancel).start()
        deltas = list(answer)
        assert deltas[-1].finish_reason == "cancelled" == answer.finish_reason and deltas[0].text == "가"
        assert fake.cancelled.wait(5)


def test_cancelled_before_the_first_token_and_between_attempts(connect):
    def silent(server, request, context):
        when_ended(context, server.release)
        server.release.wait(30)
        yield from ()

    with FakeTriton(silent) as fake:
        answer = connect(fake).generate("가")
        threading.Timer(0.2, answer.close).start()  # close from another thread is a cancel
        assert [d.finish_reason for d in answer] == ["cancelled"]
    with FakeTriton(BUSY) as fake:
        answer = connect(fake, retry=Retry(5, 20, 20)).generate("가")
        threading.Timer(0.2, answer.cancel).start()
        assert [d.finish_reason for d in answer] == ["cancelled"]


@pytest.mark.parametrize("when", ["before", "after"])
def test_ctrl_c_between_the_request_and_the_first_token(connect, monkeypatch, when):
    def interrupted(watchdog, watch, add=Watchdog.add):
        if when == "after":
            add(watchdog, watch)
        raise KeyboardInterrupt

    monkeypatch.setattr(Watchdog, "add", interrupted)
    with FakeTriton(endless) as fake:
        client = connect(fake)
        with pytest.raises(KeyboardInterrupt):
            next(client.generate("가"))
        assert fake.cancelled.wait(5) or not fake.requests, "nobody waits for this answer"
        assert not client._watchdog._watches


@pytest.mark.parametrize("wrapped", ["{}", "Failed to process the request(s) for model 'x', message: {}"])
def test_a_prompt_that_is_too_long_has_both_numbers(connect, wrapped):
    message = wrapped.format("prompt too long: 300 tokens, at most 96")
    with FakeTriton(fails(message, grpc.StatusCode.INVALID_ARGUMENT)) as fake, pytest.raises(PromptTooLongError) as caught:
        list(connect(fake).generate("가"))
    assert (caught.value.n_tokens, caught.value.limit) == (300, 96) and len(fake.requests) == 1


def test_other_errors_of_the_server(connect):
    with FakeTriton(fails("top_k must be positive", grpc.StatusCode.INVALID_ARGUMENT)) as fake:
        with pytest.raises(ValueError, match="refused the request: top_k must be positive"):
            list(connect(fake).generate("가"))
        with pytest.raises(EngineError, match=r"no model 'other' is ready at .*'other' is not found"):
            list(connect(fake, model="other").generate("가"))
        assert not connect(fake, model="other").is_ready()
    with FakeTriton(fails("out of memory", grpc.StatusCode.INTERNAL)) as fake:
        with pytest.raises(EngineError, match=r"failed .INTERNAL: out of memory.*log"):
            list(connect(fake).generate("가"))
        assert len(fake.requests) == 1


def test_questions_about_the_server(connect):
    with FakeTriton(words("네.")) as fake:
        client = connect(fake)
        assert client.protocol is None and client.is_live() and client.is_ready() and client.protocol == "grpc"
        assert client.info() == INFO and client.info() is client.info()
        assert client.models() == [{"name": "tensorrt_llm", "version": "1", "state": "READY", "reason": ""}]
        list(client.generate("가"))
        assert client.statistics()["inference_count"] == "1"
    with FakeTriton(words("네."), info=None) as fake, pytest.raises(ValueError, match="no model_info in its configuration"):
        connect(fake).info()


def test_many_answers_at_once_over_one_client(connect):
    with FakeTriton(words(*"가나다라마바사", pause=0.01)) as fake:
        client, texts = connect(fake), []
        threads = [threading.Thread(target=lambda: texts.append(text_of(client.generate("가")))) for _ in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
    assert texts == ["가나다라마바사"] * 20


def test_no_proxy_is_asked_for_this_machine(connect, monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "grpc_proxy", "all_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{free_port()}")
    for name in ("no_proxy", "NO_PROXY", "no_grpc_proxy"):
        monkeypatch.delenv(name, raising=False)
    with FakeTriton(words("네.")) as fake:
        assert text_of(connect(fake).generate("가")) == "네."


@pytest.mark.parametrize("url", ["ftp://a:1", "nohost", "a:99999", "http://a", ":8001"])
def test_addresses_that_are_none(url):
    with pytest.raises(ValueError, match=r"use (HOST:PORT|.*grpc://)"):
        TritonClient.from_url(url)


def test_addresses_that_are():
    assert TritonClient.from_url("grpc://[::1]:8001").where == "[::1]:8001 (gRPC)"
    assert TritonClient.from_url("localhost:8001").where == "localhost:8001 (gRPC)"
    assert TritonClient.from_url("http://localhost:8000/").where == "localhost:8000 (HTTP)"
    with pytest.raises(ValueError, match="protocol='udp'"):
        TritonClient(protocol="udp")
    with pytest.raises(ValueError, match="attempts"):
        Retry(attempts=0)


def test_waits_grow_and_differ():
    retry = Retry(9, 0.1, 1.0)
    assert all(0.05 <= retry.wait(0) <= 0.1 and 0.5 <= retry.wait(20) <= 1.0 for _ in range(50))
    assert len({retry.wait(3) for _ in range(10)}) > 1
