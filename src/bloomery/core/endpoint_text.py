"""Endpoint text: any server with /v1/completions, asked how probable texts are, and to go on from them.

A prompt that is echoed with log-probabilities tells them, as lm-evaluation-harness has it told. Where the server has
/tokenize (bloomery's, vLLM's), prompts go as token ids, cut as the engine in process cuts them; elsewhere texts go as
they are, and tokens are told apart by where they begin. This module does not know what is asked or why.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

from bloomery.core.endpoint import Endpoint, usage_of
from bloomery.core.errors import ConfigError, DataError, RequestError
from bloomery.core.likelihood import Likelihood, Pair, pair_ids, together, windows
from bloomery.core.messages import ChatAnswer, ChatDelta, ChatOptions, Message, Usage

_KEPT_TEXTS = 4096


@dataclass(frozen=True)
class _Asked:
    """A prompt, how many of its last tokens are scored (None: those from `start` characters on), and whose it is."""

    prompt: list[int] | str
    count: int | None
    start: int
    place: int


class EndpointText:
    """Meets `LikelihoodModel`, and `ChatModel` by going on from the messages' texts, without a chat template."""

    def __init__(self, endpoint: Endpoint, *, concurrency: int = 4, batch: int = 8, bos: bool | None = None) -> None:
        """`batch` prompts go in one request, `concurrency` requests at once. `bos`: whether contexts begin with what
        the tokenizer has before a text; None: they do."""
        if not 1 <= concurrency <= 256 or not 1 <= batch <= 256:
            raise ConfigError("concurrency and batch are from 1 to 256")
        self._endpoint = endpoint
        self._bos = bos is not False
        self._concurrency, self._batch = concurrency, batch
        self._lock = threading.Lock()
        self._tokenizer: _RemoteTokenizer | None = None
        self._looked = False

    @property
    def name(self) -> str:
        return self._endpoint.name

    @property
    def tokenizer(self) -> _RemoteTokenizer | None:
        """The server's, asked for once; None where it has none."""
        with self._lock:
            if not self._looked:
                self._tokenizer = _RemoteTokenizer.of(self._endpoint)
                self._looked = True
            return self._tokenizer

    def likelihoods(self, pairs: Sequence[Pair]) -> Iterator[tuple[int, Likelihood]]:
        """See `LikelihoodModel`. RequestError for an empty continuation, and from a server that tells none."""
        asked = (self._asked(pair, place) for place, pair in enumerate(pairs))
        for one, found in self._all(asked):
            yield one.place, found

    def rolling(self, texts: Sequence[str]) -> Iterator[tuple[int, Likelihood]]:
        """See `LikelihoodModel`. RequestError from a server without /tokenize."""
        tokenizer = self.tokenizer
        if tokenizer is None:
            raise self._error("has no /tokenize, which whole texts need")
        for place, text in enumerate(texts):
            ids = tokenizer.encode(text)
            cut = windows(ids, tokenizer.prefix, tokenizer.length - 1)
            parts = [found for _, found in self._all(_Asked(part, count, 0, place) for part, count in cut)]
            yield place, together(parts)

    def answer(self, messages: Sequence[Message], options: ChatOptions) -> ChatAnswer:
        """What the model writes after the messages' texts. RequestError for choices, schemas and alternatives."""
        if options.choices or options.schema is not None or options.top_logprobs is not None:
            raise RequestError("a text that is gone on from has no choices, schema or log-probabilities here")
        config, began = self._endpoint.config, time.perf_counter()
        body: dict[str, Any] = {"model": config.model, "prompt": "".join(one["content"] for one in messages)}
        body |= {"max_tokens": options.max_new_tokens, "temperature": options.temperature}
        body |= {name: value for name in ("top_p", "seed") if (value := getattr(options, name)) is not None}
        body |= {"stop": list(options.stop)} if options.stop else {}
        told, attempts = self._endpoint.post("/completions", body)
        try:
            choice = told["choices"][0]
            text, reason = choice["text"], choice.get("finish_reason") or ""
            if not isinstance(text, str):
                raise TypeError("text is none")
        except (KeyError, IndexError, TypeError, AttributeError) as error:
            raise self._error(f"sent no completion ({type(error).__name__})") from None
        return ChatAnswer(
            text=text,
            finish_reason=reason,
            usage=usage_of(told.get("usage") or {}),
            seconds=time.perf_counter() - began,
            seed=options.seed,
            attempts=attempts,
        )

    def stream(self, messages: Sequence[Message], options: ChatOptions) -> Iterator[ChatDelta]:
        """The whole answer as one delta."""
        found = self.answer(messages, options)
        yield ChatDelta(text=found.text, finish_reason=found.finish_reason, usage=found.usage, seed=found.seed)

    def _asked(self, pair: Pair, place: int) -> _Asked:
        tokenizer = self.tokenizer
        if tokenizer is None:
            if not pair.continuation:
                raise RequestError("an empty continuation has no likelihood", param="continuation")
            if not pair.context:
                raise self._error("has no /tokenize, which texts without a context need")
            return _Asked(pair.context + pair.continuation, None, len(pair.context.rstrip()), place)
        ids, count = pair_ids(tokenizer.encode, pair, tokenizer.prefix, adds_bos=self._bos)
        ids = ids[-(tokenizer.length - 1) :]
        return _Asked(ids, min(count, len(ids) - 1), 0, place)

    def _all(self, asked: Iterator[_Asked]) -> Iterator[tuple[_Asked, Likelihood]]:
        """Batch by batch, as they come."""
        pool = ThreadPoolExecutor(self._concurrency, thread_name_prefix="likelihoods")
        running: dict[Future[list[Likelihood]], list[_Asked]] = {}
        try:
            more = True
            while more or running:
                while more and len(running) < self._concurrency:
                    group = list(islice(asked, self._batch))
                    more = len(group) == self._batch
                    if group:
                        running[pool.submit(self._scored, group)] = group
                if not running:
                    return
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    yield from zip(running.pop(future), future.result(), strict=True)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    def _scored(self, group: Sequence[_Asked]) -> list[Likelihood]:
        began = time.perf_counter()
        body = {"model": self._endpoint.config.model, "prompt": [one.prompt for one in group]}
        body |= {"max_tokens": 1, "temperature": 0.0, "logprobs": 1, "echo": True, "seed": 0}
        told, _ = self._endpoint.post("/completions", body)
        seconds = (time.perf_counter() - began) / len(group)
        usage = usage_of(told.get("usage") or {})
        try:
            choices = sorted(told["choices"], key=lambda choice: choice["index"])
            found = [_likelihood(one, choice["logprobs"]) for one, choice in zip(group, choices, strict=True)]
        except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
            what = f"does not echo prompts with log-probabilities ({type(error).__name__})"
            raise self._error(what) from None
        share = Usage(
            prompt_tokens=None if usage.prompt_tokens is None else round(usage.prompt_tokens / len(group)),
            completion_tokens=0,
            energy_joules=usage.energy_joules.scaled(1 / len(group)),
        )
        lengths = [len(one.prompt) if isinstance(one.prompt, list) else share.prompt_tokens for one in group]
        each = zip(found, lengths, strict=True)
        return [replace(one, usage=replace(share, prompt_tokens=n), seconds=seconds) for one, n in each]

    def _error(self, said: str) -> RequestError:
        return RequestError(f"{self.name} {said}", hint="bloomery serve and vLLM do it", code="unsupported", status=502)


