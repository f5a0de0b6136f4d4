"""Generation on the level of text."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Any

from scratch_llm.generation.packing import Weights, check_weights
from scratch_llm.generation.sampling import SamplingConfig
from scratch_llm.generation.stop_strings import StopStringFilter
from scratch_llm.generation.tokens import TokenStream, eos_ids
from scratch_llm.models.base import LanguageModel
from scratch_llm.tokenizers import StreamingDecoder

END_OF_TURN = "<|end|>"


class Generator:
    """A model and its tokenizer: text in, text out, whole or as a stream.

    The tokenizer offers ``encode(text, allow_special=...)``, ``eos_id``, ``token_to_id`` and what
    ``StreamingDecoder`` needs (``scratch_llm.tokenizers``).

    A prompt begins a document, so the model's ``bos_token_id`` is put before it where it has one
    (``add_bos=False`` leaves it out).  Generation ends at the model's and the tokenizer's end-of-text token
    and at the end of a chat turn, or, where they are given, at ``stop_ids``.  Special tokens are not part of the text.
    """

    def __init__(
        self,
        model: LanguageModel,
        tokenizer: Any,
        *,
        stop_ids: Collection[int] | None = None,
        add_bos: bool = True,
        stride: int | None = None,
        weights: Weights = "same",
    ):
        """``weights="int8"``: decode with weights of one byte, as in ``pack``."""
        check_weights(weights)
        if tokenizer.vocab_size > model.config.vocab_size:
            raise ValueError(
                f"the tokenizer has {tokenizer.vocab_size} tokens, the model {model.config.vocab_size}: "
                "use the tokenizer the model was trained with"
            )
        self.model, self.tokenizer, self.add_bos, self.stride = model, tokenizer, add_bos, stride
        self.weights = weights
        if stop_ids is None:
            stop_ids = {*eos_ids(model.config), tokenizer.eos_id, tokenizer.token_to_id(END_OF_TURN)} - {None}
        self.stop_ids = frozenset(stop_ids)

    def generate(
        self, prompts: str | Sequence[str | Sequence[int]], sampling: SamplingConfig | None = None
    ) -> str | list[str]:
        """The continuation of a prompt, or of each prompt of a batch."""
        one = isinstance(prompts, str)
        rows = [self.encode_prompt(prompt) for prompt in ([prompts] if one else prompts)]
        texts = [""] * len(rows)
        for row, piece in self._pieces(rows, sampling or SamplingConfig()):
            texts[row] += piece
        return texts[0] if one else texts

    def stream(self, prompt: str | Sequence[int], sampling: SamplingConfig | None = None) -> Iterator[str]:
        """The continuation piece by piece: complete characters only, and no part of a stop string."""
        for _, piece in self._pieces([self.encode_prompt(prompt)], sampling or SamplingConfig()):
            yield piece

    def encode_prompt(self, prompt: str | Sequence[int], *, allow_special: bool = False) -> list[int]:
        """Token ids of a prompt; ids are taken as they are.  Special tokens in text count as plain text unless allowed."""
        if not isinstance(prompt, str):
            return list(prompt)
        ids = list(self.tokenizer.encode(prompt, allow_special=allow_special))
        bos = self.model.config.bos_token_id
        if self.add_bos and bos is not None:
            ids = [bos, *ids]
        if not ids:
            raise ValueError(
                "the prompt is empty and the model has no bos_token_id to begin with: write a few words"
            )
        return ids

    def _pieces(self, rows: list[list[int]], sampling: SamplingConfig) -> Iterator[tuple[int, str]]:
        """(row, text) as it becomes certain."""
        # A special token never shows as text, so as a stop string it is looked for among the ids.
        special = {self.tokenizer.token_to_id(text) for text in sampling.stop} - {None}
        stream = TokenStream(
            self.model,
            rows,
            sampling,
            stop_ids=self.stop_ids | {id_ for id_ in special if self.tokenizer.is_special(id_)},
            stride=self.stride,
            weights=self.weights,
            n_ids=self.tokenizer.vocab_size,
        )
        decoders = [StreamingDecoder(self.tokenizer, skip_special=True, continues=True) for _ in rows]
        filters = [StopStringFilter(sampling.stop) for _ in rows]
        for tokens in stream:
            for row, token in enumerate(tokens):
                if token is None:
                    continue
                if piece := filters[row].push(decoders[row].push(token)):
                    yield row, piece
                if filters[row].stopped:
                    stream.finish(row)
        for row, (decoder, stops) in enumerate(zip(decoders, filters)):
            if piece := stops.push(decoder.flush()) + stops.flush():
                yield row, piece
