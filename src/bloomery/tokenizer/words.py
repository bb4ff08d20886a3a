"""Words with their tokens: what taggers learn from and are asked with. Words are what white space separates.

This module does not know tags.
"""

from __future__ import annotations

from collections.abc import Sequence

from bloomery.tokenizer.tokenizer import Tokenizer


def special_frame(tokenizer: Tokenizer) -> tuple[list[int], list[int]]:
    """The special tokens that an encoder expects before a text, and those after it."""
    frame, _ = tokenizer.encode_with_special("")
    first = tokenizer.cls_id if tokenizer.cls_id is not None else tokenizer.bos_id
    before = [first] if first is not None and frame[:1] == [first] else []
    return before, frame[len(before) :]


def word_pieces(tokenizer: Tokenizer, words: Sequence[str]) -> list[list[int]]:
    """The ids of each word, as they are in a text of these words with a space between them."""
    return tokenizer.encode_batch([word if not at else " " + word for at, word in enumerate(words)])
