"""The gateway as OpenAI's own Python client sees it."""

from __future__ import annotations

import asyncio
import time

import openai
import pytest
from support.gateway import PIECES, ScriptedEngine, serving

from llm_workshop.serving.engine import BusyError, EngineError, PromptTooLongError

TEXT = "".join(PIECES)
HELLO = [{"role": "user", "content": "안녕? 👋"}]


def client(url: str, **options) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{url}/v1", api_key=options.pop("api_key", "any"), max_retries=0, timeout=20, **options)


@pytest.fixture
def engine():
    return ScriptedEngine()


@pytest.fixture
def url(engine):
    with serving(engine) as url:
        yield url


def test_models(url):
    [model] = client(url).models.list().data
    assert (model.id, model.object, model.created) == ("tiny", "model", 1795176000)
    assert client(url).models.retrieve("tiny").max_model_len == 256
    with pytest.raises(openai.NotFoundError) as caught:
        client(url).models.retrieve("other/one")
    assert caught.value.code == "model_not_found" and "tiny" in caught.value.message


def test_a_model_name_with_a_slash_can_be_retrieved(engine):
    with serving({"smoke/base-model": engine}) as url:
        assert client(url).models.retrieve("smoke/base-model").id == "smoke/base-model"


def test_a_whole_chat_answer(url, engine):
    answer = client(url).chat.completions.create(model="tiny", messages=HELLO)
    [choice] = answer.choices
    assert (choice.message.role, choice.message.content, choice.finish_reason) == ("assistant", TEXT, "stop")
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens, answer.usage.total_tokens) == (7, 5, 12)
    assert answer.object == "chat.completion" and answer.system_fingerprint == "fp_0123456789ab"
    [(messages, sampling)] = engine.requests
    assert messages == HELLO and sampling.temperature == 1.0 and sampling.max_new_tokens == 256
    assert engine.threads == {"gateway-answer"}


def test_a_streamed_chat_answer(url):
    chunks = list(
        client(url).chat.completions.create(
            model="tiny", messages=HELLO, stream=True, stream_options={"include_usage": True}
        )
    )
    *pieces, last = chunks
    assert all(chunk.object == "chat.completion.chunk" and chunk.usage is None for chunk in pieces)
    assert len({chunk.id for chunk in chunks}) == 1
    assert pieces[0].choices[0].delta.role == "assistant"
    assert [piece.choices[0].delta.content for piece in pieces] == [text for text in PIECES if text] + [None]
    assert [piece.choices[0].finish_reason for piece in pieces] == [None] * 4 + ["stop"]
    assert last.choices == [] and last.usage.total_tokens == 12


def test_the_clients_stream_helper_puts_the_answer_together(url):
    with client(url).chat.completions.stream(model="tiny", messages=HELLO) as stream:
        events = list(stream)
        answer = stream.get_final_completion()
    assert any(event.type == "content.done" for event in events)
    assert answer.choices[0].message.content == TEXT


def test_without_include_usage_no_chunk_speaks_of_it(url):
    chunks = list(client(url).chat.completions.create(model="tiny", messages=HELLO, stream=True))
    assert all(chunk.choices and "usage" not in chunk.model_dump(exclude_unset=True) for chunk in chunks)


def test_usage_is_null_where_the_engine_does_not_count_the_prompt(engine, url):
    engine.n_prompt_tokens = None
    assert client(url).chat.completions.create(model="tiny", messages=HELLO).usage is None


def test_completions_whole_and_streamed(url, engine):
    make = client(url).completions.create
    answer = make(model="tiny", prompt="옛날 옛적에")
    assert (answer.choices[0].text, answer.choices[0].finish_reason, answer.object) == (TEXT, "stop", "text_completion")
    assert "".join(c.choices[0].text for c in make(model="tiny", prompt=["옛날"], stream=True)) == TEXT
    assert [text for text, _ in engine.requests] == ["옛날 옛적에", "옛날"]
    assert engine.requests[0][1].max_new_tokens == 16  # as in OpenAI's reference


def test_length_is_told(engine, url):
    engine.finish_reason = "length"
    assert client(url).chat.completions.create(model="tiny", messages=HELLO).choices[0].finish_reason == "length"


def test_all_sampling_parameters_arrive(url, engine):
    client(url).chat.completions.create(
        model="tiny", messages=HELLO, temperature=0.5, top_p=0.9, max_completion_tokens=9, seed=-1, stop=["끝", "\n\n"],
        frequency_penalty=0.25, presence_penalty=-0.5, n=1, user="me", metadata={"a": "b"}, store=False,
        extra_body={"top_k": 40, "min_p": 0.05, "repetition_penalty": 1.1},
    )  # fmt: skip
    _, s = engine.requests[0]
    assert (s.temperature, s.top_p, s.max_new_tokens, s.seed, s.stop) == (0.5, 0.9, 9, 2**63 - 1, ("끝", "\n\n"))
    assert (s.frequency_penalty, s.presence_penalty, s.top_k, s.min_p, s.repetition_penalty) == (0.25, -0.5, 40, 0.05, 1.1)


def test_values_that_turn_a_parameter_off(url, engine):
    make = client(url).chat.completions.create
    make(model="tiny", messages=HELLO, top_p=1, stop=None, reasoning_effort="none",
         extra_body={"top_k": -1, "min_p": 0, "tools": [], "logit_bias": {}})  # fmt: skip
    make(model="tiny", messages=HELLO, top_p=0, temperature=0, logprobs=False)
    (_, first), (_, second) = engine.requests
    assert (first.top_p, first.top_k, first.min_p, first.stop) == (None, None, None, ())
    assert (second.top_k, second.top_p, second.temperature) == (1, None, 0)  # the smallest nucleus is one token


