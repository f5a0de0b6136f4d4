"""Every Korean word of the terminal chat."""

from __future__ import annotations

import dataclasses

from llm_workshop.serving.engine import ModelInfo, Sampling
from llm_workshop.serving.words import count_of
from llm_workshop.serving.worker import Timing

HELP = """\
그냥 글을 쓰고 Enter를 누르면 모델이 답합니다. 여러 줄을 붙여 넣어도 메시지 하나로 보냅니다.

  /도움   (/help)    이 도움말
  /새로   (/new)     대화를 지우고 새로 시작합니다
  /다시   (/retry)   마지막 질문에 다시 답하게 합니다
  /설정   (/set)     지금 설정을 봅니다. 바꾸려면: /설정 temperature=0.7 top_p=0.9
  /모델   (/model)   어떤 모델과 이야기하고 있는지 봅니다
  /끝     (/quit)    마칩니다

Ctrl-C를 누르면 답이 멈추고 그때까지 쓴 글은 남습니다. 글을 입력할 차례에 누르면 대화를 마칩니다."""

PROMPT = "나> "
BYE = "안녕히 가세요."
NEW = "대화를 새로 시작합니다."
NOTHING_TO_REPEAT = "다시 답할 질문이 아직 없습니다."
STOPPED = "여기서 멈춤"
KEEPS_NOTHING = "답이 나오기 전에 멈췄습니다. /다시를 입력하면 같은 질문을 다시 보냅니다."
BROKEN = "서버가 답하지 못했습니다. 서버가 다시 뜨는 중일 수 있으니 잠시 뒤에 /다시를 입력해 보세요."
BUSY = "서버가 다른 요청으로 바쁩니다. 잠시 뒤에 /다시를 입력해 보세요."
COMPLETES = "이 모델은 대화를 배운 적이 없어서, 입력한 글을 이어 씁니다."


def unknown(command: str) -> str:
    return f"모르는 명령입니다: {command}. /도움을 입력하면 명령을 모두 보여 줍니다."


def cause(error: Exception) -> str:
    """For whoever looks after the server."""
    return f"  자세한 까닭: {error}"


def in_process(address: str) -> str:
    return (
        f"{address}에 서버가 없어서 이 터미널 안에서 모델을 직접 돌립니다. "
        "서버와 이야기하려면 다른 터미널에서 make week8-serve를 실행하세요."
    )


def greeting(info: ModelInfo) -> str:
    return f"{info.name} · 파라미터 {count_of(info.n_parameters)}와 이야기합니다. 명령은 /도움, 마치려면 /끝."


def model(info: ModelInfo, where: str) -> str:
    """The facts, one a line; labels and values in two columns."""
    rows = [
        ("이름", info.name),
        ("구조", info.architecture),
        ("크기", f"파라미터 {count_of(info.n_parameters)}"),
        ("문맥", f"{info.context_length:,}토큰, 어휘 {info.vocab_size:,}개"),
        ("대화", "배웠음" if info.supports_chat else "배운 적 없음 (이어쓰기)"),
        ("자료", info.trained_on),
        ("장치", " · ".join(part for part in (info.device, info.precision) if part)),
        ("폴더", info.artifact),
        ("연결", where),
    ]
    return "\n".join(f"  {name}  {value}" for name, value in rows if value)


def settings(sampling: Sampling) -> str:
    """Names as /설정 takes them."""
    shown = {field.name: getattr(sampling, field.name) for field in dataclasses.fields(sampling)}
    shown["stop"] = ",".join(sampling.stop) or None
    return "\n".join(f"  {name} = {'없음' if value is None else value}" for name, value in shown.items())


def figures(timing: Timing, reason: str | None, dropped: int) -> str:
    """The measured line under an answer."""
    parts = []
    if timing.time_to_first_token is not None:
        parts.append(f"첫 토큰 {timing.time_to_first_token:.2f}초")
    if timing.tokens_per_second is not None:
        parts.append(f"{timing.tokens_per_second:,.0f} 토큰/초")
    parts.append(f"{timing.n_tokens:,}토큰")
    if reason == "length":
        parts.append("길이 제한에 닿음")
    if reason == "cancelled":
        parts.append(STOPPED)
    if dropped:
        parts.append(f"대화가 길어서 오래된 메시지 {dropped}개는 모델에게 보이지 않음")
    return " · ".join(parts)
