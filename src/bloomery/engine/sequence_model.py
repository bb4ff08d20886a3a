"""SequenceModel: an encoder-decoder with its tokenizers: texts in, texts out, timed and metered.

T5 and its kin, and the recurrent nets; both are searched by the same code. Texts are read in batches of like length.
Calls at the same time share steps: their sources are encoded together, and each step of their searches, greedy or with
beams, is one for all rows of all of them. Recurrent nets share turns only: their steps follow one another.
This module does not know where weights come from (see `loading`) or HTTP. Shapes: B texts, S source length.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from bloomery.core.errors import RequestError
from bloomery.core.quantity import Quantity
from bloomery.core.run import Meter
from bloomery.energy import open_meter
from bloomery.engine.asked import Asked, one_text
from bloomery.engine.gathering import Gathering, GatheringStats
from bloomery.engine.metering import Bench, Phase
from bloomery.engine.results import Timings
from bloomery.models.recurrent import RecurrentSeq2Seq
from bloomery.models.seq2seq import Seq2Seq, Seq2SeqState
from bloomery.models.text_decoding import Hypothesis, beam_search, greedy
from bloomery.tokenizer import Tokenizer

_MAX_TEXT_CHARACTERS = 1_000_000
_MAX_SOURCE_TOKENS = 4096
_STEP_TOKENS, _STEP_ROWS = 8192, 256
"""Of one step, of all calls together: tokens of sources that are encoded, rows that are decoded."""


@dataclass(frozen=True, kw_only=True)
class TranslationTimings(Timings):
    """Seconds of a text by phase: prefill is the encoder, decode every new token, the end token included."""

    @property
    def tokens_per_second(self) -> float | None:
        """New tokens per second of decode."""
        return self.new_tokens / self.decode_seconds if self.new_tokens and self.decode_seconds > 0 else None


@dataclass(frozen=True, kw_only=True)
class Translation:
    """What was written for one text. `logprob` in nats, the end token's included; `score` is what beams are ranked by;
    `finish_reason` is "stop" at the end token, "length" at the limit; `source_tokens` were read.

    Texts are searched in batches: seconds and joules are a text's share of its batch's, by the tokens that it read
    (prefill) and that were written for it (decode), so that those of all texts add up to what was spent.
    """

    text: str
    token_ids: list[int]
    logprob: float
    score: float
    finish_reason: str
    source_tokens: int
    timings: TranslationTimings = field(default_factory=TranslationTimings, compare=False)
    prefill_energy: Quantity = field(default_factory=Quantity.unknown, compare=False)
    decode_energy: Quantity = field(default_factory=Quantity.unknown, compare=False)

    @property
    def energy(self) -> Quantity:
        """Joules of prefill and decode together."""
        return self.prefill_energy + self.decode_energy

    @property
    def completion_tokens(self) -> int:
        """Tokens that were written, the end token included."""
        return len(self.token_ids) + (self.finish_reason == "stop")


class _Together:
    """Meets `Stepping`: a search whose steps are computed with those of other searches."""

    def __init__(self, decoding: Gathering[Any, Any], phase: Phase) -> None:
        self._decoding, self._phase = decoding, phase

    def step(self, state: Any, token_ids: torch.Tensor) -> tuple[torch.Tensor, Any, Any]:
        return self._decoding.ask((state, token_ids), len(token_ids), self._phase)


class SequenceModel(Asked):
    """See the module. `name` is what a server calls it; `tokenizer` reads, `target_tokenizer` writes."""

    def __init__(
        self,
        model: Seq2Seq | RecurrentSeq2Seq,
        tokenizer: Tokenizer,
        *,
        name: str,
        target_tokenizer: Tokenizer | None = None,
        meter: Meter | None = None,
    ) -> None:
        """`target_tokenizer` None: one does both. `meter` None opens the machine's own."""
        self.model = model.eval()
        self.tokenizer = tokenizer
        self.target_tokenizer = target_tokenizer or tokenizer
        self.name = name
        self._bench = Bench(open_meter() if meter is None else meter)
        self._encoding: Gathering[list[list[int]], Any] = Gathering(
            lambda: self._bench, self._encode, capacity=_STEP_TOKENS
        )
        self._decoding: Gathering[Any, Any] = Gathering(lambda: self._bench, self._steps, capacity=_STEP_ROWS)

    def stats(self) -> tuple[GatheringStats, GatheringStats]:
        """What was encoded (tokens of sources) and decoded (rows, a token each) so far; texts of calls at the same time
        share steps."""
        return self._encoding.stats(), self._decoding.stats()

    def what(self) -> str:
        """What this model is."""
        return "a model that writes texts for texts"

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
            made = self._batch([sources[n] for n in part], beams, max_new_tokens, length_penalty)
            for n, one in zip(part, made, strict=True):
                found[n] = one
        return [one for one in found if one is not None]

    def _source(self, text: str) -> list[int]:
        """A text's ids as the model was trained to read them."""
        checked = one_text(text, param="texts", most=_MAX_TEXT_CHARACTERS)
        ids = self.model.source_ids(self.tokenizer.encode(checked))
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

    def _batch(
        self, sources: list[list[int]], beams: int, max_new_tokens: int, length_penalty: float
    ) -> list[Translation]:
        """The texts of one batch, each with its share of what the batch cost."""
        prefill = Phase(self._bench)
        state, first = self._encoding.ask(sources, sum(map(len, sources)), prefill)
        prefill_energy, decode = prefill.energy(), Phase(self._bench)
        with self._decoding.member():
            best = self._search(_Together(self._decoding, decode), state, first, beams, max_new_tokens, length_penalty)
        decode_energy = decode.energy()
        written = [len(one.token_ids) + one.ended for one in best]
        made = []
        for one, source, tokens in zip(best, sources, written, strict=True):
            read, wrote = len(source) / sum(map(len, sources)), tokens / max(1, sum(written))
            timings = TranslationTimings(
                prefill_seconds=prefill.seconds * read,
                decode_seconds=decode.seconds * wrote,
                prompt_tokens=len(source),
                new_tokens=tokens,
            )
            made.append(
                Translation(
                    text=self.target_tokenizer.decode(one.token_ids),
                    token_ids=one.token_ids,
                    logprob=one.logprob,
                    score=one.score,
                    finish_reason="stop" if one.ended else "length",
                    source_tokens=len(source),
                    timings=timings,
                    prefill_energy=prefill_energy.scaled(read),
                    decode_energy=decode_energy.scaled(wrote),
                )
            )
        return made

    @torch.inference_mode()
    def _encode(self, asked: Sequence[list[list[int]]]) -> list[tuple[Any, torch.Tensor]]:
        """The state before the first token of each text of a batch, and what they begin with (B,), for each batch."""
        model: Any = self.model
        if not isinstance(model, Seq2Seq):  # a recurrent net carries on through padding: batches stay as they are
            made = []
            for sources in asked:
                ids, _ = self._padded(sources)
                made.append((model.encode(ids), torch.full((len(sources),), model.start_token_id, device=self.device)))
            self._wait()
            return made
        every = [len(source) for sources in asked for source in sources]
        if len(asked) > 1 and max(every) * len(every) > 2 * _STEP_TOKENS:  # a long text would pad those of all others
            return [one for sources in asked for one in self._encode([sources])]
        ids, lengths = self._padded([source for sources in asked for source in sources])
        state = model.start(ids, torch.arange(ids.size(1), device=self.device) < lengths[:, None])
        found, at = [], 0
        for sources in asked:
            mine = state.memory.select(slice(at, at + len(sources))).cut(max(map(len, sources)))
            first = torch.full((len(sources),), model.start_token_id, device=self.device)
            found.append((Seq2SeqState(mine, state.cache.select(slice(None))), first))
            at += len(sources)
        self._wait()
        return found

    def _padded(self, sources: Sequence[list[int]]) -> tuple[torch.Tensor, torch.Tensor]:
        """Ids (B, S), and how many of each row are real."""
        width = max(len(ids) for ids in sources)
        pad: int = self.model.config.pad_token_id
        rows = [[*ids, *[pad] * (width - len(ids))] for ids in sources]
        return (torch.tensor(rows, device=self.device), torch.tensor([len(row) for row in sources], device=self.device))

    @torch.inference_mode()
    def _steps(self, asked: Sequence[tuple[Any, torch.Tensor]]) -> list[tuple[torch.Tensor, Any, Any]]:
        """The next step of each search."""
        model: Any = self.model
        together = isinstance(model, Seq2Seq) and len(asked) > 1
        made = model.steps(asked) if together else [model.step(state, tokens) for state, tokens in asked]
        self._wait()
        return made

    def _search(
        self, steps: Any, state: Any, first: torch.Tensor, beams: int, max_new_tokens: int, length_penalty: float
    ) -> list[Hypothesis]:
        options: dict[str, Any] = {
            "eos_token_id": self.model.config.eos_token_id,
            "max_new_tokens": max_new_tokens,
            "length_penalty": length_penalty,
        }
        if beams == 1:
            return greedy(steps, state, first, **options)
        return [kept[0] for kept in beam_search(steps, state, first, num_beams=beams, **options)]

    def _wait(self) -> None:
        """Until a GPU has done what it was given: what is timed is work, not its submission."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def close(self) -> None:
        """Close the energy meter."""
        self._bench.meter.close()
