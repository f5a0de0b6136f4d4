"""`workshop chat`: through a pseudo-terminal as a person sees it, and with pipes."""

from __future__ import annotations

import dataclasses
import os
import pty
import re
import select
import signal
import socket
import struct
import subprocess
import sys
import termios
import time
from fcntl import ioctl

import pytest
from support.fake_triton import INFO, FakeTriton, fails, outputs, when_ended, words

from scratch_llm.tokenizers import SPECIAL_TOKENS, ByteLevelBPE

HANGUL = "네, 날씨가 맑아요 ☀️"


@pytest.fixture(scope="module")
def info(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    ByteLevelBPE.train(["안녕하세요? 오늘은 날씨가 참 좋네요."] * 10, 300, SPECIAL_TOKENS).save(folder)
    return dataclasses.replace(INFO, artifact=str(folder), context_length=512)


def command(*arguments):
    return [sys.executable, "-m", "llm_workshop.cli", "chat", "--scale", "smoke", *arguments]


def environment(tmp_path):
    return {**os.environ, "TERM": "xterm-256color", "LANG": "C.UTF-8", "INPUTRC": "/dev/null", "HOME": str(tmp_path),
            "ARTIFACTS_DIR": str(tmp_path / "artifacts")}  # fmt: skip


class Terminal:
    """The command in a terminal of 40 columns; ``screen`` is all it wrote, without colours."""

    def __init__(self, tmp_path, *arguments):
        self.master, slave = pty.openpty()
        ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 40, 0, 0))
        self.process = subprocess.Popen(
            command(*arguments), stdin=slave, stdout=slave, stderr=slave, cwd=tmp_path, env=environment(tmp_path),
            start_new_session=True, preexec_fn=lambda: ioctl(0, termios.TIOCSCTTY, 0),
        )  # fmt: skip
        os.close(slave)
        self.raw = b""
        self.seen = 0

    @property
    def screen(self) -> str:
        return re.sub(r"\x1b(\[[0-9;?]*[a-zA-Z]|[=>])", "", self.raw.decode("utf-8", "replace"))

    def read(self, seconds: float) -> bool:
        if not select.select([self.master], [], [], seconds)[0]:
            return False
        try:
            data = os.read(self.master, 65536)
        except OSError:  # the other side is closed
            return False
        self.raw += data
        return bool(data)

    def expect(self, text: str, seconds: float = 30) -> None:
        """Wait for ``text`` after what was waited for before."""
        end = time.monotonic() + seconds
        while text not in self.screen[self.seen :]:
            assert time.monotonic() < end, f"{text!r} did not come: {self.screen[self.seen:]!r}"
            self.read(0.1)
        self.seen = self.screen.index(text, self.seen) + len(text)

    def type(self, text: str) -> None:
        os.write(self.master, text.encode())

    def ask(self, text: str) -> None:
        self.expect("나> ")
        self.type(text + "\r")

    def end(self) -> int:
        deadline = time.monotonic() + 15
        while self.process.poll() is None and time.monotonic() < deadline:
            self.read(0.1)
        while self.read(0.05):
            pass
        return self.process.wait(1)


@pytest.fixture
def terminal(tmp_path):
    opened = []

    def start(*arguments):
        opened.append(Terminal(tmp_path, *arguments))
        return opened[-1]

    yield start
    for each in opened:
        if each.process.poll() is None:
            each.process.kill()
            each.process.wait()
        os.close(each.master)


