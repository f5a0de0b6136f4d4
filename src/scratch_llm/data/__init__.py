"""Training data: a memory-mapped token file, and the batches cut from it."""

from scratch_llm.data.mixture import Mixture
from scratch_llm.data.token_file import TokenFile, TokenFileWriter, token_dtype
from scratch_llm.data.token_slice import TokenSlice
from scratch_llm.data.windows import IGNORE, Windows

__all__ = ["IGNORE", "Mixture", "TokenFile", "TokenFileWriter", "TokenSlice", "Windows", "token_dtype"]
