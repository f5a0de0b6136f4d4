"""Going on training a byte-level BPE on other text: new merges after the old ones.

``Tokenizer.extend`` adds names that are cut out of a text wherever they stand, in the middle of words, too.  Merges that
follow the old ones do not: a text is first joined as before, and only what the old tokenizer left in pieces is joined
further.  Text in which none of the new pairs occurs keeps its ids exactly.
"""

from __future__ import annotations

import heapq
from collections import Counter, defaultdict
from collections.abc import Iterable
from itertools import pairwise

from .byte_level_bpe import ByteLevelBPE
from .patterns import require_text
from .piece_encoder import MergeTable, merge_short

Pair = tuple[int, int]


def continue_training(tokenizer: ByteLevelBPE, texts: Iterable[str], n_new: int, *, min_frequency: int = 2) -> ByteLevelBPE:
    """A tokenizer with up to ``n_new`` further merges, learned from ``texts`` as the old tokenizer cuts them.

    The new ids follow the last; the old ones, special tokens included, stay.  Equally frequent pairs: the one with the
    smaller ids.  (Fewer merges where no pair is left that occurs ``min_frequency`` times.)

    Raises:
        ValueError: no new tokens asked for, or no text.
    """
    if n_new < 1:
        raise ValueError(f"n_new is {n_new}: ask for at least one new token")
    if isinstance(texts, str):
        raise ValueError("texts must be an iterable of str, not one str: pass [text]")
    counts: Counter[str] = Counter()
    for text in texts:
        for pieces in tokenizer.pre_tokenizer.split_chunks(require_text(text)):
            counts.update(pieces)
    if not counts:
        raise ValueError("the corpus is empty: give at least one text")
    words = [(tokenizer.encode(piece, allow_special=False), count) for piece, count in counts.items()]
    merges = learn_further(words, tokenizer.vocab_size, n_new, min_frequency=min_frequency)
    tokens: list[bytes | None] = [None] * tokenizer.vocab_size
    for token, number in tokenizer.ordinary_tokens().items():
        tokens[number] = token
    for left, right, _ in merges:
        tokens.append(tokens[left] + tokens[right])
    longer = ByteLevelBPE(
        tokens, [*tokenizer.merges, *merges], tokenizer.special_tokens, pattern=tokenizer.pattern, normalization=tokenizer.normalization,
        added_tokens=tokenizer.added_tokens, normalized_tokens=tokenizer.normalized_tokens, ignore_merges=tokenizer.ignore_merges,
    )  # fmt: skip
    longer.roles, longer.chat_template = dict(tokenizer.roles), tokenizer.chat_template
    return longer


def learn_further(words: list[tuple[list[int], int]], first_id: int, n_new: int, *, min_frequency: int = 2) -> list[tuple[int, int, int]]:
    """BPE's training from words that are ids already: (left, right, new) in order.

    Args:
        words: (ids, how often); the lists are changed.
        first_id: of the first new token.
    """
    counts: Counter[Pair] = Counter()
    places: defaultdict[Pair, set[int]] = defaultdict(set)
    for number, (ids, weight) in enumerate(words):
        for pair in pairwise(ids):
            counts[pair] += weight
            places[pair].add(number)
    # A pair is pushed whenever its count changes, so an entry that disagrees with the count is out of date.
    queue = [(-count, pair) for pair, count in counts.items()]
    heapq.heapify(queue)
    merges: list[tuple[int, int, int]] = []
    while queue and len(merges) < n_new:
        negative, best = heapq.heappop(queue)
        if -negative != counts[best]:
            continue
        if -negative < min_frequency:
            break
        new = first_id + len(merges)
        merges.append((*best, new))
        table = MergeTable([(*best, new)])
        changed: set[Pair] = set()
        for number in places.pop(best):
            ids, weight = words[number]
            changed.update(pairwise(ids))
            for pair in pairwise(ids):
                counts[pair] -= weight
                places[pair].discard(number)
            merge_short(ids, table)
            changed.update(pairwise(ids))
            for pair in pairwise(ids):
                counts[pair] += weight
                places[pair].add(number)
        for pair in changed:
            if counts[pair] >= min_frequency:
                heapq.heappush(queue, (-counts[pair], pair))
    return merges
