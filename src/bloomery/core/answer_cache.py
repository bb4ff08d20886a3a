"""Answer cache: what models answered, by what they were asked, with what it cost: asked once, paid once.

    model = CachedChat(model, AnswerCache(path), identity=artifact.id)

One SQLite file for several threads and processes; an answer is in it before it is told, so that a kill loses nothing
but what was under way. An answer's key is the digest of model, question and options. Only answers that asking again
would give again are taken: greedy ones, and those with a seed. This module does not know models or tasks.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bloomery.core.config import canonical_json, digest
from bloomery.core.database import JOULES, Database, quantity_columns, quantity_of
from bloomery.core.errors import ConfigError
from bloomery.core.likelihood import Likelihood, LikelihoodModel, Pair
from bloomery.core.messages import (
    AnswerToken,
    ChatAnswer,
    ChatDelta,
    ChatModel,
    ChatOptions,
    Message,
    TokenChance,
    Usage,
    gathered,
)

_MIGRATIONS = [
    [
        "CREATE TABLE answers (key BLOB PRIMARY KEY, model TEXT NOT NULL, kind TEXT NOT NULL, answer TEXT NOT NULL,"
        f" prompt_tokens INTEGER, completion_tokens INTEGER, seconds REAL NOT NULL, {JOULES}, created REAL NOT NULL)"
        " WITHOUT ROWID",
        "CREATE INDEX answers_of ON answers (model, kind)",
    ]
]
_Found = Iterator[tuple[int, Likelihood]]
_AT_ONCE = 500
"""Parameters of one SQL statement."""


@dataclass(frozen=True, kw_only=True)
class Kept:
    """An answer in the file, and what asking for it took."""

    answer: Mapping[str, Any]
    usage: Usage
    seconds: float


class AnswerCache(Database):
    """See the module. ArtifactError, with a hint, for trouble with the file."""

    def __init__(self, path: str | Path) -> None:
        super().__init__(Path(path), _MIGRATIONS, name="answer cache")
        with self._lock:  # a killed process loses nothing in WAL; a cut of power may lose the last answers
            self._db.execute("PRAGMA synchronous=NORMAL")

    def find(self, keys: Sequence[str]) -> dict[str, Kept]:
        """Those of the keys (64 hex digits) that are there."""
        found: dict[str, Kept] = {}
        for start in range(0, len(keys), _AT_ONCE):
            part = [bytes.fromhex(key) for key in keys[start : start + _AT_ONCE]]
            marks = ",".join("?" * len(part))
            for row in self._rows(f"SELECT * FROM answers WHERE key IN ({marks})", part):
                tokens = {name: row[name] for name in ("prompt_tokens", "completion_tokens")}
                usage = Usage(energy_joules=quantity_of(row), **tokens)
                kept = Kept(answer=json.loads(row["answer"]), usage=usage, seconds=row["seconds"])
                found[row["key"].hex()] = kept
        return found

    def keep(self, model: str, kind: str, answers: Iterable[tuple[str, Kept]], *, replace: bool = False) -> None:
        """(key, answer) pairs, all or none of them; what is there already stays, unless it is to `replace`."""
        rows = [
            (
                *(bytes.fromhex(key), model, kind, canonical_json(one.answer)),
                *(one.usage.prompt_tokens, one.usage.completion_tokens, one.seconds),
                *(*quantity_columns(one.usage.energy_joules), time.time()),
            )
            for key, one in answers
        ]
        if rows:
            with self._writing() as db:
                how = "REPLACE" if replace else "IGNORE"
                db.executemany(f"INSERT OR {how} INTO answers VALUES ({','.join('?' * 12)})", rows)

    def forget(self, model: str) -> int:
        """Take out what a model answered; returns how many answers that were."""
        with self._writing() as db:
            return db.execute("DELETE FROM answers WHERE model = ?", [model]).rowcount

    def count(self, model: str | None = None) -> int:
        """Answers that are kept, of one model or of all."""
        where = "" if model is None else " WHERE model = ?"
        return self._rows(f"SELECT COUNT(*) AS n FROM answers{where}", [] if model is None else [model])[0]["n"]


def repeatable(options: ChatOptions) -> bool:
    """Whether asking again should give the same answer."""
    return options.temperature == 0 or options.seed is not None


class CachedChat:
    """A `ChatModel` that asks another only for what is not kept. `fresh`: take nothing, and keep the new answer in the
    old one's place."""

    def __init__(self, model: ChatModel, cache: AnswerCache, *, identity: str = "", fresh: bool = False) -> None:
        """`identity` tells the weights apart, where the model's name does not. ConfigError if there is neither."""
        self.model, self.cache, self._fresh = model, cache, fresh
        self.identity = identity or model.name
        if not self.identity:
            raise ConfigError("a model without a name cannot be told apart from others", hint="give an identity")

    @property
    def name(self) -> str:
        return self.model.name

    def answer(self, messages: Sequence[Message], options: ChatOptions) -> ChatAnswer:
        """Kept or asked; `cached` says which. Usage and seconds are those of asking."""
        if not repeatable(options):
            return self.model.answer(messages, options)
        key = chat_key(self.identity, messages, options)
        if (kept := self._kept(key)) is not None:
            return kept
        answer = self.model.answer(messages, options)
        self._keep(key, answer)
        return answer

    def stream(self, messages: Sequence[Message], options: ChatOptions) -> Iterator[ChatDelta]:
        """A kept answer is one delta. One that is not read to its end is not kept."""
        if not repeatable(options):
            yield from self.model.stream(messages, options)
            return
        key = chat_key(self.identity, messages, options)
        if (kept := self._kept(key)) is not None:
            told = {"text": kept.text, "tokens": kept.tokens or (), "usage": kept.usage, "seed": kept.seed}
            yield ChatDelta(finish_reason=kept.finish_reason, **told)
            return
        began = time.perf_counter()
        deltas: list[ChatDelta] = []
        for delta in self.model.stream(messages, options):
            deltas.append(delta)
            yield delta
        self._keep(key, gathered(deltas, began=began))

    def _kept(self, key: str) -> ChatAnswer | None:
        kept = None if self._fresh else self.cache.find([key]).get(key)
        return None if kept is None else _answer(kept)

    def _keep(self, key: str, answer: ChatAnswer) -> None:
        tokens = None if answer.tokens is None else [_plain_token(one) for one in answer.tokens]
        plain = {"text": answer.text, "finish_reason": answer.finish_reason, "tokens": tokens}
        plain |= {"seed": answer.seed, "attempts": answer.attempts}
        kept = Kept(answer=plain, usage=answer.usage, seconds=answer.seconds)
        self.cache.keep(self.identity, "chat", [(key, kept)], replace=self._fresh)


