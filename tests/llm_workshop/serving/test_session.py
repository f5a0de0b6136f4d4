"""What the page does with a message, without a browser."""

from __future__ import annotations

import dataclasses
import re
import threading
import time
from itertools import pairwise

import pytest
from fake_engine import ANSWER, FakeEngine

from llm_workshop.serving import words
from llm_workshop.serving.engine import BusyError, Delta, EngineError, Sampling
from llm_workshop.serving.feedback.rating import store_rating
from llm_workshop.serving.feedback.store import FeedbackStore
from llm_workshop.serving.session import MAX_CHARACTERS, ChatSession, Draft
from llm_workshop.serving.turns import sampling_from_controls, turns_of
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


def engine_of(session):
    return session.backends[session.models[0]].engine


def test_an_answer_grows_and_ends_with_figures(make_session):
    updates = answer(make_session(FakeEngine(seconds_per_token=0.02)), "안녕?")
    assert updates[0][0] == [{"role": "user", "content": "안녕?"}]
    texts = [shown[1]["content"] for shown, *_ in updates if len(shown) == 2]
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
    shown, *_ = answer(make_session(engine), "어제는", [{"role": "user", "content": "옛글"}], COMPLETE)[-1]
    assert engine.requests == [("어제는", Sampling(seed=7))]
    # The fake engine writes from the first word on.
    assert shown[-1]["content"] == "어제는비가 왔다." and shown[-1]["given"] == 3


