"""Judging answers that have no single right wording: plain rules, or another model with a rubric (Zheng et al. 2023).

A judge gives 1 to 5 points and a reason.  ``RuleJudge`` always works and sees only the surface.  ``ModelJudge`` asks a
model, through any function from a prompt to text: ``endpoint`` (an OpenAI-compatible server: vLLM, Ollama, llama.cpp, ours)
or a generator in this process.  Judges prefer long answers and their own style: read some verdicts before you believe the mean.
"""

from __future__ import annotations

import json
import re
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

from llm_workshop.finetuning.answer_scores import chrf

POINTS = (1, 5)
RUBRIC = """다음 질문에 대한 답을 1점에서 5점까지로 매기세요.
5: 물음에 정확히 답하고 자연스럽다. 4: 대체로 맞고 작은 흠이 있다. 3: 일부만 맞거나 어색하다.
2: 물음과 거의 상관없다. 1: 틀렸거나 말이 되지 않거나 비어 있다.
길이나 말투로 점수를 주지 말고, 모범 답과 뜻이 같은지를 보세요.

[질문]
{question}

[모범 답]
{reference}

[매길 답]
{answer}

첫 줄에 "점수: 숫자"만 쓰고, 다음 줄에 까닭을 한 문장으로 쓰세요."""
_POINTS = re.compile(r"점수\s*[:：]\s*([1-5])(?!\d)|^\s*([1-5])\s*(?:점|/\s*5)?\s*$", re.MULTILINE)


@dataclass(frozen=True)
class Verdict:
    """Points from 1 to 5, or None where the judge gave none that can be read, and why."""

    points: int | None
    reason: str


class Judge(Protocol):
    def judge(self, question: str, reference: str, answer: str) -> Verdict:
        """A verdict on ``answer``, with ``reference`` as a right one."""


class RuleJudge:
    """What can be seen without understanding: emptiness, repetition, length, and characters shared with the right answer."""

    def judge(self, question: str, reference: str, answer: str) -> Verdict:
        if not answer.strip():
            return Verdict(1, "빈 답")
        if (share := repetition(answer)) > 0.5:
            return Verdict(1, f"되풀이 {share:.0%}")
        similarity = chrf(answer, reference)
        points = 1 + sum(similarity >= bound for bound in (0.15, 0.3, 0.5, 0.75))
        ratio = len(answer) / max(1, len(reference))
        if points > 2 and not 1 / 3 <= ratio <= 3:
            return Verdict(points - 1, f"chrF {similarity:.2f}, 길이가 모범 답의 {ratio:.1f}배")
        return Verdict(points, f"chrF {similarity:.2f}")


def repetition(text: str) -> float:
    """Share of the pairs of neighbouring words that came before; 0 for texts of fewer than four words."""
    pairs = list(pairwise(text.split()))
    return 0.0 if len(pairs) < 3 else 1 - len(Counter(pairs)) / len(pairs)


class ModelJudge:
    """Another model, asked with ``RUBRIC``; ``ask`` takes a prompt and returns what the model writes."""

    def __init__(self, ask: Callable[[str], str]):
        self.ask = ask

    def judge(self, question: str, reference: str, answer: str) -> Verdict:
        reply = self.ask(RUBRIC.format(question=question, reference=reference, answer=answer or "(빈 답)"))
        found = _POINTS.search(reply)
        if not found:
            return Verdict(None, f"점수를 읽을 수 없음: {' '.join(reply.split())[:80]!r}")
        rest = reply[found.end() :].strip().split("\n")[0]
        return Verdict(int(found[1] or found[2]), rest or "(까닭 없음)")


def endpoint(url: str, model: str | None = None, *, api_key: str | None = None, timeout: float = 60.0) -> Callable[[str], str]:
    """A function that asks an OpenAI-compatible server: ``url`` up to and with ``/v1``.

    The function raises ``OSError``, with what to do, where nobody answers or the answer is of another form.
    """
    if not re.match(r"https?://", url):
        raise ValueError(f"the judge's address {url!r} must begin with http:// or https://, e.g. http://127.0.0.1:8080/v1")

    def ask(prompt: str) -> str:
        body = {"messages": [{"role": "user", "content": prompt}], "temperature": 0, "max_tokens": 200}
        body |= {"model": model} if model else {}
        headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {api_key}"} if api_key else {})
        request = urllib.request.Request(url.rstrip("/") + "/chat/completions", json.dumps(body).encode(), headers)
        try:
            with urllib.request.urlopen(request, timeout=timeout) as response:
                return json.load(response)["choices"][0]["message"]["content"]
        except urllib.error.HTTPError as error:
            raise OSError(f"the judge at {url} refuses ({error.code} {error.reason}): check its model's name and key") from None
        except (urllib.error.URLError, TimeoutError, ConnectionError) as error:
            raise OSError(f"no judge answers at {url} ({error}): start the server, or leave instruct.judge out") from None
        except (KeyError, IndexError, TypeError, json.JSONDecodeError):
            raise OSError(f"what answers at {url} does not speak OpenAI's chat interface: check the address") from None

    return ask


def mean_points(verdicts: list[Verdict]) -> tuple[float | None, int]:
    """The mean of the points that were given, and how many verdicts had none."""
    points = [verdict.points for verdict in verdicts if verdict.points is not None]
    return (sum(points) / len(points) if points else None), len(verdicts) - len(points)
