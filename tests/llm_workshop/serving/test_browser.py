"""The chat page in a real browser: asking, reading the stream, stopping, clearing, on a desk and on a phone."""

from __future__ import annotations

import dataclasses
import re
import subprocess
import sys
import time
from urllib.parse import urlsplit

import pytest
from conftest import free_port
from fake_engine import ANSWER, FakeEngine

from llm_workshop.serving import words
from llm_workshop.serving.chat_page import build_page
from llm_workshop.serving.engine import Delta, EngineError
from llm_workshop.serving.feedback.store import FeedbackStore
from llm_workshop.serving.serve import launch
from llm_workshop.settings import load_settings

pytestmark = pytest.mark.browser
SENT = "#box .submit-button"
BOT, USER, STATUS, BOX = "#chat .message.bot", "#chat .message.user", "#status", "#box textarea"


class Served:
    """A page on a free port, with its fake engine, or several, and its store of ratings."""

    def __init__(self, engines=None, store=None, **options):
        self.engine, self.store = FakeEngine(**options), store
        settings = load_settings("smoke", overrides=["generate.max_new_tokens=64", "chat.max_turns=4"])
        self.page = build_page(engines or self.engine, settings, store)
        self.address = launch(self.page, "127.0.0.1", free_port())

    def close(self):
        self.page.session.close()
        self.page.close(verbose=False)


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    store = FeedbackStore(tmp_path_factory.mktemp("ratings") / "feedback.sqlite")
    served = Served(store=store, seconds_per_token=0.03)
    yield served
    served.close()


@pytest.fixture(scope="module")
def desk(browser):
    """One window for all tests on a desk: Gradio's scripts are read once."""
    context = browser.new_context(viewport={"width": 1280, "height": 860}, locale="ko-KR")
    yield context
    context.close()


@pytest.fixture
def open_tab(browser, desk, served):
    """Open the page in a fresh tab; afterwards nothing may have been asked of another machine."""
    tabs = []

    def open_it(address=None, **options):
        tab = browser.new_page(locale="ko-KR", **options) if options else desk.new_page()
        tab.set_default_timeout(15_000)
        tab.requests, tab.faults = [], []
        tab.on("request", lambda request: tab.requests.append(request.url))
        tab.on("websocket", lambda socket: tab.requests.append(socket.url))
        tab.on("pageerror", lambda error: tab.faults.append(str(error)))
        tabs.append(tab)
        tab.goto(address or served.address)
        tab.wait_for_selector(BOX)
        tab.wait_for_selector(SENT)
        return tab

    yield open_it
    for tab in tabs:
        outside = {url for url in tab.requests if urlsplit(url).scheme not in ("data", "blob")}
        outside = {url for url in outside if urlsplit(url).hostname not in ("127.0.0.1", "localhost")}
        assert tab.requests and not outside, f"the page asked other machines: {outside}"
        assert not tab.faults, tab.faults
        tab.close()


def ask(tab, text):
    tab.fill(BOX, text)
    tab.click(SENT)


def finished(tab):
    tab.wait_for_selector("#status .figures")
    return tab.inner_text(BOT + " >> nth=-1").strip()


def test_a_korean_question_is_answered_in_a_stream(open_tab, served):
    tab = open_tab()
    ask(tab, "오늘 서울 날씨는 어때요?")
    seen = []
    for _ in range(200):
        if tab.query_selector("#status .figures"):
            break
        if tab.query_selector(BOT):
            text = tab.inner_text(BOT + " >> nth=-1").strip()
            if text and (not seen or text != seen[-1]):
                seen.append(text)
        tab.wait_for_timeout(40)
    final = finished(tab)
    # Whitespace at the end of a piece is not yet laid out, so compare without it.
    squeezed = [re.sub(r"\s+", "", text) for text in [*seen, final]]
    growing = [text for text in squeezed if 0 < len(text) < len(squeezed[-1])]
    assert len(set(growing)) >= 2, f"the text should be seen growing, saw {seen}"
    assert all(squeezed[-1].startswith(text) for text in growing)
    assert squeezed[-1] == re.sub(r"\s+", "", ANSWER)
    assert tab.inner_text(USER).strip() == "오늘 서울 날씨는 어때요?"
    figures = tab.inner_text(STATUS)
    assert re.search(r"첫 토큰 [\d.]+초 · [\d,]+ 토큰/초", figures) and "시드" in figures
    assert "\ufffd" not in tab.content()
    assert served.engine.requests[-1][0] == [{"role": "user", "content": "오늘 서울 날씨는 어때요?"}]
    assert tab.input_value(BOX) == ""


