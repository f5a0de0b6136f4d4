"""Ratings are kept: through kills, by several writers, in older files, beside damaged ones."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from llm_workshop.serving.feedback.store import MIGRATIONS, Feedback, FeedbackStore

WRITER = Path(__file__).with_name("write_ratings.py")


@pytest.fixture
def store(tmp_path):
    return FeedbackStore(tmp_path / "serving" / "feedback.sqlite")


def feedback(identity="a", rating=1, **values):
    messages = [{"role": "system", "content": "친절하게"}, {"role": "user", "content": "안녕?"}]
    return Feedback(identity, "smoke", **{"messages": messages, "answer": "반가워요 😊", "rating": rating, **values})


def test_everything_about_a_rating_comes_back(store):
    given = feedback(
        rating=-1, tab="0f", correction=" 안녕하세요! ", artifact="artifacts/smoke", commit="abc",
        sampling={"temperature": 0.5, "seed": 7},
    )  # fmt: skip
    store.rate(given)
    (kept,) = store.all()
    assert kept.created and kept.created == kept.updated
    expected = {**given.__dict__, "created": kept.created, "updated": kept.updated, "correction": "안녕하세요!"}
    assert kept.__dict__ == expected


def test_nothing_is_made_before_the_first_rating(store):
    assert store.all() == [] and store.summary() == [] and store.withdraw("a") is False
    assert not store.path.parent.exists()


def test_a_changed_thumb_replaces_the_first_and_keeps_its_time(store):
    store.rate(feedback(rating=-1, correction="더 낫게"))
    first = store.all()[0]
    store.rate(feedback(rating=1))
    (second,) = store.all()
    assert (second.rating, second.correction, second.created) == (1, None, first.created)
    assert store.withdraw("a") is True and store.all() == [] and store.withdraw("a") is False


def test_the_summary_counts_by_model(store):
    for identity, rating, correction in (("a", 1, None), ("b", -1, "고침"), ("c", -1, None)):
        store.rate(feedback(identity, rating, correction=correction))
    store.rate(Feedback("d", "other", [], "x", 1))
    assert [row[:4] for row in store.summary()] == [("smoke", 1, 2, 1), ("other", 1, 0, 0)]


@pytest.mark.parametrize("values", [{"rating": 0}, {"rating": 2}, {"mode": "poem"}, {"identity": ""}])
def test_what_is_no_rating_is_refused(values):
    with pytest.raises(ValueError):
        feedback(**values)


def test_an_older_file_is_brought_up_to_date_with_its_rows(store):
    FeedbackStore(store.path, MIGRATIONS[:1]).rate(feedback())
    store.rate(feedback("b"))
    assert [row.id for row in store.all()] == ["a", "b"]
    with sqlite3.connect(store.path) as db:
        assert db.execute("PRAGMA user_version").fetchone()[0] == len(MIGRATIONS)
        assert db.execute("PRAGMA journal_mode").fetchone()[0] == "wal"


def test_a_migration_that_fails_changes_nothing(store):
    store.rate(feedback())
    broken = FeedbackStore(store.path, (*MIGRATIONS, "ALTER TABLE feedback ADD COLUMN mood TEXT; SELECT no_such_column"))
    with pytest.raises(OSError, match="no_such_column"):
        broken.rate(feedback("b"))
    assert [row.id for row in store.all()] == ["a"]


def test_a_newer_file_is_refused_and_left_alone(store):
    store.rate(feedback())
    with sqlite3.connect(store.path) as db:
        db.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 7}")
    with pytest.raises(ValueError, match=rf"has schema {len(MIGRATIONS) + 7}, this program knows {len(MIGRATIONS)}.*update"):
        store.rate(feedback("b"))
    assert list(store.path.parent.glob("*damaged*")) == []


@pytest.mark.parametrize("how", ["text", "torn header", "torn page"])
def test_a_damaged_file_is_kept_aside_and_ratings_go_on(store, how, capsys):
    for number in range(200):
        store.rate(feedback(f"old{number}"))
    content = bytearray(store.path.read_bytes())
    if how == "text":
        content = bytearray("이것은 데이터베이스가 아닙니다. " * 100, "utf-8")
    elif how == "torn header":
        content[0:40] = b"\x00" * 40
    else:
        content[4096 * 1 : 4096 * 4] = b"\xa5" * 4096 * 3
    store.path.write_bytes(content)
    store.rate(feedback("new"))
    assert [row.id for row in store.all()] == ["new"]
    (aside,) = [p for p in store.path.parent.glob("*.damaged-*") if not p.name.endswith(("-wal", "-shm"))]
    assert aside.read_bytes() == content, "not a byte of the damaged file is lost"
    assert "is damaged" in capsys.readouterr().err


def test_a_folder_that_cannot_be_written_is_told_in_one_line(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OSError):
        FeedbackStore(tmp_path / "file" / "feedback.sqlite").rate(feedback())
    (tmp_path / "folder.sqlite").mkdir()
    with pytest.raises(OSError, match=r"folder\.sqlite: unable to open"):
        FeedbackStore(tmp_path / "folder.sqlite").rate(feedback())


@pytest.mark.parametrize("stored", [1, 7, 23])
def test_a_kill_loses_nothing_that_was_acknowledged(store, stored):
    command = [sys.executable, str(WRITER), str(store.path), "w", "100000"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as program:
        told = [program.stdout.readline().strip() for _ in range(stored)]
        program.kill()  # SIGKILL, in the middle of the next write
        told += program.stdout.read().split()
    kept = {row.id for row in store.all()}
    assert set(told) <= kept and len(kept - {"shared"}) <= len(told) + 1
    with sqlite3.connect(store.path) as db:
        assert db.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
    store.rate(feedback("after"))
    assert not list(store.path.parent.glob("*damaged*"))


def test_several_processes_write_at_once(store):
    names, count = "abcd", 25
    programs = [
        subprocess.Popen([sys.executable, str(WRITER), str(store.path), name, str(count)], stdout=subprocess.DEVNULL)
        for name in names
    ]
    try:
        assert [program.wait(timeout=120) for program in programs] == [0] * len(names)
    finally:
        for program in programs:
            program.kill()
    expected = {f"{name}-{number}" for name in names for number in range(count)} | {"shared"}
    assert {row.id for row in store.all()} == expected


def test_threads_that_find_a_damaged_file_set_it_aside_once(store):
    store.path.parent.mkdir(parents=True)
    store.path.write_text("damaged " * 1000)
    threads = [threading.Thread(target=store.rate, args=(feedback(str(i)),)) for i in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(store.all()) == 6 and len(list(store.path.parent.glob("*.damaged-*"))) == 1
