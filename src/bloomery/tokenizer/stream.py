"""Stream decoding: text from tokens one at a time, only in whole UTF-8 characters.

This module does not know where the tokens come from.
"""

from __future__ import annotations

import codecs

from bloomery.tokenizer.tokenizer import Tokenizer


class StreamDecoder:
    """Turns ids into text as they come: all `push`es and `finish` together equal `tokenizer.decode` of all ids.

    Special tokens give no text. With `continues` the text goes on from earlier text, so that the space at the start
    of a SentencePiece token is kept; without, it is dropped at the start as `decode` does.
    """

    def __init__(self, tokenizer: Tokenizer, *, continues: bool = False) -> None:
        self._tokenizer = tokenizer
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._at_start = tokenizer.strips_leading_space and not continues

    def push(self, index: int) -> str:
        """The characters that this token completes, maybe none."""
        data = self._tokenizer.token_bytes(index)
        if self._at_start and data:
            data = data.removeprefix(b" ")
            self._at_start = False
        return self._decoder.decode(data)

    def finish(self) -> str:
        """U+FFFD if the last character was left unfinished, else ""."""
        return self._decoder.decode(b"", final=True)
