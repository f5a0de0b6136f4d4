"""Vectors of tokens from nothing but counting who stands beside whom: meaning without training.

Positive pointwise mutual information, ``max(0, log p(i, j) / (p(i) p(j)))``, and its singular value decomposition.  That
is, to a constant, what word2vec's skip-gram arrives at by gradient descent (Levy and Goldberg 2014, section 4 and 5).
"""

from __future__ import annotations

import torch
from torch import Tensor


def token_vectors(ids: Tensor, vocab_size: int, d_model: int, *, window: int = 4, smoothing: float = 0.75) -> Tensor:
    """(vocab_size, d_model) float32, each row of mean 0 and variance 1; rows of tokens that never occur are 0.

    Args:
        ids: a text, int64 (n,).
        window: how far apart two tokens may stand to count as neighbours.
        smoothing: exponent of the neighbour's frequency; below 1 it keeps rare neighbours from ruling (section 4.3 of
            Levy et al. 2015).
    """
    if not 1 <= d_model <= vocab_size:
        raise ValueError(f"d_model is {d_model}: {vocab_size} tokens can have vectors of 1 to {vocab_size} numbers")
    pairs = torch.cat([ids[:-step] * vocab_size + ids[step:] for step in range(1, window + 1)])
    pairs, counts = pairs.unique(return_counts=True)
    left, right = pairs // vocab_size, pairs % vocab_size
    # Neighbours to the left and to the right count alike.
    left, right, counts = torch.cat((left, right)), torch.cat((right, left)), counts.repeat(2).double()
    of_token = torch.zeros(vocab_size, dtype=torch.float64).index_add_(0, left, counts)
    of_neighbour = of_token**smoothing
    of_neighbour = of_neighbour / of_neighbour.sum()
    information = torch.log(counts / of_token[left] / of_neighbour[right])
    kept = information > 0
    matrix = torch.sparse_coo_tensor(
        torch.stack((left[kept], right[kept])),
        information[kept].float(),
        (vocab_size, vocab_size),
        check_invariants=False,
    ).coalesce()
    with torch.random.fork_rng(devices=[]):  # the decomposition starts from random vectors
        torch.manual_seed(0)
        u, s, _ = torch.svd_lowrank(matrix, q=d_model)
    vectors = u * s.sqrt()
    vectors = vectors - vectors.mean(dim=1, keepdim=True)
    return vectors / vectors.std(dim=1, correction=0, keepdim=True).clamp(min=1e-6)
