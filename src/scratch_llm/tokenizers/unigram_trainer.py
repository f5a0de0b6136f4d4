"""Learning Unigram's pieces (Kudo 2018, section 3.2): begin with far too many, keep those that the corpus needs.

1. Seed: every character, and the substrings of words with the greatest (count x length).
2. EM: count each piece as often as it is expected over *all* cuts of every word (E), and make these counts
   probabilities (M).  Twice.
3. Prune: for every piece, how much likelihood is lost if its occurrences had to be written with other pieces?
   Drop the quarter that is missed least, but never a character.  Back to 2, until few enough are left.

All cuts of all words are the paths of one graph (:class:`Lattice`): a node before and after every character, an
edge for every piece that fits.  The passes over it go from position to position, for all words at once in NumPy.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise

import numpy as np
import torch

SHRINK = 0.75
EM_STEPS = 2
_LONGEST_WORD = 24  # characters; longer words are cut, so that products of probabilities stay above float64's least
_LEAST_EXPECTED = 0.5  # pieces expected less often than this are dropped by EM, as in SentencePiece


def learn_pieces(
    word_counts: Mapping[str, int],
    n_pieces: int,
    *,
    required: str = "",
    alphabet_size: int | None = None,
    seed_size: int | None = None,
    longest: int = 16,
    may_be: Callable[[str], bool] | None = None,
) -> dict[str, float]:
    """Piece -> log probability, the likeliest first; at most ``n_pieces``.

    Args:
        word_counts: word (with its "▁" where it has one) -> how often it occurs.
        required: characters that are pieces even if the words lack them.
        alphabet_size, seed_size, longest: see :meth:`Unigram.train`.
        may_be: whether a string of several characters may be a piece; ``None``: any may.

    Raises:
        ValueError: no room for the required characters and one more.
    """
    words: Counter[str] = Counter()
    for word, count in word_counts.items():
        for start in range(0, len(word), _LONGEST_WORD):
            words[word[start : start + _LONGEST_WORD]] += count
    letters: Counter[str] = Counter()
    for word, count in words.items():
        for character in word:
            letters[character] += count
    if n_pieces <= len(required):
        raise ValueError(f"vocab_size leaves room for {n_pieces} pieces, but {len(required)} characters are needed: raise it")
    room = alphabet_size if alphabet_size is not None else max(1, n_pieces // 2)
    alphabet = dict.fromkeys(required) | dict.fromkeys(c for c, _ in letters.most_common(min(room, n_pieces - len(required))))
    words = Counter({word: count for word, count in words.items() if alphabet.keys() >= set(word)})
    if not words:
        raise ValueError("no word is written in the alphabet alone: raise vocab_size or alphabet_size")
    pieces, counts = seed_pieces(words, list(alphabet), seed_size or 10 * n_pieces, longest, may_be)
    n_letters = len(alphabet)

    model = _Model(words, pieces, counts, n_letters)
    while True:
        for _ in range(EM_STEPS):
            model.maximise(model.expected_counts())
        if len(model.pieces) <= max(n_pieces, n_letters):
            break
        model.prune(max(n_pieces, int(SHRINK * len(model.pieces))))
    order = np.argsort(-model.log_probabilities, kind="stable")
    return {model.pieces[k]: float(model.log_probabilities[k]) for k in order[:n_pieces]}


def seed_pieces(
    words: Mapping[str, int], alphabet: Sequence[str], size: int, longest: int, may_be: Callable[[str], bool] | None = None
) -> tuple[list[str], np.ndarray]:
    """The alphabet first, then the substrings with the greatest count x length; and all their counts."""
    counts: Counter[str] = Counter()
    for word, count in words.items():
        n = len(word)
        for start in range(n):
            for end in range(start + 1, min(start + longest, n) + 1):
                counts[word[start:end]] += count
    longer = [piece for piece, count in counts.items() if len(piece) > 1 and count > 1 and (may_be is None or may_be(piece))]
    longer.sort(key=lambda piece: (-counts[piece] * len(piece), piece))
    pieces = [*alphabet, *longer[: max(0, size - len(alphabet))]]
    return pieces, np.array([max(counts[piece], 1) for piece in pieces], dtype=np.float64)


class Lattice:
    """All ways to cut some words into pieces.

    Nodes are numbered through all words: node ``first[w] + i`` stands before character i of word w.  Edges are sorted by
    the position in the word at which they end, and among those by node, so that each pass is one ``reduceat`` a position.

    Attributes:
        start, end, piece: (n_edges,) the nodes of each edge and the number of its piece.
    """

    def __init__(self, words: Sequence[str], numbers: Mapping[str, int], longest: int, whole: bool = True):
        """``whole``: whether a word that is a piece may be cut into itself."""
        lengths = np.array([len(word) for word in words], dtype=np.int64)
        self.first = np.concatenate([[0], np.cumsum(lengths + 1)[:-1]])
        self.last = self.first + lengths
        self.n_nodes = int(lengths.sum() + len(words))
        edges: list[tuple[int, int, int, int]] = []
        for word, first in zip(words, self.first.tolist()):
            n = len(word)
            for begin in range(n):
                for stop in range(begin + 1, min(begin + longest, n) + 1):
                    number = numbers.get(word[begin:stop])
                    if number is not None and (whole or stop - begin < n):
                        edges.append((stop, first + stop, first + begin, number))
        table = np.array(edges, dtype=np.int64).reshape(-1, 4)
        table = table[np.lexsort((table[:, 1], table[:, 0]))]
        self.position, self.end, self.start, self.piece = table.T.copy()
        self._group()

    def _group(self) -> None:
        """Where the edges into one node begin, and where those of one position begin among these."""
        self.group_starts = np.flatnonzero(np.diff(self.end, prepend=-1))
        self.group_ends = self.end[self.group_starts]
        positions = self.position[self.group_starts]
        self.levels = np.flatnonzero(np.diff(positions, prepend=-1)).tolist()

    def keep(self, is_kept: np.ndarray, new_number: np.ndarray) -> None:
        """Drop the edges of pieces that are gone, and number the others anew."""
        mask = is_kept[self.piece]
        self.position, self.start, self.end = self.position[mask], self.start[mask], self.end[mask]
        self.piece = new_number[self.piece[mask]]
        self._group()

    def _slices(self):
        """(edges, groups within them, the nodes they end in) position by position, from the left."""
        bounds = [*self.levels, len(self.group_starts)]
        for low, high in pairwise(bounds):
            first = self.group_starts[low]
            stop = self.group_starts[high] if high < len(self.group_starts) else len(self.end)
            yield slice(first, stop), self.group_starts[low:high] - first, self.group_ends[low:high]

    def forward(self, p: np.ndarray) -> np.ndarray:
        """(n_nodes,) sum over all cuts up to each node of the product of their pieces' probabilities ``p``."""
        alpha = np.zeros(self.n_nodes)
        alpha[self.first] = 1.0
        for edges, groups, nodes in self._slices():
            alpha[nodes] = np.add.reduceat(alpha[self.start[edges]] * p[self.piece[edges]], groups)
        return alpha

    def backward(self, p: np.ndarray) -> np.ndarray:
        """The same from each node to the end of its word."""
        beta = np.zeros(self.n_nodes)
        beta[self.last] = 1.0
        for edges, _, _ in reversed(list(self._slices())):
            np.add.at(beta, self.start[edges], beta[self.end[edges]] * p[self.piece[edges]])
        return beta

    def best(self, log_p: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Viterbi: (n_nodes,) score of the best cut up to each node (-inf: there is none), and its last edge (or -1)."""
        score = np.full(self.n_nodes, -np.inf)
        score[self.first] = 0.0
        edge_into = np.full(self.n_nodes, -1, dtype=np.int64)
        for edges, groups, nodes in self._slices():
            values = score[self.start[edges]] + log_p[self.piece[edges]]
            score[nodes] = np.maximum.reduceat(values, groups)
            is_best = values == np.repeat(score[nodes], np.diff([*groups, len(values)]))
            # Written from the right, so that of equally good edges the first one stays.
            chosen = np.flatnonzero(is_best)[::-1]
            edge_into[self.end[edges][chosen]] = chosen + edges.start
        return score, edge_into

    def best_edges(self, edge_into: np.ndarray):
        """The edges of every word's best cut, from the right: (words, edges) as long as any word goes on."""
        words, nodes = np.arange(len(self.last)), self.last.copy()
        while len(words):
            edges = edge_into[nodes]
            going = edges >= 0
            words, edges = words[going], edges[going]
            if len(words):
                yield words, edges
            nodes = self.start[edges]


class _Model:
    """Pieces with their probabilities, and the lattice of the words; the first ``n_letters`` pieces are characters."""

    def __init__(self, words: Mapping[str, int], pieces: list[str], counts: np.ndarray, n_letters: int):
        self.pieces, self.n_letters = pieces, n_letters
        self.weights = np.array(list(words.values()), dtype=np.float64)
        self.log_probabilities = np.log(counts / counts.sum())
        numbers = {piece: number for number, piece in enumerate(pieces)}
        self.lattice = Lattice(list(words), numbers, max(map(len, pieces)))

    def expected_counts(self) -> np.ndarray:
        """E: (n_pieces,) how often each piece is expected in the corpus, over all cuts by their probability."""
        lattice, p = self.lattice, np.exp(self.log_probabilities)
        alpha, beta = lattice.forward(p), lattice.backward(p)
        per_word = self.weights / alpha[lattice.last]
        node_weight = np.repeat(per_word, lattice.last - lattice.first + 1)
        shares = alpha[lattice.start] * p[lattice.piece] * beta[lattice.end] * node_weight[lattice.end]
        return np.bincount(lattice.piece, weights=shares, minlength=len(self.pieces))

    def maximise(self, expected: np.ndarray) -> None:
        """M: log p = digamma(count) - digamma(sum): the mean log probability under a Bayesian posterior, which makes rare
        pieces rarer still (SentencePiece does the same)."""
        is_letter = np.arange(len(self.pieces)) < self.n_letters
        self._keep((expected >= _LEAST_EXPECTED) | is_letter)
        expected = np.maximum(expected[(expected >= _LEAST_EXPECTED) | is_letter], _LEAST_EXPECTED)
        digamma = torch.special.digamma(torch.from_numpy(np.append(expected, expected.sum()))).numpy()
        self.log_probabilities = digamma[:-1] - digamma[-1]

    def prune(self, n: int) -> None:
        """Keep the characters and the pieces whose loss would cost most, ``n`` in all."""
        losses = self.losses()
        losses[: self.n_letters] = np.inf
        kept = np.zeros(len(self.pieces), dtype=bool)
        kept[np.argsort(-losses, kind="stable")[: max(n, self.n_letters)]] = True
        self._keep(kept)

    def losses(self) -> np.ndarray:
        """(n_pieces,) how much log likelihood the corpus loses, per piece of text, without each piece."""
        log_p = self.log_probabilities
        # SentencePiece counts the best cuts only; over all cuts a stem is counted even where every word with it is still a
        # piece itself, and held-out text comes out a little likelier.
        counts = self.expected_counts()
        total = counts.sum()
        # How each piece would be written without itself.
        numbers = {piece: number for number, piece in enumerate(self.pieces)}
        others = Lattice(self.pieces, numbers, max(map(len, self.pieces)), whole=False)
        score, edge_into = others.best(log_p)
        n_parts, log_sum = np.zeros(len(counts)), np.zeros(len(counts))
        steps = list(others.best_edges(edge_into))
        for pieces, _ in steps:
            n_parts[pieces] += 1
        # Its occurrences go over to the parts, whose counts and whose sum grow accordingly.
        with np.errstate(divide="ignore", invalid="ignore"):
            log_new_total = np.log(total + counts * (n_parts - 1))
            for pieces, edges in steps:
                log_sum[pieces] += np.log(counts[others.piece[edges]] + counts[pieces]) - log_new_total[pieces]
            losses = counts / total * (np.log(counts) - np.log(total) - log_sum)
        # Worth no more than its own parts: nothing is lost.
        useless = (counts == 0) | (score[others.last] >= log_p)
        return np.where(useless, 0.0, np.nan_to_num(losses, nan=0.0, posinf=np.inf))

    def _keep(self, kept: np.ndarray) -> None:
        if kept.all():
            return
        self.lattice.keep(kept, np.cumsum(kept) - 1)
        self.pieces = [piece for piece, is_kept in zip(self.pieces, kept.tolist()) if is_kept]
        self.log_probabilities = self.log_probabilities[kept]
