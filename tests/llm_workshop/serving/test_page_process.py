"""The page as a process of its own: over a real Triton server, in a real browser."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys

import pytest
from conftest import free_port
from support.triton_stack import ANSWER, QUESTION

from llm_workshop.serving.feedback.store import FeedbackStore

BOX, BOT, SENT = "#box textarea", "#chat .message.bot", "#box .submit-button"


def command(*arguments):
    return [sys.executable, "-m", "llm_workshop.serving.page_process", "--scale", "smoke", *arguments]


@contextlib.contextmanager
def running(*arguments):
    """The process with its page open; ended by SIGTERM, cleanly."""
    program = subprocess.Popen(command(*arguments), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        line = program.stdout.readline()
        assert line.startswith("chat page: http://"), line + program.stderr.read()
        yield line.split()[2]
        program.send_signal(signal.SIGTERM)
        out, err = program.communicate(timeout=20)
        assert program.returncode == 0 and "chat page closed" in out and "Traceback" not in err, err
    finally:
        program.kill()
        program.communicate()


@pytest.mark.parametrize(
    "arguments, said",
    [
        (["--triton", "127.0.0.1:{port}", "--wait", "0"], "no server can be reached"),
        (["--triton", "ftp://x", "--wait", "0"], "use HOST:PORT"),
        (["--triton", "127.0.0.1:{port}", "--models", "a", "--wait", "0.3"], "model 'a' at 127.0.0.1:"),
        (["--port", "0"], "chat.port"),
    ],
)
def test_what_cannot_be_opened_is_one_line(arguments, said):
    port = free_port()
    arguments = [argument.format(port=port) for argument in arguments]
    done = subprocess.run(command(f"chat.port={free_port()}", *arguments), capture_output=True, text=True, timeout=60)
    assert done.returncode == 1 and said in done.stderr, done.stderr
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr


@pytest.mark.browser
def test_a_conversation_over_triton(triton_stack, browser, tmp_path):
    store = FeedbackStore(tmp_path / "feedback.sqlite")
    arguments = ["--triton", triton_stack.server.grpc_address, "--port", str(free_port()), "--feedback", str(store.path)]
    with running(*arguments, "generate.temperature=0", "generate.max_new_tokens=64") as address:
        tabs = [browser.new_page(locale="ko-KR"), browser.new_page(locale="ko-KR")]
        for tab in tabs:
            tab.set_default_timeout(20_000)
            tab.goto(address)
            tab.wait_for_selector(SENT)
            tab.fill(BOX, QUESTION)
        for tab in tabs:
            tab.click(SENT)
        for tab in tabs:
            tab.wait_for_selector("#status .figures")
            assert tab.inner_text(BOT).strip() == ANSWER and "토큰/초" in tab.inner_text("#status")
            assert "\ufffd" not in tab.content()
        tabs[0].click("#chat .tool.up")
        tabs[0].wait_for_selector("#chat .said")
        tabs[1].click("#mode label >> nth=1")
        tabs[1].wait_for_selector("text=첫머리를 적으면 이어서 씁니다")
        tabs[1].fill(BOX, "바다는")
        tabs[1].click(SENT)
        tabs[1].wait_for_selector("#status .figures")
        assert tabs[1].inner_text(BOT).startswith("바다는 푸르고 🌊")
        for tab in tabs:
            tab.close()
    (row,) = store.all()
    assert (row.answer, row.rating) == (ANSWER, 1) and row.messages == [{"role": "user", "content": QUESTION}]
    assert row.artifact and row.sampling["temperature"] == 0
