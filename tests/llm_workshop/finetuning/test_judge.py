"""Judges: rules that see the surface, and another model behind a real socket."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from llm_workshop.finetuning.judge import ModelJudge, RuleJudge, Verdict, endpoint, mean_points, repetition

REFERENCE = "김치를 먼저 볶은 다음 물을 붓고 끓여요."


def test_rules_rank_answers():
    judge = RuleJudge()
    points = [judge.judge("물음", REFERENCE, answer).points for answer in (
        REFERENCE, "김치를 볶은 다음 물을 붓고 끓이면 돼요.", "김치를 볶아요.", "저는 축구를 좋아합니다.", "",
    )]  # fmt: skip
    assert points[0] == 5 and points[-1] == 1 and points[-2] == 1
    assert points == sorted(points, reverse=True) and points[1] > points[3]


def test_rules_see_repetition_and_length():
    judge = RuleJudge()
    assert judge.judge("물음", REFERENCE, "김치를 볶아요 " * 20) == Verdict(1, "되풀이 95%")
    long = judge.judge("물음", "물을 붓고 끓여요", "물을 붓고 끓여요 그리고 파와 두부와 마늘을 넣고 오래 더 끓이면 맛이 아주 좋아져요")
    short = judge.judge("물음", "물을 붓고 끓여요", "물을 붓고 끓여요")
    assert long.points < short.points
    assert repetition("가 나 가 나 가") == pytest.approx(0.5) and repetition("가 가") == 0


@pytest.mark.parametrize(
    ("reply", "points", "reason"),
    [
        ("점수: 4\n작은 흠이 있다.", 4, "작은 흠이 있다."),
        ("점수：2\n거의 상관없다.\n더 쓸 말", 2, "거의 상관없다."),
        ("5", 5, "(까닭 없음)"),
        ("3점\n애매하다", 3, "애매하다"),
        ("2/5\n짧다", 2, "짧다"),
        ("점수: 10\n최고", None, "점수를 읽을 수 없음"),
        ("잘 모르겠습니다.", None, "점수를 읽을 수 없음"),
    ],
)
def test_reading_verdicts(reply, points, reason):
    verdict = ModelJudge(lambda prompt: reply).judge("물음", REFERENCE, "답")
    assert verdict.points == points and verdict.reason.startswith(reason)


def test_the_rubric_shows_question_reference_and_answer():
    prompts = []
    ModelJudge(lambda prompt: prompts.append(prompt) or "점수: 1").judge("무엇을 볶나요?", REFERENCE, "")
    assert all(part in prompts[0] for part in ("무엇을 볶나요?", REFERENCE, "(빈 답)", "1점에서 5점"))


def test_the_mean_leaves_unreadable_verdicts_out():
    assert mean_points([Verdict(5, ""), Verdict(2, ""), Verdict(None, "")]) == (3.5, 1)
    assert mean_points([Verdict(None, "")]) == (None, 1)


@pytest.fixture
def server():
    """A server that speaks OpenAI's interface; ``server.reply`` is (status, body)."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            self.server.asked.append((self.path, body, self.headers.get("Authorization")))
            status, reply = self.server.reply
            self.send_response(status)
            self.end_headers()
            self.wfile.write(json.dumps(reply).encode())

        def log_message(self, *arguments):
            pass

    http = HTTPServer(("127.0.0.1", 0), Handler)
    http.asked, http.reply = [], (200, {"choices": [{"message": {"content": "점수: 4\n좋다."}}]})
    threading.Thread(target=http.serve_forever, daemon=True).start()
    yield http
    http.shutdown()


def test_asking_an_endpoint(server):
    url = f"http://127.0.0.1:{server.server_port}/v1"
    verdict = ModelJudge(endpoint(url, "judge-1", api_key="key")).judge("물음", REFERENCE, "답")
    assert verdict == Verdict(4, "좋다.")
    [(path, body, key)] = server.asked
    assert path == "/v1/chat/completions" and body["model"] == "judge-1" and body["temperature"] == 0 and key == "Bearer key"


def test_what_goes_wrong_with_an_endpoint(server):
    url = f"http://127.0.0.1:{server.server_port}/v1/"
    ask = endpoint(url)
    server.reply = (401, {})
    with pytest.raises(OSError, match=r"refuses .401"):
        ask("?")
    server.reply = (200, {"answer": 1})
    with pytest.raises(OSError, match=r"does not speak OpenAI's chat interface"):
        ask("?")
    with pytest.raises(OSError, match=r"no judge answers at http://127\.0\.0\.1:9/v1"):
        endpoint("http://127.0.0.1:9/v1", timeout=2)("?")
    with pytest.raises(ValueError, match="must begin with http"):
        endpoint("localhost:8080")
