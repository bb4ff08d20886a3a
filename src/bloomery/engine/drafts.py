"""Drafts: guesses of the next tokens, that one step can check together.

A guess changes how soon a token comes, never which: the engine draws each token as it would have without, and keeps
guessing right for as long as the draw is what was guessed. So texts are the same for a seed, and the distribution is
exactly the model's (Leviathan et al., arXiv 2211.17192, do it by rejection; drawing from the same random numbers needs
no correction). `NgramDrafter` finds what followed the last tokens earlier in the same text (Saxena, prompt lookup).
`ModelDrafter` asks a smaller model with the same tokenizer, which draws with the random numbers that the large one will
use. `HeadsDrafter` asks extra heads of the model itself (see `models.future_heads`), with the same numbers. All guess
less after wrong guesses and more after right ones. This module does not know how guesses are checked.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

import torch

from bloomery.core.errors import ConfigError
from bloomery.engine.sampling import Sampler
from bloomery.engine.sequence import SequenceState
from bloomery.models import Decoder, KVCache
from bloomery.models.future_heads import FutureHeads

_LONGEST, _SHORTEST = 4, 2
_MOST_OF_TEXT, _MOST_OF_MODEL = 16, 8
"""Guesses of a step, at most, where nobody says how many: those of a model take a step of it each."""
_KEPT = 0.9
"""Of what was counted before, when a round is added."""
_ODD = 8
"""Times as long as usual: such a round says something of the machine, not of guesses."""
_ROUNDS, _REST = 4, 16
"""That are timed before two ways are compared; that the first pause lasts."""


class Drafter(Protocol):
    """Guesses for one text."""

    computes: bool
    """Whether a guess is computed by a model, which takes turns with others."""

    def guess(self, sequence: SequenceState, most: int) -> list[int]:
        """At most `most` tokens that may follow the sequence's."""
        ...

    def learn(self, guessed: int, right: int) -> None:
        """What became of the last guess."""
        ...


class Rate:
    """Seconds of a token, of the last rounds mostly."""

    def __init__(self) -> None:
        self.rounds, self._seconds, self._tokens, self._odd = 0, 0.0, 0.0, 0

    def add(self, seconds: float, tokens: int) -> None:
        if self.rounds and seconds > _ODD * tokens * self.of_token:
            self._odd += 1
            if self._odd < 3:
                return  # something else took the processor
            self.rounds, self._seconds, self._tokens = 0, 0.0, 0.0  # steps take longer now
        self._odd = 0
        self.rounds += 1
        self._seconds, self._tokens = _KEPT * self._seconds + seconds, _KEPT * self._tokens + tokens

    @property
    def of_token(self) -> float:
        return self._seconds / self._tokens


