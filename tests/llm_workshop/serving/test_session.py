"""What the page does with a message, without a browser."""

from __future__ import annotations

import threading
from itertools import pairwise

import pytest
from fake_engine import ANSWER, FakeEngine

from llm_workshop.serving import words
from llm_workshop.serving.engine import Delta, Sampling
from llm_workshop.serving.session import MAX_CHARACTERS, ChatSession, plain_history, sampling_from_controls
from llm_workshop.serving.words import CHAT, COMPLETE
from llm_workshop.settings import load_settings


@pytest.fixture
def make_session(settings):
    made = []

    def make(engine=None, settings=settings, **options):
        made.append(ChatSession(engine or FakeEngine(seconds_per_token=0, **options), settings))
        return made[-1]

    yield make
    for session in made:
        session.close()


def answer(session, text, history=(), mode=CHAT, sampling=None, tab="tab"):
    return list(session.answer(text, list(history), mode, sampling or Sampling(seed=7), tab))


def test_an_answer_grows_and_ends_with_figures(make_session):
    updates = answer(make_session(FakeEngine(seconds_per_token=0.02)), "안녕?")
    assert updates[0][0] == [{"role": "user", "content": "안녕?"}]
    texts = [shown[1]["content"] for shown, _, _ in updates if len(shown) == 2]
    assert len(texts) > 3 and all(later.startswith(sooner) for sooner, later in pairwise(texts))
    assert texts[-1] == ANSWER
    assert all(part in updates[-1][1] for part in ("첫 토큰", "토큰/초", "시드 7", "종료 토큰에서 멈춤"))


def test_the_engine_is_shown_the_conversation_and_the_system_prompt(make_session):
    engine = FakeEngine(seconds_per_token=0)
    session = make_session(engine, load_settings("smoke", overrides=["chat.system_prompt=친절하게"]))
    first = answer(session, "하나")[-1][0]
    answer(session, "둘", first)
    assert [m["role"] for m in engine.requests[1][0]] == ["system", "user", "assistant", "user"]
    assert engine.requests[1][0][-1]["content"] == "둘"


def test_completion_goes_on_from_the_text_itself(make_session):
    engine = FakeEngine(seconds_per_token=0, answer=" 비가 왔다.")
    shown, _, _ = answer(make_session(engine), "어제는", [{"role": "user", "content": "옛글"}], COMPLETE)[-1]
    assert engine.requests == [("어제는", Sampling(seed=7))]
    assert shown[-1] == {"role": "assistant", "content": "어제는 비가 왔다."} or shown[-1]["content"].startswith("어제는")


@pytest.mark.parametrize(
    "text, notice",
    [("", "입력한 뒤"), (" \n\u200b", "입력한 뒤"), ("가" * (MAX_CHARACTERS + 1), "너무 깁니다"), ("가 " * 300, "문맥보다")],
)
def test_what_cannot_be_sent_ends_in_a_notice_and_leaves_the_conversation(make_session, text, notice):
    before = [{"role": "user", "content": "하나"}, {"role": "assistant", "content": "둘"}]
    shown, line, box = answer(make_session(context_length=100), text, before)[-1]
    assert shown == before and box == text and notice in line and 'role="alert"' in line


def test_dropped_turns_are_told(make_session):
    history = [{"role": "user", "content": "가 " * 60}, {"role": "assistant", "content": "나"}]
    shown, line, _ = answer(make_session(context_length=50), "다", history)[-1]
    assert "오래된 메시지 2개" in line and len(shown) == 4, "the page still shows everything"


def test_stop_keeps_what_was_written(make_session):
    session = make_session(FakeEngine(seconds_per_token=0.05))
    for shown, line, _ in session.answer("안녕?", [], CHAT, Sampling(), "tab"):
        if len(shown) == 2:
            session.stop("tab")
        last_line = line
    assert 0 < len(shown[1]["content"]) < len(ANSWER) and "멈춤" in last_line
    assert session.engine.closed_early == 1 and session._running == {}


def test_a_discarded_answer_ends_in_an_empty_page(make_session):
    session = make_session(FakeEngine(seconds_per_token=0.03))
    views = []
    for view in session.answer("안녕?", [], CHAT, Sampling(), "tab"):
        views.append(view)
        if len(view.history) == 2 and view.history[1]["content"]:
            session.discard("tab", patience=0)
    assert views[-1] == ([], "", None) and len(views) < 10
    assert not session._discarded and not session._running
    session.discard("tab")  # with nothing to discard
    assert answer(session, "다음")[-1].history[-1]["content"] == ANSWER
    assert session.engine.closed_early == 1


