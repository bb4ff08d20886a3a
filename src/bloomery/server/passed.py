"""PassedRequest: one request that another process answers: what goes there, what comes back, and what it costs.

Bodies are checked here before they go on; what vLLM does not do is refused by name, images are data URLs, for vLLM
would fetch others. This module does not know HTTP servers.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

from bloomery.core.errors import RequestError
from bloomery.core.quantity import Quantity
from bloomery.server.completions import DEFAULT_MAX_TOKENS, completion_prompts
from bloomery.server.metrics import Metrics
from bloomery.server.record import Reader, Record, tell
from bloomery.server.schemas import ChatBody, CompletionBody
from bloomery.server.shared_energy import SharedEnergy
from bloomery.server.structure import answer_structure
from bloomery.server.upstream import Upstream
from bloomery.server.visit import Visit
from bloomery.server.waiting import DeadlinePassed, Job

Chunk = dict[str, Any]
_OURS = ("timeout_seconds", "priority", "inspect")
_GUIDED = {"guided_json": "json", "guided_regex": "regex", "guided_choice": "choice", "guided_grammar": "grammar"}
_NOT_THERE = ("inspect", "typical_p")


def checked_body(body: ChatBody | CompletionBody, raw: dict[str, Any], *, default_tokens: int) -> dict[str, Any]:
    """The JSON that goes on. RequestError for what cannot be honoured there, named."""
    body.refuse_unsupported()
    for name in _NOT_THERE:
        if getattr(body, name) is not None:
            raise RequestError(f"{name} is not supported by the engine vllm", param=name, code="unsupported_parameter")
    if isinstance(body, ChatBody):
        body.check_choice()
        for place, message in enumerate(body.messages):
            message.plain(place)
            for where, url in message.image_urls(place):
                if not url.startswith("data:image/"):
                    hint = "nothing is fetched"
                    raise RequestError(f"{where} is no data URL", hint=hint, param=where, code="invalid_image_url")
    elif body.best_of is not None and body.best_of > (body.n or 1):
        raise RequestError("best_of is not supported by the engine vllm", param="best_of", code="unsupported_parameter")
    else:
        completion_prompts(body)
    answer_structure(body)  # what contradicts itself is told in our words
    sent = {name: value for name, value in raw.items() if name not in _OURS and value is not None}
    for name, kind in _GUIDED.items():  # the names that vLLM has dropped
        if name in sent:
            sent["structured_outputs"] = {kind: sent.pop(name)}
    if isinstance(body, ChatBody) and body.max_tokens is None and body.max_completion_tokens is None:
        sent["max_tokens"] = default_tokens
    if body.stream:
        sent["stream_options"] = {
            "include_usage": True,  # to be counted, whoever else wants it
            "continuous_usage_stats": True,  # whoever leaves before the end has used tokens too
        }
    return sent


def most_new_tokens(body: ChatBody | CompletionBody, prompts: int, *, default_tokens: int) -> int:
    """How many tokens all choices may have."""
    if isinstance(body, ChatBody):
        asked = body.max_completion_tokens if body.max_completion_tokens is not None else body.max_tokens
        return (default_tokens if asked is None else asked) * (body.n or 1)
    return (DEFAULT_MAX_TOKENS if body.max_tokens is None else body.max_tokens) * (body.n or 1) * prompts


@dataclass(frozen=True, kw_only=True)
class PassedRecord(Record):
    """Its tokens are counted elsewhere, and their ids are not known."""

    prompt_count: int = 0
    prompt_texts: Sequence[str] = ()
    answer_texts: Sequence[str] = ()
    reasons: Sequence[str] = ()

    @property
    def prompt_tokens(self) -> int:
        return self.prompt_count

    @property
    def texts(self) -> list[tuple[str, Sequence[int]]]:
        return [(text, ()) for text in self.answer_texts]

    @property
    def finish_reasons(self) -> list[str]:
        return list(self.reasons)

    def prompts(self) -> list[str]:
        return list(self.prompt_texts)


@dataclass(kw_only=True)
class PassedRequest:
    """`answer` or `chunks`, once; then it is in the books, however it ended."""

    id: str
    route: str
    model: str
    sent: dict[str, Any]
    upstream: Upstream
    job: Job
    visit: Visit
    metrics: Metrics
    energy: SharedEnergy
    readers: Sequence[Reader] = ()
    usage: dict[str, Any] = field(default_factory=dict)
    first_token_seconds: float | None = None
    _last: float | None = None
    _texts: dict[int, str] = field(default_factory=dict)
    _reasons: dict[int, str] = field(default_factory=dict)
    _joules: Quantity = field(default_factory=Quantity.unknown)
    _status: int = 500

    async def answer(self) -> dict[str, Any]:
        """The whole answer. DeadlinePassed when its time is over: nothing of it is known then."""
        self._begin()
        try:
            try:
                async with asyncio.timeout(self.job.seconds_left):
                    told = await self.upstream.ask(self.route, self.sent)
            except TimeoutError:
                raise DeadlinePassed(self.job.seconds or 0.0) from None
            for choice in told.get("choices", ()):
                self._see(choice, whole=True)
            self._count(told.get("usage") or {})
            self._status = 200
        except BaseException as error:
            self._status = _status_of(error, self.job)
            raise
        finally:
            await self._end()
        return {**told, "id": self.id, "usage": self.whole_usage()}

    async def chunks(self) -> AsyncIterator[Chunk]:
        """What a stream tells, without its usage; a deadline ends the choices that are open."""
        self._begin()
        try:
            async with aclosing(self._in_time()) as chunks:
                async for chunk in chunks:
                    if chunk.get("usage"):
                        self._count(chunk["usage"])
                    for choice in chunk.get("choices", ()):
                        self._see(choice, whole=False)
                    if chunk.get("choices"):
                        yield {**{k: v for k, v in chunk.items() if k != "usage"}, "id": self.id}
            self._status = 200
        except BaseException as error:
            self._status = _status_of(error, self.job)
            raise
        finally:
            await self._end()

    def whole_usage(self) -> dict[str, Any]:
        """vLLM's usage with our extensions."""
        timings = {"queue_seconds": self.job.queue_seconds}
        return {**self.usage, "energy_joules": self._joules.to_dict(), "timings": timings}

    async def _in_time(self) -> AsyncGenerator[Chunk, None]:
        async with aclosing(self.upstream.stream(self.route, self.sent)) as chunks:
            head: Chunk = {}
            while True:
                try:
                    async with asyncio.timeout(self.job.seconds_left):
                        chunk = await anext(chunks)
                except StopAsyncIteration:
                    return
                except TimeoutError:
                    break
                head = {name: value for name, value in chunk.items() if name not in ("choices", "usage")}
                yield chunk
        if not any(self._texts.values()):
            raise DeadlinePassed(self.job.seconds or 0.0)
        for place in sorted(self._texts):
            if place not in self._reasons:
                rest = {"delta": {}} if "chat" in self.route else {"text": ""}
                cut = {"index": place, **rest, "logprobs": None, "finish_reason": "length", "stop_reason": "deadline"}
                yield {**head, "choices": [cut]}

    def _begin(self) -> None:
        self.job.working = True
        self.energy.begin(self.id)

    def _see(self, choice: dict[str, Any], *, whole: bool) -> None:
        place = choice.get("index", 0)
        inner = choice.get("message" if whole else "delta") or {}
        text = choice.get("text") or inner.get("content") or ""
        self._texts[place] = self._texts.get(place, "") + text
        if choice.get("finish_reason"):
            self._reasons[place] = choice["finish_reason"]
        if not whole and (text or inner.get("tool_calls")):
            now = time.perf_counter()
            if self.first_token_seconds is None:
                self.first_token_seconds = now - self.job.entered
                self.metrics.first_token(self.model, self.first_token_seconds)
            elif self._last is not None:
                self.metrics.next_token(self.model, now - self._last)
            self._last = now

    def _count(self, usage: dict[str, Any]) -> None:
        """Cumulative: what is new since the last time is spent."""
        before, self.usage = self.usage, usage
        self.visit.spend(
            prompt=_number(usage, "prompt_tokens") - _number(before, "prompt_tokens"),
            completion=_number(usage, "completion_tokens") - _number(before, "completion_tokens"),
        )

    async def _end(self) -> None:
        self.job.working = False
        self.job.ended = self._status != self.job.cut_status
        self._joules = self.energy.end(self.id)
        self.visit.spend_energy(self._joules)
        if self.usage or self._status not in (499, 504):
            self.visit.settle()
        else:
            self.visit.forfeit()
        seconds = time.perf_counter() - self.job.entered
        name = self.model
        self.metrics.request(
            name, queue_seconds=self.job.queue_seconds, seconds=seconds, failed=self._status in (500, 502, 503)
        )
        self.metrics.passed(
            name,
            prompt_tokens=_number(self.usage, "prompt_tokens"),
            new_tokens=_number(self.usage, "completion_tokens"),
            reasons=self._reasons.values(),
        )
        self.metrics.spent(name, self._joules)
        # Not on the event loop: another process may hold the ledger's lock for a while.
        await asyncio.shield(asyncio.to_thread(tell, self.readers, self._record(seconds)))

    def _record(self, seconds: float) -> Record:
        details = self.usage.get("prompt_tokens_details") or {}
        asked = self.sent.get("messages", self.sent.get("prompt", self.sent.get("input", "")))
        return PassedRecord(
            id=self.id,
            route=self.route,
            model=self.model,
            tenant=self.visit.tenant.name,
            status=self._status,
            time=time.time() - seconds,
            seconds=seconds,
            queue_seconds=self.job.queue_seconds,
            first_token_seconds=self.first_token_seconds,
            completion_tokens=_number(self.usage, "completion_tokens"),
            cached_tokens=_number(details, "cached_tokens"),
            energy=self._joules,
            private=self.visit.private,
            prompt_count=_number(self.usage, "prompt_tokens"),
            prompt_texts=[asked if isinstance(asked, str) else json.dumps(asked, ensure_ascii=False)],
            answer_texts=[self._texts[place] for place in sorted(self._reasons)],
            reasons=[self._reasons[place] for place in sorted(self._reasons)],
        )


def _status_of(error: BaseException, job: Job) -> int:
    if isinstance(error, RequestError):
        return error.status
    return job.cut_status if isinstance(error, (asyncio.CancelledError, GeneratorExit)) else 500


def _number(told: dict[str, Any], name: str) -> int:
    value = told.get(name)
    return value if isinstance(value, int) and value >= 0 else 0
