"""The workshop's own model in this process, as a ChatEngine."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llm_workshop.artifacts import Artifacts
from llm_workshop.serving.conversation import fit_messages
from llm_workshop.serving.engine import Delta, Message, ModelInfo, Sampling
from llm_workshop.serving.own_thread import in_own_thread
from llm_workshop.serving.scratch_prompts import ScratchPrompts, sampling_config

if TYPE_CHECKING:
    from scratch_llm.models.base import LanguageModel
    from scratch_llm.tokenizers import ByteLevelBPE


class ScratchEngine:
    """A ``scratch_llm`` model and its tokenizer behind the ChatEngine protocol.

    Long conversations lose their oldest turns (``max_turns`` at most are shown to the model), so that the
    prompt and ``reserve`` tokens of an answer fit the context; beyond that the generator's window slides.
    """

    def __init__(self, model: LanguageModel, tokenizer: ByteLevelBPE, info: ModelInfo, max_turns: int = 8):
        self.model, self.tokenizer, self.max_turns = model.eval(), tokenizer, max_turns
        self._info = info
        self._prompts = ScratchPrompts(model, tokenizer)

    @classmethod
    def from_artifacts(cls, artifacts: Artifacts, device: str | None = None) -> ScratchEngine:
        """Load the run's model (``chat.model``); a missing or damaged one is an error that names the make target."""
        return in_own_thread(cls._load, artifacts, device)

    @classmethod
    def _load(cls, artifacts: Artifacts, device: str | None) -> ScratchEngine:
        import torch

        from scratch_llm.models import load_model
        from scratch_llm.tokenizers import ByteLevelBPE

        folder = artifacts.require(artifacts.served)
        device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        model = load_model(folder).to(device)
        info = describe_model(model, folder, artifacts.read_manifest(artifacts.served), artifacts.settings.run_name)
        engine = cls(model, ByteLevelBPE.load(folder), info, artifacts.settings.chat.max_turns)
        # The first products choose and load their kernels; nobody's first question should wait for that.
        list(engine.complete("가", Sampling(max_new_tokens=3)))
        return engine

    def info(self) -> ModelInfo:
        return self._info

    def stream(self, messages: Sequence[Message], sampling: Sampling) -> Iterator[Delta]:
        """Answer the last message; see ChatEngine."""
        prompts, limit = self._prompts, self._prompts.limit(sampling.max_new_tokens)
        kept, dropped = fit_messages(messages, lambda m: len(prompts.chat_ids(m)), limit, self.max_turns)
        yield from self._generate(prompts.chat_ids(kept), sampling, dropped)

    def complete(self, text: str, sampling: Sampling) -> Iterator[Delta]:
        """Go on writing after ``text``; see ChatEngine."""
        ids = self._prompts.text_ids(text, sampling.max_new_tokens, allow_special=False)
        yield from self._generate(ids, sampling, 0)

    def _generate(self, ids: list[int], sampling: Sampling, dropped: int) -> Iterator[Delta]:
        from scratch_llm.generation import StopStringFilter, TokenStream
        from scratch_llm.tokenizers import StreamingDecoder

        tokens = TokenStream(self.model, [ids], sampling_config(sampling), stop_ids=self._prompts.stop_ids)
        decoder, stops = StreamingDecoder(self.tokenizer, skip_special=True), StopStringFilter(sampling.stop)
        n_tokens = 0
        for (token,) in tokens:
            n_tokens += 1
            yield Delta(stops.push(decoder.push(token)), 1, dropped_messages=dropped if n_tokens == 1 else 0)
            if stops.stopped:
                break
        reason = "stop" if stops.stopped or n_tokens < sampling.max_new_tokens else "length"
        rest = stops.push(decoder.flush()) + stops.flush()
        yield Delta(rest, finish_reason=reason, dropped_messages=dropped)


def describe_model(model: LanguageModel, folder: Path, manifest: dict[str, Any], name: str) -> ModelInfo:
    """What the page shows, from the model and from its artifact's manifest."""
    metrics = manifest.get("metrics", {})
    pretrain = manifest.get("settings", {}).get("pretrain", {})
    per_step = pretrain.get("batch_size", 0) * model.config.context_length
    return ModelInfo(
        name=name,
        architecture=model.model_type,
        n_parameters=model.n_parameters(),
        context_length=model.config.context_length,
        vocab_size=model.config.vocab_size,
        supports_chat=bool(metrics.get("chat")),
        bits_per_byte=metrics.get("bits_per_byte"),
        trained_on=", ".join(manifest.get("data", ())) or None,
        trained_tokens=(metrics.get("steps") or 0) * per_step or None,
        commit=manifest.get("commit"),
        created=manifest.get("created"),
        artifact=str(folder),
        device=model.device.type.upper(),
        precision=str(model.dtype).removeprefix("torch."),
    )
