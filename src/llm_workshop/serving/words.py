"""Every Korean word on the chat page, and the small pieces of HTML around them."""

from __future__ import annotations

import re
from dataclasses import fields
from html import escape

from llm_workshop.serving.engine import ModelInfo, Sampling
from llm_workshop.serving.worker import Timing

TITLE = "밑바닥 LLM 대화"
CHAT, COMPLETE = "대화", "이어쓰기"
SEND, STOP = "보내기", "멈추기"
BOX = {CHAT: "메시지를 입력하세요", COMPLETE: "이어 쓸 글의 첫머리를 적어 주세요"}
EMPTY_ANSWER = "(모델이 아무것도 쓰지 않고 답을 마쳤습니다.)"
BUSY = "기다리는 사람이 너무 많습니다. 잠시 뒤에 다시 보내 주세요."
ENGINE_BROKE = "모델 서버가 답하지 못했습니다. 서버가 다시 뜨는 중일 수 있으니 잠시 뒤에 다시 보내 주세요."
NOT_RATED = "평가를 저장하지 못했습니다. 까닭은 이 화면을 띄운 터미널에 찍혀 있습니다."
BROKEN = "답을 만들다가 오류가 났습니다. 터미널에 찍힌 기록을 확인해 주세요."
CUT_SHORT = "쓰던 글은 남겨 두었습니다."

SETTINGS = tuple(field.name for field in fields(Sampling))

#: Words in the conversation itself; the script reads them by these names.
LOG = {
    "you": "내가 쓴 글", "model": "모델의 답", "copy": "복사", "copied": "복사함", "edit": "고쳐서 다시 보내기", "resend": "다시 보내기",
    "cancel": "취소", "skip": "건너뛰기", "again": "다시 만들기", "up": "좋은 답이에요", "down": "아쉬운 답이에요", "better": "더 좋은 답을 적어 주세요",
    "save": "저장", "thanks": "평가를 저장했습니다. 고맙습니다!", "noted": "평가를 저장했습니다.",
    "saved": "적어 주신 답을 저장했습니다. 다음 학습의 좋은 자료가 됩니다.", "withdrawn": "평가를 지웠습니다.",
    "unsaved": "평가를 저장하지 못했습니다. 이 화면을 띄운 프로그램이 아직 켜져 있는지 확인해 주세요.", "empty": EMPTY_ANSWER,
}  # fmt: skip

EXAMPLES = {
    CHAT: (
        "김치찌개는 어떻게 끓여요?",
        "봄에 가기 좋은 여행지를 추천해 주세요.",
        "요즘 잠이 잘 안 와요. 어떻게 하죠?",
        "짧은 이야기 하나 들려주세요.",
    ),
    COMPLETE: (
        "어느 봄날 오후,",
        "이 영화는 정말",
        "보고 싶은 할머니께",
        "오늘 아침에 일어나니",
    ),
}


def header(info: ModelInfo) -> str:
    facts = [escape(info.name), f"파라미터 {count_of(info.n_parameters)}"]
    if info.bits_per_byte is not None:
        facts.append(f"{info.bits_per_byte:.2f} 비트/바이트")
    return (
        f'<div class="brand"><span class="mark" aria-hidden="true">밑</span>'
        f"<div><h1>{TITLE}</h1><p>{' · '.join(facts)}</p></div></div>"
    )


def welcome(mode: str, chats: bool) -> tuple[str, str]:
    """Title and line of an empty conversation."""
    if mode == CHAT and chats:
        return "무슨 이야기를 할까요?", "처음부터 직접 학습한 작은 모델입니다. 아래 예문을 누르거나 직접 물어보세요."
    if mode == CHAT:
        line = "학습 자료에 대화가 없어서 엉뚱한 답이 나올 수 있습니다. ‘이어쓰기’로 써 보세요."
        return "이 모델은 대화를 배운 적이 없습니다", line
    return "첫머리를 적으면 이어서 씁니다", "사전 학습만 마친 모델은 질문에 답하기보다 글을 이어 쓰는 일을 잘합니다."


