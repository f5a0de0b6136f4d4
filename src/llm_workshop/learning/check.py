"""``workshop check``: grade the exercises of a week or chapter in isolation."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from llm_workshop.errors import one_line
from llm_workshop.learning.check_results import CheckResult, ExerciseResult, write_results
from llm_workshop.learning.check_text import show
from llm_workshop.learning.exercises import GRADER, GradedExercise, exercises_of, lab_of, short_name
from llm_workshop.learning.grading import SECONDS
from llm_workshop.learning.progress import record_check
from llm_workshop.workspace import workspace

#: Seconds that importing the grader and loading the file may take, besides the tests.
STARTING_SECONDS = 180.0
_PLUGINS = ("no:cacheprovider", "no:xdist", "no:timeout", "no:faulthandler",
            "llm_workshop.learning.plugin", "llm_workshop.learning.check_plugin")  # fmt: skip
#: One thread each: the tests are small, and a fork inherits no threads.  No GPU: its driver maps more than the limit.
#: macOS refuses Objective-C after a fork unless told otherwise.
_ENVIRONMENT = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "",
                "PYTHONDONTWRITEBYTECODE": "1", "PYTHONIOENCODING": "utf-8", "PYTHONHASHSEED": "0", "HF_HUB_OFFLINE": "1",
                "OBJC_DISABLE_INITIALIZE_FORK_SAFETY": "YES", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}  # fmt: skip


def check(lesson: str, only: str | None = None, results: Path | None = None) -> int:
    """Grade, show what was found, and keep it under ``.workshop/checks``.

    Args:
        lesson: "week3", "ch1".
        only: name of the one exercise to grade.
        results: folder of the files (default: ``.workshop/checks`` of the checkout).

    Returns:
        0 if all (or the one asked for) passed, else 1.

    Raises:
        ValueError: an unknown lesson or exercise.
        OSError: there is no ``exercises.py``.
        RuntimeError: the grader itself is broken.
    """
    lab = lab_of(lesson)
    exercise_named(lab, only)
    result = grade(lab, lab / "exercises.py", only)
    # Neither a stub nor a mistake of syntax is an attempt: the solution stays closed.
    begun = {each.name: (each.passed, len(each.tests)) for each in result.exercises if each.begun}
    written: tuple[Path, ...] = ()
    problem = None
    try:
        written = write_results(result, results or workspace() / ".workshop" / "checks")
        if begun:
            record_check(result.unit, begun)
    except (OSError, ValueError) as error:  # what was found is shown all the same
        problem = error
    show(result, written)
    if problem is not None:
        print(f"주의: 결과를 저장하지 못했습니다: {one_line(problem)}", file=sys.stderr)
    return 0 if result.all_passed else 1


def exercise_named(lab: Path, name: str | None) -> GradedExercise | None:
    """The exercise of that name; ``None`` for no name.

    Raises:
        ValueError: the lab has none of that name.
    """
    if not name:
        return None
    found = {each.name: each for each in exercises_of(lab)}
    if name not in found:
        raise ValueError(f"EX={name} is no exercise of {short_name(lab)}: it has {', '.join(found)}")
    return found[name]


def grade(lab: Path, file: Path, only: str | None = None, loading_seconds: float = SECONDS) -> CheckResult:
    """Run the grader of ``lab`` over ``file`` in a process of its own, which starts another for each test.

    Args:
        lab: folder with the grader.
        file: the participant's.
        only: name of the one exercise to grade.
        loading_seconds: that loading the file may take.

    Raises:
        OSError: ``file`` cannot be read.
        RuntimeError: the grader did not come to its end.
    """
    try:
        with file.open("rb"):  # say so now, not in another process
            pass
    except FileNotFoundError:
        raise FileNotFoundError(f"{file} is not there: git restore {file} brings the stubs back") from None
    graded = [each for each in exercises_of(lab) if only in (None, "", each.name)]
    started = time.monotonic()
    limit = STARTING_SECONDS + sum((each.seconds + 1) * len(each.tests) for each in graded)
    with tempfile.TemporaryDirectory(prefix="workshop-check-") as folder:
        lines = Path(folder) / "results.jsonl"
        command = [sys.executable, "-m", "pytest", "-q", "-s", "--tb=short", "--no-header", "--noconftest", "--import-mode=importlib",
                   "-c", os.devnull, f"--rootdir={lab.resolve()}", *(part for name in _PLUGINS for part in ("-p", name)),
                   "--submission", str(file.resolve()), "--results", str(lines), "--loading-seconds", str(loading_seconds)]  # fmt: skip
        command += ["--only-exercise", only] if only else []
        environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST_")} | _ENVIRONMENT
        with open(Path(folder) / "log", "w+b") as log:
            try:
                code = subprocess.run(
                    [*command, str((lab / GRADER).resolve())], cwd=folder, env=environment, stdin=subprocess.DEVNULL,
                    stdout=log, stderr=subprocess.STDOUT, timeout=limit,
                ).returncode  # fmt: skip
            except subprocess.TimeoutExpired:
                code = -1
            log.seek(0)
            said = log.read().decode("utf-8", "replace")
        facts = [json.loads(line) for line in lines.read_text(encoding="utf-8").splitlines()] if lines.exists() else []
    if code not in (0, 5) or not facts:  # 5: pytest ran no test itself, its children did
        raise RuntimeError(f"the grader of {short_name(lab)} did not come to its end (exit {code}):\n{said[-3000:]}")
    result = CheckResult(lab.name.split("_")[0], short_name(lab), str(file), seconds=round(time.monotonic() - started, 2))
    by_name = {each.name: ExerciseResult(each.name, each.uses) for each in graded}
    for fact in facts:
        if "loading" in fact:
            result.broken = fact["loading"]
        else:
            by_name[fact["exercise"]].tests.append(fact)
    result.exercises = list(by_name.values())
    return result
