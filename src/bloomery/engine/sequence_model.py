"""SequenceModel: an encoder-decoder with its tokenizer: texts in, texts out.

T5 and its kin, and the recurrent nets; both are searched by the same code. Texts are read in batches of like length.
This module does not know where weights come from (see `loading`) or HTTP. Shapes: B texts, S source length.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from bloomery.core.errors import RequestError
from bloomery.models.recurrent import RecurrentSeq2Seq
from bloomery.models.seq2seq import Seq2Seq
from bloomery.models.text_decoding import Hypothesis, beam_search, greedy
from bloomery.tokenizer import Tokenizer

_MAX_TEXT_CHARACTERS = 1_000_000
_MAX_SOURCE_TOKENS = 4096


@dataclass(frozen=True, kw_only=True)
class Translation:
    """What was written for one text. `logprob` in nats, the end token's included; `score` is what beams are ranked by;
    `finish_reason` is "stop" at the end token, "length" at the limit; `source_tokens` were read."""

    text: str
    token_ids: list[int]
    logprob: float
    score: float
    finish_reason: str
    source_tokens: int


class SequenceModel:
    """See the module. `name` is what a server calls it."""

    def __init__(self, model: Seq2Seq | RecurrentSeq2Seq, tokenizer: Tokenizer, *, name: str) -> None:
        self.model = model.eval()
        self.tokenizer = tokenizer
        self.name = name

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    def translate(
        self,
        texts: str | Sequence[str],
        *,
        beams: int = 1,
        max_new_tokens: int = 128,
        length_penalty: float = 1.0,
        batch_size: int = 32,
    ) -> list[Translation]:
        """What the model writes for each text, in their order; one string gives a list of one.

        One beam is greedy search; with more the best of them is given, and a score is the log-probability divided by
        length ** `length_penalty`. RequestError for what is no text, is empty or too long, and for limits below one.
        """
        rows = [texts] if isinstance(texts, str) else list(texts)
        for name, value in (("beams", beams), ("max_new_tokens", max_new_tokens), ("batch_size", batch_size)):
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise RequestError(f"{name} should be a whole number from 1, not {value!r:.40}", param=name)
        sources = [self._source(text) for text in rows]
        found: list[Translation | None] = [None] * len(rows)
        order = sorted(range(len(rows)), key=lambda n: len(sources[n]))
        for at in range(0, len(order), batch_size):
            part = order[at : at + batch_size]
            texts_found = self._search([sources[n] for n in part], beams, max_new_tokens, length_penalty)
            for n, best in zip(part, texts_found, strict=True):
                found[n] = Translation(
                    text=self.tokenizer.decode(best.token_ids),
                    token_ids=best.token_ids,
                    logprob=best.logprob,
                    score=best.score,
                    finish_reason="stop" if best.ended else "length",
                    source_tokens=len(sources[n]),
                )
        return [one for one in found if one is not None]

    def _source(self, text: str) -> list[int]:
        """A text's ids as the model was trained to read them."""
        if not isinstance(text, str) or len(text) > _MAX_TEXT_CHARACTERS:
            raise RequestError("a text is a string that is not too long", param="texts")
        ids = self.model.source_ids(self.tokenizer.encode(text))
        if not ids:
            raise RequestError("a text is empty", param="texts")
        if len(ids) > _MAX_SOURCE_TOKENS:
            raise RequestError(
                f"a text has {len(ids):,} tokens, more than {_MAX_SOURCE_TOKENS:,}",
                param="texts",
                code="context_length_exceeded",
            )
        size = self.model.config.vocab_size if isinstance(self.model, Seq2Seq) else self.model.config.source_vocab_size
        if odd := [i for i in ids if i >= size]:
            raise RequestError(f"token id {odd[0]} is outside the model's vocabulary", param="texts")
        return ids

    def _search(
        self, sources: list[list[int]], beams: int, max_new_tokens: int, length_penalty: float
    ) -> list[Hypothesis]:
        model: Any = self.model
        config = model.config
        width = max(len(ids) for ids in sources)
        padded = [[*ids, *[config.pad_token_id] * (width - len(ids))] for ids in sources]
        ids = torch.tensor(padded, device=self.device)
        lengths = torch.tensor([len(row) for row in sources], device=self.device)
        with torch.inference_mode():
            if isinstance(model, Seq2Seq):
                state: Any = model.start(ids, torch.arange(width, device=self.device) < lengths[:, None])
            else:
                state = model.encode(ids)
            options: dict[str, Any] = {
                "eos_token_id": config.eos_token_id,
                "max_new_tokens": max_new_tokens,
                "length_penalty": length_penalty,
            }
            first = torch.full_like(lengths, model.start_token_id)
            if beams == 1:
                return greedy(model, state, first, **options)
            return [kept[0] for kept in beam_search(model, state, first, num_beams=beams, **options)]

    def close(self) -> None:
        """Nothing is held open; here so that every loaded model can be closed alike."""
