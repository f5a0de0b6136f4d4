"""The stamp of a checkpoint that was prepared in the image that serves it.

What TensorRT-LLM makes of a checkpoint depends on its version, on torch and CUDA, and on the GPU: FP8 needs compute
capability 8.9, and a cache of tuned kernels is of one GPU only.  So the image writes down what it is, and the engine
refuses a checkpoint whose stamp is of another one, or whose files have changed since.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from llm_workshop.export.modelopt import METHODS
from llm_workshop.settings import settings_digest
from scratch_llm.io import atomic_write, sha256_of

FILE = "engine-stamp.json"
COMMAND = "python -m llm_workshop.serving.tensorrt_llm.stamp"
#: Compute capability that a quantisation needs at least.
NEEDS = {"FP8": (8, 9), "W4A16_AWQ": (8, 0)}


class StampError(ValueError):
    """A checkpoint and the environment that should serve it do not fit; the message names both and the cure."""


@dataclass(frozen=True)
class Stamp:
    """What a checkpoint was prepared with.  ``capability`` as "9.0"."""

    tensorrt_llm: str
    torch: str
    cuda: str
    gpu: str
    capability: str
    checkpoint: str


WORDS = {
    "tensorrt_llm": "TensorRT-LLM", "torch": "torch", "cuda": "CUDA", "gpu": "the GPU",
    "capability": "compute capability", "checkpoint": "the checkpoint's digest",
}  # fmt: skip


def checkpoint_digest(folder: Path) -> str:
    """SHA-256 over the checkpoint's configuration, weights and tokenizer."""
    files = sorted([*folder.glob("*.safetensors"), *(folder / name for name in ("config.json", "hf_quant_config.json", "tokenizer.json"))])
    return settings_digest({file.name: sha256_of(file) for file in files if file.is_file()})


def present(folder: Path) -> Stamp:
    """The stamp that this environment would write; ValueError where there is no GPU or no TensorRT-LLM."""
    import torch

    try:
        import tensorrt_llm
    except ImportError as error:
        raise ValueError(f"no TensorRT-LLM here ({error}): use the image 'serving-gpu'") from None
    if not torch.cuda.is_available():
        raise ValueError("PyTorch sees no GPU: start the container with --gpus all")
    major, minor = torch.cuda.get_device_capability()
    return Stamp(
        tensorrt_llm.__version__, torch.__version__, str(torch.version.cuda), torch.cuda.get_device_name(),
        f"{major}.{minor}", checkpoint_digest(folder),
    )  # fmt: skip


def write_stamp(folder: Path, stamp: Stamp) -> None:
    """Put the stamp into the checkpoint's folder (atomically), after a check that this GPU can run it."""
    check_gpu(folder, stamp)
    with atomic_write(folder / FILE) as stream:
        json.dump(asdict(stamp), stream, indent=2)


def read_stamp(folder: Path) -> Stamp:
    """The folder's stamp; StampError where there is none or no whole one."""
    try:
        values = json.loads((folder / FILE).read_text(encoding="utf-8"))
        return Stamp(**{field.name: str(values[field.name]) for field in fields(Stamp)})
    except FileNotFoundError:
        raise StampError(f"{folder} has no stamp: prepare it in the image that serves it with '{command(folder)}'") from None
    except (ValueError, KeyError, TypeError):
        raise StampError(f"{folder / FILE} is damaged: write it again with '{command(folder)}'") from None


def check_stamp(folder: Path, here: Stamp) -> Stamp:
    """Return the folder's stamp if it fits ``here``; else StampError naming each side and the command."""
    stamp = read_stamp(folder)
    wrong = [
        f"{WORDS[field.name]} {_short(getattr(stamp, field.name))} there, {_short(getattr(here, field.name))} here"
        for field in fields(Stamp)
        if getattr(stamp, field.name) != getattr(here, field.name)
    ]
    if wrong:
        raise StampError(f"{folder} was prepared for another environment ({'; '.join(wrong)}): prepare it anew with '{command(folder)}'")
    check_gpu(folder, here)
    return stamp


def check_gpu(folder: Path, stamp: Stamp) -> None:
    """StampError unless the PyTorch backend loads the folder's quantisation and the GPU is new enough for it."""
    try:
        algorithm = json.loads((folder / "hf_quant_config.json").read_text(encoding="utf-8"))["quantization"]["quant_algo"]
    except FileNotFoundError:
        return  # not quantised
    except (ValueError, KeyError, TypeError):
        raise StampError(f"{folder / 'hf_quant_config.json'} is damaged: export the checkpoint again") from None
    method = next((method for method in METHODS.values() if method.quant_algo == algorithm), None)
    if method is None or not method.pytorch_backend:
        raise StampError(f"{folder} holds {algorithm}, which the PyTorch backend does not load: export fp8 or awq")
    capability = tuple(int(part) for part in stamp.capability.split("."))
    if capability < NEEDS[algorithm]:
        raise StampError(
            f"{folder} holds {algorithm}, which needs {method.gpu}; {stamp.gpu} has {stamp.capability}: "
            "serve another export or the model as it is"
        )


def command(folder: Path) -> str:
    """The command that stamps a folder anew."""
    return f"{COMMAND} {folder}"


def main(arguments: list[str] | None = None) -> int:
    """``python -m llm_workshop.serving.tensorrt_llm.stamp FOLDER``"""
    import argparse
    import sys

    parser = argparse.ArgumentParser(prog=COMMAND, description="Stamp a checkpoint for the environment that serves it.")
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args(arguments).folder
    try:
        write_stamp(folder, present(folder))
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"stamped: {folder / FILE}")
    return 0


def _short(value: str) -> str:
    return value[:12] if len(value) == 64 else value


if __name__ == "__main__":
    raise SystemExit(main())
