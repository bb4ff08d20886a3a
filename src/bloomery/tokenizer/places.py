"""Places: where in a text its tokens begin. This module does not know what is measured by them."""

from __future__ import annotations

from bloomery.tokenizer.tokenizer import Tokenizer, not_text


def token_starts(tokenizer: Tokenizer, text: str) -> list[int]:
    """The character at which each token of `tokenizer.encode(text)` begins, ascending. RequestError as there."""
    try:
        found = tokenizer._plain.encode(text, add_special_tokens=False)
    except (UnicodeEncodeError, TypeError) as error:
        raise not_text([text]) from error
    return sorted(start for start, _ in found.offsets)