def test_the_model_and_its_artifact_are_shown(open_tab):
    tab = open_tab()
    everything = tab.inner_text("body")
    for part in ("laptop/base-model", "577만 개", "1.234", "0123456789ab", "sample (16 MB)", "artifacts/laptop"):
        assert part in everything, part
    assert tab.evaluate("document.documentElement.lang") == "ko"


def test_stop_keeps_the_words_so_far(open_tab):
    tab = open_tab()
    ask(tab, "긴 이야기를 해 주세요.")
    tab.wait_for_function("s => document.querySelector(s)?.innerText.length > 20", arg=BOT)
    tab.click("#box .stop-button")
    text = finished(tab)
    assert 0 < len(text) < len(ANSWER) - 20 and "멈춤" in tab.inner_text(STATUS)
    tab.wait_for_selector(SENT)
    ask(tab, "다시 물을게요.")
    tab.wait_for_function("document.querySelectorAll('#chat .message.user').length == 2")
    assert len(finished(tab)) > 0


def test_starting_anew_clears_the_page_even_while_it_writes(open_tab):
    tab = open_tab()
    ask(tab, "안녕하세요?")
    tab.wait_for_function("s => document.querySelector(s)?.innerText.length > 10", arg=BOT)
    tab.click("#clear")
    tab.wait_for_selector("#chat .welcome")
    tab.wait_for_timeout(700)  # nothing of the cancelled answer may come back
    assert tab.query_selector(BOT) is None and tab.query_selector(USER) is None
    assert tab.inner_text(STATUS).strip() == ""
    ask(tab, "새 질문입니다.")
    assert re.sub(r"\s+", "", finished(tab)) == re.sub(r"\s+", "", ANSWER)


def test_regenerate_replaces_the_answer(open_tab, served):
    tab = open_tab()
    ask(tab, "하나만 골라 주세요.")
    finished(tab)
    asked = len(served.engine.requests)
    tab.click("#chat .tool.again")
    tab.wait_for_selector("#status .busy")
    finished(tab)
    assert len(served.engine.requests) == asked + 1
    assert served.engine.requests[-1][0] == [{"role": "user", "content": "하나만 골라 주세요."}]
    assert len(tab.query_selector_all(BOT)) == 1 and len(tab.query_selector_all(USER)) == 1


def test_controls_reach_the_engine(open_tab, served):
    tab = open_tab()
    tab.fill("#seed input, #seed textarea", "42")
    tab.fill("input[aria-label='number input for 온도 (temperature)']", "0.3")
    tab.press("input[aria-label='number input for 온도 (temperature)']", "Enter")
    ask(tab, "설정을 바꿨어요.")
    finished(tab)
    sampling = served.engine.requests[-1][1]
    assert sampling.seed == 42 and sampling.temperature == pytest.approx(0.3)
    assert sampling.max_new_tokens == 64 and sampling.top_p == pytest.approx(0.9)
    assert "시드 42" in tab.inner_text(STATUS)


def test_mistakes_are_told_and_nothing_typed_is_lost(open_tab):
    tab = open_tab()
    tab.click(SENT)
    tab.wait_for_selector("#status .notice")
    assert "입력한 뒤" in tab.inner_text(STATUS)
    ask(tab, "가 " * 400)
    tab.wait_for_function("document.querySelector('#status').innerText.includes('문맥보다')")
    assert len(tab.input_value(BOX)) > 500 and tab.query_selector(USER) is None
    tab.fill("#seed input, #seed textarea", "삼")
    ask(tab, "안녕?")
    tab.wait_for_function("document.querySelector('#status').innerText.includes('생성 설정')")
    assert tab.input_value(BOX) == "안녕?"
    tab.fill("#seed input, #seed textarea", "")
    tab.click(SENT)
    assert finished(tab)


def test_markup_is_shown_as_text(open_tab):
    tab = open_tab()
    ask(tab, "<b>굵게</b> <img src=x onerror=alert(1)> & &lt;")
    finished(tab)
    assert tab.inner_text(USER).strip() == "<b>굵게</b> <img src=x onerror=alert(1)> & &lt;"
    assert tab.query_selector("#chat .message img, #chat .message b") is None