def count(number: int) -> str:
    """5,772,544 -> "577만", 124,000,000 -> "1.24억": how Koreans read large numbers."""
    if number >= 10**8:
        return f"{number / 10**8:.3g}억"
    if number >= 10**4:
        return f"{number / 10**4:,.0f}만"
    return f"{number:,}"


def count_of(number: int) -> str:
    """With the counter: "577만 개", but "9,512개"."""
    return f"{count(number)} 개" if number >= 10**4 else f"{number:,}개"


def model_card(info: ModelInfo) -> str:
    """The model and the artifact it was loaded from."""
    rows = [
        ("구조", info.architecture),
        ("파라미터", count_of(info.n_parameters)),
        ("문맥 · 어휘", f"{info.context_length:,}토큰 · {info.vocab_size:,}개"),
        ("바이트당 비트", f"{info.bits_per_byte:.3f}" if info.bits_per_byte is not None else None),
        ("학습 자료", info.trained_on),
        ("학습한 토큰", count(info.trained_tokens) if info.trained_tokens else None),
        ("장치", " · ".join(part for part in (info.device, info.precision) if part) or None),
        ("만든 때", info.created[:16].replace("T", " ") if info.created else None),
        ("커밋", info.commit),
        ("산출물", info.artifact),
    ]
    body = "".join(f"<dt>{name}</dt><dd>{escape(value)}</dd>" for name, value in rows if value)
    return f'<section class="card"><h2>{escape(info.name)}</h2><dl>{body}</dl></section>'


def notice(text: str) -> str:
    return f'<p class="notice" role="alert">{escape(text)}</p>'


def refused(error: Exception) -> str:
    """For a request that the model has not taken; names the settings that the (English) error speaks of."""
    return f"모델이 이 요청을 받지 않았습니다. {check_settings(error)}"


def check_settings(error: Exception) -> str:
    found = [name for name in SETTINGS if re.search(rf"(?<![a-z_]){name}(?![a-z_])", str(error))]
    return f"생성 설정 {', '.join(found)}의 값을 확인해 주세요." if found else "생성 설정을 확인해 주세요."


def too_long(n_tokens: int, limit: int) -> str:
    return f"글이 모델의 문맥보다 깁니다: {n_tokens:,}토큰인데 {limit:,}토큰까지 넣을 수 있습니다. 줄여서 다시 보내 주세요."


def far_too_long(n_characters: int, limit: int) -> str:
    return f"글이 너무 깁니다: {n_characters:,}자입니다. 이 모델은 {limit:,}토큰까지만 볼 수 있으니 줄여서 다시 보내 주세요."


def waiting(ahead: int) -> str:
    text = f"앞의 답변 {ahead}개가 끝나기를 기다리는 중" if ahead else "생각하는 중"
    return f'<p class="busy" role="status">{text}<i></i></p>'


def writing(timing: Timing) -> str:
    return f'<p class="busy" role="status">{timing.n_tokens:,}토큰 쓰는 중<i></i></p>'


def figures(timing: Timing, reason: str | None, stopped: bool, sampling: Sampling, dropped: int) -> str:
    """The measured line under an answer."""
    parts = []
    if timing.time_to_first_token is not None:
        parts.append(f"첫 토큰 <b>{timing.time_to_first_token:.2f}초</b>")
    if timing.tokens_per_second is not None:
        parts.append(f"<b>{timing.tokens_per_second:,.0f}</b> 토큰/초")
    parts.append(f"{timing.n_tokens:,}토큰, {timing.seconds:.1f}초")
    if sampling.seed is not None:
        parts.append(f"시드 {sampling.seed}")
    # An engine tells that it stopped, not at which of the two.
    end = "종료 토큰이나 멈춤 글에서 멈춤" if sampling.stop else "종료 토큰에서 멈춤"
    parts.append("멈춤" if stopped else "길이 제한에 닿음" if reason == "length" else end)
    line = " · ".join(parts)
    if dropped:
        line += f"<br>대화가 길어서 오래된 메시지 {dropped}개는 모델에게 보이지 않았습니다."
    return f'<p class="figures" role="status">{line}</p>'
