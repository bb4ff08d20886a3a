"""Tries in a process of its own whether a grammar compiles, for some take minutes and nothing else can stop them.

Run as a script: JSON on stdin, JSON on stdout. It imports neither bloomery nor torch, so it starts in a moment. This
module does not know what a grammar is for.
"""

from __future__ import annotations

import json
import sys
from contextlib import suppress

MAX_ITEMS_IN_ROW = 8_000
"""How many ways on a grammar may have at one place: an object has four for each property that may be left out."""


def trial(grammar: str, vocab_size: int, special: dict[int, str]) -> str:
    """The compiler's complaint about a grammar, or "". `special` are the special tokens, which a grammar may name."""
    from llguidance import LLMatcher, LLParserLimits, LLTokenizer, TokenizerWrapper

    vocabulary = _Vocabulary(vocab_size, special)
    tokenizer = LLTokenizer(TokenizerWrapper(vocabulary), n_vocab=len(vocabulary.tokens))
    matcher = LLMatcher(tokenizer, grammar, log_level=0, limits=LLParserLimits(max_items_in_row=MAX_ITEMS_IN_ROW))
    return matcher.get_error()


class _Vocabulary:
    """A token for each byte and the special tokens, in their places: enough to compile."""

    def __init__(self, vocab_size: int, special: dict[int, str]) -> None:
        free = (bytes([value]) for value in range(256))
        size = max(vocab_size, 257 + len(special))
        self.tokens = [special[i].encode() if i in special else next(free, b"") for i in range(size)]
        self.special_token_ids = list(special)
        self.eos_token_id = self.special_token_ids[0] if special else size - 1
        self.bos_token_id = None

    def __call__(self, text: bytes) -> list[int]:
        return [self.tokens.index(bytes([value])) for value in text]


def main() -> None:
    request = json.load(sys.stdin)
    sys.path[:] = request["path"]
    with suppress(ImportError, OSError, ValueError):  # not every system has limits
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (request["memory_bytes"],) * 2)
        resource.setrlimit(resource.RLIMIT_CPU, (request["seconds"],) * 2)
    special = {int(index): text for index, text in request["special"].items()}
    json.dump({"error": trial(request["grammar"], request["vocab_size"], special)}, sys.stdout)


if __name__ == "__main__":
    main()
