"""The workshop's own model in this process, as a ChatEngine."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llm_workshop.artifacts import Artifacts
from llm_workshop.serving.conversation import fit_messages
from llm_workshop.serving.engine import Delta, Message, ModelInfo, PromptTooLongError, Sampling

if TYPE_CHECKING:
    from scratch_llm.models.base import LanguageModel
    from scratch_llm.tokenizers import ByteLevelBPE


class ScratchEngine:
    """A ``scratch_llm`` model and its tokenizer behind the ChatEngine protocol.

    Long conversations lose their oldest turns (``max_turns`` at most are shown to the model), so that the
    prompt and ``reserve`` tokens of an answer fit the context; beyond that the generator's window slides.
    Any special token ends an answer: a model that begins to speak for the user is stopped there.
    """

    def __init__(self, model: LanguageModel, tokenizer: ByteLevelBPE, info: ModelInfo, max_turns: int = 8):
        if tokenizer.vocab_size > model.config.vocab_size:
            raise ValueError(
                f"the tokenizer has {tokenizer.vocab_size} tokens, the model {model.config.vocab_size}: "
                "use the tokenizer the model was trained with"
            )
        self.model, self.tokenizer, self.max_turns = model.eval(), tokenizer, max_turns
        self._info = info
        self._stop_ids = frozenset(tokenizer.special_tokens.values())
        # Training documents follow one another with the end mark between them, so it also begins one.
        first = model.config.bos_token_id
        first = tokenizer.eos_id if first is None else first
        self._beginning = [] if first is None else [first]

    @classmethod
    def from_artifacts(cls, artifacts: Artifacts, device: str | None = None) -> ScratchEngine:
        """Load the run's ``base-model``; a missing or damaged one is an error that names the make target."""
        import torch

        from scratch_llm.models import load_model
        from scratch_llm.tokenizers import ByteLevelBPE

        folder = artifacts.require("base-model")
        device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        model = load_model(folder).to(device)
        info = describe_model(model, folder, artifacts.read_manifest("base-model"), artifacts.settings.run_name)
        engine = cls(model, ByteLevelBPE.load(folder), info, artifacts.settings.chat.max_turns)
        # The first products choose and load their kernels; nobody's first question should wait for that.
        list(engine.complete("가", Sampling(max_new_tokens=3)))
        return engine

    def info(self) -> ModelInfo:
        return self._info

    def stream(self, messages: Sequence[Message], sampling: Sampling) -> Iterator[Delta]:
        """Answer the last message; see ChatEngine."""
        limit = self._prompt_limit(sampling)
        kept, dropped = fit_messages(messages, lambda m: len(self._chat_ids(m)), limit, self.max_turns)
        yield from self._generate(self._chat_ids(kept), sampling, dropped)

    def complete(self, text: str, sampling: Sampling) -> Iterator[Delta]:
        """Go on writing after ``text``; see ChatEngine."""
        ids = [*self._beginning, *self.tokenizer.encode(text, allow_special=False)]
        if len(ids) > (limit := self._prompt_limit(sampling)):
            raise PromptTooLongError(len(ids), limit)
        yield from self._generate(ids, sampling, 0)

    def _prompt_limit(self, sampling: Sampling) -> int:
        """Tokens of a prompt: the answer's share of the context is kept free, but never more than half of it."""
        context = self.model.config.context_length
        return context - min(sampling.max_new_tokens, context // 2)

    def _chat_ids(self, messages: Sequence[Message]) -> list[int]:
        from scratch_llm.tokenizers import encode_chat

        ids, _ = encode_chat(self.tokenizer, messages, add_generation_prompt=True)
        return [*self._beginning, *ids]

    def _generate(self, ids: list[int], sampling: Sampling, dropped: int) -> Iterator[Delta]:
        from scratch_llm.generation import SamplingConfig, TokenStream
        from scratch_llm.tokenizers import StreamingDecoder

        config = SamplingConfig(
            max_new_tokens=sampling.max_new_tokens,
            temperature=sampling.temperature,
            top_k=sampling.top_k,
            top_p=sampling.top_p,
            min_p=sampling.min_p,
            repetition_penalty=sampling.repetition_penalty,
            seed=sampling.seed,
        )
        tokens = TokenStream(self.model, [ids], config, stop_ids=self._stop_ids)
        decoder, n_tokens = StreamingDecoder(self.tokenizer, skip_special=True), 0
        for (token,) in tokens:
            n_tokens += 1
            yield Delta(decoder.push(token), 1, dropped_messages=dropped if n_tokens == 1 else 0)
        reason = "length" if n_tokens >= sampling.max_new_tokens else "stop"
        yield Delta(decoder.flush(), finish_reason=reason, dropped_messages=dropped)


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
