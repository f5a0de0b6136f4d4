"""Labs as the notebooks that `make notebooks` makes of them; test_lab_scripts.py goes on as a notebook with the others."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.lab_runs import FRESH_NOTEBOOK, RUNS, run_notebook, take_the_model

ROOT = Path(__file__).resolve().parents[2]
#: It serves until it is stopped: as a notebook it is asked not to.
SERVING = {"labs/week10_integration/chat.py": ("chat.serve=false",)}
NOT_AS_NOTEBOOK = {"labs/week08_serving/serve.py": "it stays until Ctrl-C; tests/labs/test_week08_serve.py runs it"}


@pytest.mark.slow
@pytest.mark.parametrize("lab", [*FRESH_NOTEBOOK, *SERVING])
def test_the_notebook_runs_from_top_to_bottom(lab, tmp_path, monkeypatch, trained):
    take_the_model(lab, trained, tmp_path)
    run_notebook(lab, {**RUNS, **SERVING}[lab], tmp_path, monkeypatch)


def test_every_lab_is_tried_as_a_notebook_or_says_why_not():
    labs = {str(path.relative_to(ROOT)) for path in ROOT.glob("labs/*/*.py")}
    labs = {lab for lab in labs if Path(lab).stem not in ("exercises", "solutions") and not Path(lab).stem.startswith("test_")}
    assert labs == {*RUNS, *SERVING, *NOT_AS_NOTEBOOK}
