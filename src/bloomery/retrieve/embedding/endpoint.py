"""EmbeddingEndpoint: vectors by any server with OpenAI's /v1/embeddings.

What can pass is tried again, with exponential waits and jitter, or as long as the server asks for, as `core.endpoint`
does for chats; where the key comes from, and what it may go to, are the same rules. This module does not know what
texts are for.
"""

from __future__ import annotations

import base64
import json
import random
import threading
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from bloomery.core.endpoint import EndpointConfig, message_of, read_key, retry_after
from bloomery.core.errors import ConfigError, DataError, MissingExtraError, RequestError
from bloomery.retrieve.embedding.embedder import unit

_ROUTE = "/embeddings"
_AGAIN = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})
_MOST_TEXTS = 64
_MAX_ANSWER_BYTES = 256 * 1024 * 1024


class _Passing(Exception):
    """An error that another request may mend, after so many seconds, if the server says."""

    def __init__(self, error: RequestError, after: float | None = None) -> None:
        super().__init__(error.message)
        self.error, self.after = error, after


class EmbeddingEndpoint:
    """See the module. MissingExtraError without httpx, ConfigError for a key that would be sent in the open."""

    def __init__(self, config: EndpointConfig) -> None:
        try:
            import httpx
        except ImportError:
            raise MissingExtraError("httpx", "retrieve", "asking an endpoint") from None
        self.config = config
        self._httpx = httpx
        self._key = read_key(config)
        if self._key and urlsplit(config.url).scheme == "http" and not config.is_loopback and not config.plain_http:
            raise ConfigError(f"the key would go to {config.host} in the open", hint="https, or plain_http = true")
        self._client = httpx.Client(
            headers={"authorization": f"Bearer {self._key}"} if self._key else {},
            timeout=httpx.Timeout(config.silence_seconds, connect=config.connect_seconds, pool=None),
            trust_env=not config.is_loopback,  # proxies
        )
        self._closed = threading.Event()
        self._random = random.Random()

    @classmethod
    def of(cls, url: str, model: str) -> EmbeddingEndpoint:
        """By address (http://127.0.0.1:8000/v1) and the model's name there."""
        return cls(EndpointConfig(url=url, model=model))

    @property
    def name(self) -> str:
        return f"{self.config.model}@{urlsplit(self.config.url).netloc}"

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """(N, E) float32. RequestError for what the server refuses, or does not mend within the attempts."""
        order = sorted(range(len(texts)), key=lambda place: len(texts[place]))
        found: dict[int, np.ndarray] = {}
        for start in range(0, len(order), _MOST_TEXTS):
            chosen = order[start : start + _MOST_TEXTS]
            found |= dict(zip(chosen, self._asked([texts[place] for place in chosen]), strict=True))
        if not found:
            return np.zeros((0, 0), np.float32)
        if len({len(vector) for vector in found.values()}) > 1:
            raise RequestError(f"{self.name} sent vectors of several lengths", code="interrupted", status=502)
        return unit(np.stack([found[place] for place in range(len(texts))]))

    def close(self) -> None:
        """Ends the waits of those who try again, too."""
        self._closed.set()
        self._client.close()

    def _asked(self, texts: Sequence[str]) -> list[np.ndarray]:
        config = self.config
        for attempt in range(1, config.max_attempts + 1):
            try:
                return self._once(texts)
            except _Passing as passing:
                error = passing.error
                if attempt == config.max_attempts:
                    said = f"{error.message} ({attempt} attempts)"
                    raise RequestError(said, hint=error.hint, code=error.code, status=error.status) from None
                limit = min(config.first_wait_seconds * 2 ** (attempt - 1), config.max_wait_seconds)
                wait = self._random.uniform(0, limit) if passing.after is None else passing.after
                if self._closed.wait(min(wait, config.max_wait_seconds)):
                    raise RequestError("the endpoint was closed", code="closed", status=503) from None
        raise AssertionError("the last attempt raises")

    def _once(self, texts: Sequence[str]) -> list[np.ndarray]:
        httpx = self._httpx
        body = {"model": self.config.model, "input": list(texts), "encoding_format": "float"}
        try:
            answer = self._client.post(self.config.url.rstrip("/") + _ROUTE, json=body)
            data = answer.content
        except httpx.TimeoutException as error:
            raise _Passing(self._error("timed out", "timeout", 504)) from error
        except httpx.InvalidURL as error:
            raise self._error(f"has no sound address: {error}", "invalid_address", 400) from error
        except httpx.HTTPError as error:
            raise _Passing(
                self._error(f"does not answer: {error or type(error).__name__}", "unavailable", 503)
            ) from error
        if answer.status_code != 200:
            said = message_of(data[:65_536].decode("utf-8", "replace")) or f"HTTP {answer.status_code}"
            hint = {401: "is the key right?", 403: "is the key right?", 404: "are address and model right?"}
            status = answer.status_code
            refused = self._error(f"refuses ({status}): {said}", f"http_{status}", status, hint=hint.get(status, ""))
            raise _Passing(refused, retry_after(answer.headers)) if status in _AGAIN else refused
        if len(data) > _MAX_ANSWER_BYTES:
            raise self._error("sends too much for an answer", "too_long")
        try:
            return vectors_of(json.loads(data), len(texts))
        except (ValueError, RecursionError, DataError) as error:
            raise _Passing(self._error(f"sent no vectors: {error}", "interrupted")) from error

    def _error(self, said: str, code: str, status: int = 502, *, hint: str = "") -> RequestError:
        text = f"{self.name} {said}"
        return RequestError(
            (text.replace(self._key, "***") if self._key else text)[:600], hint=hint, code=code, status=status
        )


def vectors_of(answer: Any, count: int) -> list[np.ndarray]:
    """The vectors of an answer in the order of the inputs, from numbers or base64. DataError for anything else."""
    rows = answer.get("data") if isinstance(answer, Mapping) else None
    if not isinstance(rows, list) or len(rows) != count:
        raise DataError(f"not {count} vectors")
    found: dict[int, np.ndarray] = {}
    for place, row in enumerate(rows):
        told = row.get("embedding") if isinstance(row, Mapping) else None
        try:
            raw = np.frombuffer(base64.b64decode(told, validate=True), "<f4") if isinstance(told, str) else told
            vector = np.array(raw, np.float32)
        except (TypeError, ValueError) as error:
            raise DataError(f"a vector that is none: {error}") from error
        if vector.ndim != 1 or not len(vector) or not np.isfinite(vector).all():
            raise DataError("a vector that is none")
        index = row.get("index", place)
        found[index if isinstance(index, int) else place] = vector
    if sorted(found) != list(range(count)):
        raise DataError("vectors without their places")
    return [found[place] for place in range(count)]
