"""Ground floor: a language model from scratch in plain PyTorch."""
