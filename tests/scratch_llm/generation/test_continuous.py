"""Continuous batching: whoever else comes and goes, each request gets the tokens that it gets alone."""

from __future__ import annotations

import dataclasses
import gc
import random
import weakref

import pytest
import torch
from support.tiny_configs import TINY, resized

from scratch_llm.generation import ContinuousBatch, QueueFullError, SamplingConfig, generate_tokens
from scratch_llm.layers.cache import SlotCache
from scratch_llm.models import build_model

GREEDY = SamplingConfig(max_new_tokens=12, temperature=0)
SETTINGS = [
    {"temperature": 0},
    {"temperature": 0, "repetition_penalty": 1.3},
    {"temperature": 1.0},
    {"temperature": 0.9, "top_k": 7},
    {"temperature": 1.1, "top_p": 0.9},
    {"temperature": 1.0, "top_k": 20, "top_p": 0.95, "min_p": 0.05, "repetition_penalty": 1.1},
]


@pytest.fixture(params=TINY, scope="module")
def model(request):
    return lively(TINY[request.param])


@pytest.fixture(scope="module")
def llama():
    return lively(TINY["llama"])


def lively(config):
    """A model with large weights where they can be set, so that it says something else at every step."""
    fields = {field.name for field in dataclasses.fields(config)}
    return build_model(resized(config, init_std=0.2) if "init_std" in fields else config, seed=0).eval()


def run(batch, requests=()):
    """Step until nothing is left; events by request."""
    events = {request: [] for request in requests}
    while not batch.idle:
        for request, token, reason in batch.step():
            events.setdefault(request, []).append((token, reason))
    return events


def random_request(draw: random.Random, longest: int):
    prompt = [draw.randrange(61) for _ in range(draw.choice([1, 2, 3, 3, 3, 8, 20, 33]))]
    sampling = SamplingConfig(
        max_new_tokens=draw.randint(1, min(40, longest - len(prompt))),
        seed=draw.randrange(1000),
        **draw.choice(SETTINGS),
    )
    return prompt, sampling, draw.choice([(), (), (5, 6, 7)])


@pytest.mark.parametrize("seed", [0, 1])
def test_random_arrivals_and_leavings(model, seed):
    """Any architecture, any settings, 30 requests; some are cancelled; the answers are those of each alone."""
    draw = random.Random(seed)
    batch = ContinuousBatch(model, max_rows=draw.choice([5, 8]), max_prefill_tokens=draw.choice([1, 40, 512]))
    arguments, cancelled = {}, set()
    while len(arguments) < 30 or not batch.idle:
        for _ in range(draw.choice([0, 0, 0, 1, 3])):
            if len(arguments) < 30:
                given = random_request(draw, 64)
                arguments[batch.submit(*given)] = given
        unfinished = [request for request in arguments if request.finish_reason is None]
        if unfinished and draw.random() < 0.04:
            cancelled.add(draw.choice(unfinished))
            for request in cancelled:
                batch.cancel(request)
        batch.step()
    for request, (prompt, sampling, stop_ids) in arguments.items():
        alone = generate_tokens(model, prompt, sampling, stop_ids=stop_ids)
        if request in cancelled:
            assert request.finish_reason == "cancelled" and request.tokens == alone[: len(request.tokens)]
        else:
            assert request.tokens == alone
            assert request.finish_reason == ("length" if len(alone) == sampling.max_new_tokens else "stop")
    assert batch.requests_done == 30 and batch.n_active == batch.n_waiting == 0
    assert batch.tokens_made == sum(len(request.tokens) for request in arguments)


def test_events_tell_every_token_and_one_end(llama):
    full = generate_tokens(llama, [1, 2], GREEDY)
    stop = full[6]
    batch = ContinuousBatch(llama)
    requests = [batch.submit([1, 2], GREEDY), batch.submit([1, 2], GREEDY, stop_ids={stop})]
    events = run(batch, requests)
    assert events[requests[0]] == [(token, None) for token in full[:-1]] + [(full[-1], "length")]
    cut = full[: full.index(stop)]
    assert events[requests[1]] == [(token, None) for token in cut] + [(None, "stop")]
    assert requests[1].tokens == cut