def test_an_engine_that_breaks_is_told_and_does_not_break_the_page(make_session, capsys):
    class Broken(FakeEngine):
        def _answer(self, sampling, dropped):
            yield Delta("가", 1)
            raise RuntimeError("out of luck")

    session = make_session(Broken())
    shown, line, box = answer(session, "안녕?")[-1]
    assert shown == [] and box == "안녕?" and "오류가 났습니다" in line
    assert "RuntimeError: out of luck" in capsys.readouterr().err and not session._running


def test_turns_without_an_answer_are_not_shown_to_the_model(make_session):
    engine = FakeEngine(seconds_per_token=0, answer="")
    session = make_session(engine)
    history = answer(session, "하나")[-1].history
    answer(session, "둘", history)
    assert engine.requests[-1][0] == [{"role": "user", "content": "둘"}]


def test_a_closed_tab_frees_the_engine(make_session):
    session = make_session(FakeEngine(seconds_per_token=0.02))
    stream = session.answer("안녕?", [], CHAT, Sampling(), "tab")
    next(stream), next(stream), next(stream)
    stream.close()
    assert answer(session, "다음 사람", tab="other")[-1][0][-1]["content"] == ANSWER
    assert session.engine.closed_early == 1


def test_one_tab_asks_one_thing_at_a_time(make_session):
    session = make_session(FakeEngine(seconds_per_token=0.02))
    stream = session.answer("안녕?", [], CHAT, Sampling(), "tab")
    next(stream), next(stream)
    assert "쓰는 중입니다" in answer(session, "또", [])[-1][1]
    assert len(list(stream)) > 1


def test_the_next_in_line_is_told_that_it_waits(make_session):
    gate = threading.Event()

    class Gated(FakeEngine):
        def _answer(self, sampling, dropped):
            gate.wait(5)
            yield Delta("끝", 1)

    session = make_session(Gated())
    first = session.answer("하나", [], CHAT, Sampling(), "a")
    second = session.answer("둘", [], CHAT, Sampling(), "b")
    next(first), next(second)
    runner = threading.Thread(target=lambda: list(first))
    runner.start()
    while not session._running.get("a"):
        pass
    assert "앞의 답변 1개" in next(second)[1]
    gate.set()
    assert list(second)[-1][0][-1]["content"] == "끝"
    runner.join(5)


def test_no_broken_character_and_no_empty_answer_reaches_the_screen(make_session):
    shown, _, _ = answer(make_session(answer="가\ufffd나"), "x")[-1]
    assert shown[-1]["content"] == "가나"
    shown, _, _ = answer(make_session(answer=""), "x")[-1]
    assert shown[-1]["content"] == words.EMPTY_ANSWER


def test_controls_become_sampling():
    off = sampling_from_controls(0.7, 0, 1, 0, 1, 40, "")
    assert (off.top_k, off.top_p, off.min_p) == (None, None, None) and off.seed is not None
    on = sampling_from_controls(0.5, 20, 0.9, 0.05, 1.2, 40.0, " 3 ")
    assert on == Sampling(40, 0.5, 20, 0.9, 0.05, 1.2, seed=3)
    for bad in ("삼", "-1", "1.5"):
        with pytest.raises(ValueError):
            sampling_from_controls(0.7, 0, 1, 0, 1, 40, bad)


@pytest.mark.parametrize("text", ["<b>굵게</b>", "a < b && c > d", "&lt;b&gt;", "R&D &amp; &#39;", "<|end|>", "<!-- -->"])
def test_markup_is_shown_and_read_back_as_it_was(text):
    shown = words.literal(text)
    assert words.from_literal(shown) == text
    assert "<b>" not in shown and "<!--" not in shown
    assert plain_history([{"role": "user", "content": [{"type": "text", "text": shown}]}])[0]["content"] == text


def test_plain_text_is_copied_as_it_is():
    assert words.literal("3 < 5, R&D, 1 > 0") == "3 < 5, R&D, 1 > 0"


@pytest.mark.parametrize("number, text", [(999, "999"), (5_772_544, "577만"), (124_439_808, "1.24억"), (12_000, "1만")])
def test_numbers_are_read_in_korean(number, text):
    assert words.count(number) == text
