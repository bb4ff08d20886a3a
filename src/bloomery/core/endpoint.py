"""Endpoint: any server with OpenAI's /v1/chat/completions as a `ChatModel`.

What can pass is tried again (too many requests, errors inside, no connection, an answer that ends in the middle or
makes no sense), with exponential waits and jitter, or as long as the server asks for. The key comes from the
environment or a file, goes to one host, and stands in no message, log or record. This module does not know what is
asked or why.
"""

from __future__ import annotations

import json
import os
import random
import re
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from email.utils import parsedate_to_datetime
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from bloomery.core.errors import ConfigError, DataError, MissingExtraError, RequestError
from bloomery.core.event_stream import events
from bloomery.core.messages import (
    AnswerToken,
    ChatAnswer,
    ChatDelta,
    ChatOptions,
    Message,
    TokenChance,
    Usage,
    choice_schema,
    gathered,
)
from bloomery.core.quantity import Quantity

KEY_VARIABLE = "BLOOMERY_ENDPOINT_KEY"
INTERRUPTED = "interrupted"
UNREACHABLE = "unreachable"
"""The code of an error that says that nothing listens at an address."""
_THERE = "is the server there, and the address right?"
_ROUTE = "/chat/completions"
_VERSION = re.compile(r"/v\d+$")
_AGAIN = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})
_MAX_ERROR_BYTES = 64 * 1024
_MAX_ANSWER_BYTES = 64 * 1024 * 1024
_MAX_KEY_CHARACTERS = 4096


@dataclass(frozen=True, kw_only=True)
class EndpointConfig:
    """Where a model is asked, and with how much patience. Holds no key: only where it is."""

    url: str
    """Up to the version: http://127.0.0.1:8000/v1."""
    model: str
    """As the server calls it."""
    key_variable: str = KEY_VARIABLE
    """Environment variable that holds the key; where it is not set, none is sent."""
    key_file: str = ""
    """File that holds the key; goes before the variable."""
    structure: Literal["json_schema", "structured_outputs", "prompt"] = "json_schema"
    """How choices are enforced: by a JSON schema (response_format), by vLLM's extension (which our own server has too),
    or by what the prompt says alone. Schemas go as response_format, but with "prompt"."""
    limit_name: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    """What the server calls the limit of tokens."""
    connect_seconds: float = 10.0
    """Until there is a connection."""
    silence_seconds: float = 120.0
    """Between two pieces of an answer."""
    answer_seconds: float = 600.0
    """For a whole answer."""
    max_attempts: int = 6
    """Requests for one answer, the first included."""
    first_wait_seconds: float = 0.5
    """Before the second request at most; each wait is at most twice the one before, and drawn at random."""
    max_wait_seconds: float = 60.0
    """Between two requests, whatever the server asks for."""
    plain_http: bool = False
    """Send the key unencrypted to another machine."""

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ConfigError(f"{self.url!r:.200} is no address of an endpoint", hint="http://127.0.0.1:8000/v1")
        if parts.username or parts.password or parts.query or parts.fragment:
            raise ConfigError("an endpoint's address holds host and path only", hint="keys come by key_variable")
        if not self.model:
            raise ConfigError("which model of the endpoint is meant?", hint='"model" is its name there')
        for name in ("connect_seconds", "silence_seconds", "answer_seconds", "first_wait_seconds", "max_wait_seconds"):
            if not 0 < getattr(self, name) <= 86_400:
                raise ConfigError(f'"{name}" is {getattr(self, name)}, but should be more than 0, and a day at most')
        if not 1 <= self.max_attempts <= 100:
            raise ConfigError(f'"max_attempts" is {self.max_attempts}, but should be from 1 to 100')

    @property
    def host(self) -> str:
        return urlsplit(self.url).hostname or ""

    @property
    def is_loopback(self) -> bool:
        try:
            return ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"


