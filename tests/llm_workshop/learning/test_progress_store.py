"""The participant's file: what is written, by several programs at once, and what merging may and may not change."""

import json
import multiprocessing
import os
import re
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_workshop.learning import progress_store
from llm_workshop.learning.progress import (
    record_answer,
    record_check,
    record_finished_lab,
    record_score,
    record_step,
)
from llm_workshop.learning.progress_store import (
    ExerciseRecord,
    NewerProgressError,
    Participant,
    Progress,
    ProgressStore,
    QuestionRecord,
    ScoreRecord,
    StepRecord,
    merge,
    read_progress,
)
from llm_workshop.report import Report


@pytest.fixture
def store(tmp_path, monkeypatch):
    monkeypatch.setenv("WORKSHOP_NAME", "김하늘")
    return ProgressStore(tmp_path / "home" / "progress.json")


def at(minute: int) -> str:
    return f"2026-03-02T10:{minute:02}:00+00:00"


def test_a_step_keeps_its_first_time_and_counts_its_runs(store, monkeypatch):
    for minute in (1, 5, 9):
        monkeypatch.setattr("llm_workshop.learning.progress.now", lambda m=minute: at(m))
        record_step("week03-tokenizer", store)
    assert store.read().steps == {"week03-tokenizer": StepRecord(first=at(1), last=at(9), runs=3)}
    assert store.read().participant.name == "김하늘"


def test_an_exercise_that_once_passed_stays_passed(store, monkeypatch):
    for minute, passed in enumerate((1, 4, 2)):
        monkeypatch.setattr("llm_workshop.learning.progress.now", lambda m=minute: at(m))
        record_check("week03", {"merge": (passed, 4)}, store)
    found = store.read()
    assert found.exercises["week03"]["merge"] == ExerciseRecord(
        first=at(0), last=at(2), attempts=3, tests_passed=2, tests=4, passed_on=at(1)
    )
    assert found.attempts("week03", "merge") == 3 and found.attempts("week03", "other") == found.attempts("week01", "merge") == 0


@pytest.mark.parametrize("counts", [(2, 1), (-1, 1), (0, 0)])
def test_counts_that_cannot_be_are_refused(store, counts):
    with pytest.raises(ValueError, match=r"merge: .* tests passed"):
        record_check("week03", {"fine": (1, 1), "merge": counts}, store)
    assert not store.path.exists()


def test_whether_the_first_answer_was_right_is_never_revised(store):
    record_answer("week03", "a", False, store)
    record_answer("week03", "a", True, store)
    record_answer("week03", "b", True, store)
    record_answer("week03", "b", False, store)
    a, b = (store.read().questions["week03"][name] for name in "ab")
    assert (a.first_right, a.tries, bool(a.right_on)) == (False, 2, True)
    assert (b.first_right, b.tries, bool(b.right_on)) == (True, 2, True)


def test_the_file_holds_names_counts_and_times_alone(store):
    record_step("week01-hello", store)
    record_check("week03", {"merge": (1, 4)}, store)
    record_answer("week03", "a", False, store)
    record_score("week03", 3, 20, store=store)

    def leaves(value):
        return [leaf for part in (value.values() if isinstance(value, dict) else value) for leaf in leaves(part)] if isinstance(value, dict | list) else [value]

    texts = [leaf for leaf in leaves(json.loads(store.path.read_text())) if isinstance(leaf, str)]
    assert all(re.fullmatch(r"김하늘|[0-9a-f]{32}|\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", text) for text in texts)


def _write_many(path: str, name: str) -> None:
    for number in range(15):
        record_step(f"week03-{name}{number}", ProgressStore(path))


def test_programs_that_write_at_once_lose_nothing(store):
    spawn = multiprocessing.get_context("spawn")
    workers = [spawn.Process(target=_write_many, args=(str(store.path), name)) for name in "abc"]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert len(store.read().steps) == 45


def test_a_lock_that_is_never_released_is_an_error_and_not_a_wait_forever(store, monkeypatch):
    monkeypatch.setattr(progress_store, "LOCK_SECONDS", 0.1)
    with store._locked(), pytest.raises(TimeoutError, match="held by another program"):
        record_step("week03-tokenizer", store)


def test_a_damaged_file_is_set_aside_and_said(store, capsys):
    record_step("week03-tokenizer", store)
    store.path.write_text('{"schema": 1, "part')
    record_step("week01-hello", store)
    [aside] = store.path.parent.glob("*.damaged")
    assert aside.read_text() == '{"schema": 1, "part' and aside.name in capsys.readouterr().err
    assert list(store.read().steps) == ["week01-hello"]


def test_a_file_of_a_newer_version_is_left_as_it_is(store):
    store.path.parent.mkdir()
    store.path.write_text('{"schema": 7, "participant": "in another form"}')
    with pytest.raises(NewerProgressError, match=r"newer version.*update this checkout"):
        record_step("week03-tokenizer", store)
    assert json.loads(store.path.read_text())["schema"] == 7


def test_a_file_that_lacks_sections_is_read_with_them_empty(tmp_path):
    (tmp_path / "p.json").write_text(json.dumps({"participant": {"id": "0" * 32}, "updated": "2026-03-02T19:00:00+09:00"}))
    found = read_progress(tmp_path / "p.json")
    assert found.updated == at(0) and found.steps == found.scores == {} and found.participant.name == "이름 없음"


