"""The same small model on every tokenizer: which vocabulary lets it predict the text best?

What is equal for all: the text and its order, the bytes in a window and in a step, the number of steps, the learning rate,
and the parameters outside the embedding.  What follows from the tokenizer: the tokens in a window, the embedding, and with
both the time.  The measure is bits per byte of held-out text, which does not depend on how the text is cut.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from llm_workshop.artifacts import Artifacts
from llm_workshop.progress import print_korean
from llm_workshop.sections import CompareTokenizersSettings
from llm_workshop.tokenization.comparison import UNKNOWN_PIECE, Peer, compression
from scratch_llm.data import TokenFile, TokenFileWriter, Windows
from scratch_llm.models import Llama, LlamaConfig, build_model
from scratch_llm.training import TrainingConfig, train
from scratch_llm.training.progress import clock

_HEAD_WIDTH = 32


def run_trials(
    artifacts: Artifacts, peers: Sequence[tuple[str, Peer]], train_lines: Sequence[str], valid_lines: Sequence[str]
) -> Iterator[dict[str, Any]]:
    """The figures of :func:`trial` for each (name, tokenizer), as they are done; says how long the others will take.

    Each is an artifact of its own, so an interrupted comparison goes on with the first one that is missing, at its last
    checkpoint.
    """
    efforts = [_effort(peer, valid_lines, artifacts.settings.compare_tokenizers) for _, peer in peers]
    done = seconds = 0.0
    for number, (name, peer) in enumerate(peers):
        eta = f", 끝까지 남은 시간 {clock(seconds * sum(efforts[number:]) / done)}" if done else ""
        print(f"\n[{number + 1}/{len(peers)}] {peer.name}, 어휘 {peer.vocab_size:,}{eta}", flush=True)
        started = time.perf_counter()
        figures = run_trial(artifacts, f"tokenizer-trial-{name}-{peer.vocab_size}", peer, train_lines, valid_lines)
        took = time.perf_counter() - started
        if took > figures["seconds"]:  # else it was there from an earlier run, and foretells nothing
            done, seconds = done + efforts[number], seconds + took
        yield figures


def _effort(peer: Peer, lines: Sequence[str], compare: CompareTokenizersSettings) -> float:
    """Floating-point operations of a trial per byte of text, up to a factor: parameters over bytes per token."""
    n_parameters = peer.vocab_size * compare.d_model + 12 * compare.n_layers * compare.d_model**2
    return n_parameters / compression(peer, lines[:200])["bytes_per_token"]


def run_trial(artifacts: Artifacts, stage: str, peer: Peer, train_lines: Sequence[str], valid_lines: Sequence[str]) -> dict[str, Any]:
    """Train on one tokenizer unless that is done already; the figures of :func:`trial`."""
    settings = artifacts.settings
    used = {"compare_tokenizers": settings.compare_tokenizers.model_dump(mode="json", exclude={"models", "tokenizers", "vocab_sizes"}),
            "vocab_size": peer.vocab_size, "precision": settings.pretrain.precision, "seed": settings.seed}  # fmt: skip
    if not artifacts.skip_if_current(stage, used, ["corpus"]):
        work = artifacts.work(stage, used, ["corpus"])
        with artifacts.write_stage(stage, used, ["corpus"]) as writer:
            writer.metrics.update(trial(peer, train_lines, valid_lines, settings.compare_tokenizers, work,
                                        settings.pretrain.precision, settings.seed, log=_log))
            (writer.folder / "metrics.jsonl").write_bytes((work / "metrics.jsonl").read_bytes())
        artifacts.clear_work(stage)
    return artifacts.read_manifest(stage)["metrics"]


def trial(
    peer: Peer, train_lines: Sequence[str], valid_lines: Sequence[str], compare: CompareTokenizersSettings, folder: Path,
    precision: str = "auto", seed: int = 0, log: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:  # fmt: skip
    """Train one model and measure it; a line is a document, whose end is a token."""
    numbers = _Numbers(peer)
    files = {split: _write(numbers, folder / split, lines) for split, lines in (("train", train_lines), ("valid", valid_lines))}
    bytes_per_token = files["train"].n_bytes / files["train"].n_tokens
    context = max(8, round(compare.window_bytes / bytes_per_token))
    steps = max(1, round(files["train"].n_bytes / (compare.window_bytes * compare.batch_size)))
    windows, held_out = (Windows(file, context, compare.batch_size, seed=seed) for file in files.values())
    model = small_model(peer.vocab_size + 1, context, compare.n_layers, compare.d_model, seed)
    config = TrainingConfig(
        steps=steps, batch_size=compare.batch_size, learning_rate=compare.learning_rate, precision=precision, compile="off",
        eval_every=steps, eval_batches=held_out.n_batches, save_every=-(-steps // 3), log_every=-(-steps // 3), seed=seed,
    )  # fmt: skip
    started = time.perf_counter()
    result = train(model, windows, held_out, config, folder, log=log)
    n_targets = files["valid"].n_tokens - 1
    bits = result.valid_loss * n_targets / math.log(2)
    lost = sum(lost_bytes(peer, line) for line in valid_lines)
    return {
        "vocab_size": peer.vocab_size, "parameters": model.n_parameters(), "embedding": model.embedding.weight.numel(),
        "body": model.n_parameters() - model.embedding.weight.numel(), "context": context, "steps": steps,
        "bytes_read": steps * compare.batch_size * compare.window_bytes, "bytes_per_token": bytes_per_token, "loss": result.valid_loss,
        "bits_per_byte": (bits + 8 * lost) / files["valid"].n_bytes, "lost_share": lost / files["valid"].n_bytes,
        "seconds": time.perf_counter() - started,
    }  # fmt: skip


def log_steps(line: str) -> None:
    """The loop's steps in Korean; what it says of the machine is the same for every trial."""
    if line.startswith("step"):
        print_korean(f"  {line}")


