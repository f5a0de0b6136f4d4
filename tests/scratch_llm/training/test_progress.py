"""What a step's record says of speed and utilisation."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from scratch_llm.training import train
from scratch_llm.training.progress import Speedometer

WINDOWS = SimpleNamespace(batch_size=8, context_length=16)


def timed(speed: Speedometer, seconds: float, monkeypatch) -> dict:
    clock = iter((100.0, 100.0 + seconds))
    monkeypatch.setattr("scratch_llm.training.progress.time.perf_counter", lambda: next(clock))
    speed.start()
    return speed.stop()


def test_mfu_is_of_the_measured_peak_and_nominal_mfu_of_the_data_sheet(tiny, monkeypatch):
    model = tiny()
    needed = model.flops_per_token(16) * 8 * 16
    record = timed(Speedometer(model, WINDOWS, needed, 10, nominal_flops=4 * needed), 2.0, monkeypatch)
    assert record == {"tokens_per_second": 64.0, "mfu": 0.5, "nominal_mfu": 0.125}
    assert "nominal_mfu" not in timed(Speedometer(model, WINDOWS, needed, 10), 2.0, monkeypatch)


def test_a_known_device_is_named_once_and_recorded(tiny, windows, settings, tmp_path, monkeypatch):
    """The device's name stands in for a GPU: everything else runs here."""
    from scratch_llm.training import run

    monkeypatch.setattr(run, "nominal_peak", lambda device, dtype: 312e12)
    lines, folder = [], tmp_path / "run"
    train(tiny(), *windows, settings(steps=2), folder, log=lines.append)
    assert sum("312 in the data sheet" in line for line in lines) == 1
    records = (folder / "metrics.jsonl").read_text().splitlines()
    assert len(records) == 2 and all('"nominal_mfu": ' in line for line in records)


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU may be in the table")
def test_a_cpu_has_no_data_sheet(tiny, windows, settings, tmp_path):
    lines = []
    train(tiny(), *windows, settings(steps=1, warmup_steps=1), tmp_path / "run", log=lines.append)
    assert not any("data sheet" in line for line in lines)
    assert "nominal_mfu" not in (tmp_path / "run" / "metrics.jsonl").read_text()