def _likelihood(asked: _Asked, told: Mapping[str, Any]) -> Likelihood:
    """The last token is the one that had to be written."""
    nats, tops = told["token_logprobs"][:-1], told["top_logprobs"][:-1]
    if asked.count is None:
        offsets = told["text_offset"][:-1]
        first = next(place for place, offset in enumerate(offsets) if offset >= asked.start)
    else:
        first = len(nats) - asked.count
        if len(nats) != len(asked.prompt):
            raise ValueError("other tokens than were sent")
    scored = list(zip(nats[first:], tops[first:], strict=True))
    return Likelihood(
        nats=float(sum(one for one, _ in scored)),
        tokens=len(scored),
        greedy=all(one >= max(top.values()) for one, top in scored),
    )


class _RemoteTokenizer:
    """A server's /tokenize. `length` is what its model can read, `prefix` begins texts without a context."""

    def __init__(self, endpoint: Endpoint, length: int, prefix: int) -> None:
        self._endpoint, self.length, self.prefix = endpoint, length, prefix
        self._lock = threading.Lock()
        self._known: OrderedDict[tuple[str, bool], list[int]] = OrderedDict()

    @classmethod
    def of(cls, endpoint: Endpoint) -> _RemoteTokenizer | None:
        """None where the server has none."""
        try:
            info, _ = endpoint.get("/tokenizer_info", root=True)
            start = info.get("bos_token") or info.get("eos_token")
            told = _tokenized(endpoint, str(start), special=False)
            length = told.get("max_model_len") or info.get("max_model_len")
            return cls(endpoint, int(length), int(told["tokens"][0]))  # type: ignore[arg-type]
        except (RequestError, DataError, KeyError, IndexError, TypeError, ValueError) as error:
            if isinstance(error, RequestError) and error.status not in (400, 404, 405, 501):
                raise
            return None

    def encode(self, text: str, *, add_bos: bool = False) -> list[int]:
        """As the engine's: `add_bos` is what the model's tokenizer puts before a text, if anything."""
        key = text, add_bos
        with self._lock:
            if key in self._known:
                self._known.move_to_end(key)
                return list(self._known[key])
        ids = [int(i) for i in _tokenized(self._endpoint, text, special=add_bos)["tokens"]]
        with self._lock:
            self._known[key] = ids
            while len(self._known) > _KEPT_TEXTS:
                self._known.popitem(last=False)
        return list(ids)


def _tokenized(endpoint: Endpoint, text: str, *, special: bool) -> dict[str, Any]:
    body = {"model": endpoint.config.model, "prompt": text, "add_special_tokens": special}
    return endpoint.post("/tokenize", body, root=True)[0]
