"""Stage 3: the corpus as memory-mapped token files."""

from __future__ import annotations

from pathlib import Path

from llm_workshop.artifacts import Artifacts
from llm_workshop.corpora.document import Document, read_documents
from llm_workshop.progress import progress_bar
from scratch_llm.data import TokenFileWriter
from scratch_llm.tokenizers import ByteLevelBPE, encode_chat


def build_tokens(artifacts: Artifacts, force: bool | None = None) -> Path:
    """Encode both splits; every document ends with ``<|endoftext|>``, chat turns carry their markers."""
    artifacts.require("corpus")
    tokenizer_folder = artifacts.require("tokenizer")
    if artifacts.skip_if_current("tokens", {}, ["corpus", "tokenizer"], force=force):
        return artifacts.path("tokens")
    tokenizer = ByteLevelBPE.load(tokenizer_folder)
    with artifacts.write_stage("tokens", {}, ["corpus", "tokenizer"]) as stage:
        facts = artifacts.read_manifest("corpus")["metrics"]
        for split in ("train", "valid"):
            source = artifacts.path("corpus") / f"{split}.jsonl"
            stage.metrics[split] = _encode_split(
                source, stage.folder / split, tokenizer, facts[split]["documents"]
            )
    return artifacts.path("tokens")


def encode_document(tokenizer: ByteLevelBPE, document: Document) -> list[int]:
    """Token ids of one document without its end mark; markers inside running text are plain text."""
    if document.messages is not None:
        return encode_chat(tokenizer, document.messages)[0]
    return tokenizer.encode(document.text, allow_special=False)


def _encode_split(source: Path, target: Path, tokenizer: ByteLevelBPE, n_documents: int) -> dict[str, int]:
    with (
        progress_bar(f"encoding {source.stem} (documents)", n_documents) as update,
        TokenFileWriter(target, vocab_size=tokenizer.vocab_size) as writer,
    ):
        for number, document in enumerate(read_documents(source), 1):
            ids = encode_document(tokenizer, document)
            writer.append([*ids, tokenizer.eos_id], n_bytes=len(document.text.encode("utf-8", "surrogatepass")))
            update(number)
    return {"documents": writer.n_documents, "tokens": writer.n_tokens}
