"""The labs of weeks 1 to 8 run from top to bottom, and every lab has its guide and becomes a notebook."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import jupytext
import pytest

from llm_workshop.serving.triton.installation import find_installation

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = sorted(p for p in ROOT.glob("labs/*/*.py") if p.stem not in ("exercises", "solutions") and not p.stem.startswith("test_"))
SMALL = ("corpus.megabytes=0.4", "tokenizer.vocab_size=600")
RAW = ("curation.megabytes=0.2", "curation.shard_megabytes=0.06")
RUNS = {
    "labs/week01_environment/setup.py": (),
    "labs/week01_environment/hello.py": (),
    "labs/week01_environment/lifecycle.py": (),
    "labs/week01_environment/tools.py": (),
    "labs/week02_curation/collect.py": RAW,
    "labs/week02_curation/clean.py": RAW,
    "labs/week02_curation/dedup.py": RAW,
    "labs/week02_curation/report.py": RAW,
    "labs/week03_tokenizers/tokenizer.py": SMALL,
    "labs/week04_architectures/attention.py": SMALL,
    "labs/week04_architectures/flops.py": ("model.d_model=32", "model.n_layers=1"),
    "labs/week05_pretraining/pretrain.py": (
        *SMALL, "model.d_model=32", "model.n_layers=1", "pretrain.steps=20", "pretrain.compile=off", "generate.max_new_tokens=12",
    ),
    "labs/week04_architectures/compare.py": (
        *SMALL, "compare.models=transformer,rwkv,mamba", "compare.parameters=60000", "compare.context_length=32", "compare.batch_size=4",
        "compare.tokens=1500", "compare.decode_contexts=32,128",
    ),
    "labs/week08_serving/export.py": ("quantize.eval_tokens=600", "quantize.calibration_tokens=300"),
    "labs/week08_serving/quantize.py": (
        "quantize.eval_tokens=600", "quantize.calibration_tokens=300", "quantize.group_size=16",
        "quantize.methods=int8,int8-head,smoothquant,int4,awq-int4,gptq-int3,bnb-nf4,torchao-int8",
    ),
    "labs/week08_serving/loadtest.py": (
        "loadtest.clients=1,3", "loadtest.requests=8", "loadtest.prompt_tokens=12", "loadtest.max_new_tokens=8", "loadtest.soak_seconds=0",
    ),
}
AFTER = {
    "labs/week08_serving/loadtest.py": "labs/week05_pretraining/pretrain.py",
    "labs/week08_serving/quantize.py": "labs/week05_pretraining/pretrain.py",
    "labs/week08_serving/export.py": "labs/week05_pretraining/pretrain.py",
}
"""Labs that take up what another has left."""
NEEDS_TRITON = ("labs/week08_serving/loadtest.py",)


def skip_without_triton():
    try:
        find_installation()
    except ValueError as problem:
        pytest.skip(str(problem))


@pytest.mark.parametrize("script", RUNS)
def test_the_lab_runs_and_leaves_its_report(script, tmp_path):
    if script in NEEDS_TRITON:
        skip_without_triton()
    environment = {**os.environ, "ARTIFACTS_DIR": str(tmp_path), "HF_HUB_OFFLINE": "1"}
    for lab in filter(None, (AFTER.get(script), script)):
        shutil.rmtree(tmp_path / "smoke" / "reports", ignore_errors=True)
        command = [sys.executable, str(ROOT / lab), "--scale", "smoke", *RUNS[lab]]
        done = subprocess.run(command, capture_output=True, text=True, timeout=240, cwd=tmp_path, env=environment)
        assert done.returncode == 0, done.stderr
    assert "다름!" not in done.stdout and "다릅니다!" not in done.stdout, "a claim that the lab checks does not hold"
    reports = tmp_path / "smoke" / "reports"
    [report] = reports.glob("*.md")
    text = report.read_text(encoding="utf-8")
    pictures = re.findall(r"\]\(([\w-]+\.png)\)", text)
    assert pictures and all((reports / name).stat().st_size > 10_000 for name in pictures)
    assert "�" not in text and "nan" not in text


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
