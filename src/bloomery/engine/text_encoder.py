"""TextEncoder: an encoder with its tokenizer: vectors of texts, blanks filled, labels, tags and numbers given.

Texts are read in batches of like length, so that little is padding, and padding is left out where that pays. This
module does not know where weights come from (see `loading`), indexes or HTTP.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from bloomery.core.errors import RequestError
from bloomery.core.run import Meter
from bloomery.engine.asked import Asked, one_text
from bloomery.engine.gathering import Gathering, GatheringStats
from bloomery.engine.labelling import Candidate, TaggedWord, best_labels, checked_top, label_texts, text_to_label
from bloomery.engine.metering import LazyBench, Phase
from bloomery.models.encoder import Encoder
from bloomery.models.pooling import Pooling
from bloomery.tokenizer import Tokenizer
from bloomery.tokenizer.words import special_frame, word_pieces

STEP_TOKENS = 8192
"""Tokens of a step, of all requests together; a single request's batch may have more."""
_HEAD_TOKENS = 1024
"""Of a forward whose head says something of each: a vocabulary of numbers a token, padding's too."""
_FORWARD_TEXTS = {"cpu": 32}
"""Texts of one forward at most: on a CPU more of them only leave the caches."""
_FORWARD_TEXTS_ELSEWHERE = 256
_Rows = Sequence[Sequence[int]]
_Encoded = tuple[list[int], list[int]]
"""Ids of a text and their types."""


_HEADS = {
    "none": ("a text encoder", ()),
    "masked": ("a text encoder that fills blanks", ("fill",)),
    "sequence": ("a classifier of texts", ("classify",)),
    "number": ("a model that gives a text a number", ("value",)),
    "token": ("a tagger of words", ("tag",)),
}
"""What an encoder is by its head, and what it answers beside vectors."""


