"""Cleaning typed text and trimming conversations."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_workshop.serving.conversation import check_messages, clean, content_text, fit_messages
from llm_workshop.serving.engine import PromptTooLongError


def words(messages):
    return sum(len(message["content"].split()) for message in messages)


def turns(*texts, system=None):
    roles = ["user", "assistant"] * len(texts)
    messages = [{"role": role, "content": text} for role, text in zip(roles, texts)]
    return [{"role": "system", "content": system}, *messages] if system else messages


@pytest.mark.parametrize(
    "typed, cleaned",
    [
        ("  안녕\r\n하세요\r", "안녕\n하세요"),
        ("한글", "한글"),  # NFD, as macOS types file names
        ("가\x00나\x1b[31m", "가나[31m"),
        ("가\ufffd나\u200b다\ufeff", "가나다"),
        ("반쪽 \ud83d 글자", "반쪽  글자"),
        ("👩‍👩‍👧 ☕️", "👩‍👩‍👧 ☕️"),
        ("\t표\t", "표"),
        (None, ""),
        ("\u202e거꾸로", "거꾸로"),
    ],
)
def test_clean(typed, cleaned):
    assert clean(typed) == cleaned


@given(st.text(st.characters(exclude_categories=())))
def test_clean_always_gives_sendable_text(text):
    cleaned = clean(text)
    cleaned.encode("utf-8")
    assert "\ufffd" not in cleaned and clean(cleaned) == cleaned


def test_content_text_reads_what_gradio_makes_of_messages():
    assert content_text("글") == "글"
    assert content_text([{"type": "text", "text": "가"}, {"type": "text", "text": "나"}]) == "가나"
    assert content_text(None) == "" and content_text({"type": "file"}) == ""


def test_everything_stays_when_it_fits():
    messages = turns("하나", "둘", "셋")
    assert fit_messages(messages, words, 3) == (messages, 0)


def test_oldest_turns_go_first_and_a_user_turn_is_first():
    messages = turns("a a a", "b", "c c", "d", "e")
    assert fit_messages(messages, words, 7) == (messages[2:], 2)
    assert fit_messages(messages, words, 4) == (messages[2:], 2)
    assert fit_messages(messages, words, 3) == (messages[4:], 4)


def test_the_system_turn_stays():
    messages = turns("a a a", "b", "c", system="s s")
    kept, dropped = fit_messages(messages, words, 3)
    assert kept == [messages[0], messages[3]] and dropped == 2


def test_max_turns_limits_the_users_turns():
    messages = turns("a", "b", "c", "d", "e")
    assert fit_messages(messages, words, 100, max_turns=2) == (messages[2:], 2)


def test_a_message_longer_than_the_context_is_refused():
    with pytest.raises(PromptTooLongError, match="5 tokens, at most 4 fit") as caught:
        fit_messages(turns("a", "b", "c c c c c"), words, 4)
    assert (caught.value.n_tokens, caught.value.limit) == (5, 4)


@given(st.lists(st.integers(1, 9), min_size=1, max_size=9).filter(lambda n: len(n) % 2), st.integers(9, 60))
def test_the_longest_fitting_tail_is_kept(lengths, limit):
    messages = turns(*["w " * n for n in lengths])
    kept, dropped = fit_messages(messages, words, limit)
    assert kept == messages[dropped:] and dropped % 2 == 0 and words(kept) <= limit
    assert dropped == 0 or words(messages[dropped - 2 :]) > limit


@pytest.mark.parametrize(
    "messages, message",
    [
        ([], "at least one"),
        ([{"role": "robot", "content": "x"}], "'robot'"),
        ([{"role": "user", "content": "x"}, {"role": "system", "content": "y"}], "only the first"),
        ([{"role": "user", "content": None}], "no text"),
        ([{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}], "from 'user'"),
    ],
)
def test_conversations_no_template_can_render_are_refused(messages, message):
    with pytest.raises(ValueError, match=message):
        check_messages(messages)