def test_a_changed_message_is_answered_from_there_on(open_tab, served):
    tab = open_tab()
    for number, text in enumerate(["첫 질문 <b>", "둘째 질문"], 1):
        ask(tab, text)
        tab.wait_for_function(f"document.querySelectorAll('#chat .message.bot').length == {number}")
        tab.wait_for_selector(SENT)
    tab.hover("#chat .user-row >> nth=0")
    tab.click("#chat .user-row .tool.edit >> nth=0")
    assert tab.input_value("#chat .editor textarea") == "첫 질문 <b>", "as it was typed"
    tab.press("#chat .editor textarea", "Escape")
    assert tab.query_selector("#chat .editor") is None and len(tab.query_selector_all(USER)) == 2
    tab.hover("#chat .user-row >> nth=0")
    tab.click("#chat .user-row .tool.edit >> nth=0")
    tab.fill("#chat .editor textarea", "고친 질문 & <i>")
    tab.click("#chat .editor .strong")
    tab.wait_for_function("document.querySelectorAll('#chat .message.user').length == 1")
    finished(tab)
    assert tab.inner_text(USER) == "고친 질문 & <i>" and len(tab.query_selector_all(BOT)) == 1
    assert served.engine.requests[-1][0] == [{"role": "user", "content": "고친 질문 & <i>"}]


def test_thumbs_and_a_better_answer_reach_the_store(open_tab, served):
    def stored():
        return [row for row in served.store.all() if row.messages[-1]["content"] == "평가할게요."]

    tab = open_tab()
    ask(tab, "평가할게요.")
    finished(tab)
    tab.click("#chat .tool.down")
    tab.wait_for_selector("#chat .below .editor")
    (row,) = stored()
    assert (row.rating, row.correction, row.answer) == (-1, None, ANSWER), "the thumb counts before anything is written"
    assert "더 좋은 답을 적어 주세요" in tab.inner_text("#chat .below >> nth=-1")
    tab.fill("#chat .below textarea", "더 나은 답 <b>입니다</b>")
    tab.click("#chat .below .strong")
    tab.wait_for_selector("#chat .said")
    (row,) = stored()
    assert (row.rating, row.correction, row.model) == (-1, "더 나은 답 <b>입니다</b>", "laptop/base-model")
    assert re.fullmatch("[0-9a-f]{16}", row.tab) and row.sampling["seed"] == served.engine.requests[-1][1].seed
    assert tab.get_attribute("#chat .tool.down", "aria-pressed") == "true"
    tab.click("#chat .tool.up")
    tab.wait_for_selector("text=고맙습니다")
    assert [(r.rating, r.correction) for r in stored()] == [(1, None)]
    tab.click("#chat .tool.up")
    tab.wait_for_selector("text=평가를 지웠습니다")
    assert stored() == [] and tab.get_attribute("#chat .tool.up", "aria-pressed") == "false"


def test_a_rating_that_cannot_be_stored_is_told(open_tab, tmp_path):
    (tmp_path / "in the way").write_text("a file")
    served = Served(store=FeedbackStore(tmp_path / "in the way" / "feedback.sqlite"), seconds_per_token=0.005)
    try:
        tab = open_tab(served.address)
        ask(tab, "안녕?")
        finished(tab)
        tab.click("#chat .tool.down")
        tab.wait_for_selector("#chat .said.wrong")
        assert "저장하지 못했습니다" in tab.inner_text("#chat .said.wrong")
        assert tab.get_attribute("#chat .tool.down", "aria-pressed") == "false"
    finally:
        served.close()


FORMATTED = """첫 문단은 **굵게** 씁니다.

- 하나 \ufffd
- 둘

```python
print("<b>" + "안녕")
```

![그림](http://192.0.2.1/spy.png) [링크](https://192.0.2.1/a) [나쁜 링크](javascript:window.pwned=1)
<img src=x onerror="window.pwned=1"><script>window.pwned=1</script> &#xFFFD;
""" + "\n\n긴 문단입니다." * 12