@pytest.mark.parametrize(
    "text, notice",
    [("", "입력한 뒤"), (" \n\u200b", "입력한 뒤"), ("가" * (MAX_CHARACTERS + 1), "100토큰까지만"), ("가 " * 300, "300토큰인데 100토큰까지"),
     ("가 " * (MAX_CHARACTERS // 2), "100,000토큰인데")],
)
def test_what_cannot_be_sent_ends_in_a_notice_and_leaves_the_conversation(make_session, text, notice):
    before = [{"role": "user", "content": "하나"}, {"role": "assistant", "content": "둘"}]
    shown, line, box, _ = answer(make_session(context_length=100), text, before)[-1]
    assert shown == before and box == text and notice in line and 'role="alert"' in line


def test_dropped_turns_are_told(make_session):
    history = [{"role": "user", "content": "가 " * 60}, {"role": "assistant", "content": "나"}]
    shown, line, *_ = answer(make_session(context_length=50), "다", history)[-1]
    assert "오래된 메시지 2개" in line and len(shown) == 4, "the page still shows everything"


def test_stop_keeps_what_was_written(make_session):
    session = make_session(FakeEngine(seconds_per_token=0.05))
    for shown, line, *_ in session.answer("안녕?", [], CHAT, Sampling(), "tab"):
        if len(shown) == 2:
            session.stop("tab")
        last_line = line
    assert 0 < len(shown[1]["content"]) < len(ANSWER) and "멈춤" in last_line
    assert engine_of(session).closed_early == 1 and session._running == {}


def test_a_discarded_answer_ends_in_an_empty_page(make_session):
    session = make_session(FakeEngine(seconds_per_token=0.03))
    views = []
    for view in session.answer("안녕?", [], CHAT, Sampling(), "tab"):
        views.append(view)
        if len(view.history) == 2 and view.history[1]["content"]:
            session.discard("tab", patience=0)
    assert views[-1] == ([], "", None, None) and len(views) < 10
    assert not session._discarded and not session._running
    session.discard("tab")  # with nothing to discard
    assert answer(session, "다음")[-1].history[-1]["content"] == ANSWER
    assert engine_of(session).closed_early == 1


def test_a_stop_text_is_not_called_an_end_token(make_session):
    sampling = Sampling(stop=("질문:",), seed=7)
    (*_, last) = make_session(FakeEngine(seconds_per_token=0)).answer("안녕?", [], CHAT, sampling, "tab")
    assert "종료 토큰이나 멈춤 글에서 멈춤" in last.status


class Breaking(FakeEngine):
    """Writes ``before`` and then raises ``error``."""

    def __init__(self, error, before=""):
        super().__init__(seconds_per_token=0)
        self.error, self.before = error, before

    def _answer(self, sampling, dropped):
        if self.before:
            yield Delta(self.before, 1)
        raise self.error


@pytest.mark.parametrize(
    "error, notice",
    [
        (BusyError("8 requests are waiting"), "기다리는 사람이 너무 많습니다"),
        (EngineError("no server at 127.0.0.1:8001"), "서버가 답하지 못했습니다"),
        (ValueError("top_k has no input"), "생성 설정 top_k의 값을 확인해 주세요"),
        (RuntimeError("out of luck"), "오류가 났습니다"),
    ],
)
def test_an_engine_that_fails_is_told_and_nothing_is_lost(make_session, capsys, error, notice):
    history = [{"role": "user", "content": "하나"}, {"role": "assistant", "content": "둘"}]
    session = make_session(Breaking(error))
    shown, line, box, _ = answer(session, "안녕?", history)[-1]
    assert shown == history and box == "안녕?" and notice in line and 'role="alert"' in line
    session = make_session(Breaking(error, before="여기까지는 "))
    shown, line, box, _ = answer(session, "안녕?", history)[-1]
    assert [t["content"] for t in shown] == ["하나", "둘", "안녕?", "여기까지는"], "the words that had come stay"
    assert notice in line and words.CUT_SHORT in line and box is None and not session._running
    assert not re.search("no server|has no input|out of luck", line), "the page speaks Korean"
    told = capsys.readouterr().err
    assert ("RuntimeError" in told) == isinstance(error, RuntimeError)
    assert (str(error) in told) != isinstance(error, BusyError), "whoever runs the page gets the cause"


def test_a_message_is_answered_again_and_what_followed_goes(make_session):
    engine = FakeEngine(seconds_per_token=0)
    session = make_session(engine)
    history = answer(session, "둘", answer(session, "하나")[-1].history)[-1].history
    views = list(session.answer_again(0, None, history, CHAT, Sampling(seed=3), "tab"))
    assert [t["content"] for t in views[-1].history] == ["하나", ANSWER] and views[-1].box is None
    assert views[-1].history[1]["id"] != history[1]["id"], "another answer, to be rated by itself"
    assert engine.requests[-1] == ([{"role": "user", "content": "하나"}], Sampling(seed=3))
    views = list(session.answer_again(2, "셋", history, CHAT, Sampling(), "tab"))
    assert [t["content"] for t in views[-1].history] == ["하나", ANSWER, "셋", ANSWER]


def test_a_changed_message_that_cannot_be_sent_leaves_all_as_it_was(make_session):
    session = make_session(Breaking(EngineError("gone")))
    history = [{"role": "user", "content": "하나"}, {"role": "assistant", "content": "둘"}]
    view = list(session.answer_again(0, "고친 하나", history, CHAT, Sampling(), "tab"))[-1]
    assert (view.history, view.box, view.draft) == (history, None, Draft(0, "고친 하나"))
    assert "답하지 못했습니다" in view.status
    for index in (1, 2, -1, "0", None):
        view = list(session.answer_again(index, None, history, CHAT, Sampling(), "tab"))[-1]
        assert view.history == history and "다시 만들 답이 없습니다" in view.status


def test_several_tabs_are_answered_at_once_where_the_engine_can(make_session):
    meeting = threading.Barrier(3, timeout=10)

    class Together(FakeEngine):
        max_concurrent = 3

        def _answer(self, sampling, dropped):
            meeting.wait()  # breaks unless all three run at the same time
            yield Delta(f"답 {sampling.seed}", 1, finish_reason="stop")

    session, seen = make_session(Together()), {}

    def ask(number):
        seen[number] = answer(session, f"질문 {number}", sampling=Sampling(seed=number), tab=f"tab{number}")[-1]

    threads = [threading.Thread(target=ask, args=(n,)) for n in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(15)
    for number in range(3):
        assert [t["content"] for t in seen[number].history] == [f"질문 {number}", f"답 {number}"]


def test_models_are_chosen_by_name_and_keep_the_conversation(settings):
    engines = [FakeEngine(seconds_per_token=0, answer="하나"), FakeEngine(seconds_per_token=0, answer="둘")]
    session = ChatSession(engines, settings)
    try:
        first, second = session.models
        assert second == f"{first} (2)", "two models of one name are told apart"
        history = answer(session, "가")[-1].history
        view = list(session.answer("나", history, CHAT, Sampling(), "tab", second))[-1]
        assert [(t["content"], t.get("model")) for t in view.history] == [("가", None), ("하나", first), ("나", None), ("둘", second)]
        assert [m["content"] for m in engines[1].requests[0][0]] == ["가", "하나", "나"]
    finally:
        session.close()
    with pytest.raises(ValueError, match="at least one engine"):
        ChatSession([], settings)


def test_a_server_that_was_started_anew_is_looked_at_again(make_session):
    class Changing(FakeEngine):
        precision, gone = "float32", False

        def info(self):
            if self.gone:
                raise EngineError("not now")
            return dataclasses.replace(super().info(), precision=self.precision)

    engine = Changing(seconds_per_token=0)
    session = make_session(engine)
    (name,) = session.models
    engine.precision = "int8"
    assert session.refresh(name).precision == "int8" == session.info(name).precision
    engine.gone = True
    assert session.refresh().precision == "int8" and session.models == [name]
    assert answer(session, "안녕?")[-1].history[-1]["model"] == name


def test_a_stop_does_not_wait_for_an_engine_that_reads_a_long_prompt(make_session):
    gate = threading.Event()

    class Reading(FakeEngine):
        def _answer(self, sampling, dropped):
            gate.wait(20)
            yield Delta("늦은 말", 1)

    session = make_session(Reading())
    threading.Timer(0.3, session.stop, ["tab"]).start()
    begin = time.monotonic()
    last = answer(session, "안녕?")[-1]
    assert 0.3 < time.monotonic() - begin < 5 and "멈춤" in last.status
    gate.set()


def test_what_a_browser_sends_is_taken_with_care():
    assert turns_of(None) == turns_of({"turns": "x"}) == turns_of([1, {"role": "system", "content": "x"}, {"role": "user"}]) == []
    odd = {"role": "assistant", "content": "가\ufffd", "id": 5, "model": "m", "html": "<script>", "given": 1}
    assert turns_of({"turns": [odd]}) == [{"role": "assistant", "content": "가", "model": "m", "given": 1}]


def test_a_thumb_stores_what_the_model_was_shown(make_session, tmp_path):
    settings = load_settings("smoke", overrides=["chat.system_prompt=친절하게"])
    session, store = make_session(settings=settings), FeedbackStore(tmp_path / "f.sqlite")
    turns = answer(session, "안녕?")[-1].history
    sent = {"id": turns[-1]["id"], "tab": "0f", "turns": turns, "rating": -1, "correction": "더 낫게"}
    store_rating(store, sent, session.info(), "친절하게")
    (kept,) = store.all()
    assert kept.messages == [{"role": "system", "content": "친절하게"}, {"role": "user", "content": "안녕?"}]
    assert (kept.answer, kept.rating, kept.correction, kept.tab) == (ANSWER, -1, "더 낫게", "0f")
    assert (kept.commit, kept.artifact, kept.sampling["seed"]) == ("0123456789ab", "artifacts/laptop/base-model", 7)
    store_rating(store, {**sent, "rating": 0}, session.info(), None)
    assert store.all() == []
    for wrong in (None, {}, {**sent, "id": "x"}, {**sent, "turns": turns[:1]}, {**sent, "rating": 3}, {**sent, "correction": 5}):
        with pytest.raises(ValueError):
            store_rating(store, wrong, session.info(), None)


def test_a_continued_text_is_stored_apart_from_what_was_given(make_session, tmp_path):
    session, store = make_session(answer=" 비가 왔다."), FeedbackStore(tmp_path / "f.sqlite")
    turns = answer(session, "어제는", mode=COMPLETE)[-1].history
    store_rating(store, {"id": turns[-1]["id"], "turns": turns, "rating": 1}, session.info(), None)
    (kept,) = store.all()
    assert (kept.mode, kept.messages, kept.answer) == ("complete", [{"role": "user", "content": "어제는"}], "비가 왔다.")


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
    assert engine_of(session).closed_early == 1


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
    shown, *_ = answer(make_session(answer="가\ufffd나"), "x")[-1]
    assert shown[-1]["content"] == "가나"
    shown, *_ = answer(make_session(answer=""), "x")[-1]
    assert shown[-1]["content"] == words.EMPTY_ANSWER


def test_controls_become_sampling():
    off = sampling_from_controls(0.7, 0, 1, 0, 1, 40, "")
    assert (off.top_k, off.top_p, off.min_p) == (None, None, None) and off.seed is not None
    on = sampling_from_controls(0.5, 20, 0.9, 0.05, 1.2, 40.0, " 3 ")
    assert on == Sampling(40, 0.5, 20, 0.9, 0.05, 1.2, seed=3)
    more = sampling_from_controls(0.5, 0, 1, 0, 1, 40, "3", 0.4, -0.2, "질문:\n\n끝 \n질문:")
    assert (more.frequency_penalty, more.presence_penalty, more.stop) == (0.4, -0.2, ("질문:", "끝 "))
    for bad in ("삼", "-1", "1.5"):
        with pytest.raises(ValueError):
            sampling_from_controls(0.7, 0, 1, 0, 1, 40, bad)


@pytest.mark.parametrize("number, text", [(999, "999"), (5_772_544, "577만"), (124_439_808, "1.24억"), (12_000, "1만")])
def test_numbers_are_read_in_korean(number, text):
    assert words.count(number) == text
