"""Ratings become preference pairs and rated answers."""

from __future__ import annotations

import json
import random

import pytest

from llm_workshop.serving.feedback.export import build_dataset, export, rated_path
from llm_workshop.serving.feedback.store import Feedback

QUESTION = [{"role": "user", "content": "김치찌개는 어떻게 끓여요?"}]


def rated(identity, answer, rating, correction=None, messages=QUESTION, mode="chat"):
    return Feedback(identity, "m", list(messages), answer, rating, correction=correction, mode=mode)


def reply(text):
    return [{"role": "assistant", "content": text}]


def test_a_correction_is_preferred_to_what_it_corrects():
    data = build_dataset([rated("a", "몰라요.", -1, "김치를 먼저 볶습니다.")])
    assert data.pairs == [{"prompt": QUESTION, "chosen": reply("김치를 먼저 볶습니다."), "rejected": reply("몰라요.")}]
    assert data.rated == [{"prompt": QUESTION, "completion": reply("몰라요."), "label": False}]


def test_liked_answers_are_preferred_to_disliked_ones_of_the_same_messages():
    other = [{"role": "system", "content": "짧게"}, *QUESTION]
    data = build_dataset([
        rated("a", "좋은 답", 1), rated("b", "나쁜 답", -1), rated("c", "더 나쁜 답", -1), rated("d", "딴 답", 1, messages=other),
    ])  # fmt: skip
    assert [(p["chosen"][0]["content"], p["rejected"][0]["content"]) for p in data.pairs] == [
        ("좋은 답", "나쁜 답"), ("좋은 답", "더 나쁜 답"),
    ]  # fmt: skip
    assert all(p["prompt"] == QUESTION for p in data.pairs)
    assert len(data.rated) == 4 and sum(row["label"] for row in data.rated) == 2


def test_what_is_said_twice_is_there_once():
    twice = [rated("a", "나쁜 답", -1, "고침"), rated("b", "나쁜 답", -1, "고침"), rated("c", " 나쁜 답 ", -1)]
    data = build_dataset(twice)
    assert len(data.pairs) == 1 and len(data.rated) == 1 and data.counts["repeated"] == 1


def test_where_people_disagree_neither_side_is_kept():
    data = build_dataset([rated("a", "가", 1), rated("b", "나", -1), rated("c", "가", -1), rated("d", "나", 1)])
    assert data.pairs == [] and data.rated == [] and data.counts["contradicted"] == 2


@pytest.mark.parametrize("row", [
    rated("a", "이어쓴 글", -1, "고침", mode="complete"), rated("b", " ", -1, "고침"), rated("c", "답", -1, "답", messages=[]),
])  # fmt: skip
def test_what_is_no_conversation_is_left_out_and_counted(row):
    data = build_dataset([row])
    assert data.pairs == data.rated == []
    assert data.counts["left out (no conversation, or empty)"] == 1


def test_a_correction_equal_to_the_answer_teaches_nothing():
    assert build_dataset([rated("a", "답", -1, " 답 ")]).pairs == []


def test_the_same_ratings_give_the_same_files_in_any_order(tmp_path):
    rows = [rated(str(i), f"답 {i}", 1 if i % 3 else -1, None if i % 3 else "고침") for i in range(12)]
    counts = export(rows, tmp_path / "a.jsonl")
    random.Random(1).shuffle(rows)
    assert export(rows, tmp_path / "b.jsonl") == counts
    for first, second in ((tmp_path / "a.jsonl", tmp_path / "b.jsonl"), (rated_path(tmp_path / "a.jsonl"), rated_path(tmp_path / "b.jsonl"))):
        assert first.read_bytes() == second.read_bytes()
    lines = (tmp_path / "a.jsonl").read_text("utf-8").splitlines()
    assert len(lines) == counts["pairs"] == 4 + 4 * 8 and set(json.loads(lines[0])) == {"prompt", "chosen", "rejected"}
    assert counts["rated answers"] == 12 == len((tmp_path / "a.rated.jsonl").read_text("utf-8").splitlines())
    assert not list(tmp_path.glob(".*")), "no temporary file is left"


def test_a_failed_export_leaves_the_old_file(tmp_path, monkeypatch):
    out = tmp_path / "a.jsonl"
    export([rated("a", "답", -1, "고침")], out)
    before = out.read_bytes()
    def full(*_):
        raise OSError("disk full")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="disk full"):
        export([rated("b", "답", -1, "다르게")], out)
    assert out.read_bytes() == before


def test_the_command_shows_and_exports(tmp_path, monkeypatch, capsys):
    from llm_workshop.cli import main
    from llm_workshop.serving.feedback.store import FeedbackStore

    monkeypatch.setenv("ARTIFACTS_DIR", str(tmp_path))
    assert main(["feedback", "show", "--scale", "smoke"]) == 0
    assert "no ratings yet" in capsys.readouterr().out
    store = FeedbackStore(tmp_path / "smoke" / "serving" / "feedback.sqlite")
    store.rate(rated("a", "몰라요.", -1, "볶습니다."))
    assert main(["feedback", "show", "--scale", "smoke"]) == 0
    assert capsys.readouterr().out.splitlines()[1].split()[:4] == ["m", "0", "1", "1"]
    assert main(["feedback", "export", "--out", str(tmp_path / "p.jsonl"), "--scale", "smoke"]) == 0
    assert "1  pairs" in capsys.readouterr().out and (tmp_path / "p.rated.jsonl").exists()
    assert main(["feedback", "export", "--scale", "smoke"]) == 1
    assert "--out FILE" in capsys.readouterr().err
