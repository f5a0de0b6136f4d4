"""The Korean text and the look of the quiz page.  Quizzes are Markdown; HTML inside them is shown, never run."""

from __future__ import annotations

import re
from functools import cache
from html import escape

from llm_workshop.learning.question import Question
from llm_workshop.learning.quiz import Quiz
from llm_workshop.learning.quiz_session import QuizSession
from llm_workshop.report.style import MONO_STACK

TITLE = "밑바닥 LLM 워크숍 퀴즈"
HEADER = f'<div class="masthead"><h1>{TITLE}</h1><p>답은 이 컴퓨터에만 저장됩니다. 터미널에서 풀던 문제를 이어서 풀 수 있습니다.</p></div>'

#: Gradio's page says that it is English, which decides how it is read aloud and broken into lines.
HEAD = "<script>document.documentElement.lang = 'ko'</script>"


@cache
def _markdown():
    from markdown_it import MarkdownIt

    return MarkdownIt("commonmark", {"html": False}).enable(["table", "strikethrough"])


def prose(text: str) -> str:
    """Markdown as HTML; a wide table scrolls in its own box."""
    return _markdown().render(text).replace("<table>", '<div class="table"><table>').replace("</table>", "</table></div>")


def choice_labels(question: Question) -> list[tuple[str, int]]:
    """(label, number): labels of inputs are plain text, so code stands in quotation marks."""
    choices = getattr(question, "choices", ())
    return [(f"{number}. {_unmarked(choice)}", number) for number, choice in enumerate(choices, 1)]


def _unmarked(text: str) -> str:
    text = re.sub(r"`([^`]*)`", "‘\\1’", " ".join(text.split()))
    return text.replace("**", "")


def question(question: Question, place: int, session: QuizSession) -> str:
    before = {True: '<p class="before good">전에 맞힌 문제입니다.</p>', False: '<p class="before bad">전에 틀린 문제입니다.</p>', None: ""}
    code = f'<pre><code>{escape(question.code)}</code></pre>' if question.type == "output" else ""
    # The list that one puts in order opens only on a click, so the things to be ordered stand above it as well.
    things = prose("\n".join(f"{n}. {choice}" for n, choice in enumerate(question.choices, 1))) if question.type == "order" else ""
    return (f'<div class="prose"><p class="number">{place + 1} / {len(session.quiz.questions)} · {escape(question.id)}</p>'
            f"{before[session.state(question)]}{prose(question.question)}{code}{things}</div>")


def how(question: Question) -> str:
    lines = f" ({question.n_lines}줄)" if question.type == "output" else ""
    own = {"choice": "하나를 고르세요.", "multiple": "맞는 것을 모두 고르세요.", "order": "첫 번째부터 차례대로 모두 고르세요."}
    return f'<p class="how">{escape(own.get(question.type, question.how))}{lines}</p>'


def verdict(question: Question, right: bool) -> str:
    if right:
        head = '<p class="mark good">○ 맞았습니다</p>'
    else:
        answer = question.right_answer()
        shown = prose(answer.replace("\n", "  \n")) if question.type in ("choice", "multiple", "order") else f"<pre><code>{escape(answer)}</code></pre>"
        head = f'<p class="mark bad">× 다시 볼 문제입니다</p><div class="right"><strong>정답</strong>{shown}</div>'
    return f'<div class="prose verdict">{head}{prose(question.explanation)}<p class="more">더 읽기: {escape(question.reference)}</p></div>'


def problem(error: Exception) -> str:
    return f'<div class="prose verdict"><p class="mark bad">{escape(str(error))}</p></div>'


def score(session: QuizSession) -> str:
    right, of = session.score()
    wrong, left = len(session.wrong()), len(session.unanswered())
    return (f'<div class="score"><span class="bar" role="img" aria-label="{right}/{of}"><span style="width:{100 * right / of:.1f}%"></span></span>'
            f"<span>맞음 {right} · 틀림 {wrong} · 아직 {left}</span></div>")


def checkpoints(quiz: Quiz) -> str:
    if not quiz.checkpoints:
        return '<p class="how">이 퀴즈에는 체크포인트 질문이 없습니다.</p>'
    parts = "".join(
        f'<div class="point"><div class="prose">{prose(f"**{number}.** {point.question}")}</div>'
        f'<details><summary>예시 답 보기</summary><div class="prose">{prose(point.answer)}</div></details></div>'
        for number, point in enumerate(quiz.checkpoints, 1)
    )
    return f'<p class="how">먼저 스스로 답해 본 뒤에 펼쳐 보세요.</p>{parts}'


