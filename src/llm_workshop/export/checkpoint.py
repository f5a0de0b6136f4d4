"""What every export begins with: a Hugging Face checkpoint of ours with its tokenizer."""

from __future__ import annotations

import contextlib
import io
import logging
import shutil
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llm_workshop.settings import settings_digest
from scratch_llm.io import sha256_of
from scratch_llm.tokenizers import ByteLevelBPE
from scratch_llm.weights.huggingface import read_config

if TYPE_CHECKING:
    from transformers import PreTrainedModel

TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json")


@dataclass(frozen=True)
class Checkpoint:
    """A folder in Hugging Face format, its configuration as stored, and its byte-level tokenizer."""

    folder: Path
    config: dict[str, Any]
    tokenizer: ByteLevelBPE

    @classmethod
    def open(cls, folder: str | Path) -> Checkpoint:
        """Read configuration and tokenizer.

        Raises:
            ValueError: no checkpoint there, or one whose tokenizer is missing, of another kind or too large for it.
        """
        folder = Path(folder)
        config = read_config(folder)
        if not (folder / "tokenizer.json").is_file():
            raise ValueError(f"{folder} has no tokenizer.json: an export without its tokenizer is of no use, put it there")
        tokenizer = ByteLevelBPE.load(folder)
        if tokenizer.vocab_size > config.get("vocab_size", 0):
            raise ValueError(
                f"{folder}: the tokenizer has {tokenizer.vocab_size} tokens, the model {config.get('vocab_size')}: "
                "use the tokenizer that the model was trained with"
            )
        return cls(folder, config, tokenizer)

    @property
    def model_type(self) -> str:
        return str(self.config.get("model_type"))

    @property
    def context_length(self) -> int:
        """Positions of the model (tokens); GPT-2's configuration has another name for them."""
        return self.config.get("max_position_embeddings") or self.config["n_positions"]

    def digest(self) -> str:
        """SHA-256 over configuration, weights and tokenizer: what an export was made from."""
        files = sorted([*self.folder.glob("*.safetensors"), self.folder / "config.json", self.folder / "tokenizer.json"])
        return settings_digest({file.name: sha256_of(file) for file in files})

    def load_model(self) -> PreTrainedModel:
        """The model as transformers runs it, in float32 and in evaluation mode.

        Raises:
            ValueError: weights that transformers cannot read.
        """
        import torch

        try:
            with quiet():
                from transformers import AutoModelForCausalLM

                model = AutoModelForCausalLM.from_pretrained(self.folder, dtype=torch.float32, local_files_only=True)
        except (OSError, KeyError, ValueError) as error:
            raise ValueError(f"transformers cannot open {self.folder}: {error}") from None
        return model.eval()

    def copy_tokenizer(self, target: Path) -> None:
        """Put the tokenizer's files beside exported weights."""
        for name in TOKENIZER_FILES:
            if (source := self.folder / name).is_file():
                shutil.copyfile(source, target / name)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without the libraries' progress bars, warnings and notes: what went wrong is an exception, or checked by us."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