@pytest.mark.parametrize(("change", "where"), [
    ({"schema": 0}, "schema"), ({"participant": {"id": "me"}}, "participant.id"), ({"updated": "yesterday"}, "updated"),
    ({"updated": "2026-03-02T10:00:00"}, "no zone"), ({"steps": {"a": {"first": at(0), "last": at(0), "runs": -1}}}, "steps.a.runs"), ({"steps": []}, "steps"),
])
def test_a_file_that_is_none_is_named_with_the_place(tmp_path, change, where):
    path = tmp_path / "p.json"
    path.write_text(json.dumps({"schema": 1, "participant": {"id": "0" * 32}, "updated": at(0)} | change))
    with pytest.raises(ValueError, match=where) as problem:
        read_progress(path)
    assert str(path) in str(problem.value)


def test_a_name_is_one_short_line():
    assert Participant(name="  가\n나\t\x1b[31m다 ").name == "가 나 [31m다"
    assert Participant(name=" \n").name == "이름 없음" and len(Participant(name="가" * 200).name) == 60


# --- merging ---------------------------------------------------------------------------------------------------

times = st.integers(0, 59).map(at)
maybe = st.none() | times
few = st.sampled_from(("a", "b", "c"))
steps = st.builds(StepRecord, first=times, last=times, runs=st.integers(0, 9))
exercises = st.builds(ExerciseRecord, first=times, last=times, attempts=st.integers(0, 9), tests_passed=st.integers(0, 4),
                      tests=st.integers(0, 4), passed_on=maybe)
questions = st.builds(QuestionRecord, first=times, last=times, tries=st.integers(0, 9), first_right=st.booleans(), right_on=maybe)
scores = st.builds(ScoreRecord, on=times, right=st.integers(0, 20), of=st.integers(0, 20), again=st.booleans())
people = st.builds(
    Progress, participant=st.builds(Participant, id=st.just("f" * 32), name=few), updated=times, steps=st.dictionaries(few, steps),
    exercises=st.dictionaries(few, st.dictionaries(few, exercises)), questions=st.dictionaries(few, st.dictionaries(few, questions)),
    scores=st.dictionaries(few, st.lists(scores, max_size=3, unique=True).map(lambda s: tuple(sorted(s, key=lambda r: (r.on, r.right, r.of, r.again))))),
)  # fmt: skip


@given(people, people, people)
def test_merging_minds_neither_order_nor_repetition(a, b, c):
    assert merge(a, a) == a
    assert merge(a, b) == merge(b, a)
    assert merge(merge(a, b), c) == merge(a, merge(b, c))
    assert merge(merge(a, b), b) == merge(a, b)


@given(people, people)
def test_merging_loses_nothing_and_invents_nothing(a, b):
    both = merge(a, b)
    assert set(both.steps) == {*a.steps, *b.steps}
    for week in {*a.exercises, *b.exercises}:
        for name, record in both.exercises[week].items():
            sources = [p.exercises[week][name] for p in (a, b) if name in p.exercises.get(week, {})]
            assert (record.passed_on is not None) == any(s.passed_on is not None for s in sources)
            assert record.attempts == max(s.attempts for s in sources)
            assert (record.last, record.tests_passed, record.tests) in {(s.last, s.tests_passed, s.tests) for s in sources}
    for week in {*a.questions, *b.questions}:
        for name, record in both.questions[week].items():
            sources = [p.questions[week][name] for p in (a, b) if name in p.questions.get(week, {})]
            assert (record.first, record.first_right) in {(s.first, s.first_right) for s in sources}
    for week in {*a.scores, *b.scores}:
        assert set(both.scores[week]) == {*a.scores.get(week, ()), *b.scores.get(week, ())}
    assert both.updated == max(a.updated, b.updated)


@given(people)
def test_what_is_written_is_read_again(person):
    assert Progress.model_validate_json(person.model_dump_json(by_alias=True)) == person


def test_files_of_two_participants_are_not_joined():
    one, other = (Progress(participant=Participant(name=name), updated=at(0)) for name in "가나")
    with pytest.raises(ValueError, match="가 and 나 are two participants"):
        merge(one, other)


# --- the hook in the labs -----------------------------------------------------------------------------------------

LAB = """
from llm_workshop.report import Report
Report("{out}", "week03-1-tokenizer", "제목").text("글").save()
"""


def run_lab(folder, **environment):
    lab = folder / "labs" / "week03_tokenizers" / "tokenizer.py"
    lab.parent.mkdir(parents=True, exist_ok=True)
    (folder / "pyproject.toml").touch()
    lab.write_text(LAB.format(out=folder / "reports"))
    kept = {k: v for k, v in os.environ.items() if k != "WORKSHOP_PROGRESS"}
    return subprocess.run([sys.executable, str(lab)], cwd=folder, env=kept | environment, capture_output=True, text=True, timeout=60)


def test_a_lab_that_ends_notes_its_step_under_the_name_of_its_script(tmp_path):
    assert run_lab(tmp_path).returncode == 0
    found = read_progress(tmp_path / ".workshop" / "progress.json")
    assert list(found.steps) == ["week03-tokenizer"]


def test_a_lab_never_fails_for_its_progress(tmp_path):
    (tmp_path / ".workshop").write_text("a file where the folder should be")
    done = run_lab(tmp_path)
    assert done.returncode == 0 and "warning: progress not noted" in done.stderr and (tmp_path / "reports").is_dir()


def test_what_is_no_lab_leaves_no_trace(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WORKSHOP_PROGRESS", str(tmp_path / "progress.json"))
    Report(tmp_path, "week03-tokenizer", "제목").text("글").save()
    record_finished_lab("week03-tokenizer")
    assert not (tmp_path / "progress.json").exists()