def _log(line: str) -> None:
    """The same, with what becomes of an interrupted trial."""
    log_steps(line)
    if line.startswith(("resuming", "interrupted")):
        print_korean(line)


def lost_bytes(peer: Peer, line: str) -> int:
    """Bytes of a line, without its white space, that its tokens do not tell: what unknown tokens stand for."""
    known = sum(len(b"".join(piece.split())) for piece in peer.pieces(line) if piece != UNKNOWN_PIECE)
    return max(0, len(b"".join(line.encode().split())) - known)


def small_model(vocab_size: int, context: int, n_layers: int, width: int, seed: int) -> Llama:
    """A Llama of ``width``, with heads of 32 and a tied embedding, where training runs."""
    config = LlamaConfig(
        vocab_size=vocab_size, context_length=context, n_layers=n_layers, d_model=width, n_heads=width // _HEAD_WIDTH,
        n_kv_heads=width // _HEAD_WIDTH, d_ff=-(-8 * width // (3 * 32)) * 32, tie_embeddings=True,
    )  # fmt: skip
    return build_model(config, seed=seed).to("cuda" if torch.cuda.is_available() else "cpu")


class _Numbers:
    """Piece -> id in the order in which pieces are met; 0 ends a document.

    Which id a token has means nothing to a model, so any tokenizer can be given ids by what its tokens show.
    """

    def __init__(self, peer: Peer):
        self.peer = peer
        self.known: dict[bytes, int] = {}

    def of(self, line: str) -> list[int]:
        known = self.known
        return [known.setdefault(piece, 1 + len(known)) for piece in self.peer.pieces(line)]


def _write(numbers: _Numbers, path: Path, lines: Iterable[str]) -> TokenFile:
    with TokenFileWriter(path, vocab_size=numbers.peer.vocab_size + 1) as writer:
        for line in lines:
            # The document's end stands for the line break, one byte.
            writer.append([*numbers.of(line), 0], n_bytes=len(line.encode()) + 1)
    return TokenFile(path)
