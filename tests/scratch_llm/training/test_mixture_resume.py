"""Training on a mixture: stopped and resumed to the same bits, and never on with other texts or shares."""

from __future__ import annotations

import pytest
import torch

from scratch_llm.data import Mixture, Windows
from scratch_llm.training import train

from .conftest import CONTEXT, write_text


class Stop(Exception):
    pass


def stop_at_step_7(line):
    if line.startswith("step  7/"):
        raise Stop


def test_a_mixture_resumes_and_is_recognised(tiny, settings, tmp_path):
    files = {name: write_text(tmp_path / name, seed) for seed, name in enumerate(("a", "b", "valid"))}

    def run(folder, weights=(3, 1), log=lambda line: None):
        parts = {name: Windows(files[name], CONTEXT, 8, packing="documents") for name in ("a", "b")}
        mixed = Mixture(parts, dict(zip(parts, weights)))
        model = tiny()
        train(model, mixed, Windows(files["valid"], CONTEXT, 8), settings(log_every=1), tmp_path / folder, log=log)
        return model

    whole = run("whole")
    with pytest.raises(Stop):
        run("cut", log=stop_at_step_7)
    with pytest.raises(ValueError, match=r"cannot resume .*: training text \(SHA-256\) was"):
        run("cut", weights=(1, 1))
    resumed = run("cut", weights=(6, 2))  # the same shares
    for a, b in zip(whole.parameters(), resumed.parameters()):
        assert torch.equal(a, b)
