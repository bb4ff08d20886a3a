"""Places: where in a text its tokens begin. This module does not know what is measured by them."""

from __future__ import annotations

from bloomery.tokenizer.tokenizer import Tokenizer


def token_starts(tokenizer: Tokenizer, text: str) -> list[int]:
    """The character at which each token of `tokenizer.encode(text)` begins, ascending. RequestError as there."""
    return sorted(start for start, _ in tokenizer.encode_offsets(text)[1])