def test_roles_and_parts(url, engine):
    answer = client(url).chat.completions.create(model="tiny", messages=HELLO).choices[0].message
    messages = [
        {"role": "developer", "content": "짧게."},
        {"role": "system", "content": [{"type": "text", "text": "존댓말"}, {"type": "text", "text": "로."}]},
        *HELLO,
        answer.model_dump(),  # as applications do, with all its empty fields
        {"role": "user", "content": [{"type": "text", "text": "또?"}], "name": "kim"},
    ]
    client(url).chat.completions.create(model="tiny", messages=messages)
    assert engine.requests[-1][0] == [
        {"role": "system", "content": "짧게.\n\n존댓말로."},
        *HELLO,
        {"role": "assistant", "content": TEXT},
        {"role": "user", "content": "또?"},
    ]


def test_dropped_messages_are_told(engine, url):
    engine.dropped = 3
    make = client(url).chat.completions.create
    assert make(model="tiny", messages=HELLO).dropped_messages == 3
    assert next(iter(make(model="tiny", messages=HELLO, stream=True))).dropped_messages == 3


@pytest.mark.parametrize(
    "error, kind, status, code",
    [
        (BusyError("32 wait"), openai.InternalServerError, 503, "busy"),
        (EngineError("no server"), openai.InternalServerError, 503, "engine_unavailable"),
        (PromptTooLongError(500, 128), openai.BadRequestError, 400, "context_length_exceeded"),
        (ValueError("temperature=9"), openai.BadRequestError, 400, "invalid_value"),
        (RuntimeError("secret of ours"), openai.InternalServerError, 500, "internal_error"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_errors_before_the_first_piece_have_their_status(error, kind, status, code, stream):
    with serving(ScriptedEngine(start_error=error)) as url, pytest.raises(kind) as caught:
        client(url).chat.completions.create(model="tiny", messages=HELLO, stream=stream)
    assert (caught.value.status_code, caught.value.code) == (status, code)
    assert ("retry-after" in caught.value.response.headers) == (status == 503)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("error", [EngineError("the server went away"), RuntimeError("secret of ours"), ValueError("odd")])
def test_an_error_in_the_middle_of_a_stream_ends_it(error):
    with serving(ScriptedEngine(["안녕", error])) as url:
        stream = client(url).chat.completions.create(model="tiny", messages=HELLO, stream=True)
        assert next(stream).choices[0].delta.content == "안녕"
        with pytest.raises(openai.APIError) as caught:
            list(stream)
    assert caught.value.body["code"] and "secret" not in str(caught.value)


@pytest.mark.parametrize("finish_reason", [None, "cancelled"])
def test_an_answer_that_the_engine_breaks_off_is_no_answer(finish_reason):
    with serving(ScriptedEngine(finish_reason=finish_reason)) as url:
        with pytest.raises(openai.InternalServerError):
            client(url).chat.completions.create(model="tiny", messages=HELLO)
        with pytest.raises(openai.APIError):
            list(client(url).chat.completions.create(model="tiny", messages=HELLO, stream=True))


def test_an_engine_that_gives_nothing():
    with serving(ScriptedEngine([], finish_reason=None)) as url, pytest.raises(openai.InternalServerError):
        client(url).chat.completions.create(model="tiny", messages=HELLO, stream=True)


def test_a_model_that_cannot_chat_completes_all_the_same():
    with serving(ScriptedEngine(supports_chat=False)) as url:
        with pytest.raises(openai.BadRequestError, match="/v1/completions"):
            client(url).chat.completions.create(model="tiny", messages=HELLO)
        assert client(url).completions.create(model="tiny", prompt="a").choices[0].text == TEXT


def test_keys():
    with serving(ScriptedEngine(), api_key=("first-key", "second-key")) as url:
        for key in ("first-key", "second-key"):
            assert client(url, api_key=key).models.list().data
        for key in ("first-ke", "first-keyx", "none"):
            with pytest.raises(openai.AuthenticationError) as caught:
                client(url, api_key=key).models.list()
            assert caught.value.code == "invalid_api_key" and key not in str(caught.value).split()


def test_the_client_tries_again_when_told_to():
    class BusyOnce(ScriptedEngine):
        def stream(self, messages, sampling):
            if not self.requests:
                self.requests.append(None)
                raise BusyError("just now")
            return super().stream(messages, sampling)

    with serving(BusyOnce()) as url:
        patient = openai.OpenAI(base_url=f"{url}/v1", api_key="any", max_retries=1, timeout=20)
        assert patient.chat.completions.create(model="tiny", messages=HELLO).choices[0].message.content == TEXT


def test_twelve_streams_at_once_do_not_wait_for_each_other():
    """Each takes 0.5 s of waiting: one after another they would take 6 s."""
    engine = ScriptedEngine(["말 "] * 10, seconds=0.05)

    async def one(asker: openai.AsyncOpenAI) -> str:
        stream = await asker.chat.completions.create(model="tiny", messages=HELLO, stream=True)
        return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])

    async def everyone(url: str) -> list[str]:
        async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="any", max_retries=0, timeout=30) as asker:
            return await asyncio.gather(*(one(asker) for _ in range(12)))

    with serving(engine) as url:
        begin = time.perf_counter()
        assert asyncio.run(everyone(url)) == ["말 " * 10] * 12
        assert time.perf_counter() - begin < 4
