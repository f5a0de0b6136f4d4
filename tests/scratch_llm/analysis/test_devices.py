"""The table of devices: facts, dense and not sparse, and the names that drivers report."""

from __future__ import annotations

import pytest
import torch

from scratch_llm.analysis import DEVICES, device_named, find_device, nominal_peak

# What torch.cuda.get_device_name() says on the machines themselves.
REPORTED = {
    "Tesla T4": "T4",
    "Tesla V100-SXM2-16GB": "V100 SXM2 16GB",
    "Tesla V100-SXM2-32GB": "V100 SXM2 32GB",
    "Tesla V100-PCIE-16GB": "V100 PCIe 16GB",
    "Tesla V100-PCIE-32GB": "V100 PCIe 32GB",
    "NVIDIA A10": "A10",
    "A100-SXM4-40GB": "A100 SXM 40GB",
    "NVIDIA A100-SXM4-80GB": "A100 SXM 80GB",
    "NVIDIA A100-PCIE-40GB": "A100 PCIe 40GB",
    "NVIDIA A100 80GB PCIe": "A100 PCIe 80GB",
    "NVIDIA L4": "L4",
    "NVIDIA L40S": "L40S",
    "NVIDIA GeForce RTX 3090": "RTX 3090",
    "NVIDIA GeForce RTX 4090": "RTX 4090",
    "NVIDIA GeForce RTX 5090": "RTX 5090",
    "NVIDIA H100 80GB HBM3": "H100 SXM",
    "NVIDIA H100 PCIe": "H100 PCIe",
    "NVIDIA H100 NVL": "H100 NVL",
    "NVIDIA H200": "H200",
    "NVIDIA B200": "B200",
}


def test_names_that_drivers_report():
    assert set(REPORTED.values()) == set(DEVICES)
    for reported, name in REPORTED.items():
        assert find_device(reported) is DEVICES[name]
        matching = [device.name for device in DEVICES.values() if find_device(reported) is device]
        assert matching == [name]


@pytest.mark.parametrize(
    "name",
    [
        "NVIDIA GeForce RTX 4090 Laptop GPU",
        "NVIDIA GeForce RTX 4090 D",
        "NVIDIA GeForce RTX 3090 Ti",
        "NVIDIA A10G",
        "NVIDIA A100-SXM4-40GB MIG 1g.5gb",
        "NVIDIA L40",
        "Quadro",
        "",
    ],
)
def test_a_relative_is_not_the_card(name):
    assert find_device(name) is None


def test_dense_figures():
    bfloat16 = {"A100 SXM 80GB": 312, "A100 PCIe 40GB": 312, "H100 SXM": 989, "H100 PCIe": 756, "H200": 989, "L4": 121}
    for name, teraflops in bfloat16.items():
        assert device_named(name).peak(torch.bfloat16) == pytest.approx(teraflops * 1e12, rel=1e-3)
    assert device_named("A100 SXM 40GB").peak(torch.float32) == 19.5e12
    assert device_named("A100 SXM 40GB").peak("tf32") == 156e12
    assert device_named("T4").peak(torch.float16) == 65e12
    # Twice the speed for half the bits holds between dense figures; a sparse one among them would break it.
    for device in DEVICES.values():
        assert device.source and device.peaks["float16"] == device.peaks.get("bfloat16", device.peaks["float16"])
        if "float8" in device.peaks:
            assert device.peaks["float8"] == pytest.approx(2 * device.peaks["bfloat16"], rel=0.02)
        if "tf32" in device.peaks and "RTX" not in device.name:
            assert device.peaks["tf32"] == pytest.approx(device.peaks["bfloat16"] / 2, rel=0.02)


def test_memory_in_bytes():
    assert device_named("H100 SXM").memory_bytes == 80e9
    assert device_named("A100 SXM 80GB").bandwidth == 2.039e12
    for device in DEVICES.values():
        assert 10e9 < device.memory_bytes < 300e9 and 0.2e12 < device.bandwidth < 10e12


def test_errors_say_what_there_is():
    with pytest.raises(ValueError, match="no bfloat16 peak is known for the T4: there are float32, float16"):
        device_named("T4").peak(torch.bfloat16)
    with pytest.raises(ValueError, match=r"'H100' is not in the table \(did you mean H100 SXM or H100 PCIe or H100 NVL"):
        device_named("H100")
    with pytest.raises(ValueError, match=r"'TPU v4' is not in the table.*T4, V100"):
        device_named("TPU v4")
    assert device_named("rtx 4090").name == "RTX 4090"


def test_nominal_peak_of_the_device_at_hand(monkeypatch):
    assert nominal_peak("cpu", torch.float32) is None
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device=None: "NVIDIA A100-SXM4-80GB")
    assert nominal_peak("cuda", torch.bfloat16) == 312e12
    monkeypatch.setattr(torch, "get_float32_matmul_precision", lambda: "highest")
    assert nominal_peak("cuda", torch.float32) == 19.5e12
    monkeypatch.setattr(torch, "get_float32_matmul_precision", lambda: "high")
    assert nominal_peak("cuda", torch.float32) == 156e12
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device=None: "A card of tomorrow")
    assert nominal_peak("cuda", torch.bfloat16) is None
