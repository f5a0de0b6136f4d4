"""Generation on the level of token ids."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Iterator, Sequence
from numbers import Integral

import torch
from torch import Tensor

from scratch_llm.generation.decoder import Decoder, default_stride, window_start
from scratch_llm.generation.packing import Weights
from scratch_llm.generation.sampling import Sampler, SamplingConfig
from scratch_llm.models.base import LanguageModel

Prompts = Sequence[int] | Sequence[Sequence[int]] | Tensor
"""One row of token ids, or a batch of rows: lists, an array, a tensor."""


class TokenStream:
    """New tokens of a batch, step by step: iterating yields a list with one token per row, None for finished rows.

    A row is finished by one of ``stop_ids`` (which is not yielded), by ``finish(row)``, or after
    ``max_new_tokens``; the stream ends when all rows are.
    """

    def __init__(
        self,
        model: LanguageModel,
        prompts: Prompts,
        sampling: SamplingConfig | None = None,
        *,
        stop_ids: Collection[int] | None = None,
        stride: int | None = None,
        packed: bool = True,
        weights: Weights = "same",
        n_ids: int | None = None,
    ):
        """``stop_ids`` None: the configuration's eos_token_id.  ``stride``, ``packed``, ``weights``: as in ``Decoder``.

        ``n_ids``: choose only among so many first ids, where the model's vocabulary is larger than the tokenizer's.
        """
        self.model, self.sampling = model, sampling or SamplingConfig()
        self.prompts = as_rows(prompts, model.config, recurrent=model.recurrent)
        self.n_ids = model.config.vocab_size if n_ids is None else n_ids
        self.stop_ids = frozenset(eos_ids(model.config) if stop_ids is None else stop_ids)
        self.finished = [False] * len(self.prompts)
        self.decoder = Decoder(
            model, self.prompts, self.sampling.max_new_tokens, stride=stride, packed=packed, weights=weights
        )

    def finish(self, row: int) -> None:
        """No more tokens of this row."""
        self.finished[row] = True

    @torch.inference_mode()
    def __iter__(self) -> Iterator[list[int | None]]:
        was_training = self.model.training
        self.model.eval()
        try:
            yield from self._steps()
        finally:
            self.model.train(was_training)

    def _steps(self) -> Iterator[list[int | None]]:
        decoder, finished = self.decoder, self.finished
        sampler = Sampler(self.sampling, self.prompts, self.n_ids, self.model.device)
        logits_BV = decoder.prefill()
        for n_left in reversed(range(self.sampling.max_new_tokens)):
            tokens_B = sampler(logits_BV[:, : self.n_ids])
            tokens = tokens_B.tolist()
            for row, token in enumerate(tokens):
                if token in self.stop_ids:
                    finished[row] = True
            if all(finished):
                return
            yield [None if done else token for token, done in zip(tokens, finished)]
            if all(finished) or not n_left:
                return
            logits_BV = decoder.step(tokens_B, tokens)


def generate_tokens(
    model: LanguageModel,
    token_ids: Prompts,
    sampling: SamplingConfig | None = None,
    **options,
) -> list[int] | list[list[int]]:
    """New token ids after a prompt, or after each prompt of a batch (lists of any length, or a (B, T) tensor).

    Returns a list of ids for one prompt, a list of lists for a batch, without the token that ended it.
    ``options`` as in ``TokenStream``.  ValueError: an empty prompt, ids out of the vocabulary.
    """
    stream = TokenStream(model, token_ids, sampling, **options)
    outputs: list[list[int]] = [[] for _ in stream.prompts]
    for tokens in stream:
        for output, token in zip(outputs, tokens):
            if token is not None:
                output.append(token)
    return outputs[0] if is_one_prompt(token_ids) else outputs


@torch.inference_mode()
def clear_generate_tokens(
    model: LanguageModel,
    prompt: Sequence[int],
    sampling: SamplingConfig | None = None,
    *,
    stop_ids: Collection[int] | None = None,
    stride: int | None = None,
) -> list[int]:
    """``generate_tokens`` for one prompt, written to be read: no cache, the window computed anew for every token."""
    sampling = sampling or SamplingConfig()
    C = model.config.context_length
    stride = default_stride(C) if stride is None else stride
    stop_ids = eos_ids(model.config) if stop_ids is None else stop_ids
    sampler = Sampler(sampling, [prompt], model.config.vocab_size, model.device)
    tokens = list(prompt)
    for _ in range(sampling.max_new_tokens):
        window = tokens if model.recurrent else tokens[window_start(len(tokens), C, stride) :]
        logits_1TV = model(torch.tensor([window], device=model.device))
        token = int(sampler(logits_1TV[:, -1]))
        if token in stop_ids:
            break
        tokens.append(token)
    return tokens[len(prompt) :]


def eos_ids(config) -> tuple[int, ...]:
    """The configuration's end-of-text ids as a tuple."""
    ids = config.eos_token_id
    return () if ids is None else ids if isinstance(ids, tuple) else (ids,)


def is_one_prompt(prompts: Prompts) -> bool:
    """Whether this is one row of ids and not a batch."""
    if hasattr(prompts, "ndim"):
        return prompts.ndim == 1
    return not prompts or isinstance(prompts[0], Integral)


def as_rows(prompts: Prompts, config, *, recurrent: bool = False) -> list[list[int]]:
    """One list of ids per row; ValueError where one is empty or holds an id out of the vocabulary."""
    one = is_one_prompt(prompts)
    if hasattr(prompts, "tolist"):
        prompts = prompts.tolist()
    rows = [list(prompts)] if one else [list(row) for row in prompts]
    for row in rows:
        if not row:
            raise ValueError("the prompt is empty: give at least one token, such as the model's bos_token_id")
        wrong = next((token for token in row if not 0 <= token < config.vocab_size), None)
        if wrong is not None:
            raise ValueError(
                f"token id {wrong} is not in the vocabulary 0..{config.vocab_size - 1}: "
                "use the tokenizer the model was trained with"
            )
    longest = max(map(len, rows))
    if longest > config.context_length and not recurrent:
        warnings.warn(
            f"the prompt has {longest} tokens, more than the context_length of {config.context_length}: "
            "the model sees only its end",
            stacklevel=3,
        )
    return rows
