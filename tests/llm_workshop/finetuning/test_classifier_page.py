"""The classifier's page: its events alone, then over HTTP, then in a real browser."""

import shutil
import socket
import urllib.request

import pytest
import torch

from llm_workshop.finetuning.classifier_page import CSS, LONGEST, WORDS, ClassifierPage, build
from llm_workshop.serving.serve import launch

NAMES = ("부정", "긍정")


def classify(texts):
    """Each 좋 makes it better, each 나 worse."""
    scores = torch.tensor([[0.0, 1.0 + text.count("좋") - 2.0 * text.count("나")] for text in texts])
    return scores.softmax(1)


@pytest.fixture
def page():
    return ClassifierPage(classify, NAMES, "영화 <평>", ["아주 좋다", "나쁘다"])


def test_the_answer_has_all_classes_and_the_words_their_weight(page):
    probabilities, words = page.answer("정말 좋은 <b>나쁜</b> 영화")
    assert list(probabilities) == list(NAMES) and sum(probabilities.values()) == pytest.approx(1)
    assert "&lt;b&gt;나쁜&lt;/b&gt;" in words and "<b>" not in words
    weights = {w.word: w.weight for w in page.weigh("정말 좋은 좋은 영화")}
    assert weights["좋은"] > 0 and weights["정말"] == pytest.approx(0) and weights["영화"] == pytest.approx(0)
    against = {w.word: w.weight for w in page.weigh("좋은 좋은 좋은 나쁜 영화")}
    assert against["나쁜"] < 0, "without it the answer would be surer"


def test_the_weight_is_what_the_probability_loses(page):
    whole, without = classify(["좋은 영화", "영화"])
    assert page.weigh("좋은 영화")[0].weight == pytest.approx(float(whole[1] - without[1]))


@pytest.mark.parametrize(("text", "hint"), [("", "글을 적고"), ("  \n", "글을 적고"), (None, "글을 적고"), ("가" * (LONGEST + 1), f"{LONGEST:,}자까지")])
def test_what_cannot_be_read_is_answered_with_a_hint(page, text, hint):
    answer, words = page.answer(text)
    assert answer is None and hint in words


def test_one_word_and_many(page):
    assert "낱말이 둘 이상" in page.answer("좋다")[1]
    many = page.answer(" ".join(["좋은"] * (WORDS + 5)))[1]
    assert many.count('class="word"') == WORDS and f"처음 {WORDS}낱말만" in many


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_the_page_is_served_on_this_machine(page):
    blocks = build(page)
    try:
        address = launch(blocks, "127.0.0.1", free_port(), CSS)
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(address, timeout=30) as answer:
            assert answer.status == 200 and "내가 만든 분류기".encode() in answer.read()
    finally:
        blocks.close(verbose=False)


def test_a_port_in_use_is_named(page):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(OSError, match="is in use"):
            launch(build(page), "127.0.0.1", taken.getsockname()[1], CSS)


@pytest.mark.browser
def test_in_a_browser(page):
    playwright = pytest.importorskip("playwright.sync_api", reason="pip install playwright to run the browser tests")
    path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if path is None:
        pytest.skip("no Chromium found: apt-get install chromium fonts-nanum to run the browser tests")
    blocks = build(page)
    try:
        address = launch(blocks, "127.0.0.1", free_port(), CSS)
        with playwright.sync_playwright() as driver:
            browser = driver.chromium.launch(executable_path=path, args=["--no-sandbox"])
            tab = browser.new_page(viewport={"width": 390, "height": 844}, locale="ko-KR")
            tab.goto(address)
            tab.locator("#text textarea").fill("정말 좋은 영화")
            tab.locator("#classify").click()
            tab.locator("#weights .word").first.wait_for(timeout=30_000)
            assert "긍정" in tab.locator("#answer").inner_text() and tab.locator("#weights .word").count() == 3
            good = tab.locator("#weights .word", has_text="좋은")
            assert good.evaluate("word => getComputedStyle(word).backgroundColor") == "rgba(48, 86, 211, 0.55)"
            assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth"), "nothing runs out of a narrow screen"
            browser.close()
    finally:
        blocks.close(verbose=False)