class Endpoint:
    """See the module. Meets `ChatModel`; close it when done. MissingExtraError without httpx, ConfigError for a key
    that cannot be read or would be sent in the open."""

    def __init__(self, config: EndpointConfig) -> None:
        try:
            import httpx
        except ImportError:
            raise MissingExtraError("httpx", "annotate", "asking an endpoint") from None
        self.config = config
        self._httpx = httpx
        self._key = read_key(config)
        if self._key and urlsplit(config.url).scheme == "http" and not config.is_loopback and not config.plain_http:
            raise ConfigError(f"the key would go to {config.host} in the open", hint="https, or plain_http = true")
        self._client = httpx.Client(
            headers={"authorization": f"Bearer {self._key}"} if self._key else {},
            timeout=httpx.Timeout(config.silence_seconds, connect=config.connect_seconds, pool=None),
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=64),
            trust_env=not config.is_loopback,  # proxies
        )
        self._random = random.Random()
        self._closed = threading.Event()

    def __repr__(self) -> str:
        return f"Endpoint({self.config.url}, {self.config.model})"

    @property
    def name(self) -> str:
        return f"{self.config.model}@{urlsplit(self.config.url).netloc}"

    def close(self) -> None:
        """Ends the waits of those who try again, too."""
        self._closed.set()
        self._client.close()

    def __enter__(self) -> Endpoint:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def answer(self, messages: Sequence[Message], options: ChatOptions) -> ChatAnswer:
        """The whole answer, asked for again from the start where it ends in the middle."""
        began = time.perf_counter()
        for attempt in range(1, self.config.max_attempts + 1):
            try:
                found = gathered(self._once(messages, options), began=began)
                return replace(found, attempts=attempt)
            except _Passing as passing:
                self._wait_or_give_up(attempt, passing)
        raise AssertionError("the last attempt gives up")

    def stream(self, messages: Sequence[Message], options: ChatOptions) -> Iterator[ChatDelta]:
        """Deltas as they come. What fails before the first is asked for again; after it, the stream ends in a
        RequestError, for what was told cannot be taken back."""
        for attempt in range(1, self.config.max_attempts + 1):
            told = False
            try:
                for delta in self._once(messages, options):
                    told = True
                    yield delta
                return
            except _Passing as passing:
                if told:
                    raise passing.error from passing.__cause__
                self._wait_or_give_up(attempt, passing)

    def _wait_or_give_up(self, attempt: int, passing: _Passing) -> None:
        config, error = self.config, passing.error
        if attempt == config.max_attempts:
            tried = f" ({attempt} attempts)" if attempt > 1 else ""
            raise RequestError(error.message + tried, hint=error.hint, code=error.code, status=error.status)
        # Waits drawn from all of [0, limit] keep many askers from coming back at once (Brooker, AWS, 2015).
        limit = min(config.first_wait_seconds * 2 ** (attempt - 1), config.max_wait_seconds)
        wait = self._random.uniform(0, limit) if passing.after is None else passing.after + self._random.uniform(0, 0.1)
        if self._closed.wait(min(wait, config.max_wait_seconds)):
            raise RequestError("the endpoint was closed", code="closed", status=503)

    def post(self, route: str, body: Mapping[str, Any], *, root: bool = False) -> tuple[dict[str, Any], int]:
        """(a JSON object, requests that it took) for one that is sent; `root`: the route is beside the version, not
        under it. What can pass is tried again; RequestError for the rest."""
        return self._object("POST", route, json.dumps(body).encode(), root)

    def get(self, route: str, *, root: bool = False) -> tuple[dict[str, Any], int]:
        """The same for what is only asked for."""
        return self._object("GET", route, None, root)

    def _object(self, method: str, route: str, body: bytes | None, root: bool) -> tuple[dict[str, Any], int]:
        url = self.config.url.rstrip("/")
        url = (url.rpartition("/")[0] if root and _VERSION.search(url) else url) + route
        for attempt in range(1, self.config.max_attempts + 1):
            try:
                with self._responding(), self._requested(method, url, body, "application/json") as response:
                    text = b"".join(self._bytes(response)).decode("utf-8", "replace")
                    found = _object(text)
                    if found is None:
                        raise _Passing(self._error(f"sent no JSON: {text[:80]!r}", INTERRUPTED))
                    return found, attempt
            except _Passing as passing:
                self._wait_or_give_up(attempt, passing)
        raise AssertionError("the last attempt gives up")

    def _once(self, messages: Sequence[Message], options: ChatOptions) -> Iterator[ChatDelta]:
        """One request; _Passing for what another may mend."""
        url = self.config.url.rstrip("/") + _ROUTE
        body = json.dumps(request_body(self.config, messages, options)).encode()
        with self._responding(), self._requested("POST", url, body, "text/event-stream") as response:
            if "json" in response.headers.get("content-type", ""):  # a server that does not stream
                yield from self._deltas(iter([b"".join(self._bytes(response)).decode("utf-8", "replace")]))
            else:
                yield from self._deltas(events(self._bytes(response)))

    @contextmanager
    def _requested(self, method: str, url: str, body: bytes | None, accept: str) -> Iterator[Any]:
        """A response that is no refusal."""
        headers = {"accept": accept} | ({} if body is None else {"content-type": "application/json"})
        with self._client.stream(method, url, content=body, headers=headers) as response:
            if response.status_code != 200:
                raise self._refused(response.status_code, response.headers, self._error_text(response))
            yield response

    @contextmanager
    def _responding(self) -> Iterator[None]:
        """What goes wrong on the way as _Passing, or as the error that it is."""
        httpx = self._httpx
        try:
            yield
        except DataError as error:
            raise _Passing(self._error(f"sent what makes no sense: {error.message}", INTERRUPTED)) from error
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            said = str(error) or "no connection"
            raise _Passing(self._error(f"does not answer: {said}", UNREACHABLE, 503, hint=_THERE)) from error
        except httpx.TimeoutException as error:
            said = f"{type(error).__name__.removesuffix('Timeout').lower()} timed out"
            raise _Passing(self._error(said, "timeout", 504)) from error
        except httpx.InvalidURL as error:
            raise self._error(f"has no sound address: {error}", "invalid_address", 400) from error
        except httpx.HTTPError as error:
            said = str(error) or type(error).__name__
            raise _Passing(self._error(f"does not answer: {said}", "unavailable", 503)) from error

    def _bytes(self, response: Any) -> Iterator[bytes]:
        end = time.monotonic() + self.config.answer_seconds
        size = 0
        for block in response.iter_bytes():
            size += len(block)
            if size > _MAX_ANSWER_BYTES:
                raise self._error(f"sends more than {_MAX_ANSWER_BYTES >> 20} MiB for an answer", "too_long")
            if time.monotonic() > end:
                said = f"takes longer than {self.config.answer_seconds:g} seconds for an answer"
                raise _Passing(self._error(said, "timeout", 504))
            yield block

    def _error_text(self, response: Any) -> str:
        kept = b""
        for block in response.iter_bytes():
            kept += block
            if len(kept) > _MAX_ERROR_BYTES:
                break
        return kept[:_MAX_ERROR_BYTES].decode("utf-8", "replace")

    def _deltas(self, told: Iterator[str]) -> Iterator[ChatDelta]:
        """Until [DONE]. An end without it passes only where the answer has said why it ends."""
        finished = False
        for data in told:
            if data.strip() == "[DONE]":
                if not finished:
                    break
                return
            chunk = _object(data)
            if chunk is None:
                raise _Passing(self._error(f"sent no JSON: {data[:80]!r}", INTERRUPTED))
            if "error" in chunk:
                raise self._refused(_status_of(chunk), {}, data)
            for delta in deltas_of(chunk):
                finished = finished or delta.finish_reason is not None
                yield delta
        if not finished:
            raise _Passing(self._error("ended an answer in the middle", INTERRUPTED))

    def _refused(self, status: int, headers: Mapping[str, str], text: str) -> Exception:
        said = self._without_key(message_of(text) or f"HTTP {status}")
        hints = {401: "is the key right?", 403: "is the key right?", 404: "are address and model right?"}
        if 300 <= status < 400:
            said, hints = "points to another address, which is not followed", {status: "give the address itself"}
        code = code_of(text) or {429: "rate_limited", 401: "invalid_api_key"}.get(status, f"http_{status}")
        error = self._error(f"refuses ({status}): {said}", code, status, hint=hints.get(status, ""))
        passes = status in _AGAIN and code != "insufficient_quota"
        return _Passing(error, retry_after(headers)) if passes else error

    def _error(self, said: str, code: str, status: int = 502, *, hint: str = "") -> RequestError:
        return RequestError(f"{self.name} {self._without_key(said)}"[:600], hint=hint, code=code, status=status)

    def _without_key(self, text: str) -> str:
        return text.replace(self._key, "***") if self._key else text


