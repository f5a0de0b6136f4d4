"""A run of documents of a token file, as if it were a file of its own."""

from __future__ import annotations

import hashlib

from scratch_llm.data.token_file import TokenFile


class TokenSlice:
    """Documents ``first`` to ``stop - 1`` of a token file; nothing is copied but their ends.

    It has what ``Windows`` asks of a ``TokenFile``; its digest is of the file and the two numbers.
    """

    def __init__(self, file: TokenFile, first: int, stop: int):
        if not 0 <= first < stop <= file.n_documents:
            raise ValueError(f"{file.path} has documents 0 to {file.n_documents - 1}: {first} to {stop - 1} are not among them")
        begin = int(file.document_ends[first - 1]) if first else 0
        self.path, self.vocab_size = file.path, file.vocab_size
        self.document_ends = file.document_ends[first:stop] - begin
        self.n_documents, self.n_tokens = stop - first, int(self.document_ends[-1])
        self.tokens = file.tokens[begin : begin + self.n_tokens]
        self.sha256 = hashlib.sha256(f"{file.sha256} {first} {stop}".encode()).hexdigest()

    def __len__(self) -> int:
        return self.n_tokens