def test_a_conversation_with_commands(terminal, info):
    with FakeTriton(words("네, ", "날씨가 ", "맑아요 ", "☀️", pause=0.01), info=info) as fake:
        screen = terminal("--url", fake.address, "chat.system_prompt=짧게 답해 주세요.")
        screen.expect("smoke · 파라미터 50만 개와 이야기합니다")
        screen.ask("오늘 날씨 어때요?")
        screen.expect(HANGUL)
        screen.expect("토큰/초 · 4토큰")
        screen.ask("/설정 temperature=0 top_k=5 stop=끝,그만")
        screen.expect("temperature = 0.0")
        screen.ask("/설정 온도=1")
        screen.expect("이름=값으로 적어 주세요")
        screen.ask("/설정 top_p=7")
        screen.expect("top_p=7.0: 0보다 크고 1 이하인 수를 적어 주세요.")
        screen.ask("/다시")
        screen.expect(HANGUL)
        screen.ask("그럼 내일은요?")
        screen.expect(HANGUL)
        screen.ask("/모델")
        screen.expect(fake.address)
        screen.ask("/help")
        screen.expect("/다시   (/retry)")
        screen.ask("/새로")
        screen.expect("새로 시작합니다")
        screen.ask("/다시")
        screen.expect("다시 답할 질문이 아직 없습니다")
        screen.ask("/뭐야")
        screen.expect("모르는 명령입니다")
        screen.ask("/끝")
        screen.expect("안녕히 가세요")
        assert screen.end() == 0
    system, first, answer = "<|system|>짧게 답해 주세요.<|end|>", "<|user|>오늘 날씨 어때요?<|end|><|assistant|>", f"{HANGUL}<|end|>"
    prompts = [request["text_input"] for request in fake.requests]
    assert prompts == [system + first, system + first, f"{system}{first}{answer}<|user|>그럼 내일은요?<|end|><|assistant|>"]
    assert fake.requests[1]["sampling_param_temperature"] == 0 and fake.requests[1]["sampling_param_stop"] == ["끝", "그만"]
    assert "\ufffd" not in screen.screen


def test_ctrl_c_stops_the_answer_and_keeps_it_then_quits(terminal, info):
    def endless(server, request, context):
        when_ended(context, server.cancelled)
        for n in range(1, 500):
            if server.release.wait(0.05):
                return
            yield outputs(text_output="음 " * n, num_output_tokens=n)

    with FakeTriton(endless, words("네."), info=info) as fake:
        screen = terminal("--url", fake.address)
        screen.ask("이야기해 주세요")
        screen.expect("음 음 음")
        screen.type("\x03")
        screen.expect("여기서 멈춤")
        assert fake.cancelled.wait(5), "the server was told"
        screen.ask("계속요")
        screen.expect("네.")
        screen.expect("나> ")
        # Python's readline loses a signal that comes between its prompt and its select, which no hand is quick enough for.
        time.sleep(0.5)
        screen.type("\x03")
        screen.expect("안녕히 가세요")
        assert screen.end() == 0
    assert re.search(r"<\|assistant\|>(음 )+<\|end\|><\|user\|>계속요", fake.requests[1]["text_input"]), "what was said stays"


def test_stopped_before_the_first_token(terminal, info):
    def silent(server, request, context):
        when_ended(context, server.cancelled)
        server.release.wait(30)
        yield from ()

    with FakeTriton(silent, words("네."), info=info) as fake:
        screen = terminal("--url", fake.address)
        screen.ask("안녕?")
        while not fake.requests:
            time.sleep(0.02)
        screen.type("\x03")
        screen.expect("답이 나오기 전에 멈췄습니다")
        assert fake.cancelled.wait(5)
        screen.ask("/다시")
        screen.expect("네.")
        screen.expect("나> ")
        screen.type("\x04")
        assert screen.end() == 0
    assert fake.requests[0]["text_input"] == fake.requests[1]["text_input"]


@pytest.mark.parametrize("bracketed", [True, False], ids=["bracketed", "plain"])
def test_pasted_lines_are_one_message(terminal, info, bracketed):
    pasted = "첫째 줄\n둘째 줄\n셋째 줄"
    with FakeTriton(words("네."), info=info) as fake:
        screen = terminal("--url", fake.address)
        screen.expect("나> ")
        screen.type(f"\x1b[200~{pasted}\x1b[201~\r" if bracketed else pasted.replace("\n", "\r") + "\r")
        screen.expect("토큰")
        screen.ask("/끝")
        assert screen.end() == 0
    assert [request["text_input"] for request in fake.requests] == [f"<|user|>{pasted}<|end|><|assistant|>"]


def test_an_answer_cannot_command_the_terminal_and_is_never_broken(terminal, info):
    raw = "한\x1b[2J\x07글 \u202e[red]😀".encode()
    cut = [outputs(text_output=raw[:n], num_output_tokens=n) for n in range(1, len(raw) + 1)]
    with FakeTriton(lambda *_: iter(cut), info=info) as fake:
        screen = terminal("--url", fake.address)
        screen.ask("안녕?")
        screen.expect("한[2J글 [red]😀")
        screen.ask("/끝")
        assert screen.end() == 0
    assert b"\x1b[2J" not in screen.raw and b"\x07" not in screen.raw and "\ufffd".encode() not in screen.raw


