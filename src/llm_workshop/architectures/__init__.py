"""Architectures side by side: the same parameters, corpus and token budget."""