def test_answers_are_formatted_and_can_do_nothing_else(open_tab, desk):
    served = Served(answer=FORMATTED, seconds_per_token=0.03)
    desk.grant_permissions(["clipboard-read", "clipboard-write"])
    try:
        tab = open_tab(served.address)
        ask(tab, "**별표** 그대로 _두기_\n- 목록 아님")
        tab.wait_for_function("s => document.querySelector(s)?.innerText.includes('둘')", arg=BOT)
        tab.evaluate("document.querySelector('#chat .markdown > p').mark = 'same'")
        finished(tab)
        assert tab.evaluate("document.querySelector('#chat .markdown > p').mark") == "same", "drawn blocks are left alone"
        assert tab.inner_text(USER) == "**별표** 그대로 _두기_\n- 목록 아님"
        assert tab.inner_text(BOT + " strong") == "굵게" and len(tab.query_selector_all(BOT + " li")) == 2
        assert tab.query_selector(BOT + " :is(img, script, iframe, [onerror])") is None
        assert tab.evaluate("window.pwned") is None and "\ufffd" not in tab.content()
        links = tab.eval_on_selector_all(BOT + " a", "all => all.map(a => [a.textContent, a.getAttribute('href'), a.rel, a.target])")
        assert [link[:2] for link in links] == [["그림", "http://192.0.2.1/spy.png"], ["링크", "https://192.0.2.1/a"]]
        assert all("noopener" in rel and "noreferrer" in rel and target == "_blank" for *_, rel, target in links)
        tab.click(".copy-code")
        tab.wait_for_selector(".copy-code >> text=복사함")
        assert tab.evaluate("navigator.clipboard.readText()") == 'print("<b>" + "안녕")\n'
        tab.click("#chat .bot-row .tool.copy")
        tab.wait_for_selector("#chat .bot-row .tool.copy.on")
        assert tab.evaluate("navigator.clipboard.readText()") == FORMATTED.replace("\ufffd", "").strip(), "the text as it was written"
    finally:
        desk.clear_permissions()
        served.close()


class Echo(FakeEngine):
    """Answers with the question, two at once."""

    max_concurrent = 2

    def stream(self, messages, sampling):
        self.requests.append((list(messages), sampling))
        for index in range(25):
            time.sleep(0.05)
            yield Delta(f"{messages[-1]['content']}-{index} ", 1)
        yield Delta(finish_reason="stop")


def test_two_tabs_are_answered_at_once_and_apart(open_tab):
    served = Served(engines=[Echo()])
    try:
        tabs = [open_tab(served.address), open_tab(served.address)]
        for name, tab in zip("가나", tabs):
            ask(tab, name)
        for tab in tabs:
            tab.wait_for_function("s => document.querySelector(s)?.innerText.length > 5", arg=BOT)
        assert all(tab.query_selector("#status .figures") is None for tab in tabs), "both are being written"
        for name, tab in zip("가나", tabs):
            assert finished(tab) == " ".join(f"{name}-{index}" for index in range(25))
            assert tab.inner_text(USER) == name
    finally:
        served.close()


def test_another_model_goes_on_with_the_conversation(open_tab):
    class Second(FakeEngine):
        def info(self):
            return dataclasses.replace(super().info(), name="gpu/base-model", n_parameters=124_000_000, context_length=1024)

    engines = [FakeEngine(seconds_per_token=0.005), Second(seconds_per_token=0.005, answer="저는 큰 모델이에요.")]
    served = Served(engines=engines)
    try:
        tab = open_tab(served.address)
        ask(tab, "누구세요?")
        finished(tab)
        tab.click("#models input")
        tab.click("#models [role=option] >> text=gpu/base-model")
        tab.wait_for_selector("#model >> text=1.24억 개")
        assert "gpu/base-model" in tab.inner_text("#masthead") and len(tab.query_selector_all(BOT)) == 1
        ask(tab, "이번에는요?")
        tab.wait_for_function("document.querySelectorAll('#chat .message.bot').length == 2")
        assert finished(tab) == "저는 큰 모델이에요."
        assert [m["content"] for m in engines[1].requests[-1][0]] == ["누구세요?", ANSWER, "이번에는요?"]
        assert tab.eval_on_selector_all("#chat .by", "all => all.map(e => e.textContent)") == ["laptop/base-model", "gpu/base-model"]
    finally:
        served.close()


