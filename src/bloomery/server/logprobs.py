"""Log-probabilities in the two forms that OpenAI's routes have.

A token is named by its text; one that is not valid UTF-8 by its bytes (`bytes:\\xe2\\x80`), and one whose name is
taken by another alternative of the same place by its id (`token_id:17`), so that keys are unique. This module does
not know how tokens are chosen.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bloomery.engine import Delta, PromptLogprob, TokenLogprob
from bloomery.tokenizer import StreamDecoder, Tokenizer

# JSON has no minus infinity; OpenAI writes this.
_IMPOSSIBLE = -9999.0


def token_name(tokenizer: Tokenizer, token_id: int) -> str:
    """The token's text; special tokens as they are spelt."""
    if token_id in tokenizer.special_ids:
        return tokenizer.decode([token_id], skip_special=False)
    raw = tokenizer.token_bytes(token_id)
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in raw)


class LegacyLogprobs:
    """`logprobs` of /v1/completions: parallel lists of tokens, log-probabilities, alternatives and text offsets.

    Feed it the prompt (echo) and the deltas of one choice; `take()` gives the entries since the last time.
    """

    def __init__(self, tokenizer: Tokenizer, *, continues: bool) -> None:
        self._tokenizer = tokenizer
        self._characters = StreamDecoder(tokenizer, continues=continues)
        self._offset = 0
        self._entries: list[tuple[str, float | None, dict[str, float] | None, int]] = []

    def add_prompt(self, prompt: Sequence[int], logprobs: Sequence[PromptLogprob | None]) -> None:
        for token_id, entry in zip(prompt, logprobs, strict=True):
            if entry is None:
                self._add(token_id, None, ())
            else:
                self._add(token_id, entry.logprob, entry.top)

    def add_delta(self, delta: Delta) -> None:
        tops = delta.top_logprobs or ((),) * len(delta.token_ids)
        for token_id, logprob, top in zip(delta.token_ids, delta.logprobs, tops, strict=True):
            self._add(token_id, logprob, top)

    def take(self) -> dict[str, Any]:
        entries, self._entries = self._entries, []
        return {
            "tokens": [e[0] for e in entries],
            "token_logprobs": [e[1] for e in entries],
            "top_logprobs": [e[2] for e in entries],
            "text_offset": [e[3] for e in entries],
        }

    def _add(self, token_id: int, logprob: float | None, top: Sequence[TokenLogprob]) -> None:
        name = token_name(self._tokenizer, token_id)
        if logprob is None:
            self._entries.append((name, None, None, self._offset))
        else:
            names = self._alternatives(TokenLogprob(token_id, logprob), top)
            self._entries.append((name, _finite(logprob), names, self._offset))
        self._offset += len(self._characters.push(token_id))

    def _alternatives(self, chosen: TokenLogprob, top: Sequence[TokenLogprob]) -> dict[str, float]:
        """The alternatives by name, the chosen token always among them and under its plain name."""
        named = {token_name(self._tokenizer, chosen.token_id): _finite(chosen.logprob)}
        for token_id, logprob in top:
            if token_id != chosen.token_id:
                name = token_name(self._tokenizer, token_id)
                named[f"token_id:{token_id}" if name in named else name] = _finite(logprob)
        return dict(sorted(named.items(), key=lambda item: -item[1]))


def chat_logprobs(tokenizer: Tokenizer, delta: Delta) -> list[dict[str, Any]]:
    """Entries of `logprobs.content` of /v1/chat/completions for one delta; the token that ends a turn has none."""
    entries = []
    tops = delta.top_logprobs or ((),) * len(delta.token_ids)
    for token_id, logprob, top in zip(delta.token_ids, delta.logprobs, tops, strict=True):
        if token_id in tokenizer.special_ids and delta.finish_reason == "stop":
            continue
        entry = _chat_entry(tokenizer, TokenLogprob(token_id, logprob))
        entries.append(entry | {"top_logprobs": [_chat_entry(tokenizer, one) for one in top]})
    return entries


def _chat_entry(tokenizer: Tokenizer, one: TokenLogprob) -> dict[str, Any]:
    raw = tokenizer.token_bytes(one.token_id)
    name = token_name(tokenizer, one.token_id)
    return {"token": name, "logprob": _finite(one.logprob), "bytes": list(raw or name.encode())}


def _finite(logprob: float) -> float:
    return max(logprob, _IMPOSSIBLE)
