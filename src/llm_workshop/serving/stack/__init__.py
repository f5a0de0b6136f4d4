"""The serving stack of one run: Triton, the OpenAI-compatible endpoint and the chat page, started, watched and stopped."""