class _Passing(Exception):
    """An error that another request may mend, after so many seconds, if the server says."""

    def __init__(self, error: RequestError, after: float | None = None) -> None:
        super().__init__(error.message)
        self.error, self.after = error, after


def read_key(config: EndpointConfig) -> str:
    """The key of the file or the variable, or "". ConfigError, which does not tell it, for one that cannot be sent."""
    if config.key_file:
        path = Path(config.key_file).expanduser()
        try:
            key = path.read_text(encoding="utf-8")[: _MAX_KEY_CHARACTERS + 2].strip()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"cannot read the key file {path}: {type(error).__name__}") from None
        where = str(path)
    else:
        key, where = os.environ.get(config.key_variable, "").strip(), f"${config.key_variable}"
    if config.key_file and not key:
        raise ConfigError(f"{where} holds no key")
    if len(key) > _MAX_KEY_CHARACTERS or not key.isascii() or not (key.isprintable() and " " not in key):
        raise ConfigError(f"what {where} holds cannot be a key", hint="one line of ASCII without spaces")
    return key


def request_body(config: EndpointConfig, messages: Sequence[Message], options: ChatOptions) -> dict[str, Any]:
    """The JSON body of a streamed request."""
    body: dict[str, Any] = {"model": config.model, "messages": [dict(message) for message in messages]}
    body |= {"stream": True, "stream_options": {"include_usage": True}}
    body |= {config.limit_name: options.max_new_tokens, "temperature": options.temperature}
    body |= {name: value for name in ("top_p", "seed") if (value := getattr(options, name)) is not None}
    if options.stop:
        body["stop"] = list(options.stop)
    if options.top_logprobs is not None:
        body |= {"logprobs": True, "top_logprobs": options.top_logprobs}
    schema = dict(options.schema) if options.schema is not None else None
    if options.choices and config.structure == "structured_outputs":
        body["structured_outputs"] = {"choice": list(options.choices)}
    elif options.choices:
        schema = choice_schema(options.choices)
    if schema is not None and config.structure != "prompt":
        named = {"name": "answer", "strict": True, "schema": schema}
        body["response_format"] = {"type": "json_schema", "json_schema": named}
    return body


