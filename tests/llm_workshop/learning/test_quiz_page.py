"""The quiz page: its events alone, then in a real browser."""

import shutil
import socket

import pytest

from llm_workshop.learning.progress_store import ProgressStore
from llm_workshop.learning.quiz import Quiz
from llm_workshop.learning.quiz_page import QuizPage, build, launch, read_input
from llm_workshop.learning.quiz_session import QuizSession

WORDS = {"explanation": "까닭은 `이렇습니다`.", "reference": "실습 3"}
QUIZ = Quiz.model_validate({
    "week": 3, "title": "시험", "questions": [
        {"id": "one", "type": "choice", "question": "고르세요 <b>x</b>", "choices": ["가", "`나`", "다"], "answer": 2, **WORDS},
        {"id": "two", "type": "multiple", "question": "모두", "choices": ["가", "나", "다"], "answer": [1, 3], **WORDS},
        {"id": "three", "type": "order", "question": "차례", "choices": ["가", "나", "다"], "answer": [3, 1, 2], **WORDS},
        {"id": "four", "type": "number", "question": "몇?", "answer": 7, **WORDS},
        {"id": "five", "type": "output", "question": "무엇?", "code": "print('가 < 나')\nprint(1)", "answer": "가 < 나\n1", **WORDS},
    ],
    "checkpoints": [{"question": "왜일까요?", "answer": "그렇기 때문입니다."}],
})  # fmt: skip
EMPTY = {"choice": None, "multiple": [], "order": [], "line": "", "lines": ""}


@pytest.fixture
def store(tmp_path):
    return ProgressStore(tmp_path / "progress.json")


@pytest.mark.parametrize(("place", "given", "right"), [
    (0, {"choice": 2}, True), (0, {"choice": 1}, False), (1, {"multiple": [3, 1]}, True), (1, {"multiple": [1]}, False),
    (2, {"order": [3, 1, 2]}, True), (2, {"order": [1, 2, 3]}, False), (3, {"line": "7"}, True), (4, {"lines": "가 < 나\n1\n"}, True),
])
def test_inputs_become_answers(store, place, given, right):
    page = QuizPage([QUIZ], store)
    places, score, verdict = page.answer("week03", place, **EMPTY | given)
    assert ("맞았습니다" in verdict) is right and ("정답" in verdict) is not right and "<code>이렇습니다</code>" in verdict
    assert f"맞음 {int(right)} · 틀림 {int(not right)}" in score
    assert places["choices"][place][0] == f"{place + 1} {'○' if right else '×'}"


@pytest.mark.parametrize("place", range(5))
def test_nothing_put_in_is_asked_for_and_not_counted(store, place):
    *kept, verdict = QuizPage([QUIZ], store).answer("week03", place, **EMPTY)
    assert "정답" not in verdict and all(k == {"__type__": "update"} for k in kept) and not store.path.exists()
    with pytest.raises(ValueError, match=r"[가-힣]"):
        read_input(QUIZ.questions[place], **dict.fromkeys(EMPTY))


def test_the_page_goes_on_where_the_terminal_stopped(store):
    session = QuizSession(QUIZ, store)
    session.answer(1)
    page = QuizPage([QUIZ], store)
    assert page.first_open("week03") == 1
    page.answer("week03", 1, **EMPTY | {"multiple": [1, 3]})
    assert [q.id for q in QuizSession(QUIZ, store).unanswered()] == ["three", "four", "five"]
    assert page.next_wrong("week03", 3) == 0 and page.next_wrong("week03", 0) == 0
    page.answer("week03", 0, **EMPTY | {"choice": 2})
    assert page.next_wrong("week03", 3) == 3, "nothing is wrong: it stays"


def test_markup_in_a_quiz_is_shown_and_not_run(store):
    shown = QuizPage([QUIZ], store).show("week03", 0)
    assert "고르세요 &lt;b&gt;x&lt;/b&gt;" in shown[3]
    assert "print(&#x27;가 &lt; 나&#x27;)" in QuizPage([QUIZ], store).show("week03", 4)[3]


def test_an_answer_that_cannot_be_kept_is_said(store):
    store.path.write_text("x")
    verdict = QuizPage([QUIZ], ProgressStore(store.path / "below a file" / "p.json")).answer("week03", 3, **EMPTY | {"line": "7"})[2]
    assert "맞았습니다" not in verdict and "mark bad" in verdict


def test_a_port_in_use_is_one_line(store):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match=f"port {port} cannot be used .*--port {port + 1}"):
            launch(None, port)


@pytest.fixture
def tab(store):
    playwright = pytest.importorskip("playwright.sync_api", reason="pip install playwright to run the browser tests")
    path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if path is None:
        pytest.skip("no Chromium found: apt-get install chromium fonts-nanum to run the browser tests")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    page = build([QUIZ], store)
    address = launch(page, port)
    with playwright.sync_playwright() as driver:
        arguments = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking"]
        browser = driver.chromium.launch(executable_path=path, args=arguments)
        tab = browser.new_page(viewport={"width": 390, "height": 844}, locale="ko-KR")
        elsewhere = []
        tab.on("request", lambda r: elsewhere.append(r.url) if not r.url.startswith((address, "data:", "blob:")) else None)
        tab.goto(address)
        tab.wait_for_selector("#question .number")
        yield tab
        assert not elsewhere, "nothing is asked of another machine"
        browser.close()
    page.close(verbose=False)


def test_only_the_field_of_the_question_is_there_once_it_is_known(store):
    made = [c for c in build([QUIZ], store).blocks.values() if getattr(c, "elem_id", None) in ("choice", "multiple", "order", "line", "lines")]
    assert len(made) == 5 and not any(component.visible for component in made)


@pytest.mark.browser
def test_the_page_is_korean(tab):
    assert tab.evaluate("document.documentElement.lang") == "ko"
    assert not {"Radio", "Textbox", "CheckboxGroup", "Checkbox Group"} & set(tab.inner_text("body").split("\n"))
    assert not tab.query_selector("[aria-label=Radio], [aria-label=Textbox]")


@pytest.mark.browser
def test_a_quiz_in_the_browser(tab, store):
    tab.click("#choice label:nth-child(1)")
    tab.click("#submit")
    tab.wait_for_selector(".verdict .bad")
    assert "나" in tab.inner_text(".verdict .right")
    tab.click("#choice label:nth-child(2)")
    tab.click("#submit")
    tab.wait_for_selector(".verdict .good")
    tab.click("#places label:nth-child(4)")
    tab.wait_for_function("document.querySelector('#question .number').innerText.startsWith('4 /')")
    tab.wait_for_function("document.querySelector('#verdict').innerText === ''")
    tab.fill("#line input, #line textarea", "7")
    tab.press("#line input, #line textarea", "Enter")
    tab.wait_for_selector(".verdict .good")
    tab.click("#forward")
    tab.wait_for_function("document.querySelector('#question .number').innerText.startsWith('5 /')")
    tab.fill("#lines textarea", "가 < 나\n2")
    tab.click("#submit")
    tab.wait_for_selector(".verdict .bad")
    tab.click('button[role=tab]:has-text("체크포인트")')
    assert not tab.is_visible("text=그렇기 때문입니다.")
    tab.click("#points summary")
    tab.wait_for_selector("text=그렇기 때문입니다.")
    assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth"), "no sideways scrolling on a phone"
    found = store.read().questions["week03"]
    assert {name: (r.first_right, bool(r.right_on), r.tries) for name, r in found.items()} == {
        "one": (False, True, 2), "four": (True, True, 1), "five": (False, False, 1)
    }