def chat_key(identity: str, messages: Sequence[Message], options: ChatOptions) -> str:
    """64 hex digits that two questions share only if model, messages and options are the same."""
    asked = [dict(message) for message in messages]
    return digest({"kind": "chat", "model": identity, "messages": asked, "options": options.plain()})


def _answer(kept: Kept) -> ChatAnswer:
    told = kept.answer
    tokens = None if told["tokens"] is None else tuple(_token(one) for one in told["tokens"])
    return ChatAnswer(
        text=told["text"],
        finish_reason=told["finish_reason"],
        usage=kept.usage,
        seconds=kept.seconds,
        tokens=tokens,
        seed=told["seed"],
        attempts=told["attempts"],
        cached=True,
    )


def _plain_token(token: AnswerToken) -> list[Any]:
    """Bytes as Latin-1, which has a character for each."""
    top = [[one.data.decode("latin-1"), one.logprob] for one in token.top]
    return [token.data.decode("latin-1"), token.logprob, top]


def _token(plain: Sequence[Any]) -> AnswerToken:
    data, logprob, top = plain
    return AnswerToken(data.encode("latin-1"), logprob, tuple(TokenChance(d.encode("latin-1"), p) for d, p in top))


class CachedLikelihoods:
    """A `LikelihoodModel` that asks another only for what is not kept. `fresh` as for `CachedChat`."""

    def __init__(self, model: LikelihoodModel, cache: AnswerCache, *, identity: str = "", fresh: bool = False) -> None:
        """`identity` as for `CachedChat`."""
        self.model, self.cache, self._fresh = model, cache, fresh
        self.identity = identity or model.name
        if not self.identity:
            raise ConfigError("a model without a name cannot be told apart from others", hint="give an identity")

    @property
    def name(self) -> str:
        return self.model.name

    def likelihoods(self, pairs: Sequence[Pair]) -> Iterator[tuple[int, Likelihood]]:
        keys = [digest({"kind": "likelihood", "model": self.identity, "pair": list(pair)}) for pair in pairs]
        yield from self._asked(keys, lambda places: self.model.likelihoods([pairs[place] for place in places]))

    def rolling(self, texts: Sequence[str]) -> Iterator[tuple[int, Likelihood]]:
        keys = [digest({"kind": "rolling", "model": self.identity, "text": text}) for text in texts]
        yield from self._asked(keys, lambda places: self.model.rolling([texts[place] for place in places]))

    def _asked(self, keys: Sequence[str], ask: Callable[[list[int]], _Found]) -> _Found:
        kept = {} if self._fresh else self.cache.find(list(dict.fromkeys(keys)))
        missing: dict[str, list[int]] = {}
        for place, key in enumerate(keys):
            if key in kept:
                yield place, _likelihood(kept[key])
            else:
                missing.setdefault(key, []).append(place)
        places = [each[0] for each in missing.values()]
        for number, found in ask(places) if places else ():
            key = keys[places[number]]
            self._keep(key, found)
            for nth, place in enumerate(missing[key]):  # the same text twice is computed once
                yield place, found if nth == 0 else replace(found, cached=True)

    def _keep(self, key: str, found: Likelihood) -> None:
        if math.isfinite(found.nats):  # a model that is broken tells NaN
            plain = {"nats": found.nats, "tokens": found.tokens, "greedy": found.greedy}
            kept = Kept(answer=plain, usage=found.usage, seconds=found.seconds)
            self.cache.keep(self.identity, "likelihood", [(key, kept)], replace=self._fresh)


def _likelihood(kept: Kept) -> Likelihood:
    return Likelihood(**kept.answer, usage=kept.usage, seconds=kept.seconds, cached=True)
