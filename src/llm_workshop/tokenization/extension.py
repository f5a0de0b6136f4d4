"""A tokenizer and its model are given Korean tokens: how should the new rows of the embedding begin?"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from llm_workshop.settings import Settings
from llm_workshop.tokenization.trial import log_steps, small_model
from scratch_llm.data import TokenFile, TokenFileWriter, Windows
from scratch_llm.models import Llama, resize_embeddings, set_rows_to_means
from scratch_llm.tokenizers import ByteLevelBPE
from scratch_llm.training import TrainingConfig, train
from scratch_llm.training.evaluation import evaluate
from scratch_llm.training.precision import choose_dtype

STARTS = {"random": "무작위", "mean": "모든 토큰의 평균", "pieces": "옛 조각들의 평균"}
"""Ways to fill the rows of new tokens: drawn with the old rows' spread, or means."""


class Reading:
    """Lines as a tokenizer writes them, in windows of the same number of bytes whatever the tokenizer.

    Args:
        tokenizer: has "<|endoftext|>", which ends every line.
        lines: split ("train", "valid") -> its lines.
        settings: window_bytes and batch_size of ``compare_tokenizers``, and the seed.
        folder: takes the token files.
    """

    def __init__(self, tokenizer: ByteLevelBPE, lines: Mapping[str, Sequence[str]], settings: Settings, folder: Path):
        compare = settings.compare_tokenizers
        self.tokenizer = tokenizer
        self.files = {split: _write(tokenizer, folder / split, some) for split, some in lines.items()}
        self.context = max(8, round(compare.window_bytes / self.bytes_per_token))
        self.train, self.valid = (
            Windows(self.files[split], self.context, compare.batch_size, seed=settings.seed) for split in ("train", "valid")
        )

    @property
    def bytes_per_token(self) -> float:
        return self.files["train"].n_bytes / self.files["train"].n_tokens


def _write(tokenizer: ByteLevelBPE, path: Path, lines: Sequence[str]) -> TokenFile:
    with TokenFileWriter(path, vocab_size=tokenizer.vocab_size) as writer:
        for line in lines:
            writer.append([*tokenizer.encode(line, allow_special=False), tokenizer.eos_id], n_bytes=len(line.encode()))
    return TokenFile(path)


def train_on(
    model: Llama, reading: Reading, settings: Settings, folder: Path, steps: int, learning_rate: float, evaluations: int = 1
) -> list[tuple[int, float]]:
    """Train in place; (step, held-out bits per byte) at step 0 and ``evaluations`` times on the way."""
    token_bytes = reading.tokenizer.token_bytes()
    device = next(model.parameters()).device
    dtype = choose_dtype(settings.pretrain.precision, device)[0]
    first = evaluate(model, reading.valid, reading.valid.n_batches, dtype, token_bytes)["bits_per_byte"]
    config = TrainingConfig(
        steps=steps, batch_size=settings.compare_tokenizers.batch_size, learning_rate=learning_rate, compile="off",
        precision=settings.pretrain.precision, eval_every=max(1, steps // evaluations), eval_batches=reading.valid.n_batches,
        save_every=steps, log_every=max(2, -(-steps // 3)), seed=settings.seed,
    )  # fmt: skip
    result = train(model, reading.train, reading.valid, config, folder, token_bytes=token_bytes, resume=False, log=log_steps)
    records = [json.loads(line) for line in result.metrics_path.read_text(encoding="utf-8").splitlines()]
    return [(0, first), *((record["step"], record["bits_per_byte"]) for record in records if "bits_per_byte" in record)]


def base_model(reading: Reading, settings: Settings, folder: Path) -> tuple[Llama, list[tuple[int, float]]]:
    """A small model that has read the training lines once with the old tokenizer."""
    compare = settings.compare_tokenizers
    model = small_model(reading.tokenizer.vocab_size, reading.context, compare.n_layers, compare.d_model, settings.seed)
    steps = max(1, reading.train.n_windows // compare.batch_size)
    return model, train_on(model, reading, settings, folder, steps, compare.learning_rate)


def started(model: Llama, old: ByteLevelBPE, new: ByteLevelBPE, start: str, seed: int = 0) -> Llama:
    """A copy of the model with rows for the new tokens, filled in one of the ``STARTS``."""
    if start not in STARTS:
        raise ValueError(f"start {start!r} is unknown: use one of {', '.join(STARTS)}")
    twin = resize_embeddings(copy.deepcopy(model), new.vocab_size)
    added = range(old.vocab_size, new.vocab_size)
    if start == "pieces":
        set_rows_to_means(twin, {number: old_pieces(old, new, number) for number in added})
    elif start == "random":
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            weight = twin.embedding.weight
            spread = weight[: old.vocab_size].float().std().item()
            weight[added.start :] = (spread * torch.randn(len(added), weight.shape[1], generator=generator)).to(weight)
    return twin


def old_pieces(old: ByteLevelBPE, new: ByteLevelBPE, number: int) -> list[int]:
    """The old tokens whose bytes are a new token's, as the new merges put them together."""
    parts = {merged: (left, right) for left, right, merged in new.merges}
    pending, pieces = [number], []
    while pending:
        token = pending.pop()
        if token < old.vocab_size:
            pieces.append(token)
        else:
            left, right = parts[token]
            pending += [right, left]
    return pieces


def adapt_all(
    model: Llama, old: Reading, new: Reading, settings: Settings, folder: Path
) -> dict[str, list[tuple[int, float]]]:
    """Curves of bits per byte: the model as it is reading on, and extended with every start; the same bytes for all."""
    steps, rate = settings.extend_tokenizer.steps, settings.compare_tokenizers.learning_rate / 3
    starts = [("not", "확장하지 않음", old), *((start, title, new) for start, title in STARTS.items())]
    curves = {}
    for number, (start, title, reading) in enumerate(starts, 1):
        print(f"[{number}/{len(starts)}] {title}", flush=True)
        twin = copy.deepcopy(model) if reading is old else started(model, old.tokenizer, new.tokenizer, start, settings.seed)
        curves[title] = train_on(twin, reading, settings, folder / start, steps, rate, 4)
    return curves


def english_unchanged(old: ByteLevelBPE, new: ByteLevelBPE, texts: Sequence[str]) -> bool:
    """Whether texts keep their ids."""
    return all(old.encode(text) == new.encode(text) for text in texts)


def used_share(tokenizer: ByteLevelBPE, lines: Sequence[str]) -> dict[str, Any]:
    """How many of the ids a text uses at all."""
    used = {number for line in lines for number in tokenizer.encode(line, allow_special=False)}
    return {"used": len(used), "vocab_size": tokenizer.vocab_size}