def test_eos_of_the_configuration_is_the_default(llama):
    full = generate_tokens(llama, [1, 2], GREEDY)
    twin = build_model(dataclasses.replace(llama.config, eos_token_id=full[4]), seed=0)
    batch = ContinuousBatch(twin)
    request = batch.submit([1, 2], GREEDY)
    run(batch)
    assert request.tokens == full[: full.index(full[4])] and request.finish_reason == "stop"


def test_ids_beyond_the_tokenizer_are_never_chosen(llama):
    batch = ContinuousBatch(llama, n_ids=30)
    request = batch.submit([1], GREEDY)
    run(batch)
    assert request.tokens == generate_tokens(llama, [1], GREEDY, n_ids=30) and max(request.tokens) < 30
    request = batch.submit([1, 50], dataclasses.replace(GREEDY, repetition_penalty=1.2))
    run(batch)
    assert len(request.tokens) == 12 and max(request.tokens) < 30


@pytest.mark.parametrize("seed", [2**63, -(2**63) - 1])
def test_a_seed_beyond_64_bits(seed):
    with pytest.raises(ValueError, match=r"seed is .*: it must be a number of 64 bits"):
        SamplingConfig(seed=seed)


def test_cancel_while_waiting_and_while_running(llama):
    batch = ContinuousBatch(llama, max_rows=1)
    running, waiting, last = (batch.submit([token], GREEDY) for token in (1, 2, 3))
    batch.step()
    batch.cancel(waiting)
    batch.cancel(running)
    assert batch.n_active == 0 and batch.n_waiting == 1 and running.finish_reason == "cancelled"
    batch.cancel(running)
    events = run(batch)
    assert events[waiting] == events[running] == [(None, "cancelled")]
    assert last.tokens == generate_tokens(llama, [3], GREEDY)
    batch.cancel(last)
    assert last.finish_reason == "length" and batch.idle
    assert waiting.first_token_at is None and waiting.queue_seconds > 0
    stranger = ContinuousBatch(llama).submit([1], GREEDY)
    with pytest.raises(ValueError, match="submitted to another batch"):
        batch.cancel(stranger)


def test_queue_full(llama):
    batch = ContinuousBatch(llama, max_rows=2, max_waiting=1)
    for _ in range(3):
        batch.submit([1], GREEDY)
    with pytest.raises(QueueFullError, match="max_waiting allows 1: try again later"):
        batch.submit([1], GREEDY)
    batch.step()
    assert batch.n_active == 2 and batch.n_waiting == 1
    with pytest.raises(QueueFullError, match="2 requests are being answered and 1 wait"):
        batch.submit([1], GREEDY)
    run(batch)
    batch.submit([1], GREEDY)


def test_prompts_of_one_step_are_limited(llama):
    batch = ContinuousBatch(llama, max_prefill_tokens=10)
    for length in (30, 4, 4, 4, 1):
        batch.submit([1] * length, GREEDY)
    admitted = []
    while batch.n_waiting:
        batch.step()
        admitted.append(batch.n_active)
    assert admitted == [1, 3, 5]


def test_times(llama):
    batch = ContinuousBatch(llama, max_rows=1)
    first, second = batch.submit([1], GREEDY), batch.submit([2], GREEDY)
    run(batch)
    for request in (first, second):
        assert request.submitted_at <= request.admitted_at <= request.first_token_at <= request.finished_at
    assert second.queue_seconds > first.queue_seconds and second.admitted_at >= first.finished_at


@pytest.mark.parametrize(
    "prompt, message",
    [
        ([], "the prompt is empty"),
        ([1, 61], r"token id 61 is not in the vocabulary 0\.\.60"),
        ([-1], "token id -1 is not"),
        ([[1], [2]], "a request is one prompt"),
        ([1, 2.5], "token id 2.5 is no whole number"),
        (torch.tensor([1.0]), "token id 1.0 is no whole number"),
        ([1] * 53, "53 tokens of prompt and max_new_tokens of 12 are 65, more than the 64 of a request"),
    ],
)
def test_bad_prompts(llama, prompt, message):
    batch = ContinuousBatch(llama)
    with pytest.raises(ValueError, match=message):
        batch.submit(prompt, GREEDY)
    assert batch.idle


