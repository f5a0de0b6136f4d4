"""The labs of weeks 1 to 8 run from top to bottom, and every lab has its guide and becomes a notebook."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import jupytext
import pytest
from support.lab_runs import (
    FRESH_NOTEBOOK,
    NEEDS_TRITON,
    RUNS,
    run_notebook,
    skip_without_triton,
    take_the_model,
)

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = sorted(p for p in ROOT.glob("labs/*/*.py") if p.stem not in ("exercises", "solutions") and not p.stem.startswith("test_"))
#: Week 2 shows what wrong decoding makes of a text.
SHOW_LOST_CHARACTERS = ("labs/week02_curation/clean.py", "labs/week02_curation/report.py")


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("script", RUNS)
def test_the_lab_runs_and_leaves_its_report_and_goes_on_as_a_notebook(script, tmp_path, monkeypatch, trained):
    if script in NEEDS_TRITON:
        skip_without_triton()
    take_the_model(script, trained, tmp_path)
    environment = {**os.environ, "ARTIFACTS_DIR": str(tmp_path), "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, str(ROOT / script), "--scale", "smoke", *RUNS[script]]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, cwd=tmp_path, env=environment)
    assert done.returncode == 0, done.stderr
    assert "다름!" not in done.stdout and "다릅니다!" not in done.stdout, "a claim that the lab checks does not hold"
    reports = tmp_path / "smoke" / "reports"
    [report] = reports.glob("*.md")
    text = report.read_text(encoding="utf-8")
    pictures = re.findall(r"\]\(([\w-]+\.png)\)", text)
    assert pictures and all((reports / name).stat().st_size > 10_000 for name in pictures)
    assert "�" not in text or script in SHOW_LOST_CHARACTERS
    assert "nan" not in text
    if script not in FRESH_NOTEBOOK:
        run_notebook(script, RUNS[script], tmp_path, monkeypatch)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda p: str(p.relative_to(ROOT)))
def test_the_form_of_a_lab(script):
    guide = (script.parent / "README.md").read_text(encoding="utf-8")
    assert all(f"## {part}" in guide for part in ("목표", "체크포인트 질문")), "a guide has aims and questions"
    notebook = jupytext.read(script)
    kinds = [cell.cell_type for cell in notebook.cells]
    assert kinds[0] == "markdown" and notebook.cells[0].source.startswith("# ")
    assert kinds.count("markdown") >= 3 and kinds.count("code") >= 3
    code = "".join(c.source for c in notebook.cells if c.cell_type == "code")
    assert "settings_from_command_line(uses=(" in code, "a lab prints the settings that it uses, and no others"


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda p: str(p.relative_to(ROOT)))
def test_the_terminal_shows_where_a_lab_is(script):
    """Each numbered heading of the text is announced by the code of its section, in the same order."""
    text = script.read_text(encoding="utf-8")
    headings = re.findall(r"^# ## (\d+)\. ", text, re.MULTILINE)
    announced = re.findall(r'^report\.section\("(\d+)\. ', text, re.MULTILINE)
    assert headings and announced == headings


def test_the_load_test_without_a_triton_server_says_so_and_ends_well(tmp_path):
    artifacts = tmp_path / "smoke" / "base-model"
    artifacts.mkdir(parents=True)
    (artifacts / "manifest.json").write_text('{"files": {}}')
    lab = ROOT / "labs/week08_serving/loadtest.py"
    code = (
        "import sys, runpy, llm_workshop.serving.triton.installation as i\n"
        "def nothing(*_): raise ValueError('no Triton server here: run `make env-triton`')\n"
        f"i.find_installation = nothing; sys.argv = [{str(lab)!r}, '--scale', 'smoke']; runpy.run_path({str(lab)!r}, run_name='__main__')"
    )
    environment = {**os.environ, "ARTIFACTS_DIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, cwd=tmp_path, env=environment)
    assert done.returncode == 0 and "부하 시험을 건너뜁니다" in done.stdout and "make env-triton" in done.stdout, done.stderr
    assert not (tmp_path / "smoke" / "reports").exists()