def test_problems_are_told_and_the_conversation_goes_on(terminal, info):
    import grpc

    broken = fails("Socket closed", grpc.StatusCode.UNAVAILABLE, after=("반쯤",))
    with FakeTriton(broken, words("네."), info=info) as fake:
        screen = terminal("--url", fake.address)
        screen.ask("안녕?")
        screen.expect("반쯤")
        screen.expect("서버가 답하지 못했습니다")
        screen.expect("자세한 까닭:")
        screen.expect("in the middle of the answer")
        screen.ask("가나다라마바사 " * 100)
        screen.expect("토큰까지 넣을 수 있습니다")
        screen.ask("좋아요")
        screen.expect("네.")
        screen.ask("/끝")
        assert screen.end() == 0


def run(tmp_path, *arguments, text=None):
    return subprocess.run(
        command(*arguments), input=text, capture_output=True, cwd=tmp_path, env=environment(tmp_path), timeout=60
    )


@pytest.mark.parametrize("way", ["pipe", "once"])
def test_the_answer_alone(tmp_path, info, way):
    with FakeTriton(words("네, ", "좋아요!"), info=info) as fake:
        if way == "pipe":
            done = run(tmp_path, "--url", fake.address, text="안녕\n하세요\n".encode())
        else:
            done = run(tmp_path, "--url", fake.address, "--once", "안녕\n하세요")
    assert (done.returncode, done.stdout.decode(), done.stderr) == (0, "네, 좋아요!\n", b"")
    assert fake.requests[0]["text_input"] == "<|user|>안녕\n하세요<|end|><|assistant|>"


def test_a_model_that_cannot_chat_goes_on_writing(tmp_path, info):
    with FakeTriton(words(" 살았어요."), info=dataclasses.replace(info, supports_chat=False)) as fake:
        done = run(tmp_path, "--url", fake.address, text="옛날 옛날에<|end|>".encode())
    assert done.stdout.decode() == " 살았어요.\n" and fake.requests[0]["text_input"] == "옛날 옛날에"


def test_the_ports_of_the_running_stack_are_asked(tmp_path, info):
    from llm_workshop.serving.stack.service import Service

    service = Service(tmp_path / "artifacts" / "smoke" / "serving")
    nowhere = ["serving.grpc_port=1", "serving.http_port=1"]
    with FakeTriton(words("네."), info=info) as fake, service.hold():
        part = {"address": "http://127.0.0.1:1", "grpc_address": fake.address}
        service.write({"parts": {"triton": part}})
        assert run(tmp_path, *nowhere, "--once", "가").stdout.decode() == "네.\n"
    service.write({"parts": {"triton": part}})  # left behind: nobody holds the lock
    assert b"no server answers at 127.0.0.1:1 " in run(tmp_path, *nowhere, "--once", "가").stderr


def test_what_is_missing_is_told_in_one_line(tmp_path, info):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    nowhere = [f"serving.grpc_port={port}", "serving.http_port=1"]
    with FakeTriton(words("네."), info=info) as fake:
        cases = {
            f"no server answers at 127.0.0.1:{port} (`make week8-serve` starts one), and no base-model": (*nowhere, "--once", "가"),
            f"no server answers at 127.0.0.1:{port} (gRPC): start it with `make week8-serve`": ("--url", f"127.0.0.1:{port}", "--once", "가"),
            "its model 'other' is not ready": ("--url", fake.address, "--model", "other", "--once", "가"),
            "use HOST:PORT": ("--url", "here", "--once", "가"),
            "there is no question": ("--once", "  "),
        }
        for message, arguments in cases.items():
            done = run(tmp_path, *arguments, text=b"")
            lines = done.stderr.decode().splitlines()
            assert done.returncode == 1 and len(lines) == 1 and lines[0].startswith("error: ") and message in lines[0], lines
            assert done.stdout == b""


def test_ctrl_c_in_a_pipe_is_an_interruption(tmp_path, info):
    def silent(server, request, context):
        server.release.wait(90)
        yield from ()

    with FakeTriton(silent, info=info) as fake:
        process = subprocess.Popen(command("--url", fake.address, "--once", "가"), cwd=tmp_path, stderr=subprocess.PIPE)
        while not fake.requests:
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130 and b"Traceback" not in stderr
