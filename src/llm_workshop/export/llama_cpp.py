"""llama.cpp itself, where it is installed: the judge of a GGUF file.

The package xllamacpp bundles the real program (100 MB when installed).  It is one of the tools for development (extra
``dev``); what uses it does without where it is missing.
"""

from __future__ import annotations

import importlib.util
import json
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def is_installed() -> bool:
    """Whether the package xllamacpp is there."""
    return importlib.util.find_spec("xllamacpp") is not None


class LlamaCpp:
    """llama.cpp's server with one file, in this process, asked by HTTP on a free port; it ends with this object.

    Raises:
        ValueError: xllamacpp is not installed, or there is no such file.
    """

    def __init__(self, file: str | Path, context_length: int, threads: int = 2):
        if not is_installed():
            raise ValueError("llama.cpp is not installed: pip install xllamacpp")
        if not Path(file).is_file():
            raise ValueError(f"no GGUF file at {file}: write it first")
        import xllamacpp

        parameters = xllamacpp.CommonParams()
        parameters.model.path, parameters.n_ctx = str(file), context_length
        parameters.n_gpu_layers, parameters.n_parallel, parameters.warmup = 0, 1, False
        parameters.cpuparams.n_threads, parameters.port, parameters.verbosity = threads, 0, 0
        self._server = xllamacpp.Server(parameters)

    def ask(self, path: str, **body: Any) -> Any:
        """The JSON answer of one of its endpoints."""
        request = urllib.request.Request(self._server.listening_address + path, json.dumps(body).encode())
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)

    def tokenize(self, text: str) -> list[int]:
        """Token ids of a text; markers in it are plain text, and no token is put before it."""
        return self.ask("/tokenize", content=text, parse_special=False)["tokens"]

    def continue_greedily(self, prompt: str | Sequence[int], n_tokens: int) -> list[int]:
        """Ids that follow a text (with the beginning token before it) or exactly these ids."""
        body = {"prompt": prompt if isinstance(prompt, str) else list(prompt), "n_predict": n_tokens}
        return self.ask("/completion", **body, temperature=0, return_tokens=True)["tokens"]

    def render(self, messages: Sequence[dict[str, str]]) -> str:
        """A conversation as its copy of the chat template writes it."""
        return self.ask("/apply-template", messages=list(messages))["prompt"]

    def close(self) -> None:
        """End the server."""
        self._server = None