def deltas_of(chunk: Mapping[str, Any]) -> Iterator[ChatDelta]:
    """The deltas of a chunk of a stream, or of a whole answer. DataError for one that is no chunk."""
    try:
        choice = next(iter(chunk.get("choices") or ()), None)
        usage = chunk.get("usage")
        found = None if usage is None else usage_of(usage)
        if choice is None:
            if found is not None:
                yield ChatDelta(usage=found)
            return
        delta = choice.get("delta") or choice.get("message") or {}
        text = delta.get("content") or ""
        if not isinstance(text, str):
            raise TypeError("content is no text")
        told: list[Any] = list((choice.get("logprobs") or {}).get("content") or ())
        tokens = [_token(one) for one in told]
        yield ChatDelta(text=text, tokens=tuple(tokens), finish_reason=choice.get("finish_reason"), usage=found)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise DataError(f"a chunk that is none ({type(error).__name__}: {error})") from error


def _token(told: Mapping[str, Any]) -> AnswerToken:
    itself = _chance(told)
    return AnswerToken(itself.data, itself.logprob, tuple(map(_chance, told.get("top_logprobs") or ())))


def _chance(told: Mapping[str, Any]) -> TokenChance:
    raw = told.get("bytes")
    data = bytes(raw) if raw is not None else str(told["token"]).encode("utf-8", "replace")
    return TokenChance(data, float(told["logprob"]))


def usage_of(told: Mapping[str, Any]) -> Usage:
    """Of a server's `usage` object; `energy_joules` is our own server's extension."""
    energy = told.get("energy_joules")
    try:
        joules = Quantity.unknown() if energy is None else Quantity.from_dict(energy)
    except (KeyError, TypeError, ValueError):
        joules = Quantity.unknown()
    prompt, completion = (told.get(f"{name}_tokens") for name in ("prompt", "completion"))
    numbers = {"prompt_tokens": prompt, "completion_tokens": completion}
    sound = {name: value for name, value in numbers.items() if isinstance(value, int) and value >= 0}
    return Usage(energy_joules=joules, **sound)


def _object(data: str) -> dict[str, Any] | None:
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def code_of(text: str) -> str:
    """The short word for an error that its body gives, or ""."""
    error = (_object(text) or {}).get("error")
    code = error.get("code") if isinstance(error, Mapping) else None
    return code[:80] if isinstance(code, str) else ""


def _status_of(chunk: Mapping[str, Any]) -> int:
    error = chunk["error"]
    code = error.get("code") if isinstance(error, Mapping) else None
    return code if isinstance(code, int) and 400 <= code < 600 else 500


def message_of(text: str) -> str:
    """What an error body says, on one line."""
    value = _object(text)
    found: Any = text
    if value is not None:
        found = value.get("error", value.get("message", value.get("detail", text)))
        if isinstance(found, Mapping):
            found = found.get("message", text)
    return " ".join(str(found).split())[:300]


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds of a Retry-After header, in either of its forms (RFC 9110, 10.2.3); None if there is none."""
    told = headers.get("retry-after", "").strip()
    if not told:
        return None
    try:
        return max(0.0, float(told)) if float(told) < float("inf") else None
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(told).timestamp() - time.time())
    except (ValueError, TypeError, OverflowError):
        return None
