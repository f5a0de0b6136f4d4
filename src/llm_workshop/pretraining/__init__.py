"""Short trials before a long training: learning rates, optimisers, and what a spoilt batch does."""