class Pace:
    """How many tokens to guess: doubled when all were right, halved when fewer than half were, and after guesses that
    were all wrong none at all for a while, longer each time.

    And whether guesses pay: where most are wrong, rounds with guesses and without are timed beside each other, and
    while a token takes longer with them there are pauses, each twice as long as the one before, up to `longest`.
    """

    def __init__(self, most: int, longest: int = 256, clock: Callable[[], float] = time.perf_counter) -> None:
        self._most, self._longest, self._clock = most, longest, clock
        self.count = min(4, most)
        self._pause = self._misses = 0
        self._rest = _REST
        self._plain, self._with = Rate(), Rate()
        self._begun: tuple[float, int] | None = None
        self._guessed, self._right, self._asked = False, 0.0, 0.0

    def next(self, length: int) -> int:
        """How many, for a text of so many tokens."""
        now = self._clock()
        if self._begun is not None and length > self._begun[1]:
            (self._with if self._guessed else self._plain).add(now - self._begun[0], length - self._begun[1])
        self._begun, self._guessed = (now, length), False
        if self._pause:
            self._pause -= 1
            return 0
        enough = _ROUNDS if self._rest == _REST else 2  # to see that it is still so
        if self._with.rounds >= enough and 2 * self._right < self._asked:
            if self._plain.rounds < _ROUNDS:
                return 0  # to know what they are compared with
            if self._with.of_token > self._plain.of_token:
                self._pause, self._rest, self._with = self._rest - 1, min(2 * self._rest, self._longest), Rate()
                return 0
            self._rest = _REST
        return self.count

    def learn(self, guessed: int, right: int) -> None:
        if not guessed:
            return
        self._guessed, self._right = True, _KEPT * self._right + right
        self._asked = _KEPT * self._asked + guessed
        if right == guessed:
            self.count, self._misses = min(self._most, max(2, self.count * 2)), 0
        elif right:
            self._misses = 0
            if 2 * right < guessed:
                self.count = max(1, self.count // 2)
        else:
            self._misses += 1
            self.count = max(1, self.count // 2)
            self._pause = min(32, 2**self._misses) if self._misses > 1 else 0


class NgramDrafter:
    """What followed the longest run of last tokens, of 4 down to 2, the last time that it stood in the text."""

    computes = False

    def __init__(self, most: int) -> None:
        self._pace = Pace(most, longest=32)  # such guesses cost little, and a text may begin to repeat at any time
        self._seen: dict[tuple[int, ...], int] = {}
        self._known = 0

    def guess(self, sequence: SequenceState, most: int) -> list[int]:
        ids = sequence.ids
        # A run is entered when a token follows it, so that the text's own end is never found.
        for end in range(max(self._known, _SHORTEST), len(ids)):
            for size in range(_SHORTEST, min(_LONGEST, end) + 1):
                self._seen[tuple(ids[end - size : end])] = end
        self._known = len(ids)
        count = min(self._pace.next(len(sequence.ids)), most)
        if count < 1:
            return []
        for size in range(min(_LONGEST, len(ids)), _SHORTEST - 1, -1):
            place = self._seen.get(tuple(ids[-size:]))
            if place is not None:
                return ids[place : place + count]
        return []

    def learn(self, guessed: int, right: int) -> None:
        self._pace.learn(guessed, right)


class ModelDrafter:
    """What a smaller model would write, with a cache of its own."""

    computes = True

    def __init__(self, decoder: Decoder, sampler: Sampler, num_words: int, most: int) -> None:
        self._decoder, self._sampler, self._num_words = decoder, sampler, num_words
        self._pace = Pace(most)
        self._ids: list[int] = []
        self._cache: KVCache | None = None

    @torch.inference_mode()
    def guess(self, sequence: SequenceState, most: int) -> list[int]:
        room = self._decoder.context_length - len(sequence.ids)
        count = min(self._pace.next(len(sequence.ids)), most, room)
        if count < 1:
            return []
        cache = self._agreed(sequence)
        guesses: list[int] = []
        unread = sequence.ids[cache.length :]
        preview = self._sampler.preview(count)
        for place in range(count):
            row = torch.tensor([unread], device=cache.keys.device)
            logits = self._decoder(row, cache=cache, last_only=True)[0, -1].float().cpu()
            guesses.append(preview(place, logits[: self._num_words]))
            unread = guesses[-1:]
        self._ids = [*sequence.ids, *guesses[:-1]]
        return guesses

    def _agreed(self, sequence: SequenceState) -> KVCache:
        """The cache with what it has of the sequence, and room for the rest."""
        ids = sequence.ids
        if self._cache is None:
            weight = next(self._decoder.parameters())
            room = min(self._decoder.context_length, sequence.num_prompt + sequence.generation.max_new_tokens)
            self._cache = KVCache(self._decoder.config, 1, room, dtype=weight.dtype, device=weight.device)
        same = 0
        for mine, theirs in zip(self._ids, ids[:-1], strict=False):
            if mine != theirs:
                break
            same += 1
        self._cache.crop(min(same, self._cache.length))
        return self._cache

    def learn(self, guessed: int, right: int) -> None:
        self._pace.learn(guessed, right)


class HeadsDrafter:
    """What a model's extra heads expect after the state that its last token was drawn from."""

    computes = True

    def __init__(self, heads: FutureHeads, decoder: Decoder, sampler: Sampler, num_words: int) -> None:
        self._heads, self._decoder, self._sampler, self._num_words = heads, decoder, sampler, num_words
        self._pace = Pace(len(heads.heads))

    @torch.inference_mode()
    def guess(self, sequence: SequenceState, most: int) -> list[int]:
        count = min(self._pace.next(len(sequence.ids)), most)
        state = self._state(sequence)
        if count < 1 or state is None:
            return []
        weight = self._decoder.model.embed_tokens.weight
        state, token, guesses = state.to(weight.device), sequence.ids[-1], list[int]()
        preview = self._sampler.preview(count)
        for place, head in zip(range(count), self._heads.heads, strict=False):
            embedded = self._decoder.model.embed_tokens(torch.tensor([token], device=weight.device))
            state = head(state, embedded.float())
            logits = self._decoder.logits(state.to(weight.dtype))[0]
            token = preview(place, logits.float().cpu()[: self._num_words])
            guesses.append(token)
        return guesses

    @staticmethod
    def _state(sequence: SequenceState) -> torch.Tensor | None:
        """(1, E) of the token before the last one; None where it was not kept."""
        if sequence.states is None:
            return None
        first, states = sequence.states
        row = len(sequence.ids) - 2 - first
        return states[row : row + 1] if 0 <= row < len(states) else None

    def learn(self, guessed: int, right: int) -> None:
        self._pace.learn(guessed, right)


class Drafting:
    """Makes the drafter of each request: by "ngram", with a `model`, or with `heads` of the `decoder` itself."""

    def __init__(
        self,
        kind: str,
        most: int | None = None,
        model: Decoder | None = None,
        heads: FutureHeads | None = None,
        decoder: Decoder | None = None,
    ) -> None:
        """ConfigError for an unknown kind, "model" without one, or heads without a decoder that they fit."""
        given = {"ngram": True, "model": model is not None, "heads": heads is not None and decoder is not None}
        if not given.get(kind):
            raise ConfigError(f"cannot guess tokens by {kind!r}", hint='"ngram", a draft model, or heads')
        if heads is not None and decoder is not None:
            heads.check(decoder)
        self.kind, self.most = kind, (_MOST_OF_TEXT if kind == "ngram" else _MOST_OF_MODEL) if most is None else most
        self.model, self.heads, self.decoder = model, heads, decoder

    @property
    def reads_states(self) -> bool:
        """Whether guesses are made of what the output head read."""
        return self.kind == "heads"

    def drafter(self, sequence: SequenceState) -> Drafter:
        generation = sequence.generation
        if self.kind == "heads" and self.heads is not None and self.decoder is not None:
            return HeadsDrafter(self.heads, self.decoder, generation.sampler, generation.num_words)
        if self.model is None:
            return NgramDrafter(self.most)
        return ModelDrafter(self.model, generation.sampler, generation.num_words, self.most)


def drafting_by(guesser: Decoder | FutureHeads | None, decoder: Decoder, most: int | None) -> Drafting | None:
    """What makes the drafters of a decoder's requests, of at most so many tokens a guess; None without a guesser."""
    if isinstance(guesser, FutureHeads):
        return Drafting("heads", most, heads=guesser, decoder=decoder)
    return None if guesser is None else Drafting("model", most, guesser)
