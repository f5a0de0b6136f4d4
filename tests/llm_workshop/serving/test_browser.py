"""The chat page in a real browser: asking, reading the stream, stopping, clearing, on a desk and on a phone."""

from __future__ import annotations

import re
import subprocess
import sys
from urllib.parse import urlsplit

import pytest
from conftest import free_port
from fake_engine import ANSWER, FakeEngine

from llm_workshop.serving import words
from llm_workshop.serving.chat_page import build_page
from llm_workshop.serving.serve import launch
from llm_workshop.settings import load_settings

pytestmark = pytest.mark.browser
SENT = "#box .submit-button"
BOT, USER, STATUS, BOX = "#chat .message.bot", "#chat .message.user", "#status", "#box textarea"


class Served:
    """A page on a free port, with its fake engine."""

    def __init__(self, **options):
        self.engine = FakeEngine(**options)
        settings = load_settings("smoke", overrides=["generate.max_new_tokens=64", "chat.max_turns=4"])
        self.page = build_page(self.engine, settings)
        self.address = launch(self.page, "127.0.0.1", free_port())

    def close(self):
        self.page.session.close()
        self.page.close(verbose=False)


@pytest.fixture(scope="module")
def served():
    served = Served(seconds_per_token=0.03)
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
    for part in ("laptop/base-model", "577만개", "1.234", "0123456789ab", "sample (16 MB)", "artifacts/laptop"):
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
    tab.click("#chat .message-buttons-left button >> nth=-1")
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
    tab = open_tab(viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True, color_scheme=scheme)
    width = "Math.max(document.documentElement.scrollWidth, document.body.scrollWidth)"
    assert tab.evaluate(width) <= 390
    box = tab.query_selector(BOX).bounding_box()
    assert box["y"] + box["height"] <= 844, "the input is on the first screen"
    ask(tab, "한국어로 길게 대답해 주세요. https://example.org/" + "아주긴주소" * 30)
    finished(tab)
    assert tab.evaluate(width) <= 390
    bubble = tab.query_selector(USER).bounding_box()
    assert bubble["x"] >= 0 and bubble["x"] + bubble["width"] <= 390
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
