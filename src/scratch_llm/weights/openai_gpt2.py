"""GPT-2 as OpenAI published it: a folder with ``hparams.json`` and a TensorFlow checkpoint.

The folder (one per size, under https://openaipublic.blob.core.windows.net/gpt-2/models/) holds ``checkpoint``,
``hparams.json``, ``model.ckpt.index``, ``model.ckpt.data-00000-of-00001``, and the tokenizer's ``encoder.json`` and
``vocab.bpe`` (``ByteLevelBPE.from_gpt2_files``).  Names and shapes: openai/gpt-2, src/model.py.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from scratch_llm.weights.reading import name_differences
from scratch_llm.weights.rules import Rule
from scratch_llm.weights.tensor_bundle import TensorBundle

if TYPE_CHECKING:
    from scratch_llm.models.gpt2 import GPT2, GPT2Config

HPARAMS = {"n_vocab": "vocab_size", "n_ctx": "context_length", "n_embd": "d_model", "n_head": "n_heads", "n_layer": "n_layers"}
END_OF_TEXT = 50256  # the last of the published vocabulary: both begins and ends a document


def load_openai_gpt2(
    folder: str | Path, *, dtype: torch.dtype | None = None, device: torch.device | str | None = None
) -> GPT2:
    """Read OpenAI's folder into our GPT-2, in evaluation mode.  TensorFlow is not needed.

    Args:
        folder: holds ``hparams.json`` and the checkpoint that its file ``checkpoint`` names (else ``model.ckpt``).
        dtype: of the weights; None keeps the file's, float32.
        device: where the weights go; None is the CPU.

    Raises:
        FileNotFoundError: the folder or a file is not there.
        ValueError: damaged files, or tensors missing, left over or of the wrong shape; the message names them.
    """
    from scratch_llm.models.gpt2 import GPT2

    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is not a folder: give the one with hparams.json and model.ckpt.index")
    config = _read_hparams(folder / "hparams.json")
    bundle = TensorBundle(_checkpoint_prefix(folder))
    rules = GPT2.weight_rules(config)
    with torch.device("meta"):
        model = GPT2(config)
    expected = model.state_dict()
    _check_names(bundle, rules)
    state = {rule.ours: _read_rule(bundle, rule, expected[rule.ours].shape).to(dtype) for rule in rules}
    model.load_state_dict(state, assign=True)
    model.init_buffers()
    return model.to(device).eval()


def openai_name(name: str) -> str:
    """Hugging Face's name of a GPT-2 tensor -> OpenAI's: "transformer.h.0.attn.c_attn.weight" -> "model/h0/attn/c_attn/w"."""
    path = re.sub(r"^transformer\.", "model.", name)
    path = re.sub(r"\.h\.(\d+)\.", r".h\1.", path)
    path = re.sub(r"(ln_\w+)\.weight$", r"\1.g", path)
    path = re.sub(r"(w[tp]e)\.weight$", r"\1", path)
    path = re.sub(r"\.weight$", ".w", path)
    return re.sub(r"\.bias$", ".b", path).replace(".", "/")


def _read_hparams(file: Path) -> GPT2Config:
    from scratch_llm.models.gpt2 import GPT2Config

    if not file.is_file():
        raise FileNotFoundError(f"{file} is missing: download it from where the checkpoint came from")
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
        shape = {ours: values[theirs] for theirs, ours in HPARAMS.items()}
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError) as error:
        raise ValueError(
            f"{file} is damaged or not of a GPT-2 ({type(error).__name__}: {error}): it must hold {', '.join(HPARAMS)}"
        ) from None
    end = END_OF_TEXT if shape["vocab_size"] == END_OF_TEXT + 1 else None
    return GPT2Config(**shape, bos_token_id=end, eos_token_id=end)


def _checkpoint_prefix(folder: Path) -> Path:
    """The checkpoint that the file ``checkpoint`` (a text protocol buffer) points at."""
    file = folder / "checkpoint"
    if not file.is_file():
        return folder / "model.ckpt"
    found = re.search(r'^model_checkpoint_path:\s*"([^"]+)"', file.read_text(encoding="utf-8", errors="replace"), re.M)
    if found is None:
        raise ValueError(f"{file} names no model_checkpoint_path: download it again, or delete it to use model.ckpt")
    return folder / Path(found[1]).name  # where it was trained, the path may have been another


def _check_names(bundle: TensorBundle, rules: list[Rule]) -> None:
    wanted = {openai_name(name) for rule in rules for name in rule.theirs}
    problems = name_differences(wanted, bundle.entries)
    if problems:
        raise ValueError(
            f"{bundle.index_file} does not fit hparams.json; {problems}: use the files of one model"
        )


def _read_rule(bundle: TensorBundle, rule: Rule, shape: torch.Size) -> Tensor:
    """One of our tensors.  Matrices were 1x1 convolutions, (1, in, out): the first axis says nothing."""
    (name,), (wanted,) = map(openai_name, rule.theirs), rule.their_shapes(shape)
    array = bundle.read(name)
    if array.shape not in (wanted, (1, *wanted)) or array.dtype.kind != "f":
        raise ValueError(
            f"{name} in {bundle.index_file} is {array.dtype} of shape {array.shape}, hparams.json asks for floats of "
            f"{(1, *wanted) if name.endswith('/w') else wanted}: use the files of one model"
        )
    array = array.reshape(wanted)
    return torch.from_numpy(np.array(array.T if rule.transpose else array, order="C"))
