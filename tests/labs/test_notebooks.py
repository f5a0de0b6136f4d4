"""Every lab, as the notebook that `make notebooks` makes of it, runs from top to bottom."""

from __future__ import annotations

from pathlib import Path

import jupytext
import nbclient
import pytest
from nbclient.exceptions import CellExecutionError
from support.lab_runs import NEEDS_TRITON, RUNS, skip_without_triton, take_the_model

ROOT = Path(__file__).resolve().parents[2]
#: It serves until it is stopped: as a notebook it is asked not to.
SERVING = {"labs/week10_integration/chat.py": ("chat.serve=false",)}
NOT_AS_NOTEBOOK = {"labs/week08_serving/serve.py": "it stays until Ctrl-C; tests/labs/test_week08_serve.py runs it"}


@pytest.mark.slow
@pytest.mark.parametrize("lab", [*RUNS, *SERVING])
def test_the_notebook_runs_from_top_to_bottom(lab, tmp_path, monkeypatch, trained):
    if lab in NEEDS_TRITON:
        skip_without_triton()
    settings = {**RUNS, **SERVING}[lab]
    for name, value in {"ARTIFACTS_DIR": str(tmp_path), "HF_HUB_OFFLINE": "1", "SCALE": "smoke", "DATA": "sample", "SEED": "0",
                        "ARGS": " ".join(settings)}.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    take_the_model(lab, trained, tmp_path)
    notebook = jupytext.read(ROOT / lab)
    client = nbclient.NotebookClient(notebook, timeout=240, kernel_name="python3", resources={"metadata": {"path": str((ROOT / lab).parent)}})
    try:
        client.execute()
    except CellExecutionError as error:
        raise AssertionError(f"{lab} as a notebook:\n{str(error)[-3000:]}") from None
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(cell.execution_count for cell in code), "a cell was not run"
    assert any(cell.outputs for cell in code), "the notebook shows nothing"


def test_every_lab_is_tried_as_a_notebook_or_says_why_not():
    labs = {str(path.relative_to(ROOT)) for path in ROOT.glob("labs/*/*.py")}
    labs = {lab for lab in labs if Path(lab).stem not in ("exercises", "solutions") and not Path(lab).stem.startswith("test_")}
    assert labs == {*RUNS, *SERVING, *NOT_AS_NOTEBOOK}
