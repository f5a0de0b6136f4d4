"""Text in, text out: stop strings, streaming, Hangul, batches."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scratch_llm.generation import Generator, SamplingConfig, StopStringFilter
from scratch_llm.models import LlamaConfig, build_model
from scratch_llm.tokenizers import SPECIAL_TOKENS, ByteLevelBPE

TEXT = "옛날 옛적에 호랑이가 살았습니다. 호랑이는 떡을 좋아했습니다. once upon a time 🐯 " * 5


@pytest.fixture(scope="module")
def tokenizer():
    return ByteLevelBPE.train([TEXT], 300, SPECIAL_TOKENS)


def generator_for(tokenizer, **options):
    end = tokenizer.eos_id
    config = LlamaConfig(
        vocab_size=tokenizer.vocab_size, context_length=32, n_layers=2, n_heads=2, d_model=32, d_ff=48, init_std=0.3,
        bos_token_id=end, eos_token_id=end,
    )  # fmt: skip
    return Generator(build_model(config, seed=0), tokenizer, **options)


@pytest.fixture(scope="module")
def generator(tokenizer):
    return generator_for(tokenizer)


# -- stop strings ---------------------------------------------------------------------------------------


@given(
    st.text("abc", max_size=30), st.lists(st.text("abc", min_size=1, max_size=4), max_size=3), st.randoms()
)
def test_filter_equals_cutting_the_whole_text(text, stop, random):
    """However the text is split into pieces, what comes out is the text before the first stop string."""
    filter_, out, rest = StopStringFilter(stop), "", text
    while rest and not filter_.stopped:
        length = random.randint(1, 4)
        out += filter_.push(rest[:length])
        rest = rest[length:]
        # Nothing that is out already may turn out to belong to a stop string.
        assert not any(stopper in out for stopper in stop)
    stopped = filter_.stopped
    out += filter_.flush()
    # The first stop string to be complete decides; of those, the one that begins earliest.
    ends = [text.find(one) + len(one) for one in stop if one in text]
    assert stopped == bool(ends)
    if stopped:
        assert not any(stopper in out for stopper in stop)
        assert text.startswith(out) and any(text[len(out) :].startswith(one) for one in stop)
    else:
        assert out == text


def test_filter_holds_back_no_more_than_needed():
    filter_ = StopStringFilter(["<|end|>"])
    assert filter_.push("안녕 <") == "안녕 "
    assert filter_.push("|e") == ""
    assert filter_.push("x") == "<|ex"
    assert filter_.push("<|end|>뒤") == "" and filter_.stopped
    assert filter_.push("more") == "" and filter_.flush() == ""


def test_stop_string_never_leaks(generator):
    sampling = SamplingConfig(max_new_tokens=80, temperature=1.0, seed=3)
    whole = generator.generate("옛날", sampling)
    assert len(whole) > 20
    stop = whole[10:13]
    cut = whole[: whole.find(stop)]
    with_stop = SamplingConfig(max_new_tokens=80, temperature=1.0, seed=3, stop=(stop,))
    assert generator.generate("옛날", with_stop) == cut
    pieces = list(generator.stream("옛날", with_stop))
    assert "".join(pieces) == cut
    assert all(cut.startswith("".join(pieces[: n + 1])) for n in range(len(pieces)))


# -- text -------------------------------------------------------------------------------------------------


def test_stream_joins_to_generate_and_shows_no_broken_character(generator):
    for seed in range(5):
        sampling = SamplingConfig(max_new_tokens=60, temperature=1.5, seed=seed)
        pieces = list(generator.stream("호랑이", sampling))
        assert all(pieces) and "".join(pieces) == generator.generate("호랑이", sampling)
        assert "\ufffd" not in "".join(pieces)


def test_batch_equals_one_by_one(generator):
    prompts = ["옛날", "호랑이는 떡을 좋아했습니다. 그래서", "a", ""]
    greedy = SamplingConfig(max_new_tokens=50, temperature=0)
    assert generator.generate(prompts, greedy) == [generator.generate(prompt, greedy) for prompt in prompts]
    stop = generator.generate(prompts[0], greedy)[4:6]
    stopping = SamplingConfig(max_new_tokens=50, temperature=0, stop=(stop,))
    assert generator.generate(prompts, stopping) == [
        generator.generate(prompt, stopping) for prompt in prompts
    ]


def test_token_ids_are_taken_as_they_are(generator, tokenizer):
    greedy = SamplingConfig(max_new_tokens=20, temperature=0)
    ids = [tokenizer.eos_id, *tokenizer.encode("옛날", allow_special=False)]
    assert generator.encode_prompt("옛날") == ids
    assert "".join(generator.stream(ids, greedy)) == generator.generate("옛날", greedy)


def test_special_tokens_in_a_prompt_are_plain_text_unless_allowed(generator, tokenizer):
    user = tokenizer.token_to_id("<|user|>")
    assert user not in generator.encode_prompt("<|user|>")
    assert user in generator.encode_prompt("<|user|>", allow_special=True)


def test_generation_ends_at_eos_and_at_the_end_of_a_turn(generator, tokenizer):
    assert generator.stop_ids == {tokenizer.eos_id, tokenizer.token_to_id("<|end|>")}
    assert generator_for(tokenizer, stop_ids=[5]).stop_ids == {5}


def test_special_tokens_are_not_text_but_can_stop(generator, tokenizer, monkeypatch):
    """A model that says "옛", <|user|>, "날": the special token is left out, and stops where it is asked to."""
    ids = [*tokenizer.encode("옛"), tokenizer.token_to_id("<|user|>"), *tokenizer.encode("날")]

    def say(self):
        for token in ids:
            if token in self.stop_ids:
                return
            yield [token]

    monkeypatch.setattr("scratch_llm.generation.tokens.TokenStream.__iter__", say)
    assert generator.generate("a") == "옛날"
    assert generator.generate("a", SamplingConfig(stop=("<|user|>",))) == "옛"


def test_empty_prompt(generator, tokenizer):
    assert generator.generate("", SamplingConfig(max_new_tokens=5, temperature=0)) is not None
    with pytest.raises(ValueError, match="the prompt is empty and the model has no bos_token_id"):
        generator_for(tokenizer, add_bos=False).generate("")


def test_tokenizer_of_another_model_is_refused(tokenizer):
    config = LlamaConfig(
        vocab_size=tokenizer.vocab_size - 1, context_length=8, n_layers=1, n_heads=1, d_model=8
    )
    with pytest.raises(ValueError, match=r"the tokenizer has \d+ tokens, the model \d+.*trained with"):
        Generator(build_model(config), tokenizer)
