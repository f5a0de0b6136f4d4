"""Peak memory of loading and saving, measured in processes of their own."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from scratch_llm.models import LlamaConfig, build_model, load_model
from scratch_llm.weights.loading_lesson import WAYS, measure_peak

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="peaks are read from /proc")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model of about 170 MB with joined matrices (q k v, gate up) and one large table."""
    folder = tmp_path_factory.mktemp("large")
    config = LlamaConfig(
        vocab_size=9001, context_length=64, n_layers=3, n_heads=8, n_kv_heads=4, d_model=1024, d_ff=2816
    )
    with torch.device("meta"):
        model = build_model(config)
    model = model.to_empty(device="cpu")
    with torch.no_grad():
        for n, weight in enumerate(model.parameters()):
            weight.fill_(n)  # real pages, cheaply
            weight.view(-1)[: weight.shape[0]] = torch.arange(weight.shape[0]).float()
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def peaks(folder) -> dict[str, float]:
    """Way -> highest memory, in sizes of the model."""
    size = (folder / "model.safetensors").stat().st_size
    assert 150e6 < size < 200e6
    return {way: measure_peak(way, folder) / size for way in WAYS}


def test_loading_needs_hardly_more_than_the_model(peaks):
    assert 1.0 <= peaks["load_model"] < 1.15, peaks


def test_the_lesson_shows_its_order(peaks):
    assert peaks["whole-then-copy"] > 2.3 and 1.4 < peaks["whole-onto-meta"] < 2.2, peaks
    assert peaks["whole-then-copy"] > peaks["whole-onto-meta"] + 0.5, peaks
    assert peaks["whole-onto-meta"] > peaks["piece-by-piece"] + 0.3, peaks
    assert peaks["piece-by-piece"] < 1.15, peaks


def test_shards_and_another_dtype_need_no_more(folder, tmp_path):
    load_model(folder).save_pretrained(tmp_path, dtype=torch.bfloat16, max_shard_size="20MB")
    size = sum(file.stat().st_size for file in tmp_path.glob("model-*.safetensors"))
    # What comes on top (10 to 17 MB) is the process's, whatever the model's size: the same allowance as for float32.
    allowance = 0.15 * (folder / "model.safetensors").stat().st_size
    assert size <= measure_peak("load_model", tmp_path) < size + allowance


def test_saving_needs_no_second_copy(folder, tmp_path):
    code = (
        "import sys; from scratch_llm.models import load_model; from scratch_llm.process_memory import peak_resident_bytes\n"
        "model = load_model(sys.argv[1]); before = peak_resident_bytes()\n"
        "model.save_pretrained(sys.argv[2]); print(peak_resident_bytes() - before)"
    )
    child = subprocess.run(
        [sys.executable, "-c", code, str(folder), str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert int(child.stdout) < 0.1 * (folder / "model.safetensors").stat().st_size
    assert (tmp_path / "model.safetensors").read_bytes() == (folder / "model.safetensors").read_bytes()


def test_all_ways_give_the_same_model(tmp_path):
    config = LlamaConfig(vocab_size=97, context_length=40, n_layers=2, n_heads=6, n_kv_heads=2, d_model=48)
    model = build_model(config, seed=0).eval()
    model.save_pretrained(tmp_path)
    tokens = torch.arange(30)[None]
    for way, load in WAYS.items():
        loaded = load(tmp_path)
        assert torch.equal(loaded(tokens), model(tokens)) and not loaded.training, way


def test_the_measurement_refuses(tmp_path):
    with pytest.raises(ValueError, match="way 'magic' is unknown: use one of whole-then-copy"):
        measure_peak("magic", tmp_path)
    with pytest.raises(OSError, match=r"by load_model failed: ValueError: .* has no config\.json"):
        measure_peak("load_model", tmp_path)