CSS = f"""
:root {{ --paper: #fbfbf9; --card: #ffffff; --ink: #22262f; --soft: #636b78; --line: #e4e5e1; --accent: #3056d3; --on-accent: #ffffff;
  --accent-soft: #eef2fe; --code: #f4f4f0; --good: #1a7f63; --bad: #b64a16; --mine: #e9eefc; --warn: #9a4b00; --warn-soft: #fdf3e4; }}
.dark {{ --paper: #14161b; --card: #1b1e25; --ink: #e4e6eb; --soft: #9aa2b1; --line: #2c313b; --accent: #8ea8ff; --on-accent: #10131c;
  --accent-soft: #222a44; --code: #232730; --good: #4fc3a1; --bad: #f0945f; --mine: #26304f; --warn: #f0b35e; --warn-soft: #33291a; }}
.gradio-container {{ width: 100% !important; max-width: 52rem !important; margin: 0 auto !important; word-break: keep-all; overflow-wrap: anywhere; }}
.gradio-container:not(:has(#question .number)) #buttons {{ display: none; }}
.masthead h1 {{ font-size: 1.4rem; font-weight: 700; margin: .6rem 0 0; color: var(--ink); }}
.masthead p, .how, .more, .number {{ color: var(--soft); font-size: .9rem; }}
.prose {{ color: var(--ink); font-size: 1rem; line-height: 1.75; }}
.prose :where(p, ul, ol, pre, .table) {{ margin: .7rem 0; }}
.prose ul {{ list-style: disc; padding-left: 1.4rem; }} .prose ol {{ list-style: decimal; padding-left: 1.6rem; }}
.prose code {{ font-family: {MONO_STACK}; font-size: .9em; background: var(--code); border-radius: 5px; padding: .1em .35em; color: var(--ink); }}
.prose :not(pre) > code {{ display: inline-block; max-width: 100%; line-height: 1.5; }}
.prose pre {{ background: var(--code); border-radius: 10px; padding: .9rem 1rem; overflow-x: auto; line-height: 1.6; }}
.prose pre code {{ background: none; padding: 0; white-space: pre; }}
.prose .table {{ overflow-x: auto; }} .prose table {{ border-collapse: collapse; font-size: .95rem; }}
.prose :is(table, tr) {{ border: 0 !important; }}
.prose :is(th, td) {{ border: 0 !important; border-bottom: 1px solid var(--line) !important; padding: .35rem .9rem; text-align: left; }}
.mark {{ font-weight: 700; font-size: 1.05rem; }} .good {{ color: var(--good) !important; }} .bad {{ color: var(--bad) !important; }}
.before {{ font-size: .9rem; }}
.verdict {{ border: 1px solid var(--line); border-radius: 14px; background: var(--card); padding: .4rem 1.2rem .6rem; }}
.verdict .right {{ border-left: 3px solid var(--bad); padding-left: .9rem; }} .verdict .right p {{ margin: .2rem 0; }}
.score {{ display: flex; align-items: center; gap: 1rem; color: var(--soft); font-size: .9rem; }}
.score .bar {{ flex: 1; height: .5rem; border-radius: 1rem; background: var(--line); overflow: hidden; }}
.score .bar > span {{ display: block; height: 100%; background: var(--good); }}
#places .wrap {{ gap: .3rem; }}
#places label {{ padding: .15rem .5rem; border-radius: 9px; min-width: 2.1rem; justify-content: center; font-size: .85rem; }}
#places label, .choices label, #back, #forward, #wrong {{ border: 1px solid var(--line); box-shadow: none; }}
#places label.selected {{ background: var(--accent); border-color: var(--accent); color: var(--on-accent); }}
#places label.selected span {{ color: var(--on-accent); }}
.choices label.selected {{ border-color: var(--accent); background: var(--accent-soft); }}
.gradio-container .html-container {{ padding: 0 !important; }}
#places input {{ position: absolute; opacity: 0; width: 1px; height: 1px; }}
#places label:focus-within {{ outline: 2px solid var(--accent); }}
#places label span {{ margin: 0; }}
.choices .wrap {{ flex-direction: column; align-items: stretch; gap: .45rem; }}
.choices label {{ line-height: 1.6; white-space: normal; }}
.point {{ border: 1px solid var(--line); border-radius: 14px; background: var(--card); padding: .3rem 1.2rem .8rem; margin: .8rem 0; }}
.point summary {{ cursor: pointer; color: var(--accent); font-weight: 600; }}
@media (max-width: 640px) {{ #buttons {{ display: grid; grid-template-columns: 1fr 1fr; }} }}
"""
