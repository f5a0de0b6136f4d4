"""The exports of a run as stages: ``artifacts/<run>/export-gguf``, ``export-fp8``, ``export-awq``, ``export-smoothquant``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from llm_workshop.artifacts import Artifacts
from llm_workshop.export.checkpoint import Checkpoint
from llm_workshop.export.gguf_check import check_gguf, modelfile
from llm_workshop.export.gguf_file import write_gguf
from llm_workshop.export.modelopt import check_exportable, quantize, write_quantized
from llm_workshop.export.modelopt_check import check_modelopt

if TYPE_CHECKING:
    import torch

GGUF_WEIGHTS = ("F16", "BF16", "Q8_0", "Q4_0")


def gguf_stage(artifacts: Artifacts, pre_tokenizer: str | None) -> tuple[Path, dict[str, Any]]:
    """Every type of GGUF file of the run's model with a Modelfile for Ollama, each checked; (folder, facts by type)."""
    checkpoint = Checkpoint.open(artifacts.require("base-model"))
    used = {"weights": GGUF_WEIGHTS, "pre_tokenizer": pre_tokenizer}
    if not artifacts.skip_if_current("export-gguf", used, ["base-model"]):
        with artifacts.write_stage("export-gguf", used, ["base-model"]) as stage:
            for weights in GGUF_WEIGHTS:
                file = stage.folder / f"model-{weights}.gguf"
                facts = write_gguf(checkpoint, file, weights, pre_tokenizer=pre_tokenizer, name=artifacts.settings.run_name)
                stage.metrics[weights] = facts | {"largest_error": check_gguf(checkpoint, file).get(weights)}
            if "<|user|>" in checkpoint.tokenizer.special_tokens:
                generate = artifacts.settings.generate
                text = modelfile(checkpoint, "model-Q8_0.gguf", generate.temperature, generate.top_p)
                (stage.folder / "Modelfile").write_text(text, encoding="utf-8")
    return artifacts.path("export-gguf"), artifacts.read_manifest("export-gguf")["metrics"]


def modelopt_stage(artifacts: Artifacts, method: str, calibration: list[torch.Tensor]) -> tuple[Path, dict[str, Any]]:
    """A checkpoint for TensorRT-LLM by one method, checked; (folder, facts).

    Raises:
        ValueError: a model that cannot be exported so; nothing is written.
    """
    name, used = f"export-{method}", {"method": method, "calibration_tokens": sum(batch.numel() for batch in calibration)}
    checkpoint = Checkpoint.open(artifacts.require("base-model"))
    check_exportable(checkpoint.config, method)
    if not artifacts.skip_if_current(name, used, ["base-model"]):
        with artifacts.write_stage(name, used, ["base-model"]) as stage:
            write_quantized(checkpoint, quantize(checkpoint, method, calibration), stage.folder)
            stage.metrics.update(check_modelopt(checkpoint, stage.folder, method))
            stage.metrics["source_digest"] = checkpoint.digest()
    return artifacts.path(name), artifacts.read_manifest(name)["metrics"]
