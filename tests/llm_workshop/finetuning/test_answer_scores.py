"""Measures of answers, by values that can be checked by hand."""

from __future__ import annotations

import pytest

from llm_workshop.finetuning.answer_scores import (
    both_ends,
    chrf,
    constant_answer,
    exact_match,
    kind_of,
    options_of,
    over_constant,
    rouge_l,
    score_tasks,
)
from scratch_llm.finetuning.templates import Example


def example(output: str, task: str = "감성", text: str = "") -> Example:
    return Example.from_row({"instruction": "물음", "input": text, "output": output, "task": task})


CHOICES = [example(f"{n}. {'가나'[n - 1]}", "고르기", "무엇?\n1. 가\n2. 나") for n in (1, 1, 1)]


def test_exact_match_forgives_white_space_and_unicode_forms_only():
    assert exact_match(" 긍정\n", "긍정") == 1
    assert exact_match("\u1100\u1161", "가") == 1
    assert exact_match("긍정.", "긍정") == 0


def test_chrf():
    assert chrf("가나다", "가나다") == 1
    assert chrf("가 나다", "가나다") == 1  # white space does not count
    assert chrf("라마", "가나다") == 0
    assert chrf("", "가") == 0 and chrf("", "") == 1
    # Order 1: 2 of 2 and 2 of 4; order 2: 1 of 1 and 1 of 3; orders 3, 4: 0 of 0 and 0 of 2, 0 of 1.
    precision, recall = (1 + 1 + 0 + 0) / 4, (2 / 4 + 1 / 3 + 0 + 0) / 4
    assert chrf("가나", "가나다라") == pytest.approx(5 * precision * recall / (4 * precision + recall))


def test_rouge_l():
    assert rouge_l("나는 밥을 먹었다", "나는 밥을 먹었다") == 1
    assert rouge_l("나는 빵을 먹었다", "나는 밥을 먹었다") == pytest.approx(2 / 3)
    assert rouge_l("먹었다 나는", "나는 먹었다") == pytest.approx(2 * 1 / 4)  # a subsequence keeps the order
    assert rouge_l("", "나는") == 0
    assert rouge_l("나는 정말 밥을", "나는 밥을") == pytest.approx(2 * 2 / 5)


def test_kinds_of_tasks():
    assert kind_of([example("긍정"), example("부정")] * 10) == "closed"
    assert kind_of([example(f"답 {i}") for i in range(30)]) == "open"
    assert kind_of(CHOICES) == "choice"
    assert options_of(CHOICES[0]) == {1: "1. 가", 2: "2. 나"}


def test_the_best_constant_answer():
    assert constant_answer([example("긍정")] * 3 + [example("부정")]) == (0.75, "긍정")
    mixed = [example(f"{n}. 말 {i}", "고르기", f"1. 말 {i}\n2. 말 {i}") for i, n in enumerate((1, 2, 2, 2))]
    assert constant_answer(mixed) == (0.75, "늘 2번 보기")


def test_scores_by_task():
    examples = [example("긍정"), example("긍정"), example("부정"), *CHOICES, *[example(f"답 {i}", "글") for i in range(9)]]
    answers = ["긍정", "긍정", "부정", "1. 가", "2. 나", "", *[f"답 {i}" for i in range(9)]]
    closed, choice, open_task = sorted(score_tasks(examples, answers, [True] * 14 + [False]), key=lambda s: s.task)[:3]
    assert (closed.task, closed.n, closed.exact) == ("감성", 3, 1.0)
    assert closed.constant == pytest.approx(2 / 3)
    assert (choice.kind, choice.exact, choice.constant) == ("choice", pytest.approx(1 / 3), 1.0)
    assert (open_task.kind, open_task.exact, open_task.ended) == ("open", 1.0, pytest.approx(8 / 9))


def test_the_whole_over_the_constant_leaves_open_tasks_out():
    examples = [example("긍정"), example("부정"), example("긍정"), example("긍정")] * 3 + [example(f"답 {i}", "글") for i in range(30)]
    answers = ["긍정", "부정", "부정", "긍정"] * 3 + [f"답 {i}" for i in range(30)]
    exact, constant, n = over_constant(score_tasks(examples, answers))
    assert (exact, constant, n) == (0.75, 0.75, 12)
    assert over_constant([]) == (0.0, 0.0, 0)


def test_as_many_answers_as_questions():
    with pytest.raises(ValueError, match="2 questions and 1 answers"):
        score_tasks([example("가"), example("나")], ["가"])


def test_a_long_text_keeps_its_beginning_and_its_end():
    question = "글을 읽고 답하세요.\n" + "거북이는 오래 삽니다. " * 30 + "질문: 거북이는 무엇을 먹나요?"
    shown = both_ends(question, 60)
    assert len(shown) <= 60 and shown.startswith("글을 읽고 답하세요. 거북이는") and shown.endswith("질문: 거북이는 무엇을 먹나요?")
    assert shown.count(" … ") == 1
    assert both_ends("짧은  글\n입니다", 8) == "짧은 글 입니다", "what fits is whole, on one line"
    assert both_ends("가나다라마바사아자차", 9) == "가나다 … 아자차"
