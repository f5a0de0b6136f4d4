"""Serving with Triton: the server as a child process, from NVIDIA's image or from the triton environment."""