class TextEncoder(Asked):
    """See the module. `name` is what a server calls it."""

    def __init__(
        self,
        encoder: Encoder,
        tokenizer: Tokenizer,
        *,
        name: str,
        pooling: Pooling | None = None,
        shorter_dimensions: Iterable[int] = (),
        meter: Meter | None = None,
    ) -> None:
        """`pooling` None takes the mean over tokens, scaled to length one. `shorter_dimensions` are the lengths to
        which the model was trained to have its vectors cut (Matryoshka; Kusupati et al., arXiv 2205.13147). `meter`
        None opens the machine's own with the first text."""
        self.encoder = encoder.eval()
        self.tokenizer = tokenizer
        self.name = name
        self.pooling = pooling or Pooling()
        self.dimensions = frozenset(shorter_dimensions) | {self.pooling.size(encoder.config.hidden_size)}
        self._bench = LazyBench(meter)
        self._together: Gathering[_Rows, np.ndarray] = Gathering(self._bench, self._pooled, capacity=STEP_TOKENS)
        self._heads: Gathering[_Encoded, Tensor] = Gathering(self._bench, self._judged, capacity=STEP_TOKENS)

    @property
    def _head(self) -> str:
        """What the head is: `config.head`, or "number" for one output, which transformers reads as a regression's."""
        config = self.encoder.config
        return "number" if config.head == "sequence" and config.num_labels == 1 else config.head

    def what(self) -> str:
        """What this model is, by its head."""
        return _HEADS[self._head][0]

    def can(self) -> tuple[str, ...]:
        """What it answers, by its head."""
        return (*_HEADS[self._head][1], "embed", "hidden_states")

    def _require(self, method: str) -> None:
        if method not in self.can():
            raise self.cannot(method)

    def phase(self) -> Phase:
        """A phase of work on this model, for `embed_ids`: what it says at its end are its seconds and joules."""
        return Phase(self._bench())

    def stats(self) -> GatheringStats:
        """Steps, batches of texts and tokens that were embedded so far; texts of requests at the same time share
        steps."""
        return self._together.stats()

    @property
    def device(self) -> torch.device:
        return next(self.encoder.parameters()).device

    @cached_property
    def _blank_takes_space(self) -> bool:
        """Whether the mask token stands for the space before it too (RoBERTa's)."""
        added = self.tokenizer.description.get("added_tokens", [])
        return any(token["id"] == self.tokenizer.mask_id and token.get("lstrip") for token in added)

    @cached_property
    def _blank(self) -> str:
        """How the mask token is spelt; "" without one."""
        mask_id = self.tokenizer.mask_id
        return "" if mask_id is None else self.tokenizer.decode([mask_id], skip_special=False).strip()

    @property
    def context_length(self) -> int:
        """Tokens that the model can read at once, special ones included."""
        return self.encoder.config.context_length

    def hidden_states(self, input_ids: Sequence[Sequence[int]] | np.ndarray | Tensor) -> Tensor:
        """(B, T) ids without padding -> (B, T, E) float32 on the CPU."""
        try:
            ids = torch.as_tensor(np.asarray(input_ids)) if not isinstance(input_ids, Tensor) else input_ids
        except (ValueError, TypeError) as error:
            raise RequestError("token ids should be numbers, in rows of equal length", param="input_ids") from error
        if ids.dim() != 2 or ids.is_floating_point() or ids.numel() == 0:
            raise RequestError(f"token ids have shape (B, T), not {tuple(ids.shape)}", param="input_ids")
        if int(ids.min()) < 0 or int(ids.max()) >= self.encoder.config.vocab_size:
            raise RequestError("a token id is outside the vocabulary", param="input_ids")
        with torch.inference_mode():
            return self.encoder.hidden_states(ids.to(self.device, torch.int64)).float().cpu().clone()

    def embed(self, texts: str | Sequence[str], *, batch_size: int = 32) -> np.ndarray:
        """Vectors float32 (N, E) of texts, in their order; a text longer than the model reads is cut at its end.

        One string gives (1, E). RequestError for what is not text.
        """
        texts = [texts] if isinstance(texts, str) else list(texts)
        rows = [self._encode(text, limit=self.text_length)[0] for text in texts]
        vectors = np.zeros((len(rows), self.pooling.size(self.encoder.config.hidden_size)), dtype=np.float32)
        for chosen, pooled in self.embed_ids(rows, batch_size=batch_size):
            vectors[chosen] = pooled
        return vectors

    @property
    def text_length(self) -> int:
        """Tokens of a text that `embed` reads, special ones included; the rest is cut."""
        return min(self.pooling.max_length or self.context_length, self.context_length)

    def encode(self, text: str) -> list[int]:
        """All ids of a text with the special tokens around them, however many. RequestError for what is not text."""
        return self._encode(text, limit=None)[0]

    def embed_ids(
        self, rows: Sequence[Sequence[int]], *, batch_size: int = 32, phase: Phase | None = None
    ) -> Iterator[tuple[list[int], np.ndarray]]:
        """Vectors of texts that are token ids already, special ones included: (places in `rows`, float32 (n, E)) a
        batch, in batches of like length. Batches that several threads ask for at the same time are computed in one
        step of up to `STEP_TOKENS` tokens; seconds and joules are added to `phase`, each its share by its tokens.
        RequestError for an empty row, one that is longer than the context, and an id that the model does not have."""
        for row in rows:
            self.check_ids(row)
        order = sorted(range(len(rows)), key=lambda n: len(rows[n]))
        for start in range(0, len(order), max(1, batch_size)):
            chosen = order[start : start + max(1, batch_size)]
            mine = [rows[n] for n in chosen]
            yield chosen, self._together.ask(mine, sum(map(len, mine)), phase or self.phase())

    def _pooled(self, jobs: Sequence[_Rows]) -> list[np.ndarray]:
        """A batch of texts each -> float32 (n, E) each. Texts of like length are computed together, whose batch they
        are of: padding is work too."""
        rows = [row for job in jobs for row in job]
        vectors: dict[int, np.ndarray] = {}
        order = sorted(range(len(rows)), key=lambda n: len(rows[n]))
        most = _FORWARD_TEXTS.get(self.device.type, _FORWARD_TEXTS_ELSEWHERE)
        for start in range(0, len(order), most):
            chosen = order[start : start + most]
            ids, mask, types = self._batch([(list(rows[n]), [0] * len(rows[n])) for n in chosen])
            with torch.inference_mode():
                pooled = self.pooling(self.encoder.hidden_states(ids, mask, types, unpad=None), mask)
            vectors.update(zip(chosen, pooled.float().cpu().numpy(), strict=True))
        ends = np.cumsum([len(job) for job in jobs])
        return np.split(np.stack([vectors[n] for n in range(len(rows))]), ends[:-1])

    def check_ids(self, row: Sequence[int]) -> None:
        """RequestError for ids that `embed_ids` would refuse."""
        if not 0 < len(row) <= self.context_length:
            raise RequestError(
                f"a text of {len(row):,} tokens; {self.name} reads from 1 to {self.context_length:,}",
                param="input",
                code="context_length_exceeded" if len(row) else "invalid_value",
            )
        known = self.encoder.config.vocab_size
        for index in row:
            if not 0 <= index < known:
                raise RequestError(f"token id {index} is outside the vocabulary of {known:,}", param="input")

    def fill(self, text: str, *, top: int = 5) -> list[list[Candidate]]:
        """The `top` most probable tokens for each blank of a text, in order; blanks are written as the mask token
        ("[MASK]"), the one special token that text may spell here. RequestError without a blank, for a tokenizer
        without a mask token, or a model that does not fill blanks."""
        self._require("fill")
        mask_id = self.tokenizer.mask_id
        if mask_id is None:
            raise RequestError(f"the tokenizer of {self.name} has no mask token", hint="it cannot fill blanks")
        ids = self.encode_blanks(text)
        if mask_id not in ids:
            raise RequestError(f"the text has no blank; write {self._blank}", param="text")
        logits = self._heads.ask((ids, [0] * len(ids)), len(ids), self.phase())
        return [self._best(logits[n].log_softmax(-1), top) for n, i in enumerate(ids) if i == mask_id]

    def encode_blanks(self, text: str) -> list[int]:
        """The ids of a text with the special tokens around it, the mask token read where it is spelt. RequestError for
        more than the context."""
        mask_id = self.tokenizer.mask_id
        pieces = [one_text(text)] if mask_id is None else one_text(text).split(self._blank)
        if mask_id is None or len(pieces) == 1:
            ids = self._encode(text, limit=None)[0]
        else:
            frame = self._encode("", limit=None)[0]
            ids = frame[:1]
            for number, piece in enumerate(pieces):
                ids += [mask_id] if number else []
                last = number == len(pieces) - 1
                ids += self.tokenizer.encode(piece.rstrip() if self._blank_takes_space and not last else piece)
            ids += frame[1:]
        if len(ids) > self.context_length:
            raise RequestError(f"{len(ids):,} tokens are more than the context of {self.context_length:,}")
        return ids

    def classify(self, text: str, pair: str | None = None, *, top: int = 5) -> list[Candidate]:
        """The most probable labels of a text (or of a pair of texts), cut at its end where it is longer than the model
        reads. RequestError for a model that gives no labels (one with a single output gives a `value`), and for a text
        that is empty."""
        self._require("classify")
        config = self.encoder.config
        return best_labels(self._of_text(text, pair), label_texts(config.id2label, config.num_labels), top)

    def value(self, text: str, pair: str | None = None) -> float:
        """The number that a regression head gives a text (or a pair of texts), as it was learnt: nothing is scaled.
        Otherwise as `classify`."""
        self._require("value")
        return float(self._of_text(text, pair)[0])

    def _of_text(self, text: str, pair: str | None) -> Tensor:
        """(C,) of one text or pair."""
        row = self._encode(
            text_to_label(text), None if pair is None else text_to_label(pair, param="pair"), limit=self.context_length
        )
        return self._heads.ask(row, len(row[0]), self.phase())

    def tag(self, text: str) -> list[TaggedWord]:
        """The most probable tag of each word of a text: words are what white space separates, and a word's tag is that
        of its first token, as `tags` are learnt and transformers' "first" strategy reads them. RequestError for a model
        that gives no tags, a text that is empty or has more tokens than the context, and a word without a token."""
        self._require("tag")
        words = text_to_label(text).split()
        ids, after = special_frame(self.tokenizer)
        places = []
        read = [word.lower() for word in words] if self.pooling.lower_case else words
        for word, piece in zip(words, word_pieces(self.tokenizer, read), strict=True):
            if not piece:
                raise RequestError(f"the tokenizer of {self.name} makes nothing of the word {word!r:.40}", param="text")
            places.append(len(ids))
            ids += piece
        ids += after
        self.check_ids(ids)
        found = self._heads.ask((ids, [0] * len(ids)), len(ids), self.phase())[places].log_softmax(-1).max(-1)
        names = label_texts(self.encoder.config.id2label, self.encoder.config.num_labels)
        return [
            TaggedWord(word=word, tag=names[n], logprob=value)
            for word, n, value in zip(words, found.indices.tolist(), found.values.tolist(), strict=True)
        ]

    @torch.inference_mode()
    def _judged(self, asked: Sequence[_Encoded]) -> list[Tensor]:
        """What the model's head says of several calls' texts, in one forward: logits (T, V) of each place, or (C,) of
        each text; float32 on the CPU."""
        if len(asked) > 1 and len(asked) * max(len(row) for row, _ in asked) > _HEAD_TOKENS:  # padding counts here
            return [one for each in asked for one in self._judged([each])]
        ids, mask, types = self._batch(asked)
        found = self.encoder(ids, mask, types).float().cpu()
        return [one if one.dim() == 1 else one[: len(row)] for one, (row, _) in zip(found, asked, strict=True)]

    def _best(self, scores: Tensor, top: int) -> list[Candidate]:
        known = min(len(scores), self.tokenizer.vocab_size)
        best = torch.topk(scores[:known], min(checked_top(top), known))
        return [
            Candidate(id=i, text=self.tokenizer.decode([i], skip_special=False), logprob=value)
            for i, value in zip(best.indices.tolist(), best.values.tolist(), strict=True)
        ]

    def _encode(self, text: str, pair: str | None = None, *, limit: int | None) -> tuple[list[int], list[int]]:
        texts = [None if one is None else one_text(one) for one in (text, pair)]
        if self.pooling.lower_case:
            texts = [None if one is None else one.lower() for one in texts]
        return self.tokenizer.encode_with_special(texts[0] or "", texts[1], max_length=limit)

    def _batch(self, rows: Sequence[tuple[list[int], list[int]]]) -> tuple[Tensor, Tensor, Tensor]:
        """ids, mask and type ids (B, T), padded at the end."""
        length = max(len(ids) for ids, _ in rows)
        pad = self.encoder.config.pad_token_id or 0
        ids = torch.full((len(rows), length), pad, dtype=torch.int64)
        mask, types = torch.zeros_like(ids), torch.zeros_like(ids)
        kinds = self.encoder.config.type_vocab_size
        for number, (row, row_types) in enumerate(rows):
            ids[number, : len(row)] = torch.tensor(row)
            mask[number, : len(row)] = 1
            if kinds > 1:
                types[number, : len(row)] = torch.tensor(row_types)
        return ids.to(self.device), mask.to(self.device), types.to(self.device)

    def close(self) -> None:
        """Close the energy meter, if it was opened."""
        self._bench.close()