@pytest.mark.parametrize(
    "options, message",
    [
        ({"max_rows": 0}, "max_rows is 0: it must be a whole number of at least 1"),
        ({"max_rows": True}, "max_rows is True"),
        ({"max_waiting": -1}, "max_waiting is -1"),
        ({"max_prefill_tokens": 1.5}, "max_prefill_tokens is 1.5"),
        ({"max_tokens": 65}, "max_tokens is 65: it must be at most the model's context_length, 64"),
        ({"max_tokens": 1}, "max_tokens is 1: it must be a whole number of at least 2"),
    ],
)
def test_bad_options(llama, options, message):
    with pytest.raises(ValueError, match=message):
        ContinuousBatch(llama, **options)


def test_a_recurrent_model_has_no_limit_but_the_one_given():
    model = lively(TINY["mamba"])
    batch = ContinuousBatch(model)
    sampling = dataclasses.replace(GREEDY, max_new_tokens=80)
    request = batch.submit(list(range(60)), sampling)
    run(batch)
    assert request.tokens == generate_tokens(model, list(range(60)), sampling)
    with pytest.raises(ValueError, match="are 140, more than the 100 of a request"):
        ContinuousBatch(model, max_tokens=100).submit(list(range(60)), sampling)


def test_rows_follow_the_active_requests(llama):
    """1, 2, 4, 8 rows; and a text that runs on while others come and go has its slots moved to the front."""
    batch = ContinuousBatch(llama)
    sizes, longest = set(), 0
    first = batch.submit([1], dataclasses.replace(GREEDY, max_new_tokens=60))
    for step in range(300):
        if step % 50 == 20:
            for number in range(7):
                batch.submit([number], dataclasses.replace(GREEDY, max_new_tokens=5 + 3 * number))
        if step % 40 == 10:
            batch.submit([2] * 4, dataclasses.replace(GREEDY, max_new_tokens=60))
        most = min(8, batch.n_active + batch.n_waiting)
        batch.step()
        rows = batch._rows
        assert len(rows.keys) <= 1 << (most - 1).bit_length()
        if rows.cache is not None:
            assert isinstance(rows.cache, SlotCache) and rows.cache.batch_size == len(rows.keys)
            sizes.add(len(rows.keys))
            longest = max(longest, rows.cache.length)
    assert sizes == {1, 2, 4, 8} and longest <= 64 + 16
    assert first.tokens == generate_tokens(llama, [1], first.sampling)


def test_bfloat16_runs(llama):
    half = build_model(llama.config, seed=0).bfloat16()
    batch = ContinuousBatch(half)
    requests = [batch.submit([1] * n, GREEDY) for n in (1, 5, 5, 17, 40)]
    run(batch)
    assert all(len(request.tokens) == 12 for request in requests)


def test_nothing_stays_after_many_requests(llama):
    batch = ContinuousBatch(llama, max_waiting=1000)
    sampling = SamplingConfig(max_new_tokens=2, temperature=0.8, repetition_penalty=1.1, seed=0)
    old = [weakref.ref(batch.submit([number % 61], sampling)) for number in range(1000)]
    n_bytes = 0
    while not batch.idle:
        batch.step()
        cache = batch._rows.cache
        n_bytes = max(n_bytes, 0 if cache is None else cache.n_bytes())
    gc.collect()
    assert not any(reference() for reference in old)
    assert not batch._rows.active and batch.requests_done == 1000
    one = llama.init_cache(8, batch._rows.max_slots)
    assert n_bytes == one.n_bytes()


def test_an_empty_batch_keeps_its_memory_and_nothing_else(model):
    """Alone, in pairs of one length and of two, one after another: the tokens that each gets alone."""
    batch, caches = ContinuousBatch(model), []
    for prompts in ([[5, 6, 7]], [[8]], [[1, 2], [3, 4]], [[9, 8, 7], [6]], [[4, 3], [2, 1]]):
        requests = [batch.submit(prompt, GREEDY, stop_ids=()) for prompt in prompts]
        run(batch)
        caches.append(batch._rows.cache)
        for prompt, request in zip(prompts, requests):
            assert request.tokens == generate_tokens(model, prompt, GREEDY, stop_ids=())
    assert caches[0] is caches[1] is not caches[2]
    assert caches[2] is caches[3] is caches[4]


def test_a_running_batch_leaves_the_global_random_state_alone(llama):
    batch = ContinuousBatch(llama)
    state = torch.get_rng_state()
    batch.submit([1], SamplingConfig(max_new_tokens=3, seed=1))
    run(batch)
    assert torch.equal(torch.get_rng_state(), state)