def test_an_engine_that_breaks_off_leaves_its_words(open_tab):
    class Breaking(FakeEngine):
        broken = True

        def _answer(self, sampling, dropped):
            for delta in super()._answer(sampling, dropped):
                yield delta
                if self.broken and "모델이에요" in delta.text:
                    raise EngineError("no server can be reached at 127.0.0.1:8001")

    engine = Breaking(seconds_per_token=0.01)
    served = Served(engines=[engine])
    try:
        tab = open_tab(served.address)
        ask(tab, "안녕?")
        tab.wait_for_selector("#status .notice")
        assert "서버가 답하지 못했습니다" in tab.inner_text(STATUS) and "남겨 두었습니다" in tab.inner_text(STATUS)
        assert tab.inner_text(BOT).endswith("모델이에요.") and tab.inner_text(USER) == "안녕?"
        engine.broken = False
        tab.click("#chat .tool.again")
        assert len(finished(tab)) > 100 and len(tab.query_selector_all(BOT)) == 1
    finally:
        served.close()


def test_more_controls_reach_the_engine(open_tab, served):
    tab = open_tab()
    tab.click("#more .label-wrap")
    tab.wait_for_selector("#stops textarea")
    tab.wait_for_timeout(500)  # Gradio sets the values of what an accordion shows for the first time
    tab.fill("#stops textarea", "질문:\n끝")
    tab.fill("input[aria-label='number input for 빈도 벌점 (frequency)']", "0.5")
    tab.press("input[aria-label='number input for 빈도 벌점 (frequency)']", "Enter")
    ask(tab, "멈춤 글이 있어요.")
    finished(tab)
    sampling = served.engine.requests[-1][1]
    assert sampling.stop == ("질문:", "끝") and sampling.frequency_penalty == pytest.approx(0.5)


def test_examples_are_asked_at_a_click(open_tab, served):
    tab = open_tab()
    tab.click("#chat .example >> nth=1")
    finished(tab)
    assert served.engine.requests[-1][0][-1]["content"] == words.EXAMPLES[words.CHAT][1]


def test_completion_mode_continues_the_text(open_tab, served):
    tab = open_tab()
    tab.click("#mode label >> nth=1")
    tab.wait_for_selector("text=첫머리를 적으면 이어서 씁니다")
    ask(tab, "어느 봄날 아침,")
    assert finished(tab).startswith("어느 봄날 아침,")
    assert served.engine.requests[-1][0] == "어느 봄날 아침,"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_shows_everything_without_scrolling_sideways(open_tab, scheme):
    tab = open_tab(viewport={"width": 375, "height": 812}, has_touch=True, is_mobile=True, color_scheme=scheme)
    width = "Math.max(document.documentElement.scrollWidth, document.body.scrollWidth)"
    assert tab.evaluate(width) <= 375
    box = tab.query_selector(BOX).bounding_box()
    assert box["y"] + box["height"] <= 812, "the input is on the first screen"
    ask(tab, "한국어로 길게 대답해 주세요. https://example.org/" + "아주긴주소" * 30)
    finished(tab)
    assert tab.evaluate(width) <= 375
    bubble = tab.query_selector(USER).bounding_box()
    assert bubble["x"] >= 0 and bubble["x"] + bubble["width"] <= 375
    background = tab.evaluate("getComputedStyle(document.body).backgroundColor")
    brightness = sum(map(int, re.findall(r"\d+", background)[:3]))
    assert brightness > 600 if scheme == "light" else brightness < 150
    assert tab.locator("#sampling").is_visible() and tab.locator("#model").is_visible()


def test_a_model_without_chat_begins_in_completion_mode(open_tab):
    served = Served(supports_chat=False, seconds_per_token=0.01)
    try:
        tab = open_tab(served.address)
        assert tab.is_checked("#mode label >> nth=1 >> input")
        assert "이어서 씁니다" in tab.inner_text("#chat")
        ask(tab, "이 영화는 정말")
        assert finished(tab).startswith("이 영화는 정말")
        assert served.engine.requests[-1][0] == "이 영화는 정말"
    finally:
        served.close()


def test_the_picture_script_asks_and_takes_a_picture(served, repository, tmp_path):
    pytest.importorskip("playwright.sync_api")
    path = repository / "docs" / "make_pictures.py"
    # In its own process: Playwright's blocking interface runs once per thread.
    out = tmp_path / "chat.png"
    command = [sys.executable, str(path), "chat", "--url", served.address, "--prompt", "사진 찍을게요.", "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=90)
    if "no Chromium found" in done.stderr:
        pytest.skip(done.stderr.strip())
    assert done.returncode == 0, done.stderr
    assert "안녕하세요!" in done.stdout
    header = out.read_bytes()[:24]
    assert header.startswith(b"\x89PNG") and (int.from_bytes(header[16:20]), int.from_bytes(header[20:24])) == (2560, 1600)
